"""COCO-style datasets with captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.coco import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Finding

RIGHT, LEFT = Box("right lung", 2, 5, 18, 25), Box("left lung", 20, 5, 38, 25)


SQUARE = [[10, 10, 14, 10, 14, 13, 10, 13]]
PIXELS = np.zeros((30, 40), dtype=np.uint8)
PIXELS[10:13, 10:14] = 1


def write_segmented(folder: Path, annotation: dict[str, Any]) -> Path:
    """A file with one image of 40 × 30, and one caption that is placed by an annotation's keys."""
    Image.new("L", (40, 30)).save(folder / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "Nodule"}],
        "annotations": [{"id": 7, "image_id": 1, "caption": "A nodule.", **annotation}],
    }
    (folder / "set.json").write_text(json.dumps(document))
    return folder / "set.json"


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "info": {"year": 2020},
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "license": 3}],
        "categories": [{"id": 1, "name": "Right Lung", "supercategory": "lungs"}, {"id": 2, "name": "Left Lung"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 1, "bbox": [2, 5, 16, 20], "iscrowd": 0, "segmentation": []},
            {"id": 11, "image_id": 1, "category_id": 2, "bbox": [20, 5, 18, 20]},
            {"id": 20, "image_id": 1, "caption": "Opacities in both lungs.", "annotation_ids": [10, 11]},
            {"id": 21, "image_id": 1, "caption": "A nodule.", "bbox": [25, 10, 3.5, 3], "annotation_ids": [11]},
        ],
    }
    return {**whole, **changes}


def with_annotations(*extra: dict[str, Any]) -> dict[str, Any]:
    return document(annotations=[*document()["annotations"], *extra])


Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a document (or text as it is) beside a 40 × 30 image."""

    def write(content: Any) -> Path:
        Image.new("L", (40, 30)).save(tmp_path / "a.png")
        file = tmp_path / "set.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    return write


def test_captions_are_sentences_and_point_at_boxes(write: Write) -> None:
    both, nodule = read(write(document())).instances
    assert (both.id, both.sentence, both.boxes) == ("a_caption_20", "Opacities in both lungs.", (RIGHT, LEFT))
    assert (nodule.id, nodule.sentence) == ("a_caption_21", "A nodule.")
    assert nodule.boxes == (LEFT, Box("", 25, 10, 28.5, 13))
    assert (both.image.id, both.image.width, both.image.height) == ("a", 40, 30)


def test_named_boxes_are_the_known_regions(write: Write) -> None:
    assert read(write(document())).regions == {"a": (RIGHT, LEFT)}


def test_additions_to_coco(write: Write) -> None:
    finding = {"label": "lung opacity", "context": "no", "region": "left lung"}
    image = {"id": "x", "file_name": "a.png", "study_id": "s7", "patient_id": "p3", "split": "test"}
    caption = {"id": "c", "image_id": "x", "caption": "Clear.", "bbox": [1, 1, 2, 2], "findings": [finding, finding]}
    (instance,) = read(write({"images": [image], "annotations": [caption]})).instances
    assert instance.findings == (Finding("lung opacity", "no", "left lung"),)
    assert (instance.study_id, instance.patient_id, instance.split) == ("s7", "p3", "test")


def test_the_usual_folders(write: Write, tmp_path: Path) -> None:
    file = write(document())
    beside = load_dataset("coco", file)
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "a.png")
    assert load_dataset("coco", tmp_path).fingerprint == beside.fingerprint
    (tmp_path / "annotations").mkdir()
    file.rename(tmp_path / "annotations" / "set.json")
    assert load_dataset("coco", tmp_path).fingerprint == beside.fingerprint
    assert load_dataset("coco", tmp_path / "annotations" / "set.json").fingerprint == beside.fingerprint


def test_boxes_follow_a_shrunk_image(write: Write) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 300}
    caption = {"id": 1, "image_id": 1, "caption": "x", "bbox": [100, 50, 200, 100]}
    dataset = read(write({"images": [image], "annotations": [caption]}))
    assert dataset.instances[0].boxes == (Box("", 10, 5, 30, 15),)
    assert [(entry.reason, entry.repaired) for entry in dataset.skipped] == [("size_mismatch", True)]


def test_images_in_file_order(write: Write, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    images = [{"id": 2, "file_name": "b.png"}, {"id": 1, "file_name": "a.png"}]
    captions = [
        {"id": at, "image_id": image, "caption": "x", "bbox": [1, 1, 2, 2]} for at, image in enumerate([1, 2, 1, 2])
    ]
    dataset = read(write({"images": images, "annotations": captions}))
    assert [one.id for one in dataset.instances] == ["b_caption_1", "b_caption_3", "a_caption_0", "a_caption_2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the document: "),
        ("null", "the document: "),
        ('{"images": [], "images": []}', "key 'images' stands twice"),
        ({"annotations": []}, "images: missing"),
        ({"images": []}, "annotations: missing"),
        (document(images=[{"id": 1}]), r"images\[0\]\.file_name: missing"),
        (document(images=[{"id": True, "file_name": "a.png"}]), r"images\[0\]\.id\S*: "),
        (document(categories=[{"id": 1, "name": None}]), r"categories\[0\]\.name: "),
        (with_annotations({"id": 30}), r"annotations\[4\]\.image_id: missing"),
        (with_annotations({"id": 30, "image_id": 1, "bbox": ["1", 2, 3, 4]}), r"annotations\[4\]\.bbox\[0\]: "),
        (with_annotations({"id": 30, "image_id": 1, "caption": 7}), r"annotations\[4\]\.caption: "),
        (with_annotations({"id": 10, "image_id": 1}), r"annotations\[4\]\.id: '10' is that of entry \[0\] too"),
        (with_annotations({"id": "10", "image_id": 1}), r"annotations\[4\]\.id: '10' is that of entry \[0\] too"),
        (with_annotations({"id": 30, "image_id": 9}), r"annotations\[4\]\.image_id: there is no image 9"),
        (
            with_annotations({"id": 30, "image_id": 1, "category_id": 9}),
            r"annotations\[4\]\.category_id: there is no category 9",
        ),
        (
            with_annotations({"id": 30, "image_id": 1, "caption": "x", "annotation_ids": [99]}),
            r"annotations\[4\]\.annotation_ids: there is no annotation 99 on this image",
        ),
        (
            document(images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}]),
            r"images\[1\]\.file_name: 'a.png' is that of entry \[0\] too",
        ),
        (document(annotations=document()["annotations"][:2]), 'no annotation has a "caption"'),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_place(write: Write, content: Any, message: str) -> None:
    file = write(content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_an_annotation_of_another_image_cannot_be_pointed_at(write: Write) -> None:
    content = with_annotations({"id": 30, "image_id": 2, "caption": "x", "annotation_ids": [10]})
    content["images"] = [*content["images"], {"id": 2, "file_name": "b.png"}]
    with pytest.raises(WronglungError, match=r"no annotation 10 on this image"):
        read(write(content))


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        ("b.png", "image_missing"),
        ("text.png", "image_unreadable"),
        ("../a.png", "path_outside_root"),
        ("/tmp/a.png", "path_outside_root"),
    ],
)
@pytest.mark.parametrize("in_images", [False, True])
def test_an_image_that_cannot_be_used_is_reported(
    write: Write, tmp_path: Path, file_name: str, reason: str, in_images: bool
) -> None:
    content = document()
    content["images"].append({"id": 2, "file_name": file_name})
    content["annotations"].append({"id": 30, "image_id": 2, "caption": "x", "bbox": [1, 1, 2, 2]})
    file = write(content)
    folder = tmp_path / "images" if in_images else tmp_path
    folder.mkdir(exist_ok=True)
    (tmp_path / "a.png").rename(folder / "a.png")
    (folder / "text.png").write_text("text")
    dataset = read(file)
    assert len(dataset.instances) == 2
    assert [(entry.reason, entry.repaired) for entry in dataset.skipped] == [(reason, False)]


def test_a_cropped_image_is_left_out(write: Write) -> None:
    dataset = read(write(document(images=[{"id": 1, "file_name": "a.png", "width": 40, "height": 90}])))
    assert dataset.instances == ()
    assert [(entry.reason, entry.repaired) for entry in dataset.skipped] == [("size_mismatch", False)]


def test_bad_boxes_and_loose_captions_are_reported(write: Write) -> None:
    dataset = read(
        write(
            with_annotations(
                {"id": 30, "image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 0]},
                {"id": 31, "image_id": 1, "caption": "Nowhere.", "annotation_ids": [30]},
                {"id": 32, "image_id": 1, "caption": "Loose."},
                {"id": 33, "image_id": 1, "caption": "Partly.", "annotation_ids": [30, 11, 11]},
                {"id": 34, "image_id": 1, "category_id": 1, "bbox": [18, 25, -16, -20]},
                {"id": 35, "image_id": 1, "category_id": 1, "bbox": [30, 20, 20, 20]},
                {"id": 36, "image_id": 1, "category_id": 1},
                {"id": 37, "image_id": 1, "category_id": 1, "bbox": [1, None, 2, 2]},
            )
        )
    )
    assert [one.sentence for one in dataset.instances] == ["Opacities in both lungs.", "A nodule.", "Partly."]
    assert dataset.instances[2].boxes == (LEFT,)
    assert [(entry.reason, entry.where) for entry in dataset.skipped] == [
        ("box_degenerate", "annotation 30"),
        ("box_flipped", "annotation 34"),
        ("box_clipped", "annotation 35"),
        ("box_missing", "annotation 36"),
        ("box_missing", "annotation 37"),
        ("no_valid_box", "a_caption_31"),
        ("sentence_without_annotation", "a_caption_32"),
        ("duplicate_row", "a_caption_33"),
    ]


def test_a_nan_coordinate_is_a_missing_box(write: Write) -> None:
    text = json.dumps(document()).replace("[25, 10, 3.5, 3]", "[25, NaN, 3.5, 3]")
    dataset = read(write(text))
    assert [entry.reason for entry in dataset.skipped] == ["box_missing"]
    assert dataset.instances[1].boxes == (LEFT,)


def test_missing_and_ambiguous_files(write: Write, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="does not exist"):
        load_dataset("coco", tmp_path / "none")
    with pytest.raises(WronglungError, match=r"no \.json file here or in annotations/"):
        read(tmp_path)
    write(document())
    (tmp_path / "other.json").touch()
    with pytest.raises(WronglungError, match=r"holds 2 \.json files; give the file itself"):
        read(tmp_path)


def test_an_empty_set(write: Write) -> None:
    with pytest.raises(WronglungError, match="caption"):
        load_dataset("coco", write({"images": [], "annotations": []}))


@pytest.mark.parametrize(
    "segmentation",
    [SQUARE, {"size": [30, 40], "counts": coco.encode(np.asfortranarray(PIXELS))["counts"].decode()}],
    ids=["polygons", "run lengths"],
)
def test_a_segmentation_is_the_mask_of_its_box(tmp_path: Path, segmentation: Any) -> None:
    file = write_segmented(tmp_path, {"category_id": 1, "bbox": [9, 9, 7, 6], "segmentation": segmentation})
    (instance,) = read(file).instances
    (box,) = instance.boxes
    assert (box.name, box.x1, box.y1, box.x2, box.y2) == ("nodule", 9, 9, 16, 15)
    assert box.mask is not None
    np.testing.assert_array_equal(box.mask.pixels(), PIXELS)


def test_a_segmentation_alone_has_its_extent_as_box(tmp_path: Path) -> None:
    (instance,) = read(write_segmented(tmp_path, {"category_id": 1, "segmentation": SQUARE})).instances
    (box,) = instance.boxes
    assert (box.x1, box.y1, box.x2, box.y2) == (10, 10, 14, 13)


@pytest.mark.parametrize(
    ("segmentation", "detail"),
    [
        ([[1, 2, 3]], "a polygon that is no list"),
        ([[1, 2, "3", 4]], "a polygon that is no list"),
        ("text", "neither polygons nor run lengths"),
        ({"size": [3, 4], "counts": [12]}, "a mask of 4 × 3 pixels, not 40 × 30"),
        ({"size": [30, 40], "counts": [1200]}, "empty"),
        ({"size": [30, 40], "counts": [1.5]}, "run lengths must be"),
        ({"size": 7, "counts": []}, "run lengths must be"),
    ],
)
def test_a_damaged_segmentation_is_reported_and_the_box_kept(tmp_path: Path, segmentation: Any, detail: str) -> None:
    dataset = read(write_segmented(tmp_path, {"bbox": [9, 9, 7, 6], "segmentation": segmentation}))
    assert dataset.instances[0].boxes == (Box("", 9, 9, 16, 15),)
    (entry,) = dataset.skipped
    assert (entry.reason, entry.detail[: len(detail)]) == ("mask_unreadable", detail)
