"""Sections of a leaderboard as Markdown, LaTeX or CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from tabulate import tabulate

from .board import PUBLISHED_DATASET, PUBLISHED_INSTANCES, Column, Figure, Line, Section

SHORT = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "random_attention_kl": "KL",
    "entropy": "Entropy",
    "selection_accuracy_local": "Sel. local",
    "selection_accuracy_global": "Sel. global",
}

LEGEND = (
    "AUROC, AP, their deltas and selection accuracy times 100; KL and entropy in nats. "
    "Δ = perturbed − unperturbed of the same sentence source."
)
FOOTNOTE = (
    f"† as published (McInerney et al., EMNLP 2022), not rerun: {PUBLISHED_DATASET}, "
    f"{PUBLISHED_INSTANCES['all']:,} instances."
)


def render(sections: Sequence[Section], fmt: Literal["markdown", "latex", "csv"], *, intervals: bool = True) -> str:
    """The text of a leaderboard. CSV holds unrounded figures in the units of the result files, with intervals."""
    if fmt == "csv":
        return _csv(sections)
    return (_markdown if fmt == "markdown" else _latex)(sections, intervals)


def _markdown(sections: Sequence[Section], intervals: bool) -> str:
    parts = []
    for section in sections:
        parts.append(f"### {_title(section)}")
        base = [column for column in section.columns if not column.delta]
        deltas = [column for column in section.columns if column.delta]
        parts.append(_markdown_table(section, base, intervals))
        if deltas:
            parts.append(_markdown_table(section, deltas, intervals))
    interval = " 95 % intervals from resampling patients." if intervals else ""
    notes = LEGEND + interval
    if any(line.published for section in sections for line in section.lines):
        notes += f"\n\n{FOOTNOTE}"
    return "\n\n".join((*parts, notes))


def _markdown_table(section: Section, columns: Sequence[Column], intervals: bool) -> str:
    header = ["Model", *(f"Δ{SHORT[one.metric]}<br>{one.title}" if one.delta else SHORT[one.metric] for one in columns)]
    rows = [
        [_label(line), *(_text(line.figures[column.key], column, intervals) for column in columns)]
        for line in section.lines
    ]
    align = ("left", *["right"] * len(columns))
    return tabulate(rows, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def _latex(sections: Sequence[Section], intervals: bool) -> str:
    tables = []
    for section in sections:
        tasks = list(dict.fromkeys((one.title, one.task) for one in section.columns if one.delta))
        base = [one for one in section.columns if not one.delta]
        ordered = [*base, *(one for _, task in tasks for one in section.columns if one.delta and one.task == task)]
        spans = [f"& \\multicolumn{{{len(base)}}}{{c}}{{Unperturbed}}"]
        rules = [f"\\cmidrule(lr){{2-{len(base) + 1}}}"]
        at = len(base) + 2
        for title, task in tasks:
            width = sum(one.delta and one.task == task for one in section.columns)
            spans.append(f"& \\multicolumn{{{width}}}{{c}}{{{_escape(title)}}}")
            rules.append(f"\\cmidrule(lr){{{at}-{at + width - 1}}}")
            at += width
        heads = [f"$\\Delta${SHORT[one.metric]}" if one.delta else SHORT[one.metric] for one in ordered]
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_escape(_title(section))}. {_escape_legend(section)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(ordered)}}}",
            "\\toprule",
            " ".join(spans) + " \\\\",
            "".join(rules),
            " & ".join(["Model", *heads]) + " \\\\",
            "\\midrule",
        ]
        previous = False
        for line in section.lines:
            if line.published and not previous and line is not section.lines[0]:
                lines.append("\\midrule")
            previous = line.published
            label = _escape(line.model) + ("$^\\dagger$" if line.published else "")
            cells = [_text(line.figures[one.key], one, intervals).replace("−", "$-$") for one in ordered]
            lines.append(" & ".join([label, *cells]) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}"]
        tables.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(tables)


def _csv(sections: Sequence[Section]) -> str:
    text = io.StringIO()
    keys = list(dict.fromkeys(column.key for section in sections for column in section.columns))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "suite", "subset", "n_instances", "n_patients", "model", "source"]
        + [name for key in keys for name in (key, f"{key}.low", f"{key}.high")]
    )
    for section in sections:
        for line in section.lines:
            source = "as published, not rerun" if line.published else "run"
            dataset = PUBLISHED_DATASET if line.published else section.dataset
            size = PUBLISHED_INSTANCES.get(section.subset) if line.published else section.n_instances
            patients = None if line.published else section.n_patients
            figures = [line.figures.get(key) or (None, None, None) for key in keys]
            writer.writerow(
                [dataset, section.suite, section.subset, size, patients, line.model, source]
                + [number for figure in figures for number in figure]
            )
    return text.getvalue().rstrip("\n")


def _title(section: Section) -> str:
    patients = "" if section.n_patients is None else f", {section.n_patients:,} patients"
    size = "" if section.n_instances is None else f" · {section.n_instances:,} instances{patients}"
    return f"{section.dataset} · {section.suite} · {section.subset}{size}"


def _label(line: Line) -> str:
    name = line.model.replace("|", "\\|")
    return f"{name} †" if line.published else name


def _text(figure: Figure | None, column: Column, intervals: bool) -> str:
    if figure is None:
        return "–"
    scale = 100 if column.percent else 1
    digits = (2 if column.delta else 1) if column.percent else 3

    def number(value: float, signed: bool) -> str:
        if signed and value == 0:
            return "0"
        return format(value * scale, f"{'+' if signed else ''}.{digits}f").replace("-", "−")

    text = number(figure.value, column.delta)
    if intervals and figure.low is not None and figure.high is not None:
        text += f" [{number(figure.low, column.delta)}, {number(figure.high, column.delta)}]"
    return text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "·": r"$\cdot$", "Δ": r"$\Delta$", "−": "$-$", "†": r"$\dagger$",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _escape_legend(section: Section) -> str:
    published = any(line.published for line in section.lines)
    return _escape(f"{LEGEND} {FOOTNOTE}" if published else LEGEND)
