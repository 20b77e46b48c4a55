"""GLoRIA's training losses, and those that "That's the Wrong Lung!" adds to them.

A batch is B images with a sentence each: sentence b describes image b, and every other sentence is a negative example.
All losses are means, at least float32 whatever autocast says, and are to be minimised.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from ..attention import (
    TEMPERATURE_ATTENTION,
    TEMPERATURE_LOSS,
    LocalSimilarity,
    global_similarity_matrix,
    local_similarity,
)
from .pairs import compare_pairs, full_precision

Aggregate = Literal["sum", "mean"]
"""What the local loss makes of a sentence's words. ``sum``, the released default, grows with the sentence."""

_SIMILARITY: dict[Aggregate, LocalSimilarity] = {"sum": "loss-sum", "mean": "loss-mean"}


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Factors of the losses. One of 0 is not computed.

    The released code takes the weight of ``entropy`` for a switch: whatever it is, it trains as with 1 here.
    """

    local: float = 1.0
    overall: float = 1.0
    no_attention: float = 0.0
    divergence: float = 0.0
    entropy: float = 0.0
    segmentation: float = 0.0

    @property
    def need_maps(self) -> bool:
        """Whether a loss is on that looks at the sentences' maps."""
        return any((self.no_attention, self.divergence, self.entropy, self.segmentation))


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The losses of a batch times their weights, scalars; ``None`` where the weight is 0."""

    local_image_to_text: torch.Tensor | None = None
    local_text_to_image: torch.Tensor | None = None
    global_image_to_text: torch.Tensor | None = None
    global_text_to_image: torch.Tensor | None = None
    no_attention: torch.Tensor | None = None
    divergence: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    segmentation: torch.Tensor | None = None

    def present(self) -> dict[str, torch.Tensor]:
        """The terms that were computed, by name."""
        terms = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: term for name, term in terms.items() if term is not None}

    @property
    def total(self) -> torch.Tensor:
        """Their sum, what training minimises. Raises :class:`ValueError` where no loss is on."""
        terms = list(self.present().values())
        if not terms:
            raise ValueError("every loss has weight 0: there is nothing to train on")
        return torch.stack(terms).sum()


class Contrast(NamedTuple):
    """Cross entropies of choosing, for each image, its sentence, and for each sentence, its image."""

    image_to_text: torch.Tensor
    text_to_image: torch.Tensor


def training_losses(
    regions: torch.Tensor,
    words: torch.Tensor,
    counted: torch.Tensor,
    images: torch.Tensor,
    sentences: torch.Tensor,
    weights: LossWeights | None = None,
    *,
    temp1: float = TEMPERATURE_ATTENTION,
    no_region: torch.Tensor | None = None,
    aggregate: Aggregate = "sum",
    labels: torch.Tensor | None = None,
) -> LossTerms:
    """All losses of a batch.

    ``regions`` [B, rows, columns, D] and ``images`` [B, D]: local and global image embeddings. ``words`` [B, W, D],
    ``counted`` bool [B, W] (see :func:`compare_pairs`) and ``sentences`` [B, D]: the text's. ``no_region`` [D]: the
    no-attention vector. ``labels`` bool [B, height, width], for the segmentation loss: where on the image sentence b is.

    Raises :class:`ValueError` for a loss that is on and lacks ``no_region`` or ``labels``.
    """
    weights = weights or LossWeights()
    if weights.no_attention and no_region is None:
        raise ValueError("the no-attention loss needs a model with a no-attention vector")
    if weights.segmentation and labels is None:
        raise ValueError("the segmentation loss needs label masks")
    terms: dict[str, torch.Tensor] = {}
    if weights.local or weights.need_maps:
        cosines, maps = compare_pairs(regions.flatten(1, 2), words, counted, temp1, no_region, weights.need_maps)
        if weights.local:
            local = local_loss(local_logits(cosines, counted, aggregate))
            terms["local_image_to_text"] = weights.local * local.image_to_text
            terms["local_text_to_image"] = weights.local * local.text_to_image
        if maps is not None:
            terms |= _map_losses(maps, regions.shape[1:3], weights, no_region is not None, labels)
    if weights.overall:
        overall = global_loss(images, sentences)
        terms["global_image_to_text"] = weights.overall * overall.image_to_text
        terms["global_text_to_image"] = weights.overall * overall.text_to_image
    return LossTerms(**terms)


def _map_losses(
    maps: torch.Tensor,
    grid: torch.Size,
    weights: LossWeights,
    with_no_region: bool,
    labels: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    terms: dict[str, torch.Tensor] = {}
    if weights.no_attention:
        terms["no_attention"] = weights.no_attention * no_attention_loss(maps)
    if weights.divergence:
        terms["divergence"] = weights.divergence * divergence_loss(maps)
    if weights.entropy:
        terms["entropy"] = weights.entropy * entropy_loss(maps)
    if weights.segmentation and labels is not None:
        matched = _matched(maps)[:, 1:] if with_no_region else _matched(maps)
        terms["segmentation"] = weights.segmentation * segmentation_loss(matched.reshape(-1, *grid), labels)
    return terms


def local_logits(cosines: torch.Tensor, counted: torch.Tensor, aggregate: Aggregate = "sum") -> torch.Tensor:
    """Local similarities [I, J] that the local loss compares: 10 · log of the sum (or mean) of exp(5 · cosine).

    ``cosines`` [I, J, W] as :func:`compare_pairs` gives them, ``counted`` bool [J, W].
    """
    return local_similarity(cosines, counted, _SIMILARITY[aggregate])


def local_loss(logits: torch.Tensor) -> Contrast:
    """The contrastive loss of local similarities [B, B], images in rows."""
    return _contrast(logits)


def global_loss(images: torch.Tensor, sentences: torch.Tensor) -> Contrast:
    """The contrastive loss of 10 · cosine of global embeddings, both [B, D]."""
    dtype = torch.promote_types(torch.promote_types(images.dtype, sentences.dtype), torch.float32)
    with full_precision(images):
        cosines = global_similarity_matrix(images.to(dtype), sentences.to(dtype))
    return _contrast(TEMPERATURE_LOSS * cosines)


def _contrast(logits: torch.Tensor) -> Contrast:
    own = torch.arange(len(logits), device=logits.device)
    return Contrast(functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own))


def no_attention_loss(maps: torch.Tensor) -> torch.Tensor:
    """Mean log of the matched pairs' no-attention weight: it draws attention back to the image.

    ``maps`` [B, B, 1 + R], the no-attention weight first. Without a no-attention vector there is no such loss; the
    released code then gives minus infinity.
    """
    return _matched(maps)[:, 0].log().mean()


def divergence_loss(maps: torch.Tensor) -> torch.Tensor:
    """Minus the mean symmetric Kullback-Leibler divergence (nats) of two sentences' maps on one image.

    ``maps`` [B, B, R], images first, a no-attention weight among the R. The mean is over the B · (B - 1) ordered pairs
    of an image's own sentence with another's; it is 0 for a batch of one. Symmetric: half the sum of both directions.
    """
    own = _matched(maps)[:, None]
    divergence = ((own - maps) * (own.log() - maps.log())).sum(dim=2) / 2
    others = len(maps) * (len(maps) - 1)
    return -divergence.sum() / max(others, 1)


def entropy_loss(maps: torch.Tensor) -> torch.Tensor:
    """Mean entropy (nats) of the maps [I, J, R] of all pairs, a no-attention weight among the R: it rewards focus."""
    return -(maps * maps.log()).sum(dim=2).mean()


def segmentation_loss(maps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean minus log of the share of a map that lies inside its label.

    ``maps`` [B, rows, columns] of matched pairs, without the no-attention weight; they need not sum to 1. ``labels``
    bool [B, height, width]. Maps are enlarged to the label's size by nearest neighbour (pixel y takes row
    floor(y · rows / height)), as in the released code.

    Sentences without a labelled pixel are left out, and a batch of only such gives 0; the released code gives infinity.
    """
    # The share only needs to know how many pixels, and how many labelled ones, take their value from each region.
    down, across = (_nearest(n, size, maps) for n, size in zip(maps.shape[1:], labels.shape[1:], strict=True))
    with full_precision(maps):
        inside = down @ labels.to(maps.dtype) @ across.T
    everywhere = down.sum(dim=1)[:, None] * across.sum(dim=1)
    labelled = labels.flatten(1).any(dim=1)
    share = (maps * inside).sum(dim=(1, 2)) / (maps * everywhere).sum(dim=(1, 2))
    losses = -share.where(labelled, 1).log()
    return losses.sum() / labelled.sum().clamp(min=1)


def _nearest(regions: int, pixels: int, like: torch.Tensor) -> torch.Tensor:
    """1 where a pixel takes its value from a region, else 0: [regions, pixels]."""
    source = torch.arange(pixels, device=like.device) * regions // pixels
    return functional.one_hot(source, regions).T.to(like.dtype)


def _matched(maps: torch.Tensor) -> torch.Tensor:
    """The maps [B, R] of each image with its own sentence."""
    return maps.diagonal().T
