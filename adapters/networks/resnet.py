"""ResNets under torchvision's parameter names, and their shape read off the tensors of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...benchmark.errors import WronglungError

Stem = Literal["imagenet", "small"]
"""What stands before the first stage. ``imagenet``: 7 × 7 convolution of stride 2, then max-pooling of stride 2.
``small``, for images of some 64 pixels: 3 × 3 convolution of stride 2, no pooling."""


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """Blocks per stage, whether a block is a bottleneck of three convolutions (ResNet-50 and deeper), the channels of
    the first stage, and the stem."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    stem: Stem = "imagenet"

    @property
    def name(self) -> str:
        return f"ResNet-{sum(self.blocks) * (3 if self.bottleneck else 2) + 2}"

    @property
    def stage_channels(self) -> tuple[int, int, int, int]:
        factor = 4 if self.bottleneck else 1
        first = self.width * factor
        return first, 2 * first, 4 * first, 8 * first


class _Block(nn.Module):
    """A residual block; the stride sits in the 3 × 3 convolution that is a block's first, as in torchvision."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
            self.conv3: nn.Module = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3: nn.Module = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.bn2: nn.Module = nn.BatchNorm2d(width)
        self.bottleneck = bottleneck
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.bottleneck:
            out = self.bn3(self.conv3(functional.relu(out, inplace=True)))
        out += x if self.downsample is None else self.downsample(x)
        return functional.relu(out, inplace=True)


class ResNet(nn.Module):
    """A ResNet without its classifier; parameters are named as in torchvision."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        pooled = shape.stem == "imagenet"
        side = 7 if pooled else 3
        self.conv1 = nn.Conv2d(3, shape.width, side, stride=2, padding=side // 2, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(shape.width)
        self._pooled = pooled
        self.layer1 = _stage(shape, 0, inputs=shape.width)
        self.layer2 = _stage(shape, 1, inputs=shape.stage_channels[0])
        self.layer3 = _stage(shape, 2, inputs=shape.stage_channels[1])
        self.layer4 = _stage(shape, 3, inputs=shape.stage_channels[2])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the third and of the fourth stage."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        if self._pooled:
            x = functional.max_pool2d(x, 3, stride=2, padding=1)
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


def _stage(shape: ResNetShape, stage: int, inputs: int) -> nn.Sequential:
    outputs = shape.stage_channels[stage]
    width = shape.width << stage
    first = _Block(inputs, width, outputs, 1 if stage == 0 else 2, shape.bottleneck)
    others = (_Block(outputs, width, outputs, 1, shape.bottleneck) for _ in range(shape.blocks[stage] - 1))
    return nn.Sequential(first, *others)


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


def fold_batch_norms(module: nn.Module) -> None:
    """Merge each batch norm into the convolution before it, in place: the same function in evaluation mode, faster.

    Computed in float64. The module can no longer be trained or saved under its parameter names.
    """
    pairs = [("0", "1")] if isinstance(module, nn.Sequential) else [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
    children = dict(module.named_children())
    for convolution, norm in pairs:
        conv, bn = children.get(convolution), children.get(norm)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            dtype = conv.weight.dtype
            setattr(module, convolution, fuse_conv_bn_eval(conv.double(), bn.double()).to(dtype))
            setattr(module, norm, nn.Identity())
    for child in children.values():
        fold_batch_norms(child)
