"""Which map belongs to which pair: the index of a folder of maps."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from ...benchmark.errors import WronglungError, explain
from .map_files import MapRef
from .pair_table import Pair, check_all_or_none, sentence_digest

INDICES = ("index.csv", "index.parquet")
KEPT = "maps.safetensors"
"""The maps that a run keeps (``--save-maps``): a tensor ``IMAGE ID/SENTENCE DIGEST`` a pair."""


@dataclass(frozen=True, slots=True)
class IndexedMap:
    """One pair's map, and the similarities where the model has them."""

    ref: MapRef
    local_similarity: float | None = None
    global_similarity: float | None = None


def read_index(folder: Path) -> dict[Pair, IndexedMap]:
    """The maps of a folder by pair.

    From ``index.csv`` (comma separated, UTF-8) or ``index.parquet``, with the columns ``image_id``; ``sentence``, or instead
    ``sentence_sha256`` (at least its first 16 hexadecimal digits); ``file``, the map's path below the folder; and if needed
    ``key``, the tensor's name in a safetensors file (by default ``IMAGE ID/`` and the 16 digits), ``local_similarity`` and
    ``global_similarity``. Without an index, the tensors of ``maps.safetensors`` say by their names which pairs they belong to.

    Raises :class:`WronglungError`, with file and row, for an index that is missing, given twice, damaged or empty, an unknown
    column, a cell that is missing or wrong, a pair that is listed twice, and similarities given for some pairs only.
    """
    found = [folder / name for name in INDICES if (folder / name).is_file()]
    if len(found) > 1:
        raise WronglungError(f"{folder}: has {' and '.join(INDICES)}; remove one")
    if not found and (folder / KEPT).is_file():
        return _kept(folder / KEPT)
    if not found:
        raise WronglungError(f"{folder}: no index; a folder of maps needs {', '.join(INDICES)} or {KEPT}")
    index: dict[Pair, IndexedMap] = {}
    for where, cells in (_csv_rows if found[0].suffix == ".csv" else _parquet_rows)(found[0]):
        try:
            row = _Row.model_validate(cells)
        except ValidationError as error:
            raise WronglungError(f"{found[0]}: {where}: {explain(error)}") from error
        if row.pair in index:
            raise WronglungError(f"{found[0]}: {where}: lists the pair of {index[row.pair].ref.where} again")
        ref = MapRef(row.file, "/".join(row.pair) if row.key is None else row.key, where)
        index[row.pair] = IndexedMap(ref, row.local_similarity, row.global_similarity)
    if not index:
        raise WronglungError(f"{found[0]}: lists no map")
    for what in ("local_similarity", "global_similarity"):
        check_all_or_none({one.ref.where: getattr(one, what) for one in index.values()}, what, found[0])
    return index


class _Row(BaseModel):
    """A row of the index as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str = Field(min_length=1)
    sentence: str | None = None
    sentence_sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{16,64}$")
    file: str = Field(min_length=1)
    key: str | None = None
    local_similarity: FiniteFloat | None = None
    global_similarity: FiniteFloat | None = None

    @model_validator(mode="after")
    def _has_one_sentence(self) -> _Row:
        if (self.sentence is None) == (self.sentence_sha256 is None):
            raise ValueError("needs `sentence` or `sentence_sha256`, one of them")
        return self

    @property
    def pair(self) -> Pair:
        if self.sentence_sha256 is not None:
            return self.image_id, self.sentence_sha256[:16].lower()
        assert self.sentence is not None
        return self.image_id, sentence_digest(self.sentence)


def _csv_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        for row in reader:
            where = f"row {reader.line_num}"
            if None in row or None in row.values():
                raise WronglungError(f"{file}: {where}: has not as many cells as the first row has names")
            # An empty cell says nothing, whatever the column.
            yield where, {name: cell for name, cell in row.items() if cell}
    except (OSError, ValueError, csv.Error) as error:
        raise WronglungError(f"{file}: cannot be read: {error}") from error


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        table = parquet.read_table(file, partitioning=None)
    except (OSError, pyarrow.ArrowException) as error:
        raise WronglungError(f"{file}: cannot be read: {error}") from error
    for number, row in enumerate(table.to_pylist()):
        yield f"row {number}", {name: cell for name, cell in row.items() if cell is not None}


def _kept(file: Path) -> dict[Pair, IndexedMap]:
    try:
        with safe_open(file, framework="pt") as tensors:
            names = sorted(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise WronglungError(f"{file}: cannot be read: {error}") from error
    index = {}
    for name in names:
        image, _, digest = name.rpartition("/")
        if not image or len(digest) != 16:
            raise WronglungError(f"{file}: tensor {name!r} is not named IMAGE ID/SENTENCE DIGEST; add an index.csv")
        index[image, digest] = IndexedMap(MapRef(file.name, name, "no index"))
    if not index:
        raise WronglungError(f"{file}: holds no map")
    return index
