"""A folder of saliency maps as a model, so that any code in any language can be scored: the catalogue's ``precomputed``.

::

    maps/
      model.json     {"name": "my-model", "method": "GradCAM, last layer", "map_kind": "score"}
      index.csv      image_id,sentence,file
                     film-1,There is opacity in the left lung.,film-1/0.npy
      film-1/0.npy   [rows, columns], row 0 at the top

The keys of ``model.json`` are the arguments of :func:`load` but the first; the index is :func:`.map_index.read_index`'s, and
the kinds of files are those of :class:`.map_files.MapFiles`. A folder that a run wrote with ``--save-maps`` is read, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator
from safetensors import safe_open

from ...benchmark.errors import WronglungError, explain
from ...benchmark.geometry import Geometry
from ...benchmark.instances import Dataset
from ...benchmark.protocol import Alignment, LoadedImage, ModelCard
from ...benchmark.small_file import parse_json, read_small
from ..functions import FRAME
from ..saliency.regrid import regrid
from .map_files import MAX_SIDE, MapFiles, NiftiAxes
from .map_index import KEPT, IndexedMap, read_index
from .pair_table import Pair, PairTable, similarities

DESCRIPTION, RUN = "model.json", "results.json"

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
MapKind = Literal["distribution", "score"]
Mass = Literal["sum", "clip", "softmax"]
Frame = Literal["image", "crop", "pad"]
"""What a map covers evenly. ``image``: the whole image, whatever its shape. ``crop``: the centre square that remains when the
image's short side is brought to ``resize`` model pixels and ``side`` × ``side`` of them are cut out. ``pad``: the square into
whose centre the image is put when its long side is brought to ``resize``; of a ``side`` that is smaller, the centre is cut out."""

_LARGEST = 1 << 25
"""Bytes of ``model.json``, and of a run's summary."""

ROUNDING = 1e-3
"""How much more than 1 the sum of a distribution may be."""


class Description(BaseModel):
    """What ``model.json`` and the arguments of :func:`load` say of the maps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    method: str = Field(min_length=1)
    map_kind: MapKind = "score"
    mass: Mass | None = None
    temperature: PositiveFloat = 1.0
    signed: bool | None = None
    comparable: bool | None = None
    tokens: str = ""
    preprocessing: str = ""
    pretraining_sources: tuple[str, ...] = ()
    frame: Frame | None = None
    side: Side = FRAME
    resize: Side | None = None
    grid: Side | None = None
    nifti_axes: NiftiAxes = "right-down"

    @model_validator(mode="after")
    def _frame_is_whole(self) -> Description:
        if self.resize is not None and self.frame not in ("crop", "pad"):
            raise ValueError("resize: goes with frame crop or pad")
        if self.frame == "crop" and self.resize is not None and self.resize < self.side:
            raise ValueError(f"resize: is smaller than the side {self.side} that is cropped from it")
        return self

    def geometry(self, width: int, height: int) -> Geometry:
        """How an image of that many pixels lies in the frame of its maps (:data:`Frame`); offsets are not rounded."""
        if self.frame in (None, "image"):
            return Geometry.squash(width, height, self.side, self.side)
        along = min(width, height) if self.frame == "crop" else max(width, height)
        scale = (self.resize or self.side) / along
        offset_x, offset_y = (self.side - scale * width) / 2, (self.side - scale * height) / 2
        return Geometry(width, height, self.side, self.side, scale, scale, offset_x, offset_y)

    @property
    def frame_in_words(self) -> str:
        if self.frame == "crop":
            return f"short side to {self.resize or self.side}, centre {self.side} × {self.side}"
        if self.frame == "pad":
            return f"long side to {self.resize or self.side}, centred on {self.side} × {self.side}"
        return "whole image"


def load(
    maps: Path,
    name: str | None = None,
    method: str | None = None,
    map_kind: MapKind | None = None,
    mass: Mass | None = None,
    temperature: float | None = None,
    signed: bool | None = None,
    comparable: bool | None = None,
    tokens: str | None = None,
    preprocessing: str | None = None,
    pretraining_sources: tuple[str, ...] | None = None,
    frame: Frame | None = None,
    side: int | None = None,
    resize: int | None = None,
    grid: int | None = None,
    nifti_axes: NiftiAxes | None = None,
) -> PrecomputedMaps:
    """The maps in the folder ``maps`` as an alignment model.

    Every argument overrides the key of the same name in ``maps/model.json``, which may be missing. ``name`` and ``method`` (the
    saliency method in words) must be said in one of both, and are the name on the leaderboard together; ``map_kind`` (by default "score"), ``mass`` (by default "clip" for
    scores), ``temperature``, ``signed``, ``comparable``, ``tokens``, ``preprocessing`` and ``pretraining_sources`` are those of
    :class:`ModelCard`. ``frame`` with ``side`` and ``resize`` says what part of an image a map covers (:data:`Frame`; by default
    the whole image). Maps must all have the same numbers of rows and columns, unless ``grid`` is given: each is then brought to
    that many cells a side (:func:`..saliency.regrid.regrid`), and a distribution keeps its sum. ``nifti_axes`` says where the axes of NIfTI
    arrays run, by default array[x, y] with x to the right of the image and y down. ``side``, ``resize`` and ``grid`` are at most 4096.

    Of a folder that a run wrote, the card is the run's, with its name, which holds the method already, and so is the geometry, where the run stored it with the maps; otherwise
    ``frame`` must be given. There are no similarities then, as a run keeps none for each pair.

    The index and the sizes of all maps are checked here, the values when they are asked for. The card's ``checkpoint`` is the
    SHA-256 of the pairs and their similarities with the keys and the SHA-256 of their files, whatever those are called.

    Raises :class:`WronglungError` for what is missing, damaged or contradictory; the message names the file and the row.
    """
    given = {key: value for key, value in locals().items() if key != "maps" and value is not None}
    index = read_index(maps)
    of_run = (maps / RUN).is_file() and not (maps / DESCRIPTION).is_file()
    described = _described(maps, given)
    stored = _stored_geometry(maps) if described.frame is None else None
    if described.frame is None and stored is None and of_run:
        raise WronglungError(
            f"{maps}: this run kept no geometry with its maps; say what they cover: frame=image, crop or pad"
        )
    files = MapFiles(maps, described.nifti_axes)
    _check_sizes(files, index, described.grid)
    name = described.name if of_run and name is None else f"{described.name} + {described.method}"
    return PrecomputedMaps(PairTable(maps, index), files, described, name, _digest(files, index), stored)


def _described(maps: Path, given: Mapping[str, Any]) -> Description:
    """What the folder says of its maps, under what is ``given``."""
    said: dict[str, Any] = {}
    if (maps / DESCRIPTION).is_file():
        said = _json_object(maps / DESCRIPTION)
    elif (maps / RUN).is_file():
        card = _json_object(maps / RUN).get("model")
        if not isinstance(card, dict):
            raise WronglungError(f"{maps / RUN}: has no model's card")
        said = {key: value for key, value in card.items() if key in Description.model_fields}
        said["method"] = card.get("saliency_method")
    try:
        return Description.model_validate({**said, **given})
    except ValidationError as error:
        where = f"{maps / DESCRIPTION} and the model's arguments"
        raise WronglungError(f"{where}: {explain(error)}") from error


def _json_object(file: Path) -> dict[str, Any]:
    value = parse_json(read_small(file, _LARGEST), str(file))
    if not isinstance(value, dict):
        raise WronglungError(f"{file}: is not a JSON object")
    return value


def _stored_geometry(maps: Path) -> dict[str, Geometry] | None:
    """The geometry by image id that a run stored in the metadata of its maps, or None."""
    if not (maps / KEPT).is_file():
        return None
    with safe_open(maps / KEPT, framework="pt") as tensors:
        stored = (tensors.metadata() or {}).get("geometry")
    if stored is None:
        return None
    try:
        return {image: Geometry(*numbers) for image, numbers in json.loads(stored).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WronglungError(f"{maps / KEPT}: its geometry cannot be read ({error})") from error


def _check_sizes(files: MapFiles, index: Mapping[Pair, IndexedMap], grid: int | None) -> None:
    """Look at every map's size; raise :class:`WronglungError` where they differ and no common grid is given."""
    seen: dict[tuple[int, int], IndexedMap] = {}
    for one in index.values():
        seen.setdefault(files.shape(one.ref), one)
    if len(seen) > 1 and grid is None:
        (rows, columns), (others_rows, others_columns) = list(seen)[:2]
        first, other = list(seen.values())[:2]
        raise WronglungError(
            f"{files.folder}: maps are of {len(seen)} sizes, such as {first.ref.file} ({first.ref.where}) with {rows} × "
            f"{columns} and {other.ref.file} ({other.ref.where}) with {others_rows} × {others_columns} cells; give "
            f"grid={FRAME} (or what suits them) to bring every map to that many cells a side"
        )


def _digest(files: MapFiles, index: Mapping[Pair, IndexedMap]) -> str:
    contents = {name: files.digest(name) for name in {one.ref.file for one in index.values()}}
    digest = hashlib.sha256()
    for pair, one in sorted(index.items()):
        said = (*pair, contents[one.ref.file], one.ref.key, one.local_similarity, one.global_similarity)
        digest.update(repr(said).encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


class PrecomputedMaps:
    """An alignment model that looks its maps up. Made by :func:`load`."""

    def __init__(
        self,
        table: PairTable[IndexedMap],
        files: MapFiles,
        described: Description,
        name: str,
        checkpoint: str,
        stored: Mapping[str, Geometry] | None = None,
    ) -> None:
        self._table, self._files, self._described, self._stored = table, files, described, stored
        words = "as the run stored it" if stored is not None else described.frame_in_words
        self.card = ModelCard(
            name=name,
            saliency_method=described.method,
            map_kind=described.map_kind,
            signed=described.signed,
            comparable=described.comparable,
            mass=described.mass or ("clip" if described.map_kind == "score" else "sum"),
            temperature=described.temperature,
            tokens=described.tokens,
            checkpoint=checkpoint,
            preprocessing="; ".join(one for one in (described.preprocessing, f"maps cover: {words}") if one),
            pretraining_sources=described.pretraining_sources,
            settings={"method": described.method, "precomputed": True, "grid": described.grid},
        )

    def prepare(self, dataset: Dataset) -> None:
        """Raises :class:`WronglungError` where no map is of an image of the dataset."""
        self._table.prepare(dataset)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Raises :class:`WronglungError` for a pair without a map, and for a map that is damaged or not of its kind."""
        found = self._table.look_up(images, sentences)
        return Alignment(
            torch.stack([self._map(one) for one in found]),
            [self._geometry(image) for image in images],
            similarities([one.local_similarity for one in found]),
            similarities([one.global_similarity for one in found]),
        )

    def _map(self, one: IndexedMap) -> torch.Tensor:
        saliency, grid = self._files.read(one.ref), self._described.grid
        if self._described.map_kind == "score":
            return saliency if grid is None else regrid(saliency, grid)
        total = float(saliency.double().sum())
        if float(saliency.min()) < 0 or total > 1 + ROUNDING:
            raise WronglungError(
                f"{self._files.folder / one.ref.file} ({one.ref.where}): has a least value of {float(saliency.min()):.3g} and a "
                f"sum of {total:.3g}; a distribution is at least 0 and sums to at most 1 (otherwise map_kind is score)"
            )
        if grid is None:
            return saliency
        brought = regrid(saliency, grid)
        return brought * (total / max(float(brought.double().sum()), 1e-30))

    def _geometry(self, image: LoadedImage) -> Geometry:
        """The geometry for the pixels at hand, of what was stated for the image in its original size."""
        original = self._described.geometry(*image.size) if self._stored is None else self._stored[image.id]
        width, height = image.pixels.size
        scale_x, scale_y = original.scale_x * image.factor, original.scale_y * image.factor
        return replace(original, image_width=width, image_height=height, scale_x=scale_x, scale_y=scale_y)
