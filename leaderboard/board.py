"""Runs side by side: which figures stand in a table, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..benchmark.cells import Cell
from ..benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from ..benchmark.errors import WronglungError
from ..benchmark.results import RESULTS, Results, RunResults
from .columns import Column, Layout, columns, load_layout
from .grouping import Entry, groups, plain, versions
from .published_rows import (
    PUBLISHED_DATASET,
    PUBLISHED_NAMES,
    PUBLISHED_PERTURBATIONS,
    published_figures,
    published_lines,
)
from .ranking import Ranks, agreement, best, rank, value_of
from .sections import Figure, Line, Rank, Ranking, Section

__all__ = [
    "PUBLISHED_DATASET",
    "PUBLISHED_NAMES",
    "Column",
    "Figure",
    "Line",
    "Rank",
    "Ranking",
    "Section",
    "board",
    "find_runs",
    "published_figures",
]


def board(
    runs: Sequence[RunResults | Results],
    *,
    published: bool = False,
    subsets: Sequence[str] | None = None,
    layout: Layout | None = None,
) -> list[Section]:
    """Sections of comparable runs, by subset; the same for any order of ``runs``.

    Runs on other data, of another major version of a suite, with another seed or cut by a limit get sections of their own.
    Models that lack tasks or metrics of others stand beside them without a rank. Where a run is a :class:`Results`, its
    instances are at hand; with those of all ranked models, ranks are ranges from resampling patients. ``published`` adds the
    paper's lines below; ``layout`` says what is shown, by default that of :func:`.columns.load_layout`.

    Raises :class:`WronglungError` for a subset that no run has, for a layout that ranks by a diagnostic, and for instances
    that do not belong to their run.
    """
    layout = layout or load_layout()
    wanted = subsets or layout.subsets
    if published and not runs:
        sections = _published_sections(layout)
    else:
        sections = [section for group in groups(runs) for section in _sections(group, layout, wanted, published)]
    if subsets:
        unknown = sorted({*subsets} - {section.subset for section in sections})
        if unknown:
            raise WronglungError(f"no run has a subset {unknown[0]!r}")
    return [section for section in sections if not wanted or section.subset in wanted]


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders among the given ones and directly or deeper inside them, in sorted order; each run once.

    Raises :class:`WronglungError` for a path without a run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_file() or (folder / RESULTS).is_file():
            inside = [folder]
        elif folder.is_dir():
            inside = sorted(path.parent for path in folder.rglob(RESULTS))
        else:
            raise WronglungError(f"{folder}: does not exist")
        if not inside:
            raise WronglungError(f"{folder}: no run here ({RESULTS} is missing)")
        for path in inside:
            # By links, or by its file, a run may be named twice.
            found.setdefault((path / RESULTS if path.is_dir() else path).resolve(), path)
    return list(found.values())


def _sections(group: Sequence[Entry], layout: Layout, wanted: Sequence[str] | None, published: bool) -> list[Section]:
    runs = [entry.run for entry in group]
    first = runs[0]
    perturbed = dict.fromkeys(one.task for run in runs for one in run.scores if one.perturbation is not None)
    shown = columns(layout, runs, perturbed)
    subsets = list(dict.fromkeys(one.subset for one in first.scores))
    misses = {entry.label: entry.misses(group, shown) for entry in group}
    cell, higher_is_better = _ranking_cell(group, layout, subsets)
    ranked = [
        entry
        for entry in group
        if entry.role == "model" and not misses[entry.label] and value_of(entry, cell) is not None
    ]
    ranks = rank(ranked, cell, higher_is_better) if len(ranked) > 1 else Ranks({}, None, None)
    order = sorted(group, key=lambda entry: _place(entry, misses[entry.label], ranks, cell, higher_is_better))
    partial = f" (first {first.dataset.n_instances} instances only)" if first.dataset.limit is not None else ""
    sections = []
    for subset in [one for one in wanted or subsets if one in subsets]:
        size = next(one for one in first.scores if one.subset == subset)
        lines = [_line(entry, subset, shown, misses[entry.label], ranks) for entry in order]
        kept = _with_figures(shown, lines)
        sections.append(
            Section(
                plain(first.dataset.name) + partial,
                f"{first.suite['name']} {versions(runs)}",
                subset,
                size.n_instances,
                size.n_patients,
                first.dataset.unit,
                kept,
                tuple(_shown(lines, ranked, subset, kept) + (published_lines(subset, kept) if published else [])),
                any(run.dataset.subsets.get(subset) is not None for run in runs),
                _ranking(ranked, ranks, cell, higher_is_better, subset, kept),
            )
        )
    return sections


def _ranking_cell(group: Sequence[Entry], layout: Layout, subsets: Sequence[str]) -> tuple[Cell, bool]:
    """The cell to rank by, and whether higher is better: the first of the layout's in which a model has a value."""
    spec = layout.ranking
    known = [one.higher_is_better for entry in group for one in entry.run.scores if one.metric == spec.metric]
    if known and known[0] is None:
        raise WronglungError(
            f"models cannot be ranked by {spec.metric}: it is a diagnostic, of which more is not better"
        )
    cells = [Cell(spec.task, subset, spec.metric) for subset in spec.subsets if subset in subsets]
    cells = cells or [Cell(spec.task, subsets[0], spec.metric)]
    for entries in ([one for one in group if one.role == "model"], group):
        for cell in cells:
            if any(value_of(entry, cell) is not None for entry in entries):
                return cell, bool(known[0])
    return cells[0], True


_GROUPS = {"ceiling": 0, "floor": 4}


def _place(
    entry: Entry, misses: Sequence[str], ranks: Ranks, cell: Cell, higher_is_better: bool
) -> tuple[int, int, float, str]:
    """Ceilings, ranked models, models without a rank, models that miss something, floors; in each the better first."""
    known = list(ranks.by_label)
    value = value_of(entry, cell)
    group = _GROUPS.get(entry.role, 1 if entry.label in known else 3 if misses else 2)
    return (
        group,
        known.index(entry.label) if entry.label in known else 0,
        float("inf") if value is None else -value if higher_is_better else value,
        entry.label,
    )


def _line(entry: Entry, subset: str, shown: Sequence[Column], misses: tuple[str, ...], ranks: Ranks) -> Line:
    cells = {(one.task, one.metric): one for one in entry.run.scores if one.subset == subset}
    figures: dict[str, Figure | None] = {}
    for column in shown:
        cell = cells.get((column.task, column.metric))
        value = None if cell is None else cell.delta if column.delta else cell.value
        if cell is None or value is None:
            figures[column.key] = None
        elif column.delta:
            figures[column.key] = Figure(value, cell.delta_ci_low, cell.delta_ci_high)
        else:
            figures[column.key] = Figure(value, cell.ci_low, cell.ci_high, cell.n_instances - cell.n_undefined)
    return Line(entry.label, False, figures, entry.role, misses, ranks.by_label.get(entry.label))


def _shown(lines: Sequence[Line], ranked: Sequence[Entry], subset: str, shown: Sequence[Column]) -> list[Line]:
    cells = {column.key: Cell(column.task, subset, column.metric) for column in shown if _has_best(column)}
    directions = {cells[column.key]: bool(column.higher_is_better) for column in shown if _has_best(column)}
    found = best(ranked, directions)
    return [
        replace(
            line,
            figures={column.key: line.figures[column.key] for column in shown},
            best=frozenset(key for key, cell in cells.items() if line.model in found.get(cell, ())),
        )
        for line in lines
    ]


def _with_figures(shown: Sequence[Column], lines: Sequence[Line]) -> tuple[Column, ...]:
    return tuple(column for column in shown if any(line.figures[column.key] is not None for line in lines))


def _has_best(column: Column) -> bool:
    return not column.delta and column.higher_is_better is not None


def _ranking(
    ranked: Sequence[Entry], ranks: Ranks, cell: Cell, higher_is_better: bool, subset: str, shown: Sequence[Column]
) -> Ranking | None:
    if not ranks.by_label:
        return None
    taus: dict[str, float] = {}
    own = _signed(ranked, cell, higher_is_better)
    for column in shown:
        other = Cell(column.task, subset, column.metric)
        if _has_best(column) and other != cell:
            tau = agreement(own, _signed(ranked, other, bool(column.higher_is_better)))
            if tau is not None:
                taus[column.label] = tau
    return Ranking(cell.metric, cell.task, cell.subset, len(ranked), ranks.instances, ranks.clusters, taus)


def _signed(entries: Sequence[Entry], cell: Cell, higher_is_better: bool) -> list[float | None]:
    """Values of which the higher is the better one."""
    values = [value_of(entry, cell) for entry in entries]
    return [value if higher_is_better or value is None else -value for value in values]


def _published_sections(layout: Layout) -> list[Section]:
    shown = columns(layout, (), PUBLISHED_PERTURBATIONS)
    sections = []
    for subset, n in PUBLISHED_INSTANCES.items():
        kept = _with_figures(shown, published_lines(subset, shown))
        lines = tuple(published_lines(subset, kept))
        sections.append(Section(PUBLISHED_DATASET, "wrong-lung", subset, n, None, "patients", kept, lines))
    return sections
