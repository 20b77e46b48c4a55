"""Visual Genome: phrases about regions of photographs, one box each.

Read are two of its files and the images::

    visual-genome/
      region_descriptions.json
      image_data.json              the sizes of the images; optional
      VG_100K/7.jpg
      VG_100K_2/8.jpg

The files of versions 1.0 and 1.2 differ in the names of ids; both are read. The images may be in any folder up to four levels
below the one that holds ``region_descriptions.json`` or the data root, or in a folder that the argument ``images`` names.
Those that are not there are left out, so that one of the two folders will do.

An instance is a region's phrase, ``<image id>_<region id>``. The phrases of an image are one report. Boxes have no name, and
there are no splits. A phrase that is said twice of the same box counts once. The whole set is five million phrases, which
take a minute or more and several gigabytes of memory; ``regions_per_image`` takes the first of each image only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from .coordinates import corners_of_xywh
from .jsonl import first_fault
from .locating import find_file, find_images
from .rules import Ledger, check_box, open_image, read_json

Size = tuple[int, int]

_FILE = "region_descriptions.json"
_SIZES = "image_data.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class RegionEntry(_Model):
    id: int = Field(validation_alias=AliasChoices("region_id", "id"))
    phrase: str
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None


class ImageEntry(_Model):
    id: int = Field(validation_alias=AliasChoices("image_id", "id"))
    regions: list[RegionEntry]


class SizeEntry(_Model):
    id: int = Field(validation_alias=AliasChoices("image_id", "id"))
    width: int
    height: int


def read(root: Path, *, regions_per_image: int | None = None, images: Path | None = None) -> Dataset:
    """Read the folder of ``region_descriptions.json``, one above it, or the file.

    ``regions_per_image`` reads the first regions of each image only. ``images`` is the folder of the images. ``regions`` of the
    dataset has the boxes that were read.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for files that are not of this form.
    Images that are missing or of another shape than announced, and bad boxes, are reported in the ledger.
    """
    if regions_per_image is not None and regions_per_image < 1:
        raise WronglungError(f"regions_per_image={regions_per_image}: must be at least 1")
    file = find_file(root, [_FILE], "unpack its zip file, and give the folder that holds it and the images")
    document = _parse(file)
    ledger = Ledger()
    ids = (one.get("image_id", one.get("id")) for one in document if isinstance(one, dict))
    wanted = {str(one) for one in ids if isinstance(one, int)}
    sizes = _sizes(file.parent / _SIZES, ledger)
    above = root if root.is_dir() else file.parent
    fix = "name the folder that holds VG_100K and VG_100K_2 with the argument images"
    folder, index = find_images((file.parent, above), images, wanted, fix)
    instances: dict[str, Instance] = {}
    regions: dict[str, tuple[Box, ...]] = {}
    for entry in _entries(file, document):
        image_id = str(entry.id)
        if image_id in regions:
            raise WronglungError(f"{file}: image {image_id} is listed twice")
        frame = sizes.get(entry.id)
        if frame is None and sizes:
            ledger.repair("metadata_missing", image_id, f"no size in {_SIZES}; its size is that of the file")
        image = open_image(folder, index.get(image_id, f"{image_id}.jpg"), image_id, ledger, frame=frame)
        if image is None:
            continue
        found = _instances(image, entry.regions[:regions_per_image], frame, ledger)
        instances.update((one.id, one) for one in found)
        regions[image_id] = tuple(dict.fromkeys(one.boxes[0] for one in found))
    return Dataset("visual-genome", tuple(instances.values()), tuple(ledger.entries), regions)


def _parse(file: Path) -> list[Any]:
    document = read_json(file)
    if not isinstance(document, list):
        raise WronglungError(f"{file}: must hold a list of images")
    return document


def _entries(file: Path, document: list[Any]) -> Iterator[ImageEntry]:
    """The images one at a time; each is forgotten once it is given, as the whole is large."""
    document.reverse()
    at = 0
    while document:
        try:
            yield ImageEntry.model_validate(document.pop())
        except ValidationError as error:
            raise WronglungError(f"{file}: [{at}].{first_fault(error, 'the image')}") from error
        at += 1


def _sizes(file: Path, ledger: Ledger) -> Mapping[int, Size]:
    """The announced (width, height) of each image; empty where the file is not there."""
    if not file.is_file():
        ledger.repair("metadata_missing", file.name, "no such file; sizes are those of the images")
        return {}
    try:
        entries = TypeAdapter(list[SizeEntry]).validate_python(_parse(file))
    except ValidationError as error:
        raise WronglungError(f"{file}: {first_fault(error, 'the list of images')}") from error
    return {entry.id: (entry.width, entry.height) for entry in entries}


def _instances(image: ImageRef, entries: Collection[RegionEntry], frame: Size | None, ledger: Ledger) -> list[Instance]:
    if not entries:
        ledger.drop("no_annotation", image.id, "no region")
    found: dict[tuple[str, Box], Instance] = {}
    taken: set[int] = set()
    size = image.width, image.height
    for entry in entries:
        where = f"{image.id}_{entry.id}"
        if not entry.phrase.strip():
            ledger.drop("sentence_missing", where, "an empty phrase")
            continue
        box = check_box(
            "", corners_of_xywh([entry.x, entry.y, entry.width, entry.height]), size, where, ledger, frame=frame
        )
        if box is None:
            ledger.drop("no_valid_box", where)
        elif (entry.phrase, box) in found:
            ledger.repair("duplicate_row", where, f"{entry.phrase}; said of the same box before")
        elif entry.id in taken:
            ledger.drop("id_taken", where, f"{entry.phrase}; another region has this id")
        else:
            taken.add(entry.id)
            found[entry.phrase, box] = Instance(where, image, entry.phrase, (box,), study_id=image.id)
    return list(found.values())
