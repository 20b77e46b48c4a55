"""VinDr-CXR, and its copy in the VinBigData competition: radiologists' boxes of 22 findings.

Read are the published files::

    vindr-cxr/1.0.0/
      annotations/annotations_test.csv     image_id, class_name, x_min, y_min, x_max, y_max: the consensus of five readers
      annotations/annotations_train.csv    the same with rad_id: three readers a film
      test/<image_id>.dicom   train/<image_id>.dicom

    vinbigdata/
      train.csv                            image_id, class_name, class_id, rad_id, x_min, ...: the training films above
      train/<image_id>.dicom               or .dcm, or a pack of .png or .jpg with train_meta.csv

Films are found by their file names, in any folder up to four levels below the release, or in the folder that the argument
``images`` names. Boxes are given in pixels of the original film. A DICOM film says how large it is. PNG and JPEG files may
have been shrunk: the original sizes are then taken from a table ``train_meta.csv`` (image_id, dim0 for the height, dim1 for
the width; ``test_meta.csv`` for test films) beside the annotations or the films, and without one the argument ``sizes`` must
say that the files have the original size. Films of another shape than the original, such as those of packs that were made
square, are left out, as stretched ones cannot be told from padded ones.

An instance is a finding on a film, ``<image_id>_<finding>``; its sentence is a class prompt, for example "There is
cardiomegaly.", and its target the union of its boxes. Where several readers marked a film, a finding counts that at least
``agreement`` of them marked, with the boxes of all of them; or the finding and boxes of one ``reader``. Rows without a
finding are counted in the ledger, in one entry, and so are findings that too few readers marked. No patients are known.
The sister set VinDr-PCXR has the same form; where its films have one reader each, give ``agreement=1``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from .class_labels import ClassPrompts, class_prompts, label_instance, label_instance_id
from .coordinates import to_number
from .locating import find_file, find_images
from .mimic_cxr import whole_number
from .rules import Ledger, bare_id, check_box, open_image
from .tables import read_table

Split = Literal["train", "test"]
Sizes = Literal["original", "table"]

_Size = tuple[int, int]
_Corners = tuple[float | None, ...]

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_READERS = ("rad_id", "rad_ID")  # the latter in VinDr-PCXR
_NO_FINDING = "no finding"
_DICOM = (".dcm", ".dicom")
_MAX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class _Source:
    """A table of boxes, and which of its rows are wanted."""

    name: str
    file: Path
    split: str
    places: Sequence[Path]
    has_readers: bool
    reader: str | None
    agreement: int


@dataclass(slots=True)
class _Marked:
    """A finding on a film: its boxes, each with the readers that drew it and the place of its first row."""

    label: str
    boxes: dict[_Corners, str] = field(default_factory=dict)
    rows: set[tuple[str, _Corners]] = field(default_factory=set)
    repeated: int = 0

    @property
    def readers(self) -> set[str]:
        return {reader for reader, _ in self.rows}


def read(
    root: Path,
    *,
    split: Split = "test",
    reader: str | None = None,
    agreement: int = 2,
    prompt: str = "there-is",
    images: Path | None = None,
    sizes: Sizes | None = None,
) -> Dataset:
    """Read one split of VinDr-CXR: the folder of the release, one or two levels above it, or its table.

    ``split`` "test" is the consensus; "train" has three readers a film. Of those, ``reader`` keeps one's boxes (such as
    "R9"), or else ``agreement`` keeps the findings that so many marked. ``prompt`` is a template's name ("there-is",
    "findings-suggesting", "phrase") or a sentence of your own with ``{finding}`` in it. ``images`` is the folder of the
    films where they are not below the release. ``sizes`` says of films that are not DICOM whether they have the "original"
    size or a "table" has it; by default they need the table.

    Films are in order of their first row, findings in file order. Raises :class:`WronglungError` saying what is missing and
    where it was looked for, and for a table that is not of this form. A film or box that is missing or damaged goes to the
    ledger.
    """
    name = f"annotations_{split}.csv"
    fix = "give the folder of VinDr-CXR, or another split"
    file = find_file(root, (f"annotations/{name}", name), fix)
    other = "train" if split == "test" else "test"
    if file.name.startswith(f"annotations_{other}."):
        raise WronglungError(f"{file}: is split {other}; give split={other}, or the folder")
    return _read(_source("vindr-cxr", root, file, split, split == "train", reader, agreement), prompt, images, sizes)


def read_vinbigdata(
    root: Path,
    *,
    reader: str | None = None,
    agreement: int = 2,
    prompt: str = "there-is",
    images: Path | None = None,
    sizes: Sizes | None = None,
) -> Dataset:
    """Read the competition's copy: the folder with ``train.csv``, one or two levels above it, or the table.

    The arguments are those of :func:`read`; ``split`` is "train".
    """
    file = find_file(root, ("train.csv",), "give the folder that holds the table and the films of the competition")
    return _read(_source("vinbigdata", root, file, "train", True, reader, agreement), prompt, images, sizes)


def _source(
    name: str, root: Path, file: Path, split: str, has_readers: bool, reader: str | None, agreement: int
) -> _Source:
    if agreement < 1:
        raise WronglungError(f"agreement={agreement}: must be the number of readers that a finding needs, at least 1")
    if reader is not None and not has_readers:
        raise WronglungError(f"reader={reader!r}: split {split} is a consensus, without readers; leave reader out")
    release = file.parent.parent if file.parent.name == "annotations" else file.parent
    places = [release, root] if root.is_dir() else [release]
    return _Source(name, file, split, places, has_readers, reader, agreement)


def _read(source: _Source, prompt: str, images: Path | None, sizes: Sizes | None) -> Dataset:
    prompts = class_prompts("vindr-cxr", prompt)
    ledger = Ledger()
    films = _films(source, ledger)
    fix = "name the folder of the films with the argument images"
    folder, index = find_images(source.places, images, films, fix)
    flat = {one for one in films if one in index and not index[one].lower().endswith(_DICOM)}
    frames = _frames(source, folder, sizes) if flat and sizes != "original" else {}
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for film_id, findings in films.items():
        if film_id not in index:
            ledger.drop("image_missing", film_id, "no file of that name")
            continue
        frame = frames.get(film_id) if film_id in flat else None
        if film_id in flat and frame is None and sizes != "original":
            ledger.drop("metadata_missing", film_id, "no usable size in the table of sizes")
            continue
        image = open_image(folder, index[film_id], film_id, ledger, frame=frame)
        if image is None:
            continue
        for marked in findings.values():
            instance = _instance(marked, image, frame, source.split, prompts, ledger)
            if instance is not None:
                instances.append(instance)
                regions[film_id] = (*regions.get(film_id, ()), *instance.boxes)
    return Dataset(source.name, tuple(instances), tuple(ledger.entries), regions)


def _instance(
    marked: _Marked,
    image: ImageRef,
    frame: _Size | None,
    split: str,
    prompts: ClassPrompts,
    ledger: Ledger,
) -> Instance | None:
    name, size = prompts.name(marked.label), (image.width, image.height)
    if marked.repeated:
        where = label_instance_id(image.id, marked.label)
        ledger.repair("duplicate_row", where, f"rows given twice: {marked.repeated}")
    drawn = [check_box(name, corners, size, where, ledger, frame=frame) for corners, where in marked.boxes.items()]
    boxes = [box for box in drawn if box is not None]
    return label_instance(image, marked.label, boxes, prompts, ledger, split=split)


def _films(source: _Source, ledger: Ledger) -> dict[str, dict[str, _Marked]]:
    """What is wanted of each film, by finding."""
    films: dict[str, dict[str, _Marked]] = {}
    file, without = source.file, 0
    readers: set[str] = set()
    columns = ("image_id", "class_name", *_CORNERS)
    for line, (name, label, *cells) in read_table(file, columns, optional=_READERS, has_text=False):
        reader = "".join(cells[len(_CORNERS) :]).strip()
        if source.has_readers and not reader:
            raise WronglungError(f"{file}:{line}: rad_id is empty, or there is no such column")
        readers.add(reader)
        if source.reader not in (None, reader):
            continue
        texts = [one.strip() for one in cells[: len(_CORNERS)]]
        film_id, label = bare_id(name.strip()), label.strip()
        if label.lower() == _NO_FINDING or not any(texts):
            without += 1
        elif not label:
            ledger.drop("category_missing", f"{file.name}:{line}", f"a box on {film_id} without a finding")
        else:
            corners = tuple(map(to_number, texts))
            marked = films.setdefault(film_id, {}).setdefault(label_instance_id("", label), _Marked(label))
            marked.repeated += (reader, corners) in marked.rows
            marked.rows.add((reader, corners))
            marked.boxes.setdefault(corners, f"{file.name}:{line}")
    if source.reader is not None and source.reader not in readers:
        known = ", ".join(sorted(readers, key=lambda one: (len(one), one))[:30])
        raise WronglungError(f"{file}: reader={source.reader!r} is not in the table; it has {known}")
    if without:
        ledger.drop("no_annotation", file.name, f"{without} rows without a finding or a box")
    if source.has_readers and source.reader is None:
        films = _agreed(films, source, ledger)
    return films


def _agreed(
    films: Mapping[str, Mapping[str, _Marked]], source: _Source, ledger: Ledger
) -> dict[str, dict[str, _Marked]]:
    """The findings that enough readers marked, and the films that have one."""
    agreed: dict[str, dict[str, _Marked]] = {}
    lonely = 0
    for film_id, findings in films.items():
        for key, marked in findings.items():
            if len(marked.readers) >= source.agreement:
                agreed.setdefault(film_id, {})[key] = marked
            else:
                lonely += 1
    if lonely:
        detail = f"{lonely} findings on films that fewer than {source.agreement} readers marked"
        ledger.drop("reader_disagreement", source.file.name, detail)
    return agreed


def _frames(source: _Source, folder: Path, sizes: Sizes | None) -> dict[str, _Size]:
    """The original (width, height) of films by id, from the table beside the annotations or the films."""
    name = f"{source.split}_meta.csv"
    places = dict.fromkeys((folder, folder.parent, source.file.parent, *source.places))
    file = next((one for place in places for kind in ("", ".gz") if (one := place / f"{name}{kind}").is_file()), None)
    if file is None:
        looked = ", ".join(str(place) for place in places)
        asked = "sizes=table, but there is no" if sizes == "table" else "films are PNG or JPEG files, and there is no"
        raise WronglungError(
            f"{folder}: {asked} {name} (image_id, dim0, dim1) in {looked}; boxes are in pixels of the original films, whose "
            "sizes these files may not have: put the table there, give sizes=original if the files have the original "
            "size, or give the DICOM films"
        )
    frames: dict[str, _Size] = {}
    for _, (image_id, *texts) in read_table(file, ("image_id", "dim0", "dim1"), has_text=False):
        height, width = map(whole_number, texts)
        if all(one.isascii() and one.isdecimal() and len(one) <= _MAX_DIGITS for one in (height, width)):
            frames.setdefault(bare_id(image_id.strip()), (int(width), int(height)))
    return frames
