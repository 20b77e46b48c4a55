"""Which ranks a model may hold, given that other patients could have been tested."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from .clusters import Floats
from .resampling import LEVEL

Ranks = npt.NDArray[np.int64]


def rank_ranges(means: Floats, higher_is_better: bool = True, level: float = LEVEL) -> tuple[Ranks, Ranks]:
    """The best and the worst rank of each model, [models] each, from 1, over paired resamples.

    ``means`` is [resamples, models], a resample's figures side by side (:func:`.resampling.resampled_means` of one column per
    model). The models are ranked in each resample; the range holds the ranks between the tails of ``level`` (Goldstein and
    Spiegelhalter 1996; Wiesenfarth et al. 2021). Tied models share all ranks that they take up: two that are first in every
    resample have the range 1 to 2. Figures are tied when they are equal up to rounding (1e-12 of the largest). A resample in
    which a model has no figure is left out.

    A range is of one model at a time, not simultaneous for all. Raises :class:`ValueError` when no resample has figures of
    all models: leave out those without figures.
    """
    means = np.asarray(means, dtype=np.float64)
    complete = means[~np.isnan(means).any(axis=1)]
    models = means.shape[1]
    if not models:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if not len(complete):
        raise ValueError("no resample has a figure of every model to rank")
    worse_last = -complete if higher_is_better else complete
    step = 1e-12 * np.abs(worse_last).max()
    tied = np.round(worse_last / step) if step > 0 else worse_last
    tail = (1 - level) / 2
    best = np.quantile(rankdata(tied, method="min", axis=1), tail, axis=0, method="inverted_cdf")
    # Counted from the last place, so that the range of the reversed order is the reversed range.
    worst = models + 1 - np.quantile(rankdata(-tied, method="min", axis=1), tail, axis=0, method="inverted_cdf")
    return best.astype(np.int64), worst.astype(np.int64)
