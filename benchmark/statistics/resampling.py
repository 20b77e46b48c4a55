"""Confidence intervals by resampling whole clusters: the patients, with all their sentences."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from .clusters import MIN_CLUSTERS, Floats, Names, Totals, divided, totals

__all__ = [
    "FEW_CLUSTERS",
    "LEVEL",
    "MIN_CLUSTERS",
    "RESAMPLES",
    "Method",
    "caution",
    "cluster_intervals",
    "resampled_means",
]

RESAMPLES = 2000
LEVEL = 0.95
FEW_CLUSTERS = 50
"""Below this many patients intervals of a mean are known to be unreliable."""

Method = Literal["percentile", "bca"]


def cluster_intervals(
    values: Floats,
    clusters: Names,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    method: Method = "percentile",
) -> tuple[Floats, Floats]:
    """Bootstrap intervals for the mean of each column, resampling whole clusters.

    ``values`` is [rows, columns] with NaN for "not defined"; ``clusters`` names each row's cluster (patient). The resamples
    are those of :func:`resampled_means`: shared by all columns, so the interval of a paired difference is that of the column
    of differences. Returns the low and the high ends, [columns] each, NaN where fewer than ``MIN_CLUSTERS`` clusters have a
    defined value, and for a column with an infinite value. A resample without a defined value is left out of its column.

    ``bca`` corrects the percentiles for bias and skewness (Efron, "Better bootstrap confidence intervals", JASA 1987), the
    acceleration from leaving out each cluster in turn. A column whose resamples all lie on one side of its mean, or are
    all equal to it, has no correction and gets the percentile interval.
    """
    by_cluster = totals(values, clusters)
    low, high = np.full((2, by_cluster.sums.shape[1]), np.nan)
    enough = by_cluster.usable
    if enough.any():
        chosen = Totals(by_cluster.sums[:, enough], by_cluster.counts[:, enough])
        means = _resampled(chosen, seed, resamples)
        tails = ((1 - level) / 2, (1 + level) / 2)
        if method == "percentile":
            low[enough], high[enough] = _quantiles(means, tails)
        else:
            corrected = _bca(means, chosen, tails)
            ends = [np.nanquantile(means[:, at], corrected[:, at]) for at in range(means.shape[1])]
            low[enough], high[enough] = np.transpose(ends)
    return low, high


def resampled_means(values: Floats, clusters: Names, seed: int, resamples: int = RESAMPLES) -> Floats:
    """The mean of each column in each resample of clusters, [resamples, columns].

    NaN where a resample has no defined value, and in a column with an infinite value. Clusters are drawn with replacement,
    as many as there are. Which are drawn in a resample depends on the seed and the set of names in ``clusters`` only:
    columns, and calls for other models of the same instances, are paired resample by resample.
    """
    return _resampled(totals(values, clusters), seed, resamples)


def caution(clusters: int, unit: str = "patients") -> str | None:
    """What a reader must be told of intervals over this many clusters, in words; None if there are enough."""
    if clusters < MIN_CLUSTERS:
        return f"{clusters} {unit}; no intervals under {MIN_CLUSTERS}"
    if clusters < FEW_CLUSTERS:
        return f"{clusters} {unit}; intervals are unreliable under {FEW_CLUSTERS}"
    return None


def _quantiles(means: Floats, tails: tuple[float, float]) -> Floats:
    """``np.nanquantile`` of each column, [2, columns]; four times as fast for those that are defined in each resample."""
    ends = np.empty((2, means.shape[1]))
    whole = ~np.isnan(means).any(0)
    ends[:, whole] = np.quantile(means[:, whole], tails, axis=0)
    ends[:, ~whole] = np.nanquantile(means[:, ~whole], tails, axis=0)
    return ends


def _bca(means: Floats, by_cluster: Totals, tails: tuple[float, float]) -> Floats:
    """The probabilities, [2, columns], at which BCa reads the quantiles of the resampled means [resamples, columns]."""
    estimate = by_cluster.means
    below = np.nanmean(np.where(np.isnan(means), np.nan, (means < estimate) + 0.5 * (means == estimate)), axis=0)
    bias = ndtri(below)
    normal = ndtri(np.array(tails))[:, None]
    shifted = bias + normal
    shrink = 1 - _acceleration(by_cluster) * shifted
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = ndtr(bias + np.where(shrink > 0, shifted / shrink, np.copysign(np.inf, shifted)))
    return np.where(np.isfinite(bias), corrected, ndtr(normal))


def _acceleration(by_cluster: Totals) -> Floats:
    """Skewness of the jackknife over clusters divided by 6, [columns] (Efron 1987, equation 7.3); 0 for a constant column.

    A cluster without a defined value moves no mean and is left out.
    """
    sums, counts = by_cluster
    left_out = divided(sums.sum(0) - sums, counts.sum(0) - counts)
    used = counts > 0
    centre = np.where(used, left_out, 0.0).sum(0) / used.sum(0)
    influence = np.where(used, centre - left_out, 0.0)
    squares = (influence**2).sum(0)
    scale = 6 * squares**1.5
    return np.asarray(np.divide((influence**3).sum(0), scale, out=np.zeros_like(scale), where=scale > 0))


def _resampled(by_cluster: Totals, seed: int, resamples: int) -> Floats:
    sums, counts = by_cluster
    means = np.full((resamples, sums.shape[1]), np.nan)
    if not len(sums):
        return means
    blocks = _kept_weights if len(sums) * resamples <= _KEPT else _weights
    for start, drawn in zip(range(0, resamples, _BLOCK), blocks(len(sums), seed, resamples), strict=True):
        weights = drawn.astype(np.float64)
        means[start : start + len(weights)] = divided(weights @ sums, weights @ counts)
    return means


_BLOCK = 100
_KEPT = 64 << 20
"""Weights of at most this many numbers (64 MB, at a byte each) are kept: a run asks for the same ones dozens of times."""


def _weights(clusters: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.integer]]:
    """How often each cluster is drawn in each resample, in blocks of [at most _BLOCK, clusters], of the smallest type that holds it."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        yield drawn.astype(np.min_scalar_type(drawn.max()))


@lru_cache(maxsize=1)
def _kept_weights(clusters: int, seed: int, resamples: int) -> tuple[npt.NDArray[np.integer], ...]:
    return tuple(_weights(clusters, seed, resamples))
