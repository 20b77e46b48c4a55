"""From one saliency map to the values of its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from ..tasks.schema import Protocol, SuiteSpec
from .errors import WronglungError
from .frames import ScoringFrame, scoring_frame
from .geometry import Geometry
from .instances import Box
from .measures import GridMap, Target, halves, measures
from .metrics.catalogue import Metric, find_metric
from .metrics.codes import MOST_MASKS
from .metrics.distribution import EPSILON, divergences, entropies, focus, masses
from .metrics.ranking import rank, score
from .protocol import ModelCard

NOT_APPLICABLE = "not_applicable"
OUTSIDE_WINDOW = "boxes_outside_visible_window"
NO_POSITIVE = "no_positive_pixel"
NO_NEGATIVE = "no_negative_pixel"
NO_MASS = "map_without_mass"
NO_DIVERGENCE = "divergence_not_finite"
OF_A_METRIC = {"cnr": "contrast_not_defined", "laterality_index": "target_not_one_sided"}
"""Why a metric is undefined where nothing else is."""


@dataclass(frozen=True)
class ScoredBoxes:
    """The localization metrics of a map against one set of boxes; NaN where undefined, with the reason."""

    values: Mapping[str, float]
    undefined: str | None


@dataclass(frozen=True)
class ScoredMap:
    """All that is kept of a map: its scores by box set, its entropy in nats, its focus, and its mass over the regions.

    ``mass`` is float64 [1, regions], or None where no divergence will be asked for.
    """

    by_boxes: Mapping[tuple[Box, ...], ScoredBoxes]
    entropy: float
    focus: float
    no_attention_weight: float | None
    mass: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Wanted:
    """The metrics that a suite asks for, by name, and those of them that bring their own function."""

    names: frozenset[str] = frozenset()
    own: tuple[Metric, ...] = ()

    @classmethod
    def by(cls, suite: SuiteSpec) -> Wanted:
        """Those that it only correlates are among them."""
        names = {*suite.metrics, *suite.correlations} - {"is_abnormal"}
        found = map(find_metric, sorted(names))
        return cls(frozenset(names), tuple(metric for metric in found if metric.function is not None))


def score_map(
    saliency: torch.Tensor,
    geometry: Geometry,
    card: ModelCard,
    protocol: Protocol,
    no_attention_weight: float | None,
    box_sets: Iterable[tuple[Box, ...]],
    keep_mass: bool,
    wanted: Wanted = Wanted(),
) -> ScoredMap:
    """Score a map [rows, columns] against sets of boxes (original pixels, each set meaning its union).

    The map is ranked once for all of them, and not kept: it may be a view of a buffer that the model will reuse.
    ``no_attention_weight`` is the mass that the model put on no region, or None where it has no such thing. What does not
    follow from the ranking is computed only where it is ``wanted``.

    Raises :class:`WronglungError` for a metric's own function that fails or returns what is no figure.
    """
    saliency = saliency.detach().float().cpu()
    frame = scoring_frame(geometry, protocol.frame, protocol.resolution)
    pixels = frame.pixels(saliency.numpy(), protocol.upsampling)
    targets = [
        (boxes, _target(frame, boxes, protocol.box_edges == "inclusive", protocol.targets == "masks"))
        for boxes in dict.fromkeys(box_sets)
    ]
    by_boxes: dict[tuple[Box, ...], ScoredBoxes] = {}
    for first in range(0, len(targets), MOST_MASKS):
        by_boxes |= _scored(pixels, dict(targets[first : first + MOST_MASKS]), frame, card, protocol, wanted)
    values = saliency.numpy().astype(np.float64).reshape(1, -1)
    if protocol.definitions == "released" and card.map_kind == "distribution":
        # As in the authors' code the map is taken as it is, and 1 - sum put in front, be it rounding noise.
        mass = values
        regions, weight = mass, 1 - float(mass.sum())
    else:
        mass = masses(values, card.mass, card.temperature)
        weight = no_attention_weight or 0.0
        regions = mass * (1 - weight)
    in_nats = float(entropies(np.concatenate(([[weight]], regions), axis=1))[0])
    focused = focus(in_nats, values.size + (no_attention_weight is not None))
    return ScoredMap(by_boxes, in_nats, focused, no_attention_weight, mass if keep_mass else None)


def _scored(
    pixels: npt.NDArray[np.float32],
    targets: Mapping[tuple[Box, ...], Target],
    frame: ScoringFrame,
    card: ModelCard,
    protocol: Protocol,
    wanted: Wanted,
) -> dict[tuple[Box, ...], ScoredBoxes]:
    """The scores of a map on the scoring grid, ranked once for all targets."""
    ranking = rank(pixels.reshape(-1), [target.mask.reshape(-1) for target in targets.values()])
    grid_map = GridMap(pixels, ranking, halves(frame), card)
    further = measures(grid_map, wanted.names)
    by_boxes = {}
    scores = score(ranking, protocol.definitions)
    for (boxes, target), hits, values in zip(targets.items(), ranking.masks, scores, strict=True):
        for measure in further:
            values |= measure(target, hits)
        values |= {metric.name: _figure(metric, pixels, target.mask) for metric in wanted.own}
        by_boxes[boxes] = ScoredBoxes(values, _reason(target, boxes, frame.geometry))
    return by_boxes


def divergence(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], protocol: Protocol) -> float:
    """Symmetric KL divergence in nats of two maps' masses; NaN where it is not finite, or the maps differ in size.

    The released definition takes the masses as they are; the exact one compares distributions with a floor.
    """
    if one.shape != other.shape:
        return math.nan
    value = float(divergences(one, other, None if protocol.definitions == "released" else EPSILON)[0])
    return value if math.isfinite(value) else math.nan


def _figure(metric: Metric, pixels: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    assert metric.function is not None
    given = pixels.view(), mask.view()
    for array in given:
        array.flags.writeable = False
    try:
        value = float(metric.function(*given))
    except Exception as error:
        raise WronglungError(f"metric {metric.name!r} failed: {type(error).__name__}: {error}") from error
    low, high = metric.range
    if not math.isnan(value) and not (low <= value <= high and math.isfinite(value)):
        raise WronglungError(
            f"metric {metric.name!r} gave {value}; it must be finite and lie in [{low}, {high}], or be NaN where undefined"
        )
    return value


def _reason(target: Target, boxes: tuple[Box, ...], geometry: Geometry) -> str | None:
    positives = len(target.pixels)
    if positives == 0:
        return NO_POSITIVE if any(geometry.sees(box) for box in boxes) else OUTSIDE_WINDOW
    return NO_NEGATIVE if positives == target.mask.size else None


@lru_cache(maxsize=256)
def _target(frame: ScoringFrame, boxes: tuple[Box, ...], inclusive: bool, segmented: bool) -> Target:
    """The union of boxes on a scoring grid; a report's maps share their targets."""
    return Target(frame.mask(boxes, inclusive, segmented=segmented), halves(frame))
