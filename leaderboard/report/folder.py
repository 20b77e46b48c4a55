"""The folder of a report: claimed before any work, written beside its place, and moved there whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...benchmark.errors import WronglungError

MARKER = "report.json"
_KIND = "wronglung report"


def check_place(folder: Path, overwrite: bool) -> None:
    """Make sure that a report can be written to a folder, which may exist if it is empty.

    ``overwrite`` allows one that holds a report, and nothing that is not of it. Raises :class:`WronglungError`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WronglungError(f"{folder}: is a file; choose another --out")
    there = {path.name for path in folder.iterdir()}
    if not there:
        return
    written = _written(folder / MARKER)
    if written is None:
        raise WronglungError(f"{folder}: holds something that is not a report; choose another --out")
    others = sorted(there - written)
    if others:
        raise WronglungError(
            f"{folder}: holds {others[0]!r}, which is not of the report; move it, or choose another --out"
        )
    if not overwrite:
        raise WronglungError(f"{folder}: holds a report already; choose another --out, or --overwrite it")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, which it replaces when the block ends well; otherwise it is removed.

    Raises :class:`WronglungError` when the file system refuses.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
            fresh = Path(name) / "fresh"
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.replace(Path(name) / "earlier")
            fresh.replace(folder)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error


def mark(folder: Path, facts: dict[str, Any]) -> None:
    """Write the file that says what the folder is, with the names of all that is in it."""
    names = sorted({path.name for path in folder.iterdir()} | {MARKER})
    text = json.dumps({"kind": _KIND, "schema_version": 1, **facts, "contents": names}, indent=1)
    (folder / MARKER).write_text(text + "\n", encoding="utf-8")


def _written(marker: Path) -> set[str] | None:
    """What a report's marker says it wrote; None where the file is none."""
    try:
        facts = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.get("kind") != _KIND or not isinstance(facts.get("contents"), list):
        return None
    return {str(one) for one in facts["contents"]}
