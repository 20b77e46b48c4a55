"""What a run kept of its model's answers: the maps, where they lie, and the similarities beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pyarrow import compute, parquet
from safetensors import SafetensorError, safe_open

from .errors import WronglungError, first_line
from .geometry import Geometry
from .instances import ImageRef
from .protocol import Alignment, ModelCard, check_alignment
from .results import MAPS, PAIRS
from .rows import Aligned, digest

_VALUES = ("local_similarity", "global_similarity", "no_attention_weight")


@dataclass(frozen=True)
class Pairs:
    """The rows of ``pairs.parquet``: by image, sentence digests [n] and the values [n, 3] of the model, NaN where it has none."""

    table: pa.Table
    _rows: Mapping[str, slice]
    _digests: npt.NDArray[np.str_]
    _values: npt.NDArray[np.float64]

    @classmethod
    def read(cls, file: Path) -> Pairs | None:
        """None where there is no such file. Raises :class:`WronglungError` for a damaged one."""
        if not file.is_file():
            return None
        try:
            table = parquet.read_table(file, columns=["image_id", "sentence_sha256", *_VALUES], partitioning=None)
            table = table.sort_by([("image_id", "ascending"), ("sentence_sha256", "ascending")])
            images = table["image_id"].to_numpy().astype(str)
            digests = table["sentence_sha256"].to_numpy().astype(str)
            values = np.stack([table[name].to_numpy().astype(np.float64) for name in _VALUES], axis=1)
            if any(table[name].null_count for name in table.column_names):
                raise ValueError("a cell is empty")
        except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
            raise WronglungError(f"{file}: cannot be read as the pairs of a run ({first_line(error)})") from error
        names, starts = np.unique(images, return_index=True)
        stops = [*starts[1:].tolist(), len(images)]
        rows = {
            name: slice(start, stop) for name, start, stop in zip(names.tolist(), starts.tolist(), stops, strict=True)
        }
        return cls(table, rows, digests, values)

    def of(self, image: str) -> dict[str, list[float]]:
        """The values of an image's sentences, by digest."""
        rows = self._rows.get(image, slice(0))
        return dict(zip(self._digests[rows].tolist(), self._values[rows].tolist(), strict=True))


@dataclass(frozen=True)
class StoredMaps:
    """The maps of a run, each read when it is asked for. ``pairs`` is None for runs of versions that did not keep them."""

    file: Path
    card: ModelCard
    geometries: Mapping[str, Geometry]
    pairs: Pairs | None
    _tensors: Any
    _keys: frozenset[str]

    @classmethod
    def open(cls, folder: Path, card: ModelCard) -> StoredMaps:
        """Raises :class:`WronglungError` for a run that kept no maps, and for damaged files."""
        file = folder / MAPS
        if not file.is_file():
            raise WronglungError(f"{folder}: this run kept no maps; make it again with --save-maps")
        try:
            tensors: Any = safe_open(file, framework="np")
            stated = json.loads((tensors.metadata() or {})["geometry"])
            geometries = {image: Geometry(*numbers) for image, numbers in stated.items()}
        except KeyError as error:
            raise WronglungError(
                f"{file}: does not say where its maps lie on the images (no key 'geometry' in its metadata); "
                "make the run again with --save-maps"
            ) from error
        except (
            OSError, SafetensorError, ValueError, TypeError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise WronglungError(f"{file}: cannot be read as maps of a run ({first_line(error)})") from error
        return cls(file, card, geometries, Pairs.read(folder / PAIRS), tensors, frozenset(tensors.keys()))

    def missing(self, image: str, sentences: Iterable[str]) -> list[str]:
        """The sentences of which there is no map on this image."""
        return [one for one in sentences if f"{image}/{digest(one)}" not in self._keys]

    def aligned(self, image: ImageRef, sentences: Iterable[str]) -> dict[str, Aligned]:
        """What the model said of an image and sentences that are not :meth:`missing`.

        Raises :class:`WronglungError` where that breaks what the model's card promises, or the files do not fit each other.
        """
        if image.id not in self.geometries:
            raise WronglungError(f"{self.file}: does not say where its maps of image {image.id!r} lie")
        geometry = self.geometries[image.id]
        of_image = {} if self.pairs is None else self.pairs.of(image.id)
        found: dict[str, Aligned] = {}
        for sentence in sentences:
            key = digest(sentence)
            if self.pairs is not None and key not in of_image:
                raise WronglungError(
                    f"{self.file.with_name(PAIRS)}: has no row of image {image.id!r}, sentence {key}, of which there is a map"
                )
            found[sentence] = Aligned(
                self.read(f"{image.id}/{key}"), geometry, *of_image.get(key, [math.nan] * len(_VALUES))
            )
        self._check(image, found)
        return found

    def only(self, names: Collection[str]) -> tuple[Mapping[str, torch.Tensor], dict[str, Geometry], pa.Table | None]:
        """Of the pairs ``image id/sentence digest`` the maps (read when they are looked at), geometries and similarities."""
        images = {name.rpartition("/")[0] for name in names}
        geometries = {image: one for image, one in self.geometries.items() if image in images}
        if self.pairs is None:
            return _Chosen(self, names), geometries, None
        held = self.pairs.table
        joined = compute.binary_join_element_wise(held["image_id"], held["sentence_sha256"], "/")
        chosen = held.filter(compute.is_in(joined, value_set=pa.array(names, joined.type)))
        return _Chosen(self, names), geometries, chosen

    def read(self, key: str) -> npt.NDArray[np.float32]:
        """The map under ``image id/sentence digest``, float32 [rows, columns]."""
        try:
            saliency: npt.NDArray[np.float32] = self._tensors.get_tensor(key)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise WronglungError(f"{self.file}: {key}: cannot be read ({first_line(error)})") from error
        if saliency.dtype != np.float32 or saliency.ndim != 2:
            raise WronglungError(f"{self.file}: {key}: is no float32 map [rows, columns]")
        return saliency

    def _check(self, image: ImageRef, found: Mapping[str, Aligned]) -> None:
        """Hold what was read against the card, maps of one shape at a time."""
        by_shape: dict[tuple[int, ...], list[tuple[str, Aligned]]] = {}
        for sentence, one in found.items():
            by_shape.setdefault(one.saliency.shape, []).append((sentence, one))
        for alike in by_shape.values():
            maps = torch.from_numpy(np.stack([one.saliency for _, one in alike]))
            # A value that only some have is refused as one that is not finite.
            values = [
                None if bool(torch.isnan(column).all()) else column
                for column in torch.tensor(
                    [[getattr(one, name) for _, one in alike] for name in _VALUES], dtype=torch.float64
                )
            ]
            check_alignment(
                Alignment(maps, [one.geometry for _, one in alike], *values),
                self.card,
                [(image.width, image.height)] * len(alike),
                [f"image {image.id} ({sentence!r}) in {self.file.parent}" for sentence, _ in alike],
            )


class _Chosen(Mapping[str, torch.Tensor]):
    """Some of a run's maps, each read when it is asked for."""

    def __init__(self, maps: StoredMaps, names: Iterable[str]) -> None:
        self._maps, self._names = maps, dict.fromkeys(names)

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self._maps.read(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
