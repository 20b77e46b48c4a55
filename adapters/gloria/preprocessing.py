"""From a decoded image to GLoRIA's input, and where the image's pixels lie in it.

8-bit grey; the longer side to 256 pixels by area averaging; zero padding to 256 × 256; the 224 × 224 centre; grey
levels to [-1, 1]. The centre crop removes 16 pixels from each side of the padded square: what lies at the ends of the
longer side is never seen. Those are the sides of released checkpoints; a checkpoint trained here names its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ...benchmark.errors import WronglungError
from ...benchmark.geometry import Geometry
from ...benchmark.protocol import LoadedImage, Preprocessed
from ..preprocessing.greyscale import GreyImage, Intensity, grey
from .area_resize import resize_area


@dataclass(frozen=True, slots=True)
class Frame:
    """Sides in pixels: the image is scaled until its longer side is ``longer_side`` and padded to a square, whose
    centre of ``crop`` × ``crop`` is what the network gets and enlarges to ``inner`` × ``inner``."""

    longer_side: int = 256
    crop: int = 224
    inner: int = 299

    @property
    def margin(self) -> int:
        return (self.longer_side - self.crop) // 2

    @property
    def centre(self) -> slice:
        """The rows, and the columns, of the padded square that the network gets."""
        return slice(self.margin, self.margin + self.crop)


RELEASED = Frame()
"""That of the released checkpoints."""


def padded(image: Image.Image, intensity: Intensity = "as-is", frame: Frame = RELEASED) -> GreyImage:
    """The whole padded square (uint8, [row, column]), before the crop; see :func:`model_input`."""
    width, height = resized_size(*image.size, frame.longer_side)
    left, top = _padding(width, height, frame.longer_side)
    square = np.zeros((frame.longer_side, frame.longer_side), dtype=np.uint8)
    square[top : top + height, left : left + width] = resize_area(grey(image, intensity), width, height)
    return square


def model_input(image: Image.Image, intensity: Intensity = "as-is", frame: Frame = RELEASED) -> GreyImage:
    """The grey levels (uint8, [row, column], ``frame.crop`` a side) that the network sees.

    Raises ``ValueError`` for an image that :func:`grey` cannot read or :func:`resized_size` refuses.
    """
    return padded(image, intensity, frame)[frame.centre, frame.centre]


def geometry(image_width: int, image_height: int, frame: Frame = RELEASED) -> Geometry:
    """How an image of this size lies in the network's frame. The two scales differ, as sizes are whole pixels."""
    width, height = resized_size(image_width, image_height, frame.longer_side)
    left, top = _padding(width, height, frame.longer_side)
    return Geometry(
        image_width,
        image_height,
        frame.crop,
        frame.crop,
        scale_x=width / image_width,
        scale_y=height / image_height,
        offset_x=left - frame.margin,
        offset_y=top - frame.margin,
    )


def resized_size(width: int, height: int, longer_side: int = RELEASED.longer_side) -> tuple[int, int]:
    """Width and height after the resize: ``longer_side`` for the longer side, the other in proportion.

    The product is evaluated in floating point and truncated, as in the released code, so the shorter side may be a
    pixel short of its proportional length (343 × 392 gives 223 × 256, not 224 × 256). Raises ``ValueError`` where
    the shorter side comes out empty.
    """
    if height >= width:
        size = int(float(width) * (longer_side / float(height))), longer_side
    else:
        size = longer_side, int(float(height) * (longer_side / float(width)))
    if min(size) < 1:
        raise ValueError(f"{width} × {height} pixels are too thin: nothing is left of the shorter side at {size}")
    return size


def _padding(width: int, height: int, longer_side: int) -> tuple[int, int]:
    return (longer_side - width) // 2, (longer_side - height) // 2


def preprocessed(image: LoadedImage, intensity: Intensity = "as-is", frame: Frame = RELEASED) -> Preprocessed:
    """The grey levels of :func:`model_input`, and how the image lies in the network's frame.

    Raises :class:`WronglungError` naming an image that has no 8-bit reading or is too thin.
    """
    try:
        levels = torch.tensor(model_input(image.pixels, intensity, frame))
        return Preprocessed(levels, geometry(*image.pixels.size, frame))
    except ValueError as error:
        raise WronglungError(f"image {image.id}: {error}") from error


def normalise(levels: torch.Tensor) -> torch.Tensor:
    """Grey levels (uint8) as the network's input values: float32 in [-1, 1]."""
    return levels.to(torch.float32).div_(255).sub_(0.5).div_(0.5)
