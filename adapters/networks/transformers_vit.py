"""The image towers of transformers' CLIP and SigLIP in pieces, for :mod:`..saliency.transformer`."""

from __future__ import annotations

import torch
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from ..saliency.transformer import Block, Heads


def block_of(layer: CLIPEncoderLayer | SiglipEncoderLayer) -> Block:
    """A block in pieces; the two libraries' classes have the same parts."""
    attention = layer.self_attn

    def heads(normed: torch.Tensor) -> Heads:
        q, k, v = (
            project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return q, k, v

    def feed_forward(tokens: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = layer.mlp(layer.layer_norm2(tokens))
        return added

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + attention(layer.layer_norm1(tokens), attention_mask=None)[0]
        return tokens + feed_forward(tokens)

    return Block(
        forward=forward,
        norm=layer.layer_norm1,
        heads=heads,
        project=lambda values: attention.out_proj(values.transpose(1, 2).flatten(2)),
        feed_forward=feed_forward,
    )
