"""Boxes from a file as a model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wronglung import Dataset, evaluate, load_suite
from wronglung.adapters.precomputed.box_file import boxes
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.pairs import pairs
from wronglung.benchmark.protocol import Geometry, LoadedImage


def film(width: int = 80, height: int = 40) -> LoadedImage:
    return LoadedImage("film", Image.new("L", (width, height)))


def record(**fields: Any) -> dict[str, Any]:
    return {"image_id": "film", "sentence": "Left.", "boxes": [[0, 0, 40, 10]], **fields}


def write(folder: Path, *records: Any, name: str = "boxes.jsonl") -> Path:
    lines = "\n".join(map(json.dumps, records)) if name.endswith(".jsonl") else json.dumps(records)
    (folder / name).write_text(lines)
    return folder / name


def test_a_map_has_the_best_score_of_each_cell_of_the_whole_image(tmp_path: Path) -> None:
    file = write(tmp_path, record(boxes=[[0, 0, 40, 10], [20, 10, 60, 30], [20, 0, 40, 20]], scores=[0.5, 0.7, 0.6]))
    alignment = boxes(file, grid=4).align([film()], ["Left."])
    expected = [[0.5, 0.6, 0, 0], [0, 0.7, 0.7, 0], [0, 0.7, 0.7, 0], [0, 0, 0, 0]]
    assert torch.equal(alignment.saliency[0], torch.tensor(expected))
    assert alignment.geometry == [Geometry.squash(80, 40, 224, 224)]
    assert alignment.global_similarity is None


@pytest.mark.parametrize("name", ["boxes.jsonl", "boxes.json"])
def test_boxes_without_scores_are_one_inside_their_union(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, record(boxes=[[0, 0, 40, 20], [20, 10, 60, 20]]), name=name)
    model = boxes(file, grid=4)
    assert model.align([film()], ["Left."]).saliency[0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0] * 4, [0] * 4]
    assert model.card.saliency_method == "boxes, their union"


def test_scores_up_to_the_threshold_count_for_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, record(boxes=[[0, 0, 40, 40], [40, 0, 80, 40]], scores=[0.3, 0.31]))
    assert (
        boxes(file, grid=2, threshold=0.3).align([film()], ["Left."]).saliency[0].bool().tolist() == [[False, True]] * 2
    )


def test_a_sentence_without_boxes_has_a_map_of_zeros(tmp_path: Path) -> None:
    alignment = boxes(write(tmp_path, record(boxes=[]))).align([film()], ["Left."])
    assert alignment.saliency.shape == (1, 224, 224)
    assert not alignment.saliency.any()


def test_an_edge_on_a_cells_edge_does_not_reach_into_the_next_cell(tmp_path: Path) -> None:
    for width in range(1, 400, 7):
        for cell in (1, 37, 100):
            file = write(tmp_path, record(boxes=[[0, 0, width * cell / 224, 40]]))
            lit = boxes(file).align([film(width)], ["Left."]).saliency[0, 0].sum()
            assert lit in ((cell,) if width * cell % 224 == 0 else (cell, cell + 1))


def test_boxes_are_in_original_pixels_also_of_a_reduced_image(tmp_path: Path) -> None:
    model = boxes(write(tmp_path, record()), grid=4)
    reduced = LoadedImage("film", Image.new("L", (40, 20)), (80, 40))
    one, other = model.align([film()], ["Left."]), model.align([reduced], ["Left."])
    assert torch.equal(one.saliency, other.saliency)
    assert other.geometry[0].of_original(80, 40, 2) == one.geometry[0]


def test_similarities_and_the_card(tmp_path: Path) -> None:
    file = write(tmp_path, record(local_similarity=0.5, global_similarity=1))
    model = boxes(file, name="owl", method="OWL-ViT boxes", pretraining_sources=("COCO",))
    alignment = model.align([film()], ["Left."])
    assert alignment.local_similarity is not None
    assert alignment.global_similarity is not None
    assert (float(alignment.local_similarity), float(alignment.global_similarity)) == (0.5, 1.0)
    assert (model.card.name, model.card.pretraining_sources) == ("owl + OWL-ViT boxes", ("COCO",))
    assert model.card.settings["method"] == "OWL-ViT boxes"
    assert model.card.checkpoint == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(score=1)], "line 1: score: unknown key"),
        ([record(boxes=[[0, 0, 1]])], "line 1: boxes.0.3: is missing"),
        ([record(boxes=[[5, 0, 1, 1]])], r"line 1: record: box \[5.0, 0.0, 1.0, 1.0\] is not \[x1, y1, x2, y2\]"),
        ([record(boxes=[[0, 0, 1, float("nan")]])], "finite number"),
        ([record(scores=[0.5, 0.4])], "1 boxes and 2 scores"),
        ([record(scores=[1e308])], "less than or equal to 340282"),
        ([record(scores=[float("nan")])], "scores.0"),
        ([record(), record()], "line 2: image 'film' and its sentence are there before"),
        (
            [record(local_similarity=1), record(sentence="Right.")],
            "line 2 has no local_similarity, and others have one",
        ),
        ([3], "line 1: record: Input should be a valid dictionary"),
        ([], "holds no boxes of any pair"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(WronglungError, match=f"boxes.jsonl: .*{message}"):
        boxes(write(tmp_path, *records))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.jsonl", "{", r"line 1: cannot be read as JSON \(Expecting property name .*, column 2\)"),
        ("b.jsonl", json.dumps(record()) + "\n\n{", r"line 3: cannot be read as JSON \(.*, column 2\)"),
        ("b.jsonl", "\n" + "[" * 100_000, "line 2: cannot be read as JSON"),
        ("b.json", "[\n1,\n}", r"cannot be read as JSON \(.*: line 3 column 1"),
        ("b.json", "\udcff", "is not UTF-8"),
        ("b.txt", "[]", "must be called .json .* or .jsonl"),
        ("b.json", "{}", "is not a list of records"),
        ("b.json", "[", "cannot be read as JSON"),
        ("b.json", "[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_damaged_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(WronglungError, match=f"{name}: {message}"):
        boxes(tmp_path / name)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="none.json: cannot be read: No such file"):
        boxes(tmp_path / "none.json")
    model = boxes(write(tmp_path, record()))
    with pytest.raises(WronglungError, match="nothing for image 'film' and the sentence 'Right.'"):
        model.align([film()], ["Right."])
    for grid in (0, 4097):
        with pytest.raises(WronglungError, match=f"grid={grid}: must be from 1 to 4096"):
            boxes(write(tmp_path, record()), grid=grid)


def test_the_true_boxes_are_found_by_a_suite(sketch: Dataset, tmp_path: Path) -> None:
    true = {(one.image_id, one.sentence): one.boxes for one in sketch.instances}
    anywhere = [[0, 0, 1, 1]]
    lines = []
    for image, sentence in pairs(load_suite("smoke"), sketch):
        found = true.get((image, sentence), ())
        lines.append(
            record(image_id=image, sentence=sentence, boxes=[[b.x1, b.y1, b.x2, b.y2] for b in found] or anywhere)
        )
    instances = evaluate(boxes(write(tmp_path, *lines)), sketch, "smoke", workers=1).instances
    own = instances[instances["task"] == "original"]
    assert float(own["auroc"].min()) > 0.98
    assert np.isfinite(own["average_precision"]).all()


class TestUnits:
    def test_scores_below_zero_are_refused(self, tmp_path: Path) -> None:
        row = {"image_id": "a", "sentence": "b", "boxes": [[10, 10, 50, 50]], "scores": [-1.0]}
        (tmp_path / "boxes.json").write_text(json.dumps([row]))
        with pytest.raises(
            WronglungError, match="record 0: has scores below 0, which would not show; give probabilities"
        ):
            boxes(tmp_path / "boxes.json")
        assert boxes(tmp_path / "boxes.json", threshold=-2.0).card.signed

    def test_shares_of_the_image_are_refused(self, tmp_path: Path) -> None:
        row = {"image_id": "a", "sentence": "b", "boxes": [[0.1, 0.1, 0.5, 0.5]]}
        (tmp_path / "boxes.json").write_text(json.dumps([row]))
        with pytest.raises(WronglungError, match="boxes are in pixels of the image, not in shares of it"):
            boxes(tmp_path / "boxes.json")
