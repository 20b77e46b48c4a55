"""Films and sentences of Chest ImaGenome while they are read, and the instances that they become."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

from ..errors import WronglungError
from ..instances import Box, Finding, ImageRef, Instance
from .coordinates import Corners
from .mimic_cxr import Size, film_trees, folders, neighbours
from .region_boxes import RegionBoxes
from .rules import Ledger, check_box, is_inside


@dataclass(slots=True)
class Sentence:
    """A sentence with its regions and findings, each once, in order."""

    text: str
    regions: dict[tuple[str, Corners], None] = field(default_factory=dict)
    findings: dict[Finding, None] = field(default_factory=dict)
    rows: set[tuple[object, ...]] = field(default_factory=set)
    repeated: int = 0


@dataclass(slots=True)
class Film:
    study: str
    patient: str
    sentences: dict[str, Sentence] = field(default_factory=dict)


@dataclass(slots=True)
class FilmBoxes:
    """The boxes of one film in pixels of its file; each faulty one is reported once.

    Of a film's thirty regions few are mentioned; the others are noted, not made.
    """

    image: ImageRef
    frame: Size | None
    ledger: Ledger
    checked: dict[tuple[str, Corners], Box | None] = field(default_factory=dict)
    noted: dict[tuple[str, Corners], None] = field(default_factory=dict)

    def get(self, region: str, corners: Corners) -> Box | None:
        key = region, corners
        if key in self.checked:
            return self.checked[key]
        size = (self.image.width, self.image.height)
        box = self.checked[key] = check_box(region, corners, size, self.image.id, self.ledger, frame=self.frame)
        return box

    def note(self, region: str, corners: Corners) -> None:
        """A region that is known on the film, whether a sentence mentions it or not."""
        size = (self.image.width, self.image.height)
        if corners is None or not is_inside(corners, size) or (self.frame or size) != size:
            self.get(region, corners)
        self.noted[region, corners] = None

    def into(self, regions: RegionBoxes) -> None:
        """Add all valid boxes of the film, noted ones first."""
        keys = dict.fromkeys((*self.noted, *self.checked))
        valid: dict[tuple[str, tuple[float, ...]], None] = {}
        for key in keys:
            if key not in self.checked:
                valid[cast("tuple[str, tuple[float, ...]]", key)] = None
            elif (box := self.checked[key]) is not None:
                valid[box.name, (box.x1, box.y1, box.x2, box.y2)] = None
        regions.add(self.image.id, [name for name, _ in valid], [corners for _, corners in valid])


def film_instances(
    film: Film, image: ImageRef, split: str | None, boxes: FilmBoxes, ledger: Ledger
) -> Iterator[Instance]:
    for sentence_id in sorted(film.sentences, key=_sentence_number):
        sentence = film.sentences[sentence_id]
        instance_id = f"dicom_{image.id}_sent_{sentence_id}"
        if sentence.repeated:
            ledger.repair("duplicate_row", instance_id, f"{sentence.repeated} rows given twice")
        found = (boxes.get(region, corners) for region, corners in sentence.regions)
        usable = tuple(dict.fromkeys(box for box in found if box is not None))
        if not sentence.findings and not sentence.regions:
            ledger.drop("sentence_without_annotation", instance_id)
        elif not usable:
            ledger.drop("no_valid_box", instance_id)
        else:
            yield Instance(
                instance_id, image, sentence.text, usable, tuple(sentence.findings), film.study, film.patient, split
            )


def _sentence_number(sentence_id: str) -> float:
    """The number after the "|", which orders the sentences of a report and may be fractional; others come last."""
    try:
        number = float(sentence_id.rpartition("|")[2])
    except ValueError:
        return math.inf
    return number if math.isfinite(number) else math.inf


def find_release(root: Path, content: str) -> Path:
    """The folder of Chest ImaGenome that holds ``content``, in root, or beside it where root is that of the films."""
    start = root if root.is_dir() else root.parent
    if start.name in ("gold_dataset", "silver_dataset"):
        start = start.parent
    releases = []
    beside = neighbours(start, "imagenome") if film_trees([start]) else ()
    for place in chain((start,), beside):
        for folder in folders(place):
            if (folder / "gold_dataset").is_dir() or (folder / "silver_dataset").is_dir():
                if any((folder / f"{content}{suffix}").exists() for suffix in ("", ".gz")):
                    return folder
                releases.append(folder)
    if releases:
        raise WronglungError(f"{releases[0]}: is Chest ImaGenome, but has no {content}")
    raise WronglungError(
        f"{root}: no Chest ImaGenome found; looked for a folder with gold_dataset or silver_dataset in this folder, in the "
        "folders below, and beside films in folders named like chest-imagenome; give the folder that holds chest-imagenome and "
        "mimic-cxr-jpg"
    )


def release_table(release: Path, name: str) -> Path:
    file = release / name
    return file if file.exists() else release / f"{name}.gz"
