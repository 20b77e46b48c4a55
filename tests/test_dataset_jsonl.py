"""Hand-written datasets: one instance a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.jsonl import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Finding

Write = Callable[..., Path]


def line(**changes: Any) -> dict[str, Any]:
    whole = {
        "id": "a_0",
        "image": "a.png",
        "sentence": "Opacity in the left lung.",
        "boxes": [{"name": "left lung", "box": [20, 5, 38.5, 25]}],
    }
    return {**whole, **changes}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines (objects, or text as it is) beside a 40 × 30 image."""

    def write(*lines: dict[str, Any] | str) -> Path:
        Image.new("L", (40, 30)).save(tmp_path / "a.png")
        file = tmp_path / "set.jsonl"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return file

    return write


def test_a_whole_line(write: Write) -> None:
    finding = {"label": "lung opacity", "context": "yes", "region": "left lung"}
    file = write(line(findings=[finding], study_id="s7", patient_id="p3", split="test"))
    dataset = read(file)
    (instance,) = dataset.instances
    assert instance.id == "a_0"
    assert (instance.image.id, instance.image.width, instance.image.height) == ("a", 40, 30)
    assert instance.image.path == file.parent / "a.png"
    assert instance.sentence == "Opacity in the left lung."
    assert instance.boxes == (Box("left lung", 20, 5, 38.5, 25),)
    assert instance.findings == (Finding("lung opacity", "yes", "left lung"),)
    assert (instance.study_id, instance.patient_id, instance.split) == ("s7", "p3", "test")
    assert dataset.skipped == ()


def test_what_may_be_left_out(write: Write) -> None:
    (instance,) = read(write(line())).instances
    assert instance.findings == ()
    assert (instance.study_id, instance.patient_id, instance.split) == (None, None, None)


def test_the_sentence_is_kept_as_it_is_written(write: Write) -> None:
    text = "  No change.\n\tÉtat  stable ___ ."
    assert read(write(line(sentence=text))).instances[0].sentence == text


def test_a_folder_with_one_file_will_do(write: Write) -> None:
    file = write(line())
    assert load_dataset("jsonl", file.parent).fingerprint == load_dataset("jsonl", file).fingerprint


def test_order_and_empty_lines(write: Write) -> None:
    dataset = read(write(line(id="b"), "", "   ", line(id="a")))
    assert [instance.id for instance in dataset.instances] == ["b", "a"]


def test_windows_line_ends_and_a_byte_order_mark(write: Write) -> None:
    file = write(line(id="b"), line(id="a"))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read(file).instances) == 2


def test_known_regions_are_the_named_boxes_of_the_image(write: Write) -> None:
    left, right = {"name": "left lung", "box": [20, 5, 38, 25]}, {"name": "right lung", "box": [2, 5, 18, 25]}
    unnamed = {"name": "", "box": [1, 1, 2, 2]}
    dataset = read(write(line(id="a", boxes=[left, unnamed]), line(id="b", boxes=[right]), line(id="c", boxes=[left])))
    assert dataset.regions == {"a": (Box("left lung", 20, 5, 38, 25), Box("right lung", 2, 5, 18, 25))}


def test_regions_may_be_stated(write: Write) -> None:
    right = {"name": "right lung", "box": [2, 5, 18, 25]}
    dataset = read(write(line(id="a"), line(id="b", regions=[right]), line(id="c", regions=[right])))
    assert set(dataset.regions["a"]) == {Box("right lung", 2, 5, 18, 25), Box("left lung", 20, 5, 38.5, 25)}
    assert dataset.skipped == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "the line: "),
        ('"text"', "the line: "),
        ("NaN", "the line: "),
        ("[" * 50_000, "nested too deeply"),
        (json.dumps(line()).replace('"boxes"', '"id": "b", "boxes"'), "key 'id' stands twice"),
        (line(box=[]), "box: unknown key"),
        ({"id": "a"}, "image: missing"),
        (line(id=7), "id: Input should be a valid string"),
        (line(id=""), "id: String should have at least 1 character"),
        (line(image=""), "image: "),
        (line(sentence=None), "sentence: "),
        (line(sentence="\ud800"), "surrogates not allowed"),
        (line(boxes=[[1, 2, 3, 4]]), r"boxes\[0\]: "),
        (line(boxes=[{"name": "x", "box": [1, 2, 3]}]), r"boxes\[0\]\.box: .*four numbers"),
        (line(boxes=[{"name": "x", "box": [1, 2, 3, "4"]}]), r"boxes\[0\]\.box\[3\]: "),
        (line(boxes=[{"name": "x", "box": [1, 2, 3, True]}]), r"boxes\[0\]\.box\[3\]: "),
        (line(boxes=[{"name": "x", "box": [1, 2, 3, 10**400]}]), r"boxes\[0\]\.box\[3\]: "),
        (line(boxes=[{"name": "x", "x1": 1}]), r"boxes\[0\]\.box: missing \(and 1 more\)"),
        (line(findings=[{"label": "x", "context": "maybe", "region": "y"}]), r"findings\[0\]\.context: "),
        (line(findings=[{"label": "x", "context": "yes"}]), r"findings\[0\]\.region: missing"),
        (line(patient_id=12), "patient_id: "),
        (line(id="first"), "id 'first' is that of line 1"),
        ('{"id": "a\0"}', "holds a NUL byte"),
    ],
)
def test_a_bad_line_is_one_error_that_names_it(write: Write, bad: dict[str, Any] | str, message: str) -> None:
    file = write(line(id="first"), bad)
    with pytest.raises(WronglungError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8(write: Write) -> None:
    file = write(line())
    file.write_bytes(file.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(WronglungError, match=r"set\.jsonl:2: not UTF-8"):
        read(file)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"study_id": "s1"}, {"study_id": "s2"}, "study_id of image 'a.png' differs from that of line 1"),
        ({"patient_id": "p1"}, {}, "patient_id of image 'a.png' differs"),
        (
            {"study_id": "s", "patient_id": "p1"},
            {"study_id": "s", "patient_id": "p2", "image": "b.png"},
            "patient_id of study 's' differs",
        ),
        ({"regions": []}, {"regions": [{"name": "x", "box": [1, 2, 3, 4]}]}, "regions of image 'a.png' differs"),
    ],
)
def test_lines_that_contradict_each_other(
    write: Write, first: dict[str, Any], second: dict[str, Any], message: str
) -> None:
    with pytest.raises(WronglungError, match=rf"set\.jsonl:2: {message}"):
        read(write(line(id="a", **first), {**line(id="b"), **second}))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("b.png", "image_missing"),
        ("text.png", "image_unreadable"),
        ("../a.png", "path_outside_root"),
        ("/tmp/a.png", "path_outside_root"),
        ("link.png", "path_outside_root"),
    ],
)
def test_an_image_that_cannot_be_used_is_reported_once(
    write: Write, tmp_path_factory: pytest.TempPathFactory, image: str, reason: str
) -> None:
    file = write(line(id="good"), line(id="bad", image=image), line(id="worse", image=image))
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "c.png"
    Image.new("L", (40, 30)).save(elsewhere)
    (file.parent / "link.png").symlink_to(elsewhere)
    (file.parent / "text.png").write_text("text")
    dataset = read(file)
    assert [instance.id for instance in dataset.instances] == ["good"]
    assert [(entry.reason, entry.repaired) for entry in dataset.skipped] == [(reason, False)]


def test_bad_boxes_are_reported_and_the_findings_outlive_them(write: Write) -> None:
    boxes = [
        {"name": "right lung", "box": [0, 0, 0, 0]},
        {"name": "left lung", "box": [38, 5, 20, 99]},
        {"name": "left lung", "box": [20, 5, 38, 30]},
        {"name": "carina", "box": None},
    ]
    finding = {"label": "lung opacity", "context": "yes", "region": "right lung"}
    dataset = read(write(line(boxes=boxes, findings=[finding, finding])))
    (instance,) = dataset.instances
    assert instance.boxes == (Box("left lung", 20, 5, 38, 30),)
    assert instance.regions == {"left lung", "right lung"}
    assert [entry.reason for entry in dataset.skipped] == [
        "box_degenerate",
        "box_flipped",
        "box_clipped",
        "box_missing",
        "duplicate_row",
        "duplicate_row",
    ]


@pytest.mark.parametrize(
    "box", ["[]", "null", "[NaN, 1, 2, 3]", "[1e999, 1, 2, 3]", "[1, null, 2, 3]", "[90, 90, 99, 99]"]
)
def test_a_sentence_without_a_valid_box_is_left_out(write: Write, box: str) -> None:
    dataset = read(write(json.dumps(line()).replace("[20, 5, 38.5, 25]", box)))
    assert dataset.instances == ()
    assert dataset.skipped[-1].reason == "no_valid_box"
    assert len(dataset.skipped) == 2


def test_a_set_without_a_usable_instance_is_an_error_for_the_user(write: Write) -> None:
    with pytest.raises(WronglungError, match=r"no usable instance \(left out: image_missing 1\)"):
        load_dataset("jsonl", write(line(image="b.png")))


def test_an_empty_file(write: Write) -> None:
    with pytest.raises(WronglungError, match="no usable instance"):
        load_dataset("jsonl", write())


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="does not exist"):
        load_dataset("jsonl", tmp_path / "none")


def test_a_folder_without_or_with_two_files(write: Write) -> None:
    folder = write(line()).parent
    (folder / "other.jsonl").touch()
    empty = folder / "images"
    empty.mkdir()
    with pytest.raises(WronglungError, match=r"2 \.jsonl files \(other\.jsonl, set\.jsonl\); give the file itself"):
        read(folder)
    with pytest.raises(WronglungError, match=r"no \.jsonl file"):
        read(empty)


def test_two_images_that_differ_in_their_suffix_have_two_ids(write: Write) -> None:
    file = write(line(id="a"), line(id="b", image="a.jpg"))
    Image.new("L", (40, 30)).save(file.parent / "a.jpg")
    assert [instance.image_id for instance in read(file).instances] == ["a.png", "a.jpg"]


SQUARE = {"size": [3, 4], "counts": [3, 2, 7]}  # the upper two pixels of the second column


def test_a_mask_goes_with_its_box_and_a_box_is_found_for_a_mask(write: Write) -> None:
    boxes = [
        {"name": "nodule", "box": [10, 0, 20, 20], "mask": SQUARE},
        {"name": "other", "box": None, "mask": SQUARE},
    ]
    (instance,) = read(write(line(boxes=boxes))).instances
    expected = np.zeros((3, 4), dtype=np.bool_)
    expected[:2, 1] = True
    for box, name in zip(instance.boxes, ("nodule", "other"), strict=True):
        assert box == Box(name, 10, 0, 20, 20, mask=box.mask)
        assert box.mask is not None
        np.testing.assert_array_equal(box.mask.pixels(), expected)


@pytest.mark.parametrize(
    ("mask", "detail"),
    [
        ({"size": [3, 4], "counts": [4, 2]}, "m: runs of 6 pixels in a mask of 4 × 3"),
        ({"size": [3, 4], "counts": "\x01"}, "m: compressed run lengths hold"),
        ({"size": [-3, -4], "counts": [12]}, "m: a mask of -4 × -3 pixels"),
    ],
)
def test_a_damaged_mask_is_reported_and_its_box_kept(write: Write, mask: dict[str, Any], detail: str) -> None:
    dataset = read(write(line(boxes=[{"name": "m", "box": [1, 2, 3, 4], "mask": mask}])))
    (entry,) = dataset.skipped
    assert (entry.reason, entry.where, entry.repaired) == ("mask_unreadable", "a_0", False)
    assert entry.detail.startswith(detail)
    assert dataset.instances[0].boxes == (Box("m", 1, 2, 3, 4),)


def test_an_empty_mask_without_a_box_is_reported(write: Write) -> None:
    boxes = [{"name": "m", "box": None, "mask": {"size": [3, 4], "counts": [12]}}, {"name": "", "box": [1, 1, 2, 2]}]
    dataset = read(write(line(boxes=boxes)))
    assert [(one.reason, one.detail) for one in dataset.skipped] == [
        ("mask_unreadable", "m: empty"),
        ("box_missing", "m: null"),
    ]
    assert dataset.instances[0].boxes == (Box("", 1, 1, 2, 2),)


def test_images_may_lie_elsewhere_and_have_ids_of_their_own(write: Write, tmp_path: Path) -> None:
    file = write(line(image="p1/a.png", image_id="film 1", parent_regions=["left lung"]))
    (tmp_path / "films/p1").mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "films/p1/a.png")
    (instance,) = read(file, images=tmp_path / "films").instances
    assert instance.image_id == "film 1"
    assert instance.image.path == tmp_path / "films/p1/a.png"
    assert instance.parent_regions == ("left lung",)
    with pytest.raises(WronglungError, match="none: is not a folder; images is the folder"):
        read(file, images=tmp_path / "none")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"image_id": "two"}, ":2: image_id of image 'a.png' differs from that of line 1"),
        ({"image": "b.png", "image_id": "one"}, ":2: image 'b.png' has the id 'one', which is that of 'a.png' too"),
        ({"image": "one"}, ":2: image 'one' has the id 'one', which is that of 'a.png' too"),
    ],
)
def test_an_image_has_one_id_and_an_id_one_image(write: Write, second: dict[str, Any], message: str) -> None:
    with pytest.raises(WronglungError, match=message):
        read(write(line(image_id="one"), line(id="a_1", **second)))
