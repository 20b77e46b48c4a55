"""Does an adapter keep the protocol? Asked on generated images of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .datasets.sketch import sketch_film
from .errors import WronglungError
from .instances import Box, Dataset, ImageRef, Instance
from .protocol import Alignment, AlignmentModel, DatasetAware, DualEncoder, LoadedImage, check_alignment

TOLERANCE = 1e-5
"""Largest difference, relative to the largest value, that is still rounding."""

SENTENCES = (
    "There is consolidation in the right lower lung zone.",
    "No pneumothorax in the left lung.",
    "The cardiac silhouette is normal.",
    "Atelectasis.",
    "There is lung opacity in both upper lung zones, more in the left than in the right lung, which is new.",
)


class Check(NamedTuple):
    """One check's outcome, and in ``detail`` what was seen or what to mend."""

    name: str
    passed: bool
    detail: str


def check_adapter(model: Any) -> list[Check]:
    """Run all checks; a check that raises has failed, with the message as its detail."""
    images, dataset = _material()
    if isinstance(model, DatasetAware):
        model.prepare(dataset)
    pairs = (images, list(SENTENCES))
    checks = []
    for name, test in _tests(model):
        try:
            checks.append(Check(name, *test(*pairs)))
        except WronglungError as error:
            checks.append(Check(name, False, str(error)))
        except Exception as error:
            checks.append(Check(name, False, f"raised {type(error).__name__}: {error}"))
    return checks


Test = Callable[[Sequence[LoadedImage], Sequence[str]], tuple[bool, str]]


def _tests(model: Any) -> Iterator[tuple[str, Test]]:
    ask = _paired(model)

    def shapes(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        result = ask(images, sentences)
        names = [f"image {image.id} ({sentence!r})" for image, sentence in zip(images, sentences, strict=True)]
        check_alignment(result, model.card, [image.pixels.size for image in images], names)
        rows, columns = result.saliency.shape[1:]
        return True, f"{rows} × {columns} regions, finite, a geometry for each image"

    def mass(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        if model.card.map_kind != "distribution":
            return True, "scores need no unit mass"
        total = float(ask(images, sentences).saliency.cpu().double().flatten(1).sum(1).max())
        return total <= 1 + 1e-3, f"largest mass of a map is {total:.6f}; a distribution has at most 1"

    def deterministic(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        return _close(ask(images, sentences), ask(images, sentences), 0.0, "asked twice; use eval() and no sampling")

    def batch_invariant(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        singles = [ask([image], [sentence]) for image, sentence in zip(images, sentences, strict=True)]
        return _close(
            ask(images, sentences), _concatenate(singles), TOLERANCE, "alone and in a batch; mask the padding"
        )

    def order_invariant(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        turned = ask(images[::-1], sentences[::-1])
        return _close(ask(images, sentences), _reverse(turned), TOLERANCE, "in the other order")

    yield "shapes, finite values, geometry", shapes
    yield "mass", mass
    yield "deterministic", deterministic
    yield "batch invariance", batch_invariant
    yield "order invariance", order_invariant
    if isinstance(model, AlignmentModel) and isinstance(model, DualEncoder):

        def same_paths(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
            paired = model.align(images, sentences)
            return _close(paired, ask(images, sentences), TOLERANCE, "by align and by features")

        yield "paired path equals dual path", same_paths


def _paired(model: Any) -> Callable[[Sequence[LoadedImage], Sequence[str]], Alignment]:
    def ask(images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        with torch.no_grad():
            if isinstance(model, DualEncoder):
                return model.align_features(model.encode_images(images), model.encode_sentences(sentences))
            result: Alignment = model.align(images, sentences)
            return result

    return ask


def _values(alignment: Alignment) -> Iterator[tuple[str, torch.Tensor]]:
    for field in ("saliency", "local_similarity", "global_similarity", "no_attention_weight"):
        tensor = getattr(alignment, field)
        if tensor is not None:
            yield field, tensor.cpu().double()


def _close(one: Alignment, other: Alignment, tolerance: float, what: str) -> tuple[bool, str]:
    worst = 0.0
    for (field, a), (_, b) in zip(_values(one), _values(other), strict=True):
        if a.shape != b.shape:
            return False, f"{field} has shape {tuple(a.shape)} and {tuple(b.shape)} {what}"
        worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)))
    return worst <= tolerance, f"largest relative difference {worst:.1e} {what}"


def _concatenate(parts: Sequence[Alignment]) -> Alignment:
    def join(field: str) -> torch.Tensor | None:
        tensors = [getattr(part, field) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    saliency = join("saliency")
    assert saliency is not None
    return Alignment(
        saliency,
        [geometry for part in parts for geometry in part.geometry],
        join("local_similarity"),
        join("global_similarity"),
        join("no_attention_weight"),
    )


def _reverse(alignment: Alignment) -> Alignment:
    def turn(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.flip(0)

    return Alignment(
        alignment.saliency.flip(0),
        alignment.geometry[::-1],
        turn(alignment.local_similarity),
        turn(alignment.global_similarity),
        turn(alignment.no_attention_weight),
    )


def _material() -> tuple[list[LoadedImage], Dataset]:
    images, instances = [], []
    for number in range(len(SENTENCES)):
        pixels, regions, _ = sketch_film(np.random.default_rng(number))
        name = f"check-{number}"
        boxes = tuple(Box(region, *box) for region, box in regions.items())
        ref = ImageRef(name, Path(name), *pixels.size)
        images.append(LoadedImage(name, pixels))
        instances.append(Instance(f"{name}-0", ref, SENTENCES[number], boxes))
    return images, Dataset("check", tuple(instances))
