"""Random changes to a batch of films, and to box masks along with them."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ..preprocessing import Frame
from .config import AugmentationSection


def crop(squares: torch.Tensor, frame: Frame) -> torch.Tensor:
    """The centre that the network gets, of uint8 or bool [batch, longer side, longer side]."""
    return squares[:, frame.centre, frame.centre]


def random_placement(
    count: int, settings: AugmentationSection, frame: Frame, generator: torch.Generator
) -> torch.Tensor:
    """Affine maps [count, 2, 3] from the network's frame to the padded square, both in [-1, 1] as in ``affine_grid``:
    the centre crop, rotated about its middle, scaled, and shifted; never mirrored."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    share = frame.crop / frame.longer_side
    angle = uniform(settings.rotate) * math.pi / 180
    scale = share * (1 + uniform(settings.scale))
    limit = 2 * settings.shift * share
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.stack(
        [torch.stack([cos, -sin, uniform(limit)], dim=1), torch.stack([sin, cos, uniform(limit)], dim=1)], dim=1
    )


def place(squares: torch.Tensor, placement: torch.Tensor, side: int) -> torch.Tensor:
    """The squares [batch, S, S] seen through a placement, float32 [batch, side, side]: bilinear; 0 outside."""
    grid = functional.affine_grid(placement, [len(squares), 1, side, side], align_corners=False)
    return functional.grid_sample(squares[:, None].float(), grid, align_corners=False)[:, 0]


def jitter(pixels: torch.Tensor, settings: AugmentationSection, generator: torch.Generator) -> torch.Tensor:
    """Brightness and contrast of films in [-1, 1] [batch, side, side], changed per film and cut to [-1, 1]."""

    def uniform(limit: float) -> torch.Tensor:
        drawn = (torch.rand(len(pixels), 1, 1, generator=generator) * 2 - 1) * limit
        return drawn.to(pixels.device)

    return (pixels * (1 + uniform(settings.contrast)) + uniform(settings.brightness)).clamp(-1, 1)
