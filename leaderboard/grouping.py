"""Which runs may share a table, what each is called there, and what each lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..benchmark.results import Results, RunResults
from .columns import Column
from .comparability import identity, task_definitions
from .sections import Role

if TYPE_CHECKING:
    import pandas as pd

_OLD_ROLES: Mapping[str, Role] = {
    "uniform": "floor",
    "center-prior": "floor",
    "random": "floor",
    "text-blind": "floor",
    "mirrored-oracle": "floor",
    "oracle": "ceiling",
}
"""Of runs whose card does not say it yet."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A run with its name in the table; ``instances`` are its rows, where they are at hand."""

    label: str
    run: RunResults
    instances: pd.DataFrame | None

    @property
    def role(self) -> Role:
        said = self.run.model.get("role", _OLD_ROLES.get(self.run.model["name"], "model"))
        return said if said in ("floor", "ceiling") else "model"

    def misses(self, group: Sequence[Entry], columns: Sequence[Column]) -> tuple[str, ...]:
        """Tasks that another run of the group has, and metrics of the columns that another has under a task of this run."""
        own, all_of_them = _asked(self.run), {cell for one in group for cell in _asked(one.run)}
        tasks = {task for task, _ in own}
        missing = [task for task in _tasks(group) if task not in tasks]
        missing += [
            column.metric
            for column in columns
            if column.task in tasks and (column.task, column.metric) in all_of_them - own
        ]
        return tuple(dict.fromkeys(missing))


def groups(runs: Sequence[RunResults | Results]) -> list[list[Entry]]:
    """The runs by what can be compared, in an order that does not depend on the one given.

    Runs of a group have the same :func:`.comparability.identity`, at least one task in common, and the tasks that any two
    share are defined alike. Those with most tasks come first.
    """
    pairs = [(one.run, one.instances) if isinstance(one, Results) else (one, None) for one in runs]
    pairs.sort(key=lambda pair: (-len(pair[0].suite["tasks"]), str(pair[0].model["name"]), pair[0].model_dump_json()))
    found: list[list[tuple[RunResults, pd.DataFrame | None]]] = []
    for pair in pairs:
        home = next((group for group in found if all(_fit(pair[0], other) for other, _ in group)), None)
        if home is None:
            found.append([pair])
        else:
            home.append(pair)
    found.sort(key=lambda group: _place(group[0][0]))
    return [
        [Entry(label, *pair) for label, pair in zip(_labels([run for run, _ in group]), group, strict=True)]
        for group in found
    ]


def versions(runs: Iterable[RunResults]) -> str:
    """All versions of the suite among runs of a group, the lowest first."""
    found = {str(run.suite["version"]) for run in runs}
    return ", ".join(sorted(found, key=lambda version: [int(part) for part in version.split(".")]))


def plain(text: str) -> str:
    """A name of a run's in one line, at most 200 characters, without any that a terminal or an editor would obey."""
    text = " ".join(text.split())
    text = text if len(text) <= 200 else f"{text[:199]}…"
    return "".join(one if one.isprintable() else "�" for one in text)


def _fit(one: RunResults, other: RunResults) -> bool:
    mine, its = task_definitions(one), task_definitions(other)
    shared = mine.keys() & its.keys()
    return identity(one) == identity(other) and bool(shared) and all(mine[task] == its[task] for task in shared)


def _place(run: RunResults) -> tuple[object, ...]:
    limit = run.dataset.limit
    return (run.dataset.name, limit is not None, limit or 0, run.suite["name"], *identity(run).values())


def _asked(run: RunResults) -> set[tuple[str, str]]:
    """The pairs of task and metric that a run has cells for, with or without a value."""
    return {(one.task, one.metric) for one in run.scores}


def _tasks(group: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(one.task for entry in group for one in entry.run.scores))


def _labels(runs: Sequence[RunResults]) -> list[str]:
    """The models' names; where names are the same, with what differs of settings, checkpoint and preprocessing."""
    names = [plain(run.model["name"]) or "(no name)" for run in runs]
    labels = []
    for run, name in zip(runs, names, strict=True):
        others = [_distinguishing(other) for other, its in zip(runs, names, strict=True) if its == name]
        parts = [text for key, text in _distinguishing(run).items() if len({other.get(key) for other in others}) > 1]
        labels.append(plain(f"{name} ({', '.join(parts)})") if parts else name)
    return [
        f"{label} #{labels[: at + 1].count(label)}" if labels.count(label) > 1 else label
        for at, label in enumerate(labels)
    ]


def _distinguishing(run: RunResults) -> dict[str, str]:
    """What tells two models of one name apart, as text by key."""
    card = run.model
    parts = {key: f"{key}={value}" for key, value in card.get("settings", {}).items()}
    if card.get("checkpoint"):
        parts["checkpoint"] = str(card["checkpoint"])[:8]
    return {**parts, "preprocessing": str(card.get("preprocessing", ""))}
