"""Grounding DINO (Liu et al. 2023): a detector whose image and text towers attend to each other from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError
from tokenizers import Tokenizer
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from ..benchmark.errors import WronglungError, explain, first_line
from ..benchmark.protocol import Alignment, Geometry, LoadedImage, ModelCard
from .encoding import at_least_float32, full_precision
from .files.state_dicts import file_digest, read_state_dict
from .files.transformers_format import (
    CONFIG,
    PROCESSOR,
    TOKENIZER,
    Published,
    find,
    read_json,
    read_tokenizer,
    silent,
)
from .preprocessing.canvas import Canvas
from .preprocessing.pixels import IMAGENET_MEAN, IMAGENET_STD
from .preprocessing.steps import Normalise, Pipeline, Triple
from .saliency.detection import GRID, box_map, check_painting

CLS, STOP, SEP = 101, 1012, 102
"""Ids that the network knows: sentences begin with the first, and end with the others."""


def load(
    weights: str = "IDEA-Research/grounding-dino-tiny",
    grid: int = GRID,
    threshold: float = 0.0,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> GroundingDino:
    """Grounding DINO: 900 boxes per image and sentence, each with a score for every token of the sentence.

    ``weights``: a name on the Hugging Face hub (``IDEA-Research/grounding-dino-tiny`` or ``-base``; Apache-2.0, no
    registration), or a folder with its ``config.json``, ``preprocessor_config.json``, ``model.safetensors`` or
    ``pytorch_model.bin``, and ``tokenizer.json``.

    A box's score for a sentence is the largest probability of its tokens; a place has the largest score of a box that
    covers it. The global similarity is the largest score. Sentences are lower-cased and end with a full stop, as in
    training; a full stop or question mark within a sentence ends a phrase, whose words do not see those of the next.
    Each pair of an image and a sentence takes a pass through the whole network: expect seconds a pair without a GPU.

    ``grid``: cells a side of the map. ``threshold``: boxes that score no more leave no trace; at more than 0, the
    ranking of what is below is lost. ``name``: what the model is called, before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit.
    """
    check_painting(grid, threshold)
    published = find(weights, "grounding-dino", [TOKENIZER])
    detector = build(published)
    pipeline = read_pipeline(published)
    text: Any = detector.config.text_config
    tokenizer = read_tokenizer(published, text.vocab_size)
    if (ids := tokenizer.encode(".").ids) != [CLS, STOP, SEP]:
        raise WronglungError(
            f"{published.folder}: the tokenizer makes {ids} of a full stop; the network needs BERT's uncased one, "
            f"which makes {[CLS, STOP, SEP]}"
        )
    card = ModelCard(
        name=f"{name or published.name} + boxes",
        saliency_method="scored boxes, the largest score that covers a place",
        map_kind="score",
        signed=False,
        comparable=True,
        tokens="all, [CLS], full stop and [SEP] included; the largest probability counts",
        checkpoint=file_digest(published.weights),
        preprocessing=str(pipeline),
        settings={"grid": grid, "threshold": threshold, "dtype": str(dtype).removeprefix("torch.")},
    )
    return GroundingDino(
        detector, pipeline, tokenizer, card, grid=grid, threshold=threshold, device=device, dtype=dtype
    )


class GroundingDino:
    """An alignment model. Made by :func:`load`."""

    def __init__(
        self,
        detector: GroundingDinoForObjectDetection,
        pipeline: Pipeline,
        tokenizer: Tokenizer,
        card: ModelCard,
        *,
        grid: int,
        threshold: float,
        device: str | torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.card = card
        self._device, self._dtype = torch.device(device), dtype
        torch.nn.Module.to(detector, device=self._device, dtype=dtype).train(False).requires_grad_(False)
        self._detector = detector
        self._pipeline, self._tokenizer = pipeline, tokenizer
        self._grid, self._threshold = grid, threshold

    @torch.no_grad()
    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Align image i with sentence i. Raises :class:`WronglungError` naming an image that is too thin."""
        maps, geometries, similarities = [], [], []
        # One by one: in a batch, images of different shapes would be padded, which changes what the network sees.
        for image, sentence in zip(images, sentences, strict=True):
            boxes, scores, geometry = self._detect(image, sentence)
            maps.append(box_map(boxes, scores, self._grid, self._threshold))
            geometries.append(geometry)
            similarities.append(scores.amax())
        return Alignment(torch.stack(maps), geometries, global_similarity=torch.stack(similarities))

    def _detect(self, image: LoadedImage, sentence: str) -> tuple[torch.Tensor, torch.Tensor, Geometry]:
        try:
            pixels, geometry = self._pipeline(image.pixels)
        except ValueError as error:
            raise WronglungError(f"image {image.id}: {error}") from error
        with full_precision(self._device):
            boxes, scores = detect(
                self._detector, pixels[None].to(device=self._device, dtype=self._dtype), self._ids(sentence)
            )
        return boxes[0], scores[0], geometry

    def _ids(self, sentence: str) -> torch.Tensor:
        ids = self._tokenizer.encode(phrase(sentence)).ids
        limit: int = self._detector.config.max_text_len
        if len(ids) > limit:  # a phrase without its full stop would be left without attention among its words
            ids = [*ids[: limit - 2], STOP, SEP]
        return torch.tensor([ids], device=self._device)


def phrase(sentence: str) -> str:
    """A sentence as the network was trained to read it: in lower case and with a full stop at its end."""
    text = sentence.lower().strip()
    return text if text.endswith(".") else f"{text}."


def detect(
    detector: GroundingDinoForObjectDetection, pixels: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes [batch, queries, 4] as (centre x, centre y, width, height) in shares of the frame, and their scores [batch,
    queries], the largest probability of a token; of pixels [batch, 3, height, width] with ids [batch, length],
    unpadded."""
    out = detector(
        pixel_values=pixels, input_ids=ids, token_type_ids=torch.zeros_like(ids), attention_mask=torch.ones_like(ids)
    )
    # Beyond the text, logits are -inf.
    return at_least_float32(out.pred_boxes), at_least_float32(out.logits).amax(dim=-1).sigmoid()


@dataclass(frozen=True)
class ShortestWithin:
    """Resize until the shorter side is ``shortest`` pixels, or less where the longer one would exceed ``longest``."""

    shortest: int
    longest: int

    def __call__(self, canvas: Canvas) -> Canvas:
        short, long = sorted((canvas.height, canvas.width))
        # DETR's rule: where the longer side is the limit, the shorter one is rounded and the longer one truncated.
        exact: float = self.shortest
        if long / short * self.shortest > self.longest:
            exact = self.longest * short / long
        shorter, longer = round(exact), int(exact * long / short)
        if short == shorter:
            return canvas
        size = (shorter, longer) if canvas.height <= canvas.width else (longer, shorter)
        return canvas.resized(*size, "bilinear", "pillow")

    def __str__(self) -> str:
        return f"shortest side to {self.shortest}, longest to at most {self.longest}, bilinear (Pillow)"


class _Size(BaseModel):
    model_config = ConfigDict(frozen=True)

    shortest_edge: PositiveInt
    longest_edge: PositiveInt


class _Processor(BaseModel):
    """The keys of a ``preprocessor_config.json`` that are followed."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    size: _Size = _Size(shortest_edge=800, longest_edge=1333)
    image_mean: Triple = IMAGENET_MEAN
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD


def read_pipeline(published: Published) -> Pipeline:
    """The preprocessing of ``preprocessor_config.json``, or the original one without that file.

    Raises :class:`WronglungError` naming the key that is wrong.
    """
    path = published.folder / PROCESSOR
    try:
        processor = _Processor.model_validate(read_json(path) if path.is_file() else {})
    except ValidationError as error:
        raise WronglungError(f"{path}: {explain(error)}") from None
    resize = ShortestWithin(processor.size.shortest_edge, processor.size.longest_edge)
    return Pipeline((resize, Normalise(processor.image_mean, processor.image_std)))


def build(published: Published) -> GroundingDinoForObjectDetection:
    """The model with its weights, float32.

    Unlike :func:`.files.transformers_format.build`, this lets transformers translate the names of the image tower's tensors,
    which changed since the weights were published, and share what the file holds once. Raises :class:`WronglungError`
    for a configuration that makes no such model, and for weights that do not fit it.
    """
    path, what = published.weights, f"the GroundingDinoForObjectDetection of {CONFIG}"
    weights = {
        key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in read_state_dict(path).items()
    }
    make: Any = GroundingDinoForObjectDetection.from_pretrained
    try:
        with silent():
            detector, report = make(
                None,
                config=GroundingDinoConfig.from_dict(dict(published.config)),
                state_dict=weights,
                attn_implementation="eager",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, with the file's name
            )
    except Exception as error:  # configurations are checked in many places, each with its own exceptions
        raise WronglungError(
            f"{published.folder / CONFIG}: makes no GroundingDinoForObjectDetection ({first_line(error)})"
        ) from error
    for problem, keys in (("has no", report["missing_keys"]), ("has an unknown", report["unexpected_keys"])):
        if keys:
            first, *others = sorted(keys)
            more = f" (and {len(others)} more)" if others else ""
            raise WronglungError(f"checkpoint {path}: {problem} {first!r}{more} for {what}")
    for key, given, needed in sorted(report["mismatched_keys"]):
        raise WronglungError(f"checkpoint {path}: {key!r} has shape {tuple(given)}, {what} needs {tuple(needed)}")
    model: GroundingDinoForObjectDetection = detector.float()
    return model
