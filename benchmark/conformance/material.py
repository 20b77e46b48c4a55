"""Films and sentences to ask about: generated, small, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.phantom import read
from ..datasets.sketch import sketch_film
from ..instances import Box, Dataset, ImageRef, Instance
from ..protocol import LoadedImage

SENTENCES = (
    "There is consolidation in the right lower lung zone.",
    "No pneumothorax in the left lung.",
    "The cardiac silhouette is normal.",
    "Atelectasis.",
    "There is lung opacity in both upper lung zones, more in the left than in the right lung, which is new.",
)


def sketches() -> Iterator[tuple[LoadedImage, Instance]]:
    """One film of a size of its own for each of :data:`SENTENCES`, with region boxes."""
    for number, sentence in enumerate(SENTENCES):
        pixels, regions, _ = sketch_film(np.random.default_rng(number))
        name = f"check-{number}"
        boxes = tuple(Box(region, *box) for region, box in regions.items())
        ref = ImageRef(name, Path(name), *pixels.size)
        yield LoadedImage(name, pixels), Instance(f"{name}-0", ref, sentence, boxes)


FINDINGS = 24


@lru_cache(maxsize=1)
def findings() -> tuple[tuple[LoadedImage, Instance], ...]:
    """Phantom films of :data:`FINDINGS` patients, each with a sentence of its own about an abnormal finding on one side."""
    chosen: dict[str, tuple[LoadedImage, Instance]] = {}
    patients: set[str | None] = set()
    for instance in read(patients=400).instances:
        sides = {side for box in instance.boxes for side in ("left", "right") if box.name.startswith(side)}
        one_sided = len(sides) == 1 and all(box.name.startswith(tuple(sides)) for box in instance.boxes)
        new = instance.patient_id not in patients and instance.sentence not in chosen
        if instance.is_abnormal and one_sided and new:
            image = instance.image
            film = LoadedImage(image.id, image.decoded(image.read()))
            chosen[instance.sentence] = film, instance
            patients.add(instance.patient_id)
        if len(chosen) == FINDINGS:
            break
    return tuple(chosen.values())


def dataset() -> Dataset:
    """Everything above as a dataset, for models that want to see one first."""
    instances = (*(instance for _, instance in sketches()), *(instance for _, instance in findings()))
    return Dataset("check", instances)


def grainy_film(width: int, height: int) -> Image.Image:
    """A film (8-bit grey) of nothing but fine grain."""
    return Image.fromarray(np.random.default_rng(1).integers(90, 110, (height, width)).astype(np.uint8))
