"""Maps and local similarities of dense encoders, whose patches are vectors in the sentence's space.

Notation: p a patch, t the sentence's vector, s the cosine of the two, τ a temperature, P the number of patches.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional

LocalSimilarity = Literal["attention", "max", "mean", "logsumexp"]
"""``attention``: the cosine of t with Σ softmax(s/τ) · p/|p|, as GLoRIA's and ConVIRT-style attention pooling does for
words; ``max`` and ``mean`` of s; ``logsumexp``: τ · log of the mean of exp(s/τ), between mean and maximum."""


def cosine_map(patches: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Cosines s [batch, rows, columns], in [-1, 1], of patches [batch, rows, columns, D] with text [batch, D]."""
    unit = functional.normalize(text, dim=-1)[:, None, None]
    return (functional.normalize(patches, dim=-1) * unit).sum(dim=-1)


def local_similarity(
    patches: torch.Tensor, text: torch.Tensor, kind: LocalSimilarity, tau: float, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """One similarity [batch] of patches [batch, rows, columns, D] with text [batch, D]; see :data:`LocalSimilarity`.

    ``counted`` (bool [batch, rows, columns], at least one per item) leaves cells out, such as padding.
    """
    s = cosine_map(patches, text).flatten(1)
    if counted is None:
        counted = torch.ones_like(s, dtype=torch.bool)
    counted = counted.flatten(1)
    outside = s.masked_fill(~counted, -math.inf)
    if kind == "max":
        return outside.amax(dim=1)
    if kind == "mean":
        return s.masked_fill(~counted, 0.0).sum(dim=1) / counted.sum(dim=1)
    if kind == "logsumexp":
        return tau * ((outside / tau).logsumexp(dim=1) - counted.sum(dim=1).to(s.dtype).log())
    attention = (outside / tau).softmax(dim=1)
    pooled = (attention[..., None] * functional.normalize(patches, dim=-1).flatten(1, 2)).sum(dim=1)
    return functional.cosine_similarity(pooled, text, dim=-1)
