"""A training run's folder.

``config.yaml`` (what was asked), ``log.csv`` (a row an epoch), ``best.safetensors`` and ``last.safetensors``
(checkpoints), ``card.json`` (what came out), and ``state.pt`` (to go on from). Every file is written whole or not at
all.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ....benchmark.errors import WronglungError, first_line
from ....benchmark.locking import locked
from ....benchmark.schema_version import check_version
from ...files.whole_file import write_bytes, write_whole
from .config import TrainingConfig, as_yaml

CONFIG = "config.yaml"
STATE = "state.pt"
CARD = "card.json"
TENSORBOARD = "tensorboard"
VERSION = 1
"""Of the state; the first ones do not say it."""


@contextmanager
def claimed(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[bool]:
    """Take a folder for one training run: made if needed, and locked against other processes until the end.

    Gives whether there is a state to go on from; with ``resume`` and none, a run that was killed before its first save
    begins again. Raises :class:`WronglungError` for a folder that another process trains into, that cannot be written to, or
    that holds a run (without ``resume`` or ``overwrite``).
    """
    if resume and overwrite:
        raise WronglungError(f"{folder}: go on with --resume or replace it with --overwrite, not both")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe.partial"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    with locked(folder, lambda: "another process trains into this folder; wait for it, or choose another --out"):
        if (folder / CONFIG).is_file() and not resume and not overwrite:
            raise WronglungError(f"{folder}: holds a training run; go on with --resume or replace it with --overwrite")
        # What a process was writing when it was killed.
        for left in folder.glob(".*.partial"):
            left.unlink(missing_ok=True)
        yield resume and (folder / STATE).is_file()


def clear(folder: Path) -> None:
    """Remove a run's files, those that training will write anew; nothing else that lies there."""
    try:
        for name in (STATE, CONFIG, "log.csv", CARD, "best.safetensors", "last.safetensors"):
            (folder / name).unlink(missing_ok=True)
        for events in (folder / TENSORBOARD).glob("events.out.tfevents.*"):
            events.unlink()
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error


def write_config(folder: Path, config: TrainingConfig) -> None:
    write_bytes(folder / CONFIG, as_yaml(config).encode())


def write_log(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_bytes(folder / "log.csv", text.getvalue().encode())


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(_strict(card), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def _strict(value: Any) -> Any:
    """JSON has no NaN: a figure that the data cannot give is null."""
    if isinstance(value, Mapping):
        return {key: _strict(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_state(folder: Path, content: Mapping[str, Any]) -> None:
    # Straight into the file: a state of the released size is over a gigabyte.
    write_whole(folder / STATE, lambda stream: torch.save({"version": VERSION, **content}, stream))


def read_state(folder: Path) -> dict[str, Any]:
    """What :func:`write_state` wrote. Nothing but tensors and plain values is taken from the file.

    Raises :class:`WronglungError` for a damaged file.
    """
    path = folder / STATE
    if not path.is_file():
        raise WronglungError(f"{path}: is not a regular file; train anew with --overwrite")
    try:
        # Asked first: when torch.load meets a long name that it does not know, it takes minutes to say so.
        if unknown := torch.serialization.get_unsafe_globals_in_checkpoint(str(path)):
            raise ValueError(f"names {unknown[0]}, which no state does")
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports a damaged file in many ways
        raise damaged(folder, first_line(error)) from error
    if not isinstance(content, dict):
        raise damaged(folder, "holds no mapping")
    check_version(content.get("version", 1), VERSION, str(path))
    return content


def damaged(folder: Path, how: str) -> WronglungError:
    """What to say of a folder's state that cannot be used."""
    return WronglungError(f"{folder / STATE}: is damaged ({how}); train anew with --overwrite")
