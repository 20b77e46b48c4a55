"""Is a mean change different from 0? A permutation test that keeps the sentences of a patient together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .clusters import Floats, Names, totals

FLIPS = 9999


def sign_flip(values: Floats, clusters: Names, seed: int, flips: int = FLIPS) -> Floats:
    """Two-sided p-values, [columns], of "the mean of the column is 0", from flipping the signs of whole clusters.

    ``values`` is [rows, columns] of paired differences (a delta, or candidate − base), NaN for "not defined"; ``clusters``
    names each row's cluster. Under the null a cluster's sum is as likely as its negative (Fisher 1935; for means of few
    heterogeneous clusters, Canay, Romano and Shaikh, Econometrica 2017). p is the share of sign patterns whose mean is at
    least as far from 0 as the one observed, ties included: of all patterns where there are no more than ``flips`` + 1 that
    differ in more than the sign of the mean (up to 14 clusters by default), otherwise (b + 1) / (flips + 1) for b of
    ``flips`` random ones (Phipson and Smyth 2010), so never 0.

    The flips depend on the seed and the set of cluster names only: columns are paired. NaN where fewer than ``MIN_CLUSTERS``
    clusters have a defined value, and for a column with an infinite value; 1 for a column of zeros.
    """
    by_cluster = totals(values, clusters)
    p = np.full(by_cluster.sums.shape[1], np.nan)
    valid = by_cluster.usable
    few = valid & (by_cluster.clusters - 1 <= np.log2(flips + 1))
    for column in np.flatnonzero(few):
        p[column] = _exact(by_cluster.sums[by_cluster.counts[:, column] > 0, column])
    many = valid & ~few
    if many.any():
        sums = by_cluster.sums[:, many]
        reached = np.zeros(sums.shape[1])
        for signs in _signs(len(sums), seed, flips):
            reached += _as_far(signs, sums)
        p[many] = (reached + 1) / (flips + 1)
    return p


def _exact(sums: Floats) -> float:
    """Over all sign patterns of the sums [clusters], of which those that keep the last sign stand for the rest, too."""
    patterns = np.arange(2 ** (len(sums) - 1))[:, None] >> np.arange(len(sums)) & 1
    signs = (1 - 2 * patterns).astype(np.float64)
    return float(_as_far(signs, sums[:, None])[0]) / len(signs)


def _as_far(signs: Floats, sums: Floats) -> Floats:
    """How many sign patterns [patterns, clusters] bring each column's total at least as far from 0 as it is."""
    # The same total added up in another order may be smaller in its last digits.
    rounding = 1e-12 * np.abs(sums).sum(0)
    return np.asarray((np.abs(signs @ sums) >= np.abs(sums.sum(0)) - rounding).sum(0), dtype=np.float64)


_BLOCK = 500


def _signs(clusters: int, seed: int, flips: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    for start in range(0, flips, _BLOCK):
        bits = rng.integers(2, size=(min(_BLOCK, flips - start), clusters), dtype=np.int8)
        yield (1 - 2 * bits).astype(np.float64)
