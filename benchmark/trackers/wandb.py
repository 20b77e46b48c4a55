"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ..results import RunResults, Score
from .protocol import RunStart, scalars


class WeightsAndBiases:
    """A run at Weights & Biases, with the settings as its config and a value a cell.

    Sends to the account of ``wandb login`` or ``WANDB_API_KEY``; ``mode=offline`` (or ``WANDB_MODE``) writes to the folder
    ``wandb`` only, and ``wandb sync`` sends later. ``name`` is the run's, by default the model's. The console, the source code,
    the state of git, the machine, its load and its packages, which W&B records by itself, are turned off.
    """

    name = "wandb"

    def __init__(
        self,
        project: str = "wronglung",
        name: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        from wandb import Settings, init

        self._init, self._settings = init, Settings
        self._project, self._run_name, self._mode = project, name, mode
        self._run: Any

    def run_started(self, start: RunStart) -> None:
        self._run = self._init(
            project=self._project,
            name=self._run_name or start.model["name"],
            mode=self._mode,
            config=start.nested(),
            # A run that the calling program has open is not ours to write into.
            reinit="create_new",
            settings=self._settings(
                console="off",
                host="",
                disable_code=True,
                disable_git=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def cells_done(self, scores: Sequence[Score]) -> None:
        self._run.log(scalars(scores))

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        self._run.finish(exit_code=1 if isinstance(outcome, BaseException) else 0)
