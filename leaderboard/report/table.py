"""The leaderboard of a group: its views, and the figures that the browser fills them with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...benchmark.metrics.catalogue import ONLY_FOR
from ...benchmark.results import Score
from ..columns import columns, load_layout
from ..published_rows import PUBLISHED_NAMES, published_figures
from . import figures
from .groups import Entry, Group

Column = tuple[int, int, bool, str]
"""A column of a view: index of the task, index of the metric, whether it is a delta, heading."""

OVERVIEW = "Overview"


def described(group: Group, published: bool) -> dict[str, Any]:
    """What the browser must know of a group besides the figures: models, subsets, metrics, and the views of the table.

    A view is ``{"label", "family", "spans": [[title, number of columns]], "columns": [Column]}``.
    """
    models: list[dict[str, Any]] = [
        {
            "label": one.label,
            "page": one.page,
            "role": one.role,
            "rank": one.rank,
            "missing": list(one.missing),
            "published": False,
        }
        for one in group.entries
    ]
    if published:
        models += [
            {"label": label, "published": True, "role": "model", "rank": "", "missing": []}
            for label in PUBLISHED_NAMES.values()
        ]
    return {
        "models": models,
        "subsets": list(group.subsets),
        "subset": group.subsets.index(group.subset),
        "units": [[unit.scale, unit.digits] for unit in map(figures.unit, group.metrics)],
        "views": list(_views(group)),
    }


def cells(group: Group, subset: str, published: bool) -> list[list[list[list[float | int | None] | None]]]:
    """The figures of a subset, [models][tasks][metrics]: null where a run has no such cell.

    A cell is ``[value, low, high, delta, delta low, delta high]``.
    """
    rows = [
        [
            [_numbers(entry.scores.get((task["name"], subset, metric))) for metric in group.metrics]
            for task in group.tasks
        ]
        for entry in group.entries
    ]
    if not published:
        return rows
    printed = published_figures()

    def row(model: str) -> Iterator[list[list[float | int | None] | None]]:
        for task in group.tasks:
            line: list[list[float | int | None] | None] = []
            for metric in group.metrics:
                value, delta = (printed.get((model, task["name"], subset, metric, one)) for one in (False, True))
                known = value is not None or delta is not None
                line.append([_short(value), None, None, _short(delta), None, None] if known else None)
            yield line

    return rows + [list(row(model)) for model in PUBLISHED_NAMES]


def _numbers(score: Score | None) -> list[float | int | None] | None:
    if score is None:
        return None
    values = (score.value, score.ci_low, score.ci_high, score.delta, score.delta_ci_low, score.delta_ci_high)
    return [_short(value) for value in values]


def _short(value: float | None) -> float | int | None:
    """Five digits behind the point are two more than any table shows."""
    if value is None:
        return None
    rounded = round(value, 5)
    return int(rounded) if rounded == int(rounded) else rounded


def _views(group: Group) -> Iterator[dict[str, Any]]:
    yield _overview(group)
    cells = {key[::2] for entry in group.entries for key, one in entry.scores.items() if one.value is not None}
    deltas = {key[::2] for entry in group.entries for key, one in entry.scores.items() if one.delta is not None}
    for m, metric in enumerate(group.metrics):
        values = [(t, m, False, task["title"]) for t, task in enumerate(group.tasks) if _shown(task, metric, cells)]
        moved = [(t, m, True, task["title"]) for t, task in enumerate(group.tasks) if (task["name"], metric) in deltas]
        yield from _view(figures.name(metric), "One metric, every task", [("Value", values), ("Δ", moved)])
    for t, task in enumerate(group.tasks):
        values, moved = [], []
        for m, metric in enumerate(group.metrics):
            if _shown(task, metric, cells):
                values.append((t, m, False, figures.name(metric)))
            if (task["name"], metric) in deltas:
                moved.append((t, m, True, figures.name(metric)))
        yield from _view(task["title"], "One task, every metric", [("Δ", moved), ("Value", values)])


def _shown(task: dict[str, Any], metric: str, cells: Iterable[tuple[str, ...]]) -> bool:
    """Whether a value, and not only its change, is shown: of unperturbed tasks, and where there is no change."""
    alone = task["perturbation"] is None or metric in ONLY_FOR
    return alone and (task["name"], metric) in cells


def _overview(group: Group) -> dict[str, Any]:
    """The columns of the default leaderboard that the group's runs have, in blocks."""
    runs = [one.run for one in group.entries]
    perturbed = [task["name"] for task in group.tasks if task["perturbation"] is not None]
    names = [task["name"] for task in group.tasks]
    defined = {
        (key[0], key[2], delta)
        for entry in group.entries
        for key, one in entry.scores.items()
        for delta in (False, True)
        if (one.delta if delta else one.value) is not None and key[0] in names and key[2] in group.metrics
    }
    spans: dict[str, list[Column]] = {}
    layout = load_layout()
    for one in columns(layout, runs, perturbed):
        if (one.task, one.metric, one.delta) in defined:
            place = names.index(one.task), group.metrics.index(one.metric), one.delta, one.label
            # The title of the first block is the heading of the names.
            spans.setdefault("Value" if one.block == layout.blocks[0].title else one.block, []).append(place)
    return next(_view(OVERVIEW, "", list(spans.items())), {"label": OVERVIEW, "family": "", "spans": [], "columns": []})


def _view(label: str, family: str, spans: Sequence[tuple[str, list[Column]]]) -> Iterator[dict[str, Any]]:
    kept = [(title, columns) for title, columns in spans if columns]
    if kept:
        yield {
            "label": label,
            "family": family,
            "spans": [[title, len(columns)] for title, columns in kept],
            "columns": [list(column) for _, columns in kept for column in columns],
        }


def entries_by_rank(group: Group) -> list[Entry]:
    """The runs in order of AUROC on the subset that is shown first, the best on top; what has none comes last."""

    def key(entry: Entry) -> tuple[float, str]:
        score = entry.scores.get(("original", group.subset, "auroc"))
        return (-score.value if score is not None and score.value is not None else 1.0), entry.label

    return sorted(group.entries, key=key)


def texts(group: Group, entry: Entry, view: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A run's figures in a view's columns on the subset that is shown first, as (figure, interval) in print."""
    for t, m, delta, _ in view["columns"]:
        unit = figures.unit(group.metrics[m])
        score = entry.scores.get((group.tasks[t]["name"], group.subset, group.metrics[m]))
        if score is None:
            yield unit.text(None), ""
        elif delta:
            yield (
                unit.text(score.delta, signed=True),
                unit.interval(score.delta_ci_low, score.delta_ci_high, signed=True),
            )
        else:
            yield unit.text(score.value), unit.interval(score.ci_low, score.ci_high)
