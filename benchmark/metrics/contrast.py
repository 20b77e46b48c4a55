"""Contrast-to-noise ratio of a saliency map inside and outside a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.bool_]

_EXACT = 1e-4
"""The least part of a mean square at which a variance is trusted that was computed as its difference from another."""


def contrast_to_noise(inside: Floats, outside: Floats) -> float:
    """(mean inside - mean outside) / √(variance inside + variance outside) of pixel values, float64 [n] each.

    Population variances, in two passes. Negative where the map is higher outside. 0 for two flat parts of the same value; NaN
    for two flat parts of different values, and without a pixel inside or outside.
    """
    if not inside.size or not outside.size:
        return math.nan
    (mean_inside, variance_inside), (mean_outside, variance_outside) = _moments(inside), _moments(outside)
    return _ratio(mean_inside - mean_outside, variance_inside + variance_outside)


@dataclass(frozen=True, eq=False, slots=True)
class Contrast:
    """A map's pixels, ready for the contrast with many masks.

    ``values`` [n] are the pixels minus the middle between the least and the largest, 0 where the model saw nothing; ``seen``
    says where it did, or is None if it did everywhere; ``count`` is the number of pixels seen, ``total`` the sum of their values
    and ``squares`` that of the squares.
    """

    values: Floats
    seen: Pixels | None
    count: int
    total: float
    squares: float

    @classmethod
    def of(cls, values: Floats, low: float, high: float) -> Contrast:
        """Of pixel values [n], the visible ones of which lie between ``low`` and ``high``; -inf where the model saw nothing."""
        # The sums of a map that is high everywhere and varies little would cancel each other.
        middle = low / 2 + high / 2
        values = values - middle if middle > -math.inf else values
        total = float(values.sum())
        if total > -math.inf:
            return cls(values, None, values.size, total, _squares(values))
        seen = values > -math.inf
        values = np.where(seen, values, 0.0)
        return cls(values, seen, int(np.count_nonzero(seen)), float(values.sum()), _squares(values))

    def against(self, pixels: npt.NDArray[np.integer]) -> float:
        """:func:`contrast_to_noise` of the given pixels (flat indices [positives]) and all others, unseen ones left out."""
        if self.seen is not None:
            pixels = pixels[self.seen.take(pixels)]
        n, m = pixels.size, self.count - pixels.size
        if not n or not m:
            return math.nan
        if not self.squares:
            return 0.0
        inside = self.values.take(pixels)
        total, squares = float(inside.sum()), _squares(inside)
        mean_inside, mean_outside = total / n, (self.total - total) / m
        variance_inside = squares / n - mean_inside**2
        variance_outside = (self.squares - squares) / m - mean_outside**2
        if variance_inside + variance_outside <= _EXACT * max(squares / n, self.squares / m):
            outside = np.ones(self.values.size, np.bool_) if self.seen is None else self.seen.copy()
            outside[pixels] = False
            return contrast_to_noise(inside, self.values[outside])
        return _ratio(mean_inside - mean_outside, variance_inside + variance_outside)


def _ratio(difference: float, variance: float) -> float:
    if difference == 0:
        return 0.0
    return difference / math.sqrt(variance) if variance > 0 else math.nan


def _moments(values: Floats) -> tuple[float, float]:
    """Mean and population variance; the variance of equal values is exactly 0."""
    shifted = values - values[0]
    mean = float(shifted.mean())
    shifted -= mean
    return float(values[0]) + mean, _squares(shifted) / values.size


def _squares(values: Floats) -> float:
    # Not a dot product, whose last bits depend on the number of threads.
    flat = values.reshape(-1)
    return float(np.einsum("i,i->", flat, flat))
