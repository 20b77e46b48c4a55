"""Coordinates as collections write them."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence

Corners = tuple[float | None, ...] | None
"""x1, y1, x2, y2 as stored, in the frame of the annotations; None where there is no such list."""


def parse_coordinates(text: str) -> Corners:
    """The numbers of a coordinate cell such as "[506, 508, 1380, 2188]", or None where it holds no list of four.

    A JSON or Python literal; what is not a finite number in it is None.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    return tuple(map(_number, values))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def to_number(text: str) -> float | None:
    """The number in a cell, or None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def corners_of_xywh(box: Sequence[float | None] | None) -> Sequence[float | None] | None:
    """x1, y1, x2, y2 of a box (x, y, width, height), as COCO has them; what is incomplete stays so."""
    if box is None or len(box) != 4:
        return box
    x, y, width, height = box
    return [
        x,
        y,
        None if x is None or width is None else x + width,
        None if y is None or height is None else y + height,
    ]
