"""What must be equal before two runs may stand side by side, and runs read back with their instances."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import parquet

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import INSTANCES, RESULTS, RunResults, load_results, load_run, read_instances
from wronglung.leaderboard.comparability import differences, identity, major, task_definitions


@pytest.fixture(scope="module")
def folder(sketch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    evaluate(load_model("oracle"), load_dataset("jsonl", sketch_file), "smoke").save(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> RunResults:
    return load_run(folder)


def altered(run: RunResults, *path: str | int, value: Any) -> RunResults:
    """The run with one leaf of its summary replaced."""
    raw = run.model_dump(mode="json")
    place = raw
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    return RunResults.model_validate(raw)


class TestDifferences:
    @pytest.mark.parametrize(
        ("path", "value", "phrase"),
        [
            (("dataset", "fingerprint"), "0" * 64, "dataset: "),
            (("dataset", "images_fingerprint"), None, "images: "),
            (("dataset", "limit"), 10, "limit: None and 10"),
            (("dataset", "n_instances"), 35, "number of instances: 36 and 35"),
            (("suite", "name"), "other", "suite: smoke and other"),
            (("suite", "version"), "2.0", "major version of the suite: 1 and 2"),
            (("suite", "protocol", "frame"), "image", "protocol: "),
            (("suite", "subsets", 0), {"name": "all", "label": "x"}, "subsets: "),
            (("manifest", "seed"), 1, "seed: 0 and 1"),
            (("suite", "tasks", 1, "version"), "2.0", "task swap_left_right: defined otherwise"),
            (
                ("suite", "tasks", 1, "perturbation"),
                {"name": "swap_left_right", "match": "x"},
                "task swap_left_right: ",
            ),
        ],
    )
    def test_are_named(self, run: RunResults, path: tuple[str | int, ...], value: Any, phrase: str) -> None:
        found = differences(run, altered(run, *path, value=value))
        assert len(found) == 1
        assert found[0].startswith(phrase)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("model", "name"), "another"),
            (("dataset", "name"), "the same films by another name"),
            (("suite", "version"), "1.9"),
            (("suite", "tasks", 1, "title"), "Another title"),
            (("manifest", "batch_size"), 3),
            (("manifest", "device"), "cuda"),
        ],
    )
    def test_of_what_may_differ_are_none(self, run: RunResults, path: tuple[str | int, ...], value: Any) -> None:
        assert differences(run, altered(run, *path, value=value)) == []

    def test_a_setting_that_is_left_out_has_its_default(self, run: RunResults) -> None:
        raw = run.model_dump(mode="json")
        del raw["suite"]["protocol"], raw["suite"]["tasks"][0]["perturbation"]
        assert differences(run, RunResults.model_validate(raw)) == []

    def test_are_the_same_both_ways_round(self, run: RunResults) -> None:
        other = altered(run, "manifest", "seed", value=1)
        assert differences(run, other) == ["seed: 0 and 1"]
        assert differences(other, run) == ["seed: 1 and 0"]

    def test_a_task_that_only_one_run_has_is_none(self, run: RunResults) -> None:
        fewer = altered(run, "suite", "tasks", value=run.suite["tasks"][:2])
        assert differences(run, fewer) == differences(fewer, run) == []
        assert set(task_definitions(fewer)) < set(task_definitions(run))

    def test_what_they_are_of_is_text(self, run: RunResults) -> None:
        assert all(isinstance(value, str) for value in identity(run).values())
        assert [major(version) for version in ("1.0", "1.10", "12.3")] == ["1", "1", "12"]


class TestLoadResults:
    def test_reads_a_folder_or_its_summary(self, folder: Path) -> None:
        for path in (folder, folder / RESULTS):
            results = load_results(path)
            assert results.run.model["name"] == "oracle"
            assert len(results.instances) == 36 * 3
            assert results.maps is None

    def broken(self, folder: Path, tmp_path: Path, frame: pd.DataFrame | None) -> str:
        shutil.copytree(folder, tmp_path / "run")
        (tmp_path / "run" / INSTANCES).unlink()
        if frame is not None:
            frame.to_parquet(tmp_path / "run" / INSTANCES)
        with pytest.raises(WronglungError) as error:
            load_results(tmp_path / "run")
        return str(error.value)

    def test_refuses_a_missing_table(self, folder: Path, tmp_path: Path) -> None:
        assert f"{INSTANCES}: is missing" in self.broken(folder, tmp_path, None)

    @pytest.mark.parametrize("column", ["instance_id", "cluster", "task", "changed"])
    def test_refuses_a_table_without_a_column(self, folder: Path, tmp_path: Path, column: str) -> None:
        frame = pd.read_parquet(folder / INSTANCES).drop(columns=column)
        assert f"has no column {column!r}" in self.broken(folder, tmp_path, frame)

    def test_refuses_ids_that_are_no_text(self, folder: Path, tmp_path: Path) -> None:
        frame = pd.read_parquet(folder / INSTANCES)
        assert "column 'cluster' must hold text" in self.broken(folder, tmp_path, frame.assign(cluster=3))
        shutil.rmtree(tmp_path / "run")
        frame.loc[0, "task"] = None
        assert "column 'task' must hold text in every row" in self.broken(folder, tmp_path, frame)

    @pytest.mark.parametrize("index", ['"auroc"', '{"kind": "range", "start": 0, "stop": 1000000000000, "step": 1}'])
    def test_refuses_a_description_of_the_columns_that_leads_nowhere(
        self, folder: Path, tmp_path: Path, index: str
    ) -> None:
        table = parquet.read_table(folder / INSTANCES)
        described = f'{{"index_columns": [{index}], "columns": [], "column_indexes": []}}'
        parquet.write_table(table.replace_schema_metadata({"pandas": described}), tmp_path / "odd.parquet")
        with pytest.raises(WronglungError, match=r"odd\.parquet: cannot be read as parquet"):
            read_instances(tmp_path / "odd.parquet")

    def test_refuses_what_is_no_parquet(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "run")
        for content in (b"", b"PAR1", (folder / INSTANCES).read_bytes()[:-100]):
            (tmp_path / "run" / INSTANCES).write_bytes(content)
            with pytest.raises(WronglungError, match="cannot be read as parquet"):
                load_results(tmp_path / "run")
