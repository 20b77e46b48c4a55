"""Exact pixel-ranking metrics: how well a saliency map ranks the pixels inside a mask above those outside.

A map is ranked once (:func:`rank`), on its device, and then scored against any number of masks (:func:`score`) on
the host, from the places that a mask's pixels have in the ranking (:func:`places`). Pixels of equal value form a tie group; every metric depends on the groups alone, never on the order
inside one. Counts are integers and sums run in one fixed order, so the figures are the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

Ties = Literal["exact", "released"]

PERCENTS = (5, 10, 20, 30)


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """The pixels of one map in ascending order of value.

    ``order`` [n] holds pixel indices, ascending within a tie group; ``group`` [n] the tie group at each place of the
    order; ``starts`` [groups + 1] the place where each group begins, closed by n; ``keys`` [n] integers that order as the
    values do.
    """

    order: npt.NDArray[np.int64]
    group: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int32] | npt.NDArray[np.int64]

    def values(self) -> npt.NDArray[np.floating]:
        """The values at each place, ascending: float64 [n] where the map was that, else float32; zeros have no sign."""
        keys = self.keys
        if keys[0] < 0:
            keys = np.where(keys < 0, np.iinfo(keys.dtype).min - keys, keys)
        return keys.view(np.float64 if keys.dtype == np.int64 else np.float32)

    def tied_with(self, place: int) -> tuple[int, int]:
        """The tie group (start, end) that holds a place of the order."""
        group = int(self.group[place])
        return int(self.starts[group]), int(self.starts[group + 1])


def rank(pixels: torch.Tensor) -> Ranking:
    """Rank the pixels of one map: floating point [n], n ≥ 1, on any device; any values but NaN.

    -0.0 ties with 0.0; subnormal numbers are told apart; -inf ranks last. Raises ``ValueError`` for another shape
    and for NaN.
    """
    if pixels.ndim != 1 or not len(pixels) or not pixels.is_floating_point():
        raise ValueError(f"pixels must be floating point [n], not {pixels.dtype} {list(pixels.shape)}")
    ordered, order = torch.sort(_sort_keys(pixels.detach()), stable=True)
    keys = ordered.cpu().numpy()
    infinity = (np.float64 if keys.dtype == np.int64 else np.float32)(math.inf).view(keys.dtype)
    if keys[-1] > infinity or keys[0] < -infinity:
        raise ValueError("pixels must not be NaN")
    changed = keys[1:] != keys[:-1]
    group = np.empty(len(keys), np.int32)
    group[0] = 0
    np.cumsum(changed, out=group[1:])
    return Ranking(order.cpu().numpy(), group, _bounds(changed), keys)


def places(ranking: Ranking, mask: torch.Tensor | npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The places that the pixels of a mask (bool [n], true inside the boxes) have in a ranking, ascending: [positives].

    Raises ``ValueError`` for a mask of another shape or dtype.
    """
    inside = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    n = len(ranking.order)
    if inside.shape != (n,) or inside.dtype != np.bool_:
        raise ValueError(f"mask must be bool [{n}], not {inside.dtype} {list(inside.shape)}")
    return np.flatnonzero(inside.take(ranking.order))


def score(
    ranking: Ranking,
    mask: torch.Tensor | npt.NDArray[np.bool_],
    ties: Ties = "exact",
    percents: Sequence[int] = PERCENTS,
) -> dict[str, float]:
    """Score a ranked map against one mask (bool [n], true inside the boxes): :func:`score_places` of its places."""
    return score_places(ranking, places(ranking, mask), ties, percents)


def score_places(
    ranking: Ranking, hits: npt.NDArray[np.int64], ties: Ties = "exact", percents: Sequence[int] = PERCENTS
) -> dict[str, float]:
    """Score a ranked map against the :func:`places` of a mask's pixels.

    Returns ``auroc``, ``average_precision``, and for each of ``percents`` p (0 < p < 100) ``precision@p``,
    ``recall@p``, ``f1@p`` and ``iou@p``, then ``average_precision_normalized`` and ``relevance_rank_accuracy``; all are at
    most 1. With P positive pixels of n:

    * ``auroc``: the chance that a positive pixel outranks a negative one, ties counting one half (Mann–Whitney).
    * ``average_precision``: Σ (R_i - R_(i-1)) · precision_i over the tie groups from the top, without interpolation.
    * top p %, ``ties="exact"``: the k = max(1, ⌊n · p / 100⌋) highest pixels; pixels tied at the boundary are in by
      equal shares, so that TP is the expectation over all ways to break the tie. precision = TP / k,
      recall = TP / P, f1 = 2 TP / (k + P), iou = TP / (k + P - TP).
    * top p %, ``ties="released"``, as the released code of "That's the Wrong Lung!" computes it: t is the largest of
      the n - k lowest values, k = ⌊n · p / 100⌋; precision, recall and F1 take the pixels ≥ t, IoU those > t.
    * ``average_precision_normalized``: (average precision - P / n) / (1 - P / n).
    * ``relevance_rank_accuracy``: precision (and recall) of the P highest pixels, ties at the boundary by equal shares.

    NaN is undefined: everything without a positive pixel, ``auroc`` and ``average_precision_normalized`` without a
    negative one.
    """
    if not all(0 < p < 100 for p in percents):
        raise ValueError(f"percents must lie between 0 and 100: {list(percents)}")
    auroc, average_precision = _areas(ranking, hits) if len(hits) else (math.nan, math.nan)
    scores = {"auroc": auroc, "average_precision": average_precision}
    for p in percents:
        measures = _top(ranking, hits, ties, p) if len(hits) else (math.nan,) * 4
        scores[f"precision@{p}"], scores[f"recall@{p}"], scores[f"f1@{p}"], scores[f"iou@{p}"] = measures
    prevalence = len(hits) / len(ranking.order)
    beyond_chance = average_precision - prevalence
    scores["average_precision_normalized"] = beyond_chance / (1 - prevalence) if prevalence < 1 else math.nan
    scores["relevance_rank_accuracy"] = _expected(ranking, hits, len(hits)) / len(hits) if len(hits) else math.nan
    return scores


def _sort_keys(pixels: torch.Tensor) -> torch.Tensor:
    """Integers that order as the values do: the bits of a float, read as an integer, with negative ones mirrored.

    Integers because PyTorch sorts them by radix, several times faster than floats.
    """
    bits = pixels.view(torch.int64) if pixels.dtype == torch.float64 else pixels.float().view(torch.int32)
    if int(bits.min()) >= 0:
        return bits
    return torch.where(bits < 0, torch.iinfo(bits.dtype).min - bits, bits)


def _bounds(changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where runs of equal values begin, closed by the number of values; ``changed`` [n - 1] says value i + 1 ≠ i."""
    inner = np.flatnonzero(changed)
    bounds = np.empty(len(inner) + 2, np.int64)
    bounds[0], bounds[-1] = 0, len(changed) + 1
    np.add(inner, 1, out=bounds[1:-1])
    return bounds


def _areas(ranking: Ranking, hits: npt.NDArray[np.int64]) -> tuple[float, float]:
    """AUROC and average precision from the places of the positive pixels, ascending."""
    n, positives = len(ranking.order), len(hits)
    groups = ranking.group.take(hits)
    # Everything below is per tie group that holds a positive; `first` counts the positives ranked below the group.
    bounds = _bounds(groups[1:] != groups[:-1])
    first = bounds[:-1]
    count = bounds[1:] - first
    held = groups.take(first)
    start, end = ranking.starts.take(held), ranking.starts[1:].take(held)
    # Twice the Mann-Whitney U: a positive beats `start` pixels and ties with `end - start`, positives included.
    twice_u = int((count * (start + end)).sum()) - positives**2
    negatives = n - positives
    auroc = twice_u / (2 * positives * negatives) if negatives else math.nan
    precision_weighted = count * (positives - first) / (n - start)
    return auroc, float(precision_weighted.sum()) / positives


def _top(ranking: Ranking, hits: npt.NDArray[np.int64], ties: Ties, percent: int) -> tuple[float, float, float, float]:
    """Precision, recall, F1 and IoU of the top pixels, from the places of the positive pixels, ascending."""
    n, positives = len(ranking.order), len(hits)
    k = n * percent // 100
    if ties == "exact":
        size = iou_size = max(1, k)
        tp = iou_tp = _expected(ranking, hits, size)
    else:
        start, end = ranking.tied_with(n - k - 1)
        below_start, below_end = hits.searchsorted((start, end)).tolist()
        tp, size = positives - below_start, n - start
        iou_tp, iou_size = positives - below_end, n - end
    return tp / size, tp / positives, 2 * tp / (size + positives), iou_tp / (iou_size + positives - iou_tp)


def _expected(ranking: Ranking, hits: npt.NDArray[np.int64], k: int) -> float:
    """How many of the k highest pixels are positive, the pixels tied at the boundary being in by equal shares."""
    n, positives = len(ranking.order), len(hits)
    start, end = ranking.tied_with(n - k)
    below_start, below_end = hits.searchsorted((start, end)).tolist()
    above, tied = positives - below_end, below_end - below_start
    return float(above + (k - (n - end)) / (end - start) * tied)
