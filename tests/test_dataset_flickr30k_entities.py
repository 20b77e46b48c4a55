"""Flickr30k Entities: phrases, chains and boxes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import flickr30k_entities as tree

from wronglung.benchmark.datasets.flickr30k_entities import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset
from wronglung.tasks.pool import Pool
from wronglung.tasks.subsets import abnormal, one_lung

FILM = Box("other", 30, 4, 40, 15)
WOMAN = Box("people", 0, 0, 30, 48)


def ledger(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(entry.reason + "*" * entry.repaired, entry.where, entry.detail) for entry in dataset.skipped]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path / "flickr30k_entities")


def one_image(folder: Path, sentences: str, *objects: str) -> Path:
    for name in ("Annotations", "Sentences", "flickr30k-images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "Annotations" / "1.xml").write_text(tree.annotation("1", *objects))
    (folder / "Sentences" / "1.txt").write_text(sentences)
    Image.new("L", (60, 48)).save(folder / "flickr30k-images" / "1.jpg")
    return folder


def test_every_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "flickr30k-entities"
    assert [(one.id, one.sentence, one.boxes, one.study_id, one.split) for one in dataset.instances] == [
        ("1000000001_0_0", "A radiologist", (WOMAN,), "1000000001", "train"),
        ("1000000001_0_1", "a film", (FILM,), "1000000001", "train"),
        ("1000000001_1_0", "A  woman", (WOMAN,), "1000000001", "train"),
        ("1000000001_1_1", "left hand", (Box("bodyparts", 19, 29, 60, 48),), "1000000001", "train"),
        ("1000000001_3_0", "X-rays", (FILM,), "1000000001", "train"),
        ("1000000001_3_1", '"two"', (FILM, Box("other", 9, 9, 12, 12)), "1000000001", "train"),
        ("1000000001_3_2", "them", (Box("other", 29, 9, 40, 20),), "1000000001", "train"),
        ("0000000002_0_0", "Ein Mädchen", (Box("people", 10, 10, 20, 30),), "0000000002", "val"),
        ("1000000007_0_0", "A man", (Box("people", 1, 1, 9, 9),), "1000000007", None),
    ]
    for one in dataset.instances:
        assert one.id.startswith(f"{one.image_id}_")
        assert one.image.load().size == (one.image.width, one.image.height) == (60, 48)
        assert (one.findings, one.patient_id, one.parent_regions) == ((), None, ())


def test_every_entry_of_the_ledger(root: Path) -> None:
    first = "1000000001"
    assert ledger(read(root)) == [
        ("duplicate_row*", first, "listed in test.txt again"),
        ("duplicate_row*", f"{first}, chain 40003", "a box given twice"),
        ("box_clipped*", f"{first}, chain 40004", "[19, 29, 80, 60] on 60 × 48 pixels"),
        ("box_flipped*", f"{first}, chain 40006", "[40, 20, 29, 9]"),
        ("box_degenerate", f"{first}, chain 40007", "[10, 4, 10, 9]"),
        ("box_outside_image", f"{first}, chain 40007", "[69, 4, 80, 9] on 60 × 48 pixels"),
        ("box_missing", f"{first}, chain 40007", "[null, 4, 8, 9]"),
        ("no_valid_box", f"{first}_4_0", ""),
        ("sentence_without_annotation", first, "2 of 10 phrases are tied to no box"),
        ("image_missing", "1000000003", "1000000003.jpg"),
        (
            "annotation_missing",
            "1000000004",
            "Annotations/1000000004.xml: not XML (no element found: line 1, column 20)",
        ),
        (
            "annotation_missing",
            "1000000005",
            "Annotations/1000000005.xml: declares a document type or an entity, which is not read",
        ),
        ("size_mismatch*", "0000000002", "0000000002.jpg: announced as 120 × 96 pixels, is 60 × 48: boxes scaled"),
        ("no_annotation", "1000000006", "no phrase in its captions"),
        ("annotation_missing", "1000000099", "Sentences/1000000099.txt: No such file or directory"),
        (
            "annotation_missing",
            "../Sentences/1000000007",
            "Sentences/../Sentences/1000000007.txt: leads out of the folder",
        ),
    ]


def test_all_boxes_of_an_image_are_its_regions(root: Path) -> None:
    assert read(root).regions == {
        "1000000001": (
            WOMAN,
            FILM,
            Box("other", 9, 9, 12, 12),
            Box("bodyparts", 19, 29, 60, 48),
            Box("other", 29, 9, 40, 20),
        ),
        "0000000002": (Box("people", 10, 10, 20, 30),),
        "1000000006": (),
        "1000000007": (Box("people", 1, 1, 9, 9),),
    }


def test_the_sentence_may_be_the_whole_caption(root: Path) -> None:
    phrases, captions = read(root), read(root, text="sentence")
    assert [one.sentence for one in captions.instances][:3] == [
        "A radiologist holds a film against the light .",
        "A radiologist holds a film against the light .",
        "A  woman ’s left hand in a room .",
    ]
    assert captions.instances[4].sentence == 'X-rays , "two" [/EN#broken of] them .'
    assert [(one.id, one.boxes) for one in captions.instances] == [(one.id, one.boxes) for one in phrases.instances]
    assert captions.skipped == phrases.skipped


def test_one_split_reads_its_list_alone(root: Path) -> None:
    dataset = read(root, split="val")
    assert [one.id for one in dataset.instances] == ["0000000002_0_0"]
    assert [entry.reason for entry in dataset.skipped] == ["size_mismatch", "no_annotation"]
    assert {one.split for one in read(root, split="test").instances} == {"test"}  # that list comes alone
    (root / "val.txt").unlink()
    with pytest.raises(WronglungError, match=r"val\.txt: does not exist; it lists the images of the split val"):
        read(root, split="val")


def test_without_lists_images_are_in_order_of_their_names(root: Path) -> None:
    for name in ("train", "val", "test"):
        (root / f"{name}.txt").unlink()
    dataset = read(root)
    assert list(dict.fromkeys(one.image_id for one in dataset.instances)) == ["0000000002", "1000000001", "1000000007"]
    assert {one.split for one in dataset.instances} == {None}


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    whole = read(root).fingerprint
    assert read(tmp_path).fingerprint == whole
    (root / "flickr30k-images").rename(tmp_path / "flickr30k_images")
    assert read(root).fingerprint == read(tmp_path).fingerprint == whole
    (tmp_path / "flickr30k_images").rename(tmp_path / "photographs")
    assert read(root, images=tmp_path / "photographs").fingerprint == whole
    with pytest.raises(WronglungError, match="none of the .* name the folder of the images .* argument images"):
        read(root)
    with pytest.raises(WronglungError, match="nowhere: is not a folder"):
        read(root, images=tmp_path / "nowhere")


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    (tmp_path / "annotations.zip").touch()
    with pytest.raises(
        WronglungError, match=r"no folder with Annotations and Sentences in it.*unpack annotations\.zip"
    ):
        read(tmp_path)


def test_a_list_that_is_no_text_is_an_error(root: Path) -> None:
    (root / "test.txt").write_bytes(b"1\n\xff\n")
    with pytest.raises(WronglungError, match=r"test\.txt:2: not UTF-8"):
        read(root)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE z [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (BOMB.encode(), "declares a document type"),
        (OUTSIDE.encode(), "declares a document type"),
        (BOMB.encode("utf-16"), "not UTF-8"),
        (BOMB.replace("DOCTYPE", "doctype").encode(), "declares a document type"),
        (b"<annotation>&a;</annotation>", "not XML"),
        (b"<annotation>\0</annotation>", "not XML"),
        (b"<annotation/>" * 2, "not XML"),
        (b"", "not XML"),
        (b" " * (1 << 23), "larger than"),
        (b"<a>" * 50_000, "not XML"),
    ],
)
def test_hostile_or_damaged_xml_costs_its_image_only(root: Path, data: bytes, detail: str) -> None:
    (root / "Annotations" / "1000000001.xml").write_bytes(data)
    dataset = read(root)
    assert [one.image_id for one in dataset.instances] == ["0000000002", "1000000007"]
    assert [entry.reason for entry in dataset.skipped if entry.where == "1000000001" and detail in entry.detail] == [
        "annotation_missing"
    ]


def test_links_lead_nowhere_outside(root: Path, tmp_path: Path) -> None:
    for folder, suffix in (("Annotations", "xml"), ("Sentences", "txt"), ("flickr30k-images", "jpg")):
        file = root / folder / f"1000000007.{suffix}"
        outside = tmp_path / f"outside.{suffix}"
        shutil.move(file, outside)
        file.symlink_to(outside)
        assert "1000000007" not in {one.image_id for one in read(root).instances}
        file.unlink()
        shutil.move(outside, file)


def test_chain_zero_and_chains_without_a_box_are_counted(tmp_path: Path) -> None:
    sentences = "[/EN#0/notvisual it] and [/EN#7/scene a room] and [/EN#8/people a man] ."
    root = one_image(tmp_path, sentences, tree.an_object((0,), 1, 1, 5, 5), tree.an_object((8, 9), 1, 1, 5, 5))
    dataset = read(root)
    assert [(one.id, one.sentence) for one in dataset.instances] == [("1_0_2", "a man")]
    assert ledger(dataset) == [("sentence_without_annotation", "1", "2 of 3 phrases are tied to no box")]


def test_the_dataset_names_no_findings_and_no_lungs(root: Path) -> None:
    pool = Pool(read(root).instances)
    assert abnormal(pool) is None
    assert one_lung(pool) is None


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 48), st.integers(1, 60), st.integers(1, 48))
def test_inclusive_corners_become_edges(x1: int, y1: int, x2: int, y2: int) -> None:
    assume(x1 != x2 + 1 and y1 != y2 + 1)
    with tempfile.TemporaryDirectory() as folder:
        root = one_image(Path(folder), "[/EN#8/people a man]", tree.an_object((8,), x1, y1, x2, y2))
        (box,) = read(root).instances[0].boxes
    assert box == Box("people", min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2), max(y1, y2))
