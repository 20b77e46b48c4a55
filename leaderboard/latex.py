"""A leaderboard as LaTeX, in booktabs tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .columns import Column, Intervals
from .sections import Line, Section
from .wording import blocks, figure, label, notes, shows_ranks, standing, title


def latex(sections: Sequence[Section], intervals: Intervals) -> str:
    """One ``table*`` per section with a tabular per block; the best figures of a column, and those that tie, in bold."""
    return "\n\n".join(
        [
            "% needs \\usepackage{booktabs}",
            *(_table(one, intervals) for one in sections if one.applicable and one.columns),
        ]
    )


def _table(section: Section, intervals: Intervals) -> str:
    caption = " ".join([f"{title(section)}.", *notes([section], intervals)])
    if any(line.best for line in section.lines):
        caption += " Bold: the best of the ranked models, and those not distinguishable from it."
    lines = ["\\begin{table*}", "\\centering\\small", f"\\caption{{{escape(caption)}}}"]
    for at, (corner, columns) in enumerate(blocks(section)):
        ranks = at == 0 and shows_ranks(section)
        head = [corner, *(["Rank"] if ranks else []), *(column.label for column in columns)]
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule"]
        lines += [" & ".join(map(escape, head)) + " \\\\", "\\midrule"]
        rows = [_row(line, columns, ranks, intervals) for line in section.lines]
        for row, (before, after) in zip(rows, pairwise([*section.lines, None]), strict=True):
            lines.append(row)
            if before is not None and after is not None and _group(before) != _group(after):
                lines.append("\\midrule")
        lines += ["\\bottomrule", "\\end{tabular}", "\\\\[1ex]"]
    return "\n".join([*lines[:-1], "\\end{table*}"])


def _row(line: Line, columns: Sequence[Column], ranks: bool, intervals: Intervals) -> str:
    cells = [escape(label(line)), *([escape(standing(line))] if ranks else [])]
    for column in columns:
        text = escape(figure(line.figures[column.key], column, intervals))
        cells.append(f"\\textbf{{{text}}}" if column.key in line.best else text)
    return " & ".join(cells) + " \\\\"


def _group(line: Line) -> tuple[bool, str, bool]:
    """Lines of different groups are set apart by a rule."""
    return line.published, line.role, bool(line.misses)


def escape(text: str) -> str:
    """Text for LaTeX in one line; characters that its default fonts lack are spelt as commands."""
    escaped = "".join(_COMMANDS.get(character, character) for character in " ".join(text.split()))
    # After the end of a row or a rule, a bracket or a star would belong to it.
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


_COMMANDS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': "''",
    "·": r"$\cdot$", "Δ": r"$\Delta$", "τ": r"$\tau$", "−": "$-$", "±": r"$\pm$", "≈": r"$\approx$", "†": r"$\dagger$",
    "–": "--", "�": "?",
}  # fmt: skip
