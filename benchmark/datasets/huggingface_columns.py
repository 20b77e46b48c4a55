"""The mapping file of :mod:`.huggingface`, and the cells of the columns that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import WronglungError
from .huggingface_files import DataFile, Rows, cell_size, image_bytes, read_rows
from .rules import parse_json


class Columns(BaseModel):
    """A mapping file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("huggingface", min_length=1)
    dataset: str | None = Field(None, min_length=1)
    split: str | None = None
    image: str
    sentence: str
    boxes: str
    box_format: Literal["xyxy", "xywh", "cxcywh"]
    box_units: Literal["pixels", "normalized", "thousandths"]
    split_column: str | None = None
    id: str | None = None
    image_id: str | None = None
    study_id: str | None = None
    patient_id: str | None = None
    labels: str | None = None
    findings: str | None = None
    parent_regions: str | None = None
    regions: str | None = None
    width: str | None = None
    height: str | None = None

    @model_validator(mode="after")
    def _frame_is_whole(self) -> Columns:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together")
        if self.width is not None and self.box_units != "pixels":
            raise ValueError("width and height are for boxes in pixels")
        return self


_CELLS = ("sentence", "boxes", "split_column", "id", "image_id", "study_id", "patient_id", "labels", "findings")
_MORE_CELLS = ("parent_regions", "regions", "width", "height")
# The keys that speak of a sentence, and how deep the lists of their columns are nested for one sentence, at most.
_OF_A_SENTENCE = {"id": 0, "boxes": 1, "labels": 1, "findings": 1, "parent_regions": 1}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image file in a table: where it is, its size (or what is wrong with it), its SHA-256 where that is known."""

    path: Path
    group: int
    row: int
    size: tuple[int, int] | str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row: where it is, its split, its image, and its other cells by key of the mapping.

    ``depths`` says how deep the lists of a column are nested (the four numbers of a box do not count). ``names`` are
    those of class labels.
    """

    where: str
    split: str | None
    image: str | StoredImage | None
    cells: dict[str, Any]
    depths: dict[str, int]
    names: Sequence[str] | None

    def sentences(self) -> list[dict[str, Any]]:
        """The cells of each sentence of the row. Raises ``ValueError`` where lists that run in parallel differ in length."""
        if self.depths["sentence"] == 0:
            return [{key: self.cells.get(key) for key in ("sentence", *_OF_A_SENTENCE)}]
        count = len(self.cells["sentence"] or ())
        parts = {"sentence": self.cells["sentence"] or []}
        for key, depth in _OF_A_SENTENCE.items():
            cell = self.cells.get(key)
            shared = 0 if key in ("boxes", "labels") else depth
            if cell is None or self.depths[key] <= shared:
                parts[key] = [cell] * count
            elif len(cell) != count:
                raise ValueError(f"{count} sentences, but {len(cell)} {key}")
            else:
                parts[key] = cell
        return [{key: part[at] for key, part in parts.items()} for at in range(count)]


def read_columns(files: Sequence[DataFile], columns: Columns, file: Path, wanted: str | None) -> list[Row]:
    """The rows of data files, of the split ``wanted`` or of all; what the images hold stays on disk.

    Raises :class:`WronglungError`, naming the mapping ``file`` and the key, for a column that does not exist or holds something
    else than what is wanted there, and for a split that does not exist.
    """
    rows: list[Row] = []
    counts: dict[str | None, int] = {}
    for data in files:
        if wanted is not None and columns.split_column is None and data.split != wanted:
            continue
        for part in read_rows(data):
            start = counts.get(data.split, 0)
            rows += _rows(part, columns, file, start)
            counts[data.split] = start + len(part)
    chosen = rows if wanted is None else [row for row in rows if row.split == wanted]
    if wanted is not None and not chosen:
        splits = {row.split for row in rows} if columns.split_column else {one.split for one in files}
        known = ", ".join(sorted(one for one in splits if one is not None))
        raise WronglungError(f"{file}: there is no split {wanted!r}; {f'it has {known}' if known else 'it has none'}")
    return chosen


def _rows(part: Rows, columns: Columns, file: Path, start: int) -> Iterator[Row]:
    """The rows of a part, of which ``start`` rows of the same split were before it."""
    values: dict[str, list[Any]] = {}
    depths: dict[str, int] = {}
    names = None
    twice = sorted({name for name in part.schema.names if part.schema.names.count(name) > 1})
    if twice:
        raise WronglungError(f"{part.file.path}: has the column {twice[0]!r} more than once")
    for key in (*_CELLS, *_MORE_CELLS):
        column = getattr(columns, key)
        if column is not None:
            steps, kind = _resolve(part.schema, column, f"{file}: {key}")
            depths[key] = _depth(kind, key, f"{file}: {key}: column {column!r}")
            values[key] = [_step(cell, steps[1:]) for cell in part.columns.column(steps[0]).to_pylist()]
            if key == "labels":
                names = _class_names(part.schema, steps)
    _check_depths(depths, columns, file)
    if columns.image not in part.schema.names:
        raise WronglungError(_no_column(part.schema, columns.image, f"{file}: image"))
    images = part.columns.column(columns.image)
    if not _holds_images(images.type):
        raise WronglungError(f"{file}: image: column {columns.image!r} holds {images.type}, not images, bytes or paths")
    for row in range(len(part)):
        cells = {key: column[row] for key, column in values.items()}
        where = f"{part.file.split or 'data'} row {start + row}"
        own_split = as_text(cells["split_column"], f"{file}: split_column: {where}") if columns.split_column else None
        split = own_split if columns.split_column else part.file.split
        image = _image(images[row], part, row, named=cells.get("image_id") is not None)
        yield Row(where, split, image, cells, depths, names)


def _check_depths(depths: dict[str, int], columns: Columns, file: Path) -> None:
    listed = depths["sentence"]
    for key, depth in depths.items():
        deepest = {"sentence": 1, "regions": 1}.get(key, 0)
        if key in _OF_A_SENTENCE:
            deepest = _OF_A_SENTENCE[key] + listed
        if depth > deepest:
            raise WronglungError(
                f"{file}: {key}: column {getattr(columns, key)!r} has lists nested {depth} deep, at most {deepest} are read"
            )
        if depth < 1 and key in ("findings", "parent_regions", "regions"):
            raise WronglungError(f"{file}: {key}: column {getattr(columns, key)!r} must hold lists")


def _resolve(schema: Any, column: str, place: str) -> tuple[list[str], Any]:
    """The steps to a column, and the type of its cells with the lists on the way."""
    steps = [column] if column in schema.names else column.split(".")
    lists = 0
    if steps[0] in schema.names:
        kind = schema.field(steps[0]).type
        for step in steps[1:]:
            while _is_list(kind):
                kind, lists = kind.value_type, lists + 1
            if not (pa.types.is_struct(kind) and kind.get_field_index(step) >= 0):
                break
            kind = kind.field(step).type
        else:
            for _ in range(lists):
                kind = pa.list_(kind)
            return steps, kind
    raise WronglungError(_no_column(schema, column, place))


def _step(cell: Any, steps: Sequence[str]) -> Any:
    if not steps or cell is None:
        return cell
    if isinstance(cell, list):
        return [_step(one, steps) for one in cell]
    return _step(cell[steps[0]], steps[1:])


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _depth(kind: Any, key: str, place: str) -> int:
    """How deep lists are nested around a text, a number, a struct, or the four numbers of a box."""
    depth, leaf = 0, kind
    while _is_list(leaf):
        depth, leaf = depth + 1, leaf.value_type
    if pa.types.is_null(leaf):
        return depth
    number = bool(pa.types.is_integer(leaf) or pa.types.is_floating(leaf))
    text = bool(pa.types.is_string(leaf) or pa.types.is_large_string(leaf))
    if key == "boxes" and number and depth:
        return depth - 1
    if key in ("boxes", "findings", "regions"):
        if pa.types.is_struct(leaf):
            return depth
    elif key in ("width", "height"):
        if number:
            return depth
    elif text or (pa.types.is_integer(leaf) and key not in ("sentence", "parent_regions")):
        return depth
    raise WronglungError(f"{place} holds {kind}, which is not what is wanted there")


def _no_column(schema: Any, column: str, place: str) -> str:
    return f"{place}: there is no column {column!r}; columns are {', '.join(schema.names)[:500]}"


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return all(kind.get_field_index(one) >= 0 for one in ("bytes", "path")) and _holds_images(
            kind.field("bytes").type
        )
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    return any(test(kind) for test in tests)


def _image(cell: Any, part: Rows, row: int, *, named: bool) -> str | StoredImage | None:
    """The image of a row: a path, an image in the table, or None. ``named`` says whether it has an id."""
    data = None if isinstance(cell, pa.StringScalar | pa.LargeStringScalar) else image_bytes(cell)
    if data is not None:
        try:
            size: tuple[int, int] | str = cell_size(data)
        except OSError as error:
            size = str(error)
        # Without an id the digest is the name. Parquet has the bytes at hand now and would have to unpack them again.
        wanted = not named or part.file.path.suffix == ".parquet"
        return StoredImage(part.file.path, part.group, row, size, hashlib.sha256(data).hexdigest() if wanted else None)
    if isinstance(cell, pa.StructScalar) and cell.is_valid:
        cell = cell["path"]
    path = cell.as_py()
    return path if isinstance(path, str) else None


def as_text(value: Any, place: str) -> str | None:
    """An id or another name as text; raises :class:`WronglungError` for something else."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise WronglungError(f"{place}: {value!r} is neither text nor a whole number")


def _class_names(schema: Any, steps: Sequence[str]) -> Sequence[str] | None:
    """The names of a column of class labels, which ``datasets`` keeps beside the table as JSON; None for other columns."""
    try:
        node = parse_json((schema.metadata or {})[b"huggingface"].decode())["info"]["features"]
        for step in steps:
            node = _unwrapped(node)[step]
        node = _unwrapped(node)
        names = node["names"] if node.get("_type") == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None
    return names if isinstance(names, list) and all(isinstance(one, str) for one in names) else None


def _unwrapped(node: Any) -> Any:
    while isinstance(node, list) or node.get("_type") in ("Sequence", "List", "LargeList"):
        node = node[0] if isinstance(node, list) else node["feature"]
    return node
