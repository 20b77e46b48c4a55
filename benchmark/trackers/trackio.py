"""trackio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..results import RunResults, Score
from .protocol import RunStart, scalars


class Trackio:
    """A run in trackio's local database, with the settings as its config and a value a cell.

    ``trackio show --project PROJECT`` opens it. trackio sends to a Space or server of Hugging Face's or one's own only where its
    variables ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL`` say so. ``name`` is the run's, by default the model's.
    """

    name = "trackio"

    def __init__(self, project: str = "wronglung", name: str | None = None) -> None:
        from trackio import finish, init

        self._init, self._finish = init, finish
        self._project, self._run_name = project, name
        self._run: Any

    def run_started(self, start: RunStart) -> None:
        self._run = self._init(
            project=self._project,
            name=self._run_name or start.model["name"],
            config=start.nested(),
            # No dashboard in a notebook, and nothing about the machine.
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def cells_done(self, scores: Sequence[Score]) -> None:
        self._run.log(scalars(scores))

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        self._finish()
