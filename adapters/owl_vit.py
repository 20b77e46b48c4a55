"""OWL-ViT and OWLv2 (Minderer et al. 2022, 2023) as dual encoders: a box and a score for each cell of the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import (  # type: ignore[attr-defined]
    CLIPTokenizerFast,
    Owlv2ForObjectDetection,
    OwlViTForObjectDetection,
)

from ..benchmark.errors import WronglungError
from ..benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed
from .encoding import at_least_float32, full_precision, geometry_of, to_device
from .files.hub import model_folder
from .files.state_dicts import file_digest
from .files.transformers_format import (
    CONFIG,
    PROCESSOR,
    TOKENIZER,
    WEIGHTS,
    Published,
    build,
    read_json,
    read_pipeline,
    read_tokenizer,
)
from .preprocessing.pixels import preprocessed
from .preprocessing.steps import Pipeline
from .saliency.detection import GRID, box_map, check_painting

Detector = OwlViTForObjectDetection | Owlv2ForObjectDetection
Method = Literal["boxes", "score-grid"]
Long = Literal["split", "cut"]

_METHODS: dict[Method, str] = {
    "boxes": "scored boxes, the largest score that covers a place",
    "score-grid": "score of the box that each cell predicts, at the cell",
}
_CLASSES: dict[str, tuple[type[Detector], str]] = {
    "owlvit": (OwlViTForObjectDetection, "OwlViTImageProcessor"),
    "owlv2": (Owlv2ForObjectDetection, "Owlv2ImageProcessor"),
}


def load(
    weights: str = "google/owlvit-base-patch32",
    method: Method | None = None,
    long: Long = "split",
    grid: int = GRID,
    threshold: float = 0.0,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> OwlViT:
    """OWL-ViT or OWLv2: an open-vocabulary detector whose image and text towers meet in one score per cell.

    ``weights``: a name on the Hugging Face hub (``google/owlvit-base-patch32``, ``google/owlvit-base-patch16``,
    ``google/owlvit-large-patch14``, ``google/owlv2-base-patch16-ensemble``, ``google/owlv2-large-patch14-ensemble``;
    all Apache-2.0, no registration), or a folder with its ``config.json``, ``preprocessor_config.json``,
    ``model.safetensors`` or ``pytorch_model.bin``, and tokenizer (``tokenizer.json``, or ``vocab.json`` and
    ``merges.txt``, with ``tokenizer_config.json``).

    ``method``: ``boxes`` (default: each place has the largest score of a box that covers it) or ``score-grid`` (each
    cell has its own score, wherever its box may lie). Scores are probabilities; the global similarity is the largest
    one.

    ``long``, for sentences of more than the 16 tokens that the text tower takes: ``split`` (default: as many whole
    words as fit at a time, up to a comma or full stop where there is one; a box has its largest score for any part) or
    ``cut`` (what follows is not read).

    ``grid``: cells a side of a map of boxes. ``threshold``: boxes that score no more leave no trace; at more than 0,
    the ranking of what is below is lost. ``name``: what the model is called, before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit, and an unknown method.
    """
    method = method or "boxes"
    if method not in _METHODS:
        raise WronglungError(f"OWL-ViT: unknown saliency method {method!r}; it has {', '.join(_METHODS)}")
    if long not in ("split", "cut"):
        raise WronglungError(f"long={long!r}: must be split or cut")
    check_painting(grid, threshold)
    required = (CONFIG, WEIGHTS, PROCESSOR, (TOKENIZER, "vocab.json"))
    folder = model_folder(weights, required, ("merges.txt",), argument="weights")
    published = Published(weights, folder, read_json(folder / CONFIG))
    model_type = published.config.get("model_type")
    if model_type not in _CLASSES:
        raise WronglungError(
            f"{folder / CONFIG}: model_type is {model_type!r}; this adapter reads 'owlvit' and 'owlv2'"
        )
    kind, processor = _CLASSES[model_type]
    detector: Detector = build(published, kind)
    text: Any = detector.config.text_config
    vision: Any = detector.config.vision_config
    pipeline, _ = read_pipeline(published, processor, vision)
    tokenizer = read_tokenizer(published, text.vocab_size, CLIPTokenizerFast)
    if tokenizer.encode("").ids[-1:] != [max(tokenizer.get_vocab().values())]:
        raise WronglungError(
            f"{folder}: the tokenizer does not end sentences with its largest id, where the text tower looks for "
            "the sentence's vector"
        )
    limit: int = text.max_position_embeddings
    card = ModelCard(
        name=f"{name or published.name} + {method}",
        saliency_method=_METHODS[method],
        map_kind="score",
        signed=False,
        comparable=True,
        tokens={
            "split": f"the sentence as one query; beyond {limit} tokens in parts, of which the largest score counts",
            "cut": f"the sentence as one query, cut after {limit} tokens",
        }[long],
        checkpoint=file_digest(published.weights),
        preprocessing=str(pipeline),
        settings={
            "method": method,
            "long": long,
            **({"grid": grid, "threshold": threshold} if method == "boxes" else {}),
            "dtype": str(dtype).removeprefix("torch."),
        },
    )
    return OwlViT(
        detector, pipeline, tokenizer, card,
        method=method, long=long, limit=limit, grid=grid, threshold=threshold, device=device, dtype=dtype,
    )  # fmt: skip


class OwlViT:
    """A dual encoder. Made by :func:`load`.

    Features of an image with P cells: ``global`` [P, D + 2], each cell's class vector, shift and scale (:func:`cells`),
    and ``boxes`` [P, 4] as (centre x, centre y, width, height) in shares of the frame. Of a sentence: ``global``
    [parts, D].
    """

    def __init__(
        self,
        detector: Detector,
        pipeline: Pipeline,
        tokenizer: Tokenizer,
        card: ModelCard,
        *,
        method: Method,
        long: Long,
        limit: int,
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
        self._method, self._long = method, long
        self._grid, self._threshold = grid, threshold
        self._limit = limit

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        return preprocessed(self._pipeline, image)

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        return [one for image in images for one in self.encode_preprocessed([self.preprocess(image)])]

    @torch.no_grad()
    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> list[Features]:
        # One by one, so that an image's features do not depend on the others, to the last bit.
        return [self._encode_image(image) for image in images]

    def _encode_image(self, image: Preprocessed) -> Features:
        pixels = self._pipeline.finished(to_device(image.pixels[None], self._device))
        with full_precision(self._device):
            vectors, boxes = cells(self._detector, pixels.to(self._dtype))
        return Features({"global": at_least_float32(vectors[0]), "boxes": at_least_float32(boxes[0])}, image.geometry)

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        encoded = []
        for sentence in sentences:
            vectors = [query(self._detector, self._ids(part)) for part in self._parts(sentence)]
            encoded.append(Features({"global": at_least_float32(torch.cat(vectors))}))
        return encoded

    def _parts(self, sentence: str) -> list[str]:
        if self._long == "cut":
            return [sentence]
        return parts(sentence, lambda text: len(self._tokenizer.encode(text).ids) <= self._limit)

    def _ids(self, text: str) -> torch.Tensor:
        # No padding: the text tower is causal and pooled at the end token, so what follows that changes nothing.
        ids = self._tokenizer.encode(text).ids
        cut = ids if len(ids) <= self._limit else [*ids[: self._limit - 1], ids[-1]]
        return torch.tensor([cut], device=self._device)

    @torch.no_grad()
    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        """Align image item i with sentence item i."""
        maps, similarities = [], []
        for image, sentence in zip(images, sentences, strict=True):
            cells = image.tensors["global"].to(self._device)
            scores = logits(cells, sentence.tensors["global"].to(self._device)).amax(dim=1).sigmoid()
            if self._method == "boxes":
                maps.append(box_map(image.tensors["boxes"].to(self._device), scores, self._grid, self._threshold))
            else:
                maps.append(scores.reshape(self._detector.num_patches_height, self._detector.num_patches_width))
            similarities.append(scores.amax())
        return Alignment(
            torch.stack(maps), [geometry_of(image) for image in images], global_similarity=torch.stack(similarities)
        )

    @torch.no_grad()
    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """The largest score in an image for a sentence, [images, sentences]."""
        queries = torch.cat([sentence.tensors["global"] for sentence in sentences]).to(self._device)
        counts = [len(sentence.tensors["global"]) for sentence in sentences]
        ends = list(accumulate(counts))
        rows = []
        for image in images:
            best = logits(image.tensors["global"].to(self._device), queries).amax(dim=0)
            rows.append(torch.stack([best[end - count : end].amax() for count, end in zip(counts, ends, strict=True)]))
        return torch.stack(rows).sigmoid()


def cells(detector: Detector, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the cells of images [batch, 3, height, width] say without a query.

    Returns [batch, P, D + 2], a unit class vector, a shift and a scale for each of the P cells (row by row), and boxes
    [batch, P, 4] as (centre x, centre y, width, height) in shares of the frame.
    """
    grid = detector.image_embedder(pixel_values=pixels)[0]
    features = grid.flatten(1, 2)
    head: Any = detector.class_head
    vectors = torch.cat(
        [_unit(head.dense0(features)), head.logit_shift(features), head.elu(head.logit_scale(features)) + 1], dim=-1
    )
    boxes: torch.Tensor = detector.box_predictor(features, grid)
    return vectors, boxes


def query(detector: Detector, ids: torch.Tensor) -> torch.Tensor:
    """Unit vectors [queries, D] of token ids [queries, length]."""
    towers: Any = detector.base_model
    pooled = towers.text_model(input_ids=ids, attention_mask=torch.ones_like(ids))[1]
    return _unit(functional.normalize(towers.text_projection(pooled), dim=-1))


def logits(cells: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Logits [P, queries] of cells [P, D + 2] for unit vectors [queries, D]: (cosine + shift) · scale."""
    vectors, shift, scale = cells[:, :-2], cells[:, -2:-1], cells[:, -1:]
    return (vectors @ queries.T + shift) * scale


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    # As the class head does it, summand included.
    unit: torch.Tensor = vectors / (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) + 1e-6)
    return unit


_END = re.compile(r"[,;:.!?]$")


def parts(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """A sentence in parts of whole words that fit: as many words as possible at a time, up to the last that ends with a
    punctuation mark where there is one. A word that does not fit alone is a part of its own."""
    if fits(sentence):
        return [sentence]
    words, found = sentence.split(), []
    while words:
        count = 1
        while count < len(words) and fits(" ".join(words[: count + 1])):
            count += 1
        if count < len(words):
            count = next((end for end in range(count, 0, -1) if _END.search(words[end - 1])), count)
        found.append(" ".join(words[:count]))
        words = words[count:]
    return found or [sentence]
