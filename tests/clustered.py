"""Rows in clusters, as hypothesis draws them: ties, undefined values and clusters of any size are common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wronglung.benchmark.statistics.clusters import Floats

quick = settings(max_examples=40, deadline=None)


class Clustered(NamedTuple):
    values: Floats
    """[rows, columns], NaN where undefined."""
    clusters: list[str]

    def groups(self) -> dict[str, list[float]]:
        """The defined values of the first column, by cluster."""
        found: dict[str, list[float]] = {}
        for value, name in zip(self.values[:, 0].tolist(), self.clusters, strict=True):
            if not np.isnan(value):
                found.setdefault(name, []).append(value)
        return found


@st.composite
def clustered(draw: st.DrawFn, columns: int = 1, clusters: int = 16, undefined: bool = True) -> Clustered:
    """One row of every cluster, and up to 20 more of any."""
    names = [*range(clusters), *draw(st.lists(st.integers(0, clusters - 1), max_size=20))]
    usual = st.sampled_from([0.0, 1.0, -1.0, 0.5, *([np.nan] if undefined else [])])
    one = st.one_of(usual, st.floats(-100, 100).map(lambda value: round(value, 6)))
    values = draw(arrays.arrays(np.float64, (len(names), columns), elements=one))
    return Clustered(values, [f"p{name}" for name in names])
