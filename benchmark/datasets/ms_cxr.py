"""MS-CXR: phrases of radiology reports with the boxes that radiologists drew for them, on films of MIMIC-CXR.

Read are the published trees, in one folder or side by side under their usual names::

    ms-cxr/1.1.0/                                   the folder may have any name
      MS_CXR_Local_Alignment_v1.1.0.csv             one row a box: dicom_id, category_name, label_text, path, x, y, w, h, ...
      MS_CXR_Local_Alignment_v1.1.0.json            the same in the form of COCO; read where there is no CSV file
    mimic-cxr-jpg/2.1.0/files/p10/p10000001/s50000001/<image id>.jpg      or MIMIC-CXR, see :mod:`.mimic_cxr`

Of several versions the newest is read, and the CSV file before the JSON file of the same version. The root may also be the
file itself.

An instance is a phrase of a film with all its boxes, ``<image id>_phrase_<n>``, n counted from 0 over the film's phrases. Its
findings are the categories of its rows (such as "pleural effusion"); no regions are named. Boxes are given in pixels of the
original film, whose size the table says, and are scaled to the file where that was shrunk as a whole.

``split`` (train, val, test) is MS-CXR's own, from version 1.1.0 on. **It is not the split of MIMIC-CXR**: a film of its test
set may be one that an encoder was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..errors import WronglungError
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from .coco import read_model
from .coordinates import Corners, corners_of_xywh, to_number
from .mimic_cxr import Size, film_trees, find_films, folders, neighbours, size_in_table
from .rules import Ledger, bare_id, check_box
from .tables import read_table

_NAME = re.compile(r"MS_CXR_Local_Alignment_v([0-9]+(?:\.[0-9]+)*)\.(csv|csv\.gz|json)", re.IGNORECASE)
_FORMS = ("json", "csv.gz", "csv")  # the last is the first choice
_PATH = re.compile(r"files/p([0-9]{2})/p(\1[0-9]{6})/s([0-9]{8})/([^/\\\0]+)\.jpg")


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ImageEntry(_Model):
    id: int | str
    file_name: str
    path: str
    width: int | None = None
    height: int | None = None


class CategoryEntry(_Model):
    id: int | str
    name: str


class AnnotationEntry(_Model):
    """A box of a phrase. The released ``width`` and ``height`` of an annotation are the image's, and not read."""

    image_id: int | str
    category_id: int | str | None = None
    bbox: list[float | None] | None = None
    label_text: str | None = None
    split: str | None = None


class Document(_Model):
    """The parts of the JSON file that are read."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table, or an annotation of the JSON file; ``corners`` are x1, y1, x2, y2 in pixels of ``frame``."""

    where: str
    image_id: str
    path: str
    text: str
    category: str
    corners: Corners
    frame: Size | None
    split: str | None


@dataclass(slots=True)
class _Film:
    path: str
    study: str
    patient: str
    frame: Size | None = None
    phrases: dict[str, dict[tuple[str, Corners], _Row]] = field(default_factory=dict)


def read(root: Path, *, images: Path | None = None) -> Dataset:
    """Read MS-CXR. ``root`` holds it and the films, or is one of both and the other lies beside it, or is the file.

    ``images`` is a film tree elsewhere, for example of shrunk copies. Films are in order of their first row, and so are
    the phrases of a film and the boxes of a phrase. :attr:`Dataset.regions` has all boxes of a film.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a damaged file. Left out,
    with a reason in the ledger, are rows whose path is not that of a film (``path_malformed``) or that have no text,
    broken boxes, and films that are missing or unreadable.
    """
    ledger = Ledger()
    file = _find(root)
    rows = _json_rows(file, ledger) if file.suffix.lower() == ".json" else _table_rows(file)
    films = _films(rows, ledger)
    tree = find_films(root if root.is_dir() else file.parent, images, file.parent)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for image_id, film in films.items():
        if film.frame is None:
            ledger.repair("metadata_missing", image_id, f"no size in {file.name}; its size is that of the file")
        image = tree.open(image_id, film.study, film.patient, film.frame, ledger)
        if image is None:
            continue
        own = list(_instances(film, image, ledger))
        instances += own
        regions[image_id] = tuple(dict.fromkeys(box for instance in own for box in instance.boxes))
    return Dataset("ms-cxr", tuple(instances), tuple(ledger.entries), regions)


def _find(root: Path) -> Path:
    """The newest file of the release in root, beside it where it is that of the films, or root itself where it is a file."""
    if root.is_file():
        return root
    for place in chain((root,), neighbours(root, "ms-cxr") if film_trees([root]) else ()):
        found = [file for folder in folders(place) for file in sorted(folder.glob("MS_CXR_Local_Alignment_v*"))]
        matches = [(match, file) for file in found if (match := _NAME.fullmatch(file.name)) is not None]
        if matches:
            return max(matches, key=lambda one: _rank(one[0]))[1]
    raise WronglungError(
        f"{root}: no MS-CXR found; looked for MS_CXR_Local_Alignment_v*.csv or .json in this folder, in the folders below, and "
        "beside films in folders named like ms-cxr; give the folder that holds ms-cxr and mimic-cxr-jpg, or the file itself"
    )


def _rank(match: re.Match[str]) -> tuple[tuple[int, ...], int]:
    return tuple(int(part[:9]) for part in match[1].split(".")), _FORMS.index(match[2].lower())


def _table_rows(file: Path) -> Iterator[_Row]:
    columns = ("category_name", "label_text", "path", "image_width", "image_height", "x", "y", "w", "h")
    for line, cells in read_table(file, ("dicom_id", *columns), optional=("split",)):
        dicom_id, category, text, path, width, height, *numbers, split = cells
        where = f"{file.name}:{line}"
        box = tuple(map(to_number, numbers))
        yield _Row(
            where,
            bare_id(dicom_id),
            path,
            text,
            category,
            _corners(box),
            size_in_table(width, height),
            split.strip() or None,
        )


def _json_rows(file: Path, ledger: Ledger) -> Iterator[_Row]:
    document = read_model(file, Document)
    images: dict[int | str, ImageEntry] = {}
    for at, image in enumerate(document.images):
        if image.id in images:
            raise WronglungError(f"{file}: images[{at}].id: {image.id!r} occurs twice")
        images[image.id] = image
    names = {category.id: category.name for category in document.categories}
    annotated = {annotation.image_id for annotation in document.annotations}
    for image in document.images:
        if image.id not in annotated:
            ledger.drop("no_annotation", bare_id(image.file_name))
    for at, annotation in enumerate(document.annotations):
        where = f"{file.name}: annotations[{at}]"
        listed = images.get(annotation.image_id)
        if listed is None:
            ledger.drop("image_missing", where, f"no image {annotation.image_id!r} is listed")
            continue
        yield _Row(
            where,
            bare_id(listed.file_name),
            listed.path,
            annotation.label_text or "",
            "" if annotation.category_id is None else names.get(annotation.category_id, ""),
            _corners(annotation.bbox),
            size_in_table(str(listed.width), str(listed.height)),
            annotation.split or None,
        )


def _corners(box: Corners | list[float | None]) -> Corners:
    edges = corners_of_xywh(None if box is None else list(box))
    return None if edges is None else tuple(edges)


def _films(rows: Iterator[_Row], ledger: Ledger) -> dict[str, _Film]:
    """The rows by film and phrase, equal ones once; those that belong to none go to the ledger."""
    films: dict[str, _Film] = {}
    for row in rows:
        match = _PATH.fullmatch(row.path)
        if match is None or match[4] != row.image_id:
            form = f"files/pNN/pNNNNNNNN/sNNNNNNNN/{row.image_id}.jpg"
            ledger.drop("path_malformed", row.where, f"{row.path}: not {form}")
            continue
        if not row.text.strip():
            ledger.drop("sentence_missing", row.where, "label_text is empty")
            continue
        film = films.setdefault(row.image_id, _Film(row.path, match[3], match[2]))
        if film.path != row.path:
            ledger.drop("row_contradicts", row.where, f"{row.path}: the film is {film.path} in an earlier row")
            continue
        if film.frame is None:
            film.frame = row.frame
        elif row.frame is not None and row.frame != film.frame:
            (width, height), (first_width, first_height) = row.frame, film.frame
            detail = f"film of {width} × {height} pixels, in an earlier row {first_width} × {first_height}"
            ledger.drop("row_contradicts", row.where, detail)
            continue
        phrase = film.phrases.setdefault(row.text, {})
        if phrase.setdefault((row.category, row.corners), row) is not row:
            ledger.repair("duplicate_row", row.where, f"as {phrase[row.category, row.corners].where}")
    return films


def _instances(film: _Film, image: ImageRef, ledger: Ledger) -> Iterator[Instance]:
    size = (image.width, image.height)
    for number, (text, phrase) in enumerate(film.phrases.items()):
        instance_id = f"{image.id}_phrase_{number}"
        findings: dict[Finding, None] = {}
        boxes: dict[Box, None] = {}
        for row in phrase.values():
            name = row.category.strip().lower()
            if name:
                findings[Finding(name, "yes", "")] = None
            else:
                ledger.repair("category_missing", row.where, "the box is kept without a name")
            box = check_box(name, row.corners, size, row.where, ledger, frame=film.frame)
            if box is not None and box in boxes:
                ledger.repair("duplicate_row", row.where, f"{name}: the same box after repair")
            elif box is not None:
                boxes[box] = None
        if not boxes:
            ledger.drop("no_valid_box", instance_id)
            continue
        split = next((row.split for row in phrase.values() if row.split is not None), None)
        yield Instance(instance_id, image, text, tuple(boxes), tuple(findings), film.study, film.patient, split)
