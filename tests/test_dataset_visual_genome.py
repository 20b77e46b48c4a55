"""Visual Genome: region phrases in the spellings of both versions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import visual_genome as tree

from wronglung.benchmark.datasets.visual_genome import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset
from wronglung.tasks.pool import Pool
from wronglung.tasks.subsets import abnormal, one_lung

BICYCLE, FENCE = Box("", 12, 6, 37, 46), Box("", 0, 10, 60, 30)
BORDER, FLIPPED = Box("", 0, 0, 60, 19), Box("", 10, 10, 20, 20)


def ledger(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(entry.reason + "*" * entry.repaired, entry.where, entry.detail) for entry in dataset.skipped]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path / "visual-genome")


Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes regions (or text as it is) beside the image 7."""

    def write(content: Any) -> Path:
        (tmp_path / "VG_100K").mkdir(exist_ok=True)
        Image.new("L", (60, 48)).save(tmp_path / "VG_100K" / "7.jpg")
        (tmp_path / "region_descriptions.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write


def test_every_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "visual-genome"
    assert [(one.id, one.image_id, one.study_id, one.sentence, one.boxes) for one in dataset.instances] == [
        ("7_301", "7", "7", "a red bicycle leaning on the fence", (BICYCLE,)),
        ("7_302", "7", "7", "the  fence ", (FENCE,)),
        ("7_305", "7", "7", "beyond the border", (BORDER,)),
        ("7_309", "7", "7", "flipped", (FLIPPED,)),
        ("8_310", "8", "8", "un café", (Box("", 10, 15, 35, 35),)),
        ("13_700", "13", "13", "of unknown size", (Box("", 1, 2, 4, 6),)),
    ]
    for one in dataset.instances:
        assert (one.findings, one.patient_id, one.split) == ((), None, None)
        assert one.image.load().size == (one.image.width, one.image.height) == (60, 48)


def test_every_entry_of_the_ledger(root: Path) -> None:
    assert ledger(read(root)) == [
        ("duplicate_row*", "7_303", "a red bicycle leaning on the fence; said of the same box before"),
        ("id_taken", "7_302", "another phrase of the same number; another region has this id"),
        ("box_clipped*", "7_305", "[-1, -1, 69, 19] on 60 × 48 pixels"),
        ("box_outside_image", "7_306", "[60, 10, 65, 15] on 60 × 48 pixels"),
        ("no_valid_box", "7_306", ""),
        ("box_degenerate", "7_307", "[3, 3, 8, 3]"),
        ("no_valid_box", "7_307", ""),
        ("box_missing", "7_308", "[null, 3, null, 8]"),
        ("no_valid_box", "7_308", ""),
        ("box_flipped*", "7_309", "[20, 20, 10, 10]"),
        ("sentence_missing", "7_310", "an empty phrase"),
        ("size_mismatch*", "8", "VG_100K/8.jpg: announced as 120 × 96 pixels, is 60 × 48: boxes scaled"),
        ("image_missing", "9", "9.jpg"),
        ("no_annotation", "10", "no region"),
        (
            "size_mismatch",
            "11",
            "VG_100K_2/11.jpg: announced as 60 × 90 pixels, is 60 × 48: cropped or padded",
        ),
        ("image_unreadable", "12", "VG_100K/12.jpg: not an image of a known format"),
        ("metadata_missing*", "13", "no size in image_data.json; its size is that of the file"),
    ]


def test_the_boxes_of_an_image_are_its_regions(root: Path) -> None:
    assert read(root).regions == {
        "7": (BICYCLE, FENCE, BORDER, FLIPPED),
        "8": (Box("", 10, 15, 35, 35),),
        "10": (),
        "13": (Box("", 1, 2, 4, 6),),
    }


def test_the_first_regions_of_each_image(root: Path) -> None:
    assert [one.id for one in read(root, regions_per_image=2).instances] == ["7_301", "7_302", "8_310", "13_700"]
    with pytest.raises(WronglungError, match="regions_per_image=0: must be at least 1"):
        read(root, regions_per_image=0)


def test_without_sizes_those_of_the_files_count(root: Path) -> None:
    (root / "image_data.json").unlink()
    dataset = read(root)
    assert ledger(dataset)[0] == (
        "metadata_missing*", "image_data.json", "no such file; sizes are those of the images"
    )  # fmt: skip
    assert [entry.reason for entry in dataset.skipped].count("metadata_missing") == 1
    assert "size_mismatch" not in {entry.reason for entry in dataset.skipped}


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    whole = read(root).fingerprint
    for place in (tmp_path, root / "region_descriptions.json"):
        assert read(place).fingerprint == whole
    (root / "annotations").mkdir()
    for name in ("region_descriptions.json", "image_data.json"):
        (root / name).rename(root / "annotations" / name)
    assert read(root).fingerprint == whole
    assert read(root / "annotations", images=root).fingerprint == whole
    with pytest.raises(WronglungError, match="none of the 7 images .* with the argument images"):
        read(root / "annotations")
    with pytest.raises(WronglungError, match="nowhere: is not a folder"):
        read(root, images=tmp_path / "nowhere")


def test_one_folder_of_images_will_do(root: Path) -> None:
    dataset = read(root, images=root / "VG_100K")
    assert [one.id for one in dataset.instances] == ["8_310"]
    assert [entry.where for entry in dataset.skipped if entry.reason == "image_missing"] == ["7", "9", "11", "13"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match=r"no region_descriptions\.json in this folder or three levels below"):
        read(tmp_path)


def test_a_link_to_elsewhere_is_not_followed(root: Path, tmp_path: Path) -> None:
    image = root / "VG_100K" / "8.jpg"
    image.rename(tmp_path / "outside.jpg")
    image.symlink_to(tmp_path / "outside.jpg")
    dataset = read(root)
    assert "8" not in {one.image_id for one in dataset.instances}
    assert ("image_missing", "8") in {(entry.reason, entry.where) for entry in dataset.skipped}


def regions(**changes: Any) -> list[Any]:
    region = {**tree.region(1, 7, "x", 1, 1, 2, 2), **changes}
    return [{"id": 7, "regions": []}, {"id": 8, "regions": [{k: v for k, v in region.items() if v is not Ellipsis}]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "must hold a list of images"),
        ('[{"id": 7, "id": 8}]', "key 'id' stands twice"),
        ([7], r"\[0\]\.the image: "),
        ([{"regions": []}], r"\[0\]\.image_id: missing"),
        ([{"id": "../7", "regions": []}], r"\[0\]\.\w*id: "),
        ([{"id": 7}], r"\[0\]\.regions: missing"),
        ([{"id": 7, "regions": []}] * 2, "image 7 is listed twice"),
        (regions(phrase=...), r"\[1\]\.regions\[0\]\.phrase: missing"),
        (regions(phrase=None), r"\[1\]\.regions\[0\]\.phrase: "),
        (regions(region_id=...), r"\[1\]\.regions\[0\]\.region_id: missing"),
        (regions(x="1"), r"\[1\]\.regions\[0\]\.x: "),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_place(write: Write, content: Any, message: str) -> None:
    root = write(content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root, images=root)
    assert str(caught.value).startswith(f"{root / 'region_descriptions.json'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "{}", '[{"image_id": 7}]', '[{"image_id": 7, "width": "60", "height": 48}]'])
def test_bad_sizes(root: Path, content: str) -> None:
    (root / "image_data.json").write_text(content)
    with pytest.raises(WronglungError, match=r"image_data\.json: "):
        read(root)


def test_the_dataset_names_no_findings_and_no_lungs(root: Path) -> None:
    pool = Pool(read(root).instances)
    assert abnormal(pool) is None
    assert one_lung(pool) is None


number = st.one_of(st.none(), st.integers(-80, 80), st.floats(-80, 80))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(number, number, number, number), max_size=5))
def test_whatever_the_boxes_the_valid_ones_are_inside(boxes: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        entries = [tree.region(at, 7, f"phrase {at}", *box) for at, box in enumerate(boxes)]
        (Path(folder) / "region_descriptions.json").write_text(json.dumps([{"id": 7, "regions": entries}]))
        Image.new("L", (60, 48)).save(Path(folder) / "7.jpg")
        dataset = read(Path(folder))
    for one in dataset.instances:
        (box,) = one.boxes
        assert 0 <= box.x1 < box.x2 <= 60
        assert 0 <= box.y1 < box.y2 <= 48
    assert len(dataset.instances) + [entry.reason for entry in dataset.skipped].count("no_valid_box") == len(boxes)
