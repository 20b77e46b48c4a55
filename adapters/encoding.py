"""What encoders share: the precision that they compute in, whose geometry is whose, what they were trained on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..benchmark.protocol import Features, Geometry


def geometry_of(image: Features) -> Geometry:
    """An image's geometry. Raises ``ValueError`` for the features of a sentence."""
    if image.geometry is None:
        raise ValueError("the features of a sentence were given in the place of an image's")
    return image.geometry


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """No TF32 in float32 convolutions, which CUDA uses by default, and no choice of algorithm by timing."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or in its own dtype where that is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def sources(trained_on: str | None) -> tuple[str, ...]:
    """The datasets of a list separated by commas, for a card."""
    return tuple(one.strip() for one in (trained_on or "").split(",") if one.strip())
