"""NIH ChestX-ray14: the films with hand-drawn boxes of eight findings.

Read are the table of boxes and the films, in one folder or in the twelve of the download::

    nih-chestxray14/
      BBox_List_2017.csv                        Image Index, Finding Label, and x, y, width, height under a broken header
      images/00099999_008.png                   or images_001/images/..., images_002/images/..., ...
      test_list.txt, train_val_list.txt         the set's own split; optional

Films are found by their file names, in any folder up to four levels below that of the table, or in the folder that the
argument ``images`` names. Boxes are given on 1024 × 1024 pixels; films that were shrunk as a whole will do.

An instance is a finding with a box on a film, ``<image>_<finding>``; its sentence is a class prompt, for example "There is
pleural effusion." The patient is the number with which the file's name begins. ``Data_Entry_2017*.csv`` is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import WronglungError
from ..instances import Box, Dataset, Instance
from .class_labels import class_prompts, label_instance, label_instance_id
from .coordinates import corners_of_xywh, to_number
from .locating import find_file, find_images, open_found
from .rules import Ledger, bare_id, check_box, read_text
from .tables import read_rows

_TABLES = ("BBox_List_2017.csv", "BBox_List_2017_Official_NIH.csv")
_FRAME = (1024, 1024)
_LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
_COLUMNS = ("Image Index", "Finding Label")
_CELLS = 6
_PATIENT = re.compile(r"([0-9]{8})_[0-9]+")

_Drawn = tuple[str, list[float | None]]


def read(root: Path, *, prompt: str = "there-is", images: Path | None = None) -> Dataset:
    """Read the folder of the release, one or two levels above it, or its table of boxes.

    ``prompt`` is a template's name ("there-is", "findings-suggesting", "phrase") or a sentence of your own with
    ``{finding}`` in it. ``images`` is the folder of the films where they are not below that of the table.

    Films are in order of their first row, the findings of a film in file order. ``split`` is "test" or "train_val" where
    the lists are there. Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a table
    that is not of this form. A film or box that is missing or damaged goes to the ledger.
    """
    prompts = class_prompts("nih-chestxray14", prompt)
    file = find_file(root, _TABLES, "give the folder that holds it and the films")
    places = [file.parent, root] if root.is_dir() else [file.parent]
    ledger = Ledger()
    films = _films(file, ledger)
    splits = _splits(places)
    folder, index = find_images(places, images, films, "name the folder of the films with the argument images")
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for film_id, findings in films.items():
        image = open_found(folder, index, film_id, ledger, frame=_FRAME)
        if image is None:
            continue
        size = image.width, image.height
        patient = _PATIENT.fullmatch(film_id)
        for finding, rows in findings.items():
            drawn = [check_box(prompts.name(finding), box, size, where, ledger, frame=_FRAME) for where, box in rows]
            instance = label_instance(
                image,
                finding,
                [box for box in drawn if box is not None],
                prompts,
                ledger,
                patient_id=None if patient is None else patient[1],
                split=splits.get(film_id),
            )
            if instance is not None:
                instances.append(instance)
                regions[film_id] = (*regions.get(film_id, ()), *instance.boxes)
    return Dataset("nih-chestxray14", tuple(instances), tuple(ledger.entries), regions)


def _films(file: Path, ledger: Ledger) -> dict[str, dict[str, list[_Drawn]]]:
    """By film and finding the boxes as x1, y1, x2, y2, each with its place in the file."""
    films: dict[str, dict[str, list[_Drawn]]] = {}
    spellings: dict[str, str] = {}
    for line, (name, label, *numbers) in _rows(file):
        where = f"{file.name}:{line}"
        film_id, label = bare_id(name.strip()), label.strip()
        if not label:
            ledger.drop("category_missing", where, f"a box on {film_id} without a finding")
            continue
        label = spellings.setdefault(label_instance_id("", label), label)
        drawn = films.setdefault(film_id, {}).setdefault(label, [])
        drawn.append((where, list(corners_of_xywh([to_number(one) for one in numbers]) or ())))
    return films


def _rows(file: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Line number, file name, label, x, y, width and height.

    The header names the last four columns "Bbox [x,y,w,h]", whose commas make it longer than the rows, so columns are told
    by their place. Blank cells may follow.
    """
    rows = read_rows(file, has_text=False)
    _, header = next(rows, (0, []))
    if tuple(name.strip() for name in header[:2]) != _COLUMNS or len(header) < _CELLS:
        raise WronglungError(f"{file}: the first row must be Image Index,Finding Label,Bbox [x,y,w,h]")
    for line, row in rows:
        if not any(row):
            continue
        if len(row) < _CELLS or any(one.strip() for one in row[_CELLS:]):
            raise WronglungError(f"{file}:{line}: {len(row)} cells, not {_CELLS}")
        yield line, row[:_CELLS]


def _splits(places: Iterable[Path]) -> dict[str, str]:
    """The split of each film, as far as there are lists."""
    splits: dict[str, str] = {}
    for split, name in _LISTS.items():
        file = next((found for place in places if (found := place / name).is_file()), None)
        if file is not None:
            splits.update((bare_id(line.strip()), split) for line in read_text(file).splitlines())
    return splits
