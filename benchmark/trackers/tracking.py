"""Tells trackers what happens in a run, so that nothing they do reaches its results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from typing import TypeVar

from ..errors import first_line
from ..results import RunResults, Score
from .protocol import RunStart, Tracker

Given = TypeVar("Given")


class Tracking:
    """The trackers of one run. Each is told every event; a failure is written to standard error and kept in ``warnings``."""

    def __init__(self, trackers: Sequence[Tracker], start: RunStart) -> None:
        self.warnings: list[str] = []
        """What failed and when, without the error's message, which may hold an address or a key."""
        self._trackers = [
            one for one in trackers if self._told(one, "when the run started", one.run_started, deepcopy(start))
        ]

    def cells_done(self, scores: Sequence[Score]) -> None:
        for one in self._trackers:
            self._told(one, "when it was given the scores", one.cells_done, deepcopy(scores))

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        for one in self._trackers:
            given = outcome if isinstance(outcome, BaseException) else outcome.model_copy(deep=True)
            self._told(one, "when the run ended", one.run_ended, given)

    def _told(self, tracker: Tracker, when: str, event: Callable[[Given], None], given: Given) -> bool:
        """Whether the tracker took the event. An interrupt while it is busy gives up the tracker, not the run."""
        try:
            with redirect_stdout(sys.stderr):
                event(given)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            failed, kind = f"tracker {tracker.name} failed {when}", type(error).__name__
            self.warnings.append(f"{failed}: {kind}")
            message = first_line(error)
            why = kind if message == kind else f"{kind}: {message}"
            sys.stderr.write(f"wronglung: {failed} ({why}); the results are not affected\n")
            return False
        return True


@contextmanager
def tracking(trackers: Sequence[Tracker], start: RunStart) -> Iterator[Tracking]:
    """Tell the trackers of a start, and of what stops the run if something does; its results are the caller's to tell."""
    told = Tracking(trackers, start)
    try:
        yield told
    except BaseException as error:
        told.run_ended(error)
        raise
