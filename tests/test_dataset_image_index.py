"""Where the images of a collection are, and which folders are looked into."""

from __future__ import annotations

from pathlib import Path

import pytest

from wronglung.benchmark.datasets.image_index import index_images
from wronglung.benchmark.datasets.mimic_cxr import folders


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_found_by_their_bare_name(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "x/b.JPG", "x/y/c.dicom", "x/y/d.txt", "e.dcm.png")
    assert index_images(tmp_path) == {"a": "a.png", "b": "x/b.JPG", "c": "x/y/c.dicom", "e.dcm": "e.dcm.png"}


def test_of_several_the_least_deep_counts_then_the_suffix_then_the_path(tmp_path: Path) -> None:
    put(tmp_path, "z/a.png", "y/x/a.dcm", "z/b.png", "y/b.dcm", "z/c.png", "y/c.png")
    assert index_images(tmp_path) == {"a": "z/a.png", "b": "y/b.dcm", "c": "y/c.png"}


def test_folders_of_masks_and_links_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "Masks/a.png", "labels/a.png", "train/a.png", "other/b.png", "unmasked/d.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "other/b.png")
    (tmp_path / "linked").symlink_to(tmp_path / "other")
    assert index_images(tmp_path) == {"a": "train/a.png", "b": "other/b.png", "d": "unmasked/d.png"}


def test_the_walk_ends_at_its_depth_and_at_what_is_not_there(tmp_path: Path) -> None:
    put(tmp_path, "1/2/3/a.png")
    assert index_images(tmp_path, depth=2) == {}
    assert index_images(tmp_path, depth=3) == {"a": "1/2/3/a.png"}
    assert index_images(tmp_path / "none") == {}


@pytest.mark.parametrize("many", [200, 201])
def test_a_folder_of_very_many_folders_is_not_entered_and_hides_no_other(tmp_path: Path, many: int) -> None:
    for number in range(many):
        (tmp_path / f"train/patient{number}").mkdir(parents=True)
    (tmp_path / "valid/inside").mkdir(parents=True)
    found = list(folders(tmp_path))
    assert (tmp_path / "valid/inside") in found
    assert len(found) == 4 + (many if many == 200 else 0)
    assert len(list(folders(tmp_path / "train"))) == 1 + many, "where one starts is entered"
