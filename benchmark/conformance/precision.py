"""Does the model say the same in half precision?"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from ..errors import WronglungError
from .subject import Subject, Verdict, ask, failed, not_shown, relative_difference, verdict

UNRELATED = 0.5
"""Rank correlation of a map and its half-precision copy below which they are not the same map."""
FLAT = 0.05
"""A map whose values spread by less, relative to the largest, is rounded away in half precision."""


def half_precision(subject: Subject) -> Verdict:
    """bfloat16 on the CPU, float16 on a GPU, against the model as it is."""
    if subject.rebuild is None:
        return not_shown("the model's factory takes no dtype")
    reference = subject.ask(subject.images, subject.sentences).saliency.detach()
    dtype = torch.float16 if reference.is_cuda else torch.bfloat16
    name = str(dtype).removeprefix("torch.")
    try:
        model = subject.rebuild(dtype)
        maps = ask(model, subject.images, subject.sentences).saliency.detach()
    except WronglungError as error:
        return not_shown(f"refuses {name}: {error}")
    if maps.shape != reference.shape:
        return failed(f"maps have shape {tuple(maps.shape)} in {name} and {tuple(reference.shape)} otherwise")
    if not bool(torch.isfinite(maps).all()):
        return failed(f"maps are not finite in {name}")
    one, other = (tensor.cpu().double().flatten(1).numpy() for tensor in (reference, maps))
    spread = (one.max(1) - one.min(1)) / np.maximum(np.abs(one).max(1), 1e-30)
    told = spread > FLAT
    off = relative_difference(reference, maps)
    if not told.any():
        return not_shown(f"maps are too flat to rank in {name}; largest relative difference {off:.1e}")
    ranks = [_rank_correlation(a, b) for a, b in zip(one[told], other[told], strict=True)]
    seen = f"{name}: rank correlation {np.mean(ranks):.3f}, largest relative difference {off:.1e}"
    return verdict(float(np.mean(ranks)) >= UNRELATED, seen)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; 0 for a constant map."""
    if np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)
