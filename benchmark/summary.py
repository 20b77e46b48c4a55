"""From one row per (instance, task) to the cells of a run: means, deltas, intervals, correlations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..tasks.schema import SuiteSpec, TaskSpec
from .frame import Rows, numbers, of_task
from .metrics.catalogue import ONLY_FOR, find_metric
from .metrics.correlation import pearson_pairs
from .results import Correlation, Score
from .statistics.clusters import Coded
from .statistics.resampling import cluster_intervals


def scores(rows: Rows, suite: SuiteSpec, subsets: Mapping[str, frozenset[str] | None], seed: int) -> list[Score]:
    """All cells of a run.

    ``rows`` are one per (instance, task), sorted by instance id, each task with the same instances; those of two tasks are
    looked at at a time.
    """
    first = of_task(rows, suite.tasks[0].name, ("instance_id", "cluster"))
    members = {name: _members(first["instance_id"], chosen) for name, chosen in subsets.items()}
    clusters = Coded.of(first["cluster"].to_numpy(dtype=object))
    return [score for task in suite.tasks for score in _of_task(task, rows, members, clusters, suite, seed)]


def _of_task(
    task: TaskSpec,
    rows: Rows,
    members: Mapping[str, npt.NDArray[np.bool_]],
    clusters: Coded,
    suite: SuiteSpec,
    seed: int,
) -> Iterator[Score]:
    metrics = [metric for metric in suite.metrics if _belongs(metric, task, suite)]
    values = numbers(rows, task.name, metrics)
    changed = of_task(rows, task.name, ("changed",))["changed"].to_numpy(dtype=np.bool_)
    deltas = None
    if task.perturbation is not None:
        deltas = numbers(rows, suite.base_of(task).name, metrics)
        np.subtract(values, deltas, out=deltas)
        deltas[:, [metric in ONLY_FOR for metric in metrics]] = np.nan
    for subset, inside in members.items():
        yield from _block(task, subset, metrics, values, deltas, changed & inside, inside, clusters, seed)


def _block(
    task: TaskSpec,
    subset: str,
    metrics: Sequence[str],
    values: npt.NDArray[np.float64],
    deltas: npt.NDArray[np.float64] | None,
    changed: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_],
    clusters: Coded,
    seed: int,
) -> Iterator[Score]:
    """The cells of one task and subset; ``values`` and ``deltas`` are [instances, metrics] of all instances.

    Equal seeds make equal resamples, so cells of different blocks are paired too.
    """
    columns = [_Column.all_of(one, inside, changed, clusters, seed) for one in (values, deltas) if one is not None]
    of_values, of_deltas = columns[0], columns[1] if deltas is not None else [_Column()] * len(metrics)
    patients, undefined = len(np.unique(clusters.index[inside])), np.isnan(values[inside]).sum(0)
    for at, metric in enumerate(metrics):
        value, delta = of_values[at], of_deltas[at]
        yield Score(
            task=task.name,
            sentences=task.sentences.name,
            perturbation=None if task.perturbation is None else task.name,
            subset=subset,
            metric=metric,
            value=value.mean,
            ci_low=value.low,
            ci_high=value.high,
            delta=delta.mean,
            delta_ci_low=delta.low,
            delta_ci_high=delta.high,
            delta_changed=delta.of_changed,
            n_instances=int(inside.sum()),
            n_changed=int(changed.sum()),
            n_patients=patients,
            n_undefined=int(undefined[at]),
            higher_is_better=find_metric(metric).higher_is_better,
        )


@dataclass(frozen=True)
class _Column:
    """A metric's mean over a subset, the interval of that, and the mean over what the perturbation changed of it."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    of_changed: float | None = None

    @classmethod
    def all_of(
        cls,
        values: npt.NDArray[np.float64],
        inside: npt.NDArray[np.bool_],
        changed: npt.NDArray[np.bool_],
        clusters: Coded,
        seed: int,
    ) -> list[_Column]:
        """Of each column."""
        chosen = np.where(inside[:, None], values, np.nan)
        lows, highs = cluster_intervals(chosen, clusters, seed)
        return [
            cls(_mean(chosen[:, at]), _number(low), _number(high), _mean(chosen[changed, at]))
            for at, (low, high) in enumerate(zip(lows, highs, strict=True))
        ]


def correlations(rows: Rows, suite: SuiteSpec) -> list[Correlation]:
    """Pairwise Pearson correlations over the instances of the suite's first task (the paper's Table 12)."""
    if not suite.correlations:
        return []
    quantities = pd.DataFrame(numbers(rows, suite.tasks[0].name, suite.correlations), columns=[*suite.correlations])
    return [Correlation(a=a, b=b, r=r, n_instances=n) for a, b, r, n in pearson_pairs(quantities, suite.correlations)]


def _belongs(metric: str, task: TaskSpec, suite: SuiteSpec) -> bool:
    if metric in ONLY_FOR:
        return task.name == ONLY_FOR[metric]
    if metric.endswith("_exhaustive"):
        return task.perturbation is None and task.sentences.name == "original"
    return True


def _members(ids: Sequence[str] | pd.Series[str], chosen: frozenset[str] | None) -> npt.NDArray[np.bool_]:
    return np.array([chosen is not None and one in chosen for one in ids], dtype=np.bool_)


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
