"""Files of earlier versions stay readable; those of a later one are refused with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from fuzzing import command_line
from fuzzing.checkpoints import VOCABULARY, tiny
from safetensors.torch import save_file

from wronglung.adapters.gloria.design import METADATA, read_design
from wronglung.adapters.gloria.training import folder as training
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import load_results, load_run

RUNS = Path(__file__).parent / "data" / "results"
EARLIER = ("first", "now")

NEWER = (2, 10**30)
NO_VERSION = ("2", "1", 1.5, 1.0, True, 0, -1, None, [1])


def changed(folder: Path, change: Callable[[dict[str, Any]], object], source: str = "now") -> Path:
    """A run with its summary changed."""
    shutil.copytree(RUNS / source, folder)
    file = folder / "results.json"
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))
    return folder


class TestEarlierResults:
    @pytest.mark.parametrize("name", EARLIER)
    def test_are_read_with_their_instances(self, name: str) -> None:
        results = load_results(RUNS / name)
        assert results.run.schema_version == 1
        assert results.run.model["name"] == "oracle"
        assert len(results.instances) == results.run.dataset.n_instances * len(results.run.suite["tasks"])
        scores = {(one.task, one.subset, one.metric): one.value for one in results.run.scores}
        of_subset = results.instances[results.instances["in_one_lung"] & (results.instances["task"] == "original")]
        assert scores["original", "one_lung", "auroc"] == pytest.approx(of_subset["auroc"].mean(), abs=1e-12)

    @pytest.mark.parametrize("name", EARLIER)
    def test_go_through_every_verb(self, name: str, tmp_path: Path) -> None:
        run = RUNS / name
        assert "| oracle" in command_line.run("leaderboard", run)
        assert "passed" in command_line.run("compare", run, run)
        command_line.run("compare", tmp_path / "base.parquet", run, "--update-baseline")
        assert "passed" in command_line.run("compare", tmp_path / "base.parquet", run)
        command_line.run("report", run, "--out", tmp_path / "report")
        assert "oracle" in (tmp_path / "report" / "index.html").read_text()
        assert "oracle" in command_line.run("paper", "localization", run)

    def test_say_nothing_that_the_first_did_not_know(self) -> None:
        dataset = load_run(RUNS / "first").dataset
        assert dataset.unit == "patients, studies or images"
        assert dataset.images_fingerprint is None

    def test_the_first_lack_what_came_later(self) -> None:
        """So that these tests are of two forms, not of one twice."""
        first, now = (json.loads((RUNS / name / "results.json").read_text()) for name in EARLIER)
        assert {"unit", "repaired", "images_fingerprint"} <= now["dataset"].keys() - first["dataset"].keys()

    def test_an_unknown_field_is_refused_by_its_name(self, tmp_path: Path) -> None:
        run = changed(tmp_path / "run", lambda raw: raw["dataset"].update(colour="red"))
        with pytest.raises(WronglungError, match=r"results\.json: is not a run of wronglung: dataset\.colour: "):
            load_run(run)


@pytest.mark.parametrize("version", NEWER)
class TestNewerFiles:
    def test_results(self, version: int, tmp_path: Path) -> None:
        run = changed(tmp_path / "run", lambda raw: raw.update(schema_version=version, quite="new"))
        with pytest.raises(
            WronglungError, match=r"results\.json: has schema version .*; this wronglung reads up to 1: update it"
        ):
            load_run(run)
        for verb in ("leaderboard", "paper localization", "report --out OUT", "compare RUN"):
            arguments = verb.replace("OUT", str(tmp_path / "out")).replace("RUN", str(run)).split()
            with pytest.raises(WronglungError, match="update it"):
                command_line.run(*arguments, run)
        assert not (tmp_path / "out").exists()

    def test_baselines(self, version: int, tmp_path: Path) -> None:
        file = tmp_path / "base.parquet"
        _baseline(file, version)
        with pytest.raises(WronglungError, match=r"base\.parquet: its summary: has schema version .*: update it"):
            command_line.run("compare", file, RUNS / "now")

    def test_checkpoints(self, version: int, tmp_path: Path) -> None:
        own = {"design": {"version": version, "later": True}, "vocabulary": VOCABULARY.decode()}
        save_file(tiny(), tmp_path / "new.safetensors", {METADATA: json.dumps(own)})
        with pytest.raises(WronglungError, match=r"new\.safetensors: its .* has schema version .*: update it"):
            read_design(tmp_path / "new.safetensors")

    def test_states_of_training(self, version: int, tmp_path: Path) -> None:
        torch.save({"version": version, "network": {}}, tmp_path / training.STATE)
        with pytest.raises(WronglungError, match=r"state\.pt: has schema version .*: update it"):
            training.read_state(tmp_path)


@pytest.mark.parametrize("version", NO_VERSION, ids=repr)
class TestFilesOfNoVersion:
    def test_results(self, version: object, tmp_path: Path) -> None:
        run = changed(tmp_path / "run", lambda raw: raw.update(schema_version=version))
        with pytest.raises(WronglungError, match=r"results\.json: has (no|a) schema version.*; it is damaged"):
            load_run(run)

    def test_baselines(self, version: object, tmp_path: Path) -> None:
        _baseline(tmp_path / "base.parquet", version)
        with pytest.raises(
            WronglungError, match=r"base\.parquet: its summary: has (no|a) schema version.*; it is damaged"
        ):
            command_line.run("compare", tmp_path / "base.parquet", RUNS / "now")


def test_results_without_the_key_are_refused(tmp_path: Path) -> None:
    run = changed(tmp_path / "run", lambda raw: raw.pop("schema_version"))
    with pytest.raises(WronglungError, match=r"results\.json: has no schema version"):
        load_run(run)


def test_a_state_says_its_version_and_the_first_states_need_not(tmp_path: Path) -> None:
    training.write_state(tmp_path, {"network": {}})
    assert training.read_state(tmp_path)["version"] == training.VERSION
    torch.save({"network": {}}, tmp_path / training.STATE)
    assert training.read_state(tmp_path) == {"network": {}}


def _baseline(file: Path, version: object) -> None:
    command_line.run("compare", file, RUNS / "now", "--update-baseline")
    table = pq.read_table(file)
    summary = json.loads(table.schema.metadata[b"wronglung.run"])
    summary["schema_version"] = version
    pq.write_table(table.replace_schema_metadata({b"wronglung.run": json.dumps(summary).encode()}), file)
