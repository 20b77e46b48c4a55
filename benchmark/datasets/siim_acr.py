"""SIIM-ACR Pneumothorax Segmentation: masks of pneumothorax on films of ChestX-ray14.

Read are the competition's training table and its films, as DICOM or in a pack of PNG or JPEG files::

    siim/
      train-rle.csv                                      ImageId, EncodedPixels: one row a mask, -1 for none
      dicom-images-train/<study>/<series>/<ImageId>.dcm

``stage_2_train.csv`` is read where there is no ``train-rle.csv``. Films are found by their file names, in any folder up to
four levels below that of the table, or in the folder that the argument ``images`` names. Masks are given on 1024 × 1024
pixels; packs that were shrunk as a whole will do.

An instance is a film with pneumothorax, ``<ImageId>_pneumothorax``; its sentence is a class prompt, "There is
pneumothorax.", and its target all masks of the film, with a box each. Films without one are counted in the ledger, in one
entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..instances import Box, Dataset, Instance
from ..masks import Mask, from_relative_runs
from .class_labels import class_prompts, label_instance
from .locating import find_file, find_images, open_found
from .rules import Ledger, bare_id, mask_box
from .tables import read_table

_TABLES = ("train-rle.csv", "stage_2_train.csv")
_LABEL = "pneumothorax"
_FRAME = (1024, 1024)
_NONE = ("-1", "")


def read(root: Path, *, prompt: str = "there-is", images: Path | None = None) -> Dataset:
    """Read the folder of the competition's data, one or two levels above it, or its table.

    ``prompt`` is a template's name ("there-is", "findings-suggesting", "phrase") or a sentence of your own with
    ``{finding}`` in it. ``images`` is the folder of the films where they are not below that of the table.

    Films and masks are in file order; ``split`` is "train", as masks of the other films were not published. Raises
    :class:`WronglungError` saying what is missing and where it was looked for, and for a table that is not of this form. A
    film or mask that is missing or damaged goes to the ledger.
    """
    prompts = class_prompts("siim-acr", prompt)
    file = find_file(root, _TABLES, "give the folder that holds the table and the films of the competition")
    ledger = Ledger()
    films = _masks(file, ledger)
    places = [file.parent, root] if root.is_dir() else [file.parent]
    fix = "name the folder of the films with the argument images"
    folder, index = find_images(places, images, films, fix)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for film_id, masks in films.items():
        image = open_found(folder, index, film_id, ledger, frame=_FRAME)
        if image is None:
            continue
        size = image.width, image.height
        boxes = [box for where, mask in masks if (box := mask_box(_LABEL, mask, size, where, ledger)) is not None]
        instance = label_instance(image, _LABEL, boxes, prompts, ledger, split="train")
        if instance is not None:
            instances.append(instance)
            regions[film_id] = instance.boxes
    return Dataset("siim-acr", tuple(instances), tuple(ledger.entries), regions)


def _masks(file: Path, ledger: Ledger) -> dict[str, list[tuple[str, Mask]]]:
    """The masks of each film that has one, also those without a readable one, with the place of each."""
    films: dict[str, list[tuple[str, Mask]]] = {}
    without: dict[str, None] = {}
    for line, name, encoded in _rows(file):
        where = f"{file.name}:{line}"
        film_id = bare_id(name)
        if encoded in _NONE:
            without[film_id] = None
            continue
        masks = films.setdefault(film_id, [])
        try:
            masks.append((where, from_relative_runs(_whole_numbers(encoded), *_FRAME)))
        except ValueError as error:
            ledger.drop("mask_unreadable", where, f"{film_id}: {error}")
    for film_id in [one for one in films if one in without]:
        del without[film_id]
        ledger.repair("duplicate_row", film_id, "one row says that there is no mask, another has one, which counts")
    if without:
        ledger.drop("no_annotation", file.name, f"{len(without)} films without {_LABEL}")
    return films


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, name and encoded mask, which is published with a blank before it."""
    for line, (name, encoded) in read_table(file, ("ImageId", "EncodedPixels"), has_text=False):
        yield line, name.strip(), encoded.strip()


def _whole_numbers(text: str) -> list[int]:
    parts = text.split()
    wrong = next((one for one in parts if not (one.isascii() and one.isdecimal())), None)
    if wrong is not None:
        raise ValueError(f"{wrong[:20]!r} is no whole number")
    return [int(one) for one in parts]
