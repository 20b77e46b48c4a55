"""Sums by cluster: all that a mean over rows needs in order to be resampled, sign-flipped or given a standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = "Sequence[str] | npt.NDArray[np.object_] | Coded"
"""A cluster's name for each row, or the same as numbers."""

MIN_CLUSTERS = 10
"""Below this many clusters there is no interval, no test and no standard error."""


@dataclass(frozen=True, eq=False, slots=True)
class Coded:
    """Clusters by number, in ascending order of their names: ``index`` is each row's, in [0, ``count``)."""

    index: npt.NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, clusters: Names) -> Coded:
        """For many calls about the same rows: names are compared once."""
        if isinstance(clusters, Coded):
            return clusters
        names, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
        return cls(index, len(names))


class Totals(NamedTuple):
    """Float64 [clusters, columns] each, clusters in ascending order of their names."""

    sums: Floats
    """Of the defined values; NaN in a column with an infinite one."""
    counts: Floats
    """Of the defined values."""

    @property
    def means(self) -> Floats:
        """Of each column over all its defined values, [columns]; NaN where there is none."""
        return divided(self.sums.sum(0), self.counts.sum(0))

    @property
    def clusters(self) -> npt.NDArray[np.int_]:
        """With a defined value, [columns]."""
        return np.asarray((self.counts > 0).sum(0))

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Columns, [columns], with defined values in ``MIN_CLUSTERS`` clusters and more, none of them infinite."""
        return np.asarray((self.clusters >= MIN_CLUSTERS) & ~np.isnan(self.sums).any(0))


def totals(values: Floats, clusters: Names) -> Totals:
    """Add up the rows of each cluster.

    ``values`` is [rows, columns] with NaN for "not defined"; ``clusters`` names each row's cluster. A cluster whose values are
    all undefined stays, with a count of 0. A cluster's values are added in ascending order, so the sums are the same to the
    last bit whatever the order of the rows. Raises :class:`ValueError` where the lengths differ.
    """
    values = np.asarray(values, dtype=np.float64)
    coded = Coded.of(clusters)
    index, count = coded.index, coded.count
    if values.ndim != 2 or len(values) != len(index):
        raise ValueError(f"values {values.shape} must be [rows, columns] with a cluster for each row, not {len(index)}")
    sums, counts = np.zeros((2, count, values.shape[1]))
    for column, given in enumerate(values.T):
        defined = np.flatnonzero(~np.isnan(given))
        order = defined[np.argsort(given[defined], kind="stable")]
        sums[:, column] = np.bincount(index[order], given[order], count)
        counts[:, column] = np.bincount(index[order], minlength=count)
    sums[:, ~np.isfinite(sums).all(0)] = np.nan
    return Totals(sums, counts)


def divided(sums: Floats, counts: Floats) -> Floats:
    """``sums / counts``, NaN where a count is 0."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
