"""Baseline files: what is in them, and that comparing with one is comparing with the run it was made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from planting import lower, plant
from pyarrow import parquet
from test_cli import refused, wronglung

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import load_results
from wronglung.leaderboard.baseline import load_side, pseudonymous, write_baseline
from wronglung.leaderboard.compare import compare, update_baseline


@pytest.fixture(scope="module")
def run(sketch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle")
    evaluate(load_model("oracle"), load_dataset("jsonl", sketch_file), "smoke").save(folder)
    return folder


@pytest.fixture
def baseline(run: Path, tmp_path: Path) -> Path:
    update_baseline(tmp_path / "baseline.parquet", run)
    return tmp_path / "baseline.parquet"


def test_comparing_with_it_is_comparing_with_its_run(run: Path, baseline: Path, tmp_path: Path) -> None:
    worse = plant(run, tmp_path / "worse", lower("auroc", 0.2, subset="one_lung"))
    with_run, with_file = compare(run, worse), compare(baseline, worse)
    assert not with_file.passed
    kept = {one.cell for one in with_file.changes}
    # A p-value of a gate is adjusted within the same family; one of another cell depends on how many others there are.
    gated = {one.gate.cell for one in with_file.gates}
    assert [one for one in with_run.changes if one.cell in gated] == [
        one for one in with_file.changes if one.cell in gated
    ]
    assert with_run.gates == with_file.gates
    assert gated <= kept < {one.cell for one in with_run.changes}


def test_it_holds_what_its_gates_need_or_all_that_has_a_direction(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "baseline.parquet"
    wronglung("compare", target, run, "--update-baseline", "--fail-on", "iou@10@swap_left_right:-0.1")
    frame = pd.read_parquet(target)
    assert list(frame) == ["instance_id", "cluster", "task", "changed", "in_all", "in_one_lung", "iou@10"]
    assert set(frame["task"]) == {"original", "swap_left_right"}
    assert "names no metric of the run; there are iou@10" in refused("compare", target, run, "--fail-on", "auroc:-0.1")
    wronglung("compare", target, run, "--update-baseline", "--all")
    assert {"auroc", "iou@10", "selection_accuracy_local"} <= set(pd.read_parquet(target))
    assert "entropy" not in pd.read_parquet(target)


def test_it_names_no_patient_image_or_sentence(run: Path, baseline: Path) -> None:
    content = baseline.read_bytes()
    frame = load_results(run).instances
    for column in ("instance_id", "image_id", "study_id", "patient_id", "cluster", "sentence_sha256"):
        for name in frame[column].dropna().unique():
            assert len(name) < 3 or name.encode() not in content, (column, name)
    summary = json.loads(parquet.read_schema(baseline).metadata[b"wronglung.run"])
    assert summary["manifest"]["command"] == []
    first = hashlib.sha256(min(frame["instance_id"], key=lambda one: hashlib.sha256(one.encode()).hexdigest()).encode())
    assert min(pd.read_parquet(baseline)["instance_id"]) == first.hexdigest()[:16]


def test_equal_runs_give_equal_bytes(run: Path, baseline: Path, tmp_path: Path) -> None:
    results = load_results(run)
    results.run.manifest.seconds["total"] = 1e6
    results.run.manifest.command.append("--data-root=/home/me")
    again = replace(results, instances=results.instances.sample(frac=1, random_state=2))
    (tmp_path / "again").mkdir()
    again.save(tmp_path / "again")
    update_baseline(tmp_path / "other.parquet", tmp_path / "again")
    assert (tmp_path / "other.parquet").read_bytes() == baseline.read_bytes()
    # A baseline may itself be a candidate, and gives itself again.
    update_baseline(tmp_path / "copy.parquet", baseline)
    assert (tmp_path / "copy.parquet").read_bytes() == baseline.read_bytes()


def test_patients_keep_their_rows_together(run: Path) -> None:
    frame = load_results(run).instances
    named = pseudonymous(frame)
    pairs = set(zip(frame["cluster"], named["cluster"], strict=True))
    assert len(pairs) == frame["cluster"].nunique() == named["cluster"].nunique()
    assert list(named["auroc"]) == list(frame["auroc"])


def test_updating_replaces_a_baseline_and_nothing_else(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "baseline.parquet"
    for _ in range(2):
        assert "written: " in wronglung("compare", target, run, "--update-baseline").stderr
    assert "### passed" in wronglung("compare", target, run).stdout
    assert [path.name for path in tmp_path.iterdir()] == ["baseline.parquet"]
    for content, message in (
        (b"not parquet", "cannot be read as parquet"),
        ((run / "instances.parquet").read_bytes(), "is no baseline"),
    ):
        target.write_bytes(content)
        said = refused("compare", target, run, "--update-baseline")
        assert message in said
        assert "it is not replaced" in said
        assert target.read_bytes() == content


def test_it_is_written_to_a_parquet_file_only(run: Path, tmp_path: Path) -> None:
    assert "a baseline is a .parquet file" in refused("compare", run, run, "--update-baseline")
    assert "a baseline is a .parquet file" in refused("compare", tmp_path / "base.json", run, "--update-baseline")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_the_gated_cell_is_not_accepted(run: Path, tmp_path: Path) -> None:
    message = refused("compare", tmp_path / "b.parquet", run, "--update-baseline", "--fail-on", "auroc@gone:-0.1")
    assert "has no task 'gone' here" in message
    assert list(tmp_path.iterdir()) == []


class TestDamage:
    def damaged(self, baseline: Path, metadata: dict[bytes, bytes] | None = None, **columns: object) -> Path:
        table = parquet.read_table(baseline)
        for name, values in columns.items():
            at = table.column_names.index(name)
            table = table.remove_column(at) if values is None else table.set_column(at, name, pa.array(values))
        parquet.write_table(table.replace_schema_metadata(metadata or table.schema.metadata), baseline)
        return baseline

    def test_is_named_with_its_file(self, baseline: Path) -> None:
        n = parquet.read_table(baseline).num_rows
        content = baseline.read_bytes()
        for columns, message in (
            ({"auroc": None}, "column 'auroc' is missing"),
            ({"auroc": ["high"] * n}, "column 'auroc' is missing or does not hold floating-point"),
            ({"in_all": ["yes"] * n}, "column 'in_all' is missing or does not hold true and false"),
            ({"cluster": None}, "has no column 'cluster'"),
            ({"auroc": [0.5] * n}, "the files are of different runs"),
        ):
            baseline.write_bytes(content)
            with pytest.raises(WronglungError, match=f"baseline.parquet: .*{message}"):
                compare(self.damaged(baseline, **columns), baseline)

    @pytest.mark.parametrize("summary", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000])
    def test_a_summary_that_is_none_is_refused(self, baseline: Path, summary: bytes) -> None:
        with pytest.raises(WronglungError, match="baseline.parquet: its summary: "):
            load_side(self.damaged(baseline, {b"wronglung.run": summary}))


def test_two_instances_with_one_digest_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wronglung.leaderboard.baseline._DIGITS", 0)
    with pytest.raises(WronglungError, match="two instances have the same digest"):
        load_side(run)


def test_nothing_is_left_where_it_cannot_be_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="cannot be written"):
        write_baseline(tmp_path / "gone" / "b.parquet", load_side(run), [])
