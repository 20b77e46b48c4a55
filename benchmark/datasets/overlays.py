"""Pictures of instances: the image with its boxes, and the sentence below."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..instances import Box, Instance
from ..masks import Mask

_WIDTH, _MAX_HEIGHT = 512, 768  # of the drawn image, in pixels
_MARGIN, _TEXT, _LINE = 8, 14, 18
_TINT = 90  # of 255: how much of its colour a mask puts over the film
_RIGHT, _LEFT, _OTHER = "#4aa3ff", "#ff9f1c", "#7bd957"  # blue and orange stay apart for colour-blind readers


def draw(instances: Sequence[Instance], folder: Path) -> tuple[Path, ...]:
    """Write one PNG an instance into an existing folder; returns the files in order.

    Boxes of the patient's right are blue, of the left orange, others green; each carries its name, and a mask a tint of the same colour. Files are named by
    position and instance id. An image that cannot be decoded is left out. Raises ``OSError`` when a file cannot be
    written.
    """
    digits = len(str(len(instances)))
    written = []
    for at, instance in enumerate(instances, start=1):
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", instance.id)[:100]
        file = folder / f"{at:0{digits}d}_{safe}.png"
        try:
            sheet = picture(instance)
        except OSError:
            continue
        sheet.save(file)
        written.append(file)
    return tuple(written)


def picture(instance: Instance) -> Image.Image:
    """An instance as an RGB image of 528 pixels width: its film at most 512 × 768, the sentence and its id below."""
    film = instance.image.load().convert("RGB")
    scale = min(_WIDTH / film.width, _MAX_HEIGHT / film.height)
    film = film.resize(
        (max(1, round(film.width * scale)), max(1, round(film.height * scale))), Image.Resampling.BILINEAR
    )
    font = ImageFont.load_default(_TEXT)
    lines = textwrap.wrap(" ".join(_drawable(instance.sentence).split()), 70) or [""]
    lines += textwrap.wrap(f"[{instance.id}]", 70)
    size = (_WIDTH + 2 * _MARGIN, film.height + 3 * _MARGIN + _LINE * len(lines))
    sheet = Image.new("RGB", size, "white")
    for box in instance.boxes:
        if box.mask is not None:
            film = _tinted(film, box.mask, _colour(box.name))
    sheet.paste(film, (_MARGIN, _MARGIN))
    pen = ImageDraw.Draw(sheet)
    for box in instance.boxes:
        draw_box(pen, box, scale, font, _MARGIN)
    for at, line in enumerate(lines):
        pen.text((_MARGIN, film.height + 2 * _MARGIN + _LINE * at), line, fill="black", font=font)
    return sheet


def _drawable(text: str) -> str:
    """The text without accents, which Pillow's own font does not have."""
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def _tinted(film: Image.Image, mask: Mask, colour: str) -> Image.Image:
    shape = Image.fromarray(mask.pixels().astype(np.uint8) * _TINT).resize(film.size, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", film.size, colour), film, shape)


def _colour(name: str) -> str:
    return _RIGHT if name.startswith("right ") else _LEFT if name.startswith("left ") else _OTHER


def draw_box(
    pen: ImageDraw.ImageDraw,
    box: Box,
    scale: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    margin: int = 0,
    *,
    named: bool = True,
) -> None:
    """Draw a box, given in original pixels, on a film enlarged by ``scale`` whose corner is at (margin, margin)."""
    colour = _colour(box.name)
    x1, y1, x2, y2 = (round(corner * scale) + margin for corner in (box.x1, box.y1, box.x2, box.y2))
    # The outline lies on the outermost pixels of the box.
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=2)
    if box.name and named:
        name = _drawable(box.name)
        # Beside a box at the right edge the name moves to the left, so that all of it is on the film.
        x = max(margin, min(x1 + 4, margin + _WIDTH - 4 - round(pen.textlength(name, font=font))))
        place = pen.textbbox((x, y1 + 3), name, font=font)
        pen.rectangle((place[0] - 2, place[1] - 1, place[2] + 2, place[3] + 1), fill="black")
        pen.text((x, y1 + 3), name, fill=colour, font=font)
