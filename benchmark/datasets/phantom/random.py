"""Random numbers that are the same on every machine and with every version of NumPy.

Only the raw 64-bit words of a bit generator are used, whose stream NumPy promises to keep; the distributions of its
``Generator`` may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_T = TypeVar("_T")
_BLOCK = 128


def raw_words(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """The first ``count`` words, uint64, of the Philox stream with the 128-bit key (``seed``, ``stream``)."""
    return _philox(seed, stream).random_raw(count)


class Draws:
    """Scalars drawn one after the other from the stream with the key (``seed``, ``stream``)."""

    def __init__(self, seed: int, stream: int) -> None:
        self._source = _philox(seed, stream)
        self._words: list[int] = []

    def word(self) -> int:
        """The next 64-bit word."""
        if not self._words:
            self._words = self._source.random_raw(_BLOCK).tolist()[::-1]
        return self._words.pop()

    def unit(self) -> float:
        """Uniform in [0, 1), a multiple of 2⁻⁵³."""
        return (self.word() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def index(self, count: int) -> int:
        """Uniform in 0, ..., count - 1 (within 2⁻³² · count)."""
        return ((self.word() >> 32) * count) >> 32

    def choice(self, options: Sequence[_T]) -> _T:
        """One of the options, each as likely."""
        return options[self.index(len(options))]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, with probability proportional to its weight."""
        total = 0.0
        for weight in weights:
            total += weight
        left = self.unit() * total
        for at, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return at
        return len(weights) - 1

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """The items in random order (Fisher and Yates)."""
        order = list(items)
        for at in range(len(order) - 1, 0, -1):
            other = self.index(at + 1)
            order[at], order[other] = order[other], order[at]
        return order


def _philox(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
