"""The pixel grid on which a saliency map and boxes are compared.

Coordinates are edge coordinates, as in :mod:`.geometry`: pixel i covers [i, i + 1] and its centre is i + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .geometry import Geometry
from .instances import Box

FrameName = Literal["model", "image"]
Interpolation = Literal["bilinear", "nearest"]


@dataclass(frozen=True, slots=True)
class ScoringFrame:
    """``height`` × ``width`` pixels over the model's frame or over the image; made by :func:`scoring_frame`."""

    geometry: Geometry
    frame: FrameName
    width: int
    height: int

    def mask(self, boxes: Iterable[Box], inclusive: bool = False, *, segmented: bool = True) -> npt.NDArray[np.bool_]:
        """The union of boxes, given in original pixels, as a bool mask [height, width].

        A pixel belongs to a box when its centre does, and to a segmented region when its centre falls on the region's own
        mask, which ``segmented=False`` leaves aside (:meth:`.geometry.Geometry.mask`). ``inclusive`` reads x2 and y2 of a
        box as the indices of the last pixels inside, as the released code of the paper does, instead of as edges.
        """
        if inclusive:
            boxes = [replace(box, x2=box.x2 + 1, y2=box.y2 + 1) for box in boxes]
        geometry = self.geometry
        if self.frame == "image":
            geometry = Geometry.squash(geometry.image_width, geometry.image_height, self.width, self.height)
        return geometry.mask(boxes, segmented=segmented)

    def sample(self, saliency: torch.Tensor, mode: Interpolation) -> torch.Tensor:
        """A saliency map [rows, columns] at the pixels of this frame: float32 [height, width] on the map's device.

        Pixels whose centre lies outside the model's frame, which the model never saw, are -inf.

        ``"bilinear"`` is bilinear interpolation without aligned corners: along the columns first, then along the
        rows, the value between two neighbouring cells is ``near + t · (far - near)``, where ``near`` is the cell
        whose centre is closer and t ∈ [0, ½] the distance to it in cells; beyond the outermost cell centres it is
        the outermost cell's. Each operation is rounded to float32 and t comes from :func:`_positions`. Flat parts of
        a map therefore stay flat to the last bit, and no pixel depends on batch, memory layout or fused kernels.

        ``"nearest"`` gives row y of the model's frame the cells of row ⌊y · rows / frame_height⌋, likewise for columns,
        as the released code does; a pixel of an image frame has the value of the model's pixel that holds its centre.

        Values are finite; neighbouring cells differ by less than the largest float32.
        """
        rows, columns = saliency.shape
        geometry, device = self.geometry, saliency.device
        y, x = _Axis(self.height, geometry.frame_height), _Axis(self.width, geometry.frame_width)
        if self.frame == "image":
            x = _Axis(x.pixels, x.extent, geometry.image_width / self.width * geometry.scale_x, geometry.offset_x)
            y = _Axis(y.pixels, y.extent, geometry.image_height / self.height * geometry.scale_y, geometry.offset_y)
        saliency = saliency.detach().float()
        if mode == "bilinear":
            near, far, weight = _bilinear(x, columns, device)
            between = _interpolate(saliency.index_select(1, near), saliency.index_select(1, far), weight)
            near, far, weight = _bilinear(y, rows, device)
            pixels = _interpolate(between.index_select(0, near), between.index_select(0, far), weight[:, None])
        else:
            between = saliency.index_select(1, _nearest(x, columns, device))
            pixels = between.index_select(0, _nearest(y, rows, device))
        (top, bottom), (left, right) = _visible(y), _visible(x)
        if (top, bottom, left, right) != (0, self.height, 0, self.width):
            pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:] = (-math.inf,) * 4
        return pixels


def scoring_frame(geometry: Geometry, frame: FrameName, resolution: int = 224) -> ScoringFrame:
    """The frame in which the maps of one image are scored.

    ``"model"`` is the model's own frame, pixel by pixel, padding included. ``"image"`` is the whole image, its long
    side brought to exactly ``resolution`` pixels and its short side to the nearest whole number in proportion, so
    that the cost of scoring depends neither on the size of the film nor on the model.
    """
    if frame == "model":
        return ScoringFrame(geometry, frame, geometry.frame_width, geometry.frame_height)
    if resolution < 1:
        raise ValueError(f"resolution must be at least 1, not {resolution}")
    width, height = geometry.image_width, geometry.image_height
    long = max(width, height)
    return ScoringFrame(
        geometry, frame, max(1, round(width * resolution / long)), max(1, round(height * resolution / long))
    )


class _Axis(NamedTuple):
    """One axis of a scoring frame: position u on it is ``u · scale + offset`` on the model frame's ``extent``."""

    pixels: int
    extent: int
    scale: float = 1.0
    offset: float = 0.0


def _interpolate(near: torch.Tensor, far: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return far.sub_(near).mul_(weight).add_(near)


@lru_cache(maxsize=256)
def _bilinear(axis: _Axis, cells: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each pixel the nearer and the farther cell, and the weight of the farther one (float32, at most ½)."""
    position = _positions(axis, cells)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, cells - 1)
    beyond = position - low.astype(np.float32)
    upper = beyond > 0.5
    near, far = np.where(upper, high, low), np.where(upper, low, high)
    weight = np.where(upper, 1 - beyond, beyond)
    return torch.from_numpy(near).to(device), torch.from_numpy(far).to(device), torch.from_numpy(weight).to(device)


def _positions(axis: _Axis, cells: int) -> npt.NDArray[np.float32]:
    """Where the pixels' centres lie, in units of cells from the centre of cell 0, clamped to the outermost centres.

    The scale from pixels to cells is rounded to float32, as PyTorch does; the position is computed from it in
    float64 and rounded to float32 once.
    """
    per_cell = cells / axis.extent
    scale = float(np.float32(axis.scale * per_cell))
    centres = np.arange(axis.pixels) + 0.5
    positions: npt.NDArray[np.float32] = (scale * centres + (axis.offset * per_cell - 0.5)).astype(np.float32)
    return positions.clip(0, cells - 1)


@lru_cache(maxsize=256)
def _nearest(axis: _Axis, cells: int, device: torch.device) -> torch.Tensor:
    pixel = np.floor(_on_extent(axis)).clip(0, axis.extent - 1).astype(np.int64)
    return torch.from_numpy(pixel * cells // axis.extent).to(device)


@lru_cache(maxsize=256)
def _visible(axis: _Axis) -> tuple[int, int]:
    """The first pixel whose centre lies on the model frame, and the first one behind those."""
    position = _on_extent(axis)
    return int((position < 0).sum()), int((position < axis.extent).sum())


def _on_extent(axis: _Axis) -> npt.NDArray[np.float64]:
    return np.asarray((np.arange(axis.pixels) + 0.5) * axis.scale + axis.offset, np.float64)
