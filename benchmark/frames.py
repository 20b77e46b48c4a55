"""The pixel grid on which a saliency map and boxes are compared.

Coordinates are edge coordinates, as in :mod:`.geometry`: pixel i covers [i, i + 1] and its centre is i + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .geometry import Geometry
from .instances import Box
from .metrics.compiled import kernels

FrameName = Literal["model", "image"]
Interpolation = Literal["bilinear", "nearest"]
Cells: TypeAlias = npt.NDArray[np.int64]


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
        pixels = self.pixels(saliency.detach().float().cpu().numpy(), mode)
        return torch.from_numpy(pixels).to(saliency.device)

    def pixels(self, saliency: npt.NDArray[np.float32], mode: Interpolation) -> npt.NDArray[np.float32]:
        """:meth:`sample` for a map that is an array on the host, float32 [rows, columns]."""
        rows, columns = saliency.shape
        y, x = self._axes()
        if mode == "bilinear":
            across, down = _bilinear(x, columns), _bilinear(y, rows)
            loops = kernels()
            if loops is None:
                pixels = _interpolate(_interpolate(saliency, 1, *across), 0, *down)
            else:
                pixels = np.empty((self.height, self.width), np.float32)
                loops.bilinear(np.ascontiguousarray(saliency), across, down, pixels)
        else:
            pixels = saliency.take(_nearest(x, columns), 1).take(_nearest(y, rows), 0)
        (top, bottom), (left, right) = _visible(y), _visible(x)
        if (top, bottom, left, right) != (0, self.height, 0, self.width):
            pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:] = (-math.inf,) * 4
        return pixels

    def _axes(self) -> tuple[_Axis, _Axis]:
        geometry = self.geometry
        if self.frame == "model":
            return _Axis(self.height, geometry.frame_height), _Axis(self.width, geometry.frame_width)
        down = geometry.image_height / self.height * geometry.scale_y
        across = geometry.image_width / self.width * geometry.scale_x
        return (
            _Axis(self.height, geometry.frame_height, down, geometry.offset_y),
            _Axis(self.width, geometry.frame_width, across, geometry.offset_x),
        )


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


def _interpolate(
    values: npt.NDArray[np.float32], axis: int, near: Cells, far: Cells, weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    nearer, between = values.take(near, axis), values.take(far, axis)
    between -= nearer
    between *= weight if axis else weight[:, None]
    between += nearer
    return between


@lru_cache(maxsize=256)
def _bilinear(axis: _Axis, cells: int) -> tuple[Cells, Cells, npt.NDArray[np.float32]]:
    """For each pixel the nearer and the farther cell, and the weight of the farther one (float32, at most ½)."""
    position = _positions(axis, cells)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, cells - 1)
    beyond = position - low.astype(np.float32)
    upper = beyond > 0.5
    near, far = np.where(upper, high, low), np.where(upper, low, high)
    weight = np.where(upper, 1 - beyond, beyond)
    return near, far, weight


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
def _nearest(axis: _Axis, cells: int) -> Cells:
    pixel = np.floor(_on_extent(axis)).clip(0, axis.extent - 1).astype(np.int64)
    return pixel * cells // axis.extent


@lru_cache(maxsize=256)
def _visible(axis: _Axis) -> tuple[int, int]:
    """The first pixel whose centre lies on the model frame, and the first one behind those."""
    position = _on_extent(axis)
    return int((position < 0).sum()), int((position < axis.extent).sum())


def _on_extent(axis: _Axis) -> npt.NDArray[np.float64]:
    return np.asarray((np.arange(axis.pixels) + 0.5) * axis.scale + axis.offset, np.float64)
