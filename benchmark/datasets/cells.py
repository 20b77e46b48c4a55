"""What the cells of tables say."""

from __future__ import annotations

import math


def to_number(text: str) -> float | None:
    """The number in a cell, or None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
