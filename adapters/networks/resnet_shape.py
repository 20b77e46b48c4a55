"""The shape of a ResNet, read off the tensors of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ...benchmark.errors import WronglungError
from ..gloria.network import ResNetShape


def resnet_shape(weights: Mapping[str, torch.Tensor], prefix: str, path: Path) -> ResNetShape:
    """The shape of the ResNet whose tensors have torchvision's names after ``prefix``; ``path`` is for messages.

    Raises :class:`WronglungError` where there is none.
    """

    def blocks(stage: int) -> int:
        block = re.compile(rf"{re.escape(prefix)}layer{stage}\.(\d+)\.")
        return len({found[1] for key in weights if (found := block.match(key))})

    first = f"{prefix}conv1.weight"
    if first not in weights or not all(blocks(stage) for stage in (1, 2, 3, 4)):
        raise WronglungError(f"checkpoint {path}: has no ResNet under {prefix!r} ({first!r} and four stages)")
    return ResNetShape(
        (blocks(1), blocks(2), blocks(3), blocks(4)),
        bottleneck=f"{prefix}layer1.0.conv3.weight" in weights,
        width=weights[first].shape[0],
    )
