"""From a decoded image to GLoRIA's input, and where the image's pixels lie in it.

8-bit grey; the longer side to 256 pixels by area averaging; zero padding to 256 × 256; the 224 × 224 centre; grey
levels to [-1, 1]. The centre crop removes 16 pixels from each side of the padded square: what lies at the ends of the
longer side is never seen.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ...benchmark.geometry import Geometry
from ..greyscale import GreyImage, Intensity, grey
from .area_resize import resize_area

LONGER_SIDE = 256
FRAME = 224
_MARGIN = (LONGER_SIDE - FRAME) // 2


def model_input(image: Image.Image, intensity: Intensity = "as-is") -> GreyImage:
    """The 224 × 224 grey levels (uint8, [row, column]) that the network sees.

    Raises ``ValueError`` for an image that :func:`grey` cannot read or :func:`resized_size` refuses.
    """
    width, height = resized_size(*image.size)
    left, top = _padding(width, height)
    square = np.zeros((LONGER_SIDE, LONGER_SIDE), dtype=np.uint8)
    square[top : top + height, left : left + width] = resize_area(grey(image, intensity), width, height)
    frame = slice(_MARGIN, _MARGIN + FRAME)
    return square[frame, frame]


def geometry(image_width: int, image_height: int) -> Geometry:
    """How an image of this size lies in the 224 × 224 frame. The two scales differ, as sizes are whole pixels."""
    width, height = resized_size(image_width, image_height)
    left, top = _padding(width, height)
    return Geometry(
        image_width,
        image_height,
        FRAME,
        FRAME,
        scale_x=width / image_width,
        scale_y=height / image_height,
        offset_x=left - _MARGIN,
        offset_y=top - _MARGIN,
    )


def resized_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after the resize: 256 for the longer side, the other in proportion.

    The product is evaluated in floating point and truncated, as in the released code, so the shorter side may be a
    pixel short of its proportional length (343 × 392 gives 223 × 256, not 224 × 256). Raises ``ValueError`` where
    the shorter side comes out empty.
    """
    if height >= width:
        size = int(float(width) * (LONGER_SIDE / float(height))), LONGER_SIDE
    else:
        size = LONGER_SIDE, int(float(height) * (LONGER_SIDE / float(width)))
    if min(size) < 1:
        raise ValueError(f"{width} × {height} pixels are too thin: nothing is left of the shorter side at {size}")
    return size


def _padding(width: int, height: int) -> tuple[int, int]:
    return (LONGER_SIDE - width) // 2, (LONGER_SIDE - height) // 2


def normalise(levels: torch.Tensor) -> torch.Tensor:
    """Grey levels (uint8) as the network's input values: float32 in [-1, 1]."""
    return levels.to(torch.float32).div_(255).sub_(0.5).div_(0.5)
