"""Confidence intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
MIN_CLUSTERS = 10
"""Below this many patients no interval is given."""
FEW_CLUSTERS = 50
"""Below this many patients intervals of a mean are known to be unreliable."""

Floats = npt.NDArray[np.float64]


def cluster_intervals(
    values: Floats,
    clusters: Sequence[str] | npt.NDArray[np.object_],
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[Floats, Floats]:
    """Percentile intervals for the mean of each column, resampling whole clusters.

    ``values`` is [rows, columns] with NaN for "not defined"; ``clusters`` names each row's cluster (patient). Every
    column is resampled with the same clusters, so differences between columns are paired, and the resamples depend on
    the seed and the set of clusters only. Returns the low and the high ends, [columns] each, NaN where fewer than
    ``MIN_CLUSTERS`` clusters have a defined value. A resample without a defined value is left out of its column.
    """
    names, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    defined = ~np.isnan(values)
    sums = np.zeros((len(names), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index, np.where(defined, values, 0.0))
    np.add.at(counts, index, defined.astype(np.float64))
    blocks = _kept_weights if len(names) * resamples <= _KEPT else _weights
    means = np.empty((resamples, values.shape[1]))
    for start, weights in zip(range(0, resamples, _BLOCK), blocks(len(names), seed, resamples), strict=True):
        with np.errstate(invalid="ignore"):
            means[start : start + len(weights)] = (weights @ sums) / (weights @ counts)
    low, high = (np.full(values.shape[1], np.nan) for _ in range(2))
    enough = (counts > 0).sum(0) >= MIN_CLUSTERS
    if enough.any():
        tail = (1 - level) / 2
        low[enough], high[enough] = np.nanquantile(means[:, enough], (tail, 1 - tail), axis=0)
    return low, high


_BLOCK = 100
_KEPT = 2 << 20
"""Weights of at most this many numbers (16 MB) are kept: a run asks for the same ones dozens of times."""


def _weights(clusters: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each cluster is drawn in each resample, in blocks of [at most _BLOCK, clusters]."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)


@lru_cache(maxsize=2)
def _kept_weights(clusters: int, seed: int, resamples: int) -> tuple[Floats, ...]:
    return tuple(_weights(clusters, seed, resamples))
