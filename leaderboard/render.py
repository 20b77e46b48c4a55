"""Sections of a leaderboard as Markdown, LaTeX or CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from tabulate import tabulate

from ..benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from .board import PUBLISHED_DATASET, Column, Figure, Line, Section

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
    "Δ = perturbed − unperturbed of the same sentence source. In order of AUROC on one_lung, if there is such a subset."
)
BRACKETS = "In brackets, 95 % intervals from resampling patients."
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
        if not section.applicable:
            continue
        for corner, columns in _blocks(section):
            rows = [
                [_label(line).replace("|", "\\|"), *_texts(line, columns.values(), intervals)] for line in section.lines
            ]
            align = ("left", *["right"] * len(columns))
            parts.append(tabulate(rows, [corner, *columns], tablefmt="pipe", colalign=align, disable_numparse=True))
    return "\n\n".join((*parts, *_notes(sections, intervals)))


def _latex(sections: Sequence[Section], intervals: bool) -> str:
    """One ``table*`` per section, with a booktabs tabular per block."""
    tables = ["% needs \\usepackage{booktabs}"]
    for section in (one for one in sections if one.applicable):
        notes = _escape(" ".join(_notes([section], intervals)))
        lines = ["\\begin{table*}", "\\centering\\small", f"\\caption{{{_escape(_title(section))}. {notes}}}"]
        for corner, columns in _blocks(section):
            rows = [
                " & ".join(map(_escape, [_label(line), *_texts(line, columns.values(), intervals)])) + " \\\\"
                for line in section.lines
            ]
            reruns = sum(not line.published for line in section.lines)
            if 0 < reruns < len(rows):
                rows.insert(reruns, "\\midrule")
            lines += [
                f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
                "\\toprule",
                " & ".join(map(_escape, [corner, *columns])) + " \\\\",
                "\\midrule",
                *rows,
                "\\bottomrule",
                "\\end{tabular}",
                "\\\\[1ex]",
            ]
        tables.append("\n".join([*lines[:-1], "\\end{table*}"]))
    return "\n\n".join(tables)


def _blocks(section: Section) -> Iterator[tuple[str, dict[str, Column]]]:
    """The columns by heading: base values, then each metric's deltas by task. The corner says what a block shows."""
    yield "Model", {SHORT.get(one.metric, one.metric): one for one in section.columns if not one.delta}
    for metric in dict.fromkeys(column.metric for column in section.columns if column.delta):
        deltas = (one for one in section.columns if one.delta and one.metric == metric)
        yield f"Δ{SHORT.get(metric, metric)}", {one.task.replace("_", " "): one for one in deltas}


def _notes(sections: Sequence[Section], intervals: bool) -> list[str]:
    lines = [line for section in sections for line in section.lines]
    bounded = any(figure and figure.low is not None for line in lines for figure in line.figures.values())
    notes = [f"{LEGEND} {BRACKETS}" if intervals and bounded else LEGEND]
    return [*notes, FOOTNOTE] if any(line.published for line in lines) else notes


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
    if not section.applicable:
        return f"{section.dataset} · {section.suite} · {section.subset}: not applicable, the dataset does not say"
    patients = "" if section.n_patients is None else f", {section.n_patients:,} {section.unit}"
    size = "" if section.n_instances is None else f" · {section.n_instances:,} instances{patients}"
    return f"{section.dataset} · {section.suite} · {section.subset}{size}"


def _label(line: Line) -> str:
    return f"{line.model} †" if line.published else line.model


def _texts(line: Line, columns: Iterable[Column], intervals: bool) -> list[str]:
    return [_text(line.figures[column.key], column, intervals) for column in columns]


def _text(figure: Figure | None, column: Column, intervals: bool) -> str:
    if figure is None:
        return "–"
    scale = 100 if column.percent else 1
    digits = (2 if column.delta else 1) if column.percent else 3

    def number(value: float, signed: bool) -> str:
        if signed and value == 0:
            return "0"
        text = format(value * scale, f"{'+' if signed else ''}.{digits}f")
        # What only rounds to zero keeps its digits but has no sign.
        return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")

    text = number(figure.value, column.delta)
    if intervals and figure.low is not None and figure.high is not None:
        text += f" [{number(figure.low, column.delta)}, {number(figure.high, column.delta)}]"
    return text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "·": r"$\cdot$", "Δ": r"$\Delta$", "−": "$-$", "†": r"$\dagger$", "–": "--",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
