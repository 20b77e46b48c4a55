"""Rows on disk: sorted and read in groups, as if they had been in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from wronglung.benchmark import stored_rows, summary
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.frame import merged, numbers, of_task
from wronglung.benchmark.instances import Dataset
from wronglung.benchmark.models import load_model
from wronglung.benchmark.plan import Plan
from wronglung.benchmark.results import Results, StoredResults
from wronglung.benchmark.stored_rows import StoredRows, sort_rows
from wronglung.tasks.schema import SuiteSpec, load_suite


@pytest.fixture(scope="module")
def suite() -> SuiteSpec:
    return load_suite("wrong-lung")


@pytest.fixture(scope="module")
def dataset(sketch_file: Path) -> Dataset:
    return load_dataset("jsonl", sketch_file)


@pytest.fixture(scope="module")
def results(dataset: Dataset, suite: SuiteSpec) -> Results:
    return evaluate(load_model("oracle"), dataset, suite)


def stored(frame: pd.DataFrame, suite: SuiteSpec, parts: int, folder: Path) -> StoredRows:
    """The rows, shuffled, dealt out to parts, and sorted again on disk."""
    order = np.random.default_rng(0).permutation(len(frame))
    tables = [
        pa.Table.from_pandas(frame.iloc[share], preserve_index=False).replace_schema_metadata(
            pa.Table.from_pandas(frame, preserve_index=False).schema.metadata
        )
        for share in np.array_split(order, parts)
    ]
    rows = StoredRows(folder / "rows.parquet")
    count = sort_rows(tables, sorted(set(frame["instance_id"])), [task.name for task in suite.tasks], folder, rows.file)
    assert count == len(frame)
    pd.testing.assert_frame_equal(merged(tables, suite), frame, check_exact=True)
    return rows


@pytest.mark.parametrize(("group", "parts"), [(1, 7), (5, 3), (36, 1), (4096, 12)])
def test_rows_on_disk_are_those_in_memory(
    group: int, parts: int, results: Results, suite: SuiteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_rows, "GROUP", group)
    frame = results.instances
    rows = stored(frame, suite, parts, tmp_path)
    pd.testing.assert_frame_equal(parquet.read_table(rows.file).to_pandas(), frame, check_exact=True)
    assert parquet.ParquetFile(rows.file).num_row_groups == -(-36 // group)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]
    columns = ["instance_id", "changed", "auroc", "is_abnormal", "undefined"]
    for task in suite.tasks:
        pd.testing.assert_frame_equal(
            rows.of_task(task.name, columns),
            of_task(frame, task.name, columns).reset_index(drop=True),
            check_exact=True,
        )
        wanted = [*suite.metrics, "is_abnormal"]
        np.testing.assert_array_equal(numbers(rows, task.name, wanted), numbers(frame, task.name, wanted))


def test_cells_and_correlations_are_the_same_to_the_last_bit(
    results: Results, dataset: Dataset, suite: SuiteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_rows, "GROUP", 10)
    rows, subsets = stored(results.instances, suite, 4, tmp_path), Plan(suite, dataset).subsets()
    assert summary.scores(rows, suite, subsets, 0) == results.run.scores
    assert summary.correlations(rows, suite) == results.run.correlations


def test_a_run_from_disk_is_written_as_one_from_memory(results: Results, suite: SuiteSpec, tmp_path: Path) -> None:
    folders = [tmp_path / "memory", tmp_path / "disk"]
    for folder in folders:
        folder.mkdir()
    results.save(folders[0])
    rows = stored(results.instances, suite, 4, tmp_path)
    StoredResults(results.run, rows, results.skipped).save(folders[1])
    assert not rows.file.exists()
    for file in sorted(folders[0].iterdir()):
        assert (folders[1] / file.name).read_bytes() == file.read_bytes(), file.name


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert sort_rows([], [], [], tmp_path, tmp_path / "rows.parquet") == 0
    assert list(tmp_path.iterdir()) == []
