"""Maps by occlusion, for whatever scores an image with a sentence: the catalogue's ``occlusion``.

A window slides over the image and hides what is below it. A window's value is the score of the image less that of the image
so occluded: positive where the sentence needs the place. A cell of the map has the mean value of the windows that cover it
(Zeiler and Fergus, ECCV 2014, averaged over overlapping windows).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter
from itertools import islice
from typing import Any, Literal, get_args

import torch
from PIL import Image, ImageFilter, ImageStat
from pydantic import Json

from ..benchmark.arguments import check_arguments, named_parameters
from ..benchmark.errors import WronglungError
from ..benchmark.geometry import Geometry
from ..benchmark.instances import Dataset
from ..benchmark.protocol import (
    Alignment,
    AlignmentModel,
    DatasetAware,
    DualEncoder,
    Features,
    LoadedImage,
    ModelCard,
    check_model,
)
from ..benchmark.registry import MODELS
from .functions import FRAME

Fill = Literal["mean", "blur"]
"""What is put below a window: ``mean``, the image's mean colour; ``blur``, the image blurred with a Gaussian whose standard
deviation is half the window's longer side."""

Score = Callable[[Sequence[Image.Image], Sequence[str]], Any]
"""The scores [n] of n images with n sentences, image i with sentence i."""

TAU = 0.07
"""Temperature of the softmax that makes a distribution of a map, for scores that are cosines."""

BATCH = 16
"""Occluded images in memory at a time."""

MAX_CELLS = 64
"""Cells along a side: with windows of one cell, 4096 occluded images of each."""

PROBE = LoadedImage("probe", Image.new("RGB", (64, 64), (128, 128, 128))), "There is opacity in the left lung."
"""A pair that any model answers, unless it knows nothing but the images of its dataset."""

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Windows:
    """Square windows of ``window`` × ``window`` cells at every cell of a ``cells`` × ``cells`` grid over the whole image.

    Raises :class:`WronglungError` for more than 64 cells a side, a window that is smaller than a cell or larger than the image, and an unknown fill.
    """

    cells: int = 14
    window: int = 2
    fill: Fill = "mean"

    def __post_init__(self) -> None:
        if self.cells > MAX_CELLS:
            raise WronglungError(f"cells={self.cells}: must be at most {MAX_CELLS}")
        if not 1 <= self.window <= self.cells:
            raise WronglungError(f"window={self.window}: must be from 1 to cells={self.cells}")
        if self.fill not in get_args(Fill):
            raise WronglungError(f"fill={self.fill!r}: must be {' or '.join(get_args(Fill))}")

    def __str__(self) -> str:
        return f"window {self.window}/{self.cells} of the side, stride 1/{self.cells}, fill {self.fill}"

    @property
    def places(self) -> int:
        """How many places a window has along a side."""
        return self.cells - self.window + 1

    def occluded(self, pixels: Image.Image) -> Iterator[Image.Image]:
        """The image under each window, row by row. A window's edges are rounded to whole pixels."""
        width, height = pixels.size
        xs, ys = _edges(width, self.cells), _edges(height, self.cells)
        hidden = self._hidden(pixels)
        for top in range(self.places):
            for left in range(self.places):
                box = (xs[left], ys[top], xs[left + self.window], ys[top + self.window])
                one = pixels.copy()
                one.paste(hidden.crop(box), box)
                yield one

    def _hidden(self, pixels: Image.Image) -> Image.Image:
        if self.fill == "blur":
            return pixels.filter(ImageFilter.GaussianBlur(max(pixels.size) * self.window / self.cells / 2))
        means = [round(one) for one in ImageStat.Stat(pixels).mean]
        return Image.new(pixels.mode, pixels.size, tuple(means) if len(means) > 1 else means[0])

    def saliency(self, values: torch.Tensor) -> torch.Tensor:
        """The map [cells, cells] of windows' values, [places²] row by row: float64 means over the windows on each cell."""
        grid = values.detach().cpu().double().reshape(self.places, self.places)
        total = torch.zeros(self.cells, self.cells, dtype=torch.float64)
        count = torch.zeros_like(total)
        for down in range(self.window):
            for right in range(self.window):
                total[down : down + self.places, right : right + self.places] += grid
                count[down : down + self.places, right : right + self.places] += 1
        return total / count


def load(
    model: str,
    arguments: Json[dict[str, Any]] | dict[str, Any] | None = None,
    cells: int = 14,
    window: int = 2,
    fill: Fill = "mean",
    tau: float = TAU,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualOcclusion | PairedOcclusion:
    """Occlusion maps of the model that is called ``model`` (a name, NAME:VALUE, or ``path/to/file.py:Class``).

    ``arguments`` are that model's own: on a command line a JSON object, ``arguments={"checkpoint": "PATH"}``. A window of
    ``window`` / ``cells`` of the image's sides moves over it by 1 / ``cells``: with the defaults 169 places, each of which is an
    encoding of the image. It is filled with the image's mean grey, or with the image out of focus (``fill=blur``). The map is
    the fall of the global similarity, mean over the windows that cover a place; it is signed, and becomes mass by a softmax with
    temperature ``tau``. Raises :class:`WronglungError` for an unknown model or argument, and otherwise as
    :func:`occlusion` does.
    """
    base, short = MODELS.split(model)
    factory = MODELS.get(base)
    parameters, placed = named_parameters(factory, _NAMED), {"device": device, "dtype": dtype}
    own = [one for one in parameters if one not in placed]
    shortened = {MODELS.first_argument(base, own): short} if own and short is not None else {}
    values = check_arguments(factory, {**shortened, **(arguments or {})}, own, f"model 'occlusion': {model!r}")
    inner = factory(**values, **{key: value for key, value in placed.items() if key in parameters})
    check_model(inner)
    if preset := MODELS.preset(base, values):
        inner.card = inner.card.model_copy(update={"settings": {**preset, **inner.card.settings}})
    return occlusion(inner, cells=cells, window=window, fill=fill, tau=tau)


def occlusion(
    scorer: Any,
    *,
    cells: int = 14,
    window: int = 2,
    fill: Fill = "mean",
    tau: float = TAU,
    name: str | None = None,
) -> DualOcclusion | PairedOcclusion:
    """An alignment model whose maps are made by occlusion, from a model or a function.

    ``scorer`` is a model with a global similarity, or a function ``score(images, sentences)`` that returns n finite numbers for
    n Pillow images (of mode L or RGB) and n sentences, image i with sentence i. Of a dual encoder that keeps "global" features
    every occluded image is encoded once, and further sentences cost next to nothing; any other scorer is asked again for each
    pair. Either way it sees at most 16 images at a time. What a model has is found out with a small grey image, here.

    The window's side is ``window`` / ``cells`` of the image's, and it moves by 1 / ``cells``: by default 32 pixels of 224, every
    16. There are at most 64 ``cells``. ``fill`` is what hides the image (:data:`Fill`). Maps are [cells, cells], signed, and cover the whole image; where a measure
    needs a distribution, they become one by a softmax with temperature ``tau``, in units of the score (the default suits
    cosines). ``name`` is the name on the leaderboard, by default the scorer's own and "+ occlusion". The card's ``inner`` setting
    holds the model's own settings as JSON.

    Raises :class:`WronglungError` for windows that do not fit, a ``tau`` that is not positive, and a model without a global
    similarity; where that is not known yet, as of a function or a model that must see its dataset first, when pairs are aligned.
    """
    windows = Windows(cells, window, fill)
    if not 0 < tau < math.inf:
        raise WronglungError(f"tau={tau}: must be positive and finite")
    inner = getattr(scorer, "card", None)
    if not isinstance(inner, ModelCard):
        if not callable(scorer):
            raise WronglungError(f"occlusion: {type(scorer).__name__} is neither a model nor a function that scores")
        inner = ModelCard(name=getattr(scorer, "__name__", type(scorer).__name__), saliency_method="", map_kind="score")
    card = ModelCard(
        name=name or f"{inner.name} + occlusion",
        saliency_method=f"occlusion ({windows})",
        map_kind="score",
        signed=True,
        comparable=inner.comparable,
        mass="softmax",
        temperature=tau,
        checkpoint=inner.checkpoint,
        preprocessing=inner.preprocessing,
        pretraining_sources=inner.pretraining_sources,
        settings={
            "inner": json.dumps(dict(inner.settings)),
            "cells": cells,
            "window": window,
            "fill": fill,
            "tau": tau,
        },
    )
    if isinstance(scorer, DualEncoder) and _keeps_global(scorer):
        return DualOcclusion(scorer, windows, card)
    if isinstance(scorer, AlignmentModel | DualEncoder) and _lacks_similarity(scorer):
        raise WronglungError(f"model {inner.name!r}: has no global similarity, which occlusion needs")
    return PairedOcclusion(scorer, windows, card)


class PairedOcclusion:
    """Occlusion of a function, or of a model whose similarity needs images and sentences together. Made by :func:`occlusion`."""

    def __init__(self, scorer: AlignmentModel | DualEncoder | Score, windows: Windows, card: ModelCard) -> None:
        self.card = card
        self._scorer = scorer
        self._windows = windows

    def prepare(self, dataset: Dataset) -> None:
        """Let the model look at the dataset, if it does."""
        _prepare(self._scorer, dataset)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        saliency, whole = [], []
        for image, sentence in zip(images, sentences, strict=True):
            batches = _batches(image, self._windows)
            scores = torch.cat([self._scores(batch, [sentence] * len(batch)) for batch in batches])
            whole.append(scores[0])
            saliency.append(self._windows.saliency(scores[0] - scores[1:]))
        geometry = [_geometry(image) for image in images]
        return Alignment(torch.stack(saliency).float(), geometry, global_similarity=torch.stack(whole))

    def _scores(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> torch.Tensor:
        """Finite scores, float64 [n]."""
        if isinstance(self._scorer, AlignmentModel | DualEncoder):
            given: Any = _alignment(self._scorer, images, sentences).global_similarity
            if given is None:
                raise WronglungError(f"model {self.card.name!r}: the occluded model has no global similarity")
        else:
            given = self._scorer([image.pixels for image in images], sentences)
        try:
            scores = torch.as_tensor(given).detach().cpu().double()
        except (TypeError, ValueError, RuntimeError) as error:
            raise WronglungError(f"model {self.card.name!r}: scores are {type(given).__name__}, not numbers") from error
        if scores.shape != (len(images),) or not bool(scores.isfinite().all()):
            raise WronglungError(
                f"model {self.card.name!r}: scores of shape {tuple(scores.shape)} for image {images[0].id} "
                f"({sentences[0]!r}); {len(images)} images need ({len(images)},), all finite"
            )
        return scores


class DualOcclusion:
    """Occlusion of a dual encoder, itself a dual encoder. Made by :func:`occlusion`.

    Features of an image: the inner encoder's "global" vector [D], and those of the occluded images, "occluded" [places², D]. Of a
    sentence: its "global" vector alone.
    """

    def __init__(self, encoder: DualEncoder, windows: Windows, card: ModelCard) -> None:
        self.card = card
        self._encoder = encoder
        self._windows = windows

    def prepare(self, dataset: Dataset) -> None:
        """Let the encoder look at the dataset, if it does."""
        _prepare(self._encoder, dataset)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        """Raises :class:`WronglungError` for an encoder that keeps no "global" vector."""
        encoded = []
        for image in images:
            batches = _batches(image, self._windows)
            rows = torch.cat([torch.stack(self._globals(self._encoder.encode_images(batch))) for batch in batches])
            encoded.append(Features({"global": rows[0].clone(), "occluded": rows[1:].clone()}, _geometry(image)))
        return encoded

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        """Raises :class:`WronglungError` for an encoder that keeps no "global" vector."""
        return [Features({"global": one.clone()}) for one in self._globals(self._encoder.encode_sentences(sentences))]

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        saliency, whole = [], []
        for image, sentence in zip(images, sentences, strict=True):
            rows = [image.tensors["global"], *image.tensors["occluded"]]
            variants = [Features({"global": row}, image.geometry) for row in rows]
            scores = self._encoder.global_similarity_matrix(variants, [sentence])[:, 0].cpu().double()
            whole.append(scores[0])
            saliency.append(self._windows.saliency(scores[0] - scores[1:]))
        geometry = [one.geometry for one in images if one.geometry is not None]
        return Alignment(torch.stack(saliency).float(), geometry, global_similarity=torch.stack(whole))

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """The encoder's own, of the images as they are: [images, sentences]."""
        return self._encoder.global_similarity_matrix(images, sentences)

    def _globals(self, items: Sequence[Features]) -> list[torch.Tensor]:
        if not all("global" in item.tensors for item in items):
            raise WronglungError(f"model {self.card.name!r}: the occluded encoder keeps no feature named 'global'")
        return [item.tensors["global"] for item in items]


def _batches(image: LoadedImage, windows: Windows) -> Iterator[list[LoadedImage]]:
    """The image as it is, then under each window, at most ``BATCH`` at a time."""
    pixels = image.pixels if image.pixels.mode in ("L", "RGB") else image.pixels.convert("RGB")

    def variants() -> Iterator[LoadedImage]:
        yield LoadedImage(image.id, pixels, image.original)
        for one in windows.occluded(pixels):
            yield LoadedImage(image.id, one, image.original)

    made = variants()
    while batch := list(islice(made, BATCH)):
        yield batch


def _edges(side: int, cells: int) -> list[int]:
    return [round(cell * side / cells) for cell in range(cells + 1)]


def _geometry(image: LoadedImage) -> Geometry:
    return Geometry.squash(*image.pixels.size, FRAME, FRAME)


def _alignment(
    model: AlignmentModel | DualEncoder, images: Sequence[LoadedImage], sentences: Sequence[str]
) -> Alignment:
    if isinstance(model, AlignmentModel):
        return model.align(images, sentences)
    return model.align_features(model.encode_images(images), model.encode_sentences(sentences))


def _keeps_global(encoder: DualEncoder) -> bool:
    image, sentence = PROBE
    try:
        kept = [*encoder.encode_images([image]), *encoder.encode_sentences([sentence])]
        return all("global" in one.tensors for one in kept)
    except Exception:  # whatever it is, it comes again with the first pair that is asked for, and is told there
        return False


def _lacks_similarity(model: AlignmentModel | DualEncoder) -> bool:
    """Whether a model is known to have no global similarity. One that must see its dataset first is not asked."""
    image, sentence = PROBE
    try:
        return not isinstance(model, DatasetAware) and _alignment(model, [image], [sentence]).global_similarity is None
    except Exception:  # as above
        return False


def _prepare(model: Any, dataset: Dataset) -> None:
    if isinstance(model, DatasetAware):
        model.prepare(dataset)
