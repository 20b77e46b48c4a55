"""Public chest films with radiologists' lung boxes and free-text notes (COVID-19 chest X-ray lung bounding boxes).

Read are the boxes' own layout and copies of it with shrunk images::

    images/*.{jpg,jpeg,png}
    annotations/annotations.json     COCO; categories "Right Lung" and "Left Lung" (the patient's sides)
    metadata.csv                     one row an image: filename, patientid, view, clinical_notes, ...

The notes are also taken from ``images[].metadata`` of the annotations where they stand there.

**The pairs of sentence and box are derived.** The collection ties no sentence to a box. A sentence of the notes becomes an
instance when it names a region of the lungs, by the rules of :mod:`..anatomy`; its boxes are those of the regions: a
lung's box, or for a zone (upper, mid, lower) the matching third of the lung's box, from top to bottom. Findings are read
from the sentence too, and hold for a zone and its lung, as in Chest ImaGenome. Notes may speak of history, of an
examination of the patient or of a CT scan; sentences about those are not told apart.

One film is one study. There are no splits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..anatomy import REGIONS, findings_named, parent_lung, regions_named
from ..errors import WronglungError
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from .coco import read_model
from .coordinates import corners_of_xywh
from .prose import split_sentences
from .rules import Ledger, check_box, image_ids, open_image, read_text

_LUNGS = ("right lung", "left lung")
_ZONES = ("upper lung zone", "mid lung zone", "lower lung zone")
_BOXED = frozenset((*_LUNGS, *(f"{side} {zone}" for side in ("right", "left") for zone in _ZONES)))


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ImageEntry(_Model):
    id: int
    file_name: str
    width: int
    height: int
    original_file_name: str | None = None
    metadata: dict[str, Any] | None = None


class CategoryEntry(_Model):
    id: int
    name: str


class AnnotationEntry(_Model):
    id: int | None = None
    image_id: int
    category_id: int | None = None
    bbox: list[float | None] | None = None


class Document(_Model):
    """The parts of the annotation file that are read."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]


@dataclass(frozen=True, slots=True)
class _Film:
    image: ImageRef
    patient: str | None
    notes: str
    boxes: Mapping[str, Box]


def read(root: Path) -> Dataset:
    """Read the folder that holds ``images/``, ``annotations/annotations.json`` and ``metadata.csv``.

    Instances are in file order of the images, then in order of the sentences; their ids are ``<image id>_sent_<n>``
    with n counted over all sentences of the note. :attr:`Dataset.regions` has both lungs and their six zones.

    Raises :class:`WronglungError` when a file is missing or is not of this form. Left out, with a reason in the ledger,
    are images that are missing or unreadable, lateral films, images without boxes or notes, broken boxes, and sentences
    that name no region of the lungs.
    """
    document = _parse(_locate(root))
    ledger = Ledger()
    rows = _rows(root / "metadata.csv", document, ledger)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for film in _films(root, document, rows, ledger):
        regions[film.image.id] = tuple(film.boxes.values())
        instances += _instances(film, ledger)
    return Dataset("covid-lungs", tuple(instances), tuple(ledger.entries), regions)


def _locate(root: Path) -> Path:
    """The annotation file."""
    lacking = [name for name in ("annotations/annotations.json", "images") if not (root / name).exists()]
    if lacking:
        raise WronglungError(
            f"{root}: no {' and no '.join(lacking)}; expected is the folder of the lung boxes dataset, which holds "
            "images/, annotations/annotations.json and metadata.csv"
        )
    return root / "annotations" / "annotations.json"


def _parse(file: Path) -> Document:
    document = read_model(file, Document)
    seen: set[int] = set()
    for at, entry in enumerate(document.images):
        if entry.id in seen:
            raise WronglungError(f"{file}: images[{at}].id: {entry.id} occurs twice")
        seen.add(entry.id)
    return document


def _rows(file: Path, document: Document, ledger: Ledger) -> dict[str, Mapping[str, str]]:
    """The rows of the table of images by file name; empty without a table when the annotations hold the notes."""
    if not file.is_file():
        if any(entry.metadata for entry in document.images):
            return {}
        raise WronglungError(f"{file} does not exist, and the annotations hold no metadata; the notes come from there")
    rows: dict[str, Mapping[str, str]] = {}
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    try:
        lacking = {"filename", "clinical_notes"} - set(reader.fieldnames or ())
        if lacking:
            raise WronglungError(f"{file}: no column {' and no column '.join(sorted(lacking))} in the first row")
        for row in reader:
            name = row["filename"] or ""
            if name in rows:
                ledger.repair("duplicate_row", f"{file.name}:{reader.line_num}", f"{name}; its first row counts")
            else:
                rows[name] = {key: value for key, value in row.items() if isinstance(value, str)}
    except csv.Error as error:
        raise WronglungError(f"{file}:{reader.line_num}: not a CSV table ({error})") from error
    return rows


def _films(root: Path, document: Document, rows: Mapping[str, Mapping[str, str]], ledger: Ledger) -> list[_Film]:
    ids = image_ids(entry.file_name for entry in document.images)
    names = {category.id: category.name.lower() for category in document.categories}
    drawn: dict[int, list[AnnotationEntry]] = {entry.id: [] for entry in document.images}
    for at, annotation in enumerate(document.annotations):
        if annotation.image_id in drawn:
            drawn[annotation.image_id].append(annotation)
        else:
            ledger.drop("image_missing", f"annotations[{at}]", f"no image {annotation.image_id} is listed")
    films = []
    for entry in document.images:
        image_id, frame = ids[entry.file_name], (entry.width, entry.height)
        facts = entry.metadata or rows.get(entry.file_name) or rows.get(entry.original_file_name or "")
        if facts is None:
            ledger.drop("metadata_missing", image_id)
            continue
        if str(facts.get("view", "")).strip() == "L":
            ledger.drop("view_not_frontal", image_id)
            continue
        image = open_image(root, entry.file_name, image_id, ledger, folder="images", frame=frame)
        if image is None:
            continue
        lungs = _lungs(drawn[entry.id], names, image, frame, ledger)
        if not lungs:
            ledger.drop("no_annotation", image_id, "no lung box")
            continue
        films.append(
            _Film(image, _text(facts, "patientid") or None, _text(facts, "clinical_notes"), _with_zones(lungs))
        )
    return films


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    return "" if value is None else str(value).strip()


def _lungs(
    annotations: list[AnnotationEntry],
    names: Mapping[int, str],
    image: ImageRef,
    frame: tuple[int, int],
    ledger: Ledger,
) -> dict[str, Box]:
    lungs: dict[str, Box] = {}
    for annotation in annotations:
        name = "" if annotation.category_id is None else names.get(annotation.category_id, "")
        where = image.id if annotation.id is None else f"{image.id}, annotation {annotation.id}"
        if name not in _LUNGS:
            ledger.drop("category_missing", where, f"category_id is {annotation.category_id}")
            continue
        box = check_box(name, corners_of_xywh(annotation.bbox), (image.width, image.height), where, ledger, frame=frame)
        if box is None:
            continue
        if name in lungs:
            ledger.repair("duplicate_row", where, f"a second box of the {name}; the first one counts")
            continue
        lungs[name] = box
    return lungs


def _with_zones(lungs: Mapping[str, Box]) -> dict[str, Box]:
    """The lungs and their zones: the upper, middle and lower third of a lung's box."""
    boxes = dict(lungs)
    for name, lung in lungs.items():
        side = name.removesuffix(" lung")
        height = lung.y2 - lung.y1
        edges = [lung.y1, lung.y1 + height / 3, lung.y1 + height * 2 / 3, lung.y2]
        for zone, top, bottom in zip(_ZONES, edges, edges[1:], strict=False):
            boxes[f"{side} {zone}"] = Box(f"{side} {zone}", lung.x1, top, lung.x2, bottom)
    return {name: boxes[name] for name in REGIONS if name in boxes}


def _instances(film: _Film, ledger: Ledger) -> list[Instance]:
    sentences = split_sentences(film.notes)
    if not sentences:
        ledger.drop("no_annotation", film.image.id, "no clinical notes")
    instances = []
    for at, sentence in enumerate(sentences):
        where = f"{film.image.id}_sent_{at}"
        named = dict.fromkeys(map(_zone, regions_named(sentence)))
        regions = [region for region in named if region in _BOXED]
        unboxed = [region for region in regions if region not in film.boxes]
        if not regions:
            ledger.drop("sentence_without_region", where, sentence)
        elif sentence in sentences[:at]:
            ledger.repair("duplicate_row", where, sentence)
        elif unboxed:
            # Half of the boxes would say that the other half of the regions is not meant.
            ledger.drop("region_without_box", where, ", ".join(unboxed))
        else:
            boxes = tuple(film.boxes[region] for region in regions)
            findings = (Finding(one.label, one.context, _zone(one.region)) for one in findings_named(sentence))
            boxed = tuple(dict.fromkeys(finding for finding in findings if finding.region in _BOXED))
            parents = tuple(dict.fromkeys(parent for region in regions if (parent := parent_lung(region)) is not None))
            instances.append(
                Instance(
                    where,
                    film.image,
                    sentence,
                    boxes,
                    boxed,
                    study_id=film.image.id,
                    patient_id=film.patient,
                    parent_regions=parents,
                )
            )
    return instances


def _zone(region: str) -> str:
    """The apical zone has no box of its own; it lies in the upper zone."""
    return region.replace("apical zone", "upper lung zone")
