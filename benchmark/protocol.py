"""What a model must do to be evaluated, and the check of what it returned.

An adapter is any object with a ``card`` and an ``align`` method (:class:`AlignmentModel`). A dual encoder also
has ``encode_images``, ``encode_sentences`` and ``align_features`` (:class:`DualEncoder`); the runner recognises
these and then encodes each image and each sentence once. A model that needs the dataset's region boxes, as the
oracle does, has ``prepare`` (:class:`DatasetAware`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict

from .errors import WronglungError
from .geometry import Geometry
from .instances import Dataset

__all__ = [
    "AdapterError",
    "Alignment",
    "AlignmentModel",
    "DatasetAware",
    "DualEncoder",
    "Features",
    "Geometry",
    "LoadedImage",
    "ModelCard",
    "Preprocessed",
    "Preprocessing",
    "check_alignment",
    "check_model",
]


LARGEST = 1e38
"""Bound on saliency: the difference of two neighbouring values must be a float32, too."""


class AdapterError(WronglungError):
    """An adapter broke the protocol; the message names the model, the instance and the fix."""


class ModelCard(BaseModel):
    """Who the model is, as result files and tables show it.

    In every map a higher value means a stronger alignment with the sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The name on the leaderboard."""
    role: Literal["model", "floor", "ceiling"] = "model"
    """``floor``: knows too little to be right, and shows what a figure is worth that anybody gets; ``ceiling``: knows the
    answer. Both stand beside the models of a table and are not ranked with them."""
    saliency_method: str
    """How the map is made, for example ``"word-region attention, mean over words"``; part of the model's identity."""
    map_kind: Literal["distribution", "score"]
    """``distribution`` maps are non-negative and sum to at most 1; ``score`` maps may be any finite numbers."""
    signed: bool | None = None
    """Whether ``score`` maps may hold negative values, as cosines do; None where that is not said."""
    comparable: bool | None = None
    """Whether a value means the same in the maps of different images, as a cosine or a probability does, and the relevance
    of a gradient does not; None where that is not said."""
    mass: Literal["sum", "clip", "softmax"] = "sum"
    """How a map becomes a distribution where a measure needs one (entropy, KL divergence): divide by the sum; set
    negative values to zero first; or softmax of the map divided by ``temperature``. ``distribution`` maps use "sum"."""
    temperature: float = 1.0
    tokens: str = ""
    """Which tokens of a sentence the map is averaged over."""
    checkpoint: str | None = None
    """SHA-256 of the weights, or None for a model without weights."""
    preprocessing: str = ""
    """What is done to the pixels, in words or as a fingerprint; part of the model's identity."""
    pretraining_sources: tuple[str, ...] = ()
    """Datasets that the model is known to have seen."""
    settings: Mapping[str, str | int | float | bool | None] = {}
    """Arguments that the model was made with."""


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image as adapters receive it: ``pixels`` of 8 bits a channel, in the file's own mode.

    They are of the image's own size, unless the run lets JPEG files be reduced while they are decoded: then of a half, a
    quarter or an eighth of ``original`` (width, height), rounded up. Adapters state their geometry for the pixels that they
    are given; whoever knows something in original pixels, such as boxes, uses :attr:`size`.
    """

    id: str
    pixels: Image.Image
    original: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The image's (width, height) in original pixels."""
        return self.original or self.pixels.size

    @property
    def factor(self) -> int:
        """How many original pixels make one pixel, in each direction."""
        return self.factor_of(self.size, self.pixels.size)

    @staticmethod
    def factor_of(original: tuple[int, int], shown: tuple[int, int]) -> int:
        """The factor, 1, 2, 4 or 8, by which an image of ``original`` pixels was reduced to ``shown`` ones (width, height)."""
        width, height = original
        return next(one for one in (1, 2, 4, 8) if (-(-width // one), -(-height // one)) == shown)


@dataclass(frozen=True)
class Features:
    """What a dual encoder keeps of one image or one sentence.

    The runner stores features and hands them back, and looks at nothing but the size of the tensors. Tensors have
    no batch axis and may differ in shape from item to item. ``geometry`` is an image's, and None for a sentence.
    """

    tensors: Mapping[str, torch.Tensor]
    geometry: Geometry | None = None

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


@dataclass(frozen=True)
class Alignment:
    """A batch of soft alignments, one per (image, sentence) pair.

    ``saliency`` is [batch, rows, columns], any floating dtype on any device; each map covers its geometry's frame
    evenly. The similarities and ``no_attention_weight`` (the mass in [0, 1] that the model put on no region at all)
    are [batch], or None where the model has no such thing.
    """

    saliency: torch.Tensor
    geometry: Sequence[Geometry]
    local_similarity: torch.Tensor | None = None
    global_similarity: torch.Tensor | None = None
    no_attention_weight: torch.Tensor | None = None


@runtime_checkable
class AlignmentModel(Protocol):
    """The smallest model: paired images and sentences in, alignments out."""

    @property
    def card(self) -> ModelCard: ...

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Align image i with sentence i. The result must not depend on what else is in the batch."""
        ...


@runtime_checkable
class DualEncoder(Protocol):
    """A model whose images and sentences are encoded apart, and aligned afterwards."""

    @property
    def card(self) -> ModelCard: ...

    def encode_images(self, images: Sequence[LoadedImage]) -> Sequence[Features]:
        """One item per image, with its geometry."""
        ...

    def encode_sentences(self, sentences: Sequence[str]) -> Sequence[Features]:
        """One item per sentence."""
        ...

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        """Align image item i with sentence item i."""
        ...

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """Global similarities of all images with all sentences, [images, sentences].

        The items given here hold only the tensor named "global", which is all that is kept of every sentence of a
        dataset; a model whose features have no tensor of that name has no exhaustive global selection accuracy.
        """
        ...


@dataclass(frozen=True)
class Preprocessed:
    """What a model is given of one image, on the host: ``pixels``, a tensor of any shape and dtype, and how the image lies in it."""

    pixels: torch.Tensor
    geometry: Geometry


@runtime_checkable
class Preprocessing(Protocol):
    """A dual encoder that prepares images apart from encoding them: other threads then do so while it encodes."""

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        """What the encoder needs of a decoded image, which is let go afterwards. Must be thread-safe."""
        ...

    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> Sequence[Features]:
        """One item per image, as ``encode_images`` gives it."""
        ...


@runtime_checkable
class DatasetAware(Protocol):
    """A model that looks at the dataset before it runs."""

    def prepare(self, dataset: Dataset) -> None: ...


def check_model(model: Any) -> None:
    """Refuse at the door what is neither an :class:`AlignmentModel` nor a :class:`DualEncoder`.

    Raises :class:`AdapterError`.
    """
    kind = type(model).__name__
    if not isinstance(getattr(model, "card", None), ModelCard):
        raise AdapterError(f"{kind}: has no `card`; give it an attribute `card` that is a wronglung.ModelCard")
    if not isinstance(model, (AlignmentModel, DualEncoder)):
        raise AdapterError(
            f"{kind}: is no alignment model; it needs `align(images, sentences)`, or `encode_images`, "
            "`encode_sentences`, `align_features` and `global_similarity_matrix`"
        )


def check_alignment(
    alignment: Any, card: ModelCard, image_sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> None:
    """Hold what an adapter returned against the protocol.

    ``image_sizes`` (width, height) and ``names`` (for messages) describe the pairs that were asked for. Raises
    :class:`AdapterError` for a wrong type, shape or dtype, a missing geometry or one of another image size, a value
    that is not finite, and a negative value in a ``distribution`` map.
    """
    who, count = f"model {card.name!r}", len(names)
    if not isinstance(alignment, Alignment):
        raise AdapterError(f"{who}: returned {type(alignment).__name__}; return a wronglung.Alignment")
    saliency = alignment.saliency
    if not isinstance(saliency, torch.Tensor) or not saliency.is_floating_point():
        raise AdapterError(f"{who}: saliency must be a floating-point torch tensor")
    if saliency.ndim != 3 or saliency.shape[0] != count or 0 in saliency.shape:
        raise AdapterError(
            f"{who}: saliency has shape {tuple(saliency.shape)}; {count} pairs need ({count}, rows, columns)"
        )
    _check_geometry(alignment.geometry, who, image_sizes, names)
    _check_finite(saliency, f"{who}: saliency map", names, LARGEST)
    if card.map_kind == "distribution":
        lowest = saliency.flatten(1).amin(1)
        if bool((lowest < 0).any()):
            at = int((lowest < 0).nonzero()[0])
            raise AdapterError(
                f"{who}: negative saliency ({float(lowest[at]):.3g}) for {names[at]}; "
                'a card with map_kind="distribution" promises values of at least 0 (use map_kind="score" otherwise)'
            )
    for field in ("local_similarity", "global_similarity", "no_attention_weight"):
        values = getattr(alignment, field)
        if values is None:
            continue
        if not isinstance(values, torch.Tensor) or values.shape != (count,):
            shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise AdapterError(f"{who}: {field} has shape {shape}; {count} pairs need ({count},), or None")
        _check_finite(values, f"{who}: {field}", names)
        if field == "no_attention_weight" and not bool(((values >= 0) & (values <= 1)).all()):
            raise AdapterError(f"{who}: no_attention_weight must lie in [0, 1]")


def _check_geometry(geometry: Any, who: str, image_sizes: Sequence[tuple[int, int]], names: Sequence[str]) -> None:
    if geometry is None or len(geometry) != len(names) or not all(isinstance(one, Geometry) for one in geometry):
        raise AdapterError(
            f"{who}: no geometry for each pair; state with one wronglung.Geometry per image how its pixels "
            "lie in the model's frame (Geometry.squash for a plain resize)"
        )
    for one, size, name in zip(geometry, image_sizes, names, strict=True):
        if (one.image_width, one.image_height) != size:
            raise AdapterError(
                f"{who}: the geometry for {name} is that of an image of "
                f"{one.image_width} × {one.image_height} pixels; the image has {size[0]} × {size[1]}"
            )


def _check_finite(values: torch.Tensor, what: str, names: Sequence[str], largest: float = math.inf) -> None:
    rows = values.detach().reshape(len(names), -1)
    finite = torch.isfinite(rows).all(1)
    if not bool(finite.all()):
        at = int((~finite).nonzero()[0])
        raise AdapterError(f"{what} is not finite (NaN or infinity) for {names[at]}")
    if bool((rows.abs() > largest).any()):
        at = int((rows.abs() > largest).any(1).nonzero()[0])
        raise AdapterError(
            f"{what} has values beyond ±{largest:.0e}, which float32 cannot interpolate, for {names[at]}"
        )
