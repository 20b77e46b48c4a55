"""Overlap above fixed thresholds, against loops over the thresholds and against scikit-learn."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from wronglung.benchmark.metrics.ranking import rank
from wronglung.benchmark.metrics.thresholds import THRESHOLDS, cuts, overlaps

Scale = Literal["minmax", "clamp"]
Pixels = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
SCALES: list[Scale] = ["minmax", "clamp"]


def figures(pixels: Pixels, mask: BoolArray, scale: Scale) -> tuple[float, float]:
    ranking = rank(torch.from_numpy(pixels), [mask])
    return overlaps(cuts(ranking, scale), ranking.masks[0], len(pixels))


def naive(pixels: Pixels, mask: BoolArray, scale: Scale) -> tuple[float, float]:
    if not mask.any():
        return math.nan, math.nan
    values = pixels.astype(np.float64)
    seen = values[np.isfinite(values)]
    if scale == "clamp":
        chosen = [values.clip(min=0) > t for t in THRESHOLDS]
    elif not seen.size or seen.min() == seen.max():
        chosen = [np.zeros(len(values), np.bool_) for _ in THRESHOLDS]
    else:
        chosen = [values > seen.min() + t * (seen.max() - seen.min()) for t in THRESHOLDS]
    iou = [(one & mask).sum() / (one | mask).sum() for one in chosen]
    dice = [2 * (one & mask).sum() / (one.sum() + mask.sum()) for one in chosen]
    return float(np.mean(iou)), float(np.mean(dice))


VALUES = st.one_of(
    st.floats(-1, 1, width=32),
    st.sampled_from([-math.inf, -0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 3.4e38, -3.4e38]),
)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    n = draw(st.integers(1, 50))
    pool = draw(st.lists(VALUES, min_size=1, max_size=draw(st.sampled_from([1, 2, 50]))))
    return (
        draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n)),
        draw(st.lists(st.booleans(), min_size=n, max_size=n)),
    )


@settings(max_examples=400, deadline=None)
@given(maps_and_masks(), st.sampled_from(SCALES))
@example(([-math.inf, -math.inf], [True, False]), "minmax")
@example(([-math.inf, 0.3, 0.3], [True, True, False]), "minmax")
@example(([-math.inf, 0.3, 0.3], [True, True, False]), "clamp")
@example(([0.0, 1.0, 0.5, 0.1], [False, True, True, False]), "minmax")
def test_each_follows_its_definition(case: tuple[list[float], list[bool]], scale: Scale) -> None:
    pixels, mask = np.array(case[0], dtype=np.float32), np.array(case[1])
    assert figures(pixels, mask, scale) == pytest.approx(naive(pixels, mask, scale), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_they_are_the_means_of_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random(2000).astype(np.float32)
    mask = rng.random(2000) < 0.3 * pixels
    chosen = [pixels.astype(np.float64) > t for t in THRESHOLDS]
    expected = (
        np.mean([jaccard_score(mask, one) for one in chosen]),
        np.mean([f1_score(mask, one) for one in chosen]),
    )
    assert figures(pixels, mask, "clamp") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_a_map_that_is_the_mask_overlaps_wholly(scale: Scale) -> None:
    mask = np.arange(100) < 30
    assert figures(mask.astype(np.float32), mask, scale) == (1, 1)


def test_a_constant_map_exceeds_no_threshold_once_it_has_no_range() -> None:
    mask, constant = np.arange(100) < 30, np.full(100, 0.35, np.float32)
    assert figures(constant, mask, "minmax") == (0, 0)
    # As it is, it exceeds three thresholds of five everywhere.
    assert figures(constant, mask, "clamp")[0] == pytest.approx(3 / 5 * 0.3)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-3])
def test_they_are_what_a_map_brought_between_0_and_1_gives(factor: float) -> None:
    rng = np.random.default_rng(5)
    pixels, mask = (factor * rng.normal(size=500)).astype(np.float32), rng.random(500) < 0.2
    low, high = pixels.min().astype(np.float64), pixels.max().astype(np.float64)
    between = ((pixels - low) / (high - low)).astype(np.float32)
    assert figures(pixels, mask, "minmax") == pytest.approx(figures(between, mask, "clamp"))


def test_only_one_of_them_depends_on_the_scale_of_the_map() -> None:
    rng = np.random.default_rng(4)
    pixels, mask = rng.random(500).astype(np.float32), rng.random(500) < 0.2
    assert figures(pixels / np.float32(8), mask, "minmax") == figures(pixels, mask, "minmax")
    assert figures(pixels / np.float32(8), mask, "clamp") != figures(pixels, mask, "clamp")


@pytest.mark.parametrize("scale", SCALES)
def test_the_unseen_part_of_a_target_is_missed(scale: Scale) -> None:
    pixels = np.array([-math.inf, -math.inf, 1.0, 1.0, 0.0, 0.0], dtype=np.float32)
    mask = np.array([True, True, True, True, False, False])
    assert figures(pixels, mask, scale) == pytest.approx((1 / 2, 2 / 3))
