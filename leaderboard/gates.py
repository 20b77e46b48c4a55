"""Gates: which cells may not get worse, by how much, and what is said of each."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..benchmark.cells import Cell, cells_of
from ..benchmark.errors import WronglungError, explain
from ..benchmark.metrics.catalogue import known_metric
from ..benchmark.results import RunResults
from ..benchmark.safe_yaml import read_yaml
from ..tasks.schema import SuiteSpec
from .gate_text import cell_text, parse_fail_on

Better: TypeAlias = Literal["higher", "lower"]

ALL_SUBSETS = "*"
DEFAULT_METRICS = ("auroc", "average_precision")
"""Gated by default, beside the headline measures; the first one's delta, too."""

_Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class GateRule(BaseModel):
    """One entry of a gate file: a rule for a cell, or for the cells of all subsets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    task: str = "original"
    subset: str = "all"
    """A subset, or ``"*"`` for each of the run."""
    delta: bool = False
    """Of the change under the task's perturbation, not of the value."""
    margin: _Share | None = None
    """How much worse is still good enough, in the metric's units; by default the metric's own margin."""
    relative: _Share | None = None
    """The same as a share of the base's figure; beside ``margin``, the larger of the two holds."""
    better: Better | None = None
    """Which way is better; by default the metric's direction, and for a delta what the task expects."""
    at_least: _Finite | None = None
    """The candidate's figure must reach this, whatever the base's is."""
    at_most: _Finite | None = None
    """The candidate's figure must not pass this, whatever the base's is."""
    inconclusive: Literal["warn", "fail"] = "warn"
    """What becomes of a gate that the data can neither pass nor fail."""


class _GateFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    gates: list[GateRule]

    @field_validator("gates")
    @classmethod
    def _some(cls, gates: list[GateRule]) -> list[GateRule]:
        if not gates:
            raise ValueError("is empty")
        return gates


@dataclass(frozen=True)
class Gate:
    """A rule for one cell. ``better`` is None where only limits (``at_least``, ``at_most``) are asked."""

    cell: Cell
    better: Better | None
    margin: float | None
    relative: float | None
    at_least: float | None
    at_most: float | None
    inconclusive: Literal["warn", "fail"]
    optional: bool
    """Whether it comes of a rule for every subset, and so says nothing where a subset is empty."""

    def margin_for(self, base: float) -> float | None:
        """How much worse than the base's figure is good enough, in the metric's units; None where no change is judged."""
        share = None if self.relative is None else self.relative * abs(base)
        return max((one for one in (self.margin, share) if one is not None), default=None)


def read_gates(path: Path) -> tuple[GateRule, ...]:
    """The rules of a gate file: YAML, a list under ``gates``.

    Raises :class:`WronglungError` citing the file and key of what is wrong.
    """
    try:
        return tuple(_GateFile.model_validate(read_yaml(path)).gates)
    except ValidationError as error:
        raise WronglungError(f"{path}: {explain(error)}") from error


def fail_on_rule(text: str, metrics: Collection[str]) -> GateRule:
    """The rule of ``METRIC[@TASK[/SUBSET]]:THRESHOLD``, with the defaults of :class:`GateRule` for what is left out.

    The threshold's sign says which way is worse (``-0.02``: fail on a fall by more than 0.02) and "%" that it is a share of
    the base's figure; ``Δ`` or ``delta:`` before the metric means its delta. ``metrics`` are those of the run. Raises
    :class:`WronglungError` for anything else.
    """
    address, threshold = parse_fail_on(text, metrics)
    rule: dict[str, object] = {
        "metric": address.metric,
        "task": address.task,
        "subset": address.subset,
        "delta": address.delta,
        "relative" if threshold.is_share else "margin": threshold.amount,
        "better": {1: "lower", 0: None, -1: "higher"}[threshold.sign],
    }
    return GateRule.model_validate({key: value for key, value in rule.items() if value is not None})


def default_rules(run: RunResults) -> tuple[GateRule, ...]:
    """What is gated when nothing else is said.

    On each unperturbed task of original sentences and every subset the values of ``DEFAULT_METRICS`` and the headline
    measures, and the delta of AUROC under every perturbation that should make localization fall: both with the
    metric's own margin. Metrics without one, or without a direction, are not gated.
    """
    suite = SuiteSpec.model_validate(run.suite, context={"recorded": True})
    there = {(cell.task, cell.metric, cell.delta) for cell in cells_of(run)}
    known = [(name, known_metric(name)) for name in dict.fromkeys(one.metric for one in run.scores)]
    gated = [
        name
        for name, metric in known
        if metric is not None and metric.margin is not None and metric.higher_is_better is not None
        if metric.headline or name in DEFAULT_METRICS
    ]
    rules = []
    for task in suite.tasks:
        if task.perturbation is None and task.sentences.name == "original":
            values = [name for name in gated if (task.name, name, False) in there]
            rules += [GateRule(metric=name, task=task.name, subset=ALL_SUBSETS) for name in values]
    for task in suite.tasks:
        if task.expected == "decrease" and (task.name, DEFAULT_METRICS[0], True) in there:
            rules.append(GateRule(metric=DEFAULT_METRICS[0], task=task.name, subset=ALL_SUBSETS, delta=True))
    return tuple(rules)


def resolve(rules: Sequence[GateRule], run: RunResults) -> list[Gate]:
    """The gates of rules on the cells of a run, in their order.

    Raises :class:`WronglungError` for a cell that the run does not have, for a rule without a margin or a direction, and for thresholds
    outside the metric's range.
    """
    return [gate for rule in rules for gate in _gates(rule, run)]


def own_margin(metric: str) -> float | None:
    """The smallest change of a metric that counts, in its units; None for a metric of a package that is not installed."""
    found = known_metric(metric)
    return None if found is None else found.margin


def _gates(rule: GateRule, run: RunResults) -> list[Gate]:
    subsets = dict.fromkeys(one.subset for one in run.scores)
    chosen = subsets if rule.subset == ALL_SUBSETS else [rule.subset]
    return [_gate(rule, Cell(rule.task, subset, rule.metric, rule.delta), run) for subset in chosen]


def _gate(rule: GateRule, cell: Cell, run: RunResults) -> Gate:
    where = f"gate {cell_text(cell)}"
    _require(cell, run, where)
    known = _direction(cell, run)
    if rule.better is not None and known is not None and rule.better != known:
        raise WronglungError(
            f"{where}: {known} is better here, so a change for the worse is {_WORSE[known]}; "
            "turn the sign of the threshold round (in a gate file, leave better out)"
        )
    given = rule.margin is not None or rule.relative is not None
    limited = rule.at_least is not None or rule.at_most is not None
    better = rule.better or known
    margin = rule.margin if given else own_margin(cell.metric)
    if not given and (margin is None or better is None) and limited:
        better = margin = None
    elif not given and margin is None:
        raise WronglungError(f"{where}: the metric has no margin of its own; give one")
    elif better is None:
        raise WronglungError(
            f"{where}: which way is better is not known here; say it in a gate file with better: higher"
        )
    _require_within_range(rule, margin, cell, where)
    return Gate(
        cell, better, margin, rule.relative, rule.at_least, rule.at_most, rule.inconclusive, rule.subset == ALL_SUBSETS
    )


def _require_within_range(rule: GateRule, margin: float | None, cell: Cell, where: str) -> None:
    """Refuse thresholds that no figure can reach, such as 2 for two points: they would gate nothing."""
    metric = known_metric(cell.metric)
    if metric is None or not math.isfinite(metric.range[1] - metric.range[0]):
        return
    low, high = metric.range
    width = high - low
    if rule.relative is not None and rule.relative >= 1:
        raise WronglungError(f"{where}: a change by {rule.relative:g} times the base lets everything pass; 0.05 is 5 %")
    if margin is not None and margin >= width:
        raise WronglungError(
            f"{where}: the metric lies between {low:g} and {high:g}, so a margin of {margin:g} lets everything pass; "
            "give it in the metric's units: 0.02 is two points"
        )
    least, most = (-width, width) if cell.delta else (low, high)
    for key, limit in (("at_least", rule.at_least), ("at_most", rule.at_most)):
        if limit is not None and not least <= limit <= most:
            raise WronglungError(f"{where}: {key} must lie between {least:g} and {most:g}, not {limit:g}")


_WORSE = {"higher": "negative", "lower": "positive"}


def _direction(cell: Cell, run: RunResults) -> Better | None:
    """Which way a cell is better: as its metric says; a delta the other way, where its task should make localization fall."""
    higher = next(one.higher_is_better for one in run.scores if one.metric == cell.metric)
    if higher is None:
        return None
    if cell.delta:
        if next(task["expected"] for task in run.suite["tasks"] if task["name"] == cell.task) != "decrease":
            return None
        higher = not higher
    return "higher" if higher else "lower"


def _require(cell: Cell, run: RunResults, where: str) -> None:
    if cell in set(cells_of(run)):
        return
    for what, name, known in (
        ("task", cell.task, [one.task for one in run.scores]),
        ("subset", cell.subset, [one.subset for one in run.scores]),
        ("metric", cell.metric, [one.metric for one in run.scores if one.task == cell.task]),
    ):
        if name not in known:
            there = ", ".join(dict.fromkeys(known))
            raise WronglungError(f"{where}: {run.model['name']} has no {what} {name!r} here; there are {there}")
    raise WronglungError(f"{where}: has no delta; only perturbations have, of metrics of one sentence")
