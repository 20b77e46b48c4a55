"""Sign-flip tests by whole clusters."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from clustered import Clustered, clustered, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wronglung.benchmark.statistics.clusters import Floats
from wronglung.benchmark.statistics.hypothesis_tests import sign_flip


def by_hand(data: Clustered) -> float:
    """All sign patterns of the clusters of the first column, one at a time."""
    groups = list(data.groups().values())
    rows = sum(len(group) for group in groups)
    means = [
        abs(sum(sign * sum(group) for sign, group in zip(signs, groups, strict=True))) / rows
        for signs in product((1, -1), repeat=len(groups))
    ]
    return sum(mean >= means[0] - 1e-9 for mean in means) / len(means)


@quick
@given(clustered(clusters=11))
def test_of_few_clusters_counts_every_pattern(data: Clustered) -> None:
    (p,) = sign_flip(*data, seed=0)
    if len(data.groups()) < 10:
        assert np.isnan(p)
    else:
        assert p == by_hand(data)


def _mean(values: Floats, axis: int) -> Floats:
    return np.asarray(np.mean(values, axis=axis))


def test_equals_scipys_permutation_test_of_single_rows() -> None:
    values = np.random.default_rng(0).normal(0.5, size=(12, 1))
    exact = stats.permutation_test((values[:, 0],), _mean, permutation_type="samples", n_resamples=2**12)
    assert sign_flip(values, [str(at) for at in range(12)], seed=0)[0] == pytest.approx(exact.pvalue, abs=1e-12)


def test_of_many_clusters_draws_patterns_with_the_p_value_of_scipys() -> None:
    values = np.random.default_rng(1).normal(0.25, size=(60, 1))
    drawn = stats.permutation_test(
        (values[:, 0],),
        _mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    )
    (p,) = sign_flip(values, [str(at) for at in range(60)], seed=3, flips=20_000)
    assert 0.01 < p < 0.2
    assert p == pytest.approx(drawn.pvalue, abs=4 * np.sqrt(2 * p / 20_000))


def test_drawn_and_counted_patterns_agree() -> None:
    values = np.random.default_rng(4).normal(0.4, size=(14, 1))
    clusters = [str(at) for at in range(14)]
    exact, drawn = (sign_flip(values, clusters, seed=0, flips=flips)[0] for flips in (9999, 8000))
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 8000))


def test_clusters_flip_as_a_whole() -> None:
    change = np.random.default_rng(5).normal(0.35, size=15)
    once = sign_flip(change[:, None], [f"p{at:02}" for at in range(15)], seed=0)
    repeated = sign_flip(np.repeat(change, 6)[:, None], [f"p{at // 6:02}" for at in range(90)], seed=0)
    apart = sign_flip(np.repeat(change, 6)[:, None], [str(at) for at in range(90)], seed=0)
    np.testing.assert_array_equal(repeated, once)
    assert apart[0] < once[0] / 2


@pytest.mark.parametrize("clusters", [12, 30])
def test_bounds(clusters: int) -> None:
    names = [str(at) for at in range(clusters)]
    values = np.ones((clusters, 3))
    values[:, 1] = 0.0
    values[::2, 2] = -1.0
    extreme, nothing, balanced = sign_flip(values, names, seed=0)
    assert extreme == (2 / 2**12 if clusters == 12 else 1 / 10_000)
    assert nothing == balanced == 1.0


@quick
@given(clustered(columns=2, clusters=20), st.sampled_from([1e-6, 0.3, 1e6]))
def test_neither_order_nor_units_nor_direction_matter(data: Clustered, scale: float) -> None:
    p = sign_flip(*data, seed=0, flips=499)
    backwards = sign_flip(data.values[::-1], data.clusters[::-1], seed=0, flips=499)
    np.testing.assert_array_equal(p, backwards)
    np.testing.assert_array_equal(p, sign_flip(-data.values, data.clusters, seed=0, flips=499))
    np.testing.assert_allclose(p, sign_flip(scale * data.values, data.clusters, seed=0, flips=499), atol=1e-12)
    assert ((p[~np.isnan(p)] > 0) & (p[~np.isnan(p)] <= 1)).all()


def test_a_column_is_tested_alike_beside_any_others() -> None:
    values = np.random.default_rng(6).normal(0.2, size=(40, 3))
    values[12:, 1] = np.nan
    clusters = [str(at) for at in range(40)]
    together = sign_flip(values, clusters, seed=0)
    np.testing.assert_array_equal(together, [sign_flip(values[:, [at]], clusters, seed=0)[0] for at in range(3)])


def test_undefined_and_infinite_columns_have_no_p_value() -> None:
    values = np.zeros((30, 3))
    values[9:, 0], values[0, 1] = np.nan, np.inf
    np.testing.assert_array_equal(sign_flip(values, [str(at) for at in range(30)], seed=0), [np.nan, np.nan, 1.0])
