"""Overlap of a mask with the pixels above fixed thresholds: IoU and Dice averaged over thresholds, as the BioViL line does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from .ranking import Ranking

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def cuts(ranking: Ranking, scale: Literal["minmax", "clamp"]) -> list[int]:
    """For each of ``THRESHOLDS`` t the place in the order from which on values exceed it; n where none does.

    ``"minmax"`` puts t between the map's least and largest value, at low + t · (high - low) in float64; a constant map has no
    value above it. ``"clamp"`` takes the values as they are; that negative ones are raised to 0 changes nothing above t > 0.
    Pixels of -inf, which the model never saw, exceed no threshold and are not the least value.
    """
    values = ranking.values()
    thresholds = np.array(THRESHOLDS)
    if scale == "minmax":
        seen = int(ranking.starts[1]) if values[0] == -math.inf else 0
        low, high = (float(values[seen]), float(values[-1])) if seen < len(values) else (0.0, 0.0)
        if low == high:
            return [len(values)] * len(THRESHOLDS)
        thresholds = low + thresholds * (high - low)
    # Rounded down to the values' own type, so that the comparison is exact and the values need no copy.
    rounded = thresholds.astype(values.dtype)
    rounded = np.where(rounded > thresholds, np.nextafter(rounded, -np.inf, dtype=values.dtype), rounded)
    places: list[int] = values.searchsorted(rounded, side="right").tolist()
    return places


def overlaps(cut: Sequence[int], hits: npt.NDArray[np.int64], n: int) -> tuple[float, float]:
    """Mean IoU and mean Dice over thresholds, in [0, 1].

    ``cut`` are the :func:`cuts` of a map of ``n`` pixels and ``hits`` the :func:`.ranking.places` of a mask's pixels. NaN
    for a mask without pixels.
    """
    positives = len(hits)
    if not positives:
        return math.nan, math.nan
    chosen = [n - place for place in cut]
    common = [positives - below for below in hits.searchsorted(cut).tolist()]
    iou = [both / (size + positives - both) for size, both in zip(chosen, common, strict=True)]
    dice = [2 * both / (size + positives) for size, both in zip(chosen, common, strict=True)]
    return math.fsum(iou) / len(cut), math.fsum(dice) / len(cut)
