"""Flickr30k Entities: phrases of captions of photographs, with boxes.

Read are the annotations, the lists of the splits, and the images, which are given out on request by themselves::

    flickr30k_entities/
      Annotations/<image id>.xml        boxes
      Sentences/<image id>.txt          five captions, their phrases marked
      train.txt  val.txt  test.txt      one image id a line
      flickr30k-images/<image id>.jpg   or flickr30k_images/, here or beside this folder

``annotations.zip`` of the release must be unpacked. The images may be in any folder, which the argument ``images`` then names.

An instance is a phrase that has boxes, ``<image id>_<caption>_<phrase>``, both numbers counted from 0 over all that are there.
Its sentence is the phrase, or the whole caption with ``text=sentence``. The captions of an image are one report. A box has
the name of the phrase's first type: people, clothing, bodyparts, animals, vehicles, instruments, scene or other. Phrases
without a box (scenes, and what is not visible) are left out and counted in the ledger, once an image.

Corners are 1-based and include the last pixel; they are turned into edges, so that a box from 1 to 10 goes from 0 to 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from .coordinates import to_number
from .locating import find_images
from .mimic_cxr import folders
from .rules import Ledger, bare_id, below, check_box, open_image, read_text

Split = Literal["train", "val", "test"]
Size = tuple[int, int]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_IMAGE_FOLDERS = ("flickr30k-images", "flickr30k_images")
_PHRASE = re.compile(r"\[/EN#([0-9]+)((?:/[^\s/\]]+)+) ([^\[\]]*)\]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MAX_FILE = 1 << 18  # bytes; the files of an image have a few thousand


@dataclass(frozen=True, slots=True)
class _Phrase:
    chain: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of an annotation file: the chains that it belongs to, and its box in edges."""

    chains: tuple[str, ...]
    corners: tuple[float | None, ...]


def read(
    root: Path,
    *,
    text: Literal["phrase", "sentence"] = "phrase",
    split: Split | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read the folder that holds ``Annotations`` and ``Sentences``, or one above it.

    ``text`` chooses what an instance's sentence is, the phrase alone or the caption that it stands in. ``split`` reads one of
    the lists only; without it, all images that have annotations are read, those of the lists first, in their order.
    ``images`` is the folder of the images.

    Raises :class:`WronglungError` saying what is missing and where it was looked for. Images that are missing, or whose
    annotations are missing or damaged, and bad boxes are reported in the ledger.
    """
    release = _find_release(root)
    ledger = Ledger()
    splits = _image_splits(release, split, ledger)
    near = [place / name for place in (release, release.parent, root) for name in _IMAGE_FOLDERS]
    places = [place for place in near if place.is_dir()] or [release]
    fix = "name the folder of the images (flickr30k-images) with the argument images"
    folder, index = find_images(places, images, splits, fix)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for image_id, own_split in splits.items():
        try:
            captions = _captions(release, image_id)
            size, objects = _annotations(release, image_id)
        except WronglungError as error:
            ledger.drop("annotation_missing", image_id, str(error))
            continue
        image = open_image(folder, index.get(image_id, f"{image_id}.jpg"), image_id, ledger, frame=size)
        if image is not None:
            chains = _boxes(image, objects, size, ledger)
            regions[image_id] = _regions(captions, chains)
            instances += _instances(image, captions, chains, text, own_split, ledger)
    return Dataset("flickr30k-entities", tuple(instances), tuple(ledger.entries), regions)


def _find_release(root: Path) -> Path:
    for folder in folders(root, 2):
        if (folder / "Annotations").is_dir() and (folder / "Sentences").is_dir():
            return folder
    raise WronglungError(
        f"{root}: no folder with Annotations and Sentences in it, here or two levels below; unpack annotations.zip of "
        "Flickr30k Entities and give the folder that holds both"
    )


def _image_splits(release: Path, split: Split | None, ledger: Ledger) -> dict[str, Split | None]:
    """Image id to split: the images of the lists, and, unless one list is asked for, the others with annotations."""
    splits: dict[str, Split | None] = {}
    for name in _SPLITS if split is None else (split,):
        file = release / f"{name}.txt"
        if not file.is_file():
            if split is not None:
                raise WronglungError(f"{file}: does not exist; it lists the images of the split {split}")
            continue
        for line in read_text(file).splitlines():
            image_id = bare_id(line.strip())
            if image_id in splits:
                ledger.repair("duplicate_row", image_id, f"listed in {file.name} again")
            elif image_id:
                splits[image_id] = name
    if split is None:
        for annotated in sorted((release / "Annotations").glob("*.xml")):
            splits.setdefault(annotated.stem, None)
    return splits


def _read(release: Path, relative: str) -> str:
    file = below(release, ".", relative)
    if file is None:
        raise WronglungError(f"{relative}: leads out of the folder")
    try:
        if file.stat().st_size > _MAX_FILE:
            raise WronglungError(f"{relative}: larger than {_MAX_FILE} bytes")
    except OSError as error:
        raise WronglungError(f"{relative}: {error.strerror}") from error
    return read_text(file)


def _captions(release: Path, image_id: str) -> list[str]:
    lines = _read(release, f"Sentences/{image_id}.txt").split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip()]


def _annotations(release: Path, image_id: str) -> tuple[Size | None, list[_Object]]:
    """The size (width, height) that an annotation file announces, and its objects that have a box."""
    relative = f"Annotations/{image_id}.xml"
    text = _read(release, relative)
    # Entities that are made of entities fill the memory ("billion laughs"), and others name files. Both have to be declared in
    # a document type, which these files do not have. The text is decoded already, so that no other coding hides one.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise WronglungError(f"{relative}: declares a document type or an entity, which is not read")
    try:
        document = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise WronglungError(f"{relative}: not XML ({error})") from error
    width, height = (to_number(document.findtext(f"size/{one}") or "") for one in ("width", "height"))
    whole = width is not None and height is not None and 0 < width < 1e6 and 0 < height < 1e6
    size = (int(width or 0), int(height or 0)) if whole else None
    objects = []
    for one in document.iterfind("object"):
        chains = tuple(dict.fromkeys((name.text or "").strip() for name in one.iterfind("name")))
        for box in one.iterfind("bndbox"):
            xmin, ymin, xmax, ymax = (to_number(box.findtext(corner) or "") for corner in _CORNERS)
            (x1, x2), (y1, y2) = _edges(xmin, xmax), _edges(ymin, ymax)
            objects.append(_Object(chains, (x1, y1, x2, y2)))
    return size, objects


def _edges(first: float | None, last: float | None) -> tuple[float | None, float | None]:
    """Edges of the pixels from first to last, both counted from 1 and included; none for a last just before the first.

    What is swapped stays so, and is repaired where boxes are checked.
    """
    if first is None or last is None:
        return first, last
    return (first - 1, last) if first <= last + 1 else (first, last - 1)


def _boxes(
    image: ImageRef, objects: Sequence[_Object], size: Size | None, ledger: Ledger
) -> dict[str, list[Box | None]]:
    """The boxes of each chain, without names; None for one that was dropped."""
    chains: dict[str, list[Box | None]] = {}
    for one in objects:
        where = f"{image.id}, chain {' '.join(one.chains)}"
        box = check_box("", one.corners, (image.width, image.height), where, ledger, frame=size)
        for chain in one.chains:
            known = chains.setdefault(chain, [])
            if box is not None and box in known:
                ledger.repair("duplicate_row", f"{image.id}, chain {chain}", "a box given twice")
            else:
                known.append(box)
    return chains


def _phrases(caption: str) -> list[_Phrase]:
    return [_Phrase(chain, types.split("/")[1].lower(), text) for chain, types, text in _PHRASE.findall(caption)]


def _regions(captions: Sequence[str], chains: Mapping[str, Sequence[Box | None]]) -> tuple[Box, ...]:
    types: dict[str, str] = {}
    for caption in captions:
        for phrase in _phrases(caption):
            types.setdefault(phrase.chain, phrase.type)
    named = (replace(box, name=types.get(one, "")) for one, boxes in chains.items() for box in boxes if box is not None)
    return tuple(dict.fromkeys(named))


def _instances(
    image: ImageRef,
    captions: Sequence[str],
    chains: Mapping[str, Sequence[Box | None]],
    text: str,
    split: Split | None,
    ledger: Ledger,
) -> list[Instance]:
    instances = []
    unboxed = count = 0
    for number, caption in enumerate(captions):
        plain = _PHRASE.sub(lambda found: found[3], caption)
        for at, phrase in enumerate(_phrases(caption)):
            where = f"{image.id}_{number}_{at}"
            count += 1
            # Chain 0 is what cannot be seen; a box that claims it would be that of no phrase in particular.
            found = [] if not phrase.chain.strip("0") else chains.get(phrase.chain, [])
            boxes = tuple(replace(box, name=phrase.type) for box in found if box is not None)
            if not found:
                unboxed += 1
            elif not boxes:
                ledger.drop("no_valid_box", where)
            else:
                sentence = phrase.text if text == "phrase" else plain
                instances.append(Instance(where, image, sentence, boxes, study_id=image.id, split=split))
    if unboxed:
        ledger.drop("sentence_without_annotation", image.id, f"{unboxed} of {count} phrases are tied to no box")
    elif not count:
        ledger.drop("no_annotation", image.id, "no phrase in its captions")
    return instances
