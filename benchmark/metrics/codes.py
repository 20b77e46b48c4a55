"""The values of a map's pixels as small whole numbers that order as they do, and as keys that also say which masks hold a pixel.

Whole numbers because they sort several times faster than floats, because equal values are equal bits, and because the masks
fit into the bits below them: sorting the keys alone is then all that is needed to know where the pixels of every mask lie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Pixels: TypeAlias = npt.NDArray[np.floating[Any]]
"""float32 or float64."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Keys: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
"""uint32, or uint64 where that is too narrow."""

MOST_MASKS = 24
"""Masks that keys have room for, whatever the values: as many bits as their codes leave free in 64."""

_INFINITY = int(np.float32(math.inf).view(np.int32))
_LEAST = np.iinfo(np.int32).min


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """The pixel values of one map as codes from 0 to ``largest``: ``of_pixels`` unsigned [n], equal where the values are.

    A code is the place of the value among all float32 numbers, counted from the ``lowest`` one of the map; or where ``unseen``,
    pixels of -inf have the code 0 and the lowest other value has the code 1. Where there are ``levels`` (the distinct values of
    a float64 map, ascending), it is the place among those instead.
    """

    of_pixels: npt.NDArray[np.uint32]
    largest: int
    lowest: int = 0
    unseen: bool = False
    levels: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(cls, pixels: Pixels) -> Codes:
        """Of pixel values [n], n ≥ 1: any but NaN, for which ``ValueError`` is raised. -0.0 has the code of 0.0."""
        if pixels.dtype == np.float64:
            if np.isnan(pixels).any():
                raise ValueError("pixels must not be NaN")
            levels, codes = np.unique(pixels.astype(np.float64, copy=False), return_inverse=True)
            return cls(codes.reshape(-1).astype(np.uint32), len(levels) - 1, levels=levels)
        bits = pixels.view(np.int32)
        low, high = int(bits.min()), int(bits.max())
        if low < 0:
            # The bits of negative floats order the other way round.
            bits = np.where(bits < 0, _LEAST - bits, bits)
            low, high = int(bits.min()), int(bits.max())
        if high > _INFINITY or low < -_INFINITY:
            raise ValueError("pixels must not be NaN")
        if low == high or low > -_INFINITY:
            return cls(_above(bits, low), high - low, low)
        # Without this step, the least visible value would be far above what the model never saw, and the keys wide.
        seen = bits > -_INFINITY
        low = int(bits.min(where=seen, initial=high))
        return cls(np.where(seen, _above(bits, low - 1), np.uint32(0)), high - low + 1, low, True)

    def range(self) -> tuple[float, float]:
        """The least and the largest value, unseen pixels left out; -inf twice where all are unseen."""
        if self.levels is not None:
            least = min(int(self.levels[0] == -math.inf), self.largest)
            return float(self.levels[least]), float(self.levels[-1])
        return _value(self.lowest), _value(self.lowest + self.largest - self.unseen)

    def exceeding(self, thresholds: Sequence[float]) -> npt.NDArray[np.int64]:
        """For each threshold (within the range of float32) the least code whose values exceed it; at most ``largest`` + 1."""
        exact = np.array(thresholds, np.float64)
        if self.levels is not None:
            return self.levels.searchsorted(exact, side="right")
        rounded = exact.astype(np.float32)
        rounded = np.where(rounded > exact, np.nextafter(rounded, np.float32(-math.inf)), rounded)
        bits = rounded.view(np.int32).astype(np.int64)
        places = np.where(bits < 0, _LEAST - bits, bits) + 1 - self.lowest
        codes: npt.NDArray[np.int64] = np.minimum(np.maximum(places, 0) + self.unseen, self.largest + 1)
        return codes


def keys_of(codes: Codes, masks: Sequence[Mask]) -> Keys:
    """A key for each pixel [n]: its code above one bit for each of the masks (bool [n], at most :data:`MOST_MASKS`)."""
    count = len(masks)
    width = (codes.largest + 1).bit_length() + count
    number: Any = np.uint32 if width <= 32 else np.uint64
    keys: Keys = codes.of_pixels.astype(number) * number(1 << count)
    for first in range(0, count, 8):
        # Up to eight masks become one byte a pixel before they meet the wider keys. Products, because NumPy's shifts are slow.
        members = masks[first].view(np.uint8)
        for at, mask in enumerate(masks[first + 1 : first + 8], 1):
            members = members | mask.view(np.uint8) * np.uint8(1 << at)
        keys |= members.astype(number) * number(1 << first) if first else members
    return keys


def sort(keys: Keys) -> Keys:
    """The keys in ascending order: by NumPy or by PyTorch, whichever is faster on this machine."""
    return _fastest_sort()(keys)


def _above(bits: npt.NDArray[np.int32], low: int) -> npt.NDArray[np.uint32]:
    """How far the bits are above ``low``, all of them at least; the difference may be larger than any int32."""
    return bits.view(np.uint32) - np.uint32(low % 2**32)


def _value(place: int) -> float:
    """The float32 of a place among all of them."""
    return float(np.int32(_LEAST - place if place < 0 else place).view(np.float32))


@cache
def _fastest_sort() -> Callable[[Keys], Keys]:
    """NumPy is faster where it knows the processor's vector instructions and these are good at it; PyTorch sorts by radix."""
    trial = np.random.default_rng(0).integers(2**30, size=50_000, dtype=np.uint32)

    def seconds(of: Callable[[Keys], Keys]) -> float:
        start = time.perf_counter()
        of(trial)
        return time.perf_counter() - start

    return min((_numpy_sort, _torch_sort), key=lambda of: min(seconds(of) for _ in range(3)))


def _numpy_sort(keys: Keys) -> Keys:
    return np.sort(keys)


def _torch_sort(keys: Keys) -> Keys:
    signed = keys.view(np.int32 if keys.dtype == np.uint32 else np.int64)
    if signed.min() < 0:
        return np.sort(keys)
    return torch.sort(torch.from_numpy(signed)).values.numpy().view(keys.dtype)
