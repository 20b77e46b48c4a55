"""Tables of the paper's layout as Markdown, LaTeX or CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

from tabulate import tabulate

from ...benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from .. import latex, markdown
from ..board import PUBLISHED_DATASET
from .members import GROUPS, Group
from .tables import Row, Table

HEADINGS: dict[Group, str] = {"model": "", "bound": "Floors and ceilings", "published": "As published"}
FOOTNOTE = (
    f"† as published (McInerney et al., EMNLP 2022), not rerun: {PUBLISHED_DATASET}, "
    f"{PUBLISHED_INSTANCES['all']:,} instances."
)
BRACKETS = "In brackets, 95 % intervals from resampling patients."


def render(tables: Sequence[Table], fmt: Literal["markdown", "latex", "csv"], *, intervals: bool = False) -> str:
    """The text of the tables, without a line break at its end.

    CSV holds one figure a line, with its interval, in the units of the tables but not rounded; a figure of the paper stands
    there as printed. ``intervals`` adds the intervals to the other formats.
    """
    if fmt == "csv":
        return _csv(tables)
    return (_markdown if fmt == "markdown" else _latex)(tables, intervals)


def notes(tables: Sequence[Table], intervals: bool) -> list[str]:
    """What a reader must know of marks and brackets, where there are any."""
    entries = [entry for table in tables for entry in table.entries()]
    bounded = any(entry.numbers()[1] is not None for entry in entries)
    published = any(entry.member.group == "published" for entry in entries)
    return [*([BRACKETS] if intervals and bounded else []), *([FOOTNOTE] if published else [])]


def _markdown(tables: Sequence[Table], intervals: bool) -> str:
    parts = []
    for table in tables:
        headings = [markdown.escape(f"{above}: {name}" if above else name) for above, name in table.columns]
        rows = []
        for heading, members in _grouped(table):
            if heading:
                rows.append([f"*{heading}*", *[""] * len(headings)])
            rows += [[markdown.escape(row.label), *_texts(row, intervals)] for row in members]
        align = ("left", *["right"] * len(headings))
        parts.append(f"### {markdown.escape(table.title)}")
        parts.append(tabulate(rows, [table.corner, *headings], tablefmt="pipe", colalign=align, disable_numparse=True))
    return "\n\n".join((*parts, *map(markdown.escape, notes(tables, intervals))))


def _latex(tables: Sequence[Table], intervals: bool) -> str:
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        width = len(table.columns)
        caption = " ".join((f"{table.title}.", *notes([table], intervals)))
        lines = [
            "\\begin{table*}",
            "\\centering\\small",
            *(["\\setlength{\\tabcolsep}{3pt}"] if width > 8 else []),
            f"\\caption{{{latex.escape(caption)}}}",
            f"\\begin{{tabular}}{{l{'r' * width}}}",
            "\\toprule",
            *_spans(table),
            _line([table.corner, *(name for _, name in table.columns)]),
            "\\midrule",
        ]
        for at, (heading, members) in enumerate(_grouped(table)):
            lines += ["\\midrule"] if at else []
            if heading:
                lines.append(f"\\multicolumn{{{width + 1}}}{{l}}{{\\emph{{{latex.escape(heading)}}}}} \\\\")
            lines += [_line([row.label, *_texts(row, intervals)], len(row.entries)) for row in members]
        parts.append("\n".join((*lines, "\\bottomrule", "\\end{tabular}", "\\end{table*}")))
    return "\n\n".join(parts)


def _spans(table: Table) -> list[str]:
    """The line of headings above the headings, and the rules under each."""
    if not any(above for above, _ in table.columns):
        return []
    cells, rules, start = [], [], 2
    for above, columns in groupby(table.columns, key=lambda column: column[0]):
        size = len(list(columns))
        cells.append(f"\\multicolumn{{{size}}}{{c}}{{{latex.escape(above)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + size - 1}}}")
        start += size
    return [" & ".join(("", *cells)) + " \\\\", " ".join(rules)]


def _csv(tables: Sequence[Table]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("section", "model", "source", "task", "subset", "metric", "value", "low", "high"))
    written = set()
    for entry in (entry for table in tables for entry in table.entries()):
        member, figure = entry.member, entry.figure
        published = member.group == "published"
        place = (member.section, member.model, entry.task, entry.subset, entry.metric)
        if published and place in written:
            continue  # the paper's rows are in the tables of every section
        written.add(place)
        numbers = ["" if number is None else f"{number:.12g}" for number in entry.numbers()]
        if figure is not None and figure.printed is not None:
            numbers[0] = figure.printed
        source = "as published, not rerun" if published else "run"
        writer.writerow((*place[:2], source, *place[2:], *numbers))
    return text.getvalue().rstrip("\n")


def _grouped(table: Table) -> Iterator[tuple[str, list[Row]]]:
    """The rows by group, with a heading where there are several groups; the models that come first need none."""
    groups = [group for group in GROUPS if any(row.group == group for row in table.rows)]
    for group in groups:
        yield HEADINGS[group] if len(groups) > 1 else "", [row for row in table.rows if row.group == group]


def _texts(row: Row, intervals: bool) -> list[str]:
    return ["" if entry is None else entry.text(intervals) for entry in row.entries]


def _line(cells: Sequence[str], numbers: int = 0) -> str:
    """A line of a tabular; the last ``numbers`` cells hold figures, whose minus is not a hyphen."""
    words = len(cells) - numbers
    texts = [latex.escape(one) if at < words else latex.escape(one.replace("-", "−")) for at, one in enumerate(cells)]
    return " & ".join(texts) + " \\\\"
