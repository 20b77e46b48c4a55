"""The paper's figures as lines of a leaderboard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files

from .columns import Column
from .sections import Figure, Line

PUBLISHED_DATASET = "Chest ImaGenome gold"
PUBLISHED_NAMES = {
    "gloria": "GLoRIA",
    "retrained": "GLoRIA retrained",
    "retrained-abnormal": "GLoRIA retrained, abnormal",
    "retrained-masking": "GLoRIA retrained, masking",
    "retrained-randsent": "GLoRIA retrained, random sentences",
}
PUBLISHED_PERTURBATIONS = ("swap_left_right", "shuffle_boxes", "random_sentences", "random_boxes", "swap_conditions")

_PUBLISHED_METRICS = {
    "attention_entropy_nats": ("entropy", 1.0),
    "random_attention_kl_x100": ("random_attention_kl", 0.01),
}


def published_figures() -> dict[tuple[str, str, str, str, bool], float]:
    """The paper's figures by (model, task, subset, metric, is a delta), in the units of the result files."""
    figures = {}
    text = (files(__package__) / "published" / "wrong_lung_2022.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        base = "original" if row["sentences"] == "original" else "synthetic"
        task = base if row["perturbation"] == "none" else row["perturbation"]
        delta = row["metric"].startswith("delta_")
        name = row["metric"].removeprefix("delta_")
        if name.startswith("pearson("):
            continue
        metric, unit = _PUBLISHED_METRICS.get(name, (name, 0.01))
        figures[row["model"], task, row["subset"], metric, delta] = float(row["value"]) * unit
    return figures


def published_lines(subset: str, columns: Sequence[Column]) -> list[Line]:
    """The paper's models that have a figure in these columns, in its order."""
    figures = published_figures()
    lines = []
    for model, label in PUBLISHED_NAMES.items():
        row = {
            column.key: None if value is None else Figure(value)
            for column in columns
            for value in [figures.get((model, column.task, subset, column.metric, column.delta))]
        }
        if any(row.values()):
            lines.append(Line(label, True, row))
    return lines
