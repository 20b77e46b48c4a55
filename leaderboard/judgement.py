"""What is said of a gate: passed, failed, or that the data cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..benchmark.statistics.resampling import MIN_CLUSTERS
from .changes import Change
from .gates import Gate

Outcome: TypeAlias = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class Judgement:
    """What is said of a gate, and why."""

    gate: Gate
    change: Change
    margin: float | None
    """How much worse was good enough, in the metric's units; None where no change is judged."""
    outcome: Outcome
    reason: str
    """Empty where the gate passed."""
    fails: bool
    """Whether the comparison fails by it: it failed, or it is inconclusive where that is not enough."""


def judge(gate: Gate, change: Change, unit: str = "patients", strict: bool = False) -> Judgement:
    """Hold a change against its gate.

    *failed*: the candidate has no value where the base has one, or its figure is beyond a limit, or it is worse (the whole
    interval lies on that side of 0) and perhaps by more than the margin (the interval reaches beyond it). *passed*: the
    interval of the change ends before the margin, which is non-inferiority at half of 1 − level. *inconclusive*: neither;
    also where there is no interval, and where the candidate has no value for instances for which the base has one. ``unit``
    is what the reasons call that which is resampled.
    """
    margin = None if change.base is None else gate.margin_for(change.base)
    outcome, reason = _outcome(gate, change, margin, unit)
    tolerated = gate.inconclusive == "warn" and not strict
    return Judgement(
        gate, change, margin, outcome, reason, outcome == "failed" or (outcome == "inconclusive" and not tolerated)
    )


def _outcome(gate: Gate, change: Change, margin: float | None, unit: str) -> tuple[Outcome, str]:
    if change.candidate is None:
        if change.base is None:
            return "inconclusive", "neither run has a value"
        return "failed", "the candidate has no value"
    if gate.at_least is not None and change.candidate < gate.at_least:
        return "failed", "under its lower limit"
    if gate.at_most is not None and change.candidate > gate.at_most:
        return "failed", "over its upper limit"
    if gate.better is not None:
        if change.base is None or margin is None:
            return "inconclusive", "the base has no value"
        if not change.n_paired:
            return "inconclusive", "no instance has a value in both runs"
        if change.low is None or change.high is None:
            few = f"{change.n_patients} {unit}, {MIN_CLUSTERS} are needed"
            return "inconclusive", f"no interval: {few if change.n_patients < MIN_CLUSTERS else 'values are infinite'}"
        # How much better, at worst and at best.
        worst, best = (change.low, change.high) if gate.better == "higher" else (-change.high, -change.low)
        if worst < -margin and best < 0:
            return "failed", f"worse{' by' if best < -margin else ', perhaps by'} more than the margin"
        if worst < -margin:
            return "inconclusive", "the interval reaches beyond the margin and across 0"
    if change.n_lost:
        return "inconclusive", f"no value any more for {change.n_lost} of {change.n_lost + change.n_paired} instances"
    return "passed", ""
