"""Exact pixel-ranking metrics: how well a saliency map ranks the pixels inside a mask above those outside.

A map is ranked once with all masks that it will be scored against (:func:`rank`), and then scored against each
(:func:`score`) in proportion to the mask's pixels. Pixels of equal value form a tie group; every metric depends on the groups alone,
never on the order inside one. Counts are whole numbers and sums run in one fixed order, so the figures are the same on
every machine and whether the loops are compiled (:mod:`.compiled`) or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .codes import MOST_MASKS, Codes, Keys, Mask, Pixels, keys_of, sort
from .compiled import Kernels, kernels

Ties = Literal["exact", "released"]
Places: TypeAlias = npt.NDArray[np.int64]

PERCENTS = (5, 10, 20, 30)


@dataclass(frozen=True, eq=False, slots=True)
class Hits:
    """The pixels of one mask in a ranking: their ``places`` in the order, ascending [positives].

    ``twice_u`` is twice the Mann-Whitney U, every pair of positives counting as a tie; ``precisions`` the sum over the positives of the
    precision at their tie group.
    """

    places: Places
    twice_u: int
    precisions: float


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """The pixels of one map in ascending order of value, and where in it the pixels of each of its masks are.

    ``keys`` [n] are the pixels' keys (:func:`.codes.keys_of`) in that order; where in a tie group a pixel stands is not defined.
    """

    keys: Keys
    codes: Codes
    masks: tuple[Hits, ...]

    def groups(self, places: Sequence[int]) -> tuple[Places, Places]:
        """The tie groups that hold the given places of the order: where they start, and where they end."""
        shift = self.keys.dtype.type(len(self.masks))
        lowest = self.keys.take(places) >> shift << shift
        highest = lowest | self.keys.dtype.type((1 << len(self.masks)) - 1)
        return self.keys.searchsorted(lowest), self.keys.searchsorted(highest, side="right")

    def exceeding(self, thresholds: Sequence[float]) -> Places:
        """For each threshold the place from which on values exceed it; n where none does."""
        codes = self.codes.exceeding(thresholds).astype(self.keys.dtype)
        keys: Keys = codes << self.keys.dtype.type(len(self.masks))
        return self.keys.searchsorted(keys)


def rank(pixels: torch.Tensor | Pixels, masks: Sequence[torch.Tensor | Mask] = ()) -> Ranking:
    """Rank the pixels of one map, floating point [n], n ≥ 1: any values but NaN; for ``masks`` bool [n], true inside the boxes.

    -0.0 ties with 0.0; subnormal numbers are told apart; -inf ranks last. Raises ``ValueError`` for another shape
    or dtype, for NaN, and for more than :data:`.codes.MOST_MASKS` masks.
    """
    values = _values(pixels)
    arrays = [_mask(mask, len(values)) for mask in masks]
    if len(arrays) > MOST_MASKS:
        raise ValueError(f"{len(arrays)} masks are more than can be ranked at once, {MOST_MASKS}")
    codes = Codes.of(values)
    keys = keys_of(codes, arrays)
    loops, count = kernels(1), len(arrays)
    if loops is None:
        keys = sort(keys)
        return Ranking(keys, codes, tuple(_hits(keys, count, at) for at in range(count)))
    keys = loops.radix_sort(keys, np.empty_like(keys), count, codes.largest.bit_length())
    return Ranking(keys, codes, tuple(_hits_compiled(loops, keys, arrays, at) for at in range(count)))


def score(ranking: Ranking, ties: Ties = "exact", percents: Sequence[int] = PERCENTS) -> list[dict[str, float]]:
    """Score a ranked map against each of the masks that it was ranked for.

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
    n = len(ranking.keys)
    # How many pixels are at the top: by percent, the same for all masks; and for each mask as many as it has.
    sizes = [n * p // 100 for p in percents]
    at = [n - k - 1 if ties == "released" else n - max(1, k) for k in sizes]
    at += [n - max(1, len(hits.places)) for hits in ranking.masks]
    boundaries = np.stack(ranking.groups(at), axis=1)
    shared, own = boundaries[: len(sizes)].reshape(-1), boundaries[len(sizes) :]
    shared_list = shared.tolist()
    scores = []
    for hits, (start, end) in zip(ranking.masks, own.tolist(), strict=True):
        positives = len(hits.places)
        if not positives:
            scores.append(dict.fromkeys(_names(tuple(percents)), math.nan))
            continue
        negatives = n - positives
        figures = [
            hits.twice_u / (2 * positives * negatives) if negatives else math.nan,
            hits.precisions / positives,
        ]
        below = hits.places.searchsorted(shared).tolist()
        for one, k in enumerate(sizes):
            tied, behind = shared_list[2 * one : 2 * one + 2]
            below_tied, below_behind = below[2 * one : 2 * one + 2]
            if ties == "exact":
                size = iou_size = max(1, k)
                tp = iou_tp = _expected(n, size, tied, behind, positives, below_tied, below_behind)
            else:
                tp, size = positives - below_tied, n - tied
                iou_tp, iou_size = positives - below_behind, n - behind
            figures += (
                tp / size,
                tp / positives,
                2 * tp / (size + positives),
                iou_tp / (iou_size + positives - iou_tp),
            )
        prevalence = positives / n
        figures.append((figures[1] - prevalence) / (1 - prevalence) if negatives else math.nan)
        below_tied, below_behind = hits.places.searchsorted((start, end)).tolist()
        figures.append(_expected(n, positives, start, end, positives, below_tied, below_behind) / positives)
        scores.append(dict(zip(_names(tuple(percents)), figures, strict=True)))
    return scores


@cache
def _names(percents: tuple[int, ...]) -> tuple[str, ...]:
    tops = (f"{measure}@{p}" for p in percents for measure in ("precision", "recall", "f1", "iou"))
    return ("auroc", "average_precision", *tops, "average_precision_normalized", "relevance_rank_accuracy")


def _expected(n: int, k: int, start: int, end: int, positives: int, below_start: int, below_end: int) -> float:
    """How many of the k highest of n pixels are positive, those tied at the boundary being in by equal shares.

    The tied ones are those from ``start`` to ``end``; there are so many positives below either.
    """
    above, tied = positives - below_end, below_end - below_start
    return above + (k - (n - end)) / (end - start) * tied


def _values(pixels: torch.Tensor | Pixels) -> Pixels:
    """On the host, contiguous, as float64 where they are that, else as float32."""
    if isinstance(pixels, torch.Tensor):
        if not pixels.is_floating_point():
            raise ValueError(f"pixels must be floating point [n], not {pixels.dtype} {list(pixels.shape)}")
        pixels = pixels.detach().cpu()
        pixels = (pixels if pixels.dtype == torch.float64 else pixels.float()).numpy()
    if pixels.ndim != 1 or not len(pixels) or pixels.dtype.kind != "f":
        raise ValueError(f"pixels must be floating point [n], not {pixels.dtype} {list(pixels.shape)}")
    return np.ascontiguousarray(pixels, np.float64 if pixels.dtype == np.float64 else np.float32)


def _mask(mask: torch.Tensor | Mask, n: int) -> Mask:
    inside = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    if inside.shape != (n,) or inside.dtype != np.bool_:
        raise ValueError(f"mask must be bool [{n}], not {inside.dtype} {list(inside.shape)}")
    return np.ascontiguousarray(inside)


def _hits(keys: Keys, masks: int, mask: int) -> Hits:
    number = keys.dtype.type
    hits = np.flatnonzero((keys & number(1 << mask)).astype(np.bool_))
    if not len(hits):
        return Hits(hits, 0, 0.0)
    codes = keys.take(hits) >> number(masks)
    # Everything below is per tie group that holds a positive; `first` counts the positives ranked below the group.
    bounds = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1], [True])))
    first, count = bounds[:-1], np.diff(bounds)
    start, end = hits.take(first), hits.take(bounds[1:] - 1) + 1
    # Most groups are no larger than their positives. The others are looked up, and those at the ends of the order, where the
    # neighbour that is looked at is the last key.
    lowest = codes.take(first) << number(masks)
    larger = np.flatnonzero(keys.take(start - 1) >= lowest)
    start[larger] = keys.searchsorted(lowest[larger])
    highest = lowest | number((1 << masks) - 1)
    larger = np.flatnonzero(keys.take(end, mode="clip") <= highest)
    end[larger] = keys.searchsorted(highest[larger], side="right")
    terms = count * (len(hits) - first) / (len(keys) - start)
    return Hits(hits, _twice_u(int((count * (start + end)).sum()), len(hits)), float(terms.sum()))


def _hits_compiled(loops: Kernels, keys: Keys, masks: Sequence[Mask], mask: int) -> Hits:
    positives = int(np.count_nonzero(masks[mask]))
    hits, terms = np.empty(positives + 1, np.int64), np.empty(positives, np.float64)
    ranks, groups = loops.positives(keys, len(masks), mask, hits, terms)
    return Hits(hits[:positives], _twice_u(ranks, positives), float(terms[:groups].sum()))


def _twice_u(ranks: int, positives: int) -> int:
    """Of the sum over the positives of start + end of their tie groups: each beats ``start`` pixels and ties with the group."""
    return ranks - positives**2
