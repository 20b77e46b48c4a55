"""The RSNA pneumonia detection challenge: frontal chest films with boxes of lung opacities that suggest pneumonia.

Read is the published tree::

    rsna-pneumonia-detection-challenge/           the folder may have any name
      stage_2_train_labels.csv                    one row a box: patientId, x, y, width, height, Target; or .csv.zip, .csv.gz
      stage_2_train_images/<patientId>.dcm        or PNG or JPEG copies of the same name, in any subfolder

The images of the test stage have no boxes, and are not read. The root may be the folder, one or two levels above it, or the
table.

The set has labels and no text. An instance is a film with boxes, ``<patientId>_pneumonia``; its sentence is made by the
argument ``prompt``: a template by name (see ``wronglung.benchmark.datasets.prompts``), or a sentence with ``{finding}`` in
it. Films without a box (``Target`` 0) are no instances; the ledger counts them in one entry.

Boxes are given in a frame of 1024 × 1024 pixels, and scaled to the file where it is a copy of another size. ``patientId`` names
a film, not a patient, so patients are not known. There are no splits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import WronglungError
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from .class_labels import class_prompts
from .coordinates import Corners, corners_of_xywh, to_number
from .locating import find_images, image_places
from .mimic_cxr import folders, whole_number
from .rules import Ledger, bare_id, check_box, open_image
from .tables import read_table

_TABLES = tuple(f"stage_2_train_labels.csv{suffix}" for suffix in ("", ".zip", ".gz"))
_FOLDER = "stage_2_train_images"
_FRAME = (1024, 1024)
_LABEL = "pneumonia"
_FINDINGS = (Finding(_LABEL, "yes", ""),)


Film = dict[Corners, str]
"""x1, y1, x2, y2 of the boxes of a film in the table's frame, each with the place of its row."""


def read(root: Path, *, prompt: str = "there-is", images: Path | None = None) -> Dataset:
    """Read the challenge from its folder, from one or two levels above it, or from its table of labels.

    ``prompt`` makes the sentence, ``images`` is a folder of films elsewhere. Films and their boxes are in order of their
    first row. :attr:`Dataset.regions` has the boxes of a film.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, for a damaged table, and for a prompt
    that is not known. Left out, with a reason in the ledger, are films without a box, broken boxes, and films that are
    missing, unreadable or not square.
    """
    sentence = class_prompts("rsna-pneumonia", prompt).sentence(_LABEL)
    ledger = Ledger()
    file = _find(root)
    films = _films(file, ledger)
    folder, index = _find_images(file, root, images, films)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for image_id, film in films.items():
        image = open_image(folder, index.get(image_id, f"{image_id}.dcm"), image_id, ledger, frame=_FRAME)
        if image is None:
            continue
        instance_id = f"{image_id}_{_LABEL}"
        regions[image_id] = boxes = _boxes(film, image, ledger)
        if boxes:
            instances.append(Instance(instance_id, image, sentence, boxes, _FINDINGS))
        else:
            ledger.drop("no_valid_box", instance_id)
    return Dataset("rsna-pneumonia", tuple(instances), tuple(ledger.entries), regions)


def _find(root: Path) -> Path:
    """The table in root, below it, or beside it where root is the folder of images."""
    if root.is_file():
        return root
    for folder in (*folders(root, 2), root.resolve().parent):
        for name in _TABLES:
            if (folder / name).is_file():
                return folder / name
    raise WronglungError(
        f"{root}: no RSNA pneumonia challenge found; looked for {_TABLES[0]} in this folder and two levels below it; give the "
        f"folder that holds it and {_FOLDER}/, or the table itself"
    )


def _find_images(
    file: Path, root: Path, images: Path | None, wanted: Collection[str]
) -> tuple[Path, Mapping[str, str]]:
    """The folder of the films, and where they are in it by id."""
    fix = f"looked for {_FOLDER}/<patientId>.dcm; unpack the images, or name their folder with the argument images"
    return find_images(image_places(file, root, _FOLDER), images, wanted, fix)


def _films(file: Path, ledger: Ledger) -> dict[str, Film]:
    """The films with a box by id, equal rows once."""
    films: dict[str, Film] = {}
    clear: dict[str, None] = {}
    for line, (name, *numbers, target) in read_table(
        file, ("patientId", "x", "y", "width", "height", "Target"), has_text=False
    ):
        where, image_id = f"{file.name}:{line}", bare_id(name)
        shown = whole_number(target)
        if not image_id.strip():
            ledger.drop("image_missing", where, "patientId is empty")
        elif shown == "0" and all(number.strip().lower() in ("", "nan") for number in numbers):
            clear[image_id] = None
        elif shown != "1":
            ledger.drop("category_missing", where, f"{image_id}: a box, and Target is {target!r}")
        else:
            film = films.setdefault(image_id, {})
            box = tuple(map(to_number, numbers))
            edges = corners_of_xywh(None if box is None else list(box))
            first = film.setdefault(None if edges is None else tuple(edges), where)
            if first != where:
                ledger.repair("duplicate_row", where, f"{image_id}: as {first}")
    without = len(clear.keys() - films.keys())
    if without:
        ledger.drop("no_annotation", file.name, f"{without} film{'s' * (without > 1)} without a box (Target is 0)")
    return films


def _boxes(film: Film, image: ImageRef, ledger: Ledger) -> tuple[Box, ...]:
    boxes: dict[Box, None] = {}
    for edges, where in film.items():
        box = check_box(_LABEL, edges, (image.width, image.height), where, ledger, frame=_FRAME)
        if box is not None and box in boxes:
            ledger.repair("duplicate_row", where, f"{image.id}: the same box after repair")
        elif box is not None:
            boxes[box] = None
    return tuple(boxes)
