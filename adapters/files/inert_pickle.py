"""The tensors of a torch file whose other objects are of unknown classes, without running or importing any of them.

Lightning checkpoints carry configuration objects beside their tensors, for which ``torch.load(weights_only=True)``
refuses the whole file. Here every class and function that the file names, except the few that make up a tensor or an
ordered mapping, becomes :class:`Inert`: it is neither imported nor called, and takes whatever is done to it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Stands for an object of a class that is not ours to make; ``origin`` is that class's name as the file has it."""

    origin = "unknown"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    record: str
    length: int


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file; :func:`load_tensor` reads it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _stored_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Any:
    if not isinstance(storage, _Storage):
        return Inert()
    return StoredTensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _stored_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        known = _KNOWN.get((module, name))
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"}) if known is None else known

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype):
            return _Storage(pid[1], str(pid[2]), int(pid[4]))
        return Inert()


class InertFile:
    """An open torch file (the zip format that torch writes since version 1.6).

    ``content`` is what was saved, with :class:`StoredTensor` for tensors and :class:`Inert` for what is unknown.
    Raises ``ValueError`` for a file that is not of this format or is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            pickles = [name for name in self._archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1:
                raise ValueError("holds no data.pkl")
            self._root = pickles[0].removesuffix("data.pkl")
            if self._read("byteorder", b"little") != b"little":
                raise ValueError("was written on a big-endian machine")
            with self._archive.open(pickles[0]) as stream:
                self.content: Any = _Unpickler(stream).load()
        except Exception as error:  # a damaged or hostile stream can make the unpickler raise anything
            raise ValueError(str(error) or type(error).__name__) from error

    def _read(self, record: str, default: bytes | None = None) -> bytes:
        try:
            return self._archive.read(self._root + record)
        except KeyError:
            if default is None:
                raise
            return default

    def load_tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Read one tensor; it owns its memory. Raises ``ValueError`` where its record is missing or too short."""
        storage = stored.storage
        try:
            data = bytearray(self._read(f"data/{storage.record}"))
            flat = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
            if len(flat) != storage.length:
                raise ValueError(f"record {storage.record} holds {len(flat)} numbers, not {storage.length}")
            return flat.as_strided(stored.size, stored.stride, stored.offset).clone(
                memory_format=torch.contiguous_format
            )
        except (KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        self._archive.close()
