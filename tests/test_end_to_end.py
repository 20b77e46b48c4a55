"""Whole runs: GLoRIA through the command line against the original's numbers, and all models on real films."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from wronglung import Dataset, evaluate, load_dataset, load_model
from wronglung.adapters.gloria.preprocessing import geometry
from wronglung.benchmark.cli import main
from wronglung.benchmark.frames import scoring_frame
from wronglung.benchmark.instances import Box
from wronglung.benchmark.results import INSTANCES, MAPS, load_run
from wronglung.benchmark.rows import digest


def wronglung(*arguments: str | Path) -> str:
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["wronglung", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def inputs(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "inputs.json").read_text())
    return content


@pytest.fixture(scope="module")
def run(
    inputs: dict[str, Any], golden: Path, golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("golden-run")
    pixels = np.load(golden / "images.npz")
    for at in range(len(inputs["images"])):
        Image.fromarray(pixels[f"image_{at}"]).save(folder / f"{at}.png")
    lines = [
        {
            "id": f"pair-{one['index']:02d}",
            "image": f"{one['image']}.png",
            "sentence": one["text"],
            # The original's corners are the first and the last pixel inside.
            "boxes": [{"name": "", "box": box} for box in one["boxes_original_xyxy"]],
        }
        for one in inputs["sentences"]
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wronglung(
        "run", "-m", "gloria", "--model-arg", f"checkpoint={golden_checkpoint}", "--model-arg", f"bert={golden / 'bert'}",
        "-d", "jsonl", "--data-root", folder, "-s", "wrong-lung-released", "-o", folder / "run", "--save-maps",
        "--device", "cpu",
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> pd.DataFrame:
    frame = pd.read_parquet(run / INSTANCES)
    return frame[frame["task"] == "original"].sort_values("instance_id").reset_index(drop=True)


class TestGloriaOnTheGoldenPairs:
    """The golden images and sentences as a dataset that a user could have written, run as released."""

    def test_maps(self, run: Path, inputs: dict[str, Any], golden: Path) -> None:
        maps, expected = load_file(run / MAPS), np.load(golden / "attention.npz")["attn_mean_matched"]
        for one in inputs["sentences"]:
            ours = maps[f"{one['image']}/{digest(one['text'])}"]
            np.testing.assert_allclose(ours, expected[one["index"]], rtol=2e-4)
            np.testing.assert_allclose(ours, expected[one["index"]], atol=1e-5 * expected.max())

    def test_similarities(self, rows: pd.DataFrame, inputs: dict[str, Any], golden: Path) -> None:
        expected = np.load(golden / "similarity.npz")
        images = [one["image"] for one in inputs["sentences"]]
        pairs = (images, range(len(images)))
        np.testing.assert_allclose(rows["local_similarity"], expected["local_max_fork_caplens"][pairs], atol=2e-5)
        np.testing.assert_allclose(rows["global_similarity"], expected["global_cosine"][pairs], atol=1e-5)

    def test_metrics(self, rows: pd.DataFrame, inputs: dict[str, Any], golden: Path) -> None:
        """Exactly, where arithmetic on corners gives the label mask of the original, which pushes masks through
        the image pipeline; nearly, where it is off by a row or column of pixels."""
        expected = json.loads((golden / "metrics.json").read_text())["rows"]
        labels = np.load(golden / "preprocess.npz")["seg_packed"]
        same = 0
        for row, one, label, sentence in zip(
            rows.to_dict("records"), expected, labels, inputs["sentences"], strict=True
        ):
            figures, nearest = one["base"], one["base"]["nearest"]
            assert row["entropy"] == pytest.approx(figures["attn_entropy"], abs=1e-5)
            if nearest["auroc"] is None:
                assert row["undefined"] in ("boxes_outside_visible_window", "no_positive_pixel")
                assert np.isnan(row["auroc"])
                continue
            size = inputs["images"][sentence["image"]]
            boxes = [Box("", *box) for box in sentence["boxes_original_xyxy"]]
            mask = scoring_frame(geometry(size["width"], size["height"]), "model").mask(boxes, inclusive=True)
            exact = bool((mask == np.unpackbits(label).reshape(224, 224)).all())
            same += exact
            # Maps of our own embeddings order nearly equal regions differently.
            near = 1e-3 if exact else 0.01
            assert row["auroc"] == pytest.approx(nearest["auroc"], abs=near)
            assert row["average_precision"] == pytest.approx(nearest["average_precision"], abs=near)
            for percent in (5, 10, 20, 30):
                for name in ("precision", "recall", "f1", "iou"):
                    value = nearest[f"top_{percent}_percent"][name]
                    assert row[f"{name}@{percent}"] == pytest.approx(value, abs=near)
        assert same >= 9

    def test_the_card_tells_the_checkpoint(self, run: Path) -> None:
        card = load_run(run).model
        assert len(card["checkpoint"]) == 64
        assert card["settings"]["local_similarity"] == "fork-eval"


def test_gloria_does_not_depend_on_batches_or_order(
    golden_checkpoint: Path, golden: Path, sketch: Dataset, tmp_path: Path
) -> None:
    arguments = {"checkpoint": str(golden_checkpoint), "bert": str(golden / "bert"), "device": "cpu"}
    small = dataclasses.replace(sketch, instances=sketch.instances[:18])
    turned = dataclasses.replace(small, instances=small.instances[::-1])
    one = evaluate(load_model("gloria", **arguments), small, "wrong-lung", batch_size=16)
    other = evaluate(load_model("gloria", **arguments), turned, "wrong-lung", batch_size=3)
    assert one.instances["instance_id"].tolist() == other.instances["instance_id"].tolist()
    numbers = one.instances.select_dtypes("float").columns
    np.testing.assert_allclose(one.instances[numbers], other.instances[numbers], atol=1e-5)


@pytest.fixture(scope="module")
def dataset(covid_lungs: Path) -> Dataset:
    return load_dataset("covid-lungs", covid_lungs)


@pytest.fixture(scope="module")
def runs(dataset: Dataset) -> dict[str, Any]:
    names = ("uniform", "center-prior", "random", "text-blind", "oracle", "mirrored-oracle")
    return {name: evaluate(load_model(name), dataset, "wrong-lung").run for name in names}


class TestRealFilms:
    """Floors and ceilings on the covid-lungs films, under the full protocol."""

    def cell(self, run: Any, task: str, metric: str, subset: str) -> Any:
        return next(one for one in run.scores if (one.task, one.metric, one.subset) == (task, metric, subset))

    def test_the_oracle_is_near_its_ceiling_and_collapses_when_sides_are_swapped(self, runs: dict[str, Any]) -> None:
        assert self.cell(runs["oracle"], "original", "auroc", "all").value > 0.99
        assert self.cell(runs["oracle"], "swap_left_right", "auroc", "one_lung").delta < -0.5
        assert self.cell(runs["oracle"], "swap_left_right", "auroc", "one_lung").delta_ci_high < -0.4

    def test_the_mirrored_oracle_comes_last(self, runs: dict[str, Any]) -> None:
        order = sorted(runs, key=lambda name: self.cell(runs[name], "original", "auroc", "one_lung").value)
        assert order[0] == "mirrored-oracle"

    @pytest.mark.parametrize("name", ["uniform", "center-prior", "text-blind"])
    def test_what_ignores_the_text_does_not_move_with_it(self, name: str, runs: dict[str, Any]) -> None:
        tasks = ("swap_left_right", "random_sentences", "swap_conditions")
        deltas = [one.delta for one in runs[name].scores if one.task in tasks and one.metric in ("auroc", "entropy")]
        assert len(deltas) == 3 * 4 * 2
        assert set(deltas) == {0}
        divergences = [one.value for one in runs[name].scores if one.metric == "random_attention_kl"]
        assert set(divergences) == {0}

    def test_released_and_exact_suites_both_run(self, dataset: Dataset) -> None:
        run = evaluate(load_model("center-prior"), dataset, "wrong-lung-released", limit=40).run
        assert self.cell(run, "original", "auroc", "all").value > 0.5
