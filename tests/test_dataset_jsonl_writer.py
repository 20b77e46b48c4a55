"""Datasets written in the neutral format read back as they were; generated films are written by the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wronglung.benchmark.cli import main
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.jsonl_writer import write_jsonl
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Dataset


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
    again = load_dataset("jsonl", write_jsonl(renamed, tmp_path / "set", name="mine", image_format="jpg"))
    assert again.fingerprint == renamed.fingerprint
    assert {one.image.path.suffix for one in again.instances} == {".jpg"}


@pytest.mark.parametrize("image_id", ["a/b", "..\\b", "x.png", "..", "/x"])
def test_an_id_that_is_no_file_name_is_refused(dataset: Dataset, tmp_path: Path, image_id: str) -> None:
    first = dataset.instances[0]
    bad = replace(dataset, instances=(replace(first, image=replace(first.image, id=image_id)),))
    with pytest.raises(WronglungError, match="is no plain name"):
        write_jsonl(bad, tmp_path / "set", name="mine")
    with pytest.raises(WronglungError, match="parent regions are not in the format"):
        write_jsonl(
            replace(dataset, instances=(replace(first, parent_regions=("left lung",)),)), tmp_path / "set", name="mine"
        )
    assert not (tmp_path / "set").exists()


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
