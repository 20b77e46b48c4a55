"""Any Hugging Face dataset with images, text and boxes; a mapping file says which column is which.

The folder is one that ``save_to_disk`` wrote (a ``Dataset`` or a ``DatasetDict``), or one with parquet or arrow files in it,
such as a snapshot from the Hub. ``mapping.yaml`` lies in it, or is named by the argument ``mapping``::

    name: my-set               names the dataset in results
    image: image               an image, its bytes, or a path relative to the folder (or to images/ in it)
    sentence: caption          a text, or a list of texts
    boxes: objects.bbox        one box, a list of boxes, or structs of name, box and mask
    box_format: xywh           xyxy, xywh or cxcywh
    box_units: pixels          pixels, normalized (0 to 1) or thousandths (0 to 1000)

A dot steps into a struct. The rest is optional::

    dataset: owner/name        where the data are not in the mapping's folder: a path relative to it, or a name on the Hub
    split: test                the split that is read where none is asked for
    split_column: split        a column that tells the split of each row; otherwise files and folders tell it
    id: id                     the id of a sentence, or a list of them
    image_id: image_id
    study_id: study_id
    patient_id: patient_id
    labels: objects.category   the names of the boxes (text or class labels)
    findings: findings         a list of {label, context, region}
    parent_regions: parents    a list of names of annotated regions that have no box
    regions: regions           all boxes of an image, as structs of name, box and mask; null where another row says them
    width: width               with height: the image's size in the boxes' pixels, where the stored image has another
    height: height

Where ``sentence`` is a list, ``boxes`` runs in parallel: one box or a list of boxes a sentence. So do ``id``, ``labels``,
``findings`` and ``parent_regions``. A single box then is that of all sentences. A struct's ``mask`` is {size: [height, width],
counts}, COCO's run lengths over the whole image; its ``box`` may then be null.

Rows with the same ``image_id`` hold the same image. Without ``image_id``, an image is named by its path, or, if it is stored in
the table, by the first digits of its SHA-256. Without ``id``, sentences are numbered: ``<image id>_<n>``.

No dataset script is ever run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import WronglungError, explain
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from ..masks import Mask, from_coco
from ..safe_yaml import read_yaml
from .coordinates import corners_of_xywh
from .huggingface_columns import Columns, Row, as_text, read_columns
from .huggingface_files import CellImage, DataFile, find_files
from .jsonl import FindingLine, first_fault
from .rules import Ledger, below, check_box, check_mask, image_ids, mask_box, open_image, same_shape

Size = tuple[int, int]

MAPPING_FILE = "mapping.yaml"
# Builders of datasets that read data and nothing else; others of its builders unpickle, or run queries.
_PLAIN_BUILDERS = ("arrow", "csv", "imagefolder", "json", "parquet")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_UNITS = {"pixels": None, "normalized": (1, 1), "thousandths": (1000, 1000)}


def read(root: Path, *, mapping: Path | None = None, split: str | None = None, images: Path | None = None) -> Dataset:
    """Read a folder of Hugging Face data, or the dataset that a mapping file names.

    ``mapping`` is the mapping file, by default ``mapping.yaml`` in the folder. ``split`` chooses a split; without it the
    mapping's ``split`` is read, or everything. ``images`` is the folder that image paths are relative to, by default
    ``images`` in the folder if there is one, else the folder itself.

    Raises :class:`WronglungError`, with file and key, for a mapping that is not valid or does not fit the columns, data that
    are damaged or cannot be had, a split that does not exist, an image id of two different images, and an id of two different
    sentences. Missing or unreadable images, bad boxes, and rows without a sentence or a box are reported in the ledger.
    """
    file, columns, folder, files = _locate(root, mapping)
    wanted = split if split is not None else columns.split
    rows = read_columns(files, columns, file, wanted)
    base = folder if images is None else images.expanduser()
    if not base.is_dir():
        raise WronglungError(f"{base}: is not a folder; images is the folder that the paths of images are relative to")
    if images is None and (base / "images").is_dir():
        base = base / "images"
    return _Reading(columns, file, base, image_ids(row.image for row in rows if isinstance(row.image, str))).dataset(
        rows
    )


def _locate(root: Path, mapping: Path | None) -> tuple[Path, Columns, Path, list[DataFile]]:
    """The mapping file, what it says, the folder of the data, and the data files."""
    if root.is_dir():
        file = root / MAPPING_FILE if mapping is None else mapping.expanduser()
        if not file.is_file():
            raise WronglungError(
                f"{file}: does not exist; a YAML file that names the columns (image, sentence, boxes, box_format, "
                "box_units) is needed there, or where the argument mapping says"
            )
        columns = _parse(file)
        if files := find_files(root):
            return file, columns, root, files
        if mapping is not None or columns.dataset is None:
            raise WronglungError(
                f"{root}: no data found; looked for a folder written by save_to_disk (state.json, dataset_dict.json), and for "
                ".parquet and .arrow files in it and below"
            )
    else:
        if root.suffix in (".parquet", ".arrow"):
            raise WronglungError(f"{root}: give the folder that holds it, and a mapping.yaml in it")
        if mapping is not None:
            raise WronglungError(f"{root}: is not a folder; mapping goes with a folder of data")
        file = root
        columns = _parse(file)
        if columns.dataset is None:
            raise WronglungError(f"{file}: dataset: missing; a mapping file given as the data root must name it")
    folder = below(file.parent, ".", columns.dataset)
    if folder is None:
        raise WronglungError(
            f"{file}: dataset: {columns.dataset!r} leads out of the mapping's folder; give the folder of the data as the data "
            "root, and this file with --data-arg mapping="
        )
    if os.path.isdir(folder):  # noqa: PTH112 - no error for a name that is too long
        files = find_files(folder)
        if not files:
            raise WronglungError(f"{file}: dataset: no parquet or arrow file in {folder}")
        return file, columns, folder, files
    return file, columns, file.parent, _from_hub(columns.dataset, file)


def _parse(file: Path) -> Columns:
    content = read_yaml(file)
    try:
        return Columns.model_validate(content)
    except ValidationError as error:
        raise WronglungError(f"{file}: {explain(error)}") from error


def _from_hub(name: str, file: Path) -> list[DataFile]:
    """The arrow files of a dataset on the Hub, in the cache of ``datasets``."""
    if not _HUB_NAME.fullmatch(name) or os.path.exists(name):  # noqa: PTH110
        raise WronglungError(
            f"{file}: dataset: {name!r} is neither a folder beside this file nor a name on the Hub (owner/name)"
        )
    import datasets

    # Version 3 would ask the user whether a dataset script may run; later ones run none and do not know the argument.
    old = int(importlib.metadata.version("datasets").split(".")[0]) < 4
    options: dict[str, Any] = {"trust_remote_code": False} if old else {}
    try:
        builder = datasets.load_dataset_builder(name, **options)
        kind = type(builder).__module__.rpartition(".")[2]
        if type(builder).__module__ != f"datasets.packaged_modules.{kind}.{kind}" or kind not in _PLAIN_BUILDERS:
            raise WronglungError(
                f"{file}: dataset: {name} is read by {kind}, not by one of {', '.join(_PLAIN_BUILDERS)}"
            )
        loaded = datasets.load_dataset(name, **options)
    except WronglungError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:300]
        raise WronglungError(
            f"{file}: dataset: {name} could not be loaded from the Hub ({type(error).__name__}: {what}); it needs a "
            "network, and for some sets a login; or download it and give its folder"
        ) from error
    return [DataFile(Path(one["filename"]), str(split)) for split, table in loaded.items() for one in table.cache_files]


@dataclass
class _Reading:
    """The state of one reading; ``path_ids`` has the ids of images that are files."""

    columns: Columns
    file: Path
    folder: Path
    path_ids: dict[str, str]
    ledger: Ledger = field(default_factory=Ledger)
    images: dict[str, ImageRef | None] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    fitting: dict[tuple[str, Size], bool] = field(default_factory=dict)
    sentences: dict[str, int] = field(default_factory=dict)
    regions: dict[str, dict[Box, None]] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)

    def dataset(self, rows: Sequence[Row]) -> Dataset:
        for row in rows:
            image = self._image(row)
            if image is None:
                continue
            frame = self._frame(row, image)
            if frame is not None and not self._fits(frame, image):
                continue
            self._sentences(row, image, frame)
            self._regions(row, image, frame)
        regions = {image_id: tuple(boxes) for image_id, boxes in self.regions.items()}
        return Dataset(self.columns.name, tuple(self.instances.values()), tuple(self.ledger.entries), regions)

    def _image(self, row: Row) -> ImageRef | None:
        if row.image is None:
            self.ledger.drop("image_missing", row.where, "an empty cell")
            return None
        image_id = as_text(row.cells.get("image_id"), self._place("image_id", row))
        if isinstance(row.image, str):
            image_id = image_id or self.path_ids[row.image]
            self._check_source(image_id, row.image)
            if image_id not in self.images:
                self.images[image_id] = open_image(self.folder, row.image, image_id, self.ledger)
            return self.images[image_id]
        stored = row.image
        image_id = image_id or (stored.digest or "")[:16]
        if isinstance(stored.size, str) or min(stored.size) < 1:
            self.ledger.drop("image_unreadable", image_id, f"{row.where}: {stored.size}")
            return None
        image = CellImage(image_id, stored.path, *stored.size, self.columns.image, stored.group, stored.row)
        first = self.images.get(image_id)
        if first is None:
            self.images[image_id] = image
            if stored.digest is not None:
                self.sources[image_id] = stored.digest
            return image
        if image_id not in self.sources:
            self.sources[image_id] = _sha256(first)
        self._check_source(image_id, stored.digest or _sha256(image))
        return first

    def _check_source(self, image_id: str, source: str) -> None:
        if self.sources.setdefault(image_id, source) != source:
            raise WronglungError(f"{self.file}: image_id: {image_id!r} is that of two different images")

    def _frame(self, row: Row, image: ImageRef) -> Size | None:
        """The size of what boxes are given in, where it is not the image's."""
        if self.columns.width is None:
            return _UNITS[self.columns.box_units]
        width, height = row.cells["width"], row.cells["height"]
        if width is None or height is None:
            self.ledger.repair("metadata_missing", row.where, "no width or height; it is taken to be that of the image")
            return None
        return (int(width), int(height)) if math.isfinite(width + height) else (0, 0)

    def _fits(self, frame: Size, image: ImageRef) -> bool:
        """Whether the image may be one of the announced size, shrunk as a whole; said once an image."""
        size = image.width, image.height
        if self.columns.width is None or frame == size:
            return True
        key = image.id, frame
        if key not in self.fitting:
            self.fitting[key] = min(frame) > 0 and same_shape(frame, size)
            detail = f"announced as {frame[0]} × {frame[1]} pixels, is {size[0]} × {size[1]}"
            if self.fitting[key]:
                self.ledger.repair("size_mismatch", image.id, f"{detail}: boxes scaled")
            else:
                self.ledger.drop("size_mismatch", image.id, f"{detail}: cropped or padded")
        return self.fitting[key]

    def _sentences(self, row: Row, image: ImageRef, frame: Size | None) -> None:
        try:
            parts = row.sentences()
        except ValueError as error:
            self.ledger.drop("sentence_without_annotation", row.where, str(error))
            return
        if not parts:
            self.ledger.drop("sentence_missing", row.where, "no sentence")
        for at, part in enumerate(parts):
            number = self.sentences.get(image.id, 0)
            self.sentences[image.id] = number + 1
            own = as_text(part["id"], self._place("id", row))
            if not own:
                own = f"{image.id}_{number}"
            elif row.depths["sentence"] and not row.depths["id"]:
                own = f"{own}_{at}"
            self._sentence(row, part, own, image, frame)

    def _sentence(self, row: Row, part: dict[str, Any], where: str, image: ImageRef, frame: Size | None) -> None:
        if not (part["sentence"] or "").strip():
            self.ledger.drop("sentence_missing", where, "no sentence")
            return
        lines = self._lines(row, part, where)
        if not lines:
            self.ledger.drop("sentence_without_annotation", where)
            return
        found = [self._box(name, line, image, where, frame) for name, line in lines]
        boxes = tuple(dict.fromkeys(box for box in found if box is not None))
        if len(boxes) < len([box for box in found if box is not None]):
            self.ledger.repair("duplicate_row", where, "boxes given twice")
        if "regions" not in row.cells:
            self.regions.setdefault(image.id, {}).update(dict.fromkeys(boxes))
        if not boxes:
            self.ledger.drop("no_valid_box", where)
            return
        study, patient = (as_text(row.cells.get(key), self._place(key, row)) for key in ("study_id", "patient_id"))
        instance = Instance(
            where,
            image,
            part["sentence"],
            boxes,
            self._findings(part["findings"] or (), row),
            study,
            patient,
            row.split,
            tuple(one for one in part["parent_regions"] or () if one is not None),
        )
        earlier = self.instances.setdefault(where, instance)
        if earlier is not instance:
            if earlier != instance:
                raise WronglungError(f"{self.file}: id: {where!r} is that of two different sentences")
            self.ledger.repair("duplicate_row", where)

    def _findings(self, cells: Sequence[Any], row: Row) -> tuple[Finding, ...]:
        try:
            lines = [FindingLine.model_validate({"region": "", **(cell or {})}) for cell in cells]
        except ValidationError as error:
            raise WronglungError(f"{self._place('findings', row)}: {first_fault(error, 'the finding')}") from error
        return tuple(dict.fromkeys(Finding(line.label, line.context, line.region) for line in lines))

    def _lines(self, row: Row, part: dict[str, Any], where: str) -> list[tuple[str, Any]]:
        """The names of a sentence's boxes, and the boxes as they are in the table."""
        boxes, labels = part["boxes"], part["labels"]
        # Whether a list is one box or several, the column says, as one without numbers does not show it.
        if boxes is None or row.depths["boxes"] <= row.depths["sentence"]:
            boxes = [] if boxes is None else [boxes]
        if self.columns.labels is None:
            return [("", box) for box in boxes]
        if not isinstance(labels, list):
            labels = [labels] * len(boxes)
        if len(labels) != len(boxes):
            self.ledger.repair("category_missing", where, f"{len(labels)} labels for {len(boxes)} boxes; none is named")
            labels = [None] * len(boxes)
        return [(self._label(label, row), box) for label, box in zip(labels, boxes, strict=True)]

    def _label(self, label: Any, row: Row) -> str:
        if row.names is not None and isinstance(label, int):
            return row.names[label].lower() if 0 <= label < len(row.names) else ""
        return (as_text(label, self._place("labels", row)) or "").lower()

    def _regions(self, row: Row, image: ImageRef, frame: Size | None) -> None:
        cell = row.cells.get("regions")
        if cell is not None:
            known = self.regions.setdefault(image.id, {})
            found = (self._box("", line, image, f"{image.id} (regions)", frame) for line in cell)
            known.update(dict.fromkeys(box for box in found if box is not None))

    def _box(self, name: str, line: Any, image: ImageRef, where: str, frame: Size | None) -> Box | None:
        size, mask = (image.width, image.height), None
        if isinstance(line, dict):
            if not {"box", "mask"} & line.keys():
                raise WronglungError(
                    f"{self.file}: boxes: the structs have neither box nor mask, but {', '.join(line)}"
                )
            name = as_text(line.get("name"), f"{self.file}: boxes: name") or name
            if line.get("mask") is not None:
                try:
                    mask = check_mask(_mask(line["mask"]))
                except ValueError as error:
                    self.ledger.drop("mask_unreadable", where, f"{name}: {error}")
                else:
                    if not line.get("box"):
                        return mask_box(name, mask, size, where, self.ledger)
            line = line.get("box")
        return check_box(name, self._corners(line), size, where, self.ledger, frame=frame, mask=mask)

    def _corners(self, numbers: Sequence[float | None] | None) -> Sequence[float | None] | None:
        if numbers is None or len(numbers) != 4 or self.columns.box_format == "xyxy":
            return numbers
        x, y, width, height = numbers
        if self.columns.box_format == "cxcywh":
            x = None if x is None or width is None else x - width / 2
            y = None if y is None or height is None else y - height / 2
        return corners_of_xywh([x, y, width, height])

    def _place(self, key: str, row: Row) -> str:
        return f"{self.file}: {key}: {row.where}"


def _sha256(image: ImageRef) -> str:
    return hashlib.sha256(image.read()).hexdigest()


def _mask(cell: Any) -> Mask:
    """Raises ``ValueError`` for what is no mask."""
    size, counts = (cell.get("size"), cell.get("counts")) if isinstance(cell, dict) else (None, None)
    numbers = [*(size or ()), *(counts if isinstance(counts, list) else ())]
    if not size or not isinstance(counts, str | bytes | list) or not all(type(one) is int for one in numbers):
        raise ValueError("must be {size: [height, width], counts}")
    return from_coco(size, counts)
