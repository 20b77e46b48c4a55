"""Does an adapter keep the protocol? Asked on generated images of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from .datasets.sketch import sketch_film
from .errors import WronglungError
from .instances import Box, Dataset, ImageRef, Instance
from .protocol import Alignment, AlignmentModel, DatasetAware, DualEncoder, LoadedImage, check_alignment

OFF = 0.1
"""How far from where the geometry says, as a share of the frame, a moving patch may be seen on average."""

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


Ask = Callable[[Sequence[LoadedImage], Sequence[str]], Alignment]
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

    def geometry(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
        return _probe_geometry(ask, sentences[0])

    yield "shapes, finite values", shapes
    yield "geometry against a moving patch", geometry
    yield "mass", mass
    yield "deterministic", deterministic
    yield "batch invariance", batch_invariant
    yield "order invariance", order_invariant
    if isinstance(model, AlignmentModel) and isinstance(model, DualEncoder):

        def same_paths(images: Sequence[LoadedImage], sentences: Sequence[str]) -> tuple[bool, str]:
            paired = model.align(images, sentences)
            return _close(paired, ask(images, sentences), TOLERANCE, "by align and by features")

        yield "paired path equals dual path", same_paths


def _probe_geometry(ask: Ask, sentence: str) -> tuple[bool, str]:
    """Put a patch on long and on wide films, and see whether the map changes where the geometry says that it lies.

    Only the place along the film's long side counts, where a crop and a resize are far apart; along the short side a
    padded film has too few cells to tell. A map that the pixels do not change shows nothing.
    """
    worst = 0.0
    places = [(x, y) for x in (0.3, 0.5, 0.7) for y in (0.3, 0.5, 0.7)]
    for width, height in ((160, 320), (320, 160)):
        films = [_film(width, height, None), *(_film(width, height, place) for place in places)]
        images = [LoadedImage("probe", film) for film in films]
        alignment = ask(images, [sentence] * len(images))
        maps, where = alignment.saliency.cpu().double(), alignment.geometry[0]
        if not bool((maps[1:] != maps[0]).any()):
            return True, "not shown: the map does not depend on the pixels"
        off = []
        for (x, y), changed in zip(places, (maps[1:] - maps[0]).abs(), strict=True):
            seen_x, seen_y = _centre_of_change(changed)
            if width > height:
                off.append(abs(seen_x - (x * width * where.scale_x + where.offset_x) / where.frame_width))
            else:
                off.append(abs(seen_y - (y * height * where.scale_y + where.offset_y) / where.frame_height))
        worst = max(worst, float(np.mean(off)))
    seen = f"a patch is seen {worst:.2f} of the frame from where the geometry says, on average"
    return worst <= OFF, seen if worst <= OFF else f"{seen}; state crop, padding and scale as they are"


def _centre_of_change(changed: torch.Tensor) -> tuple[float, float]:
    """The centre (x, y), in shares of the map, of the twentieth of the cells that changed most."""
    rows, columns = changed.shape
    most = torch.where(changed >= torch.quantile(changed.flatten(), 0.95), changed - changed.median(), 0.0)
    total = most.sum().clamp_min(1e-30)
    x = (most.sum(0) * (torch.arange(columns) + 0.5)).sum() / columns / total
    y = (most.sum(1) * (torch.arange(rows) + 0.5)).sum() / rows / total
    return float(x), float(y)


def _film(width: int, height: int, patch: tuple[float, float] | None) -> Image.Image:
    """A grainy grey film, with a coarse black and white patch centred at a relative place."""
    levels = np.random.default_rng(1).integers(90, 110, (height, width)).astype(np.uint8)
    if patch is not None:
        size = min(width, height) // 5
        left, top = (round(share * side - size / 2) for share, side in zip(patch, (width, height), strict=True))
        levels[top : top + size, left : left + size] = np.random.default_rng(2).integers(0, 2, (size, size)) * 255
    return Image.fromarray(levels)


def _paired(model: Any) -> Ask:
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
