"""Figures as a reader sees them: names, units, signs, and what an interval says of a change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...benchmark.metrics.catalogue import known_metric
from ...benchmark.results import Score
from ...benchmark.statistics.equivalence import verdict

NAMES = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "average_precision_normalized": "normalized AP",
    "cnr": "CNR",
    "miou": "mIoU",
    "random_attention_kl": "KL to random",
}
"""Where the field's name is not the metric's own."""


@dataclass(frozen=True)
class Unit:
    """How a metric's figures are printed: times ``scale``, with ``digits`` behind the point."""

    scale: int
    digits: int

    def text(self, value: float | None, *, signed: bool = False) -> str:
        """A figure, with a real minus sign; a dash for none."""
        if value is None:
            return "–"
        text = f"{value * self.scale:{'+' if signed else ''}.{self.digits}f}"
        # What only rounds to zero has no sign.
        return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")

    def interval(self, low: float | None, high: float | None, *, signed: bool = False) -> str:
        if low is None or high is None:
            return ""
        return f"[{self.text(low, signed=signed)}, {self.text(high, signed=signed)}]"


def unit(metric: str) -> Unit:
    """Fractions times 100, anything else in its own units."""
    found = known_metric(metric)
    return Unit(100, 1) if found is not None and found.percent else Unit(1, 3)


def name(metric: str) -> str:
    """A metric's name in print."""
    return NAMES.get(metric) or metric.replace("_", " ").replace("iou@", "IoU@").replace("f1@", "F1@")


class Change(NamedTuple):
    """What an interval says of a change: a ``word``, and whether that is what a model that reads the text does."""

    word: str
    expected: str


def change(score: Score, expected: str) -> Change | None:
    """The verdict on a cell's delta; None where there is no delta, no interval, or no margin to hold it against.

    ``expected`` is the task's: "decrease", "unchanged" or "report", which expects nothing.
    """
    found = known_metric(score.metric)
    if score.delta is None or found is None or found.margin is None:
        return None
    if score.n_changed == 0:
        return Change("not tested", "the perturbation changes no instance here")
    said = verdict(score.delta_ci_low, score.delta_ci_high, found.margin)
    if said is None:
        return None
    word = {"equivalent": "did not move", "inconclusive": "open"}.get(said) or ("fell" if score.delta < 0 else "rose")
    wanted = {"decrease": "fell", "unchanged": "did not move"}.get(expected)
    if wanted is None or word == "open" or not found.higher_is_better:
        return Change(word, "")
    if word == wanted:
        return Change(word, "as it should")
    return Change(word, "although it should fall" if wanted == "fell" else "although it should not move")
