"""Did a figure move, did it stay, or can these data not tell?"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["moved", "equivalent", "inconclusive"]


def verdict(low: float | None, high: float | None, margin: float) -> Verdict | None:
    """What the interval [low, high] of a change says, against the smallest change that counts.

    *equivalent*: the interval lies within ±``margin``, its ends included. *moved*: it lies wholly beyond the margin, on one
    side. *inconclusive*: it reaches across a margin. None without an interval (an end is None or NaN).

    With a 95 % interval, *equivalent* is two one-sided tests at 2.5 % each (Schuirmann 1987; a 90 % interval would make the
    usual 5 %), and *moved* is a two-sided test at 5 % of a change of at most the margin. Raises :class:`ValueError` for a
    margin that is negative or not a number.
    """
    if not margin >= 0:
        raise ValueError(f"a margin must be at least 0, not {margin}")
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    if -margin <= low and high <= margin:
        return "equivalent"
    return "moved" if low > margin or high < -margin else "inconclusive"
