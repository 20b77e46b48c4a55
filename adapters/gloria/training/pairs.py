"""Attention of every sentence of a batch over every image, for training: fast, and sparing with memory.

I images of R regions (row-major) and J sentences of W word slots make I · J pairs, each with a W × R table. What a loss
needs of a pair is small: the cosine of each word with its context, and the sentence's map. :func:`compare_pairs` computes
them and their gradients in closed form, some sentences at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ..attention import EPSILON, TEMPERATURE_ATTENTION, word_region_attention, word_shares

# Words that are compared with all images at once. On a CPU with more of them the tables of a step would leave its cache,
# and with fewer the products of matrices are slow; other devices take what makes a table of so many elements.
_STEP_WORDS_CPU = 128
_STEP_TABLE = 2**24

# A larger table of all pairs is computed again for the gradients instead of being kept.
_KEPT = 2**24


class Pairs(NamedTuple):
    """What every image and every sentence make of each other.

    ``cosines`` [I, J, W]: of each word with its context, the regions it attends to on that image; 0 in slots that are
    not counted. ``maps`` [I, J, R]: the sentence's map, a distribution over the regions, where it was asked for. With a
    no-attention vector ``maps`` is [I, J, 1 + R], and its first column the no-attention weight.
    """

    cosines: torch.Tensor
    maps: torch.Tensor | None


def pair_attention(
    regions: torch.Tensor,
    words: torch.Tensor,
    counted: torch.Tensor,
    temp1: float = TEMPERATURE_ATTENTION,
    no_region: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of each word of each sentence over each image, [I, J, W, R], whole; see :func:`word_region_attention`.

    ``regions`` [I, R, D], ``words`` [J, W, D], ``counted`` bool [J, W]. With ``no_region`` [D] it is [I, J, W, 1 + R]
    and the vector region 0. At least float32, whatever the input and autocast. For tables of ordinary size
    :func:`compare_pairs` is several times as fast.
    """
    with full_precision(regions):
        regions, words = _operands(regions, words, no_region)
        logits = words @ regions.transpose(1, 2)[:, None]
        return word_region_attention(logits, counted, temp1)


def compare_pairs(
    regions: torch.Tensor,
    words: torch.Tensor,
    counted: torch.Tensor,
    temp1: float = TEMPERATURE_ATTENTION,
    no_region: torch.Tensor | None = None,
    maps: bool = True,
) -> Pairs:
    """Cosines and, with ``maps``, sentence maps of all pairs; differentiable once, in all three tensors.

    ``regions`` [I, R, D], ``words`` [J, W, D] (finite in every slot), ``counted`` bool [J, W]: the slots that make a
    sentence, at least one each. ``no_region`` [D] is put before the regions as region 0. At least float32, whatever the
    input and autocast.

    A slot that is not counted changes nothing and costs little: sentences are taken by length. Raises
    :class:`ValueError` for a sentence without a counted word.
    """
    slots = torch.arange(1, counted.shape[1] + 1, device=counted.device)
    widths, order = (counted * slots).amax(dim=1).sort(descending=True, stable=True)
    lengths: list[int] = widths.tolist()
    if lengths and lengths[-1] == 0:
        raise ValueError("a sentence has no counted word: nothing of it can be compared")
    back = order.argsort()
    with full_precision(regions):
        regions, words = _operands(regions, words, no_region)
        cosines, sentence_maps = _ComparePairs.apply(
            regions, words.index_select(0, order), counted[order], lengths, temp1, maps
        )
        return Pairs(cosines.index_select(1, back), sentence_maps.index_select(1, back) if maps else None)


def _operands(
    regions: torch.Tensor, words: torch.Tensor, no_region: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions, with the no-attention vector in front, and words, in one type of at least float32."""
    dtype = torch.promote_types(torch.promote_types(regions.dtype, words.dtype), torch.float32)
    regions, words = regions.to(dtype), words.to(dtype)
    if no_region is not None:
        regions = torch.cat([no_region.to(dtype).expand(len(regions), 1, -1), regions], dim=1)
    return regions, words


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Switches autocast off where the tensor is."""
    return torch.autocast(tensor.device.type, enabled=False)


class _Step(NamedTuple):
    """Sentences ``start`` to ``stop`` (exclusive), of which the longest ends at slot ``width``."""

    start: int
    stop: int
    width: int


def _steps(widths: list[int], words: int) -> list[_Step]:
    """Cut sentences, longest first, into steps of at most so many words, or of one sentence."""
    steps = []
    start = 0
    while start < len(widths):
        stop = min(start + max(1, words // widths[start]), len(widths))
        steps.append(_Step(start, stop, widths[start]))
        start = stop
    return steps


class _ComparePairs(torch.autograd.Function):
    """Cosines [I, J, W] and maps [I, J, R], of sentences in descending order of ``widths``.

    With w a word, S = w · regions its logits, A its attention and G = regions · regionsᵀ, the context A · regions is
    never needed: its dot product with w is A · S, and its squared length A · (A G). What is left has one number for each
    word and region, whatever the vectors' dimension.
    """

    @staticmethod
    def forward(
        ctx: Any,
        regions: torch.Tensor,
        words: torch.Tensor,
        counted: torch.Tensor,
        widths: list[int],
        temp1: float,
        with_maps: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images, n_regions, _ = regions.shape
        sentences, slots, _ = words.shape
        table = images * n_regions
        steps = _steps(widths, _STEP_WORDS_CPU if regions.device.type == "cpu" else _STEP_TABLE // table)
        keep = any(ctx.needs_input_grad) and table * sum(widths) <= _KEPT
        gram = regions @ regions.transpose(1, 2)
        word_lengths = torch.linalg.vector_norm(words, dim=2)
        cosines = regions.new_zeros(images, sentences, slots)
        context_lengths = regions.new_zeros(images, sentences, slots)
        maps = regions.new_empty(images, sentences if with_maps else 0, n_regions)
        kept: list[torch.Tensor] = []
        for start, stop, width in steps:
            here = counted[start:stop, :width]
            logits = _logits(words[start:stop, :width], regions)
            attention = word_region_attention(logits, here, temp1)
            overlaps = _times(attention, gram)
            lengths = torch.linalg.vecdot(attention, overlaps).clamp_(min=0).sqrt_()
            scale = (word_lengths[start:stop, :width] * lengths).clamp_(min=EPSILON)
            cosines[:, start:stop, :width] = (torch.linalg.vecdot(attention, logits) / scale).masked_fill_(~here, 0)
            context_lengths[:, start:stop, :width] = lengths
            if with_maps:
                maps[:, start:stop] = (attention * _mean_weights(here, attention)).sum(dim=2)
            if keep:
                kept += [logits, overlaps]
        ctx.save_for_backward(regions, words, counted, gram, word_lengths, context_lengths, cosines, *kept)
        ctx.steps, ctx.temp1 = steps, temp1
        ctx.set_materialize_grads(False)
        return cosines, maps

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, cosines_grad: torch.Tensor | None, maps_grad: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        regions, words, counted, gram, word_lengths, context_lengths, cosines, *kept = ctx.saved_tensors
        if cosines_grad is None:
            cosines_grad = torch.zeros_like(cosines)
        with full_precision(regions):
            # The cosine's derivatives: by A · S, by half the context's squared length, and by half the word's.
            scale = word_lengths * context_lengths
            by_overlap = (cosines_grad * counted) / scale.clamp(min=EPSILON)
            outer = (cosines_grad * cosines).masked_fill(scale < EPSILON, 0)
            by_context = (outer / context_lengths.square()).masked_fill(scale < EPSILON, 0)
            by_word = (outer / word_lengths.square()).masked_fill(scale < EPSILON, 0).sum(dim=0)

            regions_grad = torch.zeros_like(regions)
            gram_grad = torch.zeros_like(gram)
            words_grad = by_word.neg()[:, :, None] * words
            for number, (start, stop, width) in enumerate(ctx.steps):
                here = counted[start:stop, :width]
                step_words = words[start:stop, :width]
                logits = kept[2 * number] if kept else _logits(step_words, regions)
                shares = word_shares(logits, here)
                attention = (shares * ctx.temp1).softmax(dim=3)
                overlaps = kept[2 * number + 1] if kept else _times(attention, gram)
                from_overlap = by_overlap[:, start:stop, :width, None]
                from_context = by_context[:, start:stop, :width, None]

                # Back through the softmax over regions, the temperature, and the softmax over words.
                table = (logits * from_overlap).addcmul_(overlaps, from_context, value=-1)
                if maps_grad is not None:
                    table.addcmul_(_mean_weights(here, attention), maps_grad[:, start:stop, None])
                table.sub_(torch.linalg.vecdot(table, attention)[..., None]).mul_(attention).mul_(ctx.temp1)
                table.sub_((table * shares).sum(dim=2, keepdim=True)).mul_(shares)

                # Logits enter the cosine twice: through the attention and in A · S itself.
                table.addcmul_(attention, from_overlap)
                flat = table.flatten(1, 2)
                regions_grad.baddbmm_(flat.transpose(1, 2), _every_image(step_words, len(regions)))
                words_grad[start:stop, :width] += (flat @ regions).sum(dim=0).view_as(step_words)
                gram_grad.baddbmm_(attention.flatten(1, 2).transpose(1, 2), (attention * from_context).flatten(1, 2))
            regions_grad.baddbmm_(gram_grad, regions, alpha=-1)
        return regions_grad, words_grad, None, None, None, None


def _every_image(words: torch.Tensor, images: int) -> torch.Tensor:
    """The words [sentences, slots, D] of a step as [I, sentences · slots, D], without copies."""
    return words.flatten(0, 1).expand(images, -1, -1)


def _logits(words: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Dot products [I, sentences, slots, R]."""
    products = torch.bmm(_every_image(words, len(regions)), regions.transpose(1, 2))
    return products.view(len(regions), *words.shape[:2], regions.shape[1])


def _times(attention: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Attention [I, sentences, slots, R] times each image's [R, R]."""
    return torch.bmm(attention.flatten(1, 2), gram).view_as(attention)


def _mean_weights(counted: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Weights [sentences, slots, 1] that make a sum over slots the mean over counted words."""
    weights = counted.to(like.dtype)
    return (weights / weights.sum(dim=1, keepdim=True))[:, :, None]
