"""Measures of a saliency map as a probability distribution over its regions (the grid cells of the map itself).

Everything is computed on the host in float64, one row per map, and a row depends on nothing but its map. Entropies
and divergences are in nats. NaN is undefined.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import entr

Rows: TypeAlias = npt.NDArray[np.float64]

EPSILON = 1e-12
"""The least probability of a region in :func:`symmetric_kl`."""


def as_distribution(
    saliency: torch.Tensor, mass: Literal["sum", "clip", "softmax"] = "sum", temperature: float = 1.0
) -> torch.Tensor:
    """Maps [batch, rows, columns] as distributions over their regions: float64 [batch, rows · columns], on the host.

    ``mass`` and ``temperature`` are those of the model's card: ``"sum"`` divides a map by its sum, ``"clip"`` sets
    negative values to zero first, ``"softmax"`` is the softmax of the map over ``temperature``. A map without mass,
    and under ``"sum"`` one with a negative value, gives a row of NaN. Raises ``ValueError`` for a temperature that
    is not positive.
    """
    values = saliency.detach().cpu().double().flatten(1).numpy()
    return torch.from_numpy(masses(values, mass, temperature))


def masses(values: Rows, mass: Literal["sum", "clip", "softmax"] = "sum", temperature: float = 1.0) -> Rows:
    """:func:`as_distribution` for rows of an array, float64 [batch, regions]."""
    if mass == "softmax":
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        powers: Rows = np.exp((values - values.max(1, keepdims=True)) / temperature)
        powers /= powers.sum(1, keepdims=True)
        return powers
    if mass == "clip":
        values = values.clip(min=0)
    total = values.sum(1, keepdims=True)
    if values.min() < 0:
        total[(values < 0).any(1)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Rows = values / total  # 0 / 0 is NaN
        return shares


def entropy(p: torch.Tensor, no_attention_weight: torch.Tensor | None = None) -> torch.Tensor:
    """The entropy -Σ p ln p of float64 rows [batch, regions], with 0 ln 0 = 0: [batch].

    ``no_attention_weight`` [batch], where the model has one, is put in front of the row as one more region; the row
    then holds the remaining mass. Nothing is renormalised. A weight that was computed as 1 - Σ p and came out
    negative, which is rounding noise, counts as 0.
    """
    rows = p.numpy()
    if no_attention_weight is not None:
        rows = np.concatenate((no_attention_weight[:, None].to(p).numpy(), rows), axis=1)
    return torch.from_numpy(entropies(rows))


def entropies(p: Rows) -> Rows:
    """:func:`entropy` for rows of an array: [batch]."""
    sums: Rows = entr(p.clip(min=0)).sum(1)
    return sums


def focus(in_nats: float, regions: int) -> float:
    """1 - exp(entropy) / regions, in [0, 1), of a map of ``in_nats`` over ``regions`` (with the no-attention weight, if any).

    exp(entropy) is the effective number of regions that a map lies on; a uniform map has focus 0. NaN stays NaN.
    """
    share = math.exp(in_nats) / regions
    return share if math.isnan(share) else 1 - min(share, 1.0)


def symmetric_kl(p: torch.Tensor, q: torch.Tensor, floor: float | None = EPSILON) -> torch.Tensor:
    """½ (KL(p ‖ q) + KL(q ‖ p)) = ½ Σ (p - q) (ln p - ln q) of float64 rows [batch, regions]: [batch].

    Probabilities below ``floor`` are raised to it and the rows renormalised, which bounds the divergence: maps with
    disjoint supports are about -ln ``floor`` apart (27.6 nats). ``floor=None`` takes the rows as they are, as the
    released code of "That's the Wrong Lung!" does (its maps may sum to less than 1); there, regions at which one row
    is 0 and the other is not make the divergence infinite.
    """
    return torch.from_numpy(divergences(p.numpy(), q.numpy(), floor))


def divergences(p: Rows, q: Rows, floor: float | None = EPSILON) -> Rows:
    """:func:`symmetric_kl` for rows of arrays: [batch]."""
    if floor is not None:
        p, q = p.clip(min=floor), q.clip(min=floor)
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = (p - q) * (np.log(p) - np.log(q))
    if floor is None:
        terms[(p == 0) & (q == 0)] = 0
    sums: Rows = terms.sum(1) / 2
    return sums
