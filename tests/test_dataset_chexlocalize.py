"""The CheXlocalize reader, on a tree in the published form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from trees import chexlocalize as tree

from wronglung.benchmark.datasets.chexlocalize import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding
from wronglung.benchmark.masks import from_coco, from_pixels, from_polygons

FILM = "patient00002_study1_view1_frontal"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path)


def entries(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(f"{one.reason}{'*' * one.repaired}", one.where, one.detail) for one in dataset.skipped]


def file_of(root: Path, name: str = "gt_segmentations_test.json") -> Path:
    return root / "CheXlocalize" / name


def rewrite(root: Path, content: Any, name: str = "gt_segmentations_test.json") -> None:
    file_of(root, name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_every_instance_of_the_test_split(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "chexlocalize"
    assert [(one.id, one.image_id, one.patient_id, one.study_id, one.sentence) for one in dataset.instances] == [
        (f"{film}_{finding}", film, film[:12], film[:19], sentence)
        for film, finding, sentence in (
            (FILM, "enlarged-cardiomediastinum", "There is enlarged cardiomediastinum."),
            (FILM, "airspace-opacity", "There is airspace opacity."),
            (FILM, "pleural-effusion", "There is pleural effusion."),
            ("patient00001_study2_view1_frontal", "lung-lesion", "There is a lung lesion."),
            ("patient00001_study2_view2_lateral", "lung-lesion", "There is a lung lesion."),
            ("patient00007_study1_view1_frontal", "atelectasis", "There is atelectasis."),
            ("patient00007_study1_view1_frontal", "kerley-b-líneas", "There is kerley b líneas."),
        )
    ]
    assert {one.split for one in dataset.instances} == {"test"}
    boxes = [(box.name, box.x1, box.y1, box.x2, box.y2) for one in dataset.instances for box in one.boxes]
    assert boxes == [
        ("enlarged cardiomediastinum", 20, 10, 40, 40),
        ("airspace opacity", 5, 5, 50, 20),
        ("pleural effusion", 0, 40, 15, 48),
        ("lung lesion", 30, 8, 33, 11),
        ("lung lesion", 5, 4, 8, 6),
        ("atelectasis", 1, 1, 5, 5),
        ("kerley b líneas", 7, 7, 9, 9),
    ]
    assert [one.findings for one in dataset.instances] == [(Finding(name, "yes", ""),) for name, *_ in boxes]


def test_every_entry_of_the_test_split(root: Path) -> None:
    cropped = "patient00005/study1/view1_frontal.jpg: announced as 60 × 48 pixels, is 60 × 40: cropped or padded"
    shrunk = "patient00001/study2/view2_lateral.jpg: announced as 60 × 48 pixels, is 30 × 24: boxes scaled"
    assert entries(read(root)) == [
        ("mask_unreadable", "patient00007_study1_view1_frontal_edema", "compressed run lengths that end too early"),
        ("mask_unreadable", "patient00007_study1_view1_frontal_pneumothorax", "counts: missing"),
        (
            "mask_unreadable",
            "patient00007_study1_view1_frontal_consolidation",
            "30 × 24 pixels; earlier masks of the film have 60 × 48",
        ),
        (
            "image_missing",
            "../patient00002",
            "not of the form <patient>_<study>_<view>, so its file is not known",
        ),
        (
            "no_annotation",
            "gt_segmentations_test.json",
            "6 findings on its films have an empty mask, so are absent",
        ),
        ("size_mismatch*", "patient00001_study2_view2_lateral", shrunk),
        ("image_missing", "patient00004_study1_view1_frontal", "patient00004/study1/view1_frontal.jpg"),
        ("size_mismatch", "patient00005_study1_view1_frontal", cropped),
        (
            "image_unreadable",
            "patient00006_study1_view1_frontal",
            "patient00006/study1/view1_frontal.jpg: not an image of a known format",
        ),
    ]


def test_a_target_is_the_mask_and_the_box_its_extent(root: Path) -> None:
    (opacity,) = read(root).instances[1].boxes
    assert opacity.mask is not None
    expected = np.zeros((48, 60), dtype=np.bool_)
    expected[5:20, 5:10] = expected[5:20, 45:50] = True
    np.testing.assert_array_equal(opacity.mask.pixels(), expected)


def test_the_mask_of_a_shrunk_film_keeps_its_own_resolution(root: Path) -> None:
    instance = read(root).instances[4]
    assert (instance.image.width, instance.image.height) == (30, 24)
    assert instance.boxes == (Box("lung lesion", 5, 4, 8, 6, mask=from_coco(**tree.coded((10, 8, 16, 12)))),)


def test_every_instance_and_entry_of_the_contours(root: Path) -> None:
    dataset = read(root, split="val")
    first, second = "patient00100_study1_view1_frontal", "patient00101_study3_view1_frontal"
    shapes: list[tuple[str, tuple[int, int, int, int], list[list[list[float]]]]] = [
        (f"{first}_cardiomegaly", (10, 20, 31, 41), [tree.square(10, 20, 30, 40)]),
        (f"{first}_airspace-opacity", (5, 5, 45, 10), [tree.square(5, 5, 9.6, 9), tree.square(40, 5, 44, 9)]),
        (f"{first}_support-devices", (1, 2, 9, 3), [[[1, 2], [8, 2]]]),
        (f"{second}_pleural-effusion", (50, 40, 60, 48), [tree.square(50, 40, 70, 60)]),
    ]
    assert [(one.id, one.boxes) for one in dataset.instances] == [
        (
            name,
            (
                Box(
                    name.split("_")[-1].replace("-", " ").replace("devices", "device"),
                    *corners,
                    mask=from_polygons([[(x, y) for x, y in points] for points in contours], 60, 48),
                ),
            ),
        )
        for name, corners, contours in shapes
    ]
    assert {(one.patient_id, one.study_id, one.split) for one in dataset.instances} == {
        ("patient00100", "patient00100_study1", "val"),
        ("patient00101", "patient00101_study3", "val"),
    }
    assert entries(dataset) == [
        ("mask_unreadable*", f"{first}_airspace-opacity", "left out contours of fewer than two points: 1"),
        ("box_clipped*", f"{second}_pleural-effusion", "contours on 60 × 48 pixels"),
        ("box_outside_image", f"{second}_edema", "contours on 60 × 48 pixels"),
        ("mask_unreadable", f"{second}_atelectasis", "no contour of at least two points"),
        (
            "mask_unreadable",
            f"{second}_consolidation",
            "[0][0][1]: Input should be a valid number, unable to parse string as a number",
        ),
        ("metadata_missing", "patient00102_study1_view1_frontal_edema", "contours without a usable img_size"),
        ("no_annotation", "gt_annotations_val.json", "1 findings on its films have an empty mask, so are absent"),
    ]


def test_all_is_both_splits(root: Path) -> None:
    val, test, both = read(root, split="val"), read(root, split="test"), read(root, split="all")
    assert both.instances == val.instances + test.instances
    assert both.regions == {**val.regions, **test.regions}


def test_the_regions_of_a_film_are_its_findings(root: Path) -> None:
    dataset = read(root)
    assert {image: len(boxes) for image, boxes in dataset.regions.items()} == {
        FILM: 3,
        "patient00001_study2_view1_frontal": 1,
        "patient00001_study2_view2_lateral": 1,
        "patient00007_study1_view1_frontal": 2,
    }
    assert dataset.regions[FILM] == tuple(box for one in dataset.instances[:3] for box in one.boxes)


def test_source_chooses_and_falls_back(root: Path) -> None:
    contours = {FILM: {"img_size": [48, 60], "Pleural Effusion": [tree.square(0, 40, 14, 47)]}}
    rewrite(root, contours, "gt_annotations_test.json")
    assert len(read(root, source="segmentations").instances) == 7
    (instance,) = read(root, source="contours").instances
    (same,) = [one for one in read(root).instances if one.id == instance.id]
    assert instance == same, "the contour of these pixels gives the published mask"
    file_of(root).unlink()
    assert read(root, source="segmentations").instances == (instance,)


def test_the_human_benchmark(root: Path) -> None:
    (instance,) = read(root, annotator="human").instances
    assert (instance.id, instance.boxes[0].y1) == (f"{FILM}_pleural-effusion", 30)


def test_prompts(root: Path) -> None:
    assert read(root, prompt="phrase").instances[3].sentence == "A lung lesion"
    assert read(root, prompt="Signs of {finding}?").instances[3].sentence == "Signs of a lung lesion?"
    with pytest.raises(WronglungError, match="prompt='x'"):
        read(root, prompt="x")


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    expected = read(root).fingerprint
    for place in (tmp_path, root / "CheXlocalize", file_of(root)):
        assert read(place).fingerprint == expected
    nested = tmp_path / "far" / "away"
    nested.mkdir(parents=True)
    root.rename(nested / "chexlocalize")
    assert read(tmp_path / "far").fingerprint == expected


@pytest.mark.parametrize("layout", ["CheXpert-v1.0", "CheXpert-v1.0-small", "chexpert/CheXpert-v1.0"])
def test_films_in_the_folders_of_chexpert(root: Path, layout: str) -> None:
    expected = read(root, split="all").fingerprint
    folder = root / layout
    folder.mkdir(parents=True)
    (root / "CheXpert" / "val").rename(folder / "valid")
    (root / "CheXpert" / "test").rename(folder / "test")
    assert read(root, split="all").fingerprint == expected
    assert read(file_of(root), split="test").fingerprint == read(root).fingerprint


def test_films_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = read(root).fingerprint
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(root / "CheXpert", elsewhere / "films")
    with pytest.raises(WronglungError, match="no films found; looked for folders such as patient00001") as caught:
        read(root)
    assert "the argument images" in str(caught.value)
    assert read(root, images=elsewhere).fingerprint == expected
    assert read(root, images=elsewhere / "films" / "test").fingerprint == expected
    with pytest.raises(WronglungError, match=f"{elsewhere}/films/val: no films found"):
        read(root, images=elsewhere / "films" / "val")
    with pytest.raises(WronglungError, match="no films found"):
        read(root, images=elsewhere / "none")


def test_what_is_missing_is_said(root: Path) -> None:
    file_of(root, "gt_annotations_val.json").unlink()
    with pytest.raises(
        WronglungError, match=r"no gt_segmentations_val\.json or gt_annotations_val\.json in this folder"
    ):
        read(root, split="val")
    with pytest.raises(WronglungError, match=r"gt_segmentations_val\.json"):
        read(root, split="all")
    with pytest.raises(WronglungError, match=r"no hb_segmentations_val\.json"):
        read(root, split="val", annotator="human")


def test_a_file_must_be_of_the_split_and_annotator_that_are_asked_for(root: Path) -> None:
    with pytest.raises(WronglungError, match="is split val by annotator ground-truth; give split=val annotator=ground"):
        read(file_of(root, "gt_annotations_val.json"))
    with pytest.raises(WronglungError, match="is split test by annotator human"):
        read(file_of(root, "hb_segmentations_test.json"))
    with pytest.raises(WronglungError, match="is split test"):
        read(file_of(root), split="all")
    file_of(root).rename(file_of(root, "masks.json"))
    assert len(read(file_of(root, "masks.json")).instances) == 7
    with pytest.raises(WronglungError, match="is one file"):
        read(file_of(root, "masks.json"), split="all")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the document: "),
        (json.dumps({FILM: {"Edema": {"size": [48, 60], "counts": "\ud800"}}}), "not valid JSON"),
        (f'{{"{FILM}": {{}}, "{FILM}": {{}}}}', "stands twice in one object"),
    ],
)
def test_a_damaged_file_is_one_error(root: Path, content: str, message: str) -> None:
    rewrite(root, content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert str(caught.value).startswith(f"{file_of(root)}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "reason", "where"),
    [
        (None, "mask_unreadable", FILM),
        ([], "mask_unreadable", FILM),
        ({"Edema": None}, "mask_unreadable", f"{FILM}_edema"),
        ({"Edema": 7}, "mask_unreadable", f"{FILM}_edema"),
        ({"Edema": {"size": [48], "counts": "P"}}, "mask_unreadable", f"{FILM}_edema"),
        ({"Edema": {"size": [10**9, 10**9], "counts": [10**18]}}, "mask_unreadable", f"{FILM}_edema"),
        ({"Edema": {"size": [-1, -1], "counts": [1]}}, "mask_unreadable", f"{FILM}_edema"),
        ({"img_size": [48, 60], "Edema": [[[1, 1], [float("nan"), 2]]]}, "mask_unreadable", f"{FILM}_edema"),
        ({"img_size": [48, 60], "Edema": [[[1, 1], [1e99, 2]]]}, "mask_unreadable", f"{FILM}_edema"),
        ({"img_size": [48, 60], "Edema": [[1, 2]]}, "mask_unreadable", f"{FILM}_edema"),
        ({"img_size": [48], "Edema": [[[1, 1], [2, 2]]]}, "metadata_missing", f"{FILM}_edema"),
        ({"img_size": [0, 60], "Edema": [[[1, 1], [2, 2]]]}, "metadata_missing", f"{FILM}_edema"),
        ({"img_size": "big", "Edema": [[[1, 1], [2, 2]]]}, "metadata_missing", f"{FILM}_edema"),
        ({" ": tree.coded((1, 1, 2, 2))}, "category_missing", f"{FILM}_"),
    ],
)
def test_a_damaged_entry_is_left_out_and_the_rest_is_read(root: Path, entry: Any, reason: str, where: str) -> None:
    good = {"patient00001_study2_view1_frontal": {"Edema": tree.coded((1, 1, 2, 2))}}
    rewrite(root, {FILM: entry, **good})
    dataset = read(root)
    assert [one.id for one in dataset.instances] == ["patient00001_study2_view1_frontal_edema"]
    assert [one[:2] for one in entries(dataset)] == [(reason, where)]


def test_a_finding_in_two_spellings_counts_once(root: Path) -> None:
    mask = tree.coded((1, 1, 2, 2))
    rewrite(root, {FILM: {"Lung Lesion": mask, "lung  lesion": tree.coded((1, 1, 9, 9))}})
    dataset = read(root)
    assert [(one.id, one.boxes[0].x2) for one in dataset.instances] == [(f"{FILM}_lung-lesion", 2)]
    assert entries(dataset) == [
        ("duplicate_row*", f"{FILM}_lung-lesion", "lung  lesion occurs twice; the first one counts")
    ]


@pytest.mark.parametrize(
    "film", ["../../x", "/etc/passwd", "patient1", "patient00002_study1_view1\0", "patient00002_study1_../view1", ""]
)
def test_no_name_leads_out_of_the_films(root: Path, film: str) -> None:
    rewrite(root, {film: {"Edema": tree.coded((1, 1, 5, 5))}, FILM: {"Edema": tree.coded((1, 1, 5, 5))}})
    dataset = read(root)
    assert [one.id for one in dataset.instances] == [f"{FILM}_edema"]
    assert [one[:2] for one in entries(dataset)] == [("image_missing", film)]


def test_no_link_leads_out_of_the_films(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    film = root / "CheXpert" / "test" / "patient00002" / "study1" / "view1_frontal.jpg"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    film.rename(elsewhere)
    film.symlink_to(elsewhere)
    dataset = read(root)
    assert FILM not in dataset.regions
    assert ("path_outside_root", FILM) in [one[:2] for one in entries(dataset)]


@settings(max_examples=25)
@given(pixels=hnp.arrays(np.bool_, st.just((48, 60))))
def test_any_mask_is_an_instance_or_absent(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    mask = from_pixels(pixels)
    tree.save_film(root / "CheXpert" / "test" / "patient00002" / "study1" / "view1_frontal.jpg")
    (root / "CheXlocalize").mkdir()
    rewrite(root, {FILM: {"Edema": {"size": [48, 60], "counts": mask.counts.decode()}}})
    dataset = read(root)
    assert [box.mask for one in dataset.instances for box in one.boxes] == ([mask] if pixels.any() else [])
    assert [one.reason for one in dataset.skipped] == ([] if pixels.any() else ["no_annotation"])
