"""TensorBoard: event files of a run in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..results import RunResults, Score
from .protocol import RunStart, scalars, status

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Event files for TensorBoard: a scalar a cell, the settings and how the run ended as text.

    They go into a new folder below ``folder``, called after the model or ``name``; a second run of that name gets ``-2``. So
    ``tensorboard --logdir FOLDER`` shows all runs side by side.
    """

    name = "tensorboard"

    def __init__(self, folder: Path, name: str | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter
        self._folder, self._run_name = folder, name
        self._writer: SummaryWriter

    def run_started(self, start: RunStart) -> None:
        self._writer = self._open(str(_new_folder(self._folder, self._run_name or start.model["name"])))
        rows = "\n".join(f"| {key} | {value} |" for key, value in start.flat().items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")
        self._writer.flush()

    def cells_done(self, scores: Sequence[Score]) -> None:
        for name, value in scalars(scores).items():
            self._writer.add_scalar(name, value)

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        self._writer.add_text("status", status(outcome))
        self._writer.close()


def _new_folder(parent: Path, name: str) -> Path:
    """Make a folder that was not there: the name without what file systems refuse, then with -2, -3, ..."""
    stem = re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "run"
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
