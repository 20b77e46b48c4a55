"""RefCOCO in the packaged form on the Hub: parquet files, a row for each object that is referred to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import WronglungError
from .coordinates import corners_of_xywh
from .huggingface_files import DataFile, find_files, read_rows
from .jsonl import first_fault
from .refcoco_refs import AnnotationEntry, ImageEntry, Instances, Ref
from .rules import Ledger, parse_json

_COLUMNS = ("image_id", "ann_id", "split", "sentences", "bbox", "raw_anns", "raw_image_info")
_TOLERANCE = 0.51  # pixels; a copy may have been rounded


@dataclass(frozen=True, slots=True)
class _Row:
    """A row, and what its column ``bbox`` can be: the COCO box as it is, "xywh", its corners, "xyxy", or neither."""

    ref: Ref
    where: str
    bbox: list[float | None] | None
    annotation: AnnotationEntry | None
    forms: frozenset[str]


def packaged_files(root: Path) -> list[DataFile]:
    """The parquet files of a folder, or the one that is given."""
    files = find_files(root) if root.is_dir() else [DataFile(root, None)]
    return [file for file in files if file.path.suffix == ".parquet"]


def read_packaged(files: Sequence[DataFile], ledger: Ledger) -> tuple[list[Ref], Instances]:
    """The references, and what ``instances.json`` has about their images and objects.

    One ledger entry says the form of ``bbox``. A row without a readable COCO annotation has its box from ``bbox``, in the form that the most rows have.
    """
    rows: list[_Row] = []
    images: dict[int, ImageEntry] = {}
    for file in files:
        for part in read_rows(file):
            lacking = [name for name in _COLUMNS if name not in part.schema.names]
            if lacking:
                raise WronglungError(f"{file.path}: no column {', '.join(lacking)}; this is not RefCOCO as on the Hub")
            for cells in part.columns.select(_COLUMNS).to_pylist():
                row = _row(cells, f"{file.path.name} row {len(rows)}", file.path)
                rows.append(row)
                if row.ref.image_id not in images and (image := _image(cells)) is not None:
                    images[row.ref.image_id] = image
    form = _form(rows, ledger)
    annotations = {row.ref.ann_id: _annotation(row, form, ledger) for row in rows}
    document = Instances(images=list(images.values()), annotations=list(annotations.values()), categories=[])
    return [row.ref for row in rows], document


def _row(cells: dict[str, Any], where: str, file: Path) -> _Row:
    try:
        ref = Ref.model_validate(cells)
        bbox = TypeAdapter(list[float | None] | None).validate_python(cells["bbox"])
    except ValidationError as error:
        raise WronglungError(f"{file.parent / where}: {first_fault(error, 'the row')}") from error
    try:
        annotation = AnnotationEntry.model_validate(
            {**_json(cells["raw_anns"]), "id": ref.ann_id, "image_id": ref.image_id}
        )
    except ValidationError:
        annotation = None
    if annotation is None or annotation.bbox is None:
        return _Row(ref, where, bbox, None, frozenset())
    boxes = {"xywh": annotation.bbox, "xyxy": corners_of_xywh(annotation.bbox)}
    annotation = annotation.model_copy(update={"category_id": None})  # a number without a list of names
    return _Row(ref, where, bbox, annotation, frozenset(name for name, box in boxes.items() if _same(bbox, box)))


def _json(text: Any) -> dict[str, Any]:
    """The object in a cell; empty for what is none."""
    try:
        value = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _image(cells: dict[str, Any]) -> ImageEntry | None:
    try:
        return ImageEntry.model_validate({**_json(cells["raw_image_info"]), "id": cells["image_id"]})
    except ValidationError:
        return None


def _same(one: Sequence[float | None] | None, other: Sequence[float | None] | None) -> bool:
    if one is None or other is None or len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(a is not None and b is not None and abs(a - b) <= _TOLERANCE for a, b in pairs)


def _form(rows: Sequence[_Row], ledger: Ledger) -> str | None:
    """The form of ``bbox`` in the most rows; a row that fits both says nothing."""
    votes = Counter(form for row in rows if len(row.forms) == 1 for form in row.forms)
    if not votes:
        ledger.repair("form_detected", "bbox", "its form cannot be told; no row says it")
        return None
    form = votes.most_common(1)[0][0]
    told = ", ".join(f"{name} in {count} rows" for name, count in votes.most_common())
    ledger.repair("form_detected", "bbox", f"its form is not said; beside the COCO annotations it is {told}")
    return form


def _annotation(row: _Row, form: str | None, ledger: Ledger) -> AnnotationEntry:
    if row.annotation is not None:
        return row.annotation
    ledger.repair("metadata_missing", row.where, f"no COCO annotation; its bbox is taken as {form}")
    bbox = row.bbox if form is not None else None
    if form == "xyxy" and bbox is not None and len(bbox) == 4:
        x1, y1, x2, y2 = bbox
        bbox = [x1, y1, *(None if a is None or b is None else b - a for a, b in ((x1, x2), (y1, y2)))]
    return AnnotationEntry(id=row.ref.ann_id, image_id=row.ref.image_id, bbox=bbox)
