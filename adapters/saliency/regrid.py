"""Maps on another grid."""

from __future__ import annotations

import torch
from torch.nn import functional


def regrid(saliency: torch.Tensor, side: int) -> torch.Tensor:
    """A map [rows, columns] on a grid of ``side`` × ``side`` cells that covers the same frame: float32.

    Bilinear without aligned corners; where a side shrinks, the triangle is as wide as the cells that it replaces
    (antialiased), so that no cell goes unseen. A map that has the grid comes back as it is.
    """
    if saliency.shape == (side, side):
        return saliency.float()
    batch = saliency.float()[None, None]
    return functional.interpolate(batch, (side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
