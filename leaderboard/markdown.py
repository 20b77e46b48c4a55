"""A leaderboard as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from .columns import Intervals
from .sections import Section
from .wording import blocks, figure, label, notes, printable, shows_ranks, standing, title


def markdown(sections: Sequence[Section], intervals: Intervals) -> str:
    """A heading and a table per block for each section, then the notes."""
    parts = []
    for section in sections:
        parts.append(f"### {escape(title(section))}")
        if not section.applicable:
            continue
        for at, (corner, columns) in enumerate(blocks(section)):
            ranks = at == 0 and shows_ranks(section)
            head = [corner, *(["Rank"] if ranks else []), *(column.label for column in columns)]
            rows = [
                [escape(label(line)), *([standing(line)] if ranks else [])]
                + [figure(line.figures[column.key], column, intervals) for column in columns]
                for line in section.lines
            ]
            parts.append(
                tabulate(
                    rows,
                    [escape(one) for one in head],
                    tablefmt="pipe",
                    colalign=("left", *["right"] * (len(head) - 1)),
                    disable_numparse=True,
                )
            )
    return "\n\n".join((*parts, *(escape(note) for note in notes(sections, intervals))))


def escape(text: str) -> str:
    """Text in one line that can neither break a table nor become HTML, emphasis, a formula or a link with other words."""
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), printable(text))


# An underscore within a word is none of emphasis.
_SPECIAL = re.compile(r"[\\`*\[\]|<>~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
