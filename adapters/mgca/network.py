"""The parts of MGCA's encoders, with the parameter names of its checkpoints and of its authors' ConVIRT.

Fuying Wang, Yuyin Zhou, Shujun Wang, Varut Vardhanabhuti, Lequan Yu: "Multi-Granularity Cross-modal Alignment for
Generalized Medical Visual Representation Learning", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from ...benchmark.errors import WronglungError
from ..networks.resnet import ResNet, ResNetShape, resnet_shape

FRAME = 224
"""Side of an input in pixels."""
INNER = 299
"""Side in pixels that inputs are enlarged to before a ResNet."""

_HEAD_SIZE = 64


class ResNetTower(ResNet):
    """A ResNet, whose third stage gives the patches."""

    stage = "layer4"
    """What the activations are."""

    def activations(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last stage [batch, C', rows, columns], of which :meth:`state` makes image states [batch, C']."""
        fourth: torch.Tensor = self(enlarged(pixels))[1]
        return fourth

    def state(self, activations: torch.Tensor) -> torch.Tensor:
        return activations.mean(dim=(2, 3))

    def features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [batch, rows, columns, C] and image states [batch, C'] of pixels [batch, 3, height, width]."""
        third, fourth = self(enlarged(pixels))
        return third.permute(0, 2, 3, 1), self.state(fourth)


def enlarged(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels as MGCA's ResNets get them."""
    return functional.interpolate(pixels, size=(INNER, INNER), mode="bilinear", align_corners=True)


class VitTower(nn.Module):
    """A plain vision transformer; parameters are named as in DeiT."""

    stage = "the tokens that enter the last block"

    def __init__(self, width: int, patch: int, blocks: int, hidden: int) -> None:
        super().__init__()
        self.grid = FRAME // patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.blocks = nn.ModuleList(_Block(width, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [batch, rows, columns, C] and image states [batch, C] of square pixels [batch, 3, side, side]."""
        tokens = self.norm(self.blocks[-1](self.activations(pixels)))
        return tokens[:, 1:].unflatten(1, (self.grid, self.grid)), tokens[:, 0]

    def activations(self, pixels: torch.Tensor) -> torch.Tensor:
        """The tokens [batch, 1 + P, C] that enter the last block, for :meth:`state` to make image states of."""
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens: torch.Tensor = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return tokens

    def state(self, activations: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.norm(self.blocks[-1](activations))[:, 0]
        return first


class _Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD_SIZE)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        packed = self.attn["qkv"](self.norm1(tokens)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = packed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.attn["proj"](mixed.transpose(1, 2).flatten(2))
        added: torch.Tensor = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(tokens))))
        return tokens + added


Tower = ResNetTower | VitTower


def image_tower(weights: Mapping[str, torch.Tensor], prefix: str, path: Path) -> tuple[Tower, str]:
    """The image tower whose tensors have names that begin with ``prefix``, and what it is called.

    Raises :class:`WronglungError` where there is none.
    """
    if f"{prefix}cls_token" not in weights:
        shape: ResNetShape = resnet_shape(weights, prefix, path)
        return ResNetTower(shape), shape.name
    stem, first = (weights.get(prefix + key) for key in ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"))
    if stem is None or first is None or stem.ndim != 4:
        raise WronglungError(f"checkpoint {path}: has no whole vision transformer under {prefix!r}")
    blocks = len({key[len(prefix) :].split(".")[1] for key in weights if key.startswith(f"{prefix}blocks.")})
    return VitTower(stem.shape[0], stem.shape[2], blocks, first.shape[0]), "vision transformer"


def embedding(weights: Mapping[str, torch.Tensor], prefix: str, path: Path) -> nn.Sequential:
    """Two layers with batch norms, to the joint space; their tensors have names that begin with ``prefix``.

    Local embeddings are stored as convolutions of width 1. Raises :class:`WronglungError` where there is none.
    """
    first, last = (weights.get(f"{prefix}{layer}.weight") for layer in (0, 3))
    if first is None or last is None or not 2 <= first.ndim == last.ndim <= 3:
        raise WronglungError(f"checkpoint {path}: has no '{prefix}0.weight' and '{prefix}3.weight'")

    def layer(weight: torch.Tensor) -> nn.Module:
        outputs, inputs = weight.shape[:2]
        return nn.Linear(inputs, outputs) if weight.ndim == 2 else nn.Conv1d(inputs, outputs, 1)

    return nn.Sequential(
        layer(first), nn.BatchNorm1d(len(first)), nn.ReLU(), layer(last), nn.BatchNorm1d(len(last), affine=False)
    )


def embedded(layers: nn.Sequential, states: torch.Tensor) -> torch.Tensor:
    """States [..., C] in the joint space [..., D], by local embeddings."""
    vectors: torch.Tensor = layers(states.flatten(0, -2)[..., None])[..., 0]
    return vectors.reshape(*states.shape[:-1], -1)
