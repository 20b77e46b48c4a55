"""Saliency methods of open_clip's image towers: its own vision transformer and ResNet, and those of timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.models import vision_transformer
from torch import nn
from torch.nn import functional

from ..dual import Dense, Gradient, Method
from ..saliency.gradient import gradcam
from ..saliency.transformer import Block, Heads, Tower, class_token_methods, dense_methods, through, token_gradcam

# It passes classes on that it does not export.
_timm: Any = vision_transformer


def saliency_methods(visual: nn.Module, depth: int | None, start_layer: int) -> Mapping[str, Method]:
    """What can be done with a tower, by name; the first is the default.

    ``depth`` and ``start_layer`` are those of :mod:`..saliency.transformer`. Raises ``ValueError`` for a tower whose parts
    are not understood, and for a depth or start that it does not have.
    """
    if isinstance(visual, ModifiedResNet):
        return resnet_methods(visual)
    if isinstance(visual, VisionTransformer):
        tower, classed = native_tower(visual), visual.pool_type == "tok"
        return class_token_methods(tower, depth, start_layer) if classed else _pooled_methods(tower, depth)
    if isinstance(visual, TimmModel):
        return timm_methods(visual, depth, start_layer)
    raise ValueError(f"an image tower of class {type(visual).__name__} is not supported")


def resnet_methods(visual: ModifiedResNet) -> dict[str, Method]:
    """``value``: value and output projection of the attention pool at each cell (MaskCLIP's way); ``value-pos`` adds the
    cell's positional embedding first, as the pool itself does; ``gradcam`` on the last feature map."""
    pool = visual.attnpool

    def features(pixels: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        return x

    def dense(with_position: bool) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        def encode(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = features(pixels)
            cells = x.flatten(2).mT
            if with_position:
                cells = cells + pool.positional_embedding[1:].to(cells.dtype)
            return pool.c_proj(pool.v_proj(cells)).reshape(len(x), *x.shape[2:], -1), pool(x)

        return encode

    return {
        "value": Dense("values of the attention pool at each cell, cosine with the sentence", dense(False)),
        "value-pos": Dense("values of the attention pool at each cell with its position, cosine", dense(True)),
        "gradcam": _map_gradcam(features, pool),
    }


def timm_methods(visual: TimmModel, depth: int | None, start_layer: int) -> Mapping[str, Method]:
    """Of a vision transformer as of open_clip's own where its image vector is the class token; with a pooling head, which
    SigLIP has, or a mean over patches, those that need no class token. Of a convolutional network ``gradcam``."""
    trunk: Any = visual.trunk
    if isinstance(trunk, vision_transformer.VisionTransformer):
        tower = timm_tower(visual)
        if trunk.attn_pool is not None:
            return latent_methods(visual, tower)
        classed = trunk.global_pool == "token"
        return class_token_methods(tower, depth, start_layer) if classed else _pooled_methods(tower, depth)
    if trunk.default_cfg.get("pool_size") and getattr(trunk, "output_fmt", "NCHW") == "NCHW":
        return {"gradcam": _map_gradcam(trunk.forward_features, lambda x: visual.head(trunk.forward_head(x)))}
    raise ValueError(f"an image tower of timm's class {type(trunk).__name__} is not supported")


def native_tower(visual: VisionTransformer) -> Tower:
    """open_clip's own vision transformer in pieces. Raises ``ValueError`` for attention or a pool of another kind."""
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        raise ValueError("a vision transformer with an attentional pool (CoCa) is not supported")
    return Tower(
        embed=visual._embeds,
        blocks=[_native_block(block) for block in visual.transformer.resblocks],
        joint=lambda tokens: visual.ln_post(tokens) @ visual.proj,
        pool=lambda tokens: visual._pool(tokens)[0] @ visual.proj,
        prefix=1,
        grid=visual.grid_size,
    )


def _native_block(block: nn.Module) -> Block:
    if not isinstance(block, ResidualAttentionBlock):
        raise ValueError(f"blocks of class {type(block).__name__} are not supported")  # noqa: TRY004
    attention = block.attn

    def heads(normed: torch.Tensor) -> Heads:
        joined = functional.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        return _split(joined, attention.num_heads)

    return Block(
        forward=block,
        norm=block.ln_1,
        heads=heads,
        project=lambda values: block.ls_1(attention.out_proj(_merged(values))),
        feed_forward=lambda tokens: block.ls_2(block.mlp(block.ln_2(tokens))),
    )


def timm_tower(visual: TimmModel) -> Tower:
    """A vision transformer of timm in pieces. Raises ``ValueError`` for blocks of another kind."""
    trunk: Any = visual.trunk
    return Tower(
        embed=lambda pixels: trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels))),
        blocks=[_timm_block(block) for block in trunk.blocks],
        joint=lambda tokens: visual.head(trunk.head(trunk.fc_norm(trunk.norm(tokens)))),
        pool=lambda tokens: visual.head(trunk.forward_head(trunk.norm(tokens))),
        prefix=trunk.num_prefix_tokens,
        grid=tuple(trunk.patch_embed.grid_size),
    )


def _timm_block(block: nn.Module) -> Block:
    if not isinstance(block, vision_transformer.Block):
        raise ValueError(f"blocks of timm's class {type(block).__name__} are not supported")  # noqa: TRY004
    attention = block.attn
    if not isinstance(attention, _timm.Attention) or getattr(attention, "gate", None) is not None:
        raise ValueError(f"attention of timm's class {type(attention).__name__} is not supported")

    # Older versions of timm have neither gate nor norm.
    inner_norm = getattr(attention, "norm", nn.Identity())

    def heads(normed: torch.Tensor) -> Heads:
        q, k, v = _split(attention.qkv(normed), attention.num_heads)
        return attention.q_norm(q), attention.k_norm(k), v

    return Block(
        forward=block,
        norm=block.norm1,
        heads=heads,
        project=lambda values: block.ls1(attention.proj(inner_norm(_merged(values)))),
        feed_forward=lambda tokens: block.ls2(block.mlp(block.norm2(tokens))),
    )


def latent_methods(visual: TimmModel, tower: Tower) -> dict[str, Method]:
    """Of a pooling head whose learned query attends to the patches: ``value`` is what the head returns if it looks at one
    patch alone. Raises ``ValueError`` for a head of another kind."""
    trunk: Any = visual.trunk
    pool = trunk.attn_pool
    if not isinstance(pool, _timm.AttentionPoolLatent) or pool.mlp is None or pool.pos_embed is not None:
        raise ValueError(f"a pooling head of timm's class {type(pool).__name__} is not supported")

    def value(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = through(tower.blocks, tower.embed(pixels))
        normed = trunk.norm(tokens)[:, tower.prefix :]
        looked_at = pool.proj(pool.kv(normed).chunk(2, dim=-1)[1])
        looked_at = looked_at + pool.mlp(pool.norm(looked_at))
        vectors = visual.head(trunk.head(trunk.fc_norm(looked_at)))
        return vectors.reshape(len(vectors), *tower.grid, -1), tower.pool(tokens)

    return {
        "value": Dense("value path of the pooling head at each patch, cosine with the sentence", value),
        "naive": dense_methods(tower, None)["naive"],
        "gradcam": token_gradcam(tower),
    }


def _pooled_methods(tower: Tower, depth: int | None) -> dict[str, Method]:
    """Of a mean over patches."""
    return {**dense_methods(tower, depth), "gradcam": token_gradcam(tower)}


def _map_gradcam(
    features: Callable[[torch.Tensor], torch.Tensor], pool: Callable[[torch.Tensor], torch.Tensor]
) -> Gradient:
    def encode(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = features(pixels)
        return x, pool(x)

    return Gradient("GradCAM on the last feature map", encode, lambda x, text: gradcam(x, pool, text))


def _split(joined: torch.Tensor, heads: int) -> Heads:
    """q, k and v side by side, [batch, N, 3 · C], to three of [batch, heads, N, C / heads]."""
    q, k, v = joined.reshape(*joined.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return q, k, v


def _merged(values: torch.Tensor) -> torch.Tensor:
    """Heads [batch, heads, N, d] to tokens [batch, N, heads · d]."""
    return values.transpose(1, 2).flatten(2)
