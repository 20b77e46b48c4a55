"""The tensors of a torch file whose other objects are of unknown classes, without running or importing any of them.

Lightning checkpoints carry configuration objects beside their tensors, for which ``torch.load(weights_only=True)``
refuses the whole file. Here every class and function that the file names, except the few that make up a tensor or an
ordered mapping, becomes :class:`Inert`: it is neither imported nor called, and takes whatever is done to it.
"""

from __future__ import annotations

import math
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
_UNTYPED = {
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
}
"""Dtypes without a storage class of their own: the tensor names them, its storage counts bytes."""

DTYPES = frozenset([*_STORAGE_DTYPES.values(), *_UNTYPED.values()])
"""Of the tensors that are read; safetensors knows all of them."""


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


class InertTensor(Inert):
    """Stands for a tensor that is not read: of another dtype than :data:`DTYPES`, sparse, quantised, on the meta device."""

    origin = "torch.Tensor"


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
        return InertTensor()
    return StoredTensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _untyped_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _gradient: Any, _hooks: Any, dtype: Any, *_rest: Any
) -> Any:
    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype) or storage.length % dtype.itemsize:
        return InertTensor()
    return _stored_tensor(_Storage(dtype, storage.record, storage.length // dtype.itemsize), offset, size, stride)


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _stored_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _untyped_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "UntypedStorage"): torch.uint8,
    **{("torch", name): dtype for name, dtype in (*_STORAGE_DTYPES.items(), *_UNTYPED.items())},
}


# The pure Python machine: its memory is a dictionary, where that of the fast one is a list as long as the largest number in the
# file.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if known := _KNOWN.get((module, name)):
            return known
        kind = InertTensor if module == "torch._utils" and name.startswith("_rebuild_") else Inert
        return type(kind.__name__, (kind,), {"origin": f"{module}.{name}"})

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
            names = self._archive.namelist()
            pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1:
                raise ValueError("holds no data.pkl")
            self._root = pickles[0].removesuffix("data.pkl")
            order = f"{self._root}byteorder"
            if order in names and self._archive.read(order) != b"little":
                raise ValueError("was written on a big-endian machine")
            with self._archive.open(pickles[0]) as stream:
                self.content: Any = _Unpickler(stream).load()
        except Exception as error:  # a damaged or hostile stream can make the unpickler raise anything
            raise ValueError(str(error) or type(error).__name__) from error

    def load_tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Read one tensor; it owns its memory, which is no more than its record's.

        Raises ``ValueError`` where its record is missing, compressed or of another length, and for a tensor that has
        more numbers than its record, by repeating them.
        """
        storage = stored.storage
        try:
            record = self._archive.getinfo(f"{self._root}data/{storage.record}")
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"record {storage.record} is compressed")
            if record.file_size != storage.length * storage.dtype.itemsize:
                held = record.file_size // storage.dtype.itemsize
                raise ValueError(f"record {storage.record} holds {held} numbers, not {storage.length}")
            if math.prod(stored.size) > storage.length:
                raise ValueError(f"a tensor of shape {stored.size} repeats the {storage.length} numbers of its record")
            data = bytearray(self._archive.read(record))
            flat = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
            return flat.as_strided(stored.size, stored.stride, stored.offset).clone(
                memory_format=torch.contiguous_format
            )
        except (KeyError, TypeError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        self._archive.close()
