"""Runs made of chosen values, for tests of what stands in a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wronglung.benchmark import summary
from wronglung.benchmark.metrics.catalogue import ONLY_FOR
from wronglung.benchmark.results import DatasetSummary, Manifest, Results, RunResults
from wronglung.tasks.schema import load_suite

Floats = npt.NDArray[np.float64]


def made(
    name: str,
    auroc: float | Floats = 0.7,
    *,
    role: str = "model",
    suite: str = "smoke",
    tasks: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    version: str | None = None,
    values: Mapping[str, float | Floats] | None = None,
    patients: int = 40,
    each: int = 3,
    card: Mapping[str, Any] | None = None,
    **dataset: Any,
) -> Results:
    """A run on ``patients`` × ``each`` instances.

    ``auroc`` is one value for all instances or one each; a perturbation lowers it by 0.1. ``values`` are those of other
    metrics, 0.5 if not said; the second metric is in single precision. The first half of each patient's instances are about one lung.
    """
    spec = load_suite(suite)
    changes: dict[str, object] = {}
    if tasks is not None:
        changes["tasks"] = tuple(one for one in spec.tasks if one.name in tasks)
    # Metrics of a task that is not asked are not either.
    asked = tasks or [one.name for one in spec.tasks]
    changes["metrics"] = tuple(one for one in metrics or spec.metrics if ONLY_FOR.get(one, asked[0]) in asked)
    if version is not None:
        changes["version"] = version
    spec = spec.model_copy(update=changes)
    n = patients * each
    clusters = [f"p{at // each:03}" for at in range(n)]
    one_lung = np.array([at % each < max(1, each // 2) for at in range(n)])
    frames = []
    for task in spec.tasks:
        frame: dict[str, Any] = {
            "instance_id": [f"i{at:05}" for at in range(n)],
            "cluster": clusters,
            "task": task.name,
            "changed": task.perturbation is not None,
            "in_all": True,
            "in_one_lung": one_lung,
        }
        for metric in spec.metrics:
            value = auroc if metric == "auroc" else (values or {}).get(metric, 0.5)
            lowered = 0.1 if task.perturbation is not None and metric == "auroc" else 0.0
            frame[metric] = np.broadcast_to(np.asarray(value, dtype=np.float64), n) - lowered
        # One of another type, as in a run's own frame.
        frame[spec.metrics[1]] = np.asarray(frame[spec.metrics[1]], dtype=np.float32)
        frames.append(pd.DataFrame(frame))
    instances = pd.concat(frames, ignore_index=True)
    ids = frames[0]["instance_id"]
    subsets = {"all": frozenset(ids), "one_lung": frozenset(ids[one_lung])}
    run = RunResults(
        status="complete",
        model={"name": name, "role": role, **(card or {})},
        dataset=_dataset(n, patients, subsets, **dataset),
        suite=spec.model_dump(mode="json"),
        manifest=_manifest(),
        scores=summary.scores(instances, spec, subsets, 0),
        correlations=[],
    )
    return Results(run, instances)


def save(folder: Path, *runs: Results) -> Path:
    """Write runs into folders of their own, by number, and return the folder that holds them."""
    for at, one in enumerate(runs):
        (folder / str(at)).mkdir(parents=True)
        one.save(folder / str(at))
    return folder


def noise(seed: int, n: int = 120, centre: float = 0.7, spread: float = 0.1) -> Floats:
    """Values around a centre, for ``n`` instances."""
    return np.clip(np.random.default_rng(seed).normal(centre, spread, n), 0, 1)


def _dataset(n: int, patients: int, subsets: Mapping[str, frozenset[str]], **changes: Any) -> DatasetSummary:
    said: dict[str, Any] = {
        "name": "made",
        "fingerprint": "f" * 64,
        "n_instances": n,
        "n_images": n,
        "n_patients": patients,
        "unit": "patients",
        "limit": None,
        "subsets": {name: len(members) for name, members in subsets.items()},
        "skipped": {},
    }
    return DatasetSummary(**{**said, **changes})


def _manifest() -> Manifest:
    return Manifest(
        wronglung="0", commit=None, packages={}, python="3", platform="", device="cpu", dtype="float32", threads=1, seed=0,
        batch_size=1, command=[], encoded_images=0, encoded_sentences=0, aligned_pairs=0, seconds={}, peak_memory_mb=None,
    )  # fmt: skip
