"""From one saliency map to the values of its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from ..tasks.schema import Protocol
from .frames import ScoringFrame, scoring_frame
from .geometry import Geometry
from .instances import Box
from .metrics.distribution import EPSILON, as_distribution, entropy, symmetric_kl
from .metrics.ranking import Ranking, rank, score
from .protocol import ModelCard

NOT_APPLICABLE = "not_applicable"
OUTSIDE_WINDOW = "boxes_outside_visible_window"
NO_POSITIVE = "no_positive_pixel"
NO_NEGATIVE = "no_negative_pixel"


@dataclass(frozen=True)
class ScoredBoxes:
    """The localization metrics of a map against one set of boxes; NaN where undefined, with the reason."""

    values: Mapping[str, float]
    undefined: str | None


class ScoredMap:
    """One map, ranked at most once for all the box sets that it is scored against."""

    def __init__(
        self,
        saliency: torch.Tensor,
        geometry: Geometry,
        card: ModelCard,
        protocol: Protocol,
        no_attention_weight: float | None,
    ) -> None:
        """``saliency`` is [rows, columns]; ``no_attention_weight`` the mass that the model put on no region."""
        self.saliency = saliency.detach().float()
        self.geometry = geometry
        self.protocol = protocol
        self.no_attention_weight = no_attention_weight
        self._released = protocol.definitions == "released"
        self._mass = (
            self.saliency[None].cpu().double().flatten(1)
            if self._released
            else as_distribution(self.saliency[None], card.mass, card.temperature)
        )
        self._ranking: Ranking | None = None
        self._scored: dict[tuple[Box, ...], ScoredBoxes] = {}

    @property
    def entropy(self) -> float:
        """Entropy of the map in nats, with the no-attention weight (if the model has one) as one more region.

        The released definition takes the map as it is and always puts 1 − sum in front, be it rounding noise.
        """
        if self._released:
            return float(entropy(self._mass, 1 - self._mass.sum(1)))
        if self.no_attention_weight is None:
            return float(entropy(self._mass))
        weight = torch.tensor([self.no_attention_weight], dtype=torch.float64)
        return float(entropy(self._mass * (1 - weight), weight))

    def kl(self, other: ScoredMap) -> float:
        """Symmetric KL divergence from another map of the same image, in nats; NaN for maps of another size.

        The released definition takes the maps as they are; the exact one compares distributions with a floor.
        """
        if self.saliency.shape != other.saliency.shape:
            return math.nan
        floor = None if self._released else EPSILON
        return float(symmetric_kl(self._mass, other._mass, floor))

    def against(self, boxes: tuple[Box, ...]) -> ScoredBoxes:
        """Score the map against the union of boxes (original pixels)."""
        if boxes not in self._scored:
            self._scored[boxes] = self._score(boxes)
        return self._scored[boxes]

    def _score(self, boxes: tuple[Box, ...]) -> ScoredBoxes:
        frame = scoring_frame(self.geometry, self.protocol.frame, self.protocol.resolution)
        mask = box_mask(frame, boxes, self.protocol.box_edges == "inclusive")
        if self._ranking is None:
            self._ranking = rank(frame.sample(self.saliency, self.protocol.upsampling).flatten())
        values = score(self._ranking, mask.reshape(-1), self.protocol.definitions)
        positives = int(mask.sum())
        reason = None
        if positives == 0:
            seen = any(self.geometry.sees(box) for box in boxes)
            reason = NO_POSITIVE if seen else OUTSIDE_WINDOW
        elif positives == mask.size:
            reason = NO_NEGATIVE
        return ScoredBoxes(values, reason)


@lru_cache(maxsize=256)
def box_mask(frame: ScoringFrame, boxes: tuple[Box, ...], inclusive: bool) -> npt.NDArray[np.bool_]:
    """The union of boxes on a scoring grid; a report's maps share their masks."""
    return frame.mask(boxes, inclusive)
