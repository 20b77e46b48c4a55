"""Gaussian smoothing of saliency maps on their own grid."""

from __future__ import annotations

import math

import torch

TRUNCATE = 4.0
"""Radius of the kernel in standard deviations."""


def gaussian(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Maps [..., rows, columns] smoothed with a standard deviation of ``sigma`` cells.

    Along rows, then columns; the kernel ends at :data:`TRUNCATE` standard deviations, to the nearest cell, and sums to
    1; beyond the borders the map is mirrored about its edge (d c b a | a b c d | d c b a), as SciPy's
    ``gaussian_filter`` does.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    for axis in (-2, -1):
        cells = torch.arange(maps.shape[axis], device=maps.device)
        # One shifted map after the other: no product of matrices, whose rounding would depend on the batch.
        smooth = torch.zeros_like(maps)
        for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
            smooth += weight / sum(kernel) * maps.index_select(axis, _mirrored(cells + offset, len(cells)))
        maps = smooth
    return maps


def _mirrored(at: torch.Tensor, size: int) -> torch.Tensor:
    folded = at.remainder(2 * size)
    return torch.where(folded < size, folded, 2 * size - 1 - folded)
