"""A dual encoder and a saliency method as an alignment model: what most public encoders need, written once.

A family says how pixels become vectors (:class:`DualNetwork`, with one :class:`Dense`, :class:`Gradient` or
:class:`TextBlind` per saliency method that it offers); :class:`DualModel` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from ..benchmark.errors import WronglungError
from ..benchmark.protocol import Alignment, Features, Geometry, LoadedImage, ModelCard, Preprocessed
from .encoding import at_least_float32, full_precision, geometry_of, stacked, to_device
from .preprocessing.pixels import Pipeline, preprocessed
from .saliency.cosine import LocalSimilarity, cosine_map, local_similarity

_Item = TypeVar("_Item")

TAU = 0.07
"""Default temperature of the softmax over patches."""


@dataclass(frozen=True)
class Dense:
    """Patches with vectors in the sentence's space: the map is their cosine with the sentence's vector.

    ``encode``: pixels [batch, 3, height, width] to patches [batch, rows, columns, D] and image vectors [batch, D].
    """

    words: str
    """The method in words, for the card."""
    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    finish: Callable[[torch.Tensor], torch.Tensor] = lambda maps: maps
    """What becomes of the cosines [batch, rows, columns], such as smoothing; the local similarity comes before it."""


@dataclass(frozen=True)
class Gradient:
    """The map is made from the gradient of the cosine of image and sentence.

    ``encode``: pixels [batch, 3, height, width] to activations [batch, ...] and image vectors [batch, D]. ``relevance``:
    activations and sentence vectors [batch, D] (the gradient's graph starts at the activations, in float32) to maps [batch,
    rows, columns] of at least 0.
    """

    words: str
    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    relevance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TextBlind:
    """A map of the image alone, whatever the sentence: a floor from the model itself.

    ``encode``: pixels [batch, 3, height, width] to maps [batch, rows, columns] of at least 0 and image vectors [batch, D].
    """

    words: str
    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


Method = Dense | Gradient | TextBlind


@dataclass(frozen=True)
class DualNetwork:
    """A dual encoder as its family describes it. Callables get and return tensors on ``module``'s device."""

    module: nn.Module
    """All weights; moved to the device and dtype of the run, and evaluated without training."""
    pipeline: Pipeline
    encode_text: Callable[[Sequence[str]], torch.Tensor]
    """Sentences to vectors [sentences, D], not normalised; what one gets must not depend on the others."""
    methods: Mapping[str, Method]
    """By name; the first is the default."""


def chosen_method(network: DualNetwork, method: str | None, who: str) -> str:
    """The name of the saliency method; None means the family's default. Raises :class:`WronglungError`."""
    if method is None:
        return next(iter(network.methods))
    if method not in network.methods:
        raise WronglungError(f"{who}: unknown saliency method {method!r}; it has {', '.join(network.methods)}")
    return method


def dual_card(
    network: DualNetwork,
    method: str,
    *,
    name: str,
    checkpoint: str | None,
    tau: float,
    similarity: LocalSimilarity,
    tokens: str,
    dtype: torch.dtype,
    pretraining_sources: Sequence[str] = (),
    settings: Mapping[str, str | int | float | bool | None] | None = None,
) -> ModelCard:
    """The card of a network with a saliency method.

    Cosine maps are signed and become mass by a softmax with temperature ``tau``; the others are at least 0 and are divided
    by their sum.
    """
    chosen = network.methods[method]
    dense = isinstance(chosen, Dense)
    return ModelCard(
        name=name,
        saliency_method=chosen.words,
        map_kind="score",
        signed=dense,
        comparable=dense,
        mass="softmax" if dense else "sum",
        temperature=tau if dense else 1.0,
        tokens=tokens,
        checkpoint=checkpoint,
        preprocessing=str(network.pipeline),
        pretraining_sources=tuple(pretraining_sources),
        settings={
            "method": method,
            **({"tau": tau, "local_similarity": similarity} if dense else {}),
            "dtype": str(dtype).removeprefix("torch."),
            **(settings or {}),
        },
    )


class DualModel:
    """A :class:`..benchmark.protocol.DualEncoder` with :class:`..benchmark.protocol.Preprocessing`.

    Features of an image: "global" [D] and, by the kind of method, "patches" [rows, columns, D], "activations" or "map"
    [rows, columns]; of a sentence: "global" [D]. All are at least float32. Cells wholly in padding are left out of the local
    similarity, which gradient and text-blind methods do not have.

    Raises :class:`WronglungError` when a gradient is asked for in less than float32.
    """

    def __init__(
        self,
        network: DualNetwork,
        method: str,
        card: ModelCard,
        *,
        similarity: LocalSimilarity = "attention",
        tau: float = TAU,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.card = card
        self._network = network
        self._method = network.methods[method]
        if isinstance(self._method, Gradient) and dtype != torch.float32:
            raise WronglungError(
                f"model {card.name!r}: saliency method {method!r} takes gradients, for which it needs float32"
            )
        if not 0 < tau < float("inf"):
            raise WronglungError(f"tau={tau}: must be positive and finite")
        self._similarity, self._tau = similarity, tau
        self._device, self._dtype = torch.device(device), dtype
        network.module.to(device=self._device, dtype=dtype).eval().requires_grad_(False)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        return preprocessed(self._network.pipeline, image)

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        batches = self._in_batches(images)
        return [one for batch in batches for one in self.encode_preprocessed([*map(self.preprocess, batch)])]

    @torch.no_grad()
    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> list[Features]:
        return [one for batch in self._in_batches(images) for one in self._encode_batch(batch)]

    def _encode_batch(self, images: Sequence[Preprocessed]) -> list[Features]:
        levels = stacked([one.pixels for one in images], self._device)
        with full_precision(self._device):
            local, pooled = self._method.encode(self._network.pipeline.finished(levels).to(self._dtype))
        key = {Dense: "patches", Gradient: "activations", TextBlind: "map"}[type(self._method)]
        return [
            Features({key: one.clone(memory_format=torch.contiguous_format), "global": whole.clone()}, image.geometry)
            for one, whole, image in zip(at_least_float32(local), at_least_float32(pooled), images, strict=True)
        ]

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        encoded: list[Features] = []
        for batch in self._in_batches(sentences):
            with full_precision(self._device):
                vectors = self._network.encode_text(batch)
            encoded.extend(Features({"global": one.clone()}) for one in at_least_float32(vectors))
        return encoded

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        """Align image item i with sentence item i."""
        text, pooled = self._stacked(sentences, "global"), self._stacked(images, "global")
        geometries = [geometry_of(image) for image in images]
        local = None
        if isinstance(self._method, Dense):
            with torch.no_grad():
                patches = self._stacked(images, "patches")
                saliency = self._method.finish(cosine_map(patches, text))
                seen = torch.stack([seen_cells(one, *patches.shape[1:3]) for one in geometries])
                counted = to_device(seen, self._device)
                local = local_similarity(patches, text, self._similarity, self._tau, counted)
        elif isinstance(self._method, Gradient):
            saliency = self._relevance(self._method, self._stacked(images, "activations"), text)
        else:
            saliency = self._stacked(images, "map")
        with torch.no_grad():
            similarity = functional.cosine_similarity(pooled, text, dim=-1)
        return Alignment(saliency, geometries, local, similarity)

    @torch.no_grad()
    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """Cosines of image and sentence vectors, [images, sentences]."""
        rows = functional.normalize(self._stacked(images, "global"), dim=1)
        with full_precision(self._device):
            return rows @ functional.normalize(self._stacked(sentences, "global"), dim=1).T

    def _relevance(self, method: Gradient, activations: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        maps = []
        for start in range(0, len(text), step := self._step(len(text))):
            # The runner asks without gradients; the graph is let go with each batch.
            with torch.enable_grad(), full_precision(self._device):
                begin = activations[start : start + step].detach().clone().requires_grad_()
                maps.append(method.relevance(begin, text[start : start + step]).detach())
        return torch.cat(maps)

    def _in_batches(self, items: Sequence[_Item]) -> list[Sequence[_Item]]:
        step = self._step(len(items))
        return [items[start : start + step] for start in range(0, len(items), step)]

    def _step(self, count: int) -> int:
        # One by one, a CPU is about as fast as in batches and gives the same bits whatever the batch.
        return 1 if self._device.type == "cpu" else max(1, count)

    def _stacked(self, items: Sequence[Features], key: str) -> torch.Tensor:
        return stacked([item.tensors[key] for item in items], self._device)


def seen_cells(geometry: Geometry, rows: int, columns: int) -> torch.Tensor:
    """Which cells of a map hold some part of the image: bool [rows, columns]; all, where none does."""

    def inside(cells: int, frame: int, low: float, high: float) -> torch.Tensor:
        edges = torch.arange(cells + 1, dtype=torch.float64) * frame / cells
        return (edges[1:] > low) & (edges[:-1] < high)

    x1, y1 = geometry.offset_x, geometry.offset_y
    across = inside(columns, geometry.frame_width, x1, x1 + geometry.image_width * geometry.scale_x)
    down = inside(rows, geometry.frame_height, y1, y1 + geometry.image_height * geometry.scale_y)
    seen = down[:, None] & across[None]
    return seen if bool(seen.any()) else torch.ones_like(seen)
