"""The SIIM-ACR reader, on a tree in the published form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import siim_acr as tree
from trees.siim_acr import film

from wronglung.benchmark.datasets.siim_acr import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding
from wronglung.benchmark.masks import Mask, from_pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path / "siim")


def entries(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(f"{one.reason}{'*' * one.repaired}", one.where, one.detail) for one in dataset.skipped]


def mask(*rectangles: tuple[int, int, int, int]) -> Mask:
    pixels = np.zeros((1024, 1024), dtype=np.bool_)
    for x1, y1, x2, y2 in rectangles:
        pixels[y1:y2, x1:x2] = True
    return from_pixels(pixels)


UPPER = mask((160, 160, 320, 480))
LOWER = mask((800, 512, 816, 544), (880, 512, 896, 640))
SMALL_UPPER = Box("pneumothorax", 10, 10, 20, 30, mask=UPPER)
SMALL_LOWER = Box("pneumothorax", 50, 32, 56, 40, mask=LOWER)


def write_table(root: Path, text: str | bytes, name: str = "train-rle.csv") -> None:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_every_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "siim-acr"
    assert [(one.id, one.image_id, one.image.width, one.boxes) for one in dataset.instances] == [
        (f"{film(2)}_pneumothorax", film(2), 64, (SMALL_UPPER, SMALL_LOWER)),
        (f"{film(3)}_pneumothorax", film(3), 64, (SMALL_LOWER,)),
        (f"{film(6)}_pneumothorax", film(6), 64, (SMALL_UPPER,)),
        (f"{film(10)}_pneumothorax", film(10), 1024, (Box("pneumothorax", 160, 160, 320, 480, mask=UPPER),)),
    ]
    for one in dataset.instances:
        assert (one.sentence, one.split) == ("There is pneumothorax.", "train")
        assert (one.patient_id, one.study_id) == (None, None)
        assert one.findings == (Finding("pneumothorax", "yes", ""),)
    assert dataset.regions == {one.image_id: one.boxes for one in dataset.instances}


def test_every_entry(root: Path) -> None:
    def path(number: int) -> str:
        return f"dicom-images-train/1.2.3.{number}/1.2.3.{number}.1/{film(number)}.dcm"

    def shrunk(number: int) -> tuple[str, str, str]:
        detail = f"{path(number)}: announced as 1024 × 1024 pixels, is 64 × 64: boxes scaled"
        return "size_mismatch*", film(number), detail

    *listed, unreadable = sorted(entries(read(root)), key=lambda one: one[0] == "image_unreadable")
    assert listed == [
        ("mask_unreadable", "train-rle.csv:8", f"{film(5)}: 3 numbers, which are not pairs"),
        ("mask_unreadable", "train-rle.csv:9", f"{film(5)}: a run of negative length"),
        ("mask_unreadable", "train-rle.csv:11", f"{film(6)}: 'x' is no whole number"),
        ("duplicate_row*", film(10), "one row says that there is no mask, another has one, which counts"),
        ("no_annotation", "train-rle.csv", "2 films without pneumothorax"),
        shrunk(2),
        shrunk(3),
        ("duplicate_row*", f"{film(3)}_pneumothorax", "1 boxes given twice"),
        shrunk(5),
        ("no_valid_box", f"{film(5)}_pneumothorax", ""),
        shrunk(6),
        ("image_missing", film(7), "no file of that name"),
        (
            "size_mismatch",
            film(8),
            f"{path(8)}: announced as 1024 × 1024 pixels, is 64 × 48: cropped or padded",
        ),
        shrunk(11),
        ("mask_unreadable", "train-rle.csv:17", "pneumothorax: empty"),
        ("no_valid_box", f"{film(11)}_pneumothorax", ""),
    ]
    assert unreadable[:2] == ("image_unreadable", film(9))


@pytest.mark.parametrize("header", ["ImageId, EncodedPixels", "ImageId,EncodedPixels", "\ufeffImageId, EncodedPixels"])
@pytest.mark.parametrize("none", [" -1", "-1", "", " "])
@pytest.mark.parametrize("blank", ["", " "])
def test_spellings_of_the_table(root: Path, header: str, none: str, blank: str) -> None:
    write_table(root, f"{header}\n{film(1)},{none}\n{film(2)},{blank}{tree.relative((160, 160, 320, 480))}\n")
    dataset = read(root)
    assert [one.boxes for one in dataset.instances] == [(SMALL_UPPER,)]
    assert [one[0] for one in entries(dataset)] == ["no_annotation", "size_mismatch*"]


def test_the_table_of_the_second_stage(root: Path) -> None:
    expected = read(root).fingerprint
    (root / "train-rle.csv").rename(root / "stage_2_train.csv")
    assert read(root).fingerprint == expected


def test_a_pack_of_png_files(root: Path, tmp_path: Path) -> None:
    expected = [(one.id, one.boxes) for one in read(root).instances[:1]]
    pack = tmp_path / "pack" / "512" / "train"
    pack.mkdir(parents=True)
    Image.new("L", (64, 64)).save(pack / f"{film(2)}.png")
    dataset = read(root, images=tmp_path / "pack")
    assert [(one.id, one.boxes) for one in dataset.instances] == expected
    assert [one.reason for one in dataset.skipped].count("image_missing") == 8


def test_prompts(root: Path) -> None:
    assert read(root, prompt="phrase").instances[0].sentence == "Pneumothorax"
    assert read(root, prompt="A film with {finding}").instances[0].sentence == "A film with pneumothorax"
    with pytest.raises(WronglungError, match="prompt='x'"):
        read(root, prompt="x")


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    expected = read(root).fingerprint
    assert read(tmp_path).fingerprint == expected
    assert read(root / "train-rle.csv").fingerprint == expected
    (root / "annotations").mkdir()
    (root / "train-rle.csv").rename(root / "annotations" / "train-rle.csv")
    assert read(root).fingerprint == expected, "the films lie beside the table's folder"


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match=r"no train-rle\.csv or stage_2_train\.csv in this folder or three levels"):
        read(root / "dicom-images-train")
    with pytest.raises(WronglungError, match=r"images is the folder in which"):
        read(root, images=tmp_path / "none")
    (root / "dicom-images-train").rename(tmp_path / "films")
    with pytest.raises(WronglungError, match=r"none of the 9 images that are needed is in there; name the folder"):
        read(root)
    assert len(read(root, images=tmp_path / "films").instances) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"is empty"),
        (b"ImageId,Mask\nx,-1\n", r"no column EncodedPixels; the first row names ImageId, Mask"),
        (b"Image, EncodedPixels\n", r"no column ImageId"),
        (b"ImageId, EncodedPixels\nx\n", r"csv:2: 1 cells under 2 column names"),
        (b"ImageId, EncodedPixels\nx,\xff\n", r"not UTF-8"),
        (b"ImageId, EncodedPixels\nx\0,-1\n", r"csv:2: holds a NUL byte"),
    ],
)
def test_a_damaged_table_is_one_error(root: Path, text: bytes, message: str) -> None:
    write_table(root, text)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert "train-rle.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../train-rle", "/etc/passwd", "a\\b", "", "a/b"])
def test_no_name_leads_out_of_the_films(root: Path, name: str) -> None:
    good = tree.relative((160, 160, 320, 480))
    write_table(root, f"ImageId, EncodedPixels\n{name}, {good}\n{film(2)}, {good}\n")
    dataset = read(root)
    assert [one.image_id for one in dataset.instances] == [film(2)]
    assert ("image_missing", name) in [one[:2] for one in entries(dataset)]


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    file = root / "dicom-images-train" / "1.2.3.2" / "1.2.3.2.1" / f"{film(2)}.dcm"
    file.rename(tmp_path / "secret.dcm")
    file.symlink_to(tmp_path / "secret.dcm")
    dataset = read(root)
    assert ("image_missing", film(2)) in [one[:2] for one in entries(dataset)]


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 400_000), max_size=6))
def test_any_list_of_numbers_is_a_mask_or_an_entry(
    numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    Image.new("L", (64, 64)).save(root / f"{film(1)}.png")
    Image.new("L", (64, 64)).save(root / f"{film(2)}.png")
    write_table(root, f"ImageId, EncodedPixels\n{film(1)}, {' '.join(map(str, numbers))}\n{film(2)}, 0 1\n")
    first, *rest = read(root).instances
    if first.image_id == film(2):
        assert not rest
        assert len(numbers) % 2 or sum(numbers) > 1024 * 1024 or sum(numbers[1::2]) == 0
        return
    pixels = np.zeros(1024 * 1024, dtype=np.bool_)
    at = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        pixels[at + gap : at + gap + length] = True
        at += gap + length
    assert first.boxes[0].mask == from_pixels(pixels.reshape(1024, 1024).T)
