"""The values behind the cells of a run, instance by instance: what paired comparisons resample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..tasks.schema import SuiteSpec
from .errors import WronglungError
from .metrics.catalogue import ONLY_FOR
from .results import RunResults


class Cell(NamedTuple):
    """A cell of a run: a metric over a subset under a task, or its change against the task's unperturbed sentences."""

    task: str
    subset: str
    metric: str
    delta: bool = False


@dataclass(frozen=True, eq=False)
class CellValues:
    """Values of cells by instance.

    ``values`` is float64 [instances, cells], NaN where a value is undefined or the instance is not of the cell's subset; its
    rows are in ascending order of ``instance_ids`` [instances]. ``clusters`` [instances] names what is resampled: each
    instance's patient (study or image, where there are no patients).
    """

    cells: tuple[Cell, ...]
    instance_ids: npt.NDArray[np.object_]
    clusters: npt.NDArray[np.object_]
    values: npt.NDArray[np.float64]

    def column(self, cell: Cell) -> npt.NDArray[np.float64]:
        """The values of one cell, [instances]."""
        return self.values[:, self.cells.index(cell)]


def cells_of(run: RunResults) -> list[Cell]:
    """All cells of a run that can hold a value: each score, and its delta where its task is a perturbation."""
    cells = []
    for score in run.scores:
        cells.append(Cell(score.task, score.subset, score.metric))
        if score.perturbation is not None and score.metric not in ONLY_FOR:
            cells.append(Cell(score.task, score.subset, score.metric, delta=True))
    return cells


def cell_values(run: RunResults, instances: pd.DataFrame, cells: Sequence[Cell] | None = None) -> CellValues:
    """The values behind ``cells`` (by default all of :func:`cells_of`), from the rows of a run's ``instances.parquet``.

    Their means are the figures of ``results.json``. Raises :class:`WronglungError` where the rows lack a column or a task that
    a cell needs, or a task's rows are not one per instance.
    """
    cells = tuple(cells_of(run) if cells is None else cells)
    suite = SuiteSpec.model_validate(run.suite, context={"recorded": True})
    bases = {task.name: suite.base_of(task).name for task in suite.tasks if task.perturbation is not None}
    tables = _by_task(instances, {name for cell in cells for name in (cell.task, bases.get(cell.task, cell.task))})
    ids, clusters = _rows(tables.values())
    values = np.full((len(ids), len(cells)), np.nan)
    for at, cell in enumerate(cells):
        table = tables[cell.task]
        for column in (cell.metric, f"in_{cell.subset}"):
            if column not in table:
                raise WronglungError(f"the run's instances have no column {column!r}")
        chosen = table[cell.metric].to_numpy(dtype=np.float64)
        if cell.delta:
            if cell.task not in bases:
                raise WronglungError(f"task {cell.task!r} of the run perturbs nothing, so it has no delta")
            chosen = chosen - tables[bases[cell.task]][cell.metric].to_numpy(dtype=np.float64)
        values[:, at] = np.where(table[f"in_{cell.subset}"].to_numpy(dtype=np.bool_), chosen, np.nan)
    return CellValues(cells, ids, clusters, values)


def _by_task(instances: pd.DataFrame, tasks: Iterable[str]) -> dict[str, pd.DataFrame]:
    tables = {}
    for task in sorted(tasks):
        table = instances[instances["task"] == task].sort_values("instance_id", ignore_index=True)
        if table["instance_id"].duplicated().any():
            raise WronglungError(f"task {task!r} has several rows for one instance")
        tables[task] = table
    return tables


def _rows(tables: Iterable[pd.DataFrame]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """The ids and clusters that all tasks must share."""
    tables = list(tables)
    if not tables:
        nothing = np.empty(0, dtype=object)
        return nothing, nothing
    first = tables[0]
    for table in tables[1:]:
        if not table[["instance_id", "cluster"]].equals(first[["instance_id", "cluster"]]):
            raise WronglungError("the tasks of the run do not have the same instances of the same patients")
    return first["instance_id"].to_numpy(dtype=object), first["cluster"].to_numpy(dtype=object)
