"""The mass of a map's pixels: how much of it lies in a mask, and how much on either side of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .laterality import Halves

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class PixelMass:
    """Non-negative weights [height, width] of a map's pixels, and their sum; NaN where the map has no mass."""

    weights: Floats
    total: float

    @classmethod
    def of(cls, values: Floats, rule: Literal["sum", "clip", "softmax"], temperature: float = 1.0) -> PixelMass:
        """The mass of pixel values [height, width] by the rule of a model's card, as :func:`.distribution.as_distribution`
        applies it to regions. Pixels of -inf, which the model never saw, have none.

        There is no mass where no pixel has any, nor under ``"sum"`` where a value is negative.
        """
        if rule == "softmax":
            top = float(values.max())
            weights = values - top if math.isfinite(top) else np.full_like(values, -math.inf)
            weights /= temperature
            np.exp(weights, out=weights)
        elif rule == "clip":
            weights = values.clip(min=0)
        else:
            weights = values
            if values.min() < 0:
                weights = np.where(values == -math.inf, 0.0, values)
                if weights.min() < 0:
                    return cls(weights, math.nan)
        return cls(weights, float(weights.sum()) or math.nan)

    def inside(self, pixels: npt.NDArray[np.integer]) -> float:
        """The share of the mass that lies on pixels, given as flat indices [positives]; in [0, 1]."""
        return min(float(self.weights.take(pixels).sum()) / self.total, 1.0)  # NaN, being first, stays

    def balance(self, halves: Halves) -> float:
        """(mass right - mass left) / all mass, in [-1, 1]: -1 is all left, 1 all right. Mass on padding is in neither."""
        left, right = halves.weigh(self.weights)
        return max(min((right - left) / self.total, 1.0), -1.0)
