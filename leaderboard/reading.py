"""One sentence a model: does its map lie on the right lung, and does it move when the sentence says the other one?

The rules look at one subset, ``one_lung``, and at 95 % intervals from resampling patients, in points (AUROC times 100):

* *flat*: the entropy is at least 99 % of its maximum and the divergence between the maps of the true and of a random
  sentence is under 0.02 nats. Nothing else is said of a flat map.
* *localizes*: the interval of AUROC lies above 50; *below chance*: under 50; otherwise *does not localize*.
* *ignores left and right*: the interval of the change under ``swap_left_right`` lies within ±2 points. This is an
  equivalence test at a level of 2.5 %, not the absence of a significant change.
* *moves*: that interval lies under -2 points. *Prefers the other side*: above 2 points.
* *open*: that interval reaches across one of the margins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..benchmark.results import RunResults, Score
from ..benchmark.statistics import equivalence

SUBSET = "one_lung"
SWAP = "swap_left_right"
MARGIN = 0.02
"""Of AUROC: a smaller change is none."""
CHANCE = 0.5
FLAT_ENTROPY = 0.99
"""Of its maximum, the logarithm of the number of regions."""
FLAT_DIVERGENCE = 0.02
"""Nats."""

Verdict = Literal["flat", "ignores", "moves", "prefers the other side", "open", "unknown"]


@dataclass(frozen=True)
class Reading:
    """What the rules of this module say of a run, as a word and as a sentence with the figures behind it."""

    model: str
    verdict: Verdict
    text: str


def read(run: RunResults, regions: int | None = None) -> Reading:
    """Read a run.

    ``regions`` is the number of regions of the model's maps, with one more for a no-attention vector; without it, no
    map is called flat. ``unknown``: the run has no ``swap_left_right`` on one lung, or too few patients for an interval.
    """
    name = str(run.model["name"])
    flat = None if regions is None or regions < 2 else _flat(run, math.log(regions))
    if flat is not None:
        return Reading(name, "flat", f"{name} has a flat map: {flat}")
    swapped, base = _cell(run, SWAP, "auroc"), _cell(run, "original", "auroc")
    if swapped is None:
        return Reading(name, "unknown", f"{name}: was not asked with left and right swapped on one lung")
    if swapped.delta is None or swapped.delta_ci_low is None or swapped.delta_ci_high is None:
        return Reading(name, "unknown", f"{name}: too few patients with sentences about one lung to tell")
    low, high = swapped.delta_ci_low, swapped.delta_ci_high
    where = _where(base)
    change = f"Δ {_points(swapped.delta)} points [{_points(low)}, {_points(high)}] on one lung"
    found = equivalence.verdict(low, high, MARGIN)
    if found == "equivalent":
        return Reading(name, "ignores", f"{name} {where} and ignores left and right: {change} when they are swapped")
    if found == "moved" and high < 0:
        return Reading(name, "moves", f"{name} {where} and moves when left and right are swapped: {change}")
    if found == "moved":
        text = f"{name} {where} and prefers the other side: {change} when left and right are swapped"
        return Reading(name, "prefers the other side", text)
    text = (
        f"{name} {where}; whether it moves when left and right are swapped is open: {change}, margin {_points(MARGIN)}"
    )
    return Reading(name, "open", text)


def _flat(run: RunResults, most: float) -> str | None:
    """The figures of a flat map, or None for any other."""
    entropy, divergence = _cell(run, "original", "entropy"), _cell(run, "random_sentences", "random_attention_kl")
    if entropy is None or entropy.value is None or divergence is None or divergence.value is None:
        return None
    if entropy.value < FLAT_ENTROPY * most or divergence.value >= FLAT_DIVERGENCE:
        return None
    figures = [
        f"entropy {entropy.value / most * 100:.1f} % of its maximum",
        f"KL {divergence.value:.3f} between the maps of true and random sentences",
    ]
    for kind in ("local", "global"):
        accuracy = _cell(run, "random_sentences", f"selection_accuracy_{kind}")
        if accuracy is not None and accuracy.value is not None:
            figures.append(f"{kind} selection accuracy {_points(accuracy.value)} %{_interval(accuracy)}")
    return ", ".join(figures)


def _where(base: Score | None) -> str:
    if base is None or base.value is None or base.ci_low is None or base.ci_high is None:
        return "has no AUROC with an interval"
    figure = f"(AUROC {_points(base.value)}{_interval(base)})"
    if base.ci_low > CHANCE:
        return f"localizes {figure}"
    return f"is below chance {figure}" if base.ci_high < CHANCE else f"does not localize {figure}"


def _interval(cell: Score) -> str:
    if cell.ci_low is None or cell.ci_high is None:
        return ""
    return f" [{_points(cell.ci_low)}, {_points(cell.ci_high)}]"


def _points(fraction: float) -> str:
    text = f"{fraction * 100:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _cell(run: RunResults, task: str, metric: str) -> Score | None:
    found = (one for one in run.scores if (one.task, one.subset, one.metric) == (task, SUBSET, metric))
    return next(found, None)
