"""p-values of a declared family of tests, adjusted for their number.

An adjusted p-value under α is significant at α within its family. NaN (no test) stays NaN and is not counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from .clusters import Floats


def holm(p: npt.ArrayLike) -> Floats:
    """Adjusted for the chance of any false positive in the family (Holm 1979), in the order given, [tests]."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    ascending = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(ascending), 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(p[ascending] * factors), 1.0)
    return adjusted


def benjamini_hochberg(p: npt.ArrayLike) -> Floats:
    """Adjusted for the share of false positives among the positives (Benjamini and Hochberg 1995), in the order given, [tests].

    For exploration: it holds for independent and for positively dependent tests.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        adjusted[tested] = false_discovery_control(p[tested], method="bh")
    return adjusted
