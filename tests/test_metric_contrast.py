"""The contrast-to-noise ratio: fast against plain, and why its sign stays."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.benchmark.metrics.contrast import Contrast, contrast_to_noise

Floats: TypeAlias = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def plain(pixels: Floats, mask: BoolArray) -> float:
    """The definition, on the pixels that the model saw."""
    seen = np.isfinite(pixels)
    inside, outside = pixels[mask & seen], pixels[~mask & seen]
    if not inside.size or not outside.size:
        return math.nan
    flat = np.ptp(inside) == 0 and np.ptp(outside) == 0
    if flat:
        return 0.0 if inside[0] == outside[0] else math.nan
    return float((inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var()))


def cnr(pixels: Floats, mask: BoolArray) -> float:
    seen = pixels[np.isfinite(pixels)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (-math.inf, -math.inf)
    return Contrast.of(pixels.reshape(-1), low, high).against(np.flatnonzero(mask))


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[Floats, BoolArray]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    value = st.one_of(
        st.integers(-3, 3).map(float), st.floats(0, 1, width=16), st.sampled_from([-math.inf, 0.1, 1000.1, 1000.2])
    )
    pool = draw(st.lists(value, min_size=1, max_size=draw(st.sampled_from([1, 2, 36]))))
    n = rows * columns
    pixels = draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n))
    mask = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return np.reshape(np.array(pixels), (rows, columns)), np.reshape(np.array(mask), (rows, columns))


@settings(max_examples=400, deadline=None)
@given(maps_and_masks())
def test_it_follows_the_definition(case: tuple[Floats, BoolArray]) -> None:
    pixels, mask = case
    assert cnr(pixels, mask) == pytest.approx(plain(pixels, mask), rel=1e-8, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
def test_nearly_flat_maps_lose_no_digits(spread: float, offset: float) -> None:
    """Where sums would cancel, the variance is computed in two passes."""
    rng = np.random.default_rng(1)
    pixels = rng.random((100, 100)).astype(np.float32).astype(np.float64)
    mask = np.arange(100) < np.full((100, 1), 30)
    pixels[~mask] *= spread
    # Next to an offset the values themselves have fewer digits.
    near = 1e-8 if offset < 1e6 else 1e-4
    assert cnr(pixels + offset, mask) == pytest.approx(plain(pixels, mask), rel=near)


def test_a_map_on_the_wrong_lung_is_negative_and_its_absolute_value_hides_it() -> None:
    rng = np.random.default_rng(0)
    left, right = np.zeros((64, 64), np.bool_), np.zeros((64, 64), np.bool_)
    left[10:50, 5:28], right[10:50, 36:59] = True, True
    noise = 0.2 * rng.random((64, 64))
    correct, wrong = cnr(left + noise, left), cnr(right + noise, left)
    blind = cnr((left | right) + noise, left)
    assert wrong < 0 < blind < correct
    assert cnr(-(left + noise), left) == pytest.approx(-correct)
    # Without the sign, the wrong lung beats a map without contrast at all.
    assert abs(wrong) > 0.5 > abs(cnr(np.ones((64, 64)), left)) == 0


def test_it_is_the_same_for_a_map_that_is_scaled_and_shifted() -> None:
    rng = np.random.default_rng(2)
    pixels, mask = rng.normal(size=(30, 30)), rng.random((30, 30)) < 0.2
    assert cnr(3 * pixels - 40, mask) == pytest.approx(cnr(pixels, mask), rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e-40, 1e38])
def test_a_constant_map_has_no_contrast(value: float) -> None:
    mask = np.arange(100).reshape(10, 10) < 37
    assert cnr(np.full((10, 10), value), mask) == 0


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)], ids=["empty", "full"])
def test_it_needs_both_sides(mask: BoolArray) -> None:
    assert math.isnan(cnr(np.arange(16.0).reshape(4, 4), mask))
    assert math.isnan(contrast_to_noise(np.empty(0), np.ones(3)))


def test_two_flat_parts_of_different_height_have_no_noise_to_divide_by() -> None:
    mask = np.arange(16).reshape(4, 4) < 5
    assert math.isnan(cnr(np.where(mask, 0.3, 0.1), mask))


def test_pixels_that_the_model_never_saw_are_left_out() -> None:
    pixels = np.random.default_rng(3).random((6, 8))
    mask = np.zeros((6, 8), np.bool_)
    mask[1:5, 1:5] = True
    cropped = pixels.copy()
    cropped[:, :2] = -math.inf
    assert cnr(cropped, mask) == pytest.approx(plain(pixels[:, 2:], mask[:, 2:]))
    assert math.isnan(cnr(np.full((6, 8), -math.inf), mask))
    cropped[mask] = -math.inf
    assert math.isnan(cnr(cropped, mask))
