"""CheXlocalize: radiologists' segmentations of ten findings on CheXpert's validation and test films.

Read are the published files, with the films that come beside them or those of CheXpert itself::

    chexlocalize/
      CheXlocalize/
        gt_segmentations_{val,test}.json    masks of the radiologists behind the ground truth (COCO's run lengths)
        gt_annotations_{val,test}.json      their contours, of which the masks were drawn
        hb_segmentations_test.json, hb_annotations_test.json    the same by other radiologists (the human benchmark)
      CheXpert/{val,test}/patient00001/study1/view1_frontal.jpg

One file a split is enough. Films are also found in CheXpert's own folders (``CheXpert-v1.0/valid`` and ``test``), inside or
beside; the argument ``images`` names a folder elsewhere. Copies that were shrunk as a whole will do.

An instance is a finding that is present on a film, ``<film>_<finding>``; its sentence is a class prompt, for example "There
is pleural effusion.", and its target the finding's mask. An empty mask says that the finding is absent; those are counted in
the ledger, in one entry a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import RootModel, TypeAdapter, ValidationError

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from ..masks import Mask, from_coco, from_polygons
from .class_labels import ClassPrompts, class_prompts, label_instance, label_instance_id
from .coco import read_model
from .jsonl import MaskLine, first_fault
from .locating import find_file
from .mimic_cxr import folders, neighbours
from .rules import Ledger, mask_box, open_image

Split = Literal["val", "test", "all"]
Source = Literal["segmentations", "contours"]
Annotator = Literal["ground-truth", "human"]

_Size = tuple[int, int]
_PREFIXES = {"ground-truth": "gt", "human": "hb"}
_FILE = re.compile(r"(gt|hb)_(segmentations|annotations)_(val|test)\.json")
_FILM = re.compile(r"(patient[0-9A-Za-z]+)_(study[0-9A-Za-z]+)_([0-9A-Za-z_-]+)")
_SUFFIXES = (".jpg", ".png", ".jpeg", ".dcm")
_IMAGE_DEPTH = 3
_WORDS = ("chexpert", "chexlocalize")
_SIZE_KEY = "img_size"
_ABSENT = from_coco((1, 1), [1])
_CONTOURS: TypeAdapter[list[list[tuple[float, float]]]] = TypeAdapter(list[list[tuple[float, float]]])
_HEIGHT_WIDTH: TypeAdapter[_Size] = TypeAdapter(_Size)


class Document(RootModel[dict[str, Any]]):
    """A file of CheXlocalize: by film, and on it by finding, a mask or contours."""


@dataclass(frozen=True, slots=True)
class _Film:
    """A film of a file, by the parts of its name, with the masks of what is present on it by finding."""

    id: str
    patient: str
    study: str
    view: str
    frame: _Size
    masks: Mapping[str, Mask]


def read(
    root: Path,
    *,
    split: Split = "test",
    source: Source = "segmentations",
    prompt: str = "there-is",
    annotator: Annotator = "ground-truth",
    images: Path | None = None,
) -> Dataset:
    """Read the folder of the release, one or two levels above it, or one of its files.

    ``split`` is the set's own; "all" is both. ``source`` chooses between the published masks and the contours; where a
    folder holds only one of them for a split, that one is read. ``annotator`` "human" reads the human benchmark's version
    (``hb_*``). ``prompt`` is a template's name ("there-is", "findings-suggesting", "phrase") or a sentence of your own with
    ``{finding}`` in it. ``images`` is CheXpert's folder where that is not found by itself.

    Films and findings are in file order. Patient and study are those of the film's name; a study's id is
    ``<patient>_<study>``, as studies are numbered within a patient.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a file that is not of this
    form. A film or mask that is missing or damaged goes to the ledger.
    """
    prompts = class_prompts("chexlocalize", prompt)
    ledger = Ledger()
    files = _files(root, split, source, _PREFIXES[annotator])
    taken: set[str] = set()
    films = {own_split: list(_films(file, taken, ledger)) for own_split, file in files.items()}
    places = [images.expanduser()] if images is not None else _places(root, files.values())
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for own_split, listed in films.items():
        folder = _image_folder(places, listed, images is not None)
        for film in listed:
            image = _open(folder, film, ledger)
            if image is None:
                continue
            valid = _instances(film, image, own_split, prompts, ledger)
            instances += valid
            regions[image.id] = (*regions.get(image.id, ()), *(box for one in valid for box in one.boxes))
    return Dataset("chexlocalize", tuple(instances), tuple(ledger.entries), regions)


def _instances(film: _Film, image: ImageRef, split: str, prompts: ClassPrompts, ledger: Ledger) -> list[Instance]:
    valid = []
    for finding, mask in film.masks.items():
        where = label_instance_id(film.id, finding)
        box = mask_box(prompts.name(finding), mask, (image.width, image.height), where, ledger)
        one = label_instance(
            image,
            finding,
            [] if box is None else [box],
            prompts,
            ledger,
            study_id=f"{film.patient}_{film.study}",
            patient_id=film.patient,
            split=split,
        )
        if one is not None:
            valid.append(one)
    return valid


def _files(root: Path, split: Split, source: Source, prefix: str) -> dict[str, Path]:
    """The file of each wanted split."""
    wanted = ("val", "test") if split == "all" else (split,)
    if not root.is_dir():
        own = _FILE.fullmatch(root.name)
        if own is not None and (own[1] != prefix or wanted != (own[3],)):
            annotator = next(name for name, known in _PREFIXES.items() if known == own[1])
            raise WronglungError(
                f"{root}: is split {own[3]} by annotator {annotator}; give split={own[3]} annotator={annotator}, or the folder"
            )
        if len(wanted) > 1:
            raise WronglungError(f"{root}: is one file; give split=val or split=test, or the folder")
        return {wanted[0]: root}
    kinds = ("segmentations", "annotations") if source == "segmentations" else ("annotations", "segmentations")
    fix = "give the folder of CheXlocalize, or another split or annotator"
    return {one: find_file(root, [f"{prefix}_{kind}_{one}.json" for kind in kinds], fix) for one in wanted}


def _films(file: Path, taken: set[str], ledger: Ledger) -> Iterator[_Film]:
    """The films of a file on which something is present; ``taken`` collects the instances' ids."""
    absent = 0
    for film_id, entry in read_model(file, Document).root.items():
        parts = _FILM.fullmatch(film_id)
        if parts is None:
            ledger.drop("image_missing", film_id, "not of the form <patient>_<study>_<view>, so its file is not known")
            continue
        if not isinstance(entry, dict):
            ledger.drop("mask_unreadable", film_id, "is no object of findings")
            continue
        size = _announced(entry)
        frame: _Size | None = None
        masks: dict[str, Mask] = {}
        for finding, drawn in entry.items():
            if finding == _SIZE_KEY:
                continue
            where = label_instance_id(film_id, finding)
            if not finding.strip():
                ledger.drop("category_missing", where, "a mask without a finding")
                continue
            if where in taken:
                ledger.repair("duplicate_row", where, f"{finding} occurs twice; the first one counts")
                continue
            mask = _mask(drawn, size, where, ledger)
            if mask is None:
                continue
            if mask is _ABSENT:
                absent += 1
            elif frame is not None and frame != (mask.width, mask.height):
                detail = f"{mask.width} × {mask.height} pixels; earlier masks of the film have {frame[0]} × {frame[1]}"
                ledger.drop("mask_unreadable", where, detail)
            else:
                frame = mask.width, mask.height
                masks[finding] = mask
                taken.add(where)
        if frame is not None:
            yield _Film(film_id, parts[1], parts[2], parts[3], frame, masks)
    if absent:
        ledger.drop("no_annotation", file.name, f"{absent} findings on its films have an empty mask, so are absent")


def _announced(entry: Mapping[str, Any]) -> _Size | None:
    """The (height, width) that goes with contours."""
    try:
        height, width = _HEIGHT_WIDTH.validate_python(entry.get(_SIZE_KEY))
    except ValidationError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _mask(drawn: Any, size: _Size | None, where: str, ledger: Ledger) -> Mask | None:
    """A finding's mask, :data:`_ABSENT` where it is empty, or None (with an entry) where it cannot be used."""
    try:
        return _from_contours(drawn, size, where, ledger) if isinstance(drawn, list) else _from_runs(drawn)
    except ValueError as error:
        detail = first_fault(error, "the mask") if isinstance(error, ValidationError) else str(error)
        ledger.drop("mask_unreadable", where, detail)
        return None


def _from_runs(drawn: Any) -> Mask:
    """A mask from run lengths; raises ``ValueError`` for a damaged one."""
    line = MaskLine.model_validate(drawn)
    mask = from_coco(line.size, line.counts)
    return _ABSENT if mask.extent() is None else mask


def _from_contours(drawn: list[Any], size: _Size | None, where: str, ledger: Ledger) -> Mask | None:
    """A mask from contours in a frame of ``size``, (height, width); raises ``ValueError`` for damaged ones."""
    if not drawn:
        return _ABSENT
    if size is None:
        ledger.drop("metadata_missing", where, "contours without a usable img_size")
        return None
    height, width = size
    contours = _CONTOURS.validate_python(drawn)
    closed = [contour for contour in contours if len(contour) > 1]
    if not closed:
        raise ValueError("no contour of at least two points")
    mask = from_polygons(closed, width, height)
    if len(closed) < len(contours):
        ledger.repair(
            "mask_unreadable", where, f"left out contours of fewer than two points: {len(contours) - len(closed)}"
        )
    if all(0 <= x <= width and 0 <= y <= height for contour in closed for x, y in contour):
        return mask
    if mask.extent() is None:
        ledger.drop("box_outside_image", where, f"contours on {width} × {height} pixels")
        return None
    ledger.repair("box_clipped", where, f"contours on {width} × {height} pixels")
    return mask


def _places(root: Path, files: Iterable[Path]) -> list[Path]:
    """Where CheXpert's films may be, the likeliest first."""
    releases = dict.fromkeys(file.parent for file in files)
    beside = (place for release in releases for word in _WORDS for place in neighbours(release, word))
    return [*([root] if root.is_dir() else releases), *beside]


def _image_folder(places: Sequence[Path], films: Sequence[_Film], is_given: bool) -> Path:
    """The folder that holds the most of the films' patients."""
    wanted = {film.patient for film in films}
    best: tuple[int, Path] = 0, places[0]
    for place in places:
        for folder in folders(place, _IMAGE_DEPTH):
            held = len(wanted & _names(folder))
            if held > best[0]:
                best = held, folder
        if best[0] == len(wanted):
            break
    if wanted and not best[0]:
        beside = "" if is_given else ", and beside it in folders named like CheXpert or CheXlocalize"
        raise WronglungError(
            f"{places[0]}: no films found; looked for folders such as {min(wanted)} in this folder and three levels below it"
            f"{beside}; name CheXpert's folder with the argument images"
        )
    return best[1]


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - only names are wanted, of a folder that may hold many
    except OSError:
        return set()


def _open(folder: Path, film: _Film, ledger: Ledger) -> ImageRef | None:
    stem = f"{film.patient}/{film.study}/{film.view}"
    found = (stem + one for one in _SUFFIXES if os.path.exists(folder / f"{stem}{one}"))  # noqa: PTH110 - no error for a name that is too long
    return open_image(folder, next(found, stem + _SUFFIXES[0]), film.id, ledger, frame=film.frame)
