"""COCO-style JSON with captions: a region box is an annotation, a sentence is an annotation with a ``caption``.

::

    {"images": [{"id": 1, "file_name": "scan7.png", "width": 600, "height": 560,
                 "study_id": "s7", "patient_id": "p3", "split": "test"}],
     "categories": [{"id": 1, "name": "right lung"}, {"id": 2, "name": "left lung"}],
     "annotations": [
       {"id": 10, "image_id": 1, "category_id": 1, "bbox": [60, 90, 220, 425]},
       {"id": 11, "image_id": 1, "category_id": 2, "bbox": [310, 96.5, 230, 423.5]},
       {"id": 20, "image_id": 1, "caption": "Opacities in both lungs.", "annotation_ids": [10, 11]},
       {"id": 21, "image_id": 1, "caption": "A nodule.", "category_id": 2, "bbox": [400, 200, 30, 30]}]}

- A caption speaks of the boxes that its ``annotation_ids`` name, and of its own ``bbox`` if it has one.
- ``bbox`` is x, y, width, height in pixels of the frame that ``width`` and ``height`` of the image announce. An image file of
  another size but the same shape is a shrunk copy: boxes are scaled to it. Both may be left out.
- ``segmentation`` (polygons or run lengths in the image's frame) is the region's mask, and then the target; ``bbox`` may then
  be left out.
- The category's name, in lower case, names the box; without a category the name is "".
- ``findings`` ([{"label", "context", "region"}]) on a caption, and ``study_id``, ``patient_id`` and ``split`` on an image, are
  additions to COCO and optional. Other keys are ignored, as COCO files carry many.
- ``file_name`` is relative to the folder's ``images`` folder, or to the folder itself where there is none. The annotations
  are the one ``.json`` file of the folder, or of its ``annotations`` folder; a file given by itself stands in one of both.

Boxes without a caption are the known regions of an image, together with those of the captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import WronglungError
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from ..masks import Mask, from_segmentation
from .coordinates import corners_of_xywh
from .jsonl import FindingLine, first_fault
from .rules import Ledger, check_box, image_ids, mask_box, open_image, read_json


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ImageEntry(_Model):
    id: int | str
    file_name: str = Field(min_length=1)
    width: int | None = None
    height: int | None = None
    study_id: str | None = None
    patient_id: str | None = None
    split: str | None = None


class CategoryEntry(_Model):
    id: int | str
    name: str


class AnnotationEntry(_Model):
    id: int | str
    image_id: int | str
    category_id: int | str | None = None
    bbox: list[float | None] | None = None
    segmentation: Any = None
    caption: str | None = None
    annotation_ids: list[int | str] = []
    findings: list[FindingLine] = []

    @property
    def is_placed(self) -> bool:
        """Whether it says where it is on the image."""
        return self.bbox is not None or bool(self.segmentation)


class Document(_Model):
    """The parts of a COCO file that are read."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry] = []


@dataclass(frozen=True, slots=True)
class _Located:
    """An image of the file, where it is on disk, and the frame of its boxes."""

    entry: ImageEntry
    image: ImageRef
    frame: tuple[int, int] | None


def read(path: Path) -> Dataset:
    """Read a COCO-style ``.json`` file with captions, or its folder; the file's name names the dataset.

    An instance's id is ``<image id>_caption_<annotation id>``. Raises :class:`WronglungError` for a file that is not of
    this form, an id that occurs twice, a reference to an id that does not exist, and a file without a caption. A missing
    or unreadable image, a bad box, and a caption that is tied to no box are reported in the ledger instead.
    """
    file, root = _locate(path)
    document = parse_document(file)
    if not any(one.caption is not None for one in document.annotations):
        raise WronglungError(f'{file}: no annotation has a "caption"; sentences are annotations with that key')
    ledger = Ledger()
    images = _images(document.images, root, ledger)
    names = {category.id: category.name.lower() for category in document.categories}
    boxes = _boxes(document, images, names, ledger)
    regions: dict[str, dict[Box, None]] = {one.image.id: {} for one in images.values()}
    instances = []
    for entry in document.annotations:
        located = images.get(entry.image_id)
        if located is None:
            continue
        own = boxes.get(entry.id)
        if own is not None and own.name:
            regions[located.image.id][own] = None
        if entry.caption is not None and (one := _instance(entry, entry.caption, located, boxes, ledger)) is not None:
            instances.append(one)
    return Dataset(
        file.stem,
        _in_file_order(instances, images),
        tuple(ledger.entries),
        {one: tuple(two) for one, two in regions.items()},
    )


def _instance(
    entry: AnnotationEntry, caption: str, located: _Located, boxes: dict[int | str, Box], ledger: Ledger
) -> Instance | None:
    where = f"{located.image.id}_caption_{entry.id}"
    linked = [*entry.annotation_ids, *([entry.id] if entry.is_placed else [])]
    if not linked:
        ledger.drop("sentence_without_annotation", where)
        return None
    valid = [box for one in linked if (box := boxes.get(one)) is not None]
    unique = tuple(dict.fromkeys(valid))
    if len(unique) < len(valid):
        ledger.repair("duplicate_row", where, f"{len(valid) - len(unique)} boxes given twice")
    if not unique:
        ledger.drop("no_valid_box", where)
        return None
    findings = tuple(dict.fromkeys(Finding(one.label, one.context, one.region) for one in entry.findings))
    image = located.entry
    return Instance(where, located.image, caption, unique, findings, image.study_id, image.patient_id, image.split)


_Content = TypeVar("_Content", bound=BaseModel)


def read_model(file: Path, model: type[_Content]) -> _Content:
    """A JSON file as a pydantic model; raises :class:`WronglungError` naming the file and the first fault in it."""
    content = read_json(file)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise WronglungError(f"{file}: {first_fault(error, 'the document')}") from error


def parse_document(file: Path) -> Document:
    """The parts of a COCO file, with ids that are unique and references that exist."""
    document = read_model(file, Document)
    lists: list[tuple[str, Sequence[ImageEntry | CategoryEntry | AnnotationEntry]]] = [
        ("images", document.images),
        ("categories", document.categories),
        ("annotations", document.annotations),
    ]
    for key, entries in lists:
        _check_unique(f"{file}: {key}", "id", [str(entry.id) for entry in entries])
    _check_unique(f"{file}: images", "file_name", [entry.file_name for entry in document.images])
    images = {entry.id for entry in document.images}
    categories = {entry.id for entry in document.categories}
    owners = {entry.id: entry.image_id for entry in document.annotations}
    for at, entry in enumerate(document.annotations):
        place = f"{file}: annotations[{at}]"
        if entry.image_id not in images:
            raise WronglungError(f"{place}.image_id: there is no image {entry.image_id!r}")
        if entry.category_id is not None and entry.category_id not in categories:
            raise WronglungError(f"{place}.category_id: there is no category {entry.category_id!r}")
        for one in entry.annotation_ids:
            if owners.get(one) != entry.image_id:
                raise WronglungError(f"{place}.annotation_ids: there is no annotation {one!r} on this image")
    return document


def _check_unique(place: str, key: str, values: list[str]) -> None:
    seen: dict[str, int] = {}
    for at, value in enumerate(values):
        if seen.setdefault(value, at) != at:
            raise WronglungError(f"{place}[{at}].{key}: {value!r} is that of entry [{seen[value]}] too")


def _locate(path: Path) -> tuple[Path, Path]:
    """The annotation file and the data root."""
    if not path.is_dir():
        return path, path.parent.parent if path.parent.name == "annotations" else path.parent
    for folder in (path, path / "annotations"):
        found = sorted(folder.glob("*.json"))
        if len(found) == 1:
            return found[0], path
        if found:
            raise WronglungError(f"{folder} holds {len(found)} .json files; give the file itself")
    raise WronglungError(f"{path}: no .json file here or in annotations/; give the COCO file itself")


def _images(entries: list[ImageEntry], root: Path, ledger: Ledger) -> dict[int | str, _Located]:
    ids = image_ids(entry.file_name for entry in entries)
    folder = "images" if (root / "images").is_dir() else "."
    located = {}
    for entry in entries:
        announced = (entry.width, entry.height)
        frame = None if announced[0] is None or announced[1] is None else (announced[0], announced[1])
        image = open_image(root, entry.file_name, ids[entry.file_name], ledger, folder=folder, frame=frame)
        if image is not None:
            located[entry.id] = _Located(entry, image, frame)
    return located


def _boxes(
    document: Document, images: dict[int | str, _Located], names: dict[int | str, str], ledger: Ledger
) -> dict[int | str, Box]:
    boxes = {}
    for entry in document.annotations:
        located = images.get(entry.image_id)
        if located is None or (entry.caption is not None and not entry.is_placed):
            continue
        name = "" if entry.category_id is None else names[entry.category_id]
        size = (located.image.width, located.image.height)
        where = f"annotation {entry.id}"
        mask = _mask(entry, located.frame or size, f"{where}: {name}", ledger)
        if mask is not None and entry.bbox is None:
            box = mask_box(name, mask, size, where, ledger)
        else:
            box = check_box(name, corners_of_xywh(entry.bbox), size, where, ledger, frame=located.frame, mask=mask)
            if box is None and mask is not None:
                box = mask_box(name, mask, size, where, ledger)
        if box is not None:
            boxes[entry.id] = box
    return boxes


def _mask(entry: AnnotationEntry, frame: tuple[int, int], where: str, ledger: Ledger) -> Mask | None:
    if not entry.segmentation:
        return None
    try:
        return from_segmentation(entry.segmentation, *frame)
    except ValueError as error:
        ledger.drop("mask_unreadable", where, str(error))
        return None


def _in_file_order(instances: list[Instance], images: dict[int | str, _Located]) -> tuple[Instance, ...]:
    """Images in file order, and the captions of one image in the order of the annotations."""
    order = {one.image.id: at for at, one in enumerate(images.values())}
    return tuple(sorted(instances, key=lambda instance: order[instance.image_id]))
