"""How far the highest pixel lies from the boxes: a miss into the other lung counts more than one by a pixel."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from wronglung.benchmark.metrics.catalogue import Metric


def peak_distance(saliency, mask):
    """The distance from the highest pixel to the nearest one inside, as a share of the diagonal; NaN without any inside."""
    if not mask.any():
        return np.nan
    away = distance_transform_edt(~mask) / np.hypot(*mask.shape)
    return float(away[saliency == saliency.max()].mean())


PEAK_DISTANCE = Metric(
    name="peak_distance",
    summary="distance from the highest pixel to the boxes as a share of the diagonal, ties averaged",
    higher_is_better=False,
    range=(0.0, 1.0),
    source="this example",
    function=peak_distance,
)
