"""What a run's numbers may depend on: versions, the machine, the commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .results import Manifest

PACKAGES = ("numpy", "pandas", "pillow", "pyarrow", "scikit-learn", "scipy", "torch", "transformers")


def manifest(
    seconds: Mapping[str, float], counts: Mapping[str, int], batch_size: int, seed: int, context: Mapping[str, Any]
) -> Manifest:
    """What a run's numbers may depend on. ``counts`` are those of :class:`.runner.Runner`, ``context`` is the caller's."""
    return Manifest(
        wronglung=version_of("wronglung"),
        commit=commit(),
        packages={name: version_of(name) for name in PACKAGES},
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=context.get("device", "unknown"),
        dtype=context.get("dtype", "unknown"),
        threads=torch.get_num_threads(),
        seed=seed,
        decode_at_least=context.get("decode_at_least"),
        batch_size=batch_size,
        command=list(context.get("command", [])),
        encoded_images=counts.get("images", 0),
        encoded_sentences=counts.get("sentences", 0),
        aligned_pairs=counts.get("pairs", 0),
        seconds={name: round(value, 3) for name, value in {**context.get("seconds", {}), **seconds}.items()},
        peak_memory_mb=_peak_memory(),
    )


def _peak_memory() -> float | None:
    """The largest resident size of this process so far in MiB, or None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1
    )


def version_of(package: str) -> str:
    """The installed version of a package, in words where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str | None:
    """The commit of the source tree that this package runs from, or None when it is not one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip()
