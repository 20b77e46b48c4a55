"""Features and boxes of image regions that a detector found, from files."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import torch

from ...benchmark.errors import WronglungError
from ..files.state_dicts import file_digest

_ARRAYS = ("features", "boxes", "norm_bb")
_BEYOND = 1.0
"""How many pixels a box may reach beyond its image, for rounding."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Regions:
    """Regions of one image: ``features`` [N, D] and ``boxes`` [N, 4] as (x1, y1, x2, y2) in shares of the image,
    float32."""

    features: torch.Tensor
    boxes: torch.Tensor


class RegionFiles:
    """The regions of images, by their ids.

    ``source`` is a folder with one ``<image id>.npz`` per image, or one safetensors file whose tensors are called
    ``<image id>/features`` and so on. Of each image they hold

    - ``features`` [N, D], floating point, a row for each of N ≥ 1 regions, and
    - either ``boxes`` [N, 4], (x1, y1, x2, y2) in pixels of the image, edge coordinates; or ``norm_bb`` [N, 4 or more],
      the same in shares of the image's width and height in the first four columns, as UNITER's own feature files have
      it.

    Other arrays are not read. Raises :class:`WronglungError` for a source that is neither.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._names: dict[str, list[str]] = {}
        if source.is_dir():
            for path in sorted(source.rglob("*.npz")):
                self._names[path.relative_to(source).as_posix().removesuffix(".npz")] = []
        elif source.is_file():
            for key in self._tensor_names():
                image_id, _, array = key.rpartition("/")
                if array in _ARRAYS:
                    self._names.setdefault(image_id, []).append(array)
        else:
            raise WronglungError(f"regions={source}: no such file or folder")
        if not self._names:
            what = "no <image id>.npz" if source.is_dir() else "no tensor called <image id>/features"
            raise WronglungError(f"regions={source}: holds {what}")

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._names

    @property
    def digest(self) -> str:
        """SHA-256 of the file; of a folder, of the names and sizes of its files."""
        if self._source.is_file():
            return file_digest(self._source)
        sizes = (f"{name} {(self._source / f'{name}.npz').stat().st_size}\n" for name in self._names)
        return hashlib.sha256("".join(sizes).encode()).hexdigest()

    def read(self, image_id: str, size: tuple[int, int]) -> Regions:
        """The regions of an image of ``size`` (width, height) in pixels.

        Raises :class:`WronglungError` for an image without regions, and for arrays of other shapes, values that are not
        finite, and boxes that are empty or lie outside the image.
        """
        if image_id not in self._names:
            raise WronglungError(f"regions={self._source}: has no regions of image {image_id}")
        arrays = self._from_folder(image_id) if self._source.is_dir() else self._from_tensors(image_id)
        try:
            features = _floats(arrays, "features", 2)
            boxes = _boxes(arrays, size)
            if len(features) != len(boxes):
                raise ValueError(f"{len(features)} features and {len(boxes)} boxes; each region has one of both")
        except ValueError as error:
            raise WronglungError(f"regions={self._source}, image {image_id}: {error}") from error
        return Regions(torch.from_numpy(features), torch.from_numpy(boxes))

    def _tensor_names(self) -> list[str]:
        try:
            with safetensors.safe_open(self._source, framework="np") as file:
                return list(file.keys())
        except (safetensors.SafetensorError, OSError) as error:
            raise WronglungError(
                f"regions={self._source}: is no safetensors file ({error}); give one, or a folder with <image id>.npz"
            ) from error

    def _from_tensors(self, image_id: str) -> _Arrays:
        with safetensors.safe_open(self._source, framework="pt") as file:
            # Through torch, which knows every dtype of the format.
            return {name: file.get_tensor(f"{image_id}/{name}").float().numpy() for name in self._names[image_id]}

    def _from_folder(self, image_id: str) -> _Arrays:
        path = self._source / f"{image_id}.npz"
        try:
            with zipfile.ZipFile(path) as archive:
                held = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
                return {name: _array(archive, held[name]) for name in _ARRAYS if name in held}
        except Exception as error:  # each way of packing has its own
            raise WronglungError(f"{path}: cannot be read as npz ({error})") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[np.generic]:
    """An array of an npz file. Raises ``ValueError`` where its header claims more than there is, before making room."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} is of npy version {version}")
        shape, _, dtype = _HEADERS[version](stream)
        if stream.tell() + math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"{member.filename} claims to be of shape {shape}, and is shorter")
    with archive.open(member) as stream:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _floats(arrays: _Arrays, name: str, columns_at_least: int) -> npt.NDArray[np.float32]:
    if name not in arrays:
        raise ValueError(f"has no {name}")
    array = arrays[name]
    if array.ndim != 2 or len(array) == 0 or array.shape[1] < columns_at_least:
        raise ValueError(f"{name} has shape {array.shape}; one row a region is needed")
    if array.dtype.kind not in "fiu" or not np.isfinite(floats := array.astype(np.float32)).all():
        raise ValueError(f"{name} holds values that are not finite numbers")
    return floats


def _boxes(arrays: _Arrays, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes [N, 4] in shares of the image, clipped to it."""
    if ("boxes" in arrays) == ("norm_bb" in arrays):
        raise ValueError("needs either boxes (in pixels) or norm_bb (in shares of the image)")
    sides = np.array([*size, *size], dtype=np.float32)
    if "boxes" in arrays:
        pixels = _floats(arrays, "boxes", 4)
        if pixels.shape[1] != 4:
            raise ValueError(f"boxes has shape {pixels.shape}; (x1, y1, x2, y2) are needed")
    else:
        pixels = _floats(arrays, "norm_bb", 4)[:, :4] * sides
    if (pixels < -_BEYOND).any() or (pixels > sides + _BEYOND).any():
        raise ValueError(
            f"a box lies outside the image of {size[0]} × {size[1]} pixels; are they of another size of it?"
        )
    if (pixels[:, 2:] <= pixels[:, :2]).any():
        raise ValueError("a box is empty: x2 must be greater than x1, and y2 than y1")
    shares: npt.NDArray[np.float32] = np.clip(pixels / sides, 0, 1)
    return shares
