"""One instance a line: the format for sets that are written by hand or by a few lines of script.

A line, here wrapped::

    {"id": "scan7_sent_0", "image": "images/scan7.png", "sentence": "Opacity in the left lung.",
     "boxes": [{"name": "left lung", "box": [310.0, 96.5, 540.0, 520.0]}],
     "findings": [{"label": "lung opacity", "context": "yes", "region": "left lung"}],
     "study_id": "s7", "patient_id": "p3", "split": "test",
     "regions": [{"name": "left lung", "box": [310.0, 96.5, 540.0, 520.0]},
                 {"name": "right lung", "box": [60.0, 90.0, 280.0, 515.0]}]}

``id``, ``image``, ``sentence`` and ``boxes`` are required. ``image`` is a path relative to the file's folder. A box is x1,
y1, x2, y2 in pixels of the stored image, as edges (x2 - x1 is the width); its name may be "". Where the pixels of a region
are known, a box has a ``"mask": {"size": [height, width], "counts": "..."}`` too, COCO's run lengths (compressed, or plain
numbers) over the whole image, at a resolution of its own; ``"box"`` may then be null. ``regions`` are all region boxes
that are known on the image, for models that may see them (the oracle); it may stand on any line of the image. Without it,
they are the named boxes of the image's sentences.

``image_id`` names the image where its path without suffix should not; ``parent_regions`` are annotated regions that a box's
region is part of, where they have no box of their own (the lung of a zone).

The argument ``images`` names the folder that image paths are relative to, where that is not the file's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import WronglungError
from ..instances import Box, Context, Dataset, Finding, ImageRef, Instance
from ..masks import from_coco
from .rules import Ledger, check_box, check_mask, image_ids, mask_box, open_image, parse_json, read_text


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MaskLine(_Model):
    """COCO's run lengths."""

    size: tuple[int, int] = Field(strict=False)
    counts: str | list[int]


class BoxLine(_Model):
    """A named box. A missing corner is allowed here: such a box is dropped by rule, not by hand."""

    name: str
    box: list[float | None] | None
    mask: MaskLine | None = None

    @field_validator("box")
    @classmethod
    def _has_four_corners(cls, box: list[float | None] | None) -> list[float | None] | None:
        if box and len(box) != 4:
            raise ValueError("a box has four numbers: x1, y1, x2, y2")
        return box


class FindingLine(_Model):
    label: str = Field(min_length=1)
    context: Context
    region: str


class Line(_Model):
    """One line of the file."""

    id: str = Field(min_length=1)
    image: str = Field(min_length=1)
    sentence: str
    boxes: list[BoxLine]
    findings: list[FindingLine] = []
    study_id: str | None = None
    patient_id: str | None = None
    split: str | None = None
    regions: list[BoxLine] | None = None
    image_id: str | None = Field(default=None, min_length=1)
    parent_regions: list[str] = []


def read(path: Path, *, images: Path | None = None) -> Dataset:
    """Read a ``.jsonl`` file, or the folder that holds exactly one; the file's name names the dataset.

    ``images`` is the folder that image paths are relative to, by default the file's own.

    Raises :class:`WronglungError`, with file and line, for a line that is not a valid instance, an id that occurs twice,
    and lines that contradict each other about an image (study, patient, regions) or a study (patient). A missing or
    unreadable image and a bad box are reported in the ledger instead.
    """
    file = _file(path)
    lines = list(_lines(file))
    _check_agreement(file, lines)
    ledger = Ledger()
    ids = _image_ids(file, lines)
    root = file.parent if images is None else images.expanduser()
    if not root.is_dir():
        raise WronglungError(f"{root}: is not a folder; images is the folder that the paths of images are relative to")
    opened = {name: open_image(root, name, image_id, ledger) for name, image_id in ids.items()}
    instances: list[Instance] = []
    regions: dict[str, dict[Box, None]] = {}
    for _, line in lines:
        image = opened[line.image]
        if image is None:
            continue
        boxes = _boxes(line.boxes, image, line.id, ledger)
        findings = tuple(dict.fromkeys(Finding(one.label, one.context, one.region) for one in line.findings))
        if len(findings) < len(line.findings):
            ledger.repair("duplicate_row", line.id, f"{len(line.findings) - len(findings)} findings said twice")
        known = regions.setdefault(image.id, {})
        if line.regions is not None:
            known.update(dict.fromkeys(_boxes(line.regions, image, f"{line.id} (regions)", ledger)))
        known.update(dict.fromkeys(box for box in boxes if box.name))
        if not line.sentence.strip():
            ledger.drop("sentence_missing", line.id)
        elif boxes:
            instances.append(
                Instance(
                    line.id,
                    image,
                    line.sentence,
                    boxes,
                    findings,
                    line.study_id,
                    line.patient_id,
                    line.split,
                    tuple(dict.fromkeys(line.parent_regions)),
                )
            )
        else:
            ledger.drop("no_valid_box", line.id)
    return Dataset(
        file.stem,
        tuple(instances),
        tuple(ledger.entries),
        {image_id: tuple(boxes) for image_id, boxes in regions.items()},
    )


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.jsonl"))
    if len(found) != 1:
        holds = "no .jsonl file" if not found else f"{len(found)} .jsonl files ({', '.join(one.name for one in found)})"
        raise WronglungError(f"{path} holds {holds}; give the file itself")
    return found[0]


def _lines(file: Path) -> Iterator[tuple[int, Line]]:
    first_use: dict[str, int] = {}
    for number, text in enumerate(read_text(file).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{file}:{number}"
        if "\0" in text:
            raise WronglungError(f"{where}: holds a NUL byte; write the file as plain text")
        try:
            line = Line.model_validate(parse_json(text))
        except ValidationError as error:
            raise WronglungError(f"{where}: {first_fault(error, 'the line')}") from error
        except ValueError as error:
            raise WronglungError(f"{where}: not valid JSON ({error}); each line holds one object") from error
        if line.id in first_use:
            raise WronglungError(
                f"{where}: id {line.id!r} is that of line {first_use[line.id]}; give each line its own"
            )
        first_use[line.id] = number
        yield number, line


def first_fault(error: ValidationError, whole: str) -> str:
    """The first fault of a document in one line: the place, what is wrong, and how many more there are."""
    fault = error.errors()[0]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"]).lstrip(".")
    what = {"extra_forbidden": "unknown key", "missing": "missing"}.get(fault["type"], fault["msg"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place or whole}: {what}{more}"


def _check_agreement(file: Path, lines: list[tuple[int, Line]]) -> None:
    said: dict[tuple[str, str, str], tuple[object, int]] = {}
    for number, line in lines:
        facts: list[tuple[str, str, str, object]] = [
            ("image", line.image, "study_id", line.study_id),
            ("image", line.image, "patient_id", line.patient_id),
            ("image", line.image, "image_id", line.image_id),
        ]
        if line.study_id is not None:
            facts.append(("study", line.study_id, "patient_id", line.patient_id))
        if line.regions is not None:
            facts.append(("image", line.image, "regions", line.regions))
        for kind, name, key, value in facts:
            earlier, at = said.setdefault((kind, name, key), (value, number))
            if earlier != value:
                raise WronglungError(f"{file}:{number}: {key} of {kind} {name!r} differs from that of line {at}")


def _image_ids(file: Path, lines: list[tuple[int, Line]]) -> dict[str, str]:
    """Path to image id: the one that is given, else the bare file name or path."""
    ids = image_ids(line.image for _, line in lines)
    ids.update({line.image: line.image_id for _, line in lines if line.image_id is not None})
    owners: dict[str, str] = {}
    for number, line in lines:
        owner = owners.setdefault(ids[line.image], line.image)
        if owner != line.image:
            raise WronglungError(
                f"{file}:{number}: image {line.image!r} has the id {ids[line.image]!r}, which is that of {owner!r} too"
            )
    return ids


def _boxes(lines: list[BoxLine], image: ImageRef, where: str, ledger: Ledger) -> tuple[Box, ...]:
    valid = [box for line in lines if (box := _box(line, image, where, ledger)) is not None]
    unique = tuple(dict.fromkeys(valid))
    if len(unique) < len(valid):
        ledger.repair("duplicate_row", where, f"{len(valid) - len(unique)} boxes given twice")
    return unique


def _box(line: BoxLine, image: ImageRef, where: str, ledger: Ledger) -> Box | None:
    size, mask = (image.width, image.height), None
    if line.mask is not None:
        try:
            mask = check_mask(from_coco(line.mask.size, line.mask.counts))
        except ValueError as error:
            ledger.drop("mask_unreadable", where, f"{line.name}: {error}")
        else:
            if not line.box:
                return mask_box(line.name, mask, size, where, ledger)
    return check_box(line.name, line.box, size, where, ledger, mask=mask)
