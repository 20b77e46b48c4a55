"""The pointing game (Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016), without its margin."""

import numpy as np

from wronglung.benchmark.metrics.catalogue import Metric


def pointing_game(saliency, mask):
    """The share of the pixels with the highest saliency that lie inside; NaN where there is nothing to hit."""
    return float(mask[saliency == saliency.max()].mean()) if mask.any() else np.nan


POINTING_GAME = Metric(
    name="pointing_game",
    summary="whether the highest pixel lies in the boxes, ties by equal shares",
    higher_is_better=True,
    range=(0.0, 1.0),
    source="Zhang et al., ECCV 2016",
    function=pointing_game,
)
