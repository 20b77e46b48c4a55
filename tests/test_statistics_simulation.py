"""Simulated patients whose true mean is known: intervals hold it, tests and verdicts err as seldom as they say.

The tables in docs/statistics.md are of the same simulation with more datasets; tolerances here are several standard errors
of the share that is asserted.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    file = Path(__file__).parent.parent / "benchmarks" / "intervals.py"
    specification = importlib.util.spec_from_file_location("intervals", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("metric", ["bounded, skewed", "0 or 1"])
def test_intervals_of_patients_hold_the_true_mean_and_those_of_sentences_do_not(
    simulation: ModuleType, metric: str
) -> None:
    held = simulation.coverage(patients=100, datasets=500, correlation=0.6, metric=metric)
    assert held["percentile"] >= 0.92
    assert held["BCa"] >= 0.92
    assert held["sentences resampled"] < 0.85


def test_few_patients_make_intervals_too_short(simulation: ModuleType) -> None:
    held = simulation.coverage(patients=10, datasets=500, correlation=0.6, metric="bounded, skewed")
    assert 0.8 < held["percentile"] < 0.92


def test_sign_flips_find_nothing_where_nothing_is_and_the_detectable_effect_four_times_in_five(
    simulation: ModuleType,
) -> None:
    found = simulation.rejections(patients=60, datasets=500, correlation=0.5, change="symmetric")
    assert 0.02 <= found["sign-flip, no effect"] <= 0.08
    assert 0.74 <= found["sign-flip, MDE"] <= 0.86


def test_verdicts_err_as_seldom_as_they_say(simulation: ModuleType) -> None:
    at_margin = simulation.verdicts(patients=200, datasets=500, correlation=0.5, change=0.01, margin=0.01)
    assert at_margin["equivalent"] <= 0.05
    assert at_margin["moved"] <= 0.06
    none = simulation.verdicts(patients=800, datasets=200, correlation=0.5, change=0.0, margin=0.01)
    assert none["moved"] == 0
    assert none["equivalent"] > 0.9


def test_ranges_hold_the_true_rank(simulation: ModuleType) -> None:
    close, apart = (simulation.ranks(patients=60, datasets=40, correlation=0.5, step=step) for step in (0.005, 0.1))
    assert close["true rank held"] >= 0.9
    assert close["ranks in a range"] > 3
    assert apart["ranks in a range"] < 1.5
