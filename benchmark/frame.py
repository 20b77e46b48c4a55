"""The table of a run: one row per (instance, task) with every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from ..tasks.schema import SuiteSpec
from ..tasks.subsets import is_abnormal
from .instances import Instance
from .rows import Row
from .stored_rows import StoredRows

Subsets = Mapping[str, frozenset[str] | None]
Rows = pd.DataFrame | StoredRows
"""The table of a run, in memory or on disk."""


def of_task(rows: Rows, task: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a task's rows, in their order."""
    if isinstance(rows, StoredRows):
        return rows.of_task(task, columns)
    return rows.loc[rows["task"] == task, list(columns)]


def numbers(rows: Rows, task: str, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Some columns of numbers of a task's rows, [rows, columns], NaN where there is none."""
    if isinstance(rows, StoredRows):
        return rows.numbers(task, columns)
    return of_task(rows, task, columns).to_numpy(dtype=np.float64, na_value=np.nan)


def table_of(rows: Sequence[Row], instances: Mapping[str, Instance], suite: SuiteSpec, subsets: Subsets) -> pa.Table:
    """Rows as a table, in the order given. ``instances`` are by id; ``subsets`` hold ids, or None where the dataset cannot say."""
    tasks = [suite.tasks[row.task] for row in rows]
    of_rows = [instances[row.instance_id] for row in rows]
    columns: dict[str, Any] = {
        "instance_id": [one.id for one in of_rows],
        "image_id": [one.image_id for one in of_rows],
        "study_id": [one.study_id for one in of_rows],
        "patient_id": [one.patient_id for one in of_rows],
        "cluster": [one.cluster for one in of_rows],
        "task": [task.name for task in tasks],
        "sentences": [task.sentences.name for task in tasks],
        "sentence_sha256": [row.sentence_sha256 for row in rows],
        "changed": [row.changed for row in rows],
        "undefined": [row.undefined for row in rows],
        "is_abnormal": [is_abnormal(one) if one.findings else None for one in of_rows],
    }
    for name, members in subsets.items():
        columns[f"in_{name}"] = [members is not None and one.id in members for one in of_rows]
    for metric in _metrics(suite):
        columns[metric] = np.array([row.values.get(metric, np.nan) for row in rows], dtype=np.float64)
    frame = pd.DataFrame(columns).astype(
        {**dict.fromkeys(_TEXT, "string"), "is_abnormal": "boolean", "changed": "bool"}
    )
    return pa.Table.from_pandas(frame, preserve_index=False)


_TEXT = (
    "instance_id", "image_id", "study_id", "patient_id", "cluster", "task", "sentences", "sentence_sha256", "undefined",
)  # fmt: skip


def merged(tables: Sequence[pa.Table], suite: SuiteSpec) -> pd.DataFrame:
    """All rows, sorted by instance id and the suite's order of tasks."""
    known = pa.array([task.name for task in suite.tasks])
    order = compute.sort_indices(
        pa.table(
            {
                "id": _joined(tables, "instance_id").cast(pa.large_string()),
                "task": compute.index_in(
                    _joined(tables, "task"), value_set=known.cast(tables[0].schema.field("task").type)
                ),
            }
        ),
        sort_keys=[("id", "ascending"), ("task", "ascending")],
    )
    schema = tables[0].schema
    # A column at a time: all of them twice may not fit in memory.
    columns = {}
    for field in schema:
        column = pa.table([_joined(tables, field.name).take(order)], schema=pa.schema([field], schema.metadata))
        columns[field.name] = column.to_pandas()[field.name]
    return pd.DataFrame(columns, copy=False)


def _joined(tables: Sequence[pa.Table], column: str) -> pa.ChunkedArray:
    return pa.chunked_array(
        [chunk for table in tables for chunk in table[column].chunks], tables[0].schema.field(column).type
    )


def _metrics(suite: SuiteSpec) -> list[str]:
    """The metrics that a suite shows or correlates, each once."""
    return [metric for metric in dict.fromkeys((*suite.metrics, *suite.correlations)) if metric != "is_abnormal"]
