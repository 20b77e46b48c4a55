"""Boxes of any detector or grounding model, from a file, as a model: the catalogue's ``box-file``.

A ``.jsonl`` file has one such object a line, a ``.json`` file a list of them::

    {"image_id": "film-1", "sentence": "There is opacity in the left lung.",
     "boxes": [[12, 30.5, 90, 121]], "scores": [0.8]}

Boxes are (x1, y1, x2, y2) in edge coordinates of the original image's pixels. ``scores`` may be left out: each box then has 1.
``local_similarity`` and ``global_similarity`` may be given, for all pairs or for none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from ...benchmark.errors import WronglungError, explain
from ...benchmark.geometry import Geometry
from ...benchmark.instances import Dataset
from ...benchmark.protocol import Alignment, LoadedImage, ModelCard
from ..functions import FRAME
from ..saliency.boxes import raster_max
from .map_files import MAX_SIDE
from .pair_table import Pair, PairTable, check_all_or_none, sentence_digest, similarities

_Score = Annotated[float, Field(ge=torch.finfo(torch.float32).min, le=torch.finfo(torch.float32).max)]
"""A number of a map."""


class Boxes(BaseModel):
    """One pair's boxes as they are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str = Field(min_length=1)
    sentence: str
    boxes: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], ...]
    scores: tuple[_Score, ...] | None = None
    local_similarity: FiniteFloat | None = None
    global_similarity: FiniteFloat | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Boxes:
        if self.scores is not None and len(self.scores) != len(self.boxes):
            raise ValueError(f"{len(self.boxes)} boxes and {len(self.scores)} scores")
        for x1, y1, x2, y2 in self.boxes:
            if not (x1 < x2 and y1 < y2):
                raise ValueError(f"box {[x1, y1, x2, y2]} is not [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
        return self

    @property
    def pair(self) -> Pair:
        return self.image_id, sentence_digest(self.sentence)


def boxes(
    file: Path,
    name: str = "box-file",
    method: str = "boxes",
    threshold: float = 0.0,
    grid: int = FRAME,
    preprocessing: str = "",
    pretraining_sources: tuple[str, ...] = (),
) -> BoxFile:
    """The boxes in a ``.json`` or ``.jsonl`` file as an alignment model.

    A map has ``grid`` × ``grid`` cells (at most 4096 a side) over the whole image, and each cell the largest score above ``threshold`` of the boxes that
    touch it, else 0 (:func:`..saliency.boxes.raster_max`). ``name`` and ``method`` (where the boxes come from) are the name on the
    leaderboard together; the card's ``checkpoint`` is the SHA-256 of the file.

    Raises :class:`WronglungError`, with file and line or record, for another kind of file, what cannot be read, an unknown key, a box that is not
    [x1, y1, x2, y2], scores that do not fit, a pair that is there twice, and similarities given for some pairs only.
    """
    if not 1 <= grid <= MAX_SIDE:
        raise WronglungError(f"grid={grid}: must be from 1 to {MAX_SIDE}")
    if file.suffix not in (".json", ".jsonl"):
        raise WronglungError(f"{file}: must be called .json (a list of records) or .jsonl (a record a line)")
    if file.exists() and not file.is_file():
        raise WronglungError(f"{file}: is not a regular file")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WronglungError(f"{file}: cannot be read: {error.strerror or error}") from error
    table: dict[Pair, Boxes] = {}
    places: dict[str, Boxes] = {}
    for where, value in _records(file, content):
        try:
            record = Boxes.model_validate(value)
        except ValidationError as error:
            raise WronglungError(f"{file}: {where}: {explain(error, 'record')}") from error
        if min(record.scores or [0.0]) < 0 <= threshold:
            raise WronglungError(
                f"{file}: {where}: has scores below 0, which would not show; give probabilities (the sigmoid of logits)"
            )
        if record.pair in table:
            raise WronglungError(f"{file}: {where}: image {record.image_id!r} and its sentence are there before")
        table[record.pair] = places[where] = record
    if not table:
        raise WronglungError(f"{file}: holds no boxes of any pair")
    corners = [corner for one in table.values() for box in one.boxes for corner in box]
    if corners and max(corners) <= 1:
        raise WronglungError(f"{file}: no box reaches beyond 1; boxes are in pixels of the image, not in shares of it")
    for what in ("local_similarity", "global_similarity"):
        check_all_or_none({where: getattr(one, what) for where, one in places.items()}, what, file)
    scored = any(one.scores is not None for one in table.values())
    card = ModelCard(
        name=f"{name} + {method}",
        saliency_method=f"{method}, largest score above {threshold:g} on each cell"
        if scored
        else f"{method}, their union",
        map_kind="score",
        signed=threshold < 0,
        mass="clip",
        checkpoint=hashlib.sha256(content).hexdigest(),
        preprocessing="; ".join(one for one in (preprocessing, "maps cover: whole image") if one),
        pretraining_sources=pretraining_sources,
        settings={"method": method, "threshold": threshold, "grid": grid},
    )
    return BoxFile(PairTable(file, table), card, threshold, grid)


def _records(file: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WronglungError(f"{file}: is not UTF-8 ({error})") from error
    if file.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _parsed(line, file, number)
        return
    values = _parsed(text, file)
    if not isinstance(values, list):
        raise WronglungError(f"{file}: is not a list of records")
    for number, value in enumerate(values):
        yield f"record {number}", value


def _parsed(text: str, file: Path, line: int | None = None) -> Any:
    """The value of a file, or of one line of it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if line is None:
            raise WronglungError(f"{file}: cannot be read as JSON ({error})") from error
        # The decoder counts lines from the text that it was given.
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise WronglungError(f"{file}: line {line}: cannot be read as JSON ({reason})") from error


class BoxFile:
    """An alignment model that looks boxes up and draws them. Made by :func:`boxes`."""

    def __init__(self, table: PairTable[Boxes], card: ModelCard, threshold: float, grid: int) -> None:
        self.card = card
        self._table, self._threshold, self._grid = table, threshold, grid

    def prepare(self, dataset: Dataset) -> None:
        """Raises :class:`WronglungError` where no boxes are of an image of the dataset."""
        self._table.prepare(dataset)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Raises :class:`WronglungError` for a pair that the file does not hold; one that has no box gets a map of zeros."""
        found = self._table.look_up(images, sentences)
        return Alignment(
            torch.stack([self._map(image, one) for image, one in zip(images, found, strict=True)]),
            [Geometry.squash(*image.pixels.size, FRAME, FRAME) for image in images],
            similarities([one.local_similarity for one in found]),
            similarities([one.global_similarity for one in found]),
        )

    def _map(self, image: LoadedImage, one: Boxes) -> torch.Tensor:
        # Multiplied before it is divided: an edge that falls on a cell's stays there.
        size = torch.tensor(image.size * 2, dtype=torch.float64)
        corners = torch.tensor(one.boxes, dtype=torch.float64).reshape(-1, 4) * self._grid / size
        scores = torch.ones(len(corners)) if one.scores is None else torch.tensor(one.scores, dtype=torch.float64)
        return raster_max(corners, scores, self._grid, self._grid, self._threshold)
