"""Several checkpoints of one architecture as one encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from .dual import Dense, DualNetwork, Gradient, Method, TextBlind


def ensemble(members: Sequence[DualNetwork]) -> DualNetwork:
    """Networks of equal pipelines and methods as one, whose maps and similarities are the means of its members'.

    The vectors of images, sentences and patches are the members' unit vectors side by side, so that their cosine is the mean
    of the members' cosines. A local similarity is made from these joint vectors; gradient maps are averaged as they are.
    """
    first = members[0]

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        return _side_by_side([member.encode_text(sentences) for member in members])

    return DualNetwork(
        nn.ModuleList(member.module for member in members),
        first.pipeline,
        encode_text,
        {name: _together([member.methods[name] for member in members]) for name in first.methods},
    )


def _together(methods: Sequence[Method]) -> Method:
    words = f"{methods[0].words}; mean over {len(methods)} checkpoints"

    def encoded(
        join: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    ) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        def encode(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            local, pooled = zip(*(method.encode(pixels) for method in methods), strict=True)
            return join(local), _side_by_side(pooled)

        return encode

    def relevance(activations: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        parts = zip(gradients, activations.unbind(1), text.chunk(len(gradients), dim=-1), strict=True)
        return torch.stack([method.relevance(own, words) for method, own, words in parts]).mean(dim=0)

    match methods[0]:
        case Dense():
            return Dense(words, encoded(_side_by_side), methods[0].finish)
        case Gradient():
            gradients = cast(Sequence[Gradient], methods)
            return Gradient(words, encoded(lambda local: torch.stack(list(local), dim=1)), relevance)
        case TextBlind():
            return TextBlind(words, encoded(lambda local: torch.stack(list(local)).mean(dim=0)))


def _side_by_side(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([functional.normalize(one, dim=-1) for one in vectors], dim=-1)
