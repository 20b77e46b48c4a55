"""Overlap of a mask with the pixels above fixed thresholds: IoU and Dice averaged over thresholds, as the BioViL line does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from .ranking import Hits, Ranking

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def cuts(ranking: Ranking, scale: Literal["minmax", "clamp"]) -> list[int]:
    """For each of ``THRESHOLDS`` t the place in the order from which on values exceed it; n where none does.

    ``"minmax"`` puts t between the map's least and largest value, at low + t · (high - low) in float64; a constant map has no
    value above it. ``"clamp"`` takes the values as they are; that negative ones are raised to 0 changes nothing above t > 0.
    Pixels of -inf, which the model never saw, exceed no threshold and are not the least value.
    """
    thresholds: tuple[float, ...] = THRESHOLDS
    if scale == "minmax":
        low, high = ranking.codes.range()
        if low == high:
            return [len(ranking.keys)] * len(THRESHOLDS)
        thresholds = tuple(low + one * (high - low) for one in THRESHOLDS)
    places: list[int] = ranking.exceeding(thresholds).tolist()
    return places


def overlaps(cut: Sequence[int], hits: Hits, n: int) -> tuple[float, float]:
    """Mean IoU and mean Dice over thresholds, in [0, 1].

    ``cut`` are the :func:`cuts` of a map of ``n`` pixels and ``hits`` the pixels of a mask. NaN for a mask without pixels.
    """
    positives = len(hits.places)
    if not positives:
        return math.nan, math.nan
    chosen = [n - place for place in cut]
    common = [positives - below for below in hits.places.searchsorted(cut).tolist()]
    iou = [both / (size + positives - both) for size, both in zip(chosen, common, strict=True)]
    dice = [2 * both / (size + positives) for size, both in zip(chosen, common, strict=True)]
    return math.fsum(iou) / len(cut), math.fsum(dice) / len(cut)
