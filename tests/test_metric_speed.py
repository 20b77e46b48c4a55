"""The cost of the metric engine, as ratios of CPU time measured side by side in one thread, on the workload of ``benchmarks/metrics.py``."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wronglung.benchmark.metrics import compiled, ranking

INSTANCES = 8


def _benchmark() -> Any:
    path = Path(__file__).parent.parent / "benchmarks" / "metrics.py"
    spec = importlib.util.spec_from_file_location("metrics_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()
needs_numba = pytest.mark.skipif(compiled.load() is None, reason="numba is not installed")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def seconds() -> dict[str, list[float]]:
    """CPU seconds an instance, of all implementations on the same instances in turn."""
    given = [BENCHMARK.instance(seed) for seed in range(INSTANCES)]
    times: dict[str, list[float]] = BENCHMARK.interleaved(BENCHMARK.implementations(), given)
    return times


def ratio(seconds: dict[str, list[float]], name: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds["scikit-learn"], seconds[name], strict=True))


def test_both_sides_compute_the_same_figures() -> None:
    given = [BENCHMARK.instance(0)]
    for name, run in BENCHMARK.implementations().items():
        if name != "scikit-learn":
            assert max(BENCHMARK.largest_differences(given, run).values()) < 1e-12, name
        # The interpolations differ in the last bits, which reorders near ties.
        for mine, theirs in zip(run(given[0]), BENCHMARK.scikit_learn(given[0]), strict=True):
            assert {one: mine[one] for one in theirs} == pytest.approx(theirs, abs=2e-4)


def test_the_engine_is_many_times_faster_than_scikit_learn_per_evaluation(seconds: dict[str, list[float]]) -> None:
    times = ratio(seconds, "wronglung")
    assert times >= 15, f"{times:.1f} times faster"


@needs_numba
def test_compiled_it_is_many_times_faster_still(seconds: dict[str, list[float]]) -> None:
    times = ratio(seconds, "wronglung, compiled")
    assert times >= 50, f"{times:.1f} times faster"


@pytest.mark.parametrize(
    ("kernels", "most"),
    [pytest.param(lambda: None, 0.5, id="numpy"), pytest.param(compiled.load, 0.25, id="compiled", marks=needs_numba)],
)
def test_another_mask_costs_a_fraction_of_the_first(
    kernels: Callable[[], compiled.Kernels | None], most: float
) -> None:
    part = BENCHMARK.further_mask([BENCHMARK.instance(seed) for seed in range(2 * INSTANCES)], kernels())
    assert part <= most, f"{part:.2f} of the first"


@needs_numba
def test_a_map_is_sorted_once_for_all_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = compiled.load()
    assert kernels is not None
    sorts = []

    def counted(*given: Any) -> Any:
        sorts.append(given)
        return kernels.radix_sort(*given)

    monkeypatch.setattr(ranking, "sort", None)
    with BENCHMARK.loops(kernels._replace(radix_sort=counted)):
        assert len(BENCHMARK.engine(BENCHMARK.instance(0))) == 6
    assert len(sorts) == 4
