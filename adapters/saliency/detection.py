"""What open-vocabulary detectors share: scored boxes, relative to the model's frame, as a map."""

from __future__ import annotations

import torch

from ...benchmark.errors import WronglungError
from .boxes import raster_max

GRID = 192
"""Cells a side of a map: fine beside the boxes of a finding, and a whole divisor of the frames of OWL-ViT and OWLv2."""


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes [..., 4] as (x1, y1, x2, y2) from (centre x, centre y, width, height)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_map(boxes: torch.Tensor, scores: torch.Tensor, grid: int, threshold: float) -> torch.Tensor:
    """The largest score above ``threshold`` of a box at each cell, else 0: float32 [grid, grid].

    ``boxes`` [N, 4] are (centre x, centre y, width, height) in shares of the frame, ``scores`` [N]; see
    :func:`raster_max`.
    """
    return raster_max(corners(boxes) * grid, scores, grid, grid, threshold)


def check_painting(grid: int, threshold: float) -> None:
    """Raises :class:`WronglungError` for a grid without cells and a threshold that is no probability below 1."""
    if grid < 1:
        raise WronglungError(f"grid={grid}: must be at least 1")
    if not 0 <= threshold < 1:
        raise WronglungError(f"threshold={threshold}: must be at least 0 and less than 1")
