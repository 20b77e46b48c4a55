"""What encoders share: how items reach the device, the precision that they compute in, whose geometry is whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..benchmark.protocol import Features, Geometry


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the device. A copy from the host to a GPU goes through pinned memory, and nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def together(rows: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Tensors on one device, so that they can be joined: as they are if they lie on one already, else on ``device``."""
    apart = len({row.device for row in rows}) > 1
    return [to_device(row, device) for row in rows] if apart else list(rows)


def stacked(rows: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Tensors of one shape as one tensor [rows, ...] on ``device``. A row that is given several times is moved once."""
    distinct = {id(row): row for row in rows}
    moved = to_device(torch.stack(together(list(distinct.values()), device)), device)
    if len(distinct) == len(rows):
        return moved
    place = {key: at for at, key in enumerate(distinct)}
    return moved[to_device(torch.tensor([place[id(row)] for row in rows]), device)]


def geometry_of(image: Features) -> Geometry:
    """An image's geometry. Raises ``ValueError`` for the features of a sentence."""
    if image.geometry is None:
        raise ValueError("the features of a sentence were given in the place of an image's")
    return image.geometry


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No TF32 in float32: neither in convolutions, where CUDA uses it by default, nor in products of matrices, where an
    environment variable can ask for it. No choice of algorithm by timing."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    # Since torch 2.9 the older name can no longer be read where somebody has set the newer one.
    name, exact = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    before = getattr(matmul, name)
    setattr(matmul, name, exact)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        setattr(matmul, name, before)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or in its own dtype where that is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def sources(trained_on: str | None) -> tuple[str, ...]:
    """The datasets of a list separated by commas, for a card."""
    return tuple(one.strip() for one in (trained_on or "").split(",") if one.strip())
