"""Affine geometry between an image's original pixels and a model's frame.

All coordinates are edge coordinates: a pixel with index i covers [i, i + 1], and its centre is i + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .instances import Box
from .masks import Mask


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an image of ``image_width`` × ``image_height`` original pixels lies in a model's frame.

    A point (x, y) of the image falls on (x · scale_x + offset_x, y · scale_y + offset_y) of the frame,
    which is ``frame_width`` × ``frame_height`` model pixels large. A saliency map of any number of rows
    and columns covers the whole frame evenly. Parts of the frame outside the image are padding; parts
    of the image outside the frame were never seen by the model.
    """

    image_width: int
    image_height: int
    frame_width: int
    frame_height: int
    scale_x: float
    scale_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def __post_init__(self) -> None:
        if min(self.image_width, self.image_height, self.frame_width, self.frame_height) < 1:
            raise ValueError(f"image and frame must be at least one pixel large: {self}")
        numbers = (self.scale_x, self.scale_y, self.offset_x, self.offset_y)
        if not all(map(math.isfinite, numbers)) or min(self.scale_x, self.scale_y) <= 0:
            raise ValueError(f"scales must be positive and all numbers finite: {self}")

    @classmethod
    def squash(cls, image_width: int, image_height: int, frame_width: int, frame_height: int) -> Geometry:
        """The whole image fills the whole frame; the aspect ratio is not kept."""
        return cls(
            image_width,
            image_height,
            frame_width,
            frame_height,
            frame_width / image_width,
            frame_height / image_height,
        )

    def of_original(self, image_width: int, image_height: int, factor: int) -> Geometry:
        """This geometry for the image in original pixels, ``factor`` of which make one of the image it was stated for."""
        return replace(
            self,
            image_width=image_width,
            image_height=image_height,
            scale_x=self.scale_x / factor,
            scale_y=self.scale_y / factor,
        )

    @property
    def visible_window(self) -> tuple[float, float, float, float]:
        """The part (x1, y1, x2, y2) of the image, in original pixels, that lies inside the frame.

        Zero width or height when nothing of the image is inside.
        """
        x1, x2 = _overlap(
            0, self.image_width, -self.offset_x / self.scale_x, (self.frame_width - self.offset_x) / self.scale_x
        )
        y1, y2 = _overlap(
            0, self.image_height, -self.offset_y / self.scale_y, (self.frame_height - self.offset_y) / self.scale_y
        )
        return x1, y1, x2, y2

    def to_frame(self, boxes: Iterable[Box]) -> tuple[Box, ...]:
        """Boxes of the image as boxes of the frame, not clipped."""
        return tuple(
            Box(
                box.name,
                box.x1 * self.scale_x + self.offset_x,
                box.y1 * self.scale_y + self.offset_y,
                box.x2 * self.scale_x + self.offset_x,
                box.y2 * self.scale_y + self.offset_y,
            )
            for box in boxes
        )

    def mask(self, boxes: Iterable[Box], *, segmented: bool = True) -> npt.NDArray[np.bool_]:
        """The union of boxes of the image on the frame's pixels, bool [frame_height, frame_width].

        A pixel belongs to a box when its centre does (:func:`boxes_to_mask`); where a box has a mask and ``segmented`` is
        true, when its centre falls on a pixel of that mask instead.
        """
        boxes = tuple(boxes)
        plain = self.to_frame(box for box in boxes if not segmented or box.mask is None)
        covered = boxes_to_mask(plain, self.frame_width, self.frame_height)
        for box in boxes:
            if segmented and box.mask is not None:
                covered |= self._sampled(box.mask)
        return covered

    def _sampled(self, mask: Mask) -> npt.NDArray[np.bool_]:
        x = (np.arange(self.frame_width) + 0.5 - self.offset_x) / self.scale_x * (mask.width / self.image_width)
        y = (np.arange(self.frame_height) + 0.5 - self.offset_y) / self.scale_y * (mask.height / self.image_height)
        columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        inside_x, inside_y = (columns >= 0) & (columns < mask.width), (rows >= 0) & (rows < mask.height)
        covered = np.zeros((self.frame_height, self.frame_width), dtype=np.bool_)
        covered[np.ix_(inside_y, inside_x)] = mask.pixels()[np.ix_(rows[inside_y], columns[inside_x])]
        return covered

    def sees(self, box: Box) -> bool:
        """Whether some part of a box of the image lies inside the frame."""
        x1, y1, x2, y2 = self.visible_window
        return min(box.x2, x2) > max(box.x1, x1) and min(box.y2, y2) > max(box.y1, y1)


def _overlap(a1: float, a2: float, b1: float, b2: float) -> tuple[float, float]:
    low = max(a1, b1)
    return low, max(low, min(a2, b2))


def boxes_to_mask(
    boxes: Iterable[Box], width: int, height: int, scale_x: float = 1.0, scale_y: float = 1.0
) -> npt.NDArray[np.bool_]:
    """The union of boxes as a bool mask of shape [height, width].

    A pixel belongs to a box when its centre does: x1 ≤ column + 0.5 < x2, and likewise for rows. Boxes are
    multiplied by the scales first and clipped to the mask; a box that holds no pixel centre adds nothing.
    """
    mask = np.zeros((height, width), dtype=np.bool_)
    for box in boxes:
        left, right = _pixels(box.x1 * scale_x, box.x2 * scale_x, width)
        top, bottom = _pixels(box.y1 * scale_y, box.y2 * scale_y, height)
        mask[top:bottom, left:right] = True
    return mask


def _pixels(low: float, high: float, size: int) -> tuple[int, int]:
    first = math.ceil(min(max(low, 0.0), size) - 0.5)
    end = math.ceil(min(max(high, 0.0), size) - 0.5)
    return first, max(first, end)
