"""``wronglung compare`` end to end, on runs of trained variants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from planting import lower, plant
from test_cli import refused, wronglung

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.cells import Cell, cell_values
from wronglung.benchmark.results import load_results
from wronglung.benchmark.statistics.resampling import cluster_intervals
from wronglung.leaderboard.baseline import pseudonymous
from wronglung.leaderboard.compare import compare

SUITE = """
name: two-tasks
version: "1.0"
description: Enough for a comparison.
tasks: [original, swap_left_right, random_sentences]
subsets: [all, one_lung]
metrics: [auroc, average_precision, "iou@10", entropy, random_attention_kl]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two variants on the same generated films."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "suite.yaml").write_text(SUITE)
    films = load_dataset("phantom", patients="160")
    for name in ("retrained", "random-sentences"):
        model = load_model(f"gloria-phantom-{name}", device="cpu")
        (folder / name).mkdir()
        evaluate(model, films, str(folder / "suite.yaml")).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def base(runs: Path) -> Path:
    return runs / "retrained"


class TestOutcome:
    def test_a_run_is_as_good_as_itself(self, base: Path) -> None:
        done = wronglung("compare", base, base, "--strict")
        assert done.stdout.startswith("### passed: of 8 gates, 8 passed\n")
        assert "Changed without a gate" not in done.stdout

    def test_the_flat_variant_fails_where_it_is_worse(self, runs: Path) -> None:
        done = wronglung("compare", runs / "retrained", runs / "random-sentences", code=1)
        rows = [line.split("|")[1:5] for line in done.stdout.splitlines() if "original/one_lung" in line]
        outcome, cell, before, after = (text.strip() for text in rows[0])
        assert (outcome, cell) == ("FAILED", "auroc@original/one_lung")
        assert float(before) > 80
        assert float(after) < 65
        assert done.stdout.startswith("### FAILED: of 8 gates, ")
        assert "worse by more than the margin" in done.stdout
        # Neither reads left and right, so nothing can get worse there.
        assert any(
            line.startswith("| passed") and "Δauroc@swap_left_right/one_lung" in line
            for line in done.stdout.splitlines()
        )
        assert any(
            line.startswith("| FAILED") and "Δauroc@random_sentences/all" in line for line in done.stdout.splitlines()
        )

    def test_the_other_way_round_it_passes(self, runs: Path) -> None:
        assert compare(runs / "random-sentences", runs / "retrained").passed

    @pytest.mark.parametrize(("margin", "found"), [(0.005, True), (0.02, False)])
    def test_a_planted_point_is_found_where_the_margin_is_below_it(
        self, base: Path, tmp_path: Path, margin: float, found: bool
    ) -> None:
        worse = plant(base, tmp_path / "worse", lower("auroc", 0.01, subset="one_lung"))
        comparison = compare(
            base, worse, fail_on=[f"auroc@original/one_lung:-{margin}", f"auroc@original/all:-{margin}"]
        )
        one_lung, everywhere = comparison.gates
        assert (one_lung.outcome == "failed") is found
        assert one_lung.change.difference == pytest.approx(-0.01)
        assert everywhere.outcome == "passed"
        assert comparison.passed is not found

    def test_a_planted_point_is_found_by_a_gate_file_and_told_in_every_format(self, base: Path, tmp_path: Path) -> None:
        worse = plant(base, tmp_path / "worse", lower("auroc", 0.01, subset="one_lung"))
        (tmp_path / "gates.yaml").write_text("gates:\n  - {metric: auroc, subset: '*', margin: 0.005}\n")
        common = ("compare", base, worse, "--gate", tmp_path / "gates.yaml")
        table = wronglung(*common, code=1).stdout
        assert "| FAILED " in table
        assert "−1.00 [−1.00, −1.00] | 0.50" in table
        document = json.loads(wronglung(*common, "-f", "json", code=1).stdout)
        assert document["outcome"] == "failed"
        assert [(one["subset"], one["outcome"]) for one in document["gates"]] == [
            ("all", "passed"),
            ("one_lung", "failed"),
        ]
        suite = ElementTree.fromstring(wronglung(*common, "-f", "junit", code=1).stdout)
        assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
        failure = suite.find("testcase[@classname='original.one_lung']/failure")
        assert failure is not None
        assert failure.get("message") == "failed: worse by more than the margin"

    def test_a_model_that_no_longer_reads_the_text_fails(self, base: Path, tmp_path: Path) -> None:
        deaf = plant(base, tmp_path / "deaf", lower("auroc", -0.05, task="random_sentences"))
        (gate,) = compare(base, deaf, fail_on=["delta:auroc@random_sentences:0.02"]).gates
        assert gate.outcome == "failed"
        (gate,) = compare(deaf, base, fail_on=["Δauroc@random_sentences/all:0.02"]).gates
        assert gate.outcome == "passed"

    def test_what_noise_hides_is_inconclusive_and_fails_when_strict(self, base: Path, tmp_path: Path) -> None:
        def noise(frame: pd.DataFrame) -> None:
            rows = frame.index[frame["task"] == "original"]
            frame.loc[rows, "auroc"] += np.random.default_rng(0).normal(0, 0.4, len(rows))

        noisy = plant(base, tmp_path / "noisy", noise)
        arguments = ("compare", base, noisy, "--fail-on", "auroc@original/one_lung:-0.001")
        assert "| inconclusive " in wronglung(*arguments).stdout
        assert "| inconclusive, fails " in wronglung(*arguments, "--strict", code=1).stdout

    def test_a_limit_holds_whatever_the_base_was(self, base: Path, tmp_path: Path) -> None:
        (tmp_path / "gates.yaml").write_text(
            "gates:\n  - {metric: auroc, at_least: 0.99}\n  - {metric: entropy, at_most: 100}\n"
        )
        comparison = compare(base, base, gate=tmp_path / "gates.yaml")
        assert [one.outcome for one in comparison.gates] == ["failed", "passed"]
        assert comparison.gates[0].reason == "under its lower limit"


class TestMissingValues:
    """An undefined value is a result: it neither counts as 0 nor is silently left out."""

    def test_a_candidate_without_any_value_fails(self, base: Path, tmp_path: Path) -> None:
        none = plant(base, tmp_path / "none", lower("auroc", np.nan))
        (gate,) = compare(base, none, fail_on=["auroc:-0.02"]).gates
        assert (gate.outcome, gate.reason) == ("failed", "the candidate has no value")

    def test_a_candidate_that_lost_some_values_does_not_pass(self, base: Path, tmp_path: Path) -> None:
        def some(frame: pd.DataFrame) -> None:
            frame.loc[frame.index[frame["task"] == "original"][:3], "auroc"] = np.nan

        lost = plant(base, tmp_path / "lost", some)
        (gate,) = compare(base, lost, fail_on=["auroc:-0.02"]).gates
        assert (gate.outcome, gate.reason) == (
            "inconclusive",
            f"no value any more for 3 of {gate.change.n_paired + 3} instances",
        )
        (gate,) = compare(lost, base, fail_on=["auroc:-0.02"]).gates
        assert gate.outcome == "passed"
        assert gate.change.n_gained == 3

    def test_what_has_no_value_in_either_run_is_inconclusive_where_it_is_named(
        self, base: Path, tmp_path: Path
    ) -> None:
        none = plant(base, tmp_path / "none", lower("auroc", np.nan, subset="one_lung"))
        comparison = compare(none, none, fail_on=["auroc@original/one_lung:-0.02", "auroc:-0.02"])
        assert [one.outcome for one in comparison.gates] == ["inconclusive", "passed"]
        assert comparison.gates[0].reason == "neither run has a value"
        assert not compare(none, none, fail_on=["auroc@original/one_lung:-0.02"], strict=True).passed

    def test_a_rule_for_every_subset_leaves_out_those_that_are_empty_and_says_so(
        self, base: Path, tmp_path: Path
    ) -> None:
        none = plant(base, tmp_path / "none", lower("auroc", np.nan, subset="one_lung"))
        comparison = compare(none, none)
        assert "auroc@original/one_lung" not in {str(one.gate.cell) for one in comparison.gates}
        assert any(
            "not gated, as neither run has a value: auroc@original/one_lung" in note for note in comparison.notes
        )

    def test_gates_that_check_nothing_do_not_pass(self, base: Path, tmp_path: Path) -> None:
        none = plant(base, tmp_path / "none", lower("auroc", np.nan))
        (tmp_path / "gates.yaml").write_text("gates: [{metric: auroc, subset: '*'}]")
        message = refused("compare", none, none, "--gate", tmp_path / "gates.yaml")
        assert "no gated cell has a value in either run" in message

    def test_under_ten_patients_nothing_passes_or_fails(self, base: Path, tmp_path: Path) -> None:
        def few(frame: pd.DataFrame) -> pd.DataFrame:
            patients = sorted(frame["cluster"].unique())[:9]
            return frame[frame["cluster"].isin(patients)]

        small = plant(base, tmp_path / "small", few)
        worse = plant(small, tmp_path / "worse", lower("auroc", 0.5))
        (gate,) = compare(small, worse, fail_on=["auroc:-0.02"]).gates
        assert (gate.outcome, gate.reason) == ("inconclusive", "no interval: 9 patients, 10 are needed")
        printed = ("compare", small, worse, "--fail-on", "auroc:-0.02")
        assert wronglung(*printed).stdout.startswith("### inconclusive: of 1 gates, 1 inconclusive\n")
        assert json.loads(wronglung(*printed, "-f", "json").stdout)["outcome"] == "inconclusive"
        assert wronglung(*printed, "--strict", code=1).stdout.startswith("### FAILED: ")

    def test_what_is_resampled_is_called_as_the_data_call_it(self, base: Path, tmp_path: Path) -> None:
        def few(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["cluster"].isin(sorted(frame["cluster"].unique())[:9])]

        studies = plant(base, tmp_path / "studies", few)
        raw = json.loads((studies / "results.json").read_text())
        raw["dataset"]["unit"] = "studies"
        (studies / "results.json").write_text(json.dumps(raw))
        printed = wronglung("compare", studies, studies).stdout
        assert "no interval: 9 studies, 10 are needed" in printed
        assert "patients" not in printed


class TestFigures:
    def test_intervals_are_those_of_the_paired_differences(self, runs: Path) -> None:
        comparison = compare(runs / "retrained", runs / "random-sentences", fail_on=["auroc:-0.02"])
        one, other = (load_results(runs / name) for name in ("retrained", "random-sentences"))
        for cell in (Cell("original", "one_lung", "iou@10"), Cell("random_sentences", "all", "auroc", delta=True)):
            before, after = (cell_values(two.run, pseudonymous(two.instances), [cell]) for two in (one, other))
            (change,) = (change for change in comparison.changes if change.cell == cell)
            difference = after.values - before.values
            low, high = cluster_intervals(difference, before.clusters, one.run.manifest.seed)
            assert (change.low, change.high) == pytest.approx((low[0], high[0]), abs=1e-12)
            assert change.difference == pytest.approx(np.nanmean(difference))

    def test_base_and_candidate_are_the_figures_of_their_runs(self, runs: Path) -> None:
        comparison = compare(runs / "retrained", runs / "random-sentences")
        for side in ("base", "candidate"):
            scores = {(one.task, one.subset, one.metric): one for one in getattr(comparison, side).scores}
            for change in comparison.changes:
                score = scores[change.cell[:3]]
                stated = score.delta if change.cell.delta else score.value
                assert getattr(change, side) == (None if stated is None else pytest.approx(stated))

    def test_only_clear_changes_beyond_a_margin_are_listed_without_a_gate(self, base: Path, tmp_path: Path) -> None:
        worse = plant(base, tmp_path / "worse", lower("average_precision", 0.3, subset="one_lung"))
        done = wronglung("compare", base, worse, "--fail-on", "auroc:-0.02")
        listed = done.stdout.split("**Changed without a gate**")[1]
        assert "average_precision@original/one_lung" in listed
        assert "entropy" not in listed
        every = wronglung("compare", base, worse, "--fail-on", "auroc:-0.02", "--all").stdout
        assert "<details><summary>All other cells" in every
        assert "entropy@original/all" in every

    def test_the_same_figures_whatever_the_order_of_rows(self, runs: Path, tmp_path: Path) -> None:
        shuffled = plant(runs / "retrained", tmp_path / "shuffled", lambda frame: frame)
        frame = pd.read_parquet(shuffled / "instances.parquet").sample(frac=1, random_state=1)
        frame.to_parquet(shuffled / "instances.parquet")
        texts = [
            wronglung("compare", path, runs / "random-sentences", "-f", "json", code=1).stdout
            for path in (runs / "retrained", shuffled)
        ]
        assert texts[0] == texts[1]

    def test_level_method_and_seed_are_those_asked_for(self, runs: Path) -> None:
        pair = (runs / "retrained", runs / "random-sentences")
        (one,) = compare(*pair, fail_on=["auroc:-0.02"]).gates
        (narrow,) = compare(*pair, fail_on=["auroc:-0.02"], level=0.5).gates
        (bca,) = compare(*pair, fail_on=["auroc:-0.02"], method="bca").gates
        (other,) = compare(*pair, fail_on=["auroc:-0.02"], seed=7).gates
        assert one.change.low is not None
        assert narrow.change.low is not None
        assert narrow.change.low > one.change.low
        assert len({one.change.low, bca.change.low, other.change.low}) == 3
        assert "must lie between 0 and 1" in refused("compare", *pair, "--level", "95")


class TestRefusals:
    def test_other_data_suites_seeds_and_instances(self, base: Path, tmp_path: Path) -> None:
        def altered(name: str, **changes: object) -> Path:
            target = plant(base, tmp_path / name, lambda frame: frame)
            raw = json.loads((target / "results.json").read_text())
            for key, value in changes.items():
                where, _, leaf = key.partition("__")
                raw[where][leaf] = value
            (target / "results.json").write_text(json.dumps(raw))
            return target

        other = altered("other", dataset__fingerprint="0" * 64)
        assert "the runs cannot be compared: dataset: " in refused("compare", base, other)
        assert "major version of the suite: 1 and 2" in refused("compare", base, altered("v2", suite__version="2.0"))
        assert "seed: 0 and 5" in refused("compare", base, altered("seed", manifest__seed=5))

    def test_lost_instances_are_counted(self, base: Path, tmp_path: Path) -> None:
        def lose(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[~frame["instance_id"].isin(sorted(frame["instance_id"].unique())[:3])]

        lost = plant(base, tmp_path / "lost", lose)
        n = load_results(base).run.dataset.n_instances
        assert f"3 of the base's {n} instances are not in the other run" in refused("compare", base, lost)
        assert f"3 of the candidate's {n} instances" in refused("compare", lost, base)

    def test_missing_cells(self, base: Path, tmp_path: Path) -> None:
        lacking = plant(base, tmp_path / "lacking", lambda frame: frame)
        raw = json.loads((lacking / "results.json").read_text())
        raw["scores"] = [one for one in raw["scores"] if one["metric"] != "iou@10"]
        (lacking / "results.json").write_text(json.dumps(raw))
        assert "the candidate lacks cells of the base: iou@10@original/all" in refused("compare", base, lacking)
        done = wronglung("compare", lacking, base)
        assert "10 cells of the candidate are not in the base" in done.stdout
        assert "names no metric of the run; there are auroc, " in refused(
            "compare", lacking, base, "--fail-on", "iou@10:-0.1"
        )

    def test_files_of_different_runs(self, runs: Path, tmp_path: Path) -> None:
        mixed = plant(runs / "retrained", tmp_path / "mixed", lambda frame: frame)
        (mixed / "instances.parquet").write_bytes((runs / "random-sentences" / "instances.parquet").read_bytes())
        assert "the files are of different runs" in refused("compare", runs / "retrained", mixed)

    def test_tables_that_no_run_writes_are_named_with_their_run(self, base: Path, tmp_path: Path) -> None:
        def repeated(frame: pd.DataFrame) -> pd.DataFrame:
            return pd.concat([frame, frame.head(1)])

        def torn(frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(cluster=frame["cluster"].where(frame["task"] == "original", frame["instance_id"]))

        def infinite(frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(entropy=np.inf)

        for edit, message in (
            (repeated, "task 'original' has several rows for one instance"),
            (torn, "the tasks of the run do not have the same instances of the same patients"),
            (infinite, "column 'entropy' holds infinite values"),
        ):
            damaged = plant(base, tmp_path / edit.__name__, lambda frame: frame)
            edit(load_results(base).instances).to_parquet(damaged / "instances.parquet")
            message = f"{damaged}{'/instances.parquet' if edit is infinite else ''}: {message}"
            assert message in refused("compare", base, damaged)

    def test_what_is_no_run(self, base: Path, tmp_path: Path) -> None:
        assert "no run here" in refused("compare", base, tmp_path)
        assert "gone.parquet: does not exist; --update-baseline writes it" in refused(
            "compare", tmp_path / "gone.parquet", base
        )
        assert "is no baseline" in refused("compare", base / "instances.parquet", base)
        assert "cannot be read: No such file" in refused("compare", base, base, "--gate", tmp_path / "gone.yaml")


class TestFixture:
    def test_passes_what_passes_and_fails_with_the_table(self, runs: Path, tmp_path: Path) -> None:
        (tmp_path / "test_mine.py").write_text(
            f"BASE, CANDIDATE = {str(runs / 'retrained')!r}, {str(runs / 'random-sentences')!r}\n"
            "def test_same(wronglung_compare):\n"
            "    assert wronglung_compare(BASE, BASE, fail_on=['auroc:-0.02'], strict=True).passed\n"
            "def test_other(wronglung_compare):\n"
            "    wronglung_compare(BASE, CANDIDATE, fail_on=['auroc:-0.02'])\n"
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "wronglung.benchmark.pytest_plugin", str(tmp_path)]
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=alone)
        assert "1 failed, 1 passed" in done.stdout
        assert "### FAILED: of 1 gates, 1 failed" in done.stdout
        assert "| auroc@original/all |" in done.stdout
