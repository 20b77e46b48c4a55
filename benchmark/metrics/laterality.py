"""On which side of the image a map or a mask lies. Sides are those of the image as it is stored: left is towards column 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

ONE_SIDED = 0.95
"""The share of a target's pixels that must lie in one half of the image for the target to have a side."""


@dataclass(frozen=True, eq=False, slots=True)
class Halves:
    """How the two halves of an image lie on a grid of pixels.

    ``rows`` [height] is the share of each row of pixels that the image covers; ``left`` and ``right`` [width] the shares of
    each column that its halves cover. Padding is in neither half.
    """

    rows: Floats
    left: Floats
    right: Floats

    @classmethod
    def of(cls, corners: tuple[float, float, float, float], width: int, height: int) -> Halves:
        """The halves of an image with the given ``corners`` (x1, y1, x2, y2) on a grid of ``width`` × ``height`` pixels.

        The corners are edge coordinates of the grid and may lie outside it, where the image is cropped; the halves meet in
        the middle between x1 and x2.
        """
        x1, y1, x2, y2 = corners
        middle = (x1 + x2) / 2
        return cls(_covered(y1, y2, height), _covered(x1, middle, width), _covered(middle, x2, width))

    def weigh(self, pixels: Floats) -> tuple[float, float]:
        """The sum of pixel weights [height, width] in the left and in the right half."""
        columns = np.einsum("y,yx->x", self.rows, pixels)
        return float((columns * self.left).sum()), float((columns * self.right).sum())


def side(mask: npt.NDArray[np.bool_], halves: Halves) -> int:
    """-1 for a mask bool [height, width] in the left half, 1 for one in the right half; 0 for one in both and an empty one.

    In a half is a mask with at least ``ONE_SIDED`` of its pixels there.
    """
    left, right = halves.weigh(mask.astype(np.float64))
    needed = ONE_SIDED * np.count_nonzero(mask)
    if not needed:
        return 0
    return 1 if right >= needed else -1 if left >= needed else 0


def _covered(low: float, high: float, pixels: int) -> Floats:
    """The share of each pixel [i, i + 1] that the interval from ``low`` to ``high`` covers."""
    start = np.arange(pixels, dtype=np.float64)
    return (np.minimum(start + 1, high) - np.maximum(start, low)).clip(0, 1)
