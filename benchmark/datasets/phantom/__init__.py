"""Phantom: procedural chest films with reports, annotated as Chest ImaGenome is; no licence, credentials or download.

Films, reports and boxes are byte-identical on every machine for the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...anatomy import region_rank
from ...errors import WronglungError
from ...instances import Box, Dataset, ImageRef, Instance
from .film import lesion_mask, render_films
from .regions import region_boxes
from .report import write_report
from .scene import Scene, patient_scenes

__all__ = ["PhantomImage", "Scene", "lesion_mask", "patient_scenes", "pixels", "read", "render_films", "write_report"]

Split = Literal["train", "valid", "test", "all"]

_SPLITS = ("train", "valid", "test", "all")
_SIZES = (32, 1024)
_MOST_PATIENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class PhantomImage(ImageRef):
    """A film that is rendered when it is asked for. ``path`` names it in messages; no such file exists."""

    scene: Scene = field(repr=False)

    def read(self) -> bytes:
        """The film's grey levels, row by row."""
        levels: bytes = render_films([self.scene], self.width)[0].tobytes()
        return levels

    def decoded(self, data: bytes, *, at_least: int | None = None) -> Image.Image:
        """The film of its grey levels, in mode "L"."""
        return Image.frombytes("L", (self.width, self.height), data)


def pixels(images: Sequence[PhantomImage]) -> npt.NDArray[np.uint8]:
    """The films of a dataset's images, all of one size, uint8 [images, height, width]: many at once is fast.

    Raises ``ValueError`` when the sizes differ or there is no image.
    """
    sizes = {image.width for image in images}
    if len(sizes) != 1:
        raise ValueError(f"films must be of one size, got {sorted(sizes)}")
    return render_films([image.scene for image in images], sizes.pop())


def read(
    root: Path | None = None, *, size: int = 64, patients: int = 2000, seed: int = 0, split: Split = "test"
) -> Dataset:
    """Generate the dataset: films of ``size`` × ``size`` pixels of the patients 0 to ``patients`` - 1 in a split.

    ``root`` is ignored. 70 % of the patients are in "train", 10 % in "valid", 20 % in "test"; a patient is the same,
    and in the same split, whatever ``patients`` is. ``regions`` of the dataset has the boxes of the 29 main regions.
    Raises :class:`WronglungError` for arguments out of range.
    """
    _check(size, patients, seed, split)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for number in range(patients):
        for scene in patient_scenes(seed, number, split):
            image = PhantomImage(scene.image_id, Path(f"phantom/{scene.image_id}.png"), size, size, scene)
            boxes = region_boxes(scene, size)
            regions[scene.image_id] = boxes
            instances.extend(_instances(image, {box.name: box for box in boxes}))
    return Dataset("phantom" if size == 64 else f"phantom:{size}", tuple(instances), regions=regions)


def _instances(image: PhantomImage, boxes: dict[str, Box]) -> Iterator[Instance]:
    scene = image.scene
    for sentence in write_report(scene):
        # In the order in which the Chest ImaGenome readers give them, so that a written copy reads back the same.
        findings = tuple(sorted(sentence.findings, key=lambda finding: region_rank(finding.region)))
        yield Instance(
            id=f"dicom_{image.id}_sent_{scene.study_id}|{sentence.ordinal}",
            image=image,
            sentence=sentence.text,
            boxes=tuple(boxes[name] for name in dict.fromkeys(one.region for one in findings)),
            findings=findings,
            study_id=scene.study_id,
            patient_id=scene.patient_id,
            split=scene.split,
        )


def _check(size: int, patients: int, seed: int, split: str) -> None:
    for name, value, low, high in (
        ("size", size, *_SIZES),
        ("patients", patients, 1, _MOST_PATIENTS),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WronglungError(f"phantom: {name} must be a whole number from {low} to {high}, got {value!r}")
    if split not in _SPLITS:
        raise WronglungError(f"phantom: split must be one of {', '.join(_SPLITS)}, got {split!r}")
