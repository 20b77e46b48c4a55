"""Files that hold saliency maps: NumPy, safetensors, PNG and NIfTI. They are untrusted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import safe_open

from ...benchmark.errors import WronglungError

NiftiAxes = Literal[
    "right-down", "right-up", "left-down", "left-up", "down-right", "down-left", "up-right", "up-left"
]  # fmt: skip
"""Where the first and the second axis of a NIfTI array run on the image: "right-down" is array[x, y], "down-right" is array[row,
column]."""

SUFFIXES = (".npy", ".safetensors", ".png", ".nii", ".nii.gz")
MAX_SIDE = 4096
"""Cells of a map, or pixels of its frame, that may be asked for along a side."""
MAX_CELLS = MAX_SIDE**2
"""Larger maps are refused before they are read: a small compressed file may claim any size."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class MapRef:
    """Where one map is: a file below the folder, the tensor's name in a safetensors file, and the place that refers to it."""

    file: str
    key: str
    where: str


@dataclass(frozen=True)
class _Stored:
    """A map that is not read yet: its shape as stored, and how to read it, [rows, columns]."""

    shape: Shape
    read: Callable[[], Any]


@dataclass
class MapFiles:
    """The maps below a folder.

    ``.npy``: a 2-D array of real numbers. ``.safetensors``: 2-D tensors by name; the file stays open. ``.png``: grey of 1, 8 or 16
    bits, divided by the largest level. ``.nii`` and ``.nii.gz``: two axes, further ones of length 1, in nibabel's order;
    ``nifti_axes`` says where they run.
    """

    folder: Path
    nifti_axes: NiftiAxes = "right-down"
    _open: dict[str, tuple[Any, frozenset[str]]] = field(default_factory=dict, init=False)

    def shape(self, ref: MapRef) -> tuple[int, int]:
        """The numbers of rows and columns of a map, which is not read.

        Raises :class:`WronglungError`, with file and place, for a file that is missing, outside the folder, damaged or of an
        unknown kind, and for a map that is empty, has not two axes or is too large.
        """
        rows, columns = self._checked(ref).shape
        return rows, columns

    def read(self, ref: MapRef) -> torch.Tensor:
        """A map, float32 [rows, columns]; as :meth:`shape`, and raises for values that are not finite in float32."""
        stored = self._checked(ref)
        try:
            with np.errstate(over="ignore"):
                values: npt.NDArray[np.float32] = np.array(stored.read(), dtype=np.float32, order="C")
        except Exception as error:
            raise self._unreadable(ref, error) from error
        if not np.isfinite(values).all():
            raise WronglungError(f"{self._name(ref)}: holds NaN, infinity or a number beyond float32")
        return torch.from_numpy(values)

    def digest(self, file: str) -> str:
        """The SHA-256 of a file's bytes, in hexadecimal; raises as :meth:`shape` does."""
        with self._path(MapRef(file, "", file)).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _checked(self, ref: MapRef) -> _Stored:
        path = self._path(ref)
        try:
            stored = self._stored(path, ref)
        except WronglungError:
            raise
        except Exception as error:  # what readers raise for damaged files has no common base
            raise self._unreadable(ref, error) from error
        if len(stored.shape) != 2 or 0 in stored.shape:
            raise WronglungError(f"{self._name(ref)}: has shape {stored.shape}; a map is [rows, columns]")
        if math.prod(stored.shape) > MAX_CELLS:
            raise WronglungError(f"{self._name(ref)}: has shape {stored.shape}, more than {MAX_CELLS} cells")
        return stored

    def _path(self, ref: MapRef) -> Path:
        """The file's path. Links are followed wherever they lead, as the owner of the folder made them."""
        if "\0" in ref.file or any(
            path.anchor or ".." in path.parts for path in (PurePosixPath(ref.file), PureWindowsPath(ref.file))
        ):
            raise WronglungError(f"{self.folder}: {ref.where}: {ref.file!r} leads out of the folder")
        path = self.folder / ref.file
        if not ref.file.endswith(SUFFIXES):
            raise WronglungError(f"{self._name(ref)}: is no map file; known are {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise WronglungError(f"{self._name(ref)}: no such file")
        return path

    def _stored(self, path: Path, ref: MapRef) -> _Stored:
        if ref.file.endswith(".npy"):
            # Mapped, so that a header cannot ask for more memory than the file has bytes.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_real(array.dtype.kind)
            return _Stored(array.shape, lambda: array)
        if ref.file.endswith(".safetensors"):
            return self._tensor(path, ref)
        if ref.file.endswith(".png"):
            return _png(path)
        return self._nifti(path)

    def _tensor(self, path: Path, ref: MapRef) -> _Stored:
        if ref.file not in self._open:
            opened: Any = safe_open(path, framework="pt")
            self._open[ref.file] = opened, frozenset(opened.keys())
        tensors, names = self._open[ref.file]
        if ref.key not in names:
            raise WronglungError(f"{self._name(ref)}: holds no tensor of that name; give the right one in column `key`")
        part = tensors.get_slice(ref.key)
        _check_real("c" if part.get_dtype().startswith("C") else "f")
        return _Stored(tuple(part.get_shape()), lambda: tensors.get_tensor(ref.key).float().numpy())

    def _nifti(self, path: Path) -> _Stored:
        try:
            nibabel = import_module("nibabel")
        except ImportError as error:
            raise WronglungError(f"{path}: NIfTI files need nibabel; pip install 'wronglung[nifti]'") from error
        image = nibabel.load(path)
        shape: Shape = image.shape
        if len(shape) > 2 and set(shape[2:]) == {1}:
            shape = shape[:2]
        _check_real(image.get_data_dtype().kind)
        transposed = self.nifti_axes.startswith(("right", "left"))
        return _Stored(
            shape[::-1] if transposed else shape,
            lambda: _upright(np.asanyarray(image.dataobj).reshape(shape), self.nifti_axes),
        )

    def _name(self, ref: MapRef) -> str:
        key = f" ({ref.key})" if ref.file.endswith(".safetensors") else ""
        return f"{self.folder / ref.file}{key}, {ref.where}"

    def _unreadable(self, ref: MapRef, error: Exception) -> WronglungError:
        return WronglungError(f"{self._name(ref)}: cannot be read: {type(error).__name__}: {error}")


def _check_real(kind: str) -> None:
    """Raise ``ValueError`` for a NumPy kind that is neither truth values nor integers nor floating point."""
    if kind not in "biuf":
        raise ValueError("does not hold real numbers")


def _png(path: Path) -> _Stored:
    levels = {"1": 1, "L": 255, "I": 65535, "I;16": 65535, "I;16B": 65535}
    with Image.open(path, formats=["PNG"]) as image:
        mode, (width, height) = image.mode, image.size
    if mode not in levels:
        raise ValueError(f"is of mode {mode}; save it as grey of 8 or 16 bits")

    def read() -> npt.NDArray[np.float64]:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image) / levels[mode]

    return _Stored((height, width), read)


def _upright(array: npt.NDArray[Any], axes: NiftiAxes) -> npt.NDArray[Any]:
    """An array with the given axes as [rows, columns] from the top left."""
    upright = array.T if axes.startswith(("right", "left")) else array
    return upright[:: -1 if "up" in axes else 1, :: -1 if "left" in axes else 1]
