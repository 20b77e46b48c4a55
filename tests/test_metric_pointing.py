"""The pointing game and its variants, against loops over the pixels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.benchmark.metrics.pointing import maxima, pointing_game, share_near
from wronglung.benchmark.metrics.ranking import rank

BoolArray = npt.NDArray[np.bool_]
SIZE = 40


def played(pixels: npt.NDArray[np.float64], mask: BoolArray, tolerance: int = 15) -> list[float]:
    """Expected, first, any, and within the tolerance."""
    ranking = rank(torch.from_numpy(pixels).float().flatten(), [mask.ravel()])
    start = int(ranking.groups([pixels.size - 1])[0][0])
    figures = pointing_game(start, pixels.size, ranking.masks[0], bool(mask.flat[pixels.argmax()]))
    assert list(figures) == ["pointing_game", "pointing_game_first", "pointing_game_any"]
    return [*figures.values(), share_near(maxima(pixels), mask, tolerance)]


def box(y1: int, y2: int, x1: int, x2: int, size: int = SIZE) -> BoolArray:
    mask = np.zeros((size, size), np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[npt.NDArray[np.float64], BoolArray]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    values = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0])
    pixels = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    mask = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return np.reshape(pixels, (rows, columns)), np.reshape(mask, (rows, columns))


@settings(max_examples=200, deadline=None)
@given(maps_and_masks(), st.integers(0, 4))
def test_each_variant_follows_its_definition(case: tuple[npt.NDArray[np.float64], BoolArray], tolerance: int) -> None:
    pixels, mask = case
    figures = played(pixels, mask, tolerance)
    inside = [(y, x) for y, x in np.ndindex(mask.shape) if mask[y, x]]
    if not inside:
        assert all(map(math.isnan, figures))
        return
    tied = [(y, x) for y, x in np.ndindex(mask.shape) if pixels[y, x] == pixels.max()]
    hits = [point in inside for point in tied]
    near = [any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in inside) for y, x in tied]
    expected = [sum(hits) / len(tied), float(hits[0]), float(any(hits)), sum(near) / len(tied)]
    assert figures == pytest.approx(expected)


@pytest.mark.parametrize("tied", [1, 40, 64, 65, 900])
def test_few_and_many_maxima_are_looked_up_alike(tied: int) -> None:
    rng = np.random.default_rng(tied)
    mask = rng.random((SIZE, SIZE)) < 0.004
    points = np.sort(rng.choice(SIZE * SIZE, tied, replace=False))
    one_by_one = [share_near(points[at : at + 1], mask) for at in range(tied)]
    assert share_near(points, mask) == pytest.approx(np.mean(one_by_one))


def test_a_constant_map_is_at_chance_where_ties_are_shared() -> None:
    mask = box(0, 20, 0, 10)
    expected, first, some, near = played(np.ones((SIZE, SIZE)), mask)
    assert expected == mask.mean() == 0.125
    assert (first, some) == (1, 1)
    # The box with 15 more pixels on two sides, but for the corner outside the disc.
    assert 0.125 < near < 35 * 25 / SIZE**2
    assert played(np.ones((SIZE, SIZE)), ~mask)[1] == 0


def test_every_maximum_hits_a_mask_that_fills_the_image() -> None:
    full = np.ones((SIZE, SIZE), np.bool_)
    assert played(np.ones((SIZE, SIZE)), full) == [1, 1, 1, 1]
    assert played(np.random.default_rng(0).random((SIZE, SIZE)), full) == [1, 1, 1, 1]


def test_there_is_nothing_to_point_at_in_an_empty_mask() -> None:
    empty = np.zeros((SIZE, SIZE), np.bool_)
    assert all(map(math.isnan, played(np.ones((SIZE, SIZE)), empty)))


@pytest.mark.parametrize(("distance", "hit"), [(15, 1), (16, 0)])
def test_tolerance_ends_after_fifteen_pixels(distance: int, hit: int) -> None:
    pixels = np.zeros((SIZE, SIZE))
    pixels[5, 5] = 1
    assert played(pixels, box(5, 6, 5 + distance, 6 + distance)) == [0, 0, 0, hit]
    # 9² + 12² = 15²: the tolerance is a disc, not a square.
    assert played(pixels, box(14, 15, 17, 18))[3] == 1
    assert played(pixels, box(15, 16, 17, 18))[3] == 0


def test_pixels_that_the_model_never_saw_are_no_maximum() -> None:
    pixels = np.full((SIZE, SIZE), -math.inf)
    pixels[:, 30:] = -5.0
    assert played(pixels, box(0, SIZE, 30, SIZE)) == [1, 1, 1, 1]
    assert played(pixels, box(0, SIZE, 0, 10)) == [0, 0, 0, 0]
