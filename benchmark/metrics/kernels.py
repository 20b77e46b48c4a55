"""Loops over pixels that are compiled where numba is installed (:mod:`.compiled`).

They do what the NumPy code of :mod:`.ranking` and :mod:`..frames` does, with the same operations on the same numbers, so that results
are the same to the last bit; sums of floats are therefore left to NumPy. Run as they stand they would be very slow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Unsigned = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.int64]


def radix_sort(keys: Unsigned, spare: Unsigned, masks: int, bits: int) -> Unsigned:
    """Sort keys [n] by the ``bits`` of their codes, which are above those of ``masks``, in either of the two arrays.

    Least significant digits first. Digits are as wide as pays: their counts must fit the first cache, and be fewer than the keys.
    """
    n = keys.size
    widest = 8
    while widest < 14 and (4 << widest) < n:
        widest += 1
    passes = (bits + widest - 1) // widest
    if passes == 0:
        return keys
    width = (bits + passes - 1) // passes
    size = 1 << width
    digits = np.uint64(size - 1)
    ends = np.empty(size, np.uint32)
    for done in range(passes):
        shift = np.uint64(masks + done * width)
        ends[:] = 0
        for at in range(n):
            ends[(np.uint64(keys[at]) >> shift) & digits] += np.uint32(1)
        total = np.uint32(0)
        for digit in range(size):
            count = ends[digit]
            ends[digit] = total
            total += count
        for at in range(n):
            key = keys[at]
            digit_of = (np.uint64(key) >> shift) & digits
            place = ends[digit_of]
            spare[place] = key
            ends[digit_of] = place + np.uint32(1)
        keys, spare = spare, keys
    return keys


def positives(
    keys: Unsigned, masks: int, mask: int, hits: Places, terms: npt.NDArray[np.float64]
) -> tuple[np.int64, np.int64]:
    """The places of sorted keys [n] that one of their ``masks`` holds, ascending, into ``hits`` [positives + 1], the last of
    which means nothing, and for each tie group among them its term of average precision into ``terms`` [positives].

    Returns the sum over the positives of start and end of their tie groups, and how many terms there are.
    """
    # Unsigned numbers throughout: an index that may be negative costs a comparison each time.
    bit, shift = np.uint64(mask), np.uint64(masks)
    zero, one, n = np.uint64(0), np.uint64(1), np.uint64(keys.size)
    last = n - one
    count = zero
    for at in range(keys.size):
        # Written always and counted where it belongs: no branch to predict.
        hits[count] = at
        count += (np.uint64(keys[at]) >> bit) & one
    ranks, groups, first = zero, zero, zero
    while first < count:
        start = np.uint64(hits[first])
        code = np.uint64(keys[start]) >> shift
        if (
            zero < start < last
            and np.uint64(keys[start - one]) >> shift != code
            and np.uint64(keys[start + one]) >> shift != code
        ):
            behind, end = first + one, start + one
        else:
            behind = first + one
            while behind < count and np.uint64(keys[np.uint64(hits[behind])]) >> shift == code:
                behind += one
            end = np.uint64(hits[behind - one]) + one
            while start > zero and np.uint64(keys[start - one]) >> shift == code:
                start -= one
            while end < n and np.uint64(keys[end]) >> shift == code:
                end += one
        ranks += (behind - first) * (start + end)
        terms[groups] = np.int64((behind - first) * (count - first)) / np.int64(n - start)
        groups += one
        first = behind
    return np.int64(ranks), np.int64(groups)


def bilinear(
    saliency: npt.NDArray[np.float32],
    columns: tuple[Places, Places, npt.NDArray[np.float32]],
    rows: tuple[Places, Places, npt.NDArray[np.float32]],
    pixels: npt.NDArray[np.float32],
) -> None:
    """Interpolate a map, along its columns and then along its rows, into ``pixels``; for each pixel of an axis the nearer cell, the
    farther one and the weight of the latter.
    """
    near, far, weight = columns
    width = pixels.shape[1]
    between = np.empty((saliency.shape[0], width), np.float32)
    for row in range(saliency.shape[0]):
        for x in range(width):
            value = saliency[row, near[x]]
            between[row, x] = (saliency[row, far[x]] - value) * weight[x] + value
    near, far, weight = rows
    for y in range(pixels.shape[0]):
        upper, lower, share = between[near[y]], between[far[y]], weight[y]
        for x in range(width):
            pixels[y, x] = (lower[x] - upper[x]) * share + upper[x]
