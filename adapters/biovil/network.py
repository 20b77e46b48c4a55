"""BioViL's and BioViL-T's encoders, with the parameter names of their published files.

Image: a ResNet-50 whose last stage gives the patches, and a projector that takes each patch into the joint space.
BioViL-T puts beside each patch what changed since a prior image, or, without one, a learned vector. Text: a BERT whose
[CLS] state is projected into the joint space. Nothing is normalised.

Benedikt Boecking et al.: "Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing",
ECCV 2022.
Shruthi Bannur et al.: "Learning to Exploit Temporal Structure for Biomedical Vision-Language Processing",
CVPR 2023.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from ..networks.resnet import ResNet, ResNetShape

POOLER_GRID = 14
"""Rows, and columns, of patches that a current and a prior image must have."""

_POOLER_HEADS = 8


class _Projector(nn.Module):
    def __init__(self, inputs: int, dimensions: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(inputs, dimensions, 1, bias=False),
            nn.BatchNorm2d(dimensions),
            nn.ReLU(),
            nn.Conv2d(dimensions, dimensions, 1),
        )


class _Backbone(nn.Module):
    """BioViL's: the ResNet alone."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.encoder = ResNet(shape)
        self.channels = shape.stage_channels[3]

    def fuse(self, current: torch.Tensor, prior: torch.Tensor | None) -> torch.Tensor:
        if prior is not None:
            raise ValueError("BioViL takes no prior image; BioViL-T does")
        return current


class _TemporalBackbone(_Backbone):
    """BioViL-T's: what is seen, and what changed."""

    def __init__(self, shape: ResNetShape, width: int, blocks: int) -> None:
        super().__init__(shape)
        self.backbone_to_vit = nn.Conv2d(self.channels, width, 1, bias=False)
        self.vit_pooler = _Pooler(width, blocks)
        self.missing_previous_emb = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.channels = 2 * width

    def fuse(self, current: torch.Tensor, prior: torch.Tensor | None) -> torch.Tensor:
        seen = self.backbone_to_vit(current)
        if prior is None:
            changed = self.missing_previous_emb.expand_as(seen)
        else:
            changed = self.vit_pooler(seen, self.backbone_to_vit(prior))
        return torch.cat([seen, changed], dim=1)


class _Pooler(nn.Module):
    """Attention among the patches of a current and a prior image."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_PoolerBlock(width) for _ in range(blocks))
        self.norm_post = nn.LayerNorm(width, eps=1e-6)
        self.type_embed = nn.Parameter(torch.zeros(2, 1, width))
        self.register_buffer("positions", sine_positions(POOLER_GRID, width), persistent=False)

    def forward(self, current: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Of current and prior [batch, width, rows, columns] the current one's patches, in the same shape."""
        if not current.shape[2:] == prior.shape[2:] == (POOLER_GRID, POOLER_GRID):
            raise ValueError(f"current and prior image must have {POOLER_GRID} × {POOLER_GRID} patches")
        tokens = torch.cat([current.flatten(2), prior.flatten(2)], dim=2).transpose(1, 2)
        where = (self.get_buffer("positions") + self.type_embed).flatten(0, 1)
        for block in self.blocks:
            tokens = block(tokens, where)
        ours: torch.Tensor = self.norm_post(tokens)[:, : POOLER_GRID**2]
        return ours.transpose(1, 2).reshape(current.shape)


class _PoolerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _PoolerAttention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, width), "fc2": nn.Linear(width, width)})

    def forward(self, tokens: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens) + where)
        hidden = functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        added: torch.Tensor = self.mlp["fc2"](hidden)
        return tokens + added


class _PoolerAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_q = nn.Linear(width, width, bias=False)
        self.proj_k = nn.Linear(width, width, bias=False)
        self.proj_v = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (
            project(tokens).unflatten(2, (_POOLER_HEADS, -1)).transpose(1, 2)
            for project in (self.proj_q, self.proj_k, self.proj_v)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        projected: torch.Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


def sine_positions(side: int, width: int) -> torch.Tensor:
    """Fixed positions of a grid's cells, float32 [side · side, width]: one half for the row, the other for the column.

    The n-th of ``side`` rows (n from 1) has the angle 2π · n / (side + 1e-6), divided by 10000^(2⌊i/2⌋ / (width/2)) for
    channel i of its half: its sine on even channels, its cosine on odd ones.
    """
    half = width // 2
    angle = torch.arange(1, side + 1, dtype=torch.float32) / (side + 1e-6) * 2 * math.pi
    channel = torch.arange(half, dtype=torch.float32)
    angles = angle[:, None] / 10000 ** (2 * (channel // 2) / half)
    waves = torch.where(channel % 2 == 0, angles.sin(), angles.cos())
    rows, columns = waves[:, None].expand(side, side, half), waves[None].expand(side, side, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


class ImageEncoder(nn.Module):
    """``temporal``: the width and the number of blocks of BioViL-T's pooler; None for BioViL."""

    def __init__(self, shape: ResNetShape, dimensions: int, temporal: tuple[int, int] | None) -> None:
        super().__init__()
        self.encoder = _Backbone(shape) if temporal is None else _TemporalBackbone(shape, *temporal)
        self.projector = _Projector(self.encoder.channels, dimensions)
        self.temporal = temporal is not None
        self.dimensions = dimensions

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The ResNet's last stage [batch, channels, rows, columns] of pixels [batch, 3, height, width]."""
        fourth: torch.Tensor = self.encoder.encoder(pixels)[1]
        return fourth

    def project(self, features: torch.Tensor, prior: torch.Tensor | None = None) -> torch.Tensor:
        """Patches [batch, rows, columns, D] of an image's features, and for BioViL-T of its prior image's.

        Raises ``ValueError`` for a prior image that the model does not take, or with another number of patches.
        """
        projected: torch.Tensor = self.projector.model(self.encoder.fuse(features, prior))
        return projected.permute(0, 2, 3, 1)


class TextEncoder(nn.Module):
    def __init__(self, config: BertConfig, hidden: int, dimensions: int) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dimensions = dimensions
        self.cls_projection_head = nn.ModuleDict(
            {
                "dense_to_hidden": nn.Linear(config.hidden_size, hidden),
                "LayerNorm": nn.LayerNorm(hidden, eps=1e-12),
                "dense_to_output": nn.Linear(hidden, dimensions),
            }
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors [sentences, D] of word pieces, int64 [sentences, pieces], without padding."""
        head = self.cls_projection_head
        state = self.bert(input_ids=ids).last_hidden_state[:, 0]
        projected: torch.Tensor = head["dense_to_output"](
            head["LayerNorm"](functional.gelu(head["dense_to_hidden"](state)))
        )
        return projected


class BioVil(nn.Module):
    def __init__(self, image: ImageEncoder, text: TextEncoder) -> None:
        super().__init__()
        self.image, self.text = image, text
