"""Ranges of ranks over paired resamples."""

from __future__ import annotations

import numpy as np
import pytest
from clustered import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wronglung.benchmark.statistics.clusters import Floats
from wronglung.benchmark.statistics.ranks import rank_ranges
from wronglung.benchmark.statistics.resampling import resampled_means

FIGURES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 5)),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1).map(lambda value: round(value, 6))),
)


def by_hand(means: Floats, level: float) -> tuple[list[int], list[int]]:
    """How many models are better, and how many are better or equal, in each resample; then the tails of their counts."""
    best, worst = [], []
    for model in range(means.shape[1]):
        first = sorted(1 + sum(other > row[model] for other in row) for row in means)
        last = sorted((sum(other >= row[model] for other in row) for row in means), reverse=True)
        at = max(int(np.ceil(round((1 - level) / 2 * len(means), 9))) - 1, 0)
        best.append(first[at])
        worst.append(last[at])
    return best, worst


@quick
@given(FIGURES, st.sampled_from([0.5, 0.9]))
def test_equal_the_definition(means: Floats, level: float) -> None:
    best, worst = rank_ranges(means, level=level)
    assert (best.tolist(), worst.tolist()) == by_hand(means, level)


@quick
@given(FIGURES)
def test_the_reversed_order_has_the_reversed_ranges(means: Floats) -> None:
    best, worst = rank_ranges(means)
    reversed_best, reversed_worst = rank_ranges(means, higher_is_better=False)
    np.testing.assert_array_equal(means.shape[1] + 1 - best, reversed_worst)
    np.testing.assert_array_equal(means.shape[1] + 1 - worst, reversed_best)
    for one, other in zip(rank_ranges(-means, higher_is_better=False), (best, worst), strict=True):
        np.testing.assert_array_equal(one, other)


@quick
@given(FIGURES)
def test_ranges_are_ranks_and_a_higher_level_makes_them_no_shorter(means: Floats) -> None:
    (best, worst), (low, high) = (rank_ranges(means, level=level) for level in (0.95, 0.5))
    assert ((best >= 1) & (best <= low) & (low <= high) & (high <= worst) & (worst <= means.shape[1])).all()


def test_models_that_are_equal_share_the_ranks_they_take_up() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((60, 1)) + np.array([[0.0, 0.5, 0.5, -0.5]])
    best, worst = rank_ranges(resampled_means(values, [f"p{at % 20}" for at in range(60)], seed=0))
    assert (best.tolist(), worst.tolist()) == ([3, 1, 1, 4], [3, 2, 2, 4])


def test_equal_up_to_rounding_is_equal() -> None:
    means = np.array([[0.3, 0.1 + 0.2, 0.29]] * 10)
    assert means[0, 0] != means[0, 1]
    best, worst = rank_ranges(means)
    assert (best.tolist(), worst.tolist()) == ([1, 1, 3], [2, 2, 3])


def test_pairing_tells_models_apart_whose_intervals_overlap() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.normal(size=(200, 1))
    values = np.hstack([difficulty + 0.05, difficulty]) + rng.normal(0, 0.05, size=(200, 2))
    best, worst = rank_ranges(resampled_means(values, [str(at) for at in range(200)], seed=0))
    assert (best.tolist(), worst.tolist()) == ([1, 2], [1, 2])
    best, worst = rank_ranges(
        np.stack([values[rng.integers(200, size=200), at].mean() for _ in range(2000) for at in (0, 1)]).reshape(-1, 2)
    )
    assert (best.tolist(), worst.tolist()) == ([1, 1], [2, 2])


def test_resamples_that_lack_a_figure_are_left_out() -> None:
    means = np.array([[1.0, np.nan]] * 5 + [[0.0, 1.0]] * 5)
    best, worst = rank_ranges(means)
    assert (best.tolist(), worst.tolist()) == ([2, 1], [2, 1])
    with pytest.raises(ValueError, match="no resample has a figure of every model"):
        rank_ranges(means[:5])
    assert rank_ranges(np.empty((10, 0)))[0].shape == (0,)
