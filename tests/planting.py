"""Runs on disk with a change planted into them, for tests of comparisons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wronglung import Results
from wronglung.benchmark.cells import Cell, cell_values
from wronglung.benchmark.results import load_results


def plant(run: Path, target: Path, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Path:
    """Write a copy of a run whose instances went through ``edit``, with a summary that says the same as they do."""
    results = load_results(run)
    frame = results.instances.copy()
    edited = edit(frame)
    target.mkdir()
    summarised(replace(results, instances=frame if edited is None else edited)).save(target)
    return target


def summarised(results: Results) -> Results:
    """The run with the figures and counts of its scores computed anew from its instances, without intervals."""
    run, frame = results.run, results.instances
    samples = cell_values(run, frame)
    means = {cell: _mean(samples.values[:, at]) for at, cell in enumerate(samples.cells)}
    cells = []
    for one in run.scores:
        value, delta = (means.get(Cell(one.task, one.subset, one.metric, changed)) for changed in (False, True))
        cells.append(one.model_copy(update={**dict.fromkeys(INTERVALS), "value": value, "delta": delta}))
    ids = frame.drop_duplicates("instance_id")
    counts = {"n_instances": len(ids), "n_patients": ids["cluster"].nunique()}
    dataset = run.dataset.model_copy(update=counts)
    return replace(results, run=run.model_copy(update={"scores": cells, "dataset": dataset}))


INTERVALS = ("ci_low", "ci_high", "delta_ci_low", "delta_ci_high", "delta_changed")


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def lower(metric: str, by: float, task: str = "original", subset: str = "all") -> Callable[[pd.DataFrame], None]:
    """An edit that takes ``by`` off a metric wherever it has a value, under one task and on one subset."""

    def edit(frame: pd.DataFrame) -> None:
        frame.loc[(frame["task"] == task) & frame[f"in_{subset}"], metric] -= by

    return edit
