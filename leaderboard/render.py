"""A leaderboard as text, in the formats that people read or paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .columns import Intervals
from .html_table import html
from .latex import latex
from .markdown import markdown
from .sections import Section
from .tabular import csv_text

Format = Literal["markdown", "latex", "csv", "html"]


def render(sections: Sequence[Section], fmt: Format, *, intervals: Intervals = "brackets") -> str:
    """The text of a leaderboard, without a line break at its end.

    ``intervals`` says how 95 % intervals are shown. CSV always holds them, with unrounded figures in the units of the result
    files.
    """
    if fmt == "csv":
        return csv_text(sections)
    return {"markdown": markdown, "latex": latex, "html": html}[fmt](sections, intervals)
