"""How cells and thresholds are written in one line: ``Δauroc@swap_left_right/one_lung:0.02``."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

from ..benchmark.cells import Cell
from ..benchmark.errors import WronglungError

DELTAS = ("Δ", "delta:")


class Address(NamedTuple):
    """A cell, with None for what was not said."""

    metric: str
    delta: bool
    task: str | None
    subset: str | None


class Threshold(NamedTuple):
    """A change that is too much: ``amount`` is at least 0, ``sign`` is 0 where the amount is."""

    amount: float
    sign: int
    is_share: bool


def cell_text(cell: Cell) -> str:
    """A cell as ``METRIC@TASK/SUBSET``, with Δ before a delta."""
    return f"{'Δ' if cell.delta else ''}{cell.metric}@{cell.task}/{cell.subset}"


def parse_fail_on(text: str, metrics: Collection[str]) -> tuple[Address, Threshold]:
    """Read ``METRIC[@TASK[/SUBSET]]:THRESHOLD``; a metric's own name may hold an "@" (``iou@10``).

    Raises :class:`WronglungError` for anything else, and for a metric that is not among ``metrics``.
    """
    where = f"--fail-on {text!r}"
    cell, colon, threshold = text.strip().rpartition(":")
    if not colon or cell == "delta":
        raise WronglungError(f"{where}: write it as METRIC[@TASK[/SUBSET]]:THRESHOLD, such as auroc@original/all:-0.02")
    return _address(cell, metrics, where), _threshold(threshold, where)


def _address(text: str, metrics: Collection[str], where: str) -> Address:
    prefix = next((one for one in DELTAS if text.startswith(one)), "")
    rest, slash, subset = text.removeprefix(prefix).partition("/")
    metric, at, task = (rest, "", "") if rest in metrics else rest.rpartition("@")
    if metric not in metrics:
        raise WronglungError(f"{where}: names no metric of the run; there are {', '.join(metrics)}")
    if (at and not task) or (slash and not subset):
        raise WronglungError(f"{where}: the {'task' if at and not task else 'subset'} is empty")
    return Address(metric, bool(prefix), task or None, subset or None)


def _threshold(text: str, where: str) -> Threshold:
    number = text.strip().replace("−", "-")
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise WronglungError(f"{where}: the threshold {text!r} is not a number, such as -0.02 or -5%")
    return Threshold(abs(value), (value > 0) - (value < 0), number.endswith("%"))
