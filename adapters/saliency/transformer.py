"""Saliency methods of vision transformers: plain functions of a tower that is taken apart.

CLIP trains what its class token, or its pooling head, gathers; the patches of the last block are in the joint space in no
trained sense. The methods differ in what they project into it instead, or follow a gradient or the attention back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from ..dual import Dense, Gradient, Method, TextBlind
from .gradient import chefer, gradcam_tokens, rollout

Map = Callable[[torch.Tensor], torch.Tensor]
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

SURGERY_DEPTH = 6
"""Blocks in which CLIP Surgery has its second path, of the twelve of its towers."""


@dataclass(frozen=True)
class Block:
    """A block that normalises before its two parts, in pieces. Tokens are [batch, N, C], heads [batch, heads, N, d]."""

    forward: Map
    """The block as it is."""
    norm: Map
    """The normalisation before attention."""
    heads: Callable[[torch.Tensor], Heads]
    """Normalised tokens to queries, keys and values, whose attention is softmax(q · kᵀ · d^-½) · v."""
    project: Map
    """What attention gives in the heads, [batch, heads, N, d], to what it adds to the tokens."""
    feed_forward: Map
    """What the second part adds to the tokens, its normalisation included."""


@dataclass(frozen=True)
class Tower:
    """A vision transformer in pieces."""

    embed: Map
    """Pixels [batch, 3, height, width] to the tokens that enter the first block, [batch, prefix + rows · columns, C]."""
    blocks: Sequence[Block]
    joint: Map
    """Tokens [batch, N, C] to the joint space [batch, N, D], as the class token goes there: final norm and projection."""
    pool: Map
    """All tokens that leave the last block to image vectors [batch, D]."""
    prefix: int
    """Extra tokens before the patches; the class token is the first."""
    grid: tuple[int, int]


def dense_methods(tower: Tower, depth: int | None) -> dict[str, Dense]:
    """The ways of giving patches a vector in the joint space; ``depth``: blocks of the second path of ``vv`` and ``gem``.

    ``value``: output projection of the last block's values, without attention, residual or feed-forward; the class token
    is a weighted sum of these. ``naive``: patches of the last block. ``value-residual-ffn``: ``value`` with both, as
    MaskCLIP has it (Zhou et al. 2022). ``vv``: CLIP Surgery (Li et al. 2023). ``gem``: Bousselham et al. 2024.

    Raises ``ValueError`` for a depth that the tower does not have.
    """
    count = len(tower.blocks)
    depth = min(SURGERY_DEPTH, count) if depth is None else depth
    if not 1 <= depth <= count:
        raise ValueError(f"depth={depth}: the tower has {count} blocks")
    ending = f"over the last {depth} of {count} blocks, cosine with the sentence"
    return {
        "value": Dense("values of the last block, projected, cosine with the sentence", partial(value, tower)),
        "naive": Dense("patches of the last block, projected, cosine with the sentence", partial(naive, tower)),
        "value-residual-ffn": Dense(
            "values of the last block with residual and feed-forward (MaskCLIP), projected, cosine with the sentence",
            partial(value_residual_ffn, tower),
        ),
        "vv": Dense(f"value-value attention (CLIP Surgery) {ending}", partial(second_path, tower, depth, value_value)),
        "gem": Dense(
            f"self-self attention of q, k and v (GEM) {ending}", partial(second_path, tower, depth, self_self)
        ),
    }


def class_token_methods(tower: Tower, depth: int | None, start_layer: int) -> dict[str, Method]:
    """All methods of a tower whose image vector is its class token; ``start_layer``: Chefer's first block,
    counted from 0.

    Raises ``ValueError`` for a depth or a block that the tower does not have.
    """
    count = len(tower.blocks)
    if not 0 <= start_layer < count:
        raise ValueError(f"start_layer={start_layer}: the tower has blocks 0 to {count - 1}")
    return {
        **dense_methods(tower, depth),
        "gradcam": token_gradcam(tower),
        "chefer": Gradient(
            f"relevance of patches to the class token (Chefer), blocks {start_layer} to {count - 1}",
            lambda pixels: _tokens_and_vectors(tower, pixels, start_layer),
            lambda tokens, text: chefer(
                tokens, lambda entering: _run(tower, entering, start_layer), tower.prefix, tower.grid, text
            ),
        ),
        "rollout": TextBlind("attention rollout to the class token, whatever the sentence", partial(_rollout, tower)),
    }


def named(method: str, depth: int | None, start_layer: int) -> tuple[str, dict[str, int | None]]:
    """A method's name with whatever is not the default, for a model's name, and the options that it has."""
    if method in ("vv", "gem"):
        return f"{method} of {depth} blocks" if depth else method, {"depth": depth}
    if method == "chefer":
        return f"{method} from block {start_layer}" if start_layer else method, {"start_layer": start_layer}
    return method, {}


def token_gradcam(tower: Tower) -> Gradient:
    """GradCAM on the patches that enter the last block."""
    last = tower.blocks[-1]
    return Gradient(
        "GradCAM on the patches that enter the last block",
        lambda pixels: _tokens_and_vectors(tower, pixels, len(tower.blocks) - 1),
        lambda tokens, text: gradcam_tokens(
            tokens, tower.prefix, tower.grid, lambda entering: tower.pool(last.forward(entering)), text
        ),
    )


def value(tower: Tower, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The projected values of the last block: patches [batch, rows, columns, D] and image vectors [batch, D], as are
    those of all that follow."""
    tokens, vectors = _tokens_and_vectors(tower, pixels, len(tower.blocks) - 1)
    return patches(tower, _own_values(tower.blocks[-1], tokens)), vectors


def value_residual_ffn(tower: Tower, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`value`, with the block's residual and feed-forward."""
    last = tower.blocks[-1]
    tokens, vectors = _tokens_and_vectors(tower, pixels, len(tower.blocks) - 1)
    tokens = tokens + _own_values(last, tokens)
    return patches(tower, tokens + last.feed_forward(tokens)), vectors


def naive(tower: Tower, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches that leave the last block."""
    tokens = through(tower.blocks, tower.embed(pixels))
    return patches(tower, tokens), tower.pool(tokens)


def second_path(
    tower: Tower, depth: int, attend: Callable[[torch.Tensor, Heads], torch.Tensor], pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the last ``depth`` blocks the tower runs unchanged, while a second path, which starts at the same tokens, only
    adds up what ``attend`` makes of the normalised tokens of the first and their heads."""
    tokens = second = through(tower.blocks[:-depth], tower.embed(pixels))
    for block in tower.blocks[-depth:]:
        normed = block.norm(tokens)
        second = second + block.project(attend(normed, block.heads(normed)))
        tokens = block.forward(tokens)
    return patches(tower, second), tower.pool(tokens)


def value_value(normed: torch.Tensor, heads: Heads) -> torch.Tensor:
    """CLIP Surgery's attention, softmax(v · vᵀ · d^-½) · v."""
    v = heads[2]
    return (v @ v.mT / math.sqrt(v.shape[-1])).softmax(dim=-1) @ v


def self_self(normed: torch.Tensor, heads: Heads) -> torch.Tensor:
    """GEM's attention, the mean over q, k and v: twice normalised and attending to itself, the second time to the values.

    The inverse temperature is the image's mean norm of the normalised tokens times d^-½.
    """
    v = heads[2]
    scale: torch.Tensor = normed.norm(dim=-1).mean(dim=1)[:, None, None, None] / math.sqrt(v.shape[-1])

    def attend(one: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return (one @ one.mT * scale).softmax(dim=-1) @ values

    sharpened = (functional.normalize(one, dim=-1) for one in heads)
    sharpened = (functional.normalize(attend(one, one), dim=-1) for one in sharpened)
    return torch.stack([attend(one, v) for one in sharpened]).mean(dim=0)


def patches(tower: Tower, tokens: torch.Tensor) -> torch.Tensor:
    """The patches among tokens [batch, prefix + P, C] in the joint space, [batch, rows, columns, D]."""
    return tower.joint(tokens[:, tower.prefix :]).reshape(len(tokens), *tower.grid, -1)


def through(blocks: Sequence[Block], tokens: torch.Tensor) -> torch.Tensor:
    """Tokens [batch, N, C] after some blocks."""
    for block in blocks:
        tokens = block.forward(tokens)
    return tokens


def _tokens_and_vectors(tower: Tower, pixels: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that enter block ``start``, and the image vectors."""
    tokens = through(tower.blocks[:start], tower.embed(pixels))
    return tokens, tower.pool(through(tower.blocks[start:], tokens))


def _own_values(block: Block, tokens: torch.Tensor) -> torch.Tensor:
    return block.project(block.heads(block.norm(tokens))[2])


def _run(tower: Tower, tokens: torch.Tensor, start: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Image vectors and attentions [batch, heads, N, N] of the blocks from ``start``, written out."""
    attentions: list[torch.Tensor] = []
    for block in tower.blocks[start:]:
        q, k, v = block.heads(block.norm(tokens))
        attention = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        tokens = tokens + block.project(attention @ v)
        tokens = tokens + block.feed_forward(tokens)
        attentions.append(attention)
    return tower.pool(tokens), attentions


def _rollout(tower: Tower, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    vectors, attentions = _run(tower, tower.embed(pixels), 0)
    return rollout(attentions, tower.prefix, tower.grid), vectors
