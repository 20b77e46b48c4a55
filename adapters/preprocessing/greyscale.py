"""Images of any of Pillow's modes as 8-bit grey levels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

GreyImage = npt.NDArray[np.uint8]

Intensity = Literal["as-is", "minmax"]
"""``as-is``: grey levels as stored, as GLoRIA's official code reads them. ``minmax``: each image's darkest value becomes
0 and its brightest 255, as the code of "That's the Wrong Lung!" does."""


def grey(image: Image.Image, intensity: Intensity = "as-is") -> GreyImage:
    """Grey levels 0..255 (uint8, [row, column]) of an image in any of Pillow's modes with a fixed range.

    GLoRIA's code reads files with OpenCV's 8-bit grey mode. Grey images of 1 and 8 bits come out identical; of
    16 bits the high byte is kept, as there. Colour becomes Pillow's ``L`` (ITU-R 601 luma), which is within one grey
    level of OpenCV, whose own rounding depends on the file format; palettes are resolved and alpha is dropped.

    ``minmax`` is applied to the stored grey values, so that 16-bit images keep their depth: (value - min) /
    (max - min) in float32, times 255, truncated. A constant image becomes black.

    Raises ``ValueError`` for floating-point pixels, and for integers outside 0..65535.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError("holds integers outside 0..65535, which have no 8-bit reading; convert the image first")
        return _stretch(values) if intensity == "minmax" else (values >> 8).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("holds floating-point pixels, which have no 8-bit reading; convert the image first")
    levels = np.asarray(image.convert("L"))
    return _stretch(levels) if intensity == "minmax" else levels


def _stretch(values: npt.NDArray[np.integer]) -> GreyImage:
    levels = values.astype(np.float32)
    low, high = levels.min(), levels.max()
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    stretched: GreyImage = ((levels - low) / (high - low) * np.float32(255)).astype(np.uint8)
    return stretched
