"""moved, equivalent, inconclusive."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.statistics.equivalence import Verdict, verdict

ENDS = st.floats(-1, 1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.005, 0.006, "equivalent"),
        (-0.01, 0.01, "equivalent"),
        (0.002, 0.008, "equivalent"),  # not 0, and yet too small to count
        (0.011, 0.02, "moved"),
        (-0.02, -0.011, "moved"),
        (0.01, 0.02, "inconclusive"),
        (0.005, 0.02, "inconclusive"),  # not 0, but perhaps too small to count
        (-0.02, 0.02, "inconclusive"),
        (-0.02, 0.005, "inconclusive"),
    ],
)
def test_what_an_interval_says_against_a_margin_of_a_point(low: float, high: float, expected: Verdict) -> None:
    assert verdict(low, high, 0.01) == expected


def test_without_a_margin_to_speak_of_it_is_a_test_against_0() -> None:
    assert verdict(0.001, 0.02, 0.0) == "moved"
    assert verdict(0.0, 0.02, 0.0) == "inconclusive"
    assert verdict(0.0, 0.0, 0.0) == "equivalent"


@pytest.mark.parametrize(("low", "high"), [(None, 0.1), (0.1, None), (None, None), (math.nan, 0.1), (0.1, math.nan)])
def test_nothing_is_said_without_an_interval(low: float | None, high: float | None) -> None:
    assert verdict(low, high, 0.01) is None


@pytest.mark.parametrize("margin", [-0.01, math.nan])
def test_a_margin_is_at_least_0(margin: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        verdict(0.0, 0.1, margin)


@given(st.tuples(ENDS, ENDS).map(sorted), st.floats(0, 1))
def test_up_and_down_are_alike(interval: list[float], margin: float) -> None:
    low, high = interval
    assert verdict(low, high, margin) == verdict(-high, -low, margin)


@given(st.tuples(ENDS, ENDS, ENDS, ENDS).map(sorted), st.floats(0, 1))
def test_a_longer_interval_may_take_back_but_never_contradict(ends: list[float], margin: float) -> None:
    wide, narrow = verdict(ends[0], ends[3], margin), verdict(ends[1], ends[2], margin)
    assert wide in (narrow, "inconclusive")


@given(st.tuples(ENDS, ENDS).map(sorted), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_larger_margin_makes_equivalent_and_a_smaller_one_moved(interval: list[float], margins: list[float]) -> None:
    smaller, larger = (verdict(interval[0], interval[1], margin) for margin in margins)
    if smaller == "equivalent":
        assert larger == "equivalent"
    if larger == "moved":
        assert smaller == "moved"
