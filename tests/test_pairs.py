"""``wronglung data pairs``: what a suite asks a model, before there is one."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from wronglung import Alignment, Dataset, Geometry, ModelCard, evaluate, load_suite
from wronglung.benchmark.cli import main
from wronglung.benchmark.pairs import pairs
from wronglung.benchmark.protocol import LoadedImage
from wronglung.tasks.schema import SuiteSpec


class Listener:
    """Notes what it is asked."""

    card = ModelCard(name="listener", saliency_method="none", map_kind="score")

    def __init__(self) -> None:
        self.asked: set[tuple[str, str]] = set()

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        self.asked |= {(image.id, sentence) for image, sentence in zip(images, sentences, strict=True)}
        geometry = [Geometry.squash(*image.pixels.size, 8, 8) for image in images]
        return Alignment(torch.eye(2).repeat(len(images), 1, 1), geometry, torch.zeros(len(images)))


def exhaustive() -> SuiteSpec:
    suite = load_suite("smoke")
    return suite.model_copy(update={"metrics": (*suite.metrics, "selection_accuracy_local_exhaustive")})


@pytest.mark.parametrize(
    "suite", [load_suite("smoke"), load_suite("wrong-lung"), exhaustive()], ids=lambda one: one.name
)
@pytest.mark.parametrize(("seed", "limit"), [(0, None), (3, 4)])
def test_they_are_what_a_run_asks(sketch: Dataset, suite: SuiteSpec, seed: int, limit: int | None) -> None:
    listener = Listener()
    evaluate(listener, sketch, suite, seed=seed, limit=limit, workers=1)
    assert pairs(suite, sketch, seed, limit) == sorted(listener.asked)


def wronglung(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["wronglung", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_listing_has_all_that_is_needed_to_make_maps(
    sketch_file: Path,
    sketch: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "pairs.jsonl"
    common = ("data", "pairs", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "--seed", "1", "-o", out)
    assert wronglung(monkeypatch, *common) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = pairs(load_suite("smoke"), sketch, 1)
    assert [(one["image_id"], one["sentence"]) for one in rows] == expected
    assert f"written: {len(expected)} pairs of 12 images in {out}" in capsys.readouterr().err
    images = {one.image_id: one.image for one in sketch.instances}
    for one in rows:
        image = images[one["image_id"]]
        assert Path(one["image"]).samefile(image.path)
        assert Path(one["image"]).is_absolute()
        assert (one["width"], one["height"]) == (image.width, image.height)
        assert one["sentence_sha256"] == hashlib.sha256(one["sentence"].encode()).hexdigest()
    assert wronglung(monkeypatch, *common) == 2
    assert f"{out}: exists; give a new file" in capsys.readouterr().err
