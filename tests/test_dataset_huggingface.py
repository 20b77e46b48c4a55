"""Hugging Face datasets, described by a mapping file: read as saved, as parquet, from the Hub, and written."""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import huggingface as tree

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.huggingface import read
from wronglung.benchmark.datasets.huggingface_writer import write_huggingface
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding, ImageRef, Instance
from wronglung.benchmark.masks import from_coco, from_pixels

datasets = pytest.importorskip("datasets")

LEFT = Box("left lung", 30, 10, 50, 40)
PNG = tree.picture(90)
MAPPING = {"image": "image", "sentence": "text", "boxes": "box", "box_format": "xyxy", "box_units": "pixels"}
ROW = {"image": PNG, "text": "A box.", "box": [1.0, 2.0, 30.0, 40.0]}


def ledger(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(entry.reason + "*" * entry.repaired, entry.where, entry.detail) for entry in dataset.skipped]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows as one parquet file, and a mapping changed in some keys (None takes one out)."""

    def write(rows: list[dict[str, Any]], schema: Any = None, **changes: Any) -> Path:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "rows.parquet")
        mapping = {key: value for key, value in {**MAPPING, **changes}.items() if value is not None}
        (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping))
        return tmp_path

    return write


def test_every_instance_of_a_snapshot(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "hub-set"
    assert [(one.id, one.image_id, one.sentence, one.study_id, one.patient_id, one.split) for one in dataset.instances] == [
        ("20/0", "20", "In the test split.", None, None, "test"),
        ("7/0", "7", "A left opacity.", "007", "p,1", "train"),
        ("7/1", "7", "  État\tstable,\r\n___ .", "007", "p,1", "train"),
        ("7/2", "7", "Bad boxes.", "007", "p,1", "train"),
        ("7/5", "7", "Broken mask.", "007", "p,1", "train"),
        ("8/0", "8", "In a file.", None, None, "train"),
    ]  # fmt: skip
    assert [one.boxes for one in dataset.instances] == [
        (LEFT,),
        (LEFT,),
        (Box("", 30, 0, 60, 48, mask=from_coco((2, 2), "22")), Box("left lung", 15, 5, 25, 20)),
        (Box("a", 10, 10, 20, 20), Box("b", 50, 40, 60, 48), LEFT),
        (Box("f", 1, 2, 4, 6),),
        (LEFT,),
    ]
    assert [one.findings for one in dataset.instances if one.findings] == [
        (Finding("lung opacity", "yes", "left lung"),)
    ]
    assert dataset.regions == {"7": (Box("right lung", 4, 4, 24, 34), LEFT)}
    assert {(one.image.width, one.image.height, one.image.load().size) for one in dataset.instances} == {
        (60, 48, (60, 48))
    }


def test_every_entry_of_the_ledger(root: Path) -> None:
    assert ledger(read(root)) == [
        ("metadata_missing*", "test row 0", "no width or height; it is taken to be that of the image"),
        ("size_mismatch*", "7", "announced as 120 × 96 pixels, is 60 × 48: boxes scaled"),
        ("duplicate_row*", "7/1", "boxes given twice"),
        ("box_flipped*", "7/2", "a: [20, 20, 10, 10]"),
        ("box_clipped*", "7/2", "b: [50, 40, 80, 70] on 60 × 48 pixels"),
        ("box_degenerate", "7/3", "c: [1, 1, 1, 6]"),
        ("box_outside_image", "7/3", "d: [70, 50, 75, 55] on 60 × 48 pixels"),
        ("box_missing", "7/3", "e: [1, null, 3, null]"),
        ("no_valid_box", "7/3", ""),
        ("sentence_without_annotation", "7/4", ""),
        ("mask_unreadable", "7/5", "f: runs of 11 pixels in a mask of 2 × 2"),
        ("sentence_missing", "8/1", "no sentence"),
        ("sentence_missing", "8/2", "no sentence"),
        ("duplicate_row*", "8/0", ""),
        ("path_outside_root", "9", "../outside.png"),
        ("image_missing", "10", "missing.png"),
        ("image_missing", "train row 6", "an empty cell"),
        ("image_unreadable", "12", "train row 7: not an image of a known format"),
        ("size_mismatch", "13", "announced as 60 × 100 pixels, is 60 × 48: cropped or padded"),
        ("sentence_without_annotation", "train row 9", "2 sentences, but 1 boxes"),
        ("sentence_missing", "train row 10", "no sentence"),
    ]


def test_an_image_in_the_table_gives_its_own_bytes_and_can_be_sent_to_another_process(root: Path) -> None:
    image = read(root, split="train").instances[0].image
    assert image.read() == tree.picture(10)
    assert pickle.loads(pickle.dumps(image)).read() == image.read()


def test_splits(root: Path) -> None:
    assert [one.id for one in read(root, split="test").instances] == ["20/0"]
    assert {one.split for one in read(root, split="train").instances} == {"train"}
    with pytest.raises(WronglungError, match="there is no split 'dev'; it has test, train"):
        read(root, split="dev")
    mapping = root / "mapping.yaml"
    mapping.write_bytes(mapping.read_bytes() + b"split: test\r\n")
    assert [one.id for one in read(root).instances] == ["20/0"]
    assert {one.split for one in read(root, split="train").instances} == {"train"}


@pytest.mark.parametrize(
    ("place", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("testA-00000-of-00001-abcdef.parquet", "testA"),
        ("default/validation/0000.parquet", "validation"),
        ("test.parquet", "test"),
        ("trained.parquet", None),
        ("data/rows.parquet", None),
    ],
)
def test_the_place_of_a_file_tells_its_split(write: Write, place: str, split: str | None) -> None:
    root = write([ROW])
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "rows.parquet").rename(root / place)
    assert [one.split for one in read(root).instances] == [split]


def test_a_column_may_tell_the_split(write: Write) -> None:
    root = write([{**ROW, "part": "a"}, {**ROW, "part": "b"}, {**ROW, "part": None}], split_column="part")
    assert [one.split for one in read(root).instances] == ["a", "b", None]
    assert [one.split for one in read(root, split="b").instances] == ["b"]
    with pytest.raises(WronglungError, match="there is no split 'c'; it has a, b"):
        read(root, split="c")


def saved(rows: list[dict[str, Any]], **features: Any) -> Any:
    return datasets.Dataset.from_list(rows, features=datasets.Features(features) if features else None)


def test_saved_datasets_and_dictionaries_of_them(write: Write, tmp_path: Path) -> None:
    root = write([ROW])
    features = {"image": datasets.Image(), "text": datasets.Value("string"), "box": [datasets.Value("float32")]}
    table = saved([{**ROW, "image": {"bytes": PNG, "path": None}}] * 3, **features)
    table.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": table, "dev": table.select([1])}).save_to_disk(tmp_path / "two")
    one = read(tmp_path / "one", mapping=root / "mapping.yaml")
    two = read(tmp_path / "two", mapping=root / "mapping.yaml")
    assert [(each.id.rpartition("_")[2], each.split) for each in one.instances] == [
        ("0", None),
        ("1", None),
        ("2", None),
    ]
    assert [each.split for each in two.instances] == ["train", "train", "train", "dev"]
    assert {each.boxes for each in (*one.instances, *two.instances)} == {(Box("", 1, 2, 30, 40),)}
    assert one.instances[2].image.read() == PNG


def test_a_feather_file_is_an_arrow_file_too(write: Write) -> None:
    root = write([ROW])
    with pa.OSFile(str(root / "rows.arrow"), "wb") as sink:
        table = pq.read_table(root / "rows.parquet")
        with pa.ipc.new_file(sink, table.schema) as stream:
            stream.write_table(table)
    (root / "rows.parquet").unlink()
    assert read(root).instances[0].image.read() == PNG


def test_the_mapping_file_may_be_the_root_and_name_the_data(write: Write, tmp_path: Path) -> None:
    root = write([ROW], dataset="below")
    (root / "below").mkdir()
    (root / "rows.parquet").rename(root / "below" / "rows.parquet")
    for place in (root / "mapping.yaml", root):
        assert len(read(place).instances) == 1


@pytest.mark.parametrize(
    ("box_format", "numbers"), [("xyxy", [6, 12, 36, 24]), ("xywh", [6, 12, 30, 12]), ("cxcywh", [21, 18, 30, 12])]
)
@pytest.mark.parametrize("box_units", ["pixels", "normalized", "thousandths"])
def test_formats_and_units_of_boxes(write: Write, box_format: str, numbers: list[float], box_units: str) -> None:
    scale = {"pixels": (1, 1), "normalized": (1 / 60, 1 / 48), "thousandths": (1000 / 60, 1000 / 48)}[box_units]
    box = [one * scale[at % 2] for at, one in enumerate(numbers)]
    (instance,) = read(write([{**ROW, "box": box}], box_format=box_format, box_units=box_units)).instances
    (found,) = instance.boxes
    assert (found.x1, found.y1, found.x2, found.y2) == pytest.approx((6, 12, 36, 24))


@pytest.mark.parametrize(
    ("text", "box", "expected"),
    [
        ("a", [1, 2, 3, 4], [[(1, 2, 3, 4)]]),
        ("a", [[1, 2, 3, 4], [5, 6, 7, 8]], [[(1, 2, 3, 4), (5, 6, 7, 8)]]),
        ("a", {"box": [1, 2, 3, 4]}, [[(1, 2, 3, 4)]]),
        (["a", "b"], [1, 2, 3, 4], [[(1, 2, 3, 4)], [(1, 2, 3, 4)]]),
        (["a", "b"], [[1, 2, 3, 4], [5, 6, 7, 8]], [[(1, 2, 3, 4)], [(5, 6, 7, 8)]]),
        (["a", "b"], [[[1, 2, 3, 4]], [[5, 6, 7, 8], [1, 2, 3, 4]]], [[(1, 2, 3, 4)], [(5, 6, 7, 8), (1, 2, 3, 4)]]),
        (["a", "b"], [{"box": [1, 2, 3, 4]}, {"box": [5, 6, 7, 8]}], [[(1, 2, 3, 4)], [(5, 6, 7, 8)]]),
    ],
)
def test_one_box_or_several_for_one_sentence_or_several(write: Write, text: Any, box: Any, expected: Any) -> None:
    found = read(write([{"image": PNG, "text": text, "box": box}])).instances
    assert [[(one.x1, one.y1, one.x2, one.y2) for one in each.boxes] for each in found] == expected
    assert [each.sentence for each in found] == list(text)


def test_a_missing_box_among_those_of_several_sentences(write: Write) -> None:
    schema = pa.schema(
        {"image": pa.binary(), "text": pa.list_(pa.string()), "box": pa.list_(pa.list_(pa.float64(), 4))}
    )
    dataset = read(write([{"image": PNG, "text": ["a", "b"], "box": [None, [1, 2, 3, 4]]}], schema))
    assert [one.sentence for one in dataset.instances] == ["b"]
    assert [entry.reason for entry in dataset.skipped] == ["sentence_without_annotation"]


def test_columns_in_structs_and_labels(write: Write) -> None:
    row = {"image": PNG, "text": "x", "objects": {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["Cat", None]}}
    mapping = {"boxes": "objects.bbox", "labels": "objects.category"}
    (instance,) = read(write([row], **mapping)).instances
    assert instance.boxes == (Box("cat", 1, 2, 3, 4), Box("", 5, 6, 7, 8))
    row["objects"] = [{"bbox": [1, 2, 3, 4], "category": "Dog"}]
    (instance,) = read(write([row], **mapping)).instances
    assert instance.boxes == (Box("dog", 1, 2, 3, 4),)


def test_class_labels_have_the_names_that_datasets_keeps(write: Write, tmp_path: Path) -> None:
    root = write([ROW], labels="objects.kind", boxes="objects.bbox")
    labels = datasets.ClassLabel(names=["Left lung", "Right lung"])
    table = saved(
        [{"image": PNG, "text": "x", "objects": [{"bbox": [1, 2, 3, 4], "kind": 1}]}],
        image=datasets.Value("binary"),
        text=datasets.Value("string"),
        objects=[{"bbox": [datasets.Value("float32")], "kind": labels}],
    )
    table.save_to_disk(tmp_path / "set")
    (instance,) = read(tmp_path / "set", mapping=root / "mapping.yaml").instances
    assert [one.name for one in instance.boxes] == ["right lung"]


def test_labels_that_do_not_fit_the_boxes_name_none(write: Write) -> None:
    dataset = read(write([{**ROW, "box": [[1, 2, 3, 4]], "label": ["a", "b"]}], labels="label"))
    assert [box.name for box in dataset.instances[0].boxes] == [""]
    assert [entry.reason for entry in dataset.skipped] == ["category_missing"]


def test_ids_are_made_where_none_are_given(write: Write) -> None:
    dataset = read(write([ROW, {**ROW, "text": "Again."}, {**ROW, "image": tree.picture(1)}]))
    first, again, other = dataset.instances
    assert first.image is again.image  # equal bytes are one image
    assert first.image_id != other.image_id
    assert [one.id for one in dataset.instances] == [
        f"{first.image_id}_0", f"{first.image_id}_1", f"{other.image_id}_0"
    ]  # fmt: skip
    assert list(dataset.regions) == [first.image_id, other.image_id]


def test_one_id_for_several_sentences_is_numbered(write: Write) -> None:
    dataset = read(write([{**ROW, "text": ["a", "b"], "key": 7}], id="key"))
    assert [one.id for one in dataset.instances] == ["7_0", "7_1"]


def test_images_by_path(write: Write, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "00b.png"):
        (tmp_path / name).write_bytes(PNG)
    root = write([{**ROW, "image": name} for name in ("a.png", "a.jpg", "00b.png")])
    assert [one.id for one in read(root).instances] == ["a.png_0", "a.jpg_0", "00b_0"]
    (tmp_path / "images").mkdir()
    assert [entry.reason for entry in read(root).skipped] == ["image_missing"] * 3
    assert len(read(root, images=tmp_path).instances) == 3
    with pytest.raises(WronglungError, match="nowhere: is not a folder"):
        read(root, images=tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd", "a\0b", "link.png"])
def test_a_path_leads_nowhere_outside(write: Write, tmp_path: Path, path: str) -> None:
    outside = tmp_path.parent / "x.png"
    outside.write_bytes(PNG)
    root = write([{**ROW, "image": path}])
    (root / "link.png").symlink_to(outside)
    assert [entry.reason for entry in read(root).skipped] == ["path_outside_root"]


def test_an_image_id_of_two_images_is_an_error(write: Write) -> None:
    for other in (tree.picture(1), tree.picture(1, (30, 30))):
        root = write([{**ROW, "key": "k"}, {**ROW, "key": "k", "image": other}], image_id="key")
        with pytest.raises(WronglungError, match="image_id: 'k' is that of two different images"):
            read(root)


def test_an_id_of_two_sentences_is_an_error(write: Write) -> None:
    root = write([{**ROW, "key": "k"}, {**ROW, "key": "k", "text": "Other."}], id="key")
    with pytest.raises(WronglungError, match="id: 'k' is that of two different sentences"):
        read(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "image: is missing"),
        ({"box_format": None}, "box_format: is missing"),
        ({"box_units": None}, "box_units: is missing"),
        ({"box_format": "yolo"}, "box_format: Input should be 'xyxy', 'xywh' or 'cxcywh'"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"width": "w"}, "width and height go together"),
        ({"width": "w", "height": "h", "box_units": "normalized"}, "width and height are for boxes in pixels"),
        ({"image": "img"}, "image: there is no column 'img'; columns are image, text, box"),
        ({"sentence": "txt"}, "sentence: there is no column 'txt'"),
        ({"boxes": "box.xyxy"}, r"boxes: there is no column 'box\.xyxy'"),
        ({"boxes": "text"}, "boxes: column 'text' holds string"),
        ({"sentence": "box"}, "sentence: column 'box' holds list"),
        ({"image": "box"}, "image: column 'box' holds list"),
        ({"id": "box"}, "id: column 'box' holds list"),
        ({"findings": "text"}, "findings: column 'text' holds string"),
    ],
)
def test_a_mapping_that_does_not_fit_is_one_error_with_file_and_key(write: Write, changes: Any, message: str) -> None:
    root = write([ROW], **changes)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert str(caught.value).startswith(f"{root / 'mapping.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a", "7", "", "{", "!!python/object/apply:os.system [exit]", "image: [" * 5000])
def test_a_mapping_that_is_none(write: Write, text: str) -> None:
    root = write([ROW])
    (root / "mapping.yaml").write_text(text)
    with pytest.raises(WronglungError, match=r"mapping\.yaml: "):
        read(root)


def test_missing_files(tmp_path: Path, write: Write) -> None:
    with pytest.raises(WronglungError, match=r"mapping\.yaml: does not exist; a YAML file that names the columns"):
        read(tmp_path)
    root = write([ROW])
    (root / "rows.parquet").unlink()
    with pytest.raises(WronglungError, match="no data found; looked for a folder written by save_to_disk"):
        read(root)
    with pytest.raises(WronglungError, match="dataset: missing; a mapping file given as the data root must name it"):
        read(root / "mapping.yaml")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"ARROW1", b"text", b"\xff\xff\xff\xff\x10\0\0\0"])
def test_damaged_tables(write: Write, name: str, data: bytes) -> None:
    root = write([ROW])
    (root / "rows.parquet").unlink()
    (root / name).write_bytes(data)
    with pytest.raises(WronglungError, match="cannot be read"):
        read(root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("state.json", "{", "not valid JSON"),
        ("state.json", "[]", "must hold one object"),
        ("state.json", "{}", "_data_files: must name"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "is no plain name"),
        ("state.json", '{"_data_files": [{"filename": "x.arrow"}], "_indices_data_files": [{}]}', "old version"),
        ("dataset_dict.json", '{"splits": 7}', "splits: must be a list of names"),
        ("dataset_dict.json", '{"splits": [".."]}', "is no plain name"),
    ],
)
def test_damaged_saved_folders(write: Write, name: str, text: str, message: str) -> None:
    root = write([ROW])
    (root / name).write_text(text)
    with pytest.raises(WronglungError, match=message):
        read(root)


class FakeBuilder:
    """What ``datasets`` gives for a dataset whose files are unpickled."""


@pytest.fixture
def on_the_hub(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mapping file that names a dataset on the Hub; the working directory is empty."""
    write([ROW], dataset="owner/name")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "mapping.yaml"


def test_a_name_on_the_hub(on_the_hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from datasets.packaged_modules.parquet.parquet import Parquet

    features = {"image": datasets.Image(), "text": datasets.Value("string"), "box": [datasets.Value("float32")]}
    saved([{**ROW, "image": {"bytes": PNG, "path": None}}], **features).save_to_disk(tmp_path / "cached")
    loaded = datasets.DatasetDict({"train": datasets.load_from_disk(str(tmp_path / "cached"))})
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name, **_: Parquet.__new__(Parquet))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **_: loaded)
    (instance,) = read(on_the_hub).instances
    assert (instance.split, instance.image.read()) == ("train", PNG)


def test_the_hub_may_be_out_of_reach(on_the_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **_: Any) -> None:
        raise ConnectionError(f"Couldn't reach\n{name}")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(WronglungError, match="owner/name could not be loaded from the Hub .*it needs a network"):
        read(on_the_hub)


def test_other_builders_are_refused(on_the_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name, **_: FakeBuilder())
    with pytest.raises(WronglungError, match="is read by test_dataset_huggingface, not by one of arrow, csv"):
        read(on_the_hub)


@pytest.mark.parametrize("name", ["nowhere", "pandas", "http://a/b", "a/b/c"])
def test_what_is_no_folder_and_no_name_on_the_hub(write: Write, name: str) -> None:
    root = write([ROW], dataset=name)
    with pytest.raises(WronglungError, match="is neither a folder beside this file nor a name on the Hub"):
        read(root / "mapping.yaml")


@pytest.mark.parametrize("name", ["../data", "/tmp", "linked"])
def test_a_mapping_names_no_folder_outside_of_its_own(write: Write, name: str) -> None:
    root = write([ROW], dataset=name)
    (root / "linked").symlink_to("/")
    with pytest.raises(
        WronglungError, match="dataset: .* leads out of the mapping's folder; give the folder of the data"
    ):
        read(root / "mapping.yaml")


@pytest.fixture(scope="module")
def phantom() -> Dataset:
    """Generated films of six patients in all splits."""
    return load_dataset("phantom", patients=6, split="all")


def test_written_and_read_it_is_the_same(phantom: Dataset, tmp_path: Path) -> None:
    folder = write_huggingface(phantom, tmp_path / "set")
    again = read(folder)
    assert (again.name, again.fingerprint) == ("phantom", phantom.fingerprint)
    assert dict(again.regions) == dict(phantom.regions)
    assert not again.skipped
    for one, other in zip(phantom.instances, again.instances, strict=True):
        assert replace(other, image=one.image) == one
        assert np.array_equal(np.asarray(one.image.load()), np.asarray(other.image.load()))
    assert sorted(path.name for path in folder.iterdir()) == [
        "data-00000-of-00001.arrow", "dataset_info.json", "mapping.yaml", "state.json"
    ]  # fmt: skip
    assert read(folder, split="test").instances == tuple(one for one in again.instances if one.split == "test")


def test_datasets_itself_reads_it(phantom: Dataset, tmp_path: Path) -> None:
    table = datasets.load_from_disk(str(write_huggingface(phantom, tmp_path / "set")))
    first = phantom.instances[0]
    assert table[0]["image"].size == (first.image.width, first.image.height)
    assert (table[0]["id"][0], table[0]["sentence"][0]) == (first.id, first.sentence)


def test_masks_order_files_and_parents_are_kept(tmp_path: Path) -> None:
    jpeg = tmp_path / "a.jpg"
    jpeg.write_bytes(tree.picture(3, suffix="jpeg"))
    Image.new("L", (60, 48)).save(tmp_path / "b.tif")
    a, b = (ImageRef(name, tmp_path / f"{name}.{suffix}", 60, 48) for name, suffix in (("a", "jpg"), ("b", "tif")))
    mask = from_pixels(np.tri(48, 60, dtype=np.bool_))
    boxes = (Box("", 0.0, 0.0, 48.0, 48.0, mask=mask), LEFT)
    instances = (
        Instance("1", a, "x ", boxes, parent_regions=("left lung",)),
        Instance("2", b, "y\n", boxes[1:], (Finding("mass", "no", ""),), "s", "p", "dev"),
        Instance("3", a, "z", boxes[:1]),
    )
    dataset = Dataset("order", instances, (), {"a": (), "b": boxes})
    again = read(write_huggingface(dataset, tmp_path / "set"))
    assert again.fingerprint == dataset.fingerprint
    assert [one.id for one in again.instances] == ["1", "2", "3"]
    assert again.regions == dataset.regions
    assert again.instances[0].image.read() == jpeg.read_bytes()
    assert again.instances[0].image is again.instances[2].image
    assert again.instances[1].image.read().startswith(b"\x89PNG")


def test_it_is_written_whole_or_not_at_all(phantom: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    lost = replace(phantom.instances[-1], image=ImageRef("lost", tmp_path / "lost.png", 64, 64))
    with pytest.raises(WronglungError, match="image lost: "):
        write_huggingface(replace(phantom, instances=(*phantom.instances, lost)), folder)
    assert list(folder.iterdir()) == []
    odd = replace(phantom.instances[0], sentence="half \ud800")
    with pytest.raises(WronglungError, match="cannot be written"):
        write_huggingface(replace(phantom, instances=(odd,)), folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(WronglungError, match="has no instance to write"):
        write_huggingface(replace(phantom, instances=()), folder)
    (folder / "mine").touch()
    with pytest.raises(WronglungError, match="is not empty"):
        write_huggingface(phantom, folder)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_wrong_size_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    instance = Instance("1", ImageRef("a", tmp_path / "a.png", 61, 48), "x", (LEFT,))
    with pytest.raises(WronglungError, match="image a: .* as announced"):
        write_huggingface(Dataset("odd", (instance,)), tmp_path / "set")


numbers = st.one_of(st.none(), st.floats(allow_nan=True, width=32), st.floats(-10, 70, width=32))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(numbers, max_size=5), max_size=3),
    st.sampled_from(["xyxy", "xywh", "cxcywh"]),
    st.sampled_from(["pixels", "normalized", "thousandths"]),
)
def test_whatever_the_boxes_the_valid_ones_are_inside(boxes: Any, box_format: str, box_units: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        schema = pa.schema({"image": pa.binary(), "text": pa.string(), "box": pa.list_(pa.list_(pa.float32()))})
        table = pa.Table.from_pylist([{"image": PNG, "text": "x", "box": boxes}], schema=schema)
        pq.write_table(table, Path(folder, "rows.parquet"))
        mapping = {**MAPPING, "box_format": box_format, "box_units": box_units}
        Path(folder, "mapping.yaml").write_text(yaml.safe_dump(mapping))
        dataset = read(Path(folder))
    kept = [box for one in dataset.instances for box in one.boxes]
    assert all(0 <= box.x1 < box.x2 <= 60 and 0 <= box.y1 < box.y2 <= 48 for box in kept)
    assert len(kept) + len(
        [one for one in dataset.skipped if one.reason.startswith("box_") and not one.repaired]
    ) <= len(boxes)


def test_random_damage_is_an_error_and_no_crash(tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = pa.Table.from_pylist([ROW] * 5)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    whole = sink.getvalue()
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(MAPPING))
    random = np.random.default_rng(0)
    for at in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        folder = tmp_path / str(at)  # a new file each time: those that were read stay mapped
        folder.mkdir()
        (folder / "rows.arrow").write_bytes(data)
        try:
            for one in read(folder, mapping=tmp_path / "mapping.yaml").instances:
                one.image.read()
        except (WronglungError, OSError):
            pass
