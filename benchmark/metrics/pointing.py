"""The pointing game: whether the maximum of a map lies in a mask.

A map may have several maxima, all of them if it is constant; the variants differ in what they make of that.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .ranking import Ranking

TOLERANCE = 15
"""Pixels between centres, as in TorchRay (Fong et al., "Understanding Deep Networks via Extremal Perturbations", ICCV 2019)."""

_FEW = 64
"""Up to so many points, looking around each is faster than one distance transform of the mask."""


def maxima(ranking: Ranking) -> npt.NDArray[np.int64]:
    """The pixels of the highest value, ascending flat indices [m], m ≥ 1."""
    return ranking.order[ranking.starts[-2] :]


def pointing_game(ranking: Ranking, hits: npt.NDArray[np.int64]) -> dict[str, float]:
    """Whether the maxima of a map are pixels of a mask, which have the given :func:`.ranking.places`; in [0, 1].

    ``pointing_game`` is the share of maxima inside, ``pointing_game_first`` whether the first one is, ``pointing_game_any``
    whether one of them is. NaN for a mask without pixels.
    """
    if not len(hits):
        return dict.fromkeys(("pointing_game", "pointing_game_first", "pointing_game_any"), math.nan)
    start, end = ranking.starts[-2:].tolist()
    below = int(hits.searchsorted(start))
    inside = len(hits) - below
    return {
        "pointing_game": inside / (end - start),
        "pointing_game_first": float(inside > 0 and int(hits[below]) == start),
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
