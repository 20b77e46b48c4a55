"""An image on its way into a model's frame: its pixels so far, and where the original image lies among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from ..gloria.area_resize import resize_area

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos", "area"]
Backend = Literal["pillow", "torch", "opencv"]
"""Whose arithmetic is followed. Pillow has all interpolations but area, torch bilinear and bicubic, OpenCV area alone."""

_Plane = npt.NDArray[Any]

LARGEST = 1 << 28
"""Pixels of an enlarged image beyond which it is refused: a gigabyte a channel in float32."""


@dataclass(frozen=True)
class Canvas:
    """Pixels [channels, height, width], uint8 levels or float32 values; one channel stands for three equal ones.

    A point (x, y) of the original image lies at (x · scale_x + offset_x, y · scale_y + offset_y), in edge coordinates
    as in :class:`...benchmark.geometry.Geometry`.
    """

    pixels: torch.Tensor
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    @property
    def height(self) -> int:
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        return self.pixels.shape[2]

    def resized(
        self, height: int, width: int, interpolation: Interpolation, backend: Backend, antialias: bool = True
    ) -> Canvas:
        """The canvas at another size. Raises ``ValueError`` where a side vanishes or the whole grows beyond reason."""
        if min(height, width) < 1:
            raise ValueError(
                f"{self.width} × {self.height} pixels are too thin: nothing is left of the shorter side at "
                f"{width} × {height}"
            )
        if height * width > LARGEST:
            raise ValueError(f"{self.width} × {self.height} pixels are too thin: they would become {width} × {height}")
        if (height, width) == (self.height, self.width):
            return self
        across, down = width / self.width, height / self.height
        return Canvas(
            resample(self.pixels, height, width, interpolation, backend, antialias),
            self.scale_x * across,
            self.scale_y * down,
            self.offset_x * across,
            self.offset_y * down,
        )

    def window(self, top: int, left: int, height: int, width: int, fill: int = 0) -> Canvas:
        """The part that starts at row ``top`` and column ``left``; what lies outside of the canvas is ``fill``."""
        margins = (-left, left + width - self.width, -top, top + height - self.height)
        return Canvas(
            functional.pad(self.pixels, margins, value=fill),
            self.scale_x,
            self.scale_y,
            self.offset_x - left,
            self.offset_y - top,
        )


def values(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels as float32: levels become 0…1, values stay as they are."""
    return pixels if pixels.is_floating_point() else pixels.to(torch.float32) / 255


def resample(
    pixels: torch.Tensor, height: int, width: int, interpolation: Interpolation, backend: Backend, antialias: bool
) -> torch.Tensor:
    """Pixels [channels, rows, columns], uint8 or float32, at another size in the same dtype.

    ``antialias``: whether the kernel widens where the image shrinks; only torch can do without. Raises ``ValueError`` for
    an interpolation that the backend has not.
    """
    if backend == "torch" and interpolation in ("bilinear", "bicubic"):
        return functional.interpolate(
            pixels[None], (height, width), mode=interpolation, align_corners=False, antialias=antialias
        )[0]
    if backend == "opencv" and interpolation == "area" and antialias:
        return _by_channel(pixels, lambda levels: resize_area(levels, width, height))
    if backend == "pillow" and interpolation != "area" and antialias:
        kernel = Image.Resampling[interpolation.upper()]
        return _by_channel(pixels, lambda levels: np.asarray(Image.fromarray(levels).resize((width, height), kernel)))
    raise ValueError(f"backend {backend!r} has no {interpolation} interpolation with antialias={antialias}")


def _by_channel(pixels: torch.Tensor, function: Callable[[_Plane], _Plane]) -> torch.Tensor:
    return torch.from_numpy(np.stack([function(channel) for channel in pixels.numpy()]))


def blur(pixels: torch.Tensor, sigma_y: float, sigma_x: float) -> torch.Tensor:
    """A Gaussian of the given deviations, in pixels, over float32 pixels [channels, rows, columns].

    It reaches ⌈3 · sigma⌉ pixels to each side; borders are mirrored about the centre of the outermost pixel.
    """
    sigma = (0.0, sigma_y, sigma_x)
    reach = [math.ceil(3 * one) for one in sigma]
    return torch.from_numpy(gaussian_filter(pixels.numpy(), sigma, mode="mirror", radius=reach))
