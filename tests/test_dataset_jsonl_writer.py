"""Datasets written in the neutral format read back as they were; generated films are written by the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wronglung.benchmark.cli import main
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.imagenome_tree import write_tree
from wronglung.benchmark.datasets.jsonl_writer import image_root, write_jsonl
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset
from wronglung.benchmark.masks import from_pixels


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Generated films of six patients in all splits."""
    return load_dataset("phantom", patients=6, split="all")


def test_instances_regions_and_pixels_come_back(dataset: Dataset, tmp_path: Path) -> None:
    file = write_jsonl(dataset, tmp_path / "set", name="mine")
    again = load_dataset("jsonl", file.parent)
    assert again.name == "mine"
    assert again.fingerprint == dataset.fingerprint
    assert dict(again.regions) == dict(dataset.regions)
    assert not again.skipped
    for one, other in zip(dataset.instances, again.instances, strict=True):
        assert replace(other, image=one.image) == one
        assert np.array_equal(np.asarray(one.image.load()), np.asarray(other.image.load()))


def test_a_dataset_read_from_lines_is_written_with_the_same_fingerprint(sketch: Dataset, tmp_path: Path) -> None:
    plain = {one.image_id: replace(one.image, id=one.image_id.rpartition("/")[2]) for one in sketch.instances}
    renamed = replace(
        sketch, instances=tuple(replace(one, image=plain[one.image_id]) for one in sketch.instances), regions={}
    )
    again = load_dataset("jsonl", write_jsonl(renamed, tmp_path / "set", name="mine", images="jpg"))
    assert again.fingerprint == renamed.fingerprint
    assert {one.image.path.suffix for one in again.instances} == {".jpg"}


@pytest.mark.parametrize(
    "image_id", ["a/b", "..\\b", "x.png", "..", "/x", ".x", "image_000001", "a\nb", "ü", "x" * 300]
)
def test_every_image_id_comes_back(dataset: Dataset, tmp_path: Path, image_id: str) -> None:
    first, second = (
        dataset.instances[0],
        next(one for one in dataset.instances if one.image != dataset.instances[0].image),
    )
    odd = replace(dataset, instances=(second, replace(first, image=replace(first.image, id=image_id))), regions={})
    again = load_dataset("jsonl", write_jsonl(odd, tmp_path / "set", name="mine"))
    assert [one.image_id for one in again.instances] == [second.image_id, image_id]
    assert again.fingerprint == odd.fingerprint
    assert len(list((tmp_path / "set").iterdir())) == 3


def test_masks_and_parent_regions_come_back(dataset: Dataset, tmp_path: Path) -> None:
    pixels = np.zeros((7, 9), dtype=np.bool_)
    pixels[2:5, 3:8] = True
    first = dataset.instances[0]
    box = Box("left mid lung zone", 21.5, 18.25, 57, 46, mask=from_pixels(pixels))
    one = replace(first, boxes=(box, *first.boxes), parent_regions=("left lung", "right lung"))
    segmented = replace(dataset, instances=(one,), regions={first.image_id: (box,)})
    again = load_dataset("jsonl", write_jsonl(segmented, tmp_path / "set", name="mine"))
    assert replace(again.instances[0], image=one.image) == one
    assert again.fingerprint == segmented.fingerprint
    assert again.regions[first.image_id][0] == box


def test_images_may_be_referred_to(dataset: Dataset, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path / "tree")
    tree = load_dataset("imagenome-gold", tmp_path / "tree")
    file = write_jsonl(tree, tmp_path / "set", name="mine", images="reference")
    assert [one.name for one in file.parent.iterdir()] == ["mine.jsonl"]
    again = load_dataset("jsonl", file, images=image_root(tree))
    assert again.fingerprint == tree.fingerprint
    assert [one.image.path for one in again.instances] == [one.image.path for one in tree.instances]
    with pytest.raises(WronglungError, match="holds no usable instance"):
        load_dataset("jsonl", file)
    with pytest.raises(WronglungError, match="is no file that could be referred to"):
        write_jsonl(dataset, tmp_path / "other", name="mine", images="reference")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    """The exit code of ``wronglung data phantom``."""
    monkeypatch.setattr(sys, "argv", ["wronglung", "data", "phantom", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.mark.parametrize(("fmt", "name"), [("imagenome", "imagenome-gold"), ("jsonl", "jsonl")])
def test_phantom_is_written_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fmt: str, name: str
) -> None:
    out = tmp_path / "phantom"
    given: list[str | Path] = ["--out", out, "--format", fmt, "--patients", "12", "--size", "48", "--seed", "3"]
    assert not command(monkeypatch, *given)
    capsys.readouterr()
    own = load_dataset("phantom", split="test", patients=12, size=48, seed=3)
    assert load_dataset(name, out, split="test").fingerprint == own.fingerprint
    assert command(monkeypatch, *given) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err
    assert command(monkeypatch, "--out", tmp_path / "other", "--size", "8") == 2
    assert "size must be a whole number from 32 to 1024" in capsys.readouterr().err
