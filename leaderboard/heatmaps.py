"""Pictures of what models look at: a film per model and sentence, with the attention over it and the boxes drawn.

All pictures have one scale: a region's share of the map relative to an even spread. Up to 1 ×, the film is as it is;
above, it turns yellow, then red, up to :data:`STRONGEST`. A flat map therefore leaves the film as it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..benchmark.datasets.overlays import draw_box
from ..benchmark.frames import scoring_frame
from ..benchmark.instances import Box
from .examples import TASKS, Example, Heat

PANEL = 176
"""Longer side of a film, in pixels."""
STRONGEST = 4.0
"""Times an even spread: where the scale ends."""
HEADINGS = {
    "original": "true sentence",
    "swap_left_right": "left and right swapped",
    "random_sentences": "random sentence",
}
_GAP, _TEXT, _SMALL, _LINE = 10, 14, 12, 17
COLOURS = np.array([(255, 220, 0), (255, 165, 0), (250, 90, 20), (200, 0, 30)], dtype=np.float64)
"""Red, green and blue, evenly spaced from an even spread to :data:`STRONGEST`."""
OPACITY, RISE = 0.8, 0.6
"""Opacity at :data:`STRONGEST`, and the power with which it rises to there."""


@dataclass(frozen=True)
class Row:
    """A model's maps for one example, by task, and its AUROC against the boxes, by task, where there is one."""

    model: str
    heats: Mapping[str, Heat]
    auroc: Mapping[str, float | None]


def sheet(example: Example, rows: Sequence[Row]) -> Image.Image:
    """One picture: a row a model, a column a sentence, in the order of ``rows`` and :data:`.examples.TASKS`.

    Above are the sentences, and the film with the boxes that belong to the true one; they are drawn on every film.
    RGB. Raises ``OSError`` for a film that cannot be decoded.
    """
    instance = example.instance
    film = _panel(instance.image.load().convert("RGB"))
    width, height = film.size
    column = max(width, PANEL)
    left = [_GAP + at * (column + _GAP) for at in range(1 + len(TASKS))]
    top = height + 3 * _GAP + _LINE
    size = (left[-1] + column + _GAP, top + len(rows) * (height + _LINE + _GAP) + 4 * _LINE + _GAP)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    _text(pen, (left[0], _GAP), ["film and boxes"], _TEXT)
    canvas.paste(with_boxes(film, instance.boxes, instance.image.width, named=True), (left[0], _GAP + _LINE + 2))
    for task, x in zip(TASKS, left[1:], strict=True):
        _text(pen, (x, _GAP), [HEADINGS[task]], _TEXT)
        lines = textwrap.wrap(f"“{' '.join(example.sentences[task].split())}”", 23)
        _text(pen, (x, _GAP + _LINE + 6), _clipped(lines, height // _LINE), _TEXT, fill="#1a4a8a")
    for at, row in enumerate(rows):
        y = top + at * (height + _LINE + _GAP)
        pen.line((_GAP, y - _GAP // 2, size[0] - _GAP, y - _GAP // 2), fill="#cccccc")
        _text(pen, (left[0], y + height // 2 - _LINE), textwrap.wrap(row.model, 20), _TEXT)
        for task, x in zip(TASKS, left[1:], strict=True):
            lit = tinted(film, density(row.heats[task], film.width, film.height))
            canvas.paste(with_boxes(lit, instance.boxes, instance.image.width), (x, y))
            value = row.auroc.get(task)
            note = "" if value is None else f"AUROC {value * 100:.0f}"
            _text(pen, (x, y + height + 2), [note], _SMALL, fill="#333333")
    _legend(canvas, (_GAP, size[1] - 4 * _LINE), instance.id)
    return canvas


def density(heat: Heat, width: int, height: int) -> npt.NDArray[np.float64]:
    """A map at the pixels of a film drawn in ``width`` × ``height``, relative to an even spread: [height, width].

    Interpolated as in scoring; 0 where the model never saw the film.
    """
    relative = (heat.mass * heat.mass.numel()).float()
    frame = scoring_frame(heat.geometry, "image", max(width, height))
    values = frame.sample(relative, "bilinear").double().numpy()
    values[np.isneginf(values)] = 0.0
    if values.shape != (height, width):
        raise ValueError(f"a film of {width} × {height} has a map of {values.shape[::-1]}")
    return values


def tinted(film: Image.Image, relative: npt.NDArray[np.float64]) -> Image.Image:
    """The film (RGB) under colours: none up to 1, opaque at :data:`STRONGEST` and beyond."""
    strength = ((relative - 1) / (STRONGEST - 1)).clip(0, 1)
    opacity = (strength**RISE * OPACITY)[..., None]
    mixed = np.asarray(film, dtype=np.float64) * (1 - opacity) + _colours(strength) * opacity
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def with_boxes(film: Image.Image, boxes: Sequence[Box], original_width: int, *, named: bool = False) -> Image.Image:
    """A copy of the film, which may be enlarged, with boxes in original pixels drawn on it, and their names."""
    drawn = film.copy()
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(_SMALL)
    for box in boxes:
        draw_box(pen, box, film.width / original_width, font, named=named)
    return drawn


def _panel(film: Image.Image) -> Image.Image:
    scale = PANEL / max(film.size)
    # As a scoring frame of this resolution rounds its shorter side.
    width, height = (max(1, round(side * PANEL / max(film.size))) for side in film.size)
    return film.resize((width, height), Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX)


def _colours(strength: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    stops = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(strength, stops, COLOURS[:, channel]) for channel in range(3)], axis=-1)


def _legend(canvas: Image.Image, at: tuple[int, int], identity: str) -> None:
    pen = ImageDraw.Draw(canvas)
    x, y = at
    bar = Image.new("RGB", (PANEL, _LINE - 3), (96, 96, 96))
    ramp = np.tile(np.linspace(0, STRONGEST, PANEL), (_LINE - 3, 1))
    canvas.paste(tinted(bar, ramp), (x, y))
    for value in range(int(STRONGEST) + 1):
        label = str(value) if value < STRONGEST else f"{value} and more"
        place = x + round(value / STRONGEST * PANEL)
        pen.line((place, y + _LINE - 3, place, y + _LINE), fill="black")
        _text(pen, (place if value == 0 else place - 4, y + _LINE), [label], _SMALL)
    note = "times an even spread of attention; one scale for all"
    _text(pen, (x + PANEL + 2 * _GAP, y), [note], _SMALL)
    _text(
        pen,
        (x, y + 2 * _LINE),
        ["boxes: those of the true sentence; blue the patient's right, orange the left"],
        _SMALL,
    )
    _text(pen, (x, y + 3 * _LINE - 2), [f"AUROC against these boxes, times 100 · {identity}"], _SMALL, fill="#777777")


def _text(pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], size: int, fill: str = "black") -> None:
    font = ImageFont.load_default(size)
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + number * (size + 3)), line, fill=fill, font=font)


def _clipped(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"]
