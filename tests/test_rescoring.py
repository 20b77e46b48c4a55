"""The metrics of a run again from its stored maps: the same to the last bit, without the model and without an image."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import typer
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from wronglung import Dataset, Results, evaluate, load_dataset, load_model, load_suite
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import ImageRef
from wronglung.benchmark.pairs import pairs
from wronglung.benchmark.rescoring import EXHAUSTIVE, rescore
from wronglung.benchmark.results import INSTANCES, MAPS, PAIRS, RESULTS, SKIPPED, load_results, load_run
from wronglung.benchmark.rows import digest
from wronglung.benchmark.score_cli import score

GLORIA = "gloria-phantom-no-attention"
SUITES = {"oracle": "smoke", "random": "smoke", GLORIA: "wrong-lung"}
"""What each model's run was made under."""


@pytest.fixture(scope="module")
def films() -> Dataset:
    return load_dataset("phantom", patients=12)


@pytest.fixture(scope="module")
def runs(films: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with maps, by model."""
    folders = {name: tmp_path_factory.mktemp(name) for name in SUITES}
    for name, folder in folders.items():
        evaluate(load_model(name, device="cpu"), films, SUITES[name], save_maps=True).save(folder)
    return folders


@pytest.fixture
def a_run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return shutil.copytree(runs["oracle"], tmp_path / "run")


def same(one: Results, other: Results) -> bool:
    pd.testing.assert_frame_equal(one.instances, other.instances, check_exact=True)
    assert one.run.scores == other.run.scores
    assert one.run.correlations == other.run.correlations
    assert one.run.dataset == other.run.dataset
    assert one.run.suite == other.run.suite
    assert one.run.model == other.run.model
    assert one.skipped == other.skipped
    return True


class TestTheSameSuite:
    @pytest.mark.parametrize("model", SUITES)
    def test_gives_the_same_figures_and_files(
        self, model: str, films: Dataset, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def looked_at(self: ImageRef) -> bytes:
            raise AssertionError("no image is read")

        monkeypatch.setattr(type(films.instances[0].image), "read", looked_at)
        again = rescore(runs[model], films, save_maps=True)
        assert same(again, dataclasses.replace(load_results(runs[model]), skipped=()))
        again.save(tmp_path)
        for name in (INSTANCES, SKIPPED, MAPS, PAIRS):
            assert (tmp_path / name).read_bytes() == (runs[model] / name).read_bytes(), name
        manifest = again.run.manifest
        assert manifest.warnings == []
        assert (manifest.encoded_images, manifest.aligned_pairs) == (0, 0)
        assert manifest.device == load_run(runs[model]).manifest.device

    def test_seed_and_limit_are_the_run_s_own(self, films: Dataset, tmp_path: Path) -> None:
        made = evaluate(load_model("uniform"), films, "smoke", seed=7, limit=5, save_maps=True)
        made.save(tmp_path)
        again = rescore(tmp_path, films)
        assert same(again, made)
        assert again.run.manifest.seed == 7

    def test_of_a_run_scored_again_it_does_so_once_more(
        self, films: Dataset, runs: dict[str, Path], tmp_path: Path
    ) -> None:
        rescore(runs["random"], films, save_maps=True).save(tmp_path)
        assert same(rescore(tmp_path, films), rescore(runs["random"], films))


class TestAnotherSuite:
    def test_gives_what_a_run_under_it_gives(self, films: Dataset, runs: dict[str, Path]) -> None:
        direct = evaluate(load_model(GLORIA, device="cpu"), films, "smoke")
        assert same(rescore(runs[GLORIA], films, "smoke"), direct)

    def test_may_measure_otherwise(self, films: Dataset, runs: dict[str, Path]) -> None:
        suite = load_suite("smoke")
        changes = {"frame": "image", "upsampling": "nearest", "box_edges": "inclusive", "definitions": "released"}
        suite = suite.model_copy(update={"protocol": suite.protocol.model_copy(update=changes)})
        direct = evaluate(load_model(GLORIA, device="cpu"), films, suite)
        assert same(rescore(runs[GLORIA], films, suite), direct)

    def test_keeps_the_maps_that_it_asks_for(self, films: Dataset, runs: dict[str, Path], tmp_path: Path) -> None:
        folders = {"direct": tmp_path / "direct", "again": tmp_path / "again"}
        for folder in folders.values():
            folder.mkdir()
        evaluate(load_model(GLORIA, device="cpu"), films, "smoke", save_maps=True).save(folders["direct"])
        rescore(runs[GLORIA], films, "smoke", save_maps=True).save(folders["again"])
        for name in (MAPS, PAIRS):
            assert len({(folder / name).read_bytes() for folder in folders.values()}) == 1, name
        assert (folders["again"] / MAPS).stat().st_size < (runs[GLORIA] / MAPS).stat().st_size

    def test_that_asks_for_more_is_refused_with_their_number(self, films: Dataset, runs: dict[str, Path]) -> None:
        with pytest.raises(WronglungError) as refusal:
            rescore(runs["oracle"], films, "wrong-lung")
        missing = wanted(films, "wrong-lung") - load_file(runs["oracle"] / MAPS).keys()
        assert f"{len(missing)} of the pairs that suite 'wrong-lung' asks for have no map, the first is image" in str(
            refusal.value
        )

    def test_another_seed_asks_for_other_sentences(self, films: Dataset, runs: dict[str, Path]) -> None:
        with pytest.raises(WronglungError, match=r"have no map.*\(seed 0\)"):
            rescore(runs["oracle"], films, seed=1)

    def test_numbers_that_are_too_small_are_refused(self, films: Dataset, runs: dict[str, Path]) -> None:
        with pytest.raises(WronglungError, match="limit must be at least 1, not 0"):
            rescore(runs["oracle"], films, limit=0)

    def test_a_limit_takes_the_first_instances_with_their_values(self, films: Dataset, runs: dict[str, Path]) -> None:
        few = rescore(runs["oracle"], films, limit=4)
        assert few.run.dataset.limit == 4
        assert few.run.dataset.images_fingerprint is None
        ids = {one.id for one in films.instances[:4]}
        all_rows = load_results(runs["oracle"]).instances
        pd.testing.assert_frame_equal(few.instances, all_rows[all_rows["instance_id"].isin(ids)].reset_index(drop=True))


def wanted(dataset: Dataset, suite: str) -> set[str]:
    """The names of the maps that a suite asks for."""
    return {f"{image}/{digest(sentence)}" for image, sentence in pairs(load_suite(suite), dataset)}


class TestExhaustiveAccuracies:
    def test_are_carried_over(self, films: Dataset, runs: dict[str, Path]) -> None:
        metric = "selection_accuracy_global_exhaustive"
        before = load_results(runs[GLORIA]).instances
        again = rescore(runs[GLORIA], films).instances
        assert before.loc[before["task"] == "original", metric].notna().all()
        pd.testing.assert_series_equal(again[metric], before[metric], check_exact=True)

    def test_are_undefined_where_the_run_has_none_and_that_is_said(
        self, films: Dataset, runs: dict[str, Path], tmp_path: Path
    ) -> None:
        shutil.copytree(runs[GLORIA], tmp_path, dirs_exist_ok=True)
        table = parquet.read_table(tmp_path / INSTANCES)
        parquet.write_table(
            table.drop_columns([one for one in EXHAUSTIVE if one in table.column_names]), tmp_path / INSTANCES
        )
        again = rescore(tmp_path, films)
        assert again.instances["selection_accuracy_global_exhaustive"].isna().all()
        assert [one.split(" ")[0] for one in again.run.manifest.warnings] == ["selection_accuracy_global_exhaustive"]


class TestRunsOfEarlierVersions:
    def test_have_no_similarities_and_that_is_said(self, films: Dataset, a_run: Path) -> None:
        (a_run / PAIRS).unlink()
        again, before = rescore(a_run, films, save_maps=True), load_results(a_run).instances
        assert again.pairs is None
        (warning,) = again.run.manifest.warnings
        assert (
            "is of a version that kept no pairs.parquet: similarities, and what follows from them, are undefined"
            in warning
        )
        for metric in ("selection_accuracy_local", "selection_accuracy_global"):
            assert again.instances[metric].isna().all()
        for metric in ("auroc", "entropy", "random_attention_kl"):
            pd.testing.assert_series_equal(again.instances[metric], before[metric], check_exact=True)

    def test_whose_weight_on_no_region_is_lost_are_refused(
        self, films: Dataset, runs: dict[str, Path], tmp_path: Path
    ) -> None:
        shutil.copytree(runs[GLORIA], tmp_path, dirs_exist_ok=True)
        (tmp_path / PAIRS).unlink()
        with pytest.raises(WronglungError, match="entropy cannot be computed"):
            rescore(tmp_path, films)


def test_images_that_could_not_be_read_are_left_out_again(sketch_file: Path, tmp_path: Path) -> None:
    dataset = load_dataset("jsonl", shutil.copytree(sketch_file.parent, tmp_path / "data") / sketch_file.name)
    broken = dataset.instances[4].image
    broken.path.write_bytes(broken.path.read_bytes()[:60])
    made = evaluate(load_model("uniform"), dataset, "smoke", save_maps=True)
    assert [one.reason for one in made.skipped] == ["image_unreadable"]
    (tmp_path / "run").mkdir()
    made.save(tmp_path / "run")
    assert same(rescore(tmp_path / "run", dataset), made)


def other_dataset(folder: Path) -> None:
    raw = json.loads((folder / RESULTS).read_text())
    raw["dataset"]["fingerprint"] = "0" * 64
    (folder / RESULTS).write_text(json.dumps(raw))


def bad_card(folder: Path) -> None:
    raw = json.loads((folder / RESULTS).read_text())
    raw["model"]["map_kind"] = "mystery"
    (folder / RESULTS).write_text(json.dumps(raw))


def change_maps(change: Callable[[dict[str, Any], dict[str, str]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with safe_open(folder / MAPS, framework="np") as stream:
            metadata = stream.metadata()
        tensors = load_file(folder / MAPS)
        change(tensors, metadata)
        save_file(tensors, folder / MAPS, metadata)

    return apply


def each_map(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return change_maps(lambda tensors, _: tensors.update({key: change(one) for key, one in tensors.items()}))


def geometry(text: str) -> Callable[[Path], None]:
    return change_maps(lambda _, metadata: metadata.update(geometry=text))


def change_pairs(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda folder: parquet.write_table(change(parquet.read_table(folder / PAIRS)), folder / PAIRS)


def column(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(
        table.column_names.index(name), name, pa.array([value] * table.num_rows, type=None)
    )


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_dataset, "was made on 'phantom' with fingerprint 0000.*, not on 'phantom' with [0-9a-f]{64}; give the dataset"),
        (bad_card, "its model's card cannot be read: map_kind"),
        (lambda folder: (folder / MAPS).unlink(), "kept no maps; make it again with --save-maps"),
        (lambda folder: (folder / MAPS).write_bytes(b"x" * 40), f"{MAPS}: cannot be read as maps of a run"),
        (change_maps(lambda _, metadata: metadata.clear()), "does not say where its maps lie"),
        (geometry("{}"), "does not say where its maps of image"),
        (geometry("[1]"), "cannot be read as maps of a run"),
        (geometry('{"a": [1, 2]}'), "cannot be read as maps of a run"),
        (geometry("[" * 100_000), "cannot be read as maps of a run"),
        (each_map(lambda one: one * np.float32(np.nan)), "saliency map is not finite"),
        (each_map(lambda one: one - 1), "negative saliency"),
        (each_map(lambda one: one[0]), "is no float32 map"),
        (each_map(lambda one: one.astype(np.float64)), "is no float32 map"),
        (change_pairs(lambda table: table.slice(1)), f"{PAIRS}: has no row of image"),
        (change_pairs(lambda table: table.drop_columns(["no_attention_weight"])), f"{PAIRS}: cannot be read as the pairs"),
        (change_pairs(column("local_similarity", "high")), f"{PAIRS}: cannot be read as the pairs"),
        (change_pairs(column("local_similarity", None)), f"{PAIRS}: cannot be read as the pairs"),
        (change_pairs(column("local_similarity", np.inf)), "local_similarity is not finite"),
        (change_pairs(column("no_attention_weight", 2.0)), "no_attention_weight must lie in"),
        (change_pairs(column("image_id", 3)), f"{PAIRS}: has no row of image"),
        (lambda folder: (folder / PAIRS).write_bytes(b"PAR1"), f"{PAIRS}: cannot be read as the pairs"),
        (lambda folder: (folder / SKIPPED).write_text('{"no": 1}\n'), f"{SKIPPED}: cannot be read"),
        (lambda folder: (folder / SKIPPED).unlink(), f"{SKIPPED}: cannot be read"),
        (lambda folder: (folder / INSTANCES).unlink(), f"{INSTANCES}: cannot be read as parquet"),
        (lambda folder: (folder / RESULTS).unlink(), "no run here"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_error(
    harm: Callable[[Path], object], message: str, films: Dataset, a_run: Path
) -> None:
    harm(a_run)
    with pytest.raises(WronglungError, match=message):
        rescore(a_run, films)


class TestCommandLine:
    def run(self, *arguments: str | Path) -> Any:
        app = typer.Typer()
        app.command()(score)
        return CliRunner().invoke(app, [*map(str, arguments), "-d", "phantom", "--data-arg", "patients=12"])

    def test_writes_a_run_and_prints_a_table(self, runs: dict[str, Path], tmp_path: Path) -> None:
        done = self.run(runs["oracle"], "-s", "smoke", "-o", tmp_path / "new")
        assert done.exit_code == 0, done.output
        assert "| oracle |" in done.stdout
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted((RESULTS, INSTANCES, SKIPPED))
        assert load_run(tmp_path / "new").suite["name"] == "smoke"

    def test_prints_json(self, runs: dict[str, Path], tmp_path: Path) -> None:
        done = self.run(runs["oracle"], "-s", "smoke", "-o", tmp_path, "--json", "-q")
        assert json.loads(done.stdout)["scores"] == json.loads((tmp_path / RESULTS).read_text())["scores"]
        assert done.stderr == ""

    def test_says_what_is_lost(self, a_run: Path, tmp_path: Path) -> None:
        (a_run / PAIRS).unlink()
        done = self.run(a_run, "-s", "smoke", "-o", tmp_path / "new")
        assert "kept no pairs.parquet" in done.stderr

    def test_replaces_no_run_and_never_its_source(self, runs: dict[str, Path], a_run: Path) -> None:
        source = runs["random"]
        taken = self.run(source, "-o", a_run)
        assert "holds a run already" in str(taken.exception)
        for flags in ((), ("--overwrite",)):
            own = self.run(source, "-o", source / ".." / source.name, *flags)
            assert "is the run to be scored; choose another --out" in str(own.exception)
        assert load_run(source).model["name"] == "random"
