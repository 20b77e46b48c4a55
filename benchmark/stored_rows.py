"""The table of a run that is kept on disk: sorted and read some thousand instances at a time, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute, ipc, parquet

GROUP = 4096
"""Instances whose rows are in memory at a time."""


@dataclass(frozen=True)
class StoredRows:
    """Rows in a parquet file, sorted by instance id and the suite's order of tasks."""

    file: Path

    def of_task(self, task: str, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of a task's rows, in order of instance id."""
        frame: pd.DataFrame = pa.concat_tables(self._groups(task, columns)).to_pandas()
        return frame

    def numbers(self, task: str, columns: Sequence[str]) -> npt.NDArray[np.float64]:
        """The same of columns of numbers, [rows, columns], NaN where there is none."""
        return np.concatenate(
            [table.to_pandas().to_numpy(dtype=np.float64, na_value=np.nan) for table in self._groups(task, columns)]
        )

    def _groups(self, task: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        with parquet.ParquetFile(self.file) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=list(dict.fromkeys((*columns, "task"))))
                yield table.filter(compute.equal(table["task"], task)).select(list(columns))


def sort_rows(
    tables: Iterable[pa.Table], instances: Sequence[str], tasks: Sequence[str], scratch: Path, target: Path
) -> int:
    """Write the rows of all tables into a parquet file, sorted by instance and task; returns how many there are.

    ``instances`` are the ids of all instances, sorted, ``tasks`` the names of all tasks in order; rows are unique in both.
    Each table is read once; rows wait in hidden files of ``scratch``, an existing folder, each for its group of instances.
    No file is written where there is no row. Raises ``OSError`` when the disk is full.
    """
    place = {identity: at for at, identity in enumerate(instances)}
    groups = _distributed(tables, place, scratch)
    rows = 0
    order = pa.array(tasks, pa.large_string())
    writer: parquet.ParquetWriter | None = None
    try:
        for _, file in sorted(groups.items()):
            with pa.OSFile(str(file)) as stream:
                table = ipc.open_stream(stream).read_all()
            keys = pa.table(
                {
                    "instance": pa.array(_places(table, place)),
                    "task": compute.index_in(table["task"].cast(order.type), value_set=order),
                }
            )
            table = table.take(compute.sort_indices(keys, [("instance", "ascending"), ("task", "ascending")]))
            if writer is None:
                writer = parquet.ParquetWriter(target, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=table.num_rows)
            rows += table.num_rows
            file.unlink()
    finally:
        if writer is not None:
            writer.close()
    return rows


def _distributed(tables: Iterable[pa.Table], place: Mapping[str, int], scratch: Path) -> dict[int, Path]:
    """The files of the groups that have rows, by number."""
    files: dict[int, Path] = {}
    with ExitStack() as stack:
        writers: dict[int, ipc.RecordBatchStreamWriter] = {}
        for table in tables:
            of_rows = _places(table, place) // GROUP
            for number in np.unique(of_rows).tolist():
                if number not in writers:
                    files[number] = scratch / f".rows-{number}"
                    stream = stack.enter_context(pa.OSFile(str(files[number]), "wb"))
                    writers[number] = stack.enter_context(ipc.new_stream(stream, table.schema))
                writers[number].write_table(table.filter(pa.array(of_rows == number)))
    return files


def _places(table: pa.Table, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    return np.array([place[identity] for identity in table["instance_id"].to_pylist()], dtype=np.int64)
