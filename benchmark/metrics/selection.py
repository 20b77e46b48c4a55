"""Selection accuracy: how often an image is more similar to its own sentence than to another report's."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def win(true: float, other: float) -> float:
    """1 when the true sentence is more similar to the image than the other one, 0 when less, ½ when equally.

    NaN, for undefined, when either similarity is NaN.
    """
    if math.isnan(true) or math.isnan(other):
        return math.nan
    return 0.5 if true == other else float(true > other)


def expected_win(similarities: npt.NDArray[np.floating], own: int, weights: npt.NDArray[np.floating]) -> float:
    """The expectation of :func:`win` over all other sentences, for one image.

    ``similarities`` [sentences] are the image's with each distinct sentence, ``own`` is the index of its true
    sentence, and ``weights`` [sentences], at least 0, say how many eligible instances have each sentence; the
    true sentence's own weight counts instances of other reports with the same words, which tie. In [0, 1]; NaN when
    nothing is eligible or a similarity that counts is NaN.
    """
    true, undefined, total = similarities[own], np.isnan(similarities), weights.sum()
    if total == 0 or math.isnan(true) or (undefined.any() and weights[undefined].any()):
        return math.nan
    # Products, since choosing the weights takes several times as long.
    return float((weights @ (similarities < true) + weights @ (similarities == true) / 2) / total)
