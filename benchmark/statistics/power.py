"""How small a change these data could have shown."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from .clusters import Floats, Names, totals
from .resampling import LEVEL

POWER = 0.8


def standard_errors(values: Floats, clusters: Names) -> Floats:
    """Cluster-robust standard errors of the means of the columns, [columns].

    ``values`` is [rows, columns], NaN for "not defined"; ``clusters`` names each row's cluster. For G clusters with sums s and
    counts n of defined values, and the mean m = Σs / Σn, the error is √(G / (G − 1) · Σ(s − n·m)²) / Σn (Liang and Zeger 1986;
    Miller, "Adding error bars to evals", 2024). NaN where fewer than ``MIN_CLUSTERS`` clusters have a defined value, or a value
    is infinite.
    """
    return _errors(values, clusters)[0]


def minimum_detectable_effect(values: Floats, clusters: Names, power: float = POWER, level: float = LEVEL) -> Floats:
    """The true mean that a test at 1 − ``level`` would find with probability ``power``, for data like these, [columns].

    ``values`` holds paired differences, [rows, columns]. The effect is (t(1 − α/2) + t(power)) · standard error, with the
    quantiles of Student's t with G − 1 degrees of freedom (Bloom, Evaluation Review 1995). In the units of the values; NaN
    where :func:`standard_errors` is.
    """
    errors, degrees = _errors(values, clusters)
    return np.asarray((t.ppf((1 + level) / 2, degrees) + t.ppf(power, degrees)) * errors, dtype=np.float64)


def _errors(values: Floats, clusters: Names) -> tuple[Floats, Floats]:
    """Standard errors and degrees of freedom, [columns] each."""
    by_cluster = totals(values, clusters)
    groups = np.where(by_cluster.usable, by_cluster.clusters, np.nan)
    deviations = by_cluster.sums - by_cluster.counts * by_cluster.means
    squares = np.where(by_cluster.counts > 0, deviations**2, 0.0).sum(0)
    degrees = groups - 1
    return np.sqrt(groups / degrees * squares) / np.maximum(by_cluster.counts.sum(0), 1), degrees
