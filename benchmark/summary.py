"""From one row per (instance, task) to the cells of a run: means, deltas, intervals, correlations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..tasks.schema import SuiteSpec, TaskSpec
from .metrics.catalogue import ONLY_FOR, find_metric
from .metrics.correlation import pearson_pairs
from .results import Correlation, Score
from .statistics.resampling import cluster_intervals


def scores(
    frame: pd.DataFrame, suite: SuiteSpec, subsets: Mapping[str, frozenset[str] | None], seed: int
) -> list[Score]:
    """All cells of a run.

    ``frame`` has one row per (instance, task), sorted by instance id, each task with the same instances.
    """
    by_task = {task.name: frame[frame["task"] == task.name].reset_index(drop=True) for task in suite.tasks}
    ids = by_task[suite.tasks[0].name]["instance_id"]
    members = {name: _members(ids, chosen) for name, chosen in subsets.items()}
    clusters = by_task[suite.tasks[0].name]["cluster"].to_numpy(dtype=object)
    return [
        score
        for task in suite.tasks
        for subset, inside in members.items()
        for score in _block(task, subset, inside, by_task, clusters, suite, seed)
    ]


def _block(
    task: TaskSpec,
    subset: str,
    inside: npt.NDArray[np.bool_],
    by_task: Mapping[str, pd.DataFrame],
    clusters: npt.NDArray[np.object_],
    suite: SuiteSpec,
    seed: int,
) -> Iterator[Score]:
    """The cells of one task and subset. Equal seeds make equal resamples, so cells of different blocks are paired too."""
    metrics = [metric for metric in suite.metrics if _belongs(metric, task, suite)]
    values = by_task[task.name][metrics].to_numpy(dtype=np.float64, copy=True)
    deltas = values - by_task[suite.base_of(task).name][metrics].to_numpy(dtype=np.float64)
    if task.perturbation is None:
        deltas[:] = np.nan
    deltas[:, [metric in ONLY_FOR for metric in metrics]] = np.nan
    values[~inside], deltas[~inside] = np.nan, np.nan
    changed = by_task[task.name]["changed"].to_numpy(dtype=np.bool_) & inside
    (low, high), (delta_low, delta_high) = (cluster_intervals(one, clusters, seed) for one in (values, deltas))
    for at, metric in enumerate(metrics):
        yield Score(
            task=task.name,
            sentences=task.sentences.name,
            perturbation=None if task.perturbation is None else task.name,
            subset=subset,
            metric=metric,
            value=_mean(values[:, at]),
            ci_low=_number(low[at]),
            ci_high=_number(high[at]),
            delta=_mean(deltas[:, at]),
            delta_ci_low=_number(delta_low[at]),
            delta_ci_high=_number(delta_high[at]),
            delta_changed=_mean(deltas[changed, at]),
            n_instances=int(inside.sum()),
            n_changed=int(changed.sum()),
            n_patients=len(set(clusters[inside])),
            n_undefined=int(np.isnan(values[inside, at]).sum()),
            higher_is_better=find_metric(metric).higher_is_better,
        )


def correlations(frame: pd.DataFrame, suite: SuiteSpec) -> list[Correlation]:
    """Pairwise Pearson correlations over the instances of the suite's first task (the paper's Table 12)."""
    if not suite.correlations:
        return []
    rows = frame[frame["task"] == suite.tasks[0].name]
    quantities = rows[list(suite.correlations)].astype(np.float64)
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
