"""The runs of a report: which can stand side by side, where they are, and what they lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...benchmark.results import Results, RunResults, Score, load_at_hand
from ...tasks.schema import SuiteSpec
from .. import grouping
from ..board import board
from ..sections import Ranking, Role, Section
from ..wording import standing

PREFERRED_SUBSET = "one_lung"
"""Where it matters most which lung a map is on."""


@dataclass(frozen=True)
class Entry:
    """A run in a report.

    ``label`` is unique within the group; ``rank`` is its place among the models, empty where it has none; ``page`` is the file
    name of the model's page. ``missing`` are the tasks and the metrics of the leaderboard's columns that other runs of the group
    have.
    """

    run: RunResults
    folder: Path
    label: str
    role: Role
    rank: str
    page: str
    missing: tuple[str, ...]
    scores: dict[tuple[str, str, str], Score]
    """By (task, subset, metric)."""


@dataclass(frozen=True)
class Group:
    """Runs that can be compared, those with most tasks first.

    ``ranking`` says how they were ranked, None where there are not two to rank. ``tasks`` (as the suite defines them),
    ``metrics`` and ``subsets`` are those of all runs, in the order of the suite.
    """

    number: int
    entries: tuple[Entry, ...]
    ranking: Ranking | None
    tasks: tuple[dict[str, Any], ...]
    metrics: tuple[str, ...]
    subsets: tuple[str, ...]

    @property
    def first(self) -> RunResults:
        return self.entries[0].run

    @property
    def subset(self) -> str:
        """The subset that is shown first: one lung, where there is one with instances."""
        known = PREFERRED_SUBSET in self.subsets and self.first.dataset.subsets.get(PREFERRED_SUBSET)
        return PREFERRED_SUBSET if known else self.subsets[0]

    @property
    def suite(self) -> SuiteSpec:
        """The suite of the run with the most tasks."""
        return SuiteSpec.model_validate(self.first.suite, context={"recorded": True})


def load(folders: Sequence[Path]) -> list[Group]:
    """Read runs and put those together that can be compared; the order of the folders does not matter.

    Raises :class:`WronglungError` as :func:`load_at_hand` and :func:`.board.board` do.
    """
    # Ranges of ranks come from the values of single instances, where they are at hand.
    loaded = [load_at_hand(folder) for folder in folders]
    runs = [one.run if isinstance(one, Results) else one for one in loaded]
    places = {id(run): folder for run, folder in zip(runs, folders, strict=True)}
    read = {id(run): one for run, one in zip(runs, loaded, strict=True)}
    found: list[Group] = []
    pages = 0
    for number, members in enumerate(grouping.groups(runs), start=1):
        ranked = board([read[id(one.run)] for one in members])
        found.append(_group(number, members, places, pages, ranked))
        pages += len(members)
    return found


def _group(
    number: int, members: Sequence[grouping.Entry], places: dict[int, Path], pages: int, ranked: Sequence[Section]
) -> Group:
    tasks = {task["name"]: task for one in members for task in one.run.suite["tasks"]}
    metrics = dict.fromkeys(name for one in members for name in one.run.suite["metrics"])
    subsets = dict.fromkeys(score.subset for one in members for score in one.run.scores)
    lines = {line.model: line for line in ranked[0].lines}
    entries = [
        Entry(
            one.run,
            places[id(one.run)],
            one.label,
            one.role,
            standing(lines[one.label]) if lines[one.label].rank is not None else "",
            f"model-{at:02d}.html",
            lines[one.label].misses,
            {(score.task, score.subset, score.metric): score for score in one.run.scores},
        )
        for at, one in enumerate(members, start=pages + 1)
    ]
    return Group(number, tuple(entries), ranked[0].ranking, tuple(tasks.values()), tuple(metrics), tuple(subsets))
