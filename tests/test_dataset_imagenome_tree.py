"""Datasets written as Chest ImaGenome and MIMIC-CXR trees read back as they were."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.imagenome import read_gold, read_silver
from wronglung.benchmark.datasets.imagenome_labels import category
from wronglung.benchmark.datasets.imagenome_tree import write_tree
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate, load_model
from wronglung.benchmark.instances import Box, Dataset, Finding, ImageRef, Instance
from wronglung.tasks.schema import load_suite

REGIONS = ("right lung", "right lower lung zone", "left lung", "cardiac silhouette")


def film(folder: Path, number: int, size: tuple[int, int] = (60, 48)) -> ImageRef:
    image_id = f"0a1b2c3d-11223344-55667788-99aabbcc-{number:08x}"
    path = folder / f"{image_id}.png"
    noise = np.random.default_rng(number).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return ImageRef(image_id, path, *size)


def boxes(number: int) -> dict[str, Box]:
    return {name: Box(name, 1.0 + number % 5, 2.5 + at, 20.25 + at, 40.0) for at, name in enumerate(REGIONS)}


def instance(
    image: ImageRef, number: int, sentence_number: str, text: str, findings: list[Finding], split: str
) -> Instance:
    study = str(50000000 + number)
    named = boxes(number)
    return Instance(
        f"dicom_{image.id}_sent_{study}|{sentence_number}",
        image,
        text,
        tuple(named[region] for region in dict.fromkeys(one.region for one in findings) if region in named),
        tuple(findings),
        study,
        str(10000000 + number // 2),
        split,
    )


SAID = {
    "2": ("Right basal opacity, no effusion.", [
        Finding("lung opacity", "yes", "right lung"), Finding("abnormal", "yes", "right lung"),
        Finding("pleural effusion", "no", "right lung"), Finding("lung opacity", "yes", "right lower lung zone"),
    ]),
    "0.5": ('IMPRESSION:  "Clear"\tleft\n lung .', [Finding("normal", "yes", "left lung")]),
    "10": ("Heart – größer; neck.", [
        Finding("enlarged cardiac silhouette", "yes", "cardiac silhouette"), Finding("abnormal", "yes", "neck"),
    ]),
}  # fmt: skip
IN_ORDER = ("0.5", "2", "10")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Eight films of four patients, in all splits."""
    source = tmp_path / "source"
    source.mkdir()
    images = [film(source, number, (60 + number, 48)) for number in range(8)]
    splits = ("train", "test", "valid", "test")
    found = [
        instance(image, number, one, *SAID[one], splits[number // 2])
        for number, image in enumerate(images)
        for one in IN_ORDER
    ]
    regions = {image.id: tuple(boxes(number).values()) for number, image in enumerate(images)}
    return Dataset("made", tuple(found), regions=regions)


def only(dataset: Dataset, *splits: str) -> list[Instance]:
    return [one for one in dataset.instances if one.split in splits]


def essence(instances: Any) -> list[Any]:
    """Instances without the place of their image."""
    return [replace(one, image=replace(one.image, path=Path())) for one in instances]


def test_the_test_split_comes_back_as_gold(dataset: Dataset, tmp_path: Path) -> None:
    gold = read_gold(write_tree(dataset, tmp_path / "tree", image_format="png"))
    expected = only(dataset, "test")
    assert essence(gold.instances) == essence(expected)
    assert gold.fingerprint == Dataset("made", tuple(expected)).fingerprint
    assert gold.regions == {image_id: dataset.regions[image_id] for image_id in gold.regions}
    # The neck has no box, in neither.
    assert [(entry.reason, entry.detail) for entry in gold.skipped] == [("box_missing", "neck: null")] * 4


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_other_splits_come_back_as_silver(dataset: Dataset, tmp_path: Path, split: Any) -> None:
    silver = read_silver(write_tree(dataset, tmp_path / "tree", image_format="png"), split=split)
    expected = only(dataset, split)
    assert essence(silver.instances) == essence(expected)
    assert silver.fingerprint == Dataset("made", tuple(expected)).fingerprint
    assert silver.regions == {image_id: dataset.regions[image_id] for image_id in silver.regions}
    assert {entry.reason for entry in silver.skipped} == {"region_without_box"}


def test_the_test_split_is_out_of_the_silver_set(dataset: Dataset, tmp_path: Path) -> None:
    silver = read_silver(write_tree(dataset, tmp_path / "tree"), split="test")
    assert not silver.instances
    assert [entry.reason for entry in silver.skipped] == ["image_in_gold_set"] * 4


def test_pixels_survive_as_png_and_nearly_as_jpeg(dataset: Dataset, tmp_path: Path) -> None:
    originals = {one.image_id: np.asarray(one.image.load()) for one in dataset.instances}
    lossless = read_gold(write_tree(dataset, tmp_path / "png", image_format="png"))
    lossy = read_gold(write_tree(dataset, tmp_path / "jpg", quality=95))
    for one, other in zip(lossless.instances, lossy.instances, strict=True):
        assert one.image.path.suffix == ".png"
        assert other.image.path.suffix == ".jpg"
        assert np.array_equal(np.asarray(one.image.load()), originals[one.image_id])
        error = np.asarray(other.image.load()).astype(float) - originals[one.image_id]
        assert 0 < np.abs(error).mean() < 5


def test_the_same_dataset_gives_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    one, other = (write_tree(dataset, tmp_path / name) for name in ("one", "other"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def table(file: Path, delimiter: str = ",") -> list[dict[str, str]]:
    data = file.read_bytes()
    text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    return list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter))


def test_the_published_layout(dataset: Dataset, tmp_path: Path) -> None:
    root = write_tree(dataset, tmp_path / "tree")
    first = only(dataset, "test")[0]
    gold = root / "chest-imagenome/1.0.0/gold_dataset"
    rows = table(gold / "gold_object_attribute_with_coordinates.txt", "\t")
    assert rows[1] == {
        "patient_id": "10000001", "study_id": "50000002", "image_id": f"{first.image_id}.dcm", "row_id": "50000002|2",
        "section": "finalreport", "sentence": "Right basal opacity, no effusion.", "bbox": "right lung",
        "relation": "1", "label_name": "lung opacity", "context": "yes", "categoryID": "anatomicalfinding",
        "attribute": "anatomicalfinding|yes|lung opacity", "coord224": "[11, 34, 73, 170]",
        "coord_original": "[3, 2.5, 20.25, 40]",
    }  # fmt: skip
    (scaling,) = [
        one
        for one in table(gold / "gold_bbox_scaling_factors_original_to_224x224.csv")
        if one["image_id"] == f"{first.image_id}.dcm"
    ]
    assert float(scaling["ratio"]) == 224 / 62
    # x224 = x_original * ratio + left, to half a pixel of rounding.
    assert abs(float(scaling["left"]) + 3 * 224 / 62 - 11) <= 0.5
    assert abs(float(scaling["top"]) + 2.5 * 224 / 62 - 34) <= 0.5
    header = (gold / "gold_bbox_coordinate_annotations_1000images.csv").read_text().splitlines()[0]
    assert header == (
        "image_id,x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2,"
        "original_width,original_height,annotator,coord224,coord_original"
    )
    splits = root / "chest-imagenome/1.0.0/silver_dataset/splits"
    assert (splits / "train.csv").read_text().startswith(",subject_id,study_id,dicom_id,path,ViewPosition\n0,10000000,")
    assert (splits / "images_to_avoid.csv").read_text().startswith("subject_id,study_id,dicom_id,path,ViewPosition\n")
    graph = json.loads((splits.parent / f"scene_graph/{first.image_id}_SceneGraph.json").read_text())
    assert (graph["image_id"], graph["patient_id"], graph["study_id"]) == (first.image_id, 10000001, 50000002)
    right = next(one for one in graph["attributes"] if one["bbox_name"] == "right lung")
    assert right["right lung"] is True
    assert right["attributes"] == [
        ["anatomicalfinding|yes|lung opacity", "nlp|yes|abnormal", "anatomicalfinding|no|pleural effusion"]
    ]
    assert right["phrase_IDs"] == ["50000002|2"]
    mimic = root / "mimic-cxr-jpg/2.1.0"
    metadata = {one["dicom_id"]: one for one in table(mimic / "mimic-cxr-2.0.0-metadata.csv.gz")}
    assert (metadata[first.image_id]["Rows"], metadata[first.image_id]["Columns"]) == ("48", "62")
    official = {one["dicom_id"]: one["split"] for one in table(mimic / "mimic-cxr-2.0.0-split.csv.gz")}
    assert sorted(official.values()) == ["test"] * 4 + ["train"] * 2 + ["validate"] * 2
    assert (mimic / f"files/p10/p10000001/s50000002/{first.image_id}.jpg").is_file()
    report = (root / "mimic-cxr/2.0.0/files/p10/p10000001/s50000002.txt").read_text()
    assert all(line.startswith(" ") and len(line) < 80 for line in report.splitlines())
    assert "Right basal opacity, no effusion." in " ".join(report.split())


def test_categories_of_labels() -> None:
    assert [category(one) for one in ("abnormal", "pneumonia", "picc", "pneumothorax", "unheard of")] == [
        "nlp",
        "disease",
        "tubesandlines",
        "anatomicalfinding",
        "anatomicalfinding",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, id="s1"), "is not named dicom_"),
        (lambda one: replace(one, image=replace(one.image, id="../x"), id="dicom_../x_sent_1"), "is no plain name"),
        (lambda one: replace(one, patient_id=None), "patient None is not a number"),
        (lambda one: replace(one, study_id="s5"), "study 's5' is not a number"),
        (lambda one: replace(one, split="dev"), "split 'dev' is not train, valid or test"),
        (lambda one: replace(one, findings=()), "a box has no finding at its region"),
        (lambda one: replace(one, sentence="half \ud800"), "half a character"),
        (lambda one: replace(one, sentence="NUL \0"), "NUL byte"),
        (lambda one: replace(one, parent_regions=("left lung",)), "parent regions"),
        (lambda one: replace(one, patient_id="10000099"), "is not that of others on its image"),
        (lambda one: replace(one, boxes=(replace(one.boxes[0], x1=0.0), *one.boxes[1:])), "is not that of"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_writing(
    dataset: Dataset, tmp_path: Path, change: Callable[[Instance], Instance], message: str
) -> None:
    first, second, *rest = dataset.instances
    with pytest.raises(WronglungError, match=message):
        write_tree(replace(dataset, instances=(first, change(second), *rest)), tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_folder_with_files_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="is not empty; give a new folder"):
        write_tree(dataset, tmp_path)
    with pytest.raises(WronglungError, match="cannot be written"):
        write_tree(dataset, dataset.instances[0].image.path / "tree")
    with pytest.raises(WronglungError, match="jpg or png"):
        write_tree(dataset, tmp_path / "tree", image_format="gif")  # type: ignore[arg-type]


def test_a_film_that_jpeg_cannot_hold_is_named(dataset: Dataset, tmp_path: Path) -> None:
    image = dataset.instances[0].image
    Image.new("RGBA", (image.width, image.height)).save(image.path)
    with pytest.raises(WronglungError, match=f"image {image.id}: mode RGBA is not for JPEG; write png"):
        write_tree(dataset, tmp_path / "tree")
    image.path.write_bytes(b"")
    with pytest.raises(WronglungError, match="cannot be decoded"):
        write_tree(dataset, tmp_path / "other")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LABELS = st.sampled_from(["lung opacity", "normal", "abnormal", "pneumothorax", "goiter", "a label | with a bar"])
FINDINGS = st.lists(
    st.builds(Finding, LABELS, st.sampled_from(["yes", "no"]), st.sampled_from(REGIONS)),
    min_size=1,
    max_size=6,
    unique=True,
)
NUMBERS = st.lists(st.integers(0, 300).map(lambda one: f"{one / 10:g}"), min_size=1, max_size=4, unique=True)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_texts_and_findings_survive(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("any")
    instances = []
    for number, split in enumerate(("train", "test")):
        image = film(folder, number, (12, 9))
        image = replace(image, width=12, height=9)
        for one in sorted(data.draw(NUMBERS), key=float):
            findings = sorted(data.draw(FINDINGS), key=lambda finding: REGIONS.index(finding.region))
            made = instance(image, number, one, data.draw(TEXT), findings, split)
            small = [replace(box, x1=0.0, x2=box.x2 / 3, y1=box.y1 / 10, y2=8.5) for box in made.boxes]
            instances.append(replace(made, boxes=tuple(small), patient_id=str(10000000 + number)))
    root = write_tree(Dataset("made", tuple(instances)), folder / "tree", image_format="png")
    assert essence(read_gold(root).instances) == essence(one for one in instances if one.split == "test")
    assert essence(read_silver(root, split="train").instances) == essence(
        one for one in instances if one.split == "train"
    )


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """Generated films of 30 patients in all splits, and the tree written from them."""
    generated = load_dataset("phantom", patients=30, split="all")
    return generated, write_tree(generated, tmp_path_factory.mktemp("phantom") / "tree", image_format="png")


@pytest.mark.parametrize(("name", "split"), [("gold", "test"), ("silver", "train"), ("silver", "valid")])
def test_phantom_comes_back_with_its_fingerprint(phantom: tuple[Dataset, Path], name: str, split: str) -> None:
    again = load_dataset(f"imagenome-{name}", phantom[1], split=split)
    own = load_dataset("phantom", patients=30, split=split)
    assert again.fingerprint == own.fingerprint
    assert dict(again.regions) == dict(own.regions)
    assert not again.skipped


def test_phantom_scores_the_same_from_its_tree(phantom: tuple[Dataset, Path]) -> None:
    suite = load_suite("wrong-lung")
    own, again = load_dataset("phantom", patients=30, split="test"), load_dataset("imagenome-gold", phantom[1])
    for one, other in zip(own.instances, again.instances, strict=True):
        assert np.array_equal(np.asarray(one.image.load()), np.asarray(other.image.load()))
    runs = [evaluate(load_model("oracle"), dataset, suite, limit=12).run for dataset in (own, again)]
    assert runs[0].scores == runs[1].scores
