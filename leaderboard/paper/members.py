"""The models that stand in one table: what runs and the paper's figures say of each."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

from ...benchmark.cells import Cell
from ...benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from ...benchmark.errors import WronglungError
from ...benchmark.results import RunResults
from ..board import PUBLISHED_DATASET, PUBLISHED_NAMES
from ..comparability import identity
from ..grouping import Entry, groups, plain, versions
from .layouts import load_layouts

Group = Literal["model", "bound", "published"]
"""``bound``: floors and ceilings. Also the order of rows."""
GROUPS: tuple[Group, ...] = ("model", "bound", "published")


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, in the units of the result files; None where it is undefined.

    ``printed`` is the text of a figure of the paper, in the units of its tables; such a figure has no ``value``.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    printed: str | None = None


@dataclass(frozen=True)
class Member:
    """A model with everything that a layout may ask of it."""

    model: str
    group: Group
    section: str
    """What it was evaluated on: the title of its section, or the paper's dataset."""
    figures: Mapping[Cell, Figure]
    correlations: Mapping[frozenset[str], Figure]
    """By the names of the two quantities."""
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    """Instances by subset; None where the dataset does not say."""


@dataclass(frozen=True)
class Section:
    """Models that can be compared, in the order of a table: models, floors and ceilings, published ones."""

    title: str
    members: tuple[Member, ...]


def sections(runs: Sequence[RunResults], *, published: bool = False, models: Sequence[str] = ()) -> list[Section]:
    """Sections of comparable runs, whatever the order of ``runs``; ``published`` adds the paper's models to each.

    ``models`` keeps those of these names only, in the order of the names; published ones go by their name or their id in the
    published figures. Without it, runs are in the order of their names. Raises :class:`WronglungError` for a name of nothing.
    """
    paper = _of_paper() if published else {}
    names = {str(run.model["name"]) for run in runs} | {name for pair in paper for name in pair}
    unknown = [name for name in models if name not in names]
    if unknown:
        raise WronglungError(f"no model {unknown[0]!r} here; there are: {', '.join(sorted(names)) or 'none'}")

    def place(*named: str) -> int:
        return min((models.index(name) for name in named if name in models), default=len(models))

    chosen = [run for run in runs if not models or place(str(run.model["name"])) < len(models)]
    below = sorted((pair for pair in paper if not models or place(*pair) < len(models)), key=lambda pair: place(*pair))
    rows = tuple(paper[pair] for pair in below)
    found = groups(chosen)
    if not found:
        return [Section(PUBLISHED_DATASET, rows)] if rows else []
    made = []
    for title, group in zip(_titles([[entry.run for entry in group] for group in found]), found, strict=True):
        pairs = [(place(str(entry.run.model["name"])), _of_run(entry, title)) for entry in group]
        pairs.sort(key=lambda pair: (GROUPS.index(pair[1].group), pair[0], pair[1].model))
        made.append(Section(title, (*(member for _, member in pairs), *rows)))
    return made


def _titles(groups: Sequence[Sequence[RunResults]]) -> list[str]:
    """What each group of runs was evaluated on; those that would be called the same are told apart by what differs."""
    names = [_title(group) for group in groups]
    identities = [identity(group[0]) for group in groups]
    titles = []
    for title, own in zip(names, identities, strict=True):
        twins = [other for other, its in zip(identities, names, strict=True) if its == title]
        parts = [f"{key} {own[key][:8]}" for key in own if len({other[key] for other in twins}) > 1]
        titles.append(", ".join((title, *parts)))
    return [
        f"{title}, #{titles[: at + 1].count(title)}" if titles.count(title) > 1 else title
        for at, title in enumerate(titles)
    ]


def _title(group: Sequence[RunResults]) -> str:
    run = group[0]
    size = f"{run.dataset.n_instances:,} instances"
    partial = f"first {size} only" if run.dataset.limit is not None else size
    return f"{plain(run.dataset.name)}, {partial}, {run.suite['name']} {versions(group)}"


def _of_run(entry: Entry, section: str) -> Member:
    run = entry.run
    figures = {}
    for score in run.scores:
        cell = Cell(score.task, score.subset, score.metric)
        figures[cell] = Figure(score.value, score.ci_low, score.ci_high)
        if score.perturbation is not None:
            figures[cell._replace(delta=True)] = Figure(score.delta, score.delta_ci_low, score.delta_ci_high)
    return Member(
        entry.label,
        "model" if entry.role == "model" else "bound",
        section,
        figures,
        {frozenset((one.a, one.b)): Figure(one.r) for one in run.correlations},
        run.dataset.subsets,
    )


def _of_paper() -> dict[tuple[str, str], Member]:
    """The paper's models by id and name, in its order."""
    layouts = load_layouts()
    metrics = {one.published: name for name, one in layouts.metrics.items() if one.published}
    quantities = {one.published: name for name, one in layouts.quantities.items() if one.published}
    figures: dict[str, dict[Cell, Figure]] = {model: {} for model in PUBLISHED_NAMES}
    correlations: dict[str, dict[frozenset[str], Figure]] = {model: {} for model in PUBLISHED_NAMES}
    text = (files("wronglung.leaderboard") / "published" / "wrong_lung_2022.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        figure = Figure(printed=row["value"])
        pair = re.fullmatch(r"pearson\((.+),(.+)\)", row["metric"])
        if pair:
            correlations[row["model"]][frozenset(quantities.get(one, one) for one in pair.groups())] = figure
            continue
        name = row["metric"].removeprefix("delta_")
        task = row["sentences"] if row["perturbation"] == "none" else row["perturbation"]
        cell = Cell(task, row["subset"], metrics.get(name, name), delta=name != row["metric"])
        figures[row["model"]][cell] = figure
    return {
        (model, name): Member(
            name, "published", PUBLISHED_DATASET, figures[model], correlations[model], PUBLISHED_INSTANCES
        )
        for model, name in PUBLISHED_NAMES.items()
    }
