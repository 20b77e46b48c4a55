"""Swin transformers of checkpoints: read off their tensors, whichever names transformers has for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import SwinConfig, SwinModel

from ...benchmark.errors import WronglungError

IMAGE_SIZE = 224

UNUSED = r".*relative_position_index"
"""Regular expression for tensors that follow from the architecture."""

# In the order in which they must be applied.
_RENAMED = (
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
"""Names in published files, and those of later versions of transformers."""


def swin_model(weights: Mapping[str, torch.Tensor], prefix: str, path: Path) -> SwinModel:
    """A Swin transformer of the sizes that the tensors under ``prefix`` have, for images of :data:`IMAGE_SIZE`.

    The names are those of published files. Raises :class:`WronglungError` naming what is missing or does not fit.
    """

    def shape(key: str, axes: int) -> torch.Size:
        if prefix + key not in weights:
            raise WronglungError(f"checkpoint {path}: has no {prefix + key!r}; is it one with a Swin transformer?")
        if (size := weights[prefix + key].shape) and len(size) != axes:
            raise WronglungError(f"checkpoint {path}: {prefix + key!r} has shape {tuple(size)}")
        return size

    def count(pattern: str) -> int:
        name = re.compile(re.escape(prefix) + pattern)
        return len({found[1] for key in weights if (found := name.match(key))})

    patches = shape("embeddings.patch_embeddings.projection.weight", 4)
    stages = range(count(r"encoder\.layers\.(\d+)\."))
    tables = [
        shape(f"encoder.layers.{stage}.blocks.0.attention.self.relative_position_bias_table", 2) for stage in stages
    ]
    hidden = shape("encoder.layers.0.blocks.0.intermediate.dense.weight", 2)
    config = SwinConfig(
        image_size=IMAGE_SIZE,
        patch_size=patches[2],
        embed_dim=patches[0],
        depths=[count(rf"encoder\.layers\.{stage}\.blocks\.(\d+)\.") for stage in stages],
        num_heads=[table[1] for table in tables],
        window_size=(math.isqrt(tables[0][0]) + 1) // 2,
        mlp_ratio=hidden[0] / hidden[1],
    )
    try:
        return SwinModel(config)
    except ValueError as error:
        raise WronglungError(
            f"checkpoint {path}: the sizes under {prefix!r} make no Swin transformer ({error})"
        ) from error


def renamed(weights: Mapping[str, torch.Tensor], prefix: str, model: SwinModel) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, with those under ``prefix`` named as in ``model``."""
    if any("attention.self.query" in name for name in model.state_dict()):
        return dict(weights)
    result = {}
    for key, tensor in weights.items():
        name = key
        for published, later in _RENAMED if key.startswith(prefix) else ():
            name = name.replace(published, later)
        result[name] = tensor
    return result


def squared(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens [batch, side · side, C] as a feature map [batch, C, side, side]."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
