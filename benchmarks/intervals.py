"""How often are the statistics right, and how long do they take? Simulated patients, tables in Markdown.

    python benchmarks/intervals.py [--datasets 4000] [--only coverage]

A patient has 1 to 8 sentences whose values depend on each other; the true mean is known. Printed are how often 95 %
intervals hold it (by resampling patients, and by resampling sentences as if each were a patient of its own), how often the
sign-flip test rejects without and with an effect of the size that the minimum detectable effect promises, how often each
verdict is given by the true change, how often rank ranges hold the true rank, and seconds for a run of full size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from tabulate import tabulate

from wronglung.benchmark.statistics.equivalence import verdict
from wronglung.benchmark.statistics.hypothesis_tests import sign_flip
from wronglung.benchmark.statistics.power import minimum_detectable_effect
from wronglung.benchmark.statistics.ranks import rank_ranges
from wronglung.benchmark.statistics.resampling import cluster_intervals, resampled_means

Floats = npt.NDArray[np.float64]
Row = dict[str, object]

SENTENCES = 8
"""At most, of a patient."""
AT_ONCE = 500
"""Datasets that share their resamples."""

METRICS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "bounded, skewed": (lambda uniform: uniform ** (1 / 5), 5 / 6),  # Beta(5, 1)
    "0 or 1": (lambda uniform: np.where(np.isnan(uniform), np.nan, uniform > 0.2), 0.8),
}
"""From uniform numbers in [0, 1] to values, and the mean of those."""


def uniforms(patients: int, datasets: int, correlation: float, seed: int) -> tuple[Floats, list[str]]:
    """Uniform numbers, [patients × SENTENCES, datasets], NaN where a patient has fewer sentences, and the rows' patients.

    ``correlation`` is that of two sentences of a patient, before the normal numbers are made uniform.
    """
    rng = np.random.default_rng(seed)
    shape = (patients, SENTENCES, datasets)
    normal = np.sqrt(correlation) * rng.normal(size=(patients, 1, datasets)) + np.sqrt(1 - correlation) * rng.normal(
        size=shape
    )
    missing = np.arange(SENTENCES)[:, None] >= rng.integers(1, SENTENCES + 1, size=(patients, 1, datasets))
    rows = np.where(missing, np.nan, ndtr(normal)).reshape(-1, datasets)
    return rows, [f"patient {at // SENTENCES:04}" for at in range(len(rows))]


def batches(patients: int, datasets: int, correlation: float) -> Iterator[tuple[int, Floats, list[str]]]:
    """A seed with uniform numbers, until there are enough datasets."""
    for seed in range(0, datasets, AT_ONCE):
        yield seed, *uniforms(patients, min(AT_ONCE, datasets - seed), correlation, seed)


def coverage(patients: int, datasets: int, correlation: float, metric: str) -> Row:
    """Share of intervals that hold the true mean."""
    of, mean = METRICS[metric]
    held: dict[str, list[npt.NDArray[np.bool_]]] = {"percentile": [], "BCa": [], "sentences resampled": []}
    for seed, numbers, names in batches(patients, datasets, correlation):
        values, apart = of(numbers), [str(at) for at in range(len(numbers))]
        ends = (
            cluster_intervals(values, names, seed),
            cluster_intervals(values, names, seed, method="bca"),
            cluster_intervals(values, apart, seed),
        )
        for one, (low, high) in zip(held.values(), ends, strict=True):
            one.append((low <= mean) & (mean <= high))
    return {name: float(np.concatenate(one).mean()) for name, one in held.items()}


CHANGES: dict[str, Callable[[Floats], Floats]] = {
    "symmetric": lambda uniform: 0.15 * (uniform - 0.5),
    "skewed": lambda uniform: 0.5 * (uniform ** (1 / 5) - 5 / 6),
}
"""From uniform numbers to changes with mean 0."""


def rejections(patients: int, datasets: int, correlation: float, change: str) -> Row:
    """Share of datasets in which the change is found at 5 %, without one and with one of the minimum detectable size."""
    found: dict[str, list[npt.NDArray[np.bool_]]] = {
        "sign-flip, no effect": [], "sign-flip, MDE": [], "interval, no effect": [], "interval, MDE": []
    }  # fmt: skip
    effects = []
    for seed, numbers, names in batches(patients, datasets, correlation):
        values = CHANGES[change](numbers)
        effect = minimum_detectable_effect(values, names).mean()
        effects.append(effect)
        low, high = cluster_intervals(values, names, seed)
        for shift, case in ((0.0, "no effect"), (effect, "MDE")):
            found[f"sign-flip, {case}"].append(sign_flip(values + shift, names, seed) <= 0.05)
            found[f"interval, {case}"].append((low + shift > 0) | (high + shift < 0))
    return {"MDE": float(np.mean(effects)), **{name: float(np.concatenate(one).mean()) for name, one in found.items()}}


def verdicts(patients: int, datasets: int, correlation: float, change: float, margin: float) -> Row:
    """Share of datasets that get each verdict on a true change."""
    words: list[str | None] = []
    for seed, numbers, names in batches(patients, datasets, correlation):
        low, high = cluster_intervals(CHANGES["skewed"](numbers) + change, names, seed)
        words += [verdict(one, other, margin) for one, other in zip(low, high, strict=True)]
    return {word: words.count(word) / len(words) for word in ("moved", "equivalent", "inconclusive")}


def ranks(patients: int, datasets: int, correlation: float, step: float, models: int = 5) -> Row:
    """Share of models whose range holds their true rank, and how many ranks a range has; means are ``step`` apart."""
    held, width = [], []
    for seed in range(datasets):
        numbers, names = uniforms(patients, models + 1, correlation, seed)
        # Models see the same sentences, so half of what makes a value is theirs and half the sentence's.
        values = (numbers[:, 1:] + numbers[:, :1]) / 2 - step * np.arange(models)
        best, worst = rank_ranges(resampled_means(values, names, seed))
        true = np.arange(1, models + 1)
        held.append(((best <= true) & (true <= worst)).mean())
        width.append((worst - best + 1).mean())
    return {"true rank held": float(np.mean(held)), "ranks in a range": float(np.mean(width))}


def ends(patients: int, correlation: float, seeds: int = 100) -> Row:
    """Standard deviation of an interval's end over seeds, as a share of the interval's length: the error of 2,000 resamples."""
    numbers, names = uniforms(patients, 1, correlation, 0)
    intervals = np.array(
        [cluster_intervals(METRICS["bounded, skewed"][0](numbers), names, seed) for seed in range(seeds)]
    )
    return {"SD of an end ÷ length": float(intervals[:, :, 0].std(0).mean() / np.ptp(intervals.mean(0)))}


def seconds(rows: int, columns: int, patients: int) -> Row:
    """Wall time of a whole run's statistics, its first call."""
    values = np.random.default_rng(0).random((rows, columns))
    names = [f"patient {at % patients:04}" for at in range(rows)]
    taken = {}
    for name, call in (
        ("percentile", lambda: cluster_intervals(values, names, seed=1)),
        ("BCa", lambda: cluster_intervals(values, names, seed=2, method="bca")),
        ("sign-flip", lambda: sign_flip(values, names, seed=3)),
    ):
        start = time.perf_counter()
        call()
        taken[name] = time.perf_counter() - start
    return taken


def tables(datasets: int) -> dict[str, Callable[[], list[Row]]]:
    cases = [(correlation, n) for correlation in (0.3, 0.6) for n in (10, 20, 50, 200)]
    return {
        "coverage": lambda: [
            {"metric": metric, "correlation": correlation, "patients": n, **coverage(n, datasets, correlation, metric)}
            for metric in METRICS
            for correlation, n in cases
        ],
        "rejections": lambda: [
            {"changes": change, "patients": n, **rejections(n, datasets, 0.5, change)}
            for change in CHANGES
            for n in (10, 20, 50, 200)
        ],
        "verdicts": lambda: [
            {"patients": n, "true change": change, **verdicts(n, datasets, 0.5, change, 0.01)}
            for n in (50, 200, 800)
            for change in (0.0, 0.01, 0.02)
        ],
        "ranks": lambda: [
            {"patients": n, "step": step, **ranks(n, datasets // 10, 0.5, step)}
            for n in (50, 200)
            for step in (0.005, 0.05)
        ],
        "ends": lambda: [{"patients": n, **ends(n, 0.5)} for n in (50, 200)],
        "seconds": lambda: [
            {"instances": 2500, "cells": 100, "patients": n, **seconds(2500, 100, n)} for n in (500, 2500)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=4000, help="simulated for each row of a table")
    parser.add_argument("--only", help="one table: coverage, rejections, verdicts, ranks, ends or seconds")
    given = parser.parse_args()
    for name, rows in tables(given.datasets).items():
        if given.only in (None, name):
            start = time.perf_counter()
            print(f"\n{name}\n\n" + tabulate(rows(), headers="keys", tablefmt="github", floatfmt=".3f"))  # noqa: T201
            print(f"\n({time.perf_counter() - start:.0f} s)", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
