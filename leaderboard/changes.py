"""What changed between two runs, cell by cell.

Everything is paired: differences are taken instance by instance, over the instances where both runs have a value, and
patients are resampled with all their instances.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..benchmark.cells import Cell, CellValues
from ..benchmark.statistics.equivalence import Verdict, verdict
from ..benchmark.statistics.hypothesis_tests import sign_flip
from ..benchmark.statistics.multiplicity import benjamini_hochberg, holm
from ..benchmark.statistics.power import minimum_detectable_effect
from ..benchmark.statistics.resampling import Method, cluster_intervals
from .gates import own_margin

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A cell in two runs. Figures are in the metric's units, and None where there is none."""

    cell: Cell
    base: float | None
    candidate: float | None
    """Both as in the runs' own results: means over all instances where that run has a value."""
    difference: float | None
    """Mean of (candidate − base) over the instances where both have a value."""
    low: float | None
    high: float | None
    """Interval of ``difference``; None under 10 patients."""
    p: float | None
    """Two-sided, of no difference, from flipping signs by patient; None under 10 patients."""
    adjusted_p: float | None
    """``p`` within its family: by Holm among the gated cells, by Benjamini and Hochberg among the others."""
    detectable: float | None
    """The true difference that data like these show with a probability of 80 %; None under 10 patients."""
    margin: float | None
    """The metric's own: the smallest change that counts."""
    verdict: Verdict | None
    """Of the interval against ``margin``; None without one of them."""
    n_paired: int
    """Instances with a value in both runs."""
    n_patients: int
    """Patients of these."""
    n_lost: int
    """Instances with a value in the base only."""
    n_gained: int
    """Instances with a value in the candidate only."""


def changes(
    base: CellValues, candidate: CellValues, gated: Collection[Cell], *, seed: int, level: float, method: Method
) -> list[Change]:
    """The changes of all cells, in their order. Both sides have the same cells, instances and clusters."""
    differences = candidate.values - base.values
    clusters = base.clusters
    low, high = cluster_intervals(differences, clusters, seed, level, method=method)
    p = sign_flip(differences, clusters, seed)
    detectable = minimum_detectable_effect(differences, clusters, level=level)
    family = np.array([cell in gated for cell in base.cells], dtype=np.bool_)
    adjusted = np.full_like(p, np.nan)
    adjusted[family], adjusted[~family] = holm(p[family]), benjamini_hochberg(p[~family])
    found = []
    for at, cell in enumerate(base.cells):
        before, after = ~np.isnan(base.values[:, at]), ~np.isnan(candidate.values[:, at])
        paired, margin = before & after, own_margin(cell.metric)
        found.append(
            Change(
                cell=cell,
                base=_mean(base.values[before, at]),
                candidate=_mean(candidate.values[after, at]),
                difference=_mean(differences[paired, at]),
                low=_number(low[at]),
                high=_number(high[at]),
                p=_number(p[at]),
                adjusted_p=_number(adjusted[at]),
                detectable=_number(detectable[at]),
                margin=margin,
                verdict=None if margin is None else verdict(low[at], high[at], margin),
                n_paired=int(paired.sum()),
                n_patients=len(set(clusters[paired])),
                n_lost=int((before & ~after).sum()),
                n_gained=int((after & ~before).sum()),
            )
        )
    return found


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if values.size else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
