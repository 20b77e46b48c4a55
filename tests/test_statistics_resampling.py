"""Intervals from resampling patients."""

from __future__ import annotations

import numpy as np
import pytest

from wronglung.benchmark.statistics.resampling import MIN_CLUSTERS, cluster_intervals


def test_equals_a_plain_bootstrap_of_whole_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = [f"p{at // 3}" for at in range(60)]
    values = rng.normal(size=(60, 1)) + np.repeat(rng.normal(size=20), 3)[:, None]
    low, high = cluster_intervals(values, clusters, seed=0, resamples=4000)
    groups = values[:, 0].reshape(20, 3)
    means = [groups[rng.integers(20, size=20)].mean() for _ in range(4000)]
    expected = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose((low[0], high[0]), expected, atol=0.05)


def test_is_wider_than_an_interval_that_forgets_the_clusters() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 5)[:, None]
    clustered = np.ptp(cluster_intervals(values, [f"p{at // 5}" for at in range(200)], seed=0))
    naive = np.ptp(cluster_intervals(values, [f"p{at}" for at in range(200)], seed=0))
    assert clustered > 1.8 * naive  # sqrt(5) for perfectly dependent rows


def test_columns_share_their_resamples() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=(50, 1))
    values = np.hstack([base, base + 1.0, np.ones_like(base)])
    low, high = cluster_intervals(values, [str(at) for at in range(50)], seed=3)
    assert low[1] == pytest.approx(low[0] + 1)
    assert (low[2], high[2]) == (1.0, 1.0)


def test_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(40, 2))
    clusters = [f"p{at % 15}" for at in range(40)]
    order = rng.permutation(40)
    one = cluster_intervals(values, clusters, seed=0)
    other = cluster_intervals(values[order], [clusters[at] for at in order], seed=0)
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_undefined_values_are_left_out_and_few_clusters_get_no_interval() -> None:
    values = np.full((30, 2), 2.0)
    values[MIN_CLUSTERS - 1 :, 1] = np.nan
    values[0, 0] = np.nan
    low, high = cluster_intervals(values, [str(at) for at in range(30)], seed=0)
    assert (low[0], high[0]) == (2.0, 2.0)
    assert np.isnan((low[1], high[1])).all()
