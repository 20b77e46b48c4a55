"""Arrow and parquet files as Hugging Face's ``datasets`` writes them, read without it: no script, pickle or cache is involved.

Arrow files are mapped into memory and parquet files are read one row group at a time, so that image bytes stay on disk until
they are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..decoding import size_of
from ..errors import WronglungError
from ..instances import ImageRef
from .rules import read_json

_FILE_MAGIC = b"ARROW1"
_NUMBERED = re.compile(r"(.+)-\d{5}-of-\d{5}.*", re.DOTALL)
_SPLIT = re.compile(r"(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?![a-zA-Z])")
_FAULTS = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, MemoryError)
_MOST_ROWS = 10_000_000  # of a file; repeated values take next to no room in it, and all of memory when read


@dataclass(frozen=True, slots=True)
class DataFile:
    """An ``.arrow`` or ``.parquet`` file and the split that its place or name tells, if any."""

    path: Path
    split: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a file: a record batch, or the row group of a parquet file. ``group`` is its number."""

    file: DataFile
    group: int
    columns: Any

    @property
    def schema(self) -> Any:
        return self.columns.schema

    def __len__(self) -> int:
        return int(self.columns.num_rows)


@dataclass(frozen=True, slots=True)
class CellImage(ImageRef):
    """An image whose file is a cell of a table. ``path`` is that of the table."""

    column: str = field(repr=False)
    group: int = field(repr=False)
    row: int = field(repr=False)

    def read(self) -> bytes:
        """The image file in the cell. Raises ``OSError`` when it cannot be read."""
        try:
            data = image_bytes(_column(self.path, self.group, self.column)[self.row])
        except _FAULTS as error:
            raise OSError(f"{self.path}: row {self.row} of part {self.group} cannot be read: {error}") from error
        if data is None:
            raise OSError(f"{self.path}: row {self.row} of part {self.group} holds no image any more")
        return bytes(data)


def image_bytes(cell: Any) -> Any:
    """The bytes of an image cell as a buffer that is not copied, or None where it holds none."""
    if isinstance(cell, pa.StructScalar):
        if not cell.is_valid:
            return None
        cell = cell["bytes"]
    return cell.as_buffer() if cell.is_valid else None


def cell_size(data: Any) -> tuple[int, int]:
    """The (width, height) of an image file in a buffer. Raises ``OSError``."""
    return size_of(pa.BufferReader(data))


def find_files(root: Path) -> list[DataFile]:
    """The data files of a folder: one that ``save_to_disk`` wrote, or any with parquet or arrow files in it.

    Raises :class:`WronglungError` for a damaged or unfinished ``save_to_disk`` folder.
    """
    if (root / "dataset_dict.json").is_file():
        splits = _json(root / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(isinstance(one, str) for one in splits):
            raise WronglungError(f"{root / 'dataset_dict.json'}: splits: must be a list of names")
        return [file for split in splits for file in _saved(_inside(root, split, root / "dataset_dict.json"), split)]
    if (root / "state.json").is_file():
        return _saved(root, None)
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            # "cache-..." are leftovers of datasets' own transformations.
            path = Path(folder, name)
            if name.endswith((".arrow", ".parquet")) and not name.startswith((".", "cache-")) and path.is_file():
                found.append(DataFile(path, _split_of(path.relative_to(root))))
    return found


def _saved(folder: Path, split: str | None) -> list[DataFile]:
    file = folder / "state.json"
    state = _json(file)
    if state.get("_indices_data_files"):
        raise WronglungError(f"{file}: written by an old version of datasets; load and save it with a newer one")
    entries = state.get("_data_files")
    listed = [one.get("filename") for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    names = [name for name in listed if isinstance(name, str)]
    if not names or len(names) != len(entries or ()):
        raise WronglungError(f"{file}: _data_files: must name the folder's .arrow files")
    own = state.get("_split")
    split = split if split is not None else own if isinstance(own, str) else None
    return [DataFile(_inside(folder, name, file), split) for name in names]


def _inside(folder: Path, name: str, said_by: Path) -> Path:
    """A file or folder in a folder, by its plain name. Links are followed: the Hub's own cache consists of them."""
    if name in ("", ".", "..") or "\0" in name or "\\" in name or PurePosixPath(name).name != name:
        raise WronglungError(f"{said_by}: {name!r} is no plain name")
    return folder / name


def _json(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise WronglungError(f"{file}: must hold one object")
    return content


def _split_of(relative: Path) -> str | None:
    """The split as the Hub tells it from a path: "data/train-00000-of-00002.parquet", "default/test/0000.parquet"."""
    numbered = _NUMBERED.fullmatch(relative.stem)
    if numbered and numbered[1] != "data":
        return numbered[1]
    for part in (relative.stem, *reversed(relative.parent.parts)):
        if found := _SPLIT.match(part):
            return found[1]
    return None


def read_rows(file: DataFile) -> Iterator[Rows]:
    """All rows of a file, part by part. Raises :class:`WronglungError` for a file that is damaged."""
    try:
        if file.path.suffix == ".parquet":
            with pq.ParquetFile(file.path) as table:
                if table.metadata.num_rows > _MOST_ROWS:
                    raise WronglungError(f"{file.path}: more than {_MOST_ROWS:,} rows; split it")
                for group in range(table.num_row_groups):
                    rows = table.read_row_group(group)
                    rows.validate(full=True)
                    yield Rows(file, group, rows)
        else:
            for group, batch in enumerate(_arrow_batches(file.path, _stamp(file.path))):
                yield Rows(file, group, batch)
    except WronglungError:
        raise
    except _FAULTS as error:
        what = str(error).splitlines()
        raise WronglungError(f"{file.path}: cannot be read: {what[0] if what else type(error).__name__}") from error


def _column(path: Path, group: int, column: str) -> Any:
    if path.suffix == ".parquet":
        return _row_group(path, _stamp(path), group, column)
    return _arrow_batches(path, _stamp(path))[group].column(column)


def _stamp(path: Path) -> tuple[int, int]:
    """What tells a file from one that is later written in its place."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=64)
def _arrow_batches(path: Path, stamp: tuple[int, int]) -> tuple[Any, ...]:
    """The record batches of a mapped file. They are checked whole, as a damaged offset would read foreign memory."""
    source = pa.memory_map(os.fspath(path))
    is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    source.seek(0)
    table = pa.ipc.open_file(source).read_all() if is_file else pa.ipc.open_stream(source).read_all()
    batches = tuple(table.to_batches())
    for batch in batches:
        batch.validate(full=True)
    return batches


@lru_cache(maxsize=4)
def _row_group(path: Path, stamp: tuple[int, int], group: int, column: str) -> Any:
    with pq.ParquetFile(path) as table:
        return table.read_row_group(group, columns=[column]).column(column)
