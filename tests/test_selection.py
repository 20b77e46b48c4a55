"""Selection accuracy: the true sentence against other reports' sentences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.metrics.selection import expected_win, win

SIMILARITIES = st.one_of(st.integers(-2, 2).map(float), st.floats(-1, 1))


@pytest.mark.parametrize(("true", "other", "expected"), [(0.2, 0.1, 1.0), (0.1, 0.2, 0.0), (0.1, 0.1, 0.5)])
def test_the_more_similar_sentence_wins_and_a_tie_is_one_half(true: float, other: float, expected: float) -> None:
    assert win(true, other) == expected


@pytest.mark.parametrize(("true", "other"), [(math.nan, 0.1), (0.1, math.nan)])
def test_a_comparison_with_an_undefined_similarity_is_undefined(true: float, other: float) -> None:
    assert math.isnan(win(true, other))


@given(st.lists(st.tuples(SIMILARITIES, st.integers(0, 3)), min_size=1, max_size=12), st.data())
def test_the_expectation_is_the_mean_over_all_eligible_instances(
    sentences: list[tuple[float, int]], data: st.DataObject
) -> None:
    own = data.draw(st.integers(0, len(sentences) - 1))
    outcomes = [win(sentences[own][0], similarity) for similarity, times in sentences for _ in range(times)]
    similarities, weights = np.array([s for s, _ in sentences]), np.array([float(times) for _, times in sentences])
    result = expected_win(similarities, own, weights)
    if outcomes:
        assert result == pytest.approx(sum(outcomes) / len(outcomes))
    else:
        assert math.isnan(result)


def test_sentences_that_do_not_count_may_be_undefined() -> None:
    similarities = np.array([0.5, 0.1, math.nan])
    assert expected_win(similarities, 0, np.array([0.0, 1.0, 0.0])) == 1
    assert math.isnan(expected_win(similarities, 0, np.array([0.0, 1.0, 1.0])))
    assert math.isnan(expected_win(similarities, 2, np.array([0.0, 1.0, 0.0])))
