"""Word-region attention and the similarities that GLoRIA's code derives from it.

Row b of one tensor belongs to row b of the other, unless a function compares all with all. A pair has R regions
(row-major) and W word slots: [CLS], the words, [SEP], then zero vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from .text import Counts

Slots = tuple[int, int]
"""Word slots from the first number up to but not including the second."""

Tokens = Literal["cls+words", "words"]
"""Which slots a sentence's map is made of. ``cls+words``, the released code: [CLS] and the words, less one last word
for each [UNK]. ``words``: the words, all of them and nothing else."""

LocalSimilarity = Literal[
    "fork-eval", "official-eval", "max-words", "max-words-sep", "loss-sum", "loss-mean", "official-retriever"
]
"""Which of the published local similarities; see :data:`LOCAL_SIMILARITIES`."""

TEMPERATURE_ATTENTION = 4.0
_TEMPERATURE_COSINE = 5.0
TEMPERATURE_LOSS = 10.0
EPSILON = 1e-8
"""Least product of two lengths that a cosine divides by."""


def saliency_slots(tokens: Tokens, counts: Counts) -> Slots:
    """The slots of a sentence's map, at least one: without a word, [SEP] alone stands for the sentence."""
    return (0, counts.loss_slots) if tokens == "cls+words" else (1, 1 + max(counts.words, 1))


@dataclass(frozen=True, slots=True)
class _Similarity:
    slots: Callable[[Counts], Slots]
    over_words: Literal["max", "sum", "mean"]
    factor: float


LOCAL_SIMILARITIES: dict[LocalSimilarity, _Similarity] = {
    # What the evaluation of "That's the Wrong Lung!" stores. It counts pieces and slices words, so zero slots behind
    # [SEP] take part as soon as a word has several pieces; the value is then never below 0.
    "fork-eval": _Similarity(lambda n: (1, 1 + n.collate_slots), "max", 1.0),
    # The official get_similarities as its own text function feeds it: as many slots as the text has characters.
    "official-eval": _Similarity(lambda n: (1, 1 + n.characters), "max", 1.0),
    "max-words": _Similarity(lambda n: (1, 1 + max(n.loss_slots - 1, 1)), "max", 1.0),
    "max-words-sep": _Similarity(lambda n: (1, 1 + n.loss_slots), "max", 1.0),
    # What the local training loss compares, and the same with the mean over words in place of the sum, which does
    # not grow with the length of the sentence.
    "loss-sum": _Similarity(lambda n: (0, n.loss_slots), "sum", TEMPERATURE_LOSS),
    "loss-mean": _Similarity(lambda n: (0, n.loss_slots), "mean", TEMPERATURE_LOSS),
    # The official retrieval class: [CLS] and the first word are skipped, [SEP] is in.
    "official-retriever": _Similarity(lambda n: (2, 1 + n.loss_slots), "sum", TEMPERATURE_LOSS),
}


def slot_mask(slots: list[Slots], width: int) -> torch.Tensor:
    """Bool [pairs, ``width``], true on each pair's slots."""
    bounds = torch.tensor(slots)
    at = torch.arange(width)
    return (at >= bounds[:, :1]) & (at < bounds[:, 1:])


def word_shares(logits: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """How the counted words share each region: a softmax over words of ``logits`` [..., W, R], 0 for other slots.

    ``counted`` is bool [..., W]; leading dimensions broadcast.
    """
    # Adding minus infinity is several times as fast as filling it in where a mask says so.
    excluded = torch.zeros_like(counted, dtype=logits.dtype).masked_fill(~counted, -torch.inf)
    return (logits + excluded[..., None]).softmax(dim=-2)


def word_region_attention(logits: torch.Tensor, counted: torch.Tensor, temperature: float) -> torch.Tensor:
    """Attention of each word over the regions, [..., W, R]; the map of a counted word sums to 1.

    ``logits`` [..., W, R] are the dot products of words and regions, ``counted`` [..., W] the words that exist;
    leading dimensions broadcast. Two softmaxes: over the counted words in each region, then, times ``temperature``,
    over the regions for each word. So no two regions of a map differ by more than a factor of exp(temperature), and the
    map of a pair with one counted word is uniform. Rows of words that are not counted are uniform and mean nothing.
    """
    return (word_shares(logits, counted) * temperature).softmax(dim=-1)


def mean_over_words(attention: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The sentence's map [..., R]: the mean over its counted words [..., W] of [..., W, R]."""
    weights = counted.to(attention.dtype)
    # A cumulative sum adds one word after the other, so that zeros behind a sentence cannot change its rounding.
    total = (attention * weights[..., None]).cumsum(dim=-2)[..., -1, :]
    return total / weights.sum(dim=-1, keepdim=True)


def word_similarity(words: torch.Tensor, regions: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Cosine [..., W] of each word [..., W, D] with its context: the regions [..., R, D] that it attends to."""
    contexts = attention @ regions
    lengths: torch.Tensor = torch.linalg.vector_norm(words, dim=-1) * torch.linalg.vector_norm(contexts, dim=-1)
    return (words * contexts).sum(dim=-1) / lengths.clamp(min=EPSILON)


def local_similarity(cosines: torch.Tensor, counted: torch.Tensor, method: LocalSimilarity) -> torch.Tensor:
    """One similarity per pair [...] of word cosines [..., W], over the counted words; leading dimensions broadcast.

    factor · log of the maximum, the sum or the mean over words of exp(5 · cosine). A pair without a counted word gets
    factor · (-5), the least that one word can give (the released code: minus infinity).
    """
    kind = LOCAL_SIMILARITIES[method]
    scores = (_TEMPERATURE_COSINE * cosines).masked_fill(~counted, -torch.inf)
    if kind.over_words == "max":
        pooled = scores.amax(dim=-1)
    else:
        pooled = scores.logsumexp(dim=-1)
        if kind.over_words == "mean":
            pooled = pooled - counted.sum(dim=-1).clamp(min=1).to(pooled.dtype).log()
    return kind.factor * pooled.masked_fill(~counted.any(dim=-1), -_TEMPERATURE_COSINE)


def global_similarity(images: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
    """Cosine [pairs] of global embeddings, both [pairs, D]."""
    return functional.cosine_similarity(images, sentences, dim=1, eps=EPSILON)


def global_similarity_matrix(images: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
    """Cosines [images, sentences] of global embeddings [images, D] and [sentences, D]."""
    return functional.normalize(images, dim=1) @ functional.normalize(sentences, dim=1).T
