"""RefCOCO: expressions, their boxes and outlines, and pickles that may not run anything."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trees import refcoco as tree

from wronglung.benchmark.datasets.refcoco import read
from wronglung.benchmark.datasets.refcoco_refs import read_refs
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset
from wronglung.benchmark.masks import from_coco, from_outlines
from wronglung.tasks.pool import Pool
from wronglung.tasks.subsets import abnormal, one_lung

A, B, C = (f"COCO_train2014_00000009000{number}" for number in (1, 2, 3))

LADY = Box(
    "person", 10.5, 8.25, 30.5, 38.75,
    mask=from_outlines([[(10.5, 8.25), (30.5, 8.25), (30.5, 38.75), (10.5, 38.75)]], 60, 48),
)  # fmt: skip
DOG = Box("dog", 0, 20, 10, 30, mask=from_coco((48, 60), [20, 10, 2850]))
SIGN = Box(
    "", 10, 10, 30, 20,
    mask=from_outlines([[(20, 20), (60, 20), (60, 40)], [(20, 20), (30, 40), (20, 40)]], 120, 96),
)  # fmt: skip
EDGE = Box("person", 50, 40, 60, 48)
BROKEN = Box("person", 5, 10, 10, 20)


def ledger(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(entry.reason + "*" * entry.repaired, entry.where, entry.detail) for entry in dataset.skipped]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path / "refer")


Write = Callable[..., Path]


@pytest.fixture
def write(root: Path) -> Write:
    """Writes the usual tree with other references or another document."""

    def write(refs: Any = None, **changes: Any) -> Path:
        if refs is not None:
            (root / "refcoco" / "refs(unc).p").write_bytes(tree.python2_pickle(refs))
        (root / "refcoco" / "instances.json").write_text(json.dumps({**tree.INSTANCES, **changes}))
        return root

    return write


def test_every_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "refcoco"
    assert [(one.id, one.image_id, one.sentence, one.boxes, one.split) for one in dataset.instances] == [
        (f"{A}_3", A, "the lady in blue", (LADY,), "train"),
        (f"{A}_4", A, "lady", (LADY,), "train"),
        (f"{A}_6", A, "dog  on left ,", (DOG,), "train"),
        (f"{A}_8", A, "left edge", (EDGE,), "val"),
        (f"{B}_5", B, "the café sign", (SIGN,), "testA"),
        (f"{B}_14", B, "a broken outline", (BROKEN,), "testB"),
    ]
    for one in dataset.instances:
        assert (one.findings, one.study_id, one.patient_id) == ((), None, None)
        assert one.image.load().size == (one.image.width, one.image.height) == (60, 48)


def test_every_entry_of_the_ledger(root: Path) -> None:
    assert ledger(read(root)) == [
        ("duplicate_row*", f"{A}_6", "dog  on left ,"),
        ("sentence_missing", f"{A}_7", "an empty expression"),
        ("box_clipped*", f"{A}, annotation 900018", "person: [50, 40, 70, 60] on 60 × 48 pixels"),
        ("box_degenerate", f"{A}, annotation 900019", "person: [5, 5, 5, 14]"),
        ("no_valid_box", f"{A}_9", ""),
        ("annotation_missing", f"{A}, annotation 999999", "no such annotation on the image"),
        ("size_mismatch*", B, f"{B}.jpg: announced as 120 × 96 pixels, is 60 × 48: boxes scaled"),
        ("mask_unreadable", f"{B}, annotation 900021", "person: a polygon that is no list x, y, x, y, ..."),
        ("box_flipped*", f"{B}, annotation 900021", "person: [20, 20, 10, 40]"),
        ("image_missing", C, f"{C}.jpg"),
        ("image_missing", "90004", "not listed in instances.json"),
        ("path_outside_root", f"../{A}", f"../{A}.jpg"),
    ]


def test_all_annotated_objects_are_regions(root: Path) -> None:
    assert read(root).regions == {A: (LADY, DOG, EDGE, Box("person", 1, 1, 6, 6)), B: (SIGN, BROKEN)}


def test_without_masks(root: Path) -> None:
    dataset = read(root, masks=False)
    assert [box.mask for one in dataset.instances for box in one.boxes] == [None] * 6
    assert [one.id for one in dataset.instances] == [one.id for one in read(root).instances]
    assert "mask_unreadable" not in {entry.reason for entry in dataset.skipped}


def test_splits(root: Path) -> None:
    assert [one.id for one in read(root, split="testA").instances] == [f"{B}_5"]
    assert list(read(root, split="testA").regions) == [B]
    with pytest.raises(WronglungError, match="has no split 'test'; it has testA, testB, train, val"):
        read(root, split="test")


def test_variants_and_partitions(root: Path) -> None:
    cocog = read(root, variant="refcocog")
    assert (cocog.name, len(cocog.instances)) == ("refcoco:refcocog", 2)
    assert len(read(root, partition="google").instances) == 2
    with pytest.raises(WronglungError, match=r"no refcoco\+/refs\(unc\)\.p in this folder"):
        read(root, variant="refcoco+")
    with pytest.raises(WronglungError, match="refcocog is divided by umd or google"):
        read(root, variant="refcocog", partition="unc")
    with pytest.raises(WronglungError, match=r"no refcocog/refs\(google\)\.p"):
        read(root, variant="refcocog", partition="google")


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    whole = read(root).fingerprint
    for place in (tmp_path, root / "refcoco", root / "refcoco" / "refs(unc).p"):
        assert read(place).fingerprint == whole
    with pytest.raises(WronglungError, match="is refcocog, not refcoco; give the argument variant=refcocog"):
        read(root / "refcocog")
    assert len(read(root / "refcocog", variant="refcocog").instances) == 2


@pytest.mark.parametrize(
    "place", ["images/train2014", "images/mscoco/images/train2014", "../train2014", "refcoco/train2014"]
)
def test_the_usual_places_of_images(root: Path, place: str) -> None:
    whole = read(root).fingerprint
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "train2014").rename(root / place)
    assert read(root).fingerprint == read(root / "refcoco").fingerprint == whole


def test_images_elsewhere(root: Path, tmp_path: Path) -> None:
    whole = read(root).fingerprint
    (root / "train2014").rename(tmp_path / "photographs")
    assert read(root, images=tmp_path / "photographs").fingerprint == whole
    with pytest.raises(WronglungError, match="name the folder of COCO's train2014 images with the argument images"):
        read(root)


def test_a_link_to_elsewhere_is_not_followed(root: Path, tmp_path: Path) -> None:
    image = root / "train2014" / f"{A}.jpg"
    image.rename(tmp_path / "outside.jpg")
    image.symlink_to(tmp_path / "outside.jpg")
    dataset = read(root)
    assert {one.image_id for one in dataset.instances} == {B}
    assert ("path_outside_root", A) in {(entry.reason, entry.where) for entry in dataset.skipped}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_in_every_protocol(root: Path, protocol: int) -> None:
    file = root / "refcoco" / "refs(unc).p"
    before = read(root).fingerprint
    file.write_bytes(pickle.dumps(tree.REFS, protocol))
    assert read(root).fingerprint == before


class _Runs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_runs_nothing(root: Path, tmp_path: Path, protocol: int) -> None:
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([*tree.REFS, _Runs(tmp_path / "made")], protocol))
    with pytest.raises(WronglungError, match=r"holds the pickle instruction .*others may run code"):
        read(root)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'exit 1'\ntR.",  # the classic
        b"(S'exit 1'\nios\nsystem\n.",  # INST
        b"\x80\x02\x82\x01.",  # a class of the extension registry
        b"Pos.",  # a persistent id
        pickle.dumps({1, 2}),
        pickle.dumps(np.float64(1.0)),
        pickle.dumps(3 + 4j),
    ],
)
def test_instructions_that_are_not_plain_data(root: Path, data: bytes) -> None:
    (root / "refcoco" / "refs(unc).p").write_bytes(data)
    with pytest.raises(WronglungError, match="holds the pickle instruction"):
        read(root)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b".",
        b"\x80\x02]",
        b"\x80\xff].",
        b"g7\n.",
        b"I" + b"9" * 10_000 + b"\n.",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"](]e]u.",
        b"(" * 100_000,
    ],
)
def test_damaged_pickles(root: Path, data: bytes) -> None:
    (root / "refcoco" / "refs(unc).p").write_bytes(data)
    with pytest.raises(WronglungError, match="not a pickle of plain data"):
        read(root)


def test_a_large_number_in_a_pickle_takes_no_memory(root: Path) -> None:
    data = tree.python2_pickle(tree.REFS)
    (root / "refcoco" / "refs(unc).p").write_bytes(data[:-1] + b"r" + struct.pack("<I", 2**32 - 1) + b".")
    assert len(read(root).instances) == 6


def test_a_file_that_is_too_large(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wronglung.benchmark.datasets.refcoco_refs._MAX_FILE", 100)
    with pytest.raises(WronglungError, match=r"refs\(unc\)\.p: larger than"):
        read(root)


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        ({"refs": []}, "the list of references: "),
        (["x"], r"\[0\]: "),
        ([{"ann_id": 1}], r"\[0\]\.image_id: missing"),
        ([{**tree.REFS[0], "ann_id": "1"}], r"\[0\]\.ann_id: "),
        ([{**tree.REFS[0], "sentences": [{"sent_id": 1}]}], r"\[0\]\.sentences\[0\]\.sent: missing"),
    ],
)
def test_references_of_another_form(write: Write, refs: Any, message: str) -> None:
    with pytest.raises(WronglungError, match=r"refs\(unc\)\.p: " + message):
        read(write(refs))


def test_references_that_hold_themselves(root: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(endless))
    with pytest.raises(WronglungError, match=r"\[0\]: "):
        read(root)


def test_instances_of_another_form(write: Write) -> None:
    with pytest.raises(WronglungError, match=r"instances\.json: categories: "):
        read(write(categories=None))
    root = write()
    (root / "refcoco" / "instances.json").unlink()
    with pytest.raises(WronglungError, match=r"instances\.json: cannot be read"):
        read(root)


@pytest.mark.parametrize(
    ("segmentation", "detail"),
    [
        ("text", "neither polygons nor run lengths"),
        ([1, 2, 3, 4], "neither polygons nor run lengths"),
        ([[1, 2]], "a polygon is a list of at least two points"),
        ([[1, 2, "x", 4]], "a polygon that is no list"),
        ([[1, 2, None, 4]], "a polygon that is no list"),
        ([[500, 500, 510, 500, 510, 510]], "empty"),
        ({"size": [48, 60], "counts": [1]}, "runs of 1 pixels"),
        ({"size": [4, 6], "counts": [4, 20]}, "a mask of 6 × 4 pixels, not 60 × 48"),
        ({"size": [48, 60], "counts": ["1"]}, "run lengths must be"),
        ({"counts": [2880]}, "run lengths must be"),
    ],
)
def test_a_bad_outline_costs_the_mask_and_not_the_box(write: Write, segmentation: Any, detail: str) -> None:
    broken = tree.annotation(900016, 90001, [10, 8, 20, 30], segmentation)
    dataset = read(write(tree.REFS[:1], annotations=[broken]))
    assert {one.boxes for one in dataset.instances} == {(Box("person", 10, 8, 30, 38),)}
    (entry,) = dataset.skipped
    assert entry.reason == "mask_unreadable"
    assert detail in entry.detail


def test_an_id_of_two_expressions_is_that_of_the_first(write: Write) -> None:
    dataset = read(write([tree.ref(1, 900016, 90001, "val", (1, "x"), (1, "y"))]))
    assert [one.sentence for one in dataset.instances] == ["x"]
    assert ledger(dataset) == [("id_taken", f"{A}_1", "y; another expression has this id")]


def test_an_annotation_of_another_image_is_not_taken(write: Write) -> None:
    dataset = read(write([tree.ref(1, 900020, 90001, "val", (1, "x"))]))
    assert not dataset.instances
    assert next(entry.reason for entry in dataset.skipped if not entry.repaired) == "annotation_missing"


def test_a_cropped_image_is_left_out(root: Path) -> None:
    Image.new("L", (60, 30)).save(root / "train2014" / f"{A}.jpg")
    dataset = read(root)
    assert {one.image_id for one in dataset.instances} == {B}
    assert ("size_mismatch", A) in {(entry.reason, entry.where) for entry in dataset.skipped if not entry.repaired}


def test_the_dataset_names_no_findings_and_no_lungs(root: Path) -> None:
    pool = Pool(read(root).instances)
    assert abnormal(pool) is None
    assert one_lung(pool) is None


def packaged(root: Path, form: str = "xyxy", **changes: Any) -> Path:
    """The same set as the Hub has it, in a folder beside the images."""
    annotations = {one["id"]: one for one in tree.INSTANCES["annotations"]}
    images = {one["id"]: one for one in tree.INSTANCES["images"]}
    rows = []
    for ref in tree.REFS:
        annotation = annotations.get(ref["ann_id"], {})
        x, y, width, height = annotation.get("bbox", [1, 1, 1, 1])
        rows.append(
            {
                **ref,
                "raw_anns": json.dumps(annotation),
                "raw_image_info": json.dumps(images.get(ref["image_id"])),
                "image_path": "coco/train2014/" + ref["file_name"],
                "bbox": [x, y, x + width, y + height] if form == "xyxy" else [x, y, width, height],
                **changes,
            }
        )
    (root / "packaged" / "data").mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, root / "packaged" / "data" / "train-00000-of-00001.parquet")
    return root / "packaged"


@pytest.mark.parametrize("form", ["xyxy", "xywh"])
def test_the_packaged_form(root: Path, form: str) -> None:
    dataset, usual = read(packaged(root, form)), read(root)
    (fallback,) = [one for one in dataset.instances if one.id == f"{A}_10"]
    assert fallback.boxes == (Box("", 1, 1, 2, 2),)
    unnamed = [
        (one.id, one.sentence, one.split, tuple(replace(box, name="") for box in one.boxes)) for one in usual.instances
    ]
    others = [one for one in dataset.instances if one is not fallback]
    assert [(one.id, one.sentence, one.split, one.boxes) for one in others] == unnamed
    assert ledger(dataset)[:2] == [
        ("form_detected*", "bbox", f"its form is not said; beside the COCO annotations it is {form} in 8 rows"),
        ("metadata_missing*", "train-00000-of-00001.parquet row 5", f"no COCO annotation; its bbox is taken as {form}"),
    ]


def test_the_packaged_file_itself_and_one_split(root: Path) -> None:
    (file,) = packaged(root).rglob("*.parquet")
    assert [one.id for one in read(file, split="testA", images=root / "train2014").instances] == [f"{B}_5"]


def test_packaged_rows_without_annotations_or_sizes(root: Path) -> None:
    dataset = read(packaged(root, raw_anns="{", raw_image_info="null"), images=root / "train2014")
    assert not dataset.instances
    assert ledger(dataset)[0] == ("form_detected*", "bbox", "its form cannot be told; no row says it")
    assert {entry.reason for entry in dataset.skipped if not entry.repaired} == {"image_missing"}


def test_other_parquet_files_are_not_refcoco(root: Path) -> None:
    (root / "other").mkdir()
    pq.write_table(pa.table({"image_id": [1]}), root / "other" / "rows.parquet")
    with pytest.raises(WronglungError, match="no column ann_id, split, .*; this is not RefCOCO as on the Hub"):
        read(root / "other")
    with pytest.raises(WronglungError, match=r"\.parquet row 0: ann_id: "):
        read(packaged(root, ann_id="x"))


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_are_references_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int) -> None:
    file = tmp_path_factory.getbasetemp() / "any.p"
    whole = tree.python2_pickle(tree.REFS[:1])
    file.write_bytes(whole[: len(whole) * cut // 5] + data)
    try:
        refs = read_refs(file)
    except WronglungError:
        return
    assert isinstance(refs, list)


def test_a_list_that_is_named_many_times_is_counted(tmp_path: Path) -> None:
    sentences = [{"sent_id": at, "sent": "a"} for at in range(1100)]
    refs = [
        {"ref_id": at, "ann_id": 1, "category_id": 1, "image_id": 1, "split": "val", "sentences": sentences}
        for at in range(1000)
    ]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    with pytest.raises(WronglungError, match="more than 1,000,000 expressions"):
        read_refs(tmp_path / "refs(unc).p")
