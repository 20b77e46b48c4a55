"""Cluster-robust standard errors, and the smallest effect that could have been found."""

from __future__ import annotations

import numpy as np
import pytest
from clustered import Clustered, clustered, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wronglung.benchmark.statistics.power import minimum_detectable_effect, standard_errors
from wronglung.benchmark.statistics.resampling import MIN_CLUSTERS, resampled_means


def by_hand(data: Clustered) -> float:
    """Liang and Zeger's formula, cluster by cluster, for the first column."""
    groups = data.groups()
    if len(groups) < MIN_CLUSTERS:
        return np.nan
    rows = sum(len(group) for group in groups.values())
    mean = sum(sum(group) for group in groups.values()) / rows
    squares = sum(sum(value - mean for value in group) ** 2 for group in groups.values())
    return float((len(groups) / (len(groups) - 1) * squares) ** 0.5 / rows)


@quick
@given(clustered())
def test_standard_errors_equal_the_formula(data: Clustered) -> None:
    np.testing.assert_allclose(standard_errors(*data), [by_hand(data)], atol=1e-9)


def test_single_rows_have_the_usual_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(40, 2))
    errors = standard_errors(values, [str(at) for at in range(40)])
    np.testing.assert_allclose(errors, stats.sem(values))


def test_repeated_rows_add_nothing() -> None:
    values = np.random.default_rng(1).normal(size=(30, 1))
    once = standard_errors(values, [str(at) for at in range(30)])
    np.testing.assert_allclose(standard_errors(np.repeat(values, 4, axis=0), [str(at // 4) for at in range(120)]), once)


def test_agree_with_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    clusters = [f"p{at}" for at in rng.integers(150, size=600)]
    values = rng.normal(size=(600, 1)) + np.array([[float(int(name[1:]) % 7)] for name in clusters])
    spread = resampled_means(values, clusters, seed=0, resamples=5000).std(0)
    np.testing.assert_allclose(standard_errors(values, clusters), spread, rtol=0.05)


def test_the_detectable_effect_is_found_as_often_as_promised() -> None:
    """The power of a two-sided t-test at the effect, whose noncentral distribution is known."""
    values = np.random.default_rng(3).normal(size=(25, 1))
    clusters = [str(at) for at in range(25)]
    for power in (0.8, 0.9):
        shift = minimum_detectable_effect(values, clusters, power=power)[0] / standard_errors(values, clusters)[0]
        assert stats.nct.sf(stats.t.ppf(0.975, 24), 24, shift) == pytest.approx(power, abs=0.01)


@quick
@given(clustered(), st.sampled_from([0.01, -3.0]), st.sampled_from([0.0, 7.0]))
def test_move_not_with_the_values_but_stretch_with_them(data: Clustered, scale: float, shift: float) -> None:
    moved = minimum_detectable_effect(data.values * scale + shift, data.clusters)
    np.testing.assert_allclose(moved, abs(scale) * minimum_detectable_effect(*data), atol=1e-8)
    np.testing.assert_array_equal(standard_errors(*data), standard_errors(data.values[::-1], data.clusters[::-1]))


def test_more_power_and_a_higher_level_need_a_larger_effect() -> None:
    values, clusters = np.random.default_rng(4).normal(size=(30, 1)), [str(at) for at in range(30)]
    usual = minimum_detectable_effect(values, clusters)
    assert (minimum_detectable_effect(values, clusters, power=0.9) > usual).all()
    assert (minimum_detectable_effect(values, clusters, level=0.99) > usual).all()


def test_few_clusters_infinite_and_constant_columns() -> None:
    values = np.ones((30, 3))
    values[9:, 0], values[0, 1] = np.nan, np.inf
    clusters = [str(at) for at in range(30)]
    np.testing.assert_array_equal(standard_errors(values, clusters), [np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(minimum_detectable_effect(values, clusters), [np.nan, np.nan, 0.0])
