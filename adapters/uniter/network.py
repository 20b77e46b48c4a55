"""UNITER's network (Chen et al. 2020) up to its image-text matching head: words and regions in one BERT."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig

IGNORED = re.compile(
    r"cls\..*|feat_regress\..*|region_classifier\..*|vqa_output\..*|nlvr2_output\..*|re_output\..*|rank_output\..*"
    r"|uniter\.img_embeddings\.mask_embedding\.weight|.*\.position_ids"
)
"""Tensors of a checkpoint that do not matter here: the heads of other tasks, and what stood for masked regions."""


@dataclass(frozen=True)
class Reading:
    """What the network makes of a sentence of L tokens, [CLS] and [SEP] included, with N regions.

    In sequences, tokens come first and regions follow. There are as many states and attentions as layers.
    """

    logits: torch.Tensor
    """[2]: they do not match, they do."""
    states: tuple[torch.Tensor, ...]
    """[L + N, hidden] after each layer."""
    attentions: tuple[torch.Tensor, ...]
    """[heads, L + N, L + N] in each layer; rows sum to 1."""


class UniterNetwork(nn.Module):
    """Named as in a published checkpoint."""

    def __init__(self, config: BertConfig, region_width: int) -> None:
        super().__init__()
        self.uniter = _Trunk(config, region_width)
        self.itm_output = nn.Linear(config.hidden_size, 2)

    def forward(self, ids: torch.Tensor, features: torch.Tensor, boxes: torch.Tensor) -> Reading:
        """Of token ids [L], region features [N, D] and ``boxes`` [N, 4] as (x1, y1, x2, y2) in shares of the image."""
        states, attentions = self.uniter(ids, features, boxes)
        pooled = self.uniter.pooler(states[-1][0])
        return Reading(self.itm_output(pooled), states, attentions)


class _Trunk(nn.Module):
    def __init__(self, config: BertConfig, region_width: int) -> None:
        super().__init__()
        self.embeddings = _Words(config)
        self.img_embeddings = _Regions(config, region_width)
        self.encoder = _Encoder(config)
        self.pooler = _Pooler(config)

    def forward(
        self, ids: torch.Tensor, features: torch.Tensor, boxes: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        kinds = self.embeddings.token_type_embeddings.weight
        read: tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]] = self.encoder(
            torch.cat([self.embeddings(ids), self.img_embeddings(features, boxes, kinds[1])])
        )
        return read


class _Encoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        states, attentions = [], []
        for layer in self.layer:
            x, attention = layer(x)
            states.append(x)
            attentions.append(attention)
        return tuple(states), tuple(attentions)


class _Pooler(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.dense(x).tanh()
        return pooled


class _Words(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = _norm(config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        positions = self.position_embeddings.weight[: len(ids)]
        summed: torch.Tensor = self.LayerNorm(
            self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]
        )
        return summed


class _Regions(nn.Module):
    def __init__(self, config: BertConfig, region_width: int) -> None:
        super().__init__()
        self.img_linear = nn.Linear(region_width, config.hidden_size)
        self.img_layer_norm = _norm(config)
        self.pos_linear = nn.Linear(7, config.hidden_size)
        self.pos_layer_norm = _norm(config)
        self.LayerNorm = _norm(config)

    def forward(self, features: torch.Tensor, boxes: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        what = self.img_layer_norm(self.img_linear(features))
        where = self.pos_layer_norm(self.pos_linear(places(boxes)))
        summed: torch.Tensor = self.LayerNorm(what + where + kind)
        return summed


def places(boxes: torch.Tensor) -> torch.Tensor:
    """What the network is told of boxes [N, 4] in shares of the image: x1, y1, x2, y2, width, height and area, [N,
    7]."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([boxes, sides, sides.prod(dim=1, keepdim=True)], dim=1)


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Residual(config, config.intermediate_size)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, attention = self.attention(x)
        return self.output(self.intermediate(x), x), attention


class _Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.dense(x))


class _Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Residual(config, config.hidden_size)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, attention = self.self(x)
        return self.output(mixed, x), attention


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query, key, value = (
            one(x).unflatten(-1, (self.heads, -1)).transpose(0, 1) for one in (self.query, self.key, self.value)
        )
        attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
        return (attention @ value).transpose(0, 1).flatten(1), attention


class _Residual(nn.Module):
    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = _norm(config)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.LayerNorm(self.dense(x) + before)
        return added


def _norm(config: BertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
