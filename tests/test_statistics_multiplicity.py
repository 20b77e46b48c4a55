"""p-values adjusted for the size of their family."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from clustered import quick
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.statistics.clusters import Floats
from wronglung.benchmark.statistics.multiplicity import benjamini_hochberg, holm

FAMILIES = st.lists(st.one_of(st.sampled_from([0.0, 0.01, 0.05, 1.0, math.nan]), st.floats(0, 1)), max_size=12)
Adjustment = Callable[[Sequence[float]], Floats]


def holm_by_hand(p: list[float]) -> list[float]:
    """The largest of (number of p-values not smaller, this one included by order) × p over all smaller ones."""
    tested = sorted(one for one in p if not math.isnan(one))
    steps = [min(1.0, max((len(tested) - at) * tested[at] for at in range(last + 1))) for last in range(len(tested))]
    return [math.nan if math.isnan(one) else steps[tested.index(one)] for one in p]


def benjamini_hochberg_by_hand(p: list[float]) -> list[float]:
    """The smallest of m · p / rank over all p-values not smaller."""
    tested = sorted(one for one in p if not math.isnan(one))
    m = len(tested)
    steps = [min(1.0, *(m * tested[at] / (at + 1) for at in range(first, m)), 1.0) for first in range(m)]
    return [math.nan if math.isnan(one) else steps[tested.index(one)] for one in p]


@quick
@given(FAMILIES)
def test_holm_equals_the_definition(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), holm_by_hand(p), rtol=1e-12)


@quick
@given(FAMILIES)
def test_benjamini_hochberg_equals_the_definition(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), benjamini_hochberg_by_hand(p), rtol=1e-12)


def test_known_families() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@quick
@given(p=FAMILIES)
def test_keep_the_order_never_lower_a_p_value_and_do_not_count_what_was_not_tested(
    adjust: Adjustment, p: list[float]
) -> None:
    adjusted = adjust(p)
    np.testing.assert_array_equal(np.isnan(adjusted), np.isnan(p))
    tested = ~np.isnan(p)
    assert (adjusted[tested] >= np.array(p)[tested] * (1 - 1e-12)).all()
    np.testing.assert_array_equal(adjusted[tested], adjust(np.array(p)[tested].tolist()))
    np.testing.assert_array_equal(adjust(p[::-1]), adjusted[::-1])


@quick
@given(FAMILIES)
def test_holm_lies_between_benjamini_hochberg_and_bonferroni(p: list[float]) -> None:
    tested = np.array([one for one in p if not math.isnan(one)])
    assert (holm(tested) >= benjamini_hochberg(tested) * (1 - 1e-12)).all()
    assert (holm(tested) <= np.minimum(1, tested * len(tested)) * (1 + 1e-12)).all()
