"""Overlap of a mask with the pixels above fixed thresholds: IoU and Dice averaged over thresholds, as the BioViL line does."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from .ranking import Ranking

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def cuts(ranking: Ranking, pixels: npt.NDArray[np.float32], scale: Literal["minmax", "clamp"]) -> list[int]:
    """For each of ``THRESHOLDS`` the place in the order from which on pixels exceed it; n where none does.

    ``pixels`` [n] are the ranked ones. ``"minmax"`` brings the map to [0, 1] by its least and largest finite value, in
    float64; a constant map becomes 0. ``"clamp"`` takes the values as they are, negative ones raised to 0. Pixels of -inf,
    which the model never saw, exceed no threshold.
    """
    groups = len(ranking.starts) - 1

    def value(group: int) -> float:
        return float(pixels[ranking.order[ranking.starts[group]]])

    low, high = 0.0, 1.0
    if scale == "minmax":
        low, high = value(0), value(groups - 1)
        if math.isinf(low) and groups > 1:
            low = value(1)
        if low == high:
            return [len(ranking.order)] * len(THRESHOLDS)
    # Groups ascend by value, so the first one above a threshold is found by bisection.
    above = [bisect_right(range(groups), t, key=lambda group: (value(group) - low) / (high - low)) for t in THRESHOLDS]
    return ranking.starts.take(above).tolist()


def overlaps(cut: Sequence[int], hits: npt.NDArray[np.int64], n: int) -> tuple[float, float]:
    """Mean IoU and mean Dice over thresholds, in [0, 1].

    ``cut`` are the :func:`cuts` of a map of ``n`` pixels and ``hits`` the :func:`.ranking.places` of a mask's pixels. NaN
    for a mask without pixels.
    """
    positives = len(hits)
    if not positives:
        return math.nan, math.nan
    chosen = [n - place for place in cut]
    common = [positives - below for below in np.searchsorted(hits, cut).tolist()]
    iou = [both / (size + positives - both) for size, both in zip(chosen, common, strict=True)]
    dice = [2 * both / (size + positives) for size, both in zip(chosen, common, strict=True)]
    return math.fsum(iou) / len(cut), math.fsum(dice) / len(cut)
