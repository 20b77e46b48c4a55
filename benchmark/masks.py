"""Pixel masks, stored as COCO stores them: compressed run lengths, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.bool_]
Corners = npt.NDArray[np.float64]

MAX_PIXELS = 1 << 27
_CACHED = 1 << 24  # pixels of a mask that is kept


@dataclass(frozen=True, slots=True)
class Mask:
    """A set of pixels of an image of ``width`` × ``height`` pixels (of the mask, which may be coarser than the image).

    ``counts`` are the lengths of the runs of pixels outside and inside in turn, beginning outside, down the columns from
    left to right, in the printable coding of the COCO API ("compressed RLE"). Made by the functions of this module, which
    check that the runs fill the mask.
    """

    width: int
    height: int
    counts: bytes

    def pixels(self) -> Pixels:
        """The mask as bool [height, width]; read-only, as it may be shared."""
        return _cached(self) if self.width * self.height <= _CACHED else _drawn(self)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is inside."""
        return len(_decompressed(self.counts)) < 2

    def extent(self) -> tuple[float, float, float, float] | None:
        """x1, y1, x2, y2 in edge coordinates of the mask's pixels, or None for an empty mask."""
        ends = np.cumsum(np.asarray(_decompressed(self.counts), dtype=np.int64))
        starts, lasts = ends[:-1:2], ends[1::2] - 1  # of the runs inside
        if not lasts.size:
            return None
        x1, x2 = starts[0] // self.height, lasts[-1] // self.height + 1
        if (starts // self.height != lasts // self.height).any():  # a run that goes on in the next column
            return float(x1), 0.0, float(x2), float(self.height)
        return float(x1), float((starts % self.height).min()), float(x2), float((lasts % self.height).max() + 1)


def from_pixels(pixels: Pixels) -> Mask:
    """The mask of a bool array [height, width]. Raises ``ValueError`` for an array of another shape or an empty one."""
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"a mask has two dimensions of at least one pixel, not the shape {pixels.shape}")
    height, width = pixels.shape
    pixels = np.asarray(pixels, dtype=np.bool_)
    columns = np.flatnonzero(pixels.any(0))
    if not columns.size:
        return _of_runs([width * height], width, height)
    # Turning rows into columns is what takes time; most of an image is outside.
    first, last = int(columns[0]), int(columns[-1]) + 1
    flat = pixels[:, first:last].ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    runs = [0, *runs] if flat[0] else runs
    runs[0] += first * height
    behind = (width - last) * height
    if len(runs) % 2:
        runs[-1] += behind
    else:
        runs.append(behind)
    return _of_runs(runs, width, height)


def from_coco(size: Sequence[int], counts: str | bytes | Sequence[int]) -> Mask:
    """The mask of a COCO run-length coding: ``size`` is (height, width), ``counts`` compressed text or plain numbers.

    Raises ``ValueError`` saying what is wrong with it.
    """
    if len(size) != 2:
        raise ValueError("size must be [height, width]")
    height, width = size
    runs = (
        _decompressed(counts.encode() if isinstance(counts, str) else counts)
        if isinstance(counts, str | bytes)
        else counts
    )
    return _of_runs(runs, width, height)


def from_relative_runs(numbers: Sequence[int], width: int, height: int) -> Mask:
    """The mask of pairs (gap since the end of the last run, length of the run), down the columns from left to right.

    What is behind the last run is outside. Raises ``ValueError`` for an odd count and for runs beyond the mask.
    """
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers, which are not pairs")
    rest = width * height - sum(numbers)
    return _of_runs([*numbers, rest] if rest else numbers, width, height)


def from_polygons(polygons: Iterable[Sequence[tuple[float, float]]], width: int, height: int) -> Mask:
    """The mask of the union of polygons, each a list of points (x, y), with their outlines.

    Drawn as CheXlocalize's own code does, with Pillow. Raises ``ValueError`` for a polygon of fewer than two points (Pillow
    draws none) and coordinates that are not finite or far outside.
    """
    from PIL import Image, ImageDraw

    _check_size(width, height)
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        pen.polygon([(float(x), float(y)) for x, y in _points(polygon)], outline=1, fill=1)
    return from_pixels(np.asarray(canvas))


def _points(polygon: Sequence[tuple[float, float]]) -> Corners:
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a polygon is a list of at least two points [x, y] ({error})") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError("a polygon is a list of at least two points [x, y]")
    if not np.isfinite(points).all() or np.abs(points).max() > 10 * MAX_PIXELS**0.5:
        raise ValueError("a polygon's point is not finite, or far outside the image")
    return points


def from_segmentation(segmentation: Any, width: int, height: int) -> Mask:
    """The mask of COCO's ``segmentation``: polygons, each a flat list x, y, x, y, ..., or run lengths {size, counts}.

    Raises ``ValueError`` for something else, for run lengths of another size, and for an empty mask.
    """
    if isinstance(segmentation, dict):
        size: Any = segmentation.get("size")
        counts = segmentation.get("counts")
        numbers = [*(size if isinstance(size, list) else [None]), *(counts if isinstance(counts, list) else [])]
        if not isinstance(counts, str | list) or not all(type(one) is int for one in numbers):
            raise ValueError("run lengths must be {size: [height, width], counts: text or whole numbers}")
        mask = from_coco(size, counts)
        if (mask.width, mask.height) != (width, height):
            raise ValueError(f"a mask of {mask.width} × {mask.height} pixels, not {width} × {height}")
    elif isinstance(segmentation, list) and all(isinstance(one, list) for one in segmentation):
        if any(len(one) % 2 or any(type(number) not in (int, float) for number in one) for one in segmentation):
            raise ValueError("a polygon that is no list x, y, x, y, ...")
        mask = from_outlines([list(zip(one[::2], one[1::2], strict=True)) for one in segmentation], width, height)
    else:
        raise ValueError("neither polygons nor run lengths")
    if mask.is_empty:
        raise ValueError("empty")
    return mask


def from_outlines(polygons: Iterable[Sequence[tuple[float, float]]], width: int, height: int) -> Mask:
    """The mask of the pixels whose centres lie in one of some polygons (even-odd), each a list of points (x, y) in edges.

    As boxes are drawn, and within rounding as the COCO API draws polygons, which rounds outlines on a finer grid. Raises
    ``ValueError`` as :func:`from_polygons`.
    """
    _check_size(width, height)
    pixels = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        points = _points(polygon)
        low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
        left, top = max(0, low[0]), max(0, low[1])
        right, bottom = min(width, high[0]), min(height, high[1])
        if left < right and top < bottom:
            window = pixels[top:bottom, left:right]
            window |= _inside(points, np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    return from_pixels(pixels)


def _inside(points: Corners, x: Corners, y: Corners) -> Pixels:
    """Whether the points (x, y) of a grid lie in a polygon: a bool array [len(y), len(x)], by the parity of crossings."""
    inside = np.zeros((len(y), len(x)), dtype=np.bool_)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        rows = np.flatnonzero((y1 <= y) != (y2 <= y))
        if rows.size:
            crossing = x1 + (y[rows] - y1) * ((x2 - x1) / (y2 - y1))
            inside[rows] ^= x[None, :] >= crossing[:, None]
    return inside


def union(masks: Sequence[Mask]) -> Mask:
    """The union of masks of one size. Raises ``ValueError`` for none, and for masks of different sizes."""
    if len({(one.width, one.height) for one in masks}) != 1:
        raise ValueError("a union needs masks of one size")
    if len(masks) == 1:
        return masks[0]
    return from_pixels(np.logical_or.reduce([one.pixels() for one in masks]))


def _check_size(width: int, height: int) -> None:
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise ValueError(f"a mask of {width} × {height} pixels")


def _of_runs(runs: Sequence[int], width: int, height: int) -> Mask:
    _check_size(width, height)
    if any(run < 0 for run in runs):
        raise ValueError("a run of negative length")
    if sum(runs) != width * height:
        raise ValueError(f"runs of {sum(runs)} pixels in a mask of {width} × {height}")
    # One mask, one coding: empty runs join their neighbours, and none is left at the end.
    joined = [0]
    for at, run in enumerate(runs):
        inside = at % 2 == 1
        if not run:
            continue
        if inside == (len(joined) % 2 == 0):
            joined[-1] += run
        else:
            joined.append(run)
    return Mask(width, height, _compressed(joined))


@lru_cache(maxsize=16)
def _cached(mask: Mask) -> Pixels:
    return _drawn(mask)


def _drawn(mask: Mask) -> Pixels:
    runs = np.array(_decompressed(mask.counts), dtype=np.int64)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    pixels: Pixels = np.ascontiguousarray(flat.reshape((mask.height, mask.width), order="F"))
    pixels.setflags(write=False)
    return pixels


def _compressed(runs: Sequence[int]) -> bytes:
    """Runs as the COCO API prints them: from the fourth on the difference to the last but one, 5 bits a character."""
    text = bytearray()
    for at, run in enumerate(runs):
        value = run - runs[at - 2] if at > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text.append((bits | 0x20 if more else bits) + 48)
    return bytes(text)


def _decompressed(counts: bytes) -> list[int]:
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if at == len(counts) or shift > 60:
                raise ValueError("compressed run lengths that end too early")
            bits = counts[at] - 48
            if not 0 <= bits < 64:
                raise ValueError(f"compressed run lengths hold {counts[at : at + 1]!r}")
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            at += 1
            shift += 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
