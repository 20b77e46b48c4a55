"""Intervals from resampling patients."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from clustered import Clustered, clustered, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wronglung.benchmark.statistics import resampling
from wronglung.benchmark.statistics.clusters import Floats, totals
from wronglung.benchmark.statistics.resampling import (
    MIN_CLUSTERS,
    Method,
    caution,
    cluster_intervals,
    resampled_means,
)

METHODS: tuple[Method, ...] = ("percentile", "bca")


def by_hand(data: Clustered, seed: int, resamples: int) -> Floats:
    """Resampled means of the first column, drawing and joining the rows of clusters one by one."""
    names = sorted(set(data.clusters))
    groups, means = data.groups(), []
    for weights in np.concatenate(list(resampling._weights(len(names), seed, resamples))):
        rows: list[float] = []
        for name, times in zip(names, weights, strict=True):
            rows += groups.get(name, []) * int(times)
        means.append(sum(rows) / len(rows) if rows else np.nan)
    return np.array(means)


def test_equals_a_plain_bootstrap_of_whole_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = [f"p{at // 3}" for at in range(60)]
    values = rng.normal(size=(60, 1)) + np.repeat(rng.normal(size=20), 3)[:, None]
    low, high = cluster_intervals(values, clusters, seed=0, resamples=4000)
    groups = values[:, 0].reshape(20, 3)
    means = [groups[rng.integers(20, size=20)].mean() for _ in range(4000)]
    expected = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose((low[0], high[0]), expected, atol=0.05)


@quick
@given(clustered())
def test_means_are_those_of_the_joined_rows_of_the_drawn_clusters(data: Clustered) -> None:
    means = resampled_means(*data, seed=5, resamples=30)[:, 0]
    np.testing.assert_allclose(means, by_hand(data, 5, 30), atol=1e-9)


def test_clusters_are_drawn_evenly_and_as_many_as_there_are() -> None:
    weights = np.concatenate(list(resampling._weights(25, seed=0, resamples=4000)))
    assert (weights.sum(1) == 25).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.08)  # 5 standard errors
    assert weights.var(0).mean() == pytest.approx(24 / 25, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_reads_the_same_ends_off_the_same_resamples_as_scipy(method: Method, level: float) -> None:
    rng = np.random.default_rng(6)
    values = rng.beta(5, 1, size=(40, 3))
    values[:, 2] = values[:, 2] > 0.8
    clusters = [f"p{at:02}" for at in range(40)]
    low, high = cluster_intervals(values, clusters, seed=1, level=level, method=method)
    for column, means in enumerate(resampled_means(values, clusters, seed=1).T):
        given_means = dataclasses.replace(
            stats.bootstrap((values[:, column],), np.mean, n_resamples=2, method="percentile"),
            bootstrap_distribution=means,
        )
        theirs = stats.bootstrap(
            (values[:, column],), np.mean,
            n_resamples=0, bootstrap_result=given_means, confidence_level=level, method=method,
        ).confidence_interval  # fmt: skip
        np.testing.assert_allclose((low[column], high[column]), theirs, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_scipys_own_resamples(method: Method) -> None:
    values = np.random.default_rng(7).beta(5, 1, size=(60, 1))
    ours = np.ravel(cluster_intervals(values, [str(at) for at in range(60)], seed=0, resamples=20_000, method=method))
    theirs = stats.bootstrap((values[:, 0],), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1))
    # An end has a standard error of some 1.4 % of the length with 2,000 resamples, 0.5 % with 20,000.
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.02 * np.ptp(ours))


def test_bca_follows_the_skew() -> None:
    values = np.random.default_rng(8).exponential(size=(80, 1))
    clusters = [str(at) for at in range(80)]
    plain, corrected = (np.ravel(cluster_intervals(values, clusters, 0, method=method)) for method in METHODS)
    assert (corrected > plain).all()
    mirrored = np.ravel(cluster_intervals(-values, clusters, 0, method="bca"))
    np.testing.assert_allclose(mirrored, -corrected[::-1], rtol=1e-12)


def test_bca_leaves_out_whole_clusters() -> None:
    rng = np.random.default_rng(9)
    sizes = rng.integers(1, 6, size=30)
    names = np.repeat([f"p{at:02}" for at in range(30)], sizes)
    values = np.repeat(rng.exponential(size=30), sizes) + rng.normal(size=len(names))
    left_out = np.array([values[names != name].mean() for name in np.unique(names)])
    expected = stats.skew(-left_out) / 6 / np.sqrt(30)
    assert resampling._acceleration(totals(values[:, None], names))[0] == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_column_has_an_interval_without_length(method: Method) -> None:
    clusters = [f"p{at % 15}" for at in range(40)]
    for constant in (0.0, 1.0, 0.1, -3.7e-5):
        low, high = cluster_intervals(np.full((40, 1), constant), clusters, seed=0, method=method)
        assert (low[0], high[0]) == (pytest.approx(constant, rel=1e-14), pytest.approx(constant, rel=1e-14))


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


@quick
@given(clustered(columns=2, undefined=False))
def test_columns_and_calls_are_paired(data: Clustered) -> None:
    one, other = (resampled_means(data.values[:, [at]], data.clusters, 4, 50)[:, 0] for at in (0, 1))
    difference = resampled_means(data.values[:, [0]] - data.values[:, [1]], data.clusters, 4, 50)[:, 0]
    np.testing.assert_allclose(one - other, difference, atol=1e-9)
    np.testing.assert_allclose(resampled_means(*data, 4, 50), np.stack([one, other], axis=1), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@quick
@given(data=clustered(columns=3), random=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_bit(method: Method, data: Clustered, random: object) -> None:
    order = list(range(len(data.clusters)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = cluster_intervals(*data, seed=0, resamples=200, method=method)
    other = cluster_intervals(data.values[order], [data.clusters[at] for at in order], 0, resamples=200, method=method)
    np.testing.assert_array_equal(one, other)


@quick
@given(clustered(), st.sampled_from([2.0, 0.01, -1.0, -30.0]), st.sampled_from([0.0, 0.5, -40.0]))
def test_moves_and_stretches_with_the_values(data: Clustered, scale: float, shift: float) -> None:
    low, high = cluster_intervals(*data, seed=0, resamples=200)
    moved = cluster_intervals(data.values * scale + shift, data.clusters, seed=0, resamples=200)
    ends = (low * scale + shift, high * scale + shift)
    np.testing.assert_allclose(moved, ends if scale > 0 else ends[::-1], atol=1e-8)


def test_bca_moves_and_stretches_with_the_values() -> None:
    values, clusters = np.random.default_rng(10).exponential(size=(60, 1)), [f"p{at % 30}" for at in range(60)]
    ends = cluster_intervals(values, clusters, seed=0, method="bca")
    moved = cluster_intervals(5 - 3 * values, clusters, seed=0, method="bca")
    np.testing.assert_allclose(moved, 5 - 3 * np.array(ends[::-1]), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@quick
@given(data=clustered(), levels=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted))
def test_a_higher_level_makes_no_shorter_interval(method: Method, data: Clustered, levels: list[float]) -> None:
    (low, high), (lower, higher) = (cluster_intervals(*data, 0, level, 200, method) for level in levels)
    assert np.isnan(low[0]) or (lower[0] <= low[0] <= high[0] <= higher[0])


def test_undefined_values_are_left_out_and_few_clusters_get_no_interval() -> None:
    values = np.full((30, 2), 2.0)
    values[MIN_CLUSTERS - 1 :, 1] = np.nan
    values[0, 0] = np.nan
    low, high = cluster_intervals(values, [str(at) for at in range(30)], seed=0)
    assert (low[0], high[0]) == (2.0, 2.0)
    assert np.isnan((low[1], high[1])).all()


def test_infinite_values_and_no_values_have_no_interval() -> None:
    values = np.zeros((30, 4))
    values[0, 1], values[1, 1], values[3, 2], values[:, 3] = np.inf, -np.inf, np.inf, np.nan
    clusters = [str(at) for at in range(30)]
    for method in METHODS:
        low, high = cluster_intervals(values, clusters, seed=0, method=method)
        np.testing.assert_array_equal(low, [0, np.nan, np.nan, np.nan])
        np.testing.assert_array_equal(high, low)
    assert np.isnan(resampled_means(values, clusters, seed=0)[:, 1:]).all()
    assert np.isnan(resampled_means(np.empty((0, 2)), [], seed=0)).all()
    assert cluster_intervals(np.empty((30, 0)), clusters, seed=0)[0].shape == (0,)


def test_a_resample_without_a_defined_value_is_left_out() -> None:
    values = np.full((200, 1), np.nan)
    values[:2, 0] = 1.0, 2.0
    means = resampled_means(values, [str(at) for at in range(200)], seed=0)[:, 0]
    assert np.isnan(means).mean() == pytest.approx(np.exp(-2), abs=0.04)
    assert set(np.unique(means[~np.isnan(means)])) >= {1.0, 1.5, 2.0}


def test_values_and_clusters_must_belong_together() -> None:
    with pytest.raises(ValueError, match="a cluster for each row, not 9"):
        cluster_intervals(np.zeros((10, 1)), ["p"] * 9, seed=0)
    with pytest.raises(ValueError, match=r"must be \[rows, columns\]"):
        cluster_intervals(np.zeros(10), ["p"] * 10, seed=0)


def test_few_patients_are_said_in_words() -> None:
    assert caution(50) is None
    assert caution(49) == "49 patients; intervals are unreliable under 50"
    assert caution(10, "studies") == "10 studies; intervals are unreliable under 50"
    assert caution(9) == "9 patients; no intervals under 10"


def test_a_full_run_takes_seconds_not_minutes() -> None:
    values = np.random.default_rng(0).random((2500, 100))
    start = time.process_time()
    cluster_intervals(values, [str(at) for at in range(2500)], seed=11)
    assert time.process_time() - start < 10  # some 1 s on one core; the bound only catches another order of magnitude
