"""Ceilings: models that know where the regions are, and read the sentence by rules."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from ..benchmark.anatomy import regions_named, swap_sides
from ..benchmark.geometry import Geometry
from ..benchmark.instances import Box, Dataset
from ..benchmark.protocol import LoadedImage, ModelCard
from .functions import FunctionModel, Map

GRID = 112
FINE = 4
"""A cell's value is the share of FINE × FINE points in it that lie in a box."""


def oracle() -> RegionOracle:
    """Lights the boxes of the regions that the sentence names; uniform where it names none."""
    return RegionOracle("oracle", mirrored=False)


def mirrored_oracle() -> RegionOracle:
    """The oracle's own answer with left and right exchanged: the wrong lung, always."""
    return RegionOracle("mirrored-oracle", mirrored=True)


class RegionOracle(FunctionModel):
    """Knows every region box of the dataset; sees the sentence, but neither its boxes nor the pixels."""

    def __init__(self, name: str, mirrored: bool) -> None:
        card = ModelCard(
            name=name,
            role="floor" if mirrored else "ceiling",
            saliency_method="boxes of the named regions" + (", sides exchanged" if mirrored else ""),
            map_kind="distribution",
            preprocessing="whole image, squashed",
        )
        super().__init__(card, self._map)
        self._mirrored = mirrored
        self._regions: dict[str, dict[str, list[Box]]] = {}
        self._vocabulary: dict[str, re.Pattern[str]] = {}

    def prepare(self, dataset: Dataset) -> None:
        """Learn all region boxes of the dataset's images."""
        self._regions = {}
        for instance in dataset.instances:
            known = self._regions.setdefault(instance.image_id, {})
            for box in (*dataset.regions.get(instance.image_id, ()), *instance.boxes):
                boxes = known.setdefault(box.name, [])
                if box not in boxes:
                    boxes.append(box)
        names = sorted({name for known in self._regions.values() for name in known if name})
        self._vocabulary = {name: _pattern(name) for name in names if not name.endswith(("lung", "lung zone"))}

    def _map(self, image: LoadedImage, sentence: str) -> Map:
        width, height = image.size
        boxes = self._boxes(image, sentence)
        points = GRID * FINE
        mask = Geometry.squash(width, height, points, points).mask(boxes)
        # Along the rows first, then strided: a reduction over a short inner axis is several times slower.
        rows = mask.reshape(GRID, FINE, points).sum(axis=1, dtype=np.uint8)
        lit = sum(rows[:, at::FINE] for at in range(1, FINE)) + rows[:, ::FINE].astype(np.float64)
        lit /= FINE**2
        return lit if lit.any() else np.ones((GRID, GRID))

    def _boxes(self, image: LoadedImage, sentence: str) -> Iterable[Box]:
        known = self._regions.get(image.id, {})
        named = [*regions_named(sentence), *(name for name, rule in self._vocabulary.items() if rule.search(sentence))]
        for name in named:
            if not self._mirrored:
                yield from known.get(name, ())
            elif swap_sides(name) in known:
                yield from known[swap_sides(name)]
            else:
                width = image.size[0]
                for box in known.get(name, ()):
                    yield Box(swap_sides(name), width - box.x2, box.y1, width - box.x1, box.y2)


def _pattern(name: str) -> re.Pattern[str]:
    """A region's name in a sentence, also as the plural of both sides ("costophrenic angles")."""
    bare = re.sub(r"\b(left|right)\s+", "", name)
    plural = rf"|(?<!left )(?<!right ){re.escape(bare)}s?" if bare != name else ""
    return re.compile(rf"\b(?:{re.escape(name)}{plural})\b", re.IGNORECASE)
