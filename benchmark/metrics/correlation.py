"""How per-instance measures go together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd


class Correlation(NamedTuple):
    """Pearson's r of two columns over the ``n`` rows where both are defined; None where it does not exist."""

    a: str
    b: str
    r: float | None
    n: int


def pearson_pairs(frame: pd.DataFrame, columns: Sequence[str]) -> list[Correlation]:
    """Pearson's correlation of each pair of numeric columns, in the order of ``columns``.

    Pairwise complete: a row counts for a pair when both of its values are defined (not NaN or null). r ∈ [-1, 1] is
    None for fewer than two rows and for a column that is constant on them.
    """
    values = {column: frame[column].to_numpy(dtype=np.float64, na_value=np.nan) for column in columns}
    pairs = []
    for a, b in combinations(columns, 2):
        both = np.stack((values[a], values[b]))
        both = both[:, ~np.isnan(both).any(0)]
        n = both.shape[1]
        varies = n >= 2 and bool((np.ptp(both, axis=1) > 0).all())
        pairs.append(Correlation(a, b, float(np.corrcoef(both)[0, 1]) if varies else None, n))
    return pairs
