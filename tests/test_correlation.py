"""Pairwise Pearson correlations of per-instance measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from wronglung.benchmark.metrics.correlation import pearson_pairs


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.floats(0, 0.5))
def test_each_pair_is_scipys_over_the_rows_where_both_are_defined(seed: int, n: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3))
    values[rng.random((n, 3)) < missing] = np.nan
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    pairs = pearson_pairs(frame, ["c", "a", "b"])
    assert [(pair.a, pair.b) for pair in pairs] == [("c", "a"), ("c", "b"), ("a", "b")]
    for pair in pairs:
        both = frame[[pair.a, pair.b]].dropna()
        assert pair.n == len(both)
        if pair.n >= 2:
            assert pair.r == pytest.approx(pearsonr(both[pair.a], both[pair.b]).statistic, abs=1e-12)
        else:
            assert pair.r is None


def test_a_constant_column_has_no_correlation() -> None:
    frame = pd.DataFrame({"a": [0.1, 0.1, 0.1], "b": [1.0, 2.0, 4.0]})
    assert pearson_pairs(frame, ["a", "b"]) == [("a", "b", None, 3)]


def test_a_column_that_is_constant_where_the_other_is_defined_has_none_either() -> None:
    frame = pd.DataFrame({"a": [0.1, 0.1, 7.0], "b": [1.0, 2.0, np.nan]})
    assert pearson_pairs(frame, ["a", "b"]) == [("a", "b", None, 2)]


def test_columns_of_truth_values_and_nullable_integers_are_numbers() -> None:
    frame = pd.DataFrame({"a": [True, False, True, True], "b": pd.array([3, 1, 3, None], dtype="Int64")})
    (pair,) = pearson_pairs(frame, ["a", "b"])
    assert pair.r == pytest.approx(1)
    assert pair.n == 3
