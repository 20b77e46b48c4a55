"""Area-averaging resize of 8-bit grey images, bit for bit what OpenCV's ``resize`` does with ``INTER_AREA``.

Released GLoRIA weights were trained on images reduced that way. The arithmetic is part of the result (float32 sums in
source order, slivers below 1e-3 of a pixel dropped, halves rounded to even, 11-bit fixed point when enlarging): an
average that is equal on paper differs by a grey level in places.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..preprocessing.greyscale import GreyImage

_Indices = npt.NDArray[np.intp]
_Weights = npt.NDArray[np.float32]
_FixedPoint = npt.NDArray[np.int32]

_SLIVER = 1e-3
_FIXED_POINT_ONE = np.float32(1 << 11)
_STRIPE = 128
"""Rows that are averaged at a time: few enough to stay in a processor's cache."""


def resize_area(image: GreyImage, width: int, height: int) -> GreyImage:
    """``image`` (uint8, [rows, columns]) resized to [``height``, ``width``].

    Both sides must be at least one pixel. Where either side grows, OpenCV replaces the average by its own variant of
    bilinear interpolation in both directions, and so does this.
    """
    rows, columns = image.shape
    if (rows, columns) == (height, width):
        return image.copy()
    # OpenCV inverts the inverse ratio; in floating point that is not always the ratio.
    scale_x, scale_y = 1.0 / (width / columns), 1.0 / (height / rows)
    if scale_x < 1 or scale_y < 1:
        return _enlarge(image, width, height, scale_x, scale_y)
    if scale_x.is_integer() and scale_y.is_integer():
        return _block_means(image, width, height, int(scale_x), int(scale_y))
    taps = _area_taps(columns, width, scale_x)
    across = np.empty((rows, width), dtype=np.float32)
    for top in range(0, rows, _STRIPE):
        stripe = np.ascontiguousarray(image[top : top + _STRIPE].T, dtype=np.float32)
        across[top : top + _STRIPE] = _weighted_sums(stripe, *taps).T
    sums = _weighted_sums(across, *_area_taps(rows, height, scale_y))
    return np.rint(sums).clip(0, 255).astype(np.uint8)


def _block_means(image: GreyImage, width: int, height: int, factor_x: int, factor_y: int) -> GreyImage:
    sums = image.reshape(height, factor_y, width, factor_x).sum(axis=(1, 3), dtype=np.int32)
    if factor_x == factor_y == 2:
        means = (sums + 2) >> 2
    else:
        means = np.rint(sums.astype(np.float32) * np.float32(1 / (factor_x * factor_y)))
    result: GreyImage = means.astype(np.uint8)
    return result


@lru_cache(maxsize=256)
def _area_taps(source: int, target: int, scale: float) -> tuple[_Indices, _Weights]:
    """Which source pixels each target pixel averages, and their weights: both [taps, target], padded with weight 0."""
    taps: list[list[tuple[int, float]]] = []
    for at in range(target):
        start = at * scale
        end = start + scale
        cell = min(scale, source - start)
        last = min(math.floor(end), source - 1)
        first = min(math.ceil(start), last)
        row = [(first - 1, (first - start) / cell)] if first - start > _SLIVER else []
        row.extend((inner, 1 / cell) for inner in range(first, last))
        if end - last > _SLIVER:
            row.append((last, min(end - last, 1.0, cell) / cell))
        taps.append(row)
    depth = max(map(len, taps))
    indices = np.zeros((depth, target), dtype=np.intp)
    weights = np.zeros((depth, target), dtype=np.float32)
    for column, row in enumerate(taps):
        for tap, (index, weight) in enumerate(row):
            indices[tap, column], weights[tap, column] = index, weight
    return indices, weights


def _weighted_sums(lines: npt.NDArray[np.float32], indices: _Indices, weights: _Weights) -> _Weights:
    """Weighted sums of rows of ``lines``, one tap after the other: float32 addition keeps OpenCV's order."""
    total = np.zeros((indices.shape[1], lines.shape[1]), dtype=np.float32)
    for index, weight in zip(indices, weights, strict=True):
        total += lines[index] * weight[:, None]
    return total


def _enlarge(image: GreyImage, width: int, height: int, scale_x: float, scale_y: float) -> GreyImage:
    left, right, left_weight, right_weight = _linear_taps(image.shape[1], width, scale_x)
    top, bottom, top_weight, bottom_weight = _linear_taps(image.shape[0], height, scale_y)
    across = (image[:, left] * left_weight + image[:, right] * right_weight) >> 4
    above = (across[top] * top_weight[:, None]) >> 16
    below = (across[bottom] * bottom_weight[:, None]) >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _linear_taps(source: int, target: int, scale: float) -> tuple[_Indices, _Indices, _FixedPoint, _FixedPoint]:
    """The two source pixels that each target pixel mixes, and their weights in units of 1/2048."""
    at = np.arange(target)
    first = np.floor(at * scale).astype(np.intp)
    fraction = ((at + 1) - (first + 1) * (target / source)).astype(np.float32)
    fraction = np.where(fraction <= 0, np.float32(0), fraction - np.floor(fraction))
    fraction = np.where(first >= source - 1, np.float32(0), fraction)
    first = np.minimum(first, source - 1)
    first_weight = np.rint((np.float32(1) - fraction) * _FIXED_POINT_ONE).astype(np.int32)
    second_weight = np.rint(fraction * _FIXED_POINT_ONE).astype(np.int32)
    return first, np.minimum(first + 1, source - 1), first_weight, second_weight
