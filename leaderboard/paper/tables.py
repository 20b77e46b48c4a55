"""Layouts filled with figures: the rows and columns of the paper's tables, and the data behind its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from ...benchmark.cells import Cell
from ...benchmark.errors import WronglungError
from .layouts import Layout, load_layouts
from .members import Figure, Group, Member, Section

DASH = "–"


@dataclass(frozen=True)
class Entry:
    """One place of a table. ``figure`` is None for what the model's run (or the paper) does not have."""

    member: Member
    task: str
    subset: str
    metric: str
    """As in machine-readable tables: ``delta_auroc``, ``pearson(auroc,entropy)``."""
    figure: Figure | None
    times: int
    digits: int

    def numbers(self) -> tuple[float | None, float | None, float | None]:
        """The value and the ends of its interval, in the units of the table."""
        if self.figure is None:
            return None, None, None
        if self.figure.printed is not None:
            return float(self.figure.printed), None, None
        value, low, high = (
            None if number is None or not isfinite(number) else number * self.times
            for number in (self.figure.value, self.figure.low, self.figure.high)
        )
        return value, low, high

    def text(self, intervals: bool = False) -> str:
        """The figure as printed: rounded, or exactly as in the paper; a dash where there is none."""
        if self.figure is not None and self.figure.printed is not None:
            return self.figure.printed
        value, low, high = (None if one is None else self._rounded(one) for one in self.numbers())
        if value is None:
            return DASH
        return f"{value} [{low}, {high}]" if intervals and low is not None and high is not None else value

    def _rounded(self, number: float) -> str:
        text = f"{number:.{self.digits}f}"
        # What only rounds to zero has no sign.
        return text.removeprefix("-") if float(text) == 0 else text


@dataclass(frozen=True)
class Row:
    """A row; an entry is None where the layout leaves the place blank. The label of a published row bears its mark."""

    label: str
    group: Group
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Table:
    """A table; ``columns`` are headings, each with the heading above it (or "")."""

    title: str
    corner: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]

    def entries(self) -> Iterator[Entry]:
        """All entries, row by row."""
        return (entry for row in self.rows for entry in row.entries if entry is not None)


def tables(layout: Layout, found: Sequence[Section]) -> list[Table]:
    """The layout's tables: one a section, one a model for correlations, and one for all sizes.

    Models of the paper without a figure in the layout are left out. Raises :class:`WronglungError` where no model has any.
    """
    made = {"table": _by_model, "figure": _by_model, "correlations": _matrices, "sizes": _sizes}[layout.kind](
        layout, found
    )
    if not any(entry.figure is not None for table in made for entry in table.entries()):
        what = ", ".join(layout.metrics) or layout.title.lower()
        raise WronglungError(f"nothing to show: no model here has {what} under the task {layout.task!r}")
    return made


def _by_model(layout: Layout, found: Sequence[Section]) -> list[Table]:
    layouts = load_layouts()
    places = [(subset, metric) for subset in layouts.subsets for metric in layout.metrics]
    made = []
    for section in found:
        rows = []
        for member in section.members:
            entries = tuple(_entry(layout, member, subset, metric) for subset, metric in places)
            if member.group != "published" or any(entry.figure for entry in entries):
                rows.append(Row(_marked(member.model, member), member.group, entries))
        columns = tuple(
            (layouts.subsets[subset], layouts.metrics[metric].heading)
            if len(layout.metrics) > 1
            else ("", layouts.subsets[subset])
            for subset, metric in places
        )
        made.append(Table(f"{layout.title}: {section.title}", "Model", columns, tuple(rows)))
    return made


def _entry(layout: Layout, member: Member, subset: str, metric: str) -> Entry:
    shown = load_layouts().metrics[metric]
    delta = layout.kind == "figure"
    figure = member.figures.get(Cell(layout.task, subset, metric, delta))
    name = f"delta_{metric}" if delta else metric
    return Entry(member, layout.task, subset, name, figure, shown.times, shown.digits)


def _matrices(layout: Layout, found: Sequence[Section]) -> list[Table]:
    """The lower triangle of each model's matrix, without its diagonal."""
    quantities = load_layouts().quantities
    names = list(quantities)
    columns = tuple(("", quantities[name].heading) for name in names[:-1])
    made = []
    for member in _each_once(found):
        if member.group == "published" and not member.correlations:
            continue
        rows = []
        for at, a in enumerate(names[1:], start=1):
            entries = [_correlation(layout, member, a, b) for b in names[:at]]
            rows.append(Row(quantities[a].heading, "model", (*entries, *[None] * (len(columns) - at))))
        title = f"{layout.title}: {_marked(member.model, member)}, {member.section}"
        made.append(Table(title, "", columns, tuple(rows)))
    return made


def _correlation(layout: Layout, member: Member, a: str, b: str) -> Entry:
    figure = member.correlations.get(frozenset((a, b)))
    return Entry(member, layout.task, "all", f"pearson({a},{b})", figure, times=1, digits=3)


def _sizes(layout: Layout, found: Sequence[Section]) -> list[Table]:
    subsets = load_layouts().subsets
    rows = []
    # One model speaks for all of its section.
    for member in {member.section: member for member in _each_once(found)}.values():
        entries = []
        for subset in subsets:
            size = member.sizes.get(subset)
            figure = None if size is None else Figure(size)
            entries.append(
                Entry(replace(member, model=""), layout.task, subset, "instances", figure, times=1, digits=0)
            )
        group: Group = "published" if member.group == "published" else "model"
        rows.append(Row(_marked(member.section, member), group, tuple(entries)))
    return [Table(layout.title, "Dataset", tuple(("", heading) for heading in subsets.values()), tuple(rows))]


def _each_once(found: Sequence[Section]) -> list[Member]:
    """All models of all sections, and below them the paper's, which are the same in each."""
    runs = [member for section in found for member in section.members if member.group != "published"]
    return runs + [member for section in found[:1] for member in section.members if member.group == "published"]


def _marked(name: str, member: Member) -> str:
    return f"{name} †" if member.group == "published" else name
