"""A leaderboard for programs: CSV with a row per model, and a tidy table with a row per model and cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from .published_rows import PUBLISHED_DATASET
from .sections import Line, Section

if TYPE_CHECKING:
    import pandas as pd


def csv_text(sections: Sequence[Section]) -> str:
    """A row per model and subset, with unrounded figures in the units of the result files and their intervals."""
    text = io.StringIO()
    keys = list(dict.fromkeys(column.key for section in sections for column in section.columns))
    writer = csv.writer(text, lineterminator="\n")
    names = [name for key in keys for name in (key, f"{key}.low", f"{key}.high")]
    writer.writerow([*_COMMON, *names])
    for section in sections:
        for line in section.lines:
            figures = [line.figures.get(key) or (None, None, None) for key in keys]
            writer.writerow([*_common(section, line), *(number for figure in figures for number in figure[:3])])
    return text.getvalue().rstrip("\n")


def tidy(sections: Sequence[Section]) -> pd.DataFrame:
    """A row per model, subset and shown cell; figures are unrounded, in the units of the result files.

    ``value``, ``low`` and ``high`` are float64, null where there is none; ``n`` counts the instances behind a value, null for
    deltas and published figures; ``rank_best`` and ``rank_worst`` are null for what is not ranked. ``best``: the best of the
    ranked models in this cell, or not distinguishable from it. docs/leaderboard.md describes every column.
    """
    import pandas as pd

    rows = []
    for section in sections:
        for line in section.lines:
            for column in section.columns:
                value, low, high, n = line.figures.get(column.key) or (None, None, None, None)
                cell = (column.task, column.metric, column.delta, value, low, high, n, column.higher_is_better)
                rows.append((*_common(section, line), *cell, column.key in line.best))
    frame = pd.DataFrame(rows, columns=[*_COMMON, *_CELL])
    return frame.astype({name: kind for name, kind in _TYPES.items() if name in frame})


_COMMON = (
    "dataset", "suite", "subset", "n_instances", "n_patients", "model", "source", "role", "rank_best", "rank_worst", "misses",
)  # fmt: skip
_CELL = ("task", "metric", "delta", "value", "low", "high", "n", "higher_is_better", "best")
_TYPES = {
    **dict.fromkeys(("dataset", "suite", "subset", "model", "source", "role", "misses", "task", "metric"), "string"),
    **dict.fromkeys(("n_instances", "n_patients", "rank_best", "rank_worst", "n"), "Int64"),
    **dict.fromkeys(("value", "low", "high"), "float64"),
    **dict.fromkeys(("delta", "best"), "bool"),
    "higher_is_better": "boolean",
}


def _common(section: Section, line: Line) -> tuple[str | int | None, ...]:
    best, worst = line.rank[:2] if line.rank else (None, None)
    return (
        PUBLISHED_DATASET if line.published else section.dataset,
        section.suite,
        section.subset,
        PUBLISHED_INSTANCES.get(section.subset) if line.published else section.n_instances,
        None if line.published else section.n_patients,
        line.model,
        "as published, not rerun" if line.published else "run",
        line.role,
        best,
        worst,
        " ".join(line.misses),
    )
