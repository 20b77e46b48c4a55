"""A metric's card: what its figure means. Plain data: nothing heavy is imported to list metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Function: TypeAlias = "Callable[[npt.NDArray[np.float32], npt.NDArray[np.bool_]], float]"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric's figure means.

    ``higher_is_better`` is None for diagnostics, which nothing is ranked by. ``range`` holds the lowest and highest
    value there can be. ``source`` is where the definition comes from.

    ``function`` is for metrics of other packages, and None for those that the harness computes itself. It is given one
    map on the scoring grid, float32 [rows, columns], read-only, -inf where the model saw nothing, and the pixels that the
    sentence is about, bool [rows, columns]; it returns a number within ``range``, or NaN where the figure is undefined.

    ``ties`` says what becomes of tied pixels and ``degenerate`` what a constant map, a target without pixels and a target
    that fills the image give; empty where there is nothing to say. ``margin`` is the smallest change that counts, in the
    metric's own units, or None where no change is judged. ``headline`` marks the few measures to read first.
    """

    name: str
    summary: str
    higher_is_better: bool | None
    range: tuple[float, float]
    source: str
    function: Function | None = None
    ties: str = ""
    degenerate: str = ""
    margin: float | None = None
    headline: bool = False

    @property
    def percent(self) -> bool:
        """Whether figures are shown times 100, as the field shows shares; those of other packages are shown as they are."""
        return self.function is None and self.range[1] == 1.0 and self.range[0] in (0.0, -inf)
