"""The pointing game: whether the maximum of a map lies in a mask.

A map may have several maxima, all of them if it is constant; the variants differ in what they make of that.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .ranking import Hits

Values = npt.NDArray[np.floating]

TOLERANCE = 15
"""Pixels between centres, as in TorchRay (Fong et al., "Understanding Deep Networks via Extremal Perturbations", ICCV 2019)."""

_FEW = 64
"""Up to so many points, looking around each is faster than one distance transform of the mask."""


def maxima(pixels: Values) -> npt.NDArray[np.int64]:
    """The pixels of the highest value, ascending flat indices [m], m ≥ 1."""
    return np.flatnonzero(pixels == pixels.max())


def pointing_game(start: int, n: int, hits: Hits, first: bool) -> dict[str, float]:
    """Whether the maxima of a map of ``n`` pixels are pixels of a mask; in [0, 1].

    The maxima are those from the place ``start`` of the order on; ``first`` says whether the mask holds the one of the lowest index.
    ``pointing_game`` is the share of maxima inside, ``pointing_game_first`` whether the first one is, ``pointing_game_any``
    whether one of them is. NaN for a mask without pixels.
    """
    if not len(hits.places):
        return dict.fromkeys(("pointing_game", "pointing_game_first", "pointing_game_any"), math.nan)
    inside = len(hits.places) - int(hits.places.searchsorted(start))
    return {
        "pointing_game": inside / (n - start),
        "pointing_game_first": float(first),
        "pointing_game_any": float(inside > 0),
    }


def share_near(points: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], tolerance: int = TOLERANCE) -> float:
    """The share of ``points`` (flat indices [m], m ≥ 1) with a pixel of a mask (bool [rows, columns]) near them.

    Near: the centres are at most ``tolerance`` pixels apart (Euclidean distance). NaN for a mask without pixels.
    """
    if not mask.any():
        return math.nan
    if len(points) > _FEW:
        near = ndimage.distance_transform_edt(~mask) <= tolerance
        return float(near.reshape(-1).take(points).mean())
    dy, dx = _disc(tolerance)
    rows, columns = np.divmod(points, mask.shape[1])
    y, x = rows[:, None] + dy, columns[:, None] + dx
    on_grid = (y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1])
    hit = on_grid & mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
    return float(hit.any(1).mean())


def _disc(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    offsets = np.arange(-radius, radius + 1)
    dy, dx = np.nonzero(offsets[:, None] ** 2 + offsets**2 <= radius**2)
    return dy - radius, dx - radius
