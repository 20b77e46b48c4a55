"""The measures of a map that do not follow from its ranking alone, each family computed where a suite asks for it.

A family prepares what it needs of a map once, and then measures the map against any number of targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .frames import ScoringFrame
from .instances import Box
from .metrics.contrast import Contrast
from .metrics.laterality import Halves, side
from .metrics.mass import PixelMass
from .metrics.pointing import maxima, pointing_game, share_near
from .metrics.ranking import Hits, Ranking
from .metrics.thresholds import cuts, overlaps
from .protocol import ModelCard


@dataclass(frozen=True, eq=False)
class Target:
    """The pixels that a sentence is about, bool [height, width], on a scoring grid."""

    mask: npt.NDArray[np.bool_]
    halves: Halves

    @cached_property
    def pixels(self) -> npt.NDArray[np.int32]:
        """The pixels of the mask, ascending flat indices [positives]."""
        return np.flatnonzero(self.mask).astype(np.int32)

    @cached_property
    def side(self) -> int:
        """-1 left, 1 right, 0 neither (:func:`.laterality.side`)."""
        return side(self.mask, self.halves)


@dataclass(frozen=True, eq=False)
class GridMap:
    """A map on the scoring grid, on the host: ``pixels`` float32 [height, width], -inf where the model saw nothing."""

    pixels: npt.NDArray[np.float32]
    ranking: Ranking
    halves: Halves
    card: ModelCard

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """The pixels in float64, [height, width]."""
        return self.pixels.astype(np.float64)


Measure: TypeAlias = Callable[[Target, Hits], Mapping[str, float]]
"""Metric values of a map against a target, whose pixels are the given ones in the map's ranking; NaN where undefined."""


def measures(grid_map: GridMap, wanted: AbstractSet[str]) -> list[Measure]:
    """What measures ``grid_map``, for the families that hold a metric of ``wanted``."""
    return [prepare(grid_map) for names, prepare in _FAMILIES.items() if not names.isdisjoint(wanted)]


@lru_cache(maxsize=256)
def halves(frame: ScoringFrame) -> Halves:
    """The halves of the image, as it is stored, on a scoring grid."""
    geometry = frame.geometry
    corners = (0.0, 0.0, float(frame.width), float(frame.height))
    if frame.frame == "model":
        (image,) = geometry.to_frame([Box("", 0, 0, geometry.image_width, geometry.image_height)])
        corners = (image.x1, image.y1, image.x2, image.y2)
    return Halves.of(corners, frame.width, frame.height)


def _pointing(grid_map: GridMap) -> Measure:
    n, first = grid_map.pixels.size, int(grid_map.pixels.argmax())
    starts, _ = grid_map.ranking.groups([n - 1])
    start = int(starts[0])
    return lambda target, hits: pointing_game(start, n, hits, bool(target.mask.flat[first]))


def _tolerance(grid_map: GridMap) -> Measure:
    points = maxima(grid_map.pixels)
    return lambda target, hits: {"pointing_game_tolerance15": share_near(points, target.mask)}


def _contrast(grid_map: GridMap) -> Measure:
    contrast = Contrast.of(grid_map.values.reshape(-1), *grid_map.ranking.codes.range())

    def measure(target: Target, hits: Hits) -> Mapping[str, float]:
        cnr = contrast.against(target.pixels)
        return {"cnr": cnr, "cnr_absolute": abs(cnr)}

    return measure


def _minmax(grid_map: GridMap) -> Measure:
    cut = cuts(grid_map.ranking, "minmax")

    def measure(target: Target, hits: Hits) -> Mapping[str, float]:
        miou, mdice = overlaps(cut, hits, grid_map.pixels.size)
        return {"miou_minmax": miou, "mdice_minmax": mdice}

    return measure


def _clamp(grid_map: GridMap) -> Measure:
    cut = cuts(grid_map.ranking, "clamp")

    def measure(target: Target, hits: Hits) -> Mapping[str, float]:
        return {"miou_clamp": overlaps(cut, hits, grid_map.pixels.size)[0]}

    return measure


def _mass(grid_map: GridMap) -> Measure:
    mass = PixelMass.of(grid_map.values, grid_map.card.mass, grid_map.card.temperature)
    to_the_right = mass.balance(grid_map.halves)

    def measure(target: Target, hits: Hits) -> Mapping[str, float]:
        positives = len(target.pixels)
        inside = mass.inside(target.pixels) if positives else math.nan
        return {
            "mass_inside": inside,
            "mass_inside_lift": inside * grid_map.pixels.size / positives if positives else math.nan,
            # Adding 0 turns -0 into 0.
            "laterality_index": target.side * to_the_right + 0.0 if target.side else math.nan,
        }

    return measure


_FAMILIES: Mapping[frozenset[str], Callable[[GridMap], Measure]] = {
    frozenset({"pointing_game", "pointing_game_first", "pointing_game_any"}): _pointing,
    frozenset({"pointing_game_tolerance15"}): _tolerance,
    frozenset({"cnr", "cnr_absolute"}): _contrast,
    frozenset({"miou_minmax", "mdice_minmax"}): _minmax,
    frozenset({"miou_clamp"}): _clamp,
    frozenset({"mass_inside", "mass_inside_lift", "laterality_index", "laterality_swap_gain"}): _mass,
}
