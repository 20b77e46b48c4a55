"""Saliency maps for a page: as numbers of eight bits, with where they lie on the film."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ...benchmark.errors import WronglungError, first_line
from ...benchmark.geometry import Geometry
from ...benchmark.metrics.distribution import as_distribution
from ...benchmark.results import MAPS


@dataclass(frozen=True)
class Quantised:
    """A map relative to an even spread: region i has ``cells[i] / 255 * peak`` times its share.

    ``cells`` are uint8, row by row, of ``rows`` × ``columns``; 255 is the strongest region.
    """

    rows: int
    columns: int
    peak: float
    cells: bytes


class Asked(NamedTuple):
    """A map to read: of an image and a sentence's digest.

    ``no_attention`` is the mass in [0, 1] that the model put on no region, which the regions lack.
    """

    image: str
    sentence: str
    no_attention: float


@dataclass(frozen=True)
class SavedMaps:
    """The maps that a run kept: one per image and sentence, and the geometry of each image's maps."""

    file: Path
    geometries: Mapping[str, Geometry]
    mass: Literal["sum", "clip", "softmax"]
    temperature: float
    _tensors: Any
    _keys: frozenset[str]

    @classmethod
    def open(cls, folder: Path, card: Mapping[str, Any]) -> SavedMaps | None:
        """The maps in a run's folder, None where it kept none.

        Raises :class:`WronglungError` for a file that cannot be read, or does not say where its maps lie.
        """
        file = folder / MAPS
        if not file.is_file():
            return None
        try:
            tensors: Any = safe_open(file, framework="pt")
            stated = json.loads((tensors.metadata() or {})["geometry"])
            geometries = {image: Geometry(*numbers) for image, numbers in stated.items()}
            temperature = float(card.get("temperature", 1.0))
        except KeyError as error:
            raise WronglungError(
                f"{file}: does not say where its maps lie on the films (no key 'geometry' in its metadata); "
                "make the run again with --save-maps"
            ) from error
        except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise WronglungError(f"{file}: cannot be read as maps of a run ({first_line(error)})") from error
        keys = frozenset(tensors.keys())
        return cls(file, geometries, card.get("mass", "sum"), temperature, tensors, keys) if keys else None

    def read(self, asked: Sequence[Asked | None]) -> list[Quantised | None]:
        """The maps that are asked for; None for None, and for a map without mass.

        Raises :class:`WronglungError` where the file has no such map.
        """
        by_shape: dict[tuple[int, ...], list[tuple[int, torch.Tensor, float]]] = {}
        for at, one in enumerate(asked):
            if one is not None:
                saliency = self._tensor(one)
                by_shape.setdefault(tuple(saliency.shape), []).append((at, saliency, one.no_attention))
        found: list[Quantised | None] = [None] * len(asked)
        for alike in by_shape.values():
            places, maps, weights = zip(*alike, strict=True)
            try:
                mass = as_distribution(torch.stack(maps), self.mass, self.temperature)
            except ValueError as error:
                raise WronglungError(f"{self.file}: its maps are no distributions: {error}") from error
            mass = (
                mass.reshape(len(maps), *maps[0].shape)
                * (1 - torch.tensor(weights, dtype=torch.float64))[:, None, None]
            )
            for at, map_ in zip(places, quantise(mass), strict=True):
                found[at] = map_
        return found

    def _tensor(self, one: Asked) -> torch.Tensor:
        key = f"{one.image}/{one.sentence}"
        if key not in self._keys or one.image not in self.geometries:
            raise WronglungError(f"{self.file}: has no map of image {one.image!r} and sentence {one.sentence!r}")
        saliency: torch.Tensor = self._tensors.get_tensor(key)
        if saliency.ndim != 2 or 0 in saliency.shape or not saliency.is_floating_point():
            raise WronglungError(f"{self.file}: {key}: is no map [rows, columns] of real numbers")
        return saliency

    def geometry(self, image: str) -> Geometry:
        """Where an image's maps lie. Raises :class:`WronglungError` where the file does not say."""
        if image not in self.geometries:
            raise WronglungError(f"{self.file}: has no map of image {image!r}")
        return self.geometries[image]

    def regions(self) -> int:
        """How many regions the maps have (those of the first, which stands for all)."""
        return math.prod(self._tensors.get_slice(min(self._keys)).get_shape())


def quantise(mass: torch.Tensor) -> list[Quantised | None]:
    """The masses of maps [maps, rows, columns] as shares of an even spread, in 255 steps up to the peak of each.

    None for a map of NaN or zeros.
    """
    _, rows, columns = mass.shape
    relative = mass.double().numpy() * (rows * columns)
    peaks = relative.max(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.round(relative / peaks[:, None, None] * 255)
    return [
        Quantised(rows, columns, float(f"{peak:.5g}"), one.astype(np.uint8).tobytes()) if peak > 0 else None
        for peak, one in zip(peaks, cells, strict=True)
    ]


def packed(maps: Sequence[Quantised | None]) -> dict[str, Any]:
    """Maps one behind the other as ``{"maps": [[rows, columns, peak] or null], "cells": base64 of zlib's deflate}``."""
    cells = zlib.compress(b"".join(one.cells for one in maps if one is not None), 9)
    return {
        "maps": [None if one is None else [one.rows, one.columns, one.peak] for one in maps],
        "cells": base64.b64encode(cells).decode("ascii"),
    }
