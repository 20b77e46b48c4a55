"""The Chest ImaGenome readers, on small trees in the published format, with the quirks that occur or may occur."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trees.dicom import save_dicom

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.coordinates import parse_coordinates
from wronglung.benchmark.datasets.imagenome import read_gold, read_silver
from wronglung.benchmark.datasets.imagenome_silver import SilverSplit
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.inspection import summarise
from wronglung.benchmark.instances import Box, Dataset, Finding
from wronglung.tasks.pool import Pool
from wronglung.tasks.subsets import abnormal, one_lung

A = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff00"
B = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff01"
C = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff02"
D = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff03"
STUDY = {
    A: ("10000001", "50000001"),
    B: ("10000001", "50000001"),
    C: ("11000002", "50000002"),
    D: ("12000003", "50000003"),
}
GOLD_COLUMNS = [
    "patient_id", "study_id", "image_id", "row_id", "sentence", "bbox", "relation", "label_name", "context", "categoryID",
    "section", "attribute", "coord224", "coord_original",
]  # fmt: skip
RIGHT, LEFT = [10, 12, 40, 60], [55, 10, 90, 62]


def row(
    image: str, number: str, sentence: str, region: str, label: str, context: str, box: Any, **more: Any
) -> dict[str, Any]:
    """One row of the gold table."""
    patient, study = STUDY.get(image, ("10000009", "50000009"))
    return {
        "patient_id": patient, "study_id": study, "image_id": f"{image}.dcm", "row_id": f"{study}|{number}",
        "sentence": sentence, "bbox": region, "relation": int(context == "yes"), "label_name": label,
        "context": context, "categoryID": "anatomicalfinding", "section": "finalreport",
        "attribute": f"anatomicalfinding|{context}|{label}", "coord224": "[1, 2, 3, 4]",
        "coord_original": box if isinstance(box, str) else str(box),
    } | more  # fmt: skip


def write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    minimal = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (columns, *rows):
        (quoted if any("\r" in str(cell) for cell in row) else minimal).writerow(row)
    content = text.getvalue().encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


class Tree:
    """Writes both trees into a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.imagenome = folder / "chest-imagenome/1.0.0"
        self.mimic = folder / "mimic-cxr-jpg/2.1.0"

    def film(self, image: str, size: tuple[int, int] = (100, 80), suffix: str = ".jpg") -> Path:
        patient, study = STUDY[image]
        file = self.mimic / f"files/p{patient[:2]}/p{patient}/s{study}/{image}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 90).save(file)
        return file

    def metadata(self, sizes: dict[str, tuple[Any, Any]] | None = None, suffix: str = ".csv.gz") -> None:
        sizes = dict.fromkeys(STUDY, (100, 80)) if sizes is None else sizes
        # The height comes first.
        rows = [(image, *STUDY[image], "PA", height, width) for image, (width, height) in sizes.items()]
        columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns")
        write_table(self.mimic / f"mimic-cxr-2.0.0-metadata{suffix}", columns, rows)

    def gold(self, rows: list[dict[str, Any]], columns: Sequence[str] = GOLD_COLUMNS) -> Path:
        file = self.imagenome / "gold_dataset/gold_object_attribute_with_coordinates.txt"
        write_table(file, columns, [[one[column] for column in columns] for one in rows], "\t")
        return self.root

    def graph(
        self, image: str, objects: dict[str, Any], phrases: Iterable[tuple[str, str, str, list[str]]], **more: Any
    ) -> None:
        """``phrases``: (number, text, region, labels)."""
        phrases = list(phrases)
        study = STUDY[image][1]
        attributes = []
        for region in dict.fromkeys(one[2] for one in phrases):
            own = [one for one in phrases if one[2] == region]
            attributes.append(
                {
                    region: True, "bbox_name": region, "synsets": [], "name": region.capitalize(),
                    "attributes": [one[3] for one in own], "phrases": [one[1] for one in own],
                    "phrase_IDs": [f"{study}|{one[0]}" for one in own], "object_id": f"{image}_{region}",
                }
            )  # fmt: skip
        listed = [
            {
                "object_id": f"{image}_{region}", "bbox_name": region, "x1": 1, "y1": 1, "x2": 2, "y2": 2,
                **{f"original_{key}": value for key, value in zip(("x1", "y1", "x2", "y2"), box, strict=True)},
            }
            for region, boxes in objects.items()
            for box in (boxes if boxes and isinstance(boxes[0], list) else [boxes])
        ]  # fmt: skip
        document = {
            "image_id": image, "viewpoint": "AP", "patient_id": int(STUDY[image][0]), "study_id": int(study),
            "objects": listed, "attributes": attributes, "relationships": [], **more,
        }  # fmt: skip
        file = self.imagenome / f"silver_dataset/scene_graph/{image}_SceneGraph.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))

    def splits(self, avoid: Sequence[str] = (), views: dict[str, str] | None = None, **splits: Sequence[str]) -> Path:
        columns = ("subject_id", "study_id", "dicom_id", "path", "ViewPosition")

        def listed(image: str) -> tuple[str, ...]:
            return (*STUDY.get(image, ("10000009", "50000009")), image, "files/x.dcm", (views or {}).get(image, "PA"))

        folder = self.imagenome / "silver_dataset/splits"
        for name in ("train", "valid", "test"):
            rows = [(at, *listed(image)) for at, image in enumerate(splits.get(name, ()))]
            write_table(folder / f"{name}.csv", ("", *columns), rows)
        write_table(folder / "images_to_avoid.csv", columns, map(listed, avoid))
        (self.imagenome / "silver_dataset/scene_graph").mkdir(parents=True, exist_ok=True)
        return self.root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Films of A and C, and their metadata."""
    tree = Tree(tmp_path)
    tree.film(A)
    tree.film(C)
    tree.metadata()
    return tree


def ledger(dataset: Dataset) -> list[tuple[str, str]]:
    """Reason (with a star when repaired) and place of every entry."""
    return [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped]


def sent(image: str, number: str) -> str:
    return f"dicom_{image}_sent_{STUDY[image][1]}|{number}"


EFFUSION = "There is a moderate right pleural effusion, with no pneumothorax."


def test_gold_rows_become_one_instance_a_sentence(tree: Tree) -> None:
    angle = [20, 50, 35, 64]
    root = tree.gold(
        [
            row(A, "2", EFFUSION, "right lung", "pleural effusion", "yes", RIGHT),
            row(A, "2", EFFUSION, "right costophrenic angle", "pleural effusion", "yes", angle),
            row(A, "2", EFFUSION, "right lung", "pneumothorax", "no", RIGHT),
            row(A, "2", EFFUSION, "right lung", "abnormal", "yes", RIGHT, categoryID="nlp"),
            row(C, "0", "Clear.", "left lung", "normal", "yes", LEFT, categoryID="nlp"),
        ]
    )
    dataset = load_dataset("imagenome-gold", root)
    assert dataset.name == "imagenome-gold"
    assert not dataset.skipped
    first, second = dataset.instances
    assert first.id == f"dicom_{A}_sent_50000001|2"
    assert (first.image_id, first.patient_id, first.study_id, first.split) == (A, "10000001", "50000001", None)
    assert first.sentence == EFFUSION
    assert first.boxes == (Box("right lung", *map(float, RIGHT)), Box("right costophrenic angle", *map(float, angle)))
    assert first.findings == (
        Finding("pleural effusion", "yes", "right lung"),
        Finding("pleural effusion", "yes", "right costophrenic angle"),
        Finding("pneumothorax", "no", "right lung"),
        Finding("abnormal", "yes", "right lung"),
    )
    assert first.image.load().size == (100, 80) == (first.image.width, first.image.height)
    assert (second.image_id, second.patient_id) == (C, "11000002")
    assert dataset.regions == {A: first.boxes, C: second.boxes}


def test_sentences_are_ordered_by_their_number_and_films_by_the_file(tree: Tree) -> None:
    numbers = ["10", "9", "0.04", "x", "0", "0.01"]
    rows = [row(C, "1", "s", "left lung", "normal", "yes", LEFT)]
    rows += [row(A, number, f"s{number}", "left lung", "normal", "yes", LEFT) for number in numbers]
    rows.append(row(C, "0", "s", "left lung", "normal", "yes", LEFT))
    ids = [instance.id for instance in read_gold(tree.gold(rows)).instances]
    assert ids == [sent(C, "0"), sent(C, "1"), *(sent(A, one) for one in ("0", "0.01", "0.04", "9", "10", "x"))]


@pytest.mark.parametrize(
    "text",
    [
        " leading,  double and trailing blanks .  ",
        "IMPRESSION:  ___ year old",
        "tab\there",
        "No\n pneumothorax.",
        'a "quoted" word',
        '"',
        "Hämatothorax ≥ 5 cm – 胸水",
        "carriage\r\nreturn",
        "carriage\rreturn",
        "NA",
        "",
    ],
)
def test_sentences_stay_as_stored(tree: Tree, text: str) -> None:
    (instance,) = read_gold(tree.gold([row(A, "1", text, "left lung", "normal", "yes", LEFT)])).instances
    assert instance.sentence == text


def test_a_sentence_longer_than_the_usual_limit_of_a_cell(tree: Tree) -> None:
    text = "opacity " * 30_000
    before = csv.field_size_limit()
    (instance,) = read_gold(tree.gold([row(A, "1", text, "left lung", "normal", "yes", LEFT)])).instances
    assert instance.sentence == text
    assert csv.field_size_limit() == before


def test_columns_are_found_by_name(tree: Tree) -> None:
    columns = [*reversed(GOLD_COLUMNS), "surprise"]
    root = tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT, surprise="?")], columns)
    assert read_gold(root).instances[0].boxes == (Box("left lung", *map(float, LEFT)),)


def test_a_byte_order_mark_windows_line_ends_and_numbers_from_a_spreadsheet(tree: Tree) -> None:
    one = row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT, patient_id="10000001.0", study_id="50000001.0")
    root = tree.gold([one])
    file = tree.imagenome / "gold_dataset/gold_object_attribute_with_coordinates.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (instance,) = read_gold(root).instances
    assert (instance.patient_id, instance.study_id) == ("10000001", "50000001")


@pytest.mark.parametrize(
    "name", ["gold_object_attribute_with_coordinates.txt.gz", "gold_object_attribute_with_coordinates.txt"]
)
def test_a_gzipped_table_is_told_from_its_content(tree: Tree, name: str) -> None:
    root = tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)])
    file = tree.imagenome / "gold_dataset/gold_object_attribute_with_coordinates.txt"
    packed = gzip.compress(file.read_bytes())
    file.unlink()
    file.with_name(name).write_bytes(packed)
    assert len(read_gold(root).instances) == 1


@pytest.mark.parametrize(
    ("box", "kept", "reason"),
    [
        ("", None, "box_missing"),
        ("nan", None, "box_missing"),
        ("[nan, 1, 2, 3]", None, "box_missing"),
        ("[NaN, 1, 2, 3]", None, "box_missing"),
        ("[1, 2, 3]", None, "box_missing"),
        ("[1, 2, null, 4]", None, "box_missing"),
        ("__import__('os')", None, "box_missing"),
        ("[1, 2, 3", None, "box_missing"),
        ("[0, 0, 0, 0]", None, "box_degenerate"),
        ("[5, 5, 5, 9]", None, "box_degenerate"),
        ("[120, 5, 150, 9]", None, "box_outside_image"),
        ("[90, 62, 55, 10]", (55, 10, 90, 62), "box_flipped*"),
        ("[-5, 10, 90, 200]", (0, 10, 90, 80), "box_clipped*"),
        ("[55.5, 10, 90, 62.25]", (55.5, 10, 90, 62.25), None),
        ("(55, 10, 90, 62)", (55, 10, 90, 62), None),
    ],
)  # fmt: skip
def test_each_box_rule(tree: Tree, box: str, kept: tuple[float, ...] | None, reason: str | None) -> None:
    rows = [
        row(A, "1", "Both.", "left lung", "consolidation", "yes", box),
        row(A, "1", "Both.", "left lung", "abnormal", "yes", box),
        row(A, "1", "Both.", "right lung", "consolidation", "yes", RIGHT),
    ]
    dataset = read_gold(tree.gold(rows))
    (instance,) = dataset.instances
    right = Box("right lung", *map(float, RIGHT))
    assert instance.boxes == ((right,) if kept is None else (Box("left lung", *kept), right))
    # A box is reported once, however many labels it carries.
    assert ledger(dataset) == ([] if reason is None else [(reason, A)])
    # Labels outlive boxes: a sentence about both lungs does not become a one-lung sentence.
    assert Finding("consolidation", "yes", "left lung") in instance.findings
    assert one_lung(Pool(dataset.instances)) == frozenset()
    assert abnormal(Pool(dataset.instances), label="abnormal") == frozenset({instance.id})


def test_a_sentence_without_a_usable_box_is_left_out(tree: Tree) -> None:
    rows = [
        row(A, "1", "Bad.", "left lung", "normal", "yes", [0, 0, 0, 0]),
        row(A, "2", "Good.", "left lung", "normal", "yes", LEFT),
    ]
    dataset = read_gold(tree.gold(rows))
    assert [instance.id for instance in dataset.instances] == [sent(A, "2")]
    assert ledger(dataset) == [("box_degenerate", A), ("no_valid_box", sent(A, "1"))]


def test_equal_rows_count_once(tree: Tree) -> None:
    one = row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)
    dataset = read_gold(tree.gold([one, one, {**one, "categoryID": "nlp"}, one]))
    (instance,) = dataset.instances
    assert (len(instance.boxes), len(instance.findings)) == (1, 1)
    assert ledger(dataset) == [("duplicate_row*", sent(A, "1"))]
    assert dataset.skipped[0].detail.startswith("2 rows")


def test_two_films_of_a_study_share_sentence_ids_with_boxes_of_their_own(tree: Tree) -> None:
    tree.film(B)
    rows = [
        row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT),
        row(B, "1", "Clear.", "left lung", "normal", "yes", RIGHT),
    ]
    first, second = read_gold(tree.gold(rows)).instances
    assert (first.id, second.id) == (sent(A, "1"), sent(B, "1"))
    assert first.study_id == second.study_id
    assert first.boxes != second.boxes


def test_rows_without_a_region_and_texts_that_differ_are_reported(tree: Tree) -> None:
    rows = [
        row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT),
        row(A, "1", "Clear .", "right lung", "normal", "yes", RIGHT),
        row(A, "2", "Lines.", "", "picc", "yes", ""),
    ]
    dataset = read_gold(tree.gold(rows))
    assert [instance.sentence for instance in dataset.instances] == ["Clear."]
    table = "gold_object_attribute_with_coordinates.txt"
    assert ledger(dataset) == [
        ("duplicate_row*", f"{table}:3"),
        ("category_missing", f"{table}:4"),
        ("sentence_without_annotation", sent(A, "2")),
    ]


def test_context_comes_from_the_relation_where_it_is_blank(tree: Tree) -> None:
    rows = [
        row(A, "1", "Clear.", "left lung", "opacity", "yes", LEFT) | {"context": "", "relation": "0"},
        row(A, "2", "Clear.", "left lung", "opacity", "no", LEFT) | {"context": "Yes"},
        row(A, "3", "Clear.", "left lung", "opacity", "no", LEFT) | {"context": "", "relation": "1.0"},
    ]
    said = [instance.findings[0].context for instance in read_gold(tree.gold(rows)).instances]
    assert said == ["no", "yes", "yes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "maybe", "relation": "?"}, ":2: context is 'maybe'"),
        ({"row_id": ""}, ":2: row_id is empty"),
        ({"image_id": " "}, ":2: image_id is empty"),
        ({"sentence": "NUL \0"}, ":2: holds a NUL byte"),
    ],
)
def test_a_damaged_row_is_named(tree: Tree, change: dict[str, str], message: str) -> None:
    root = tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT) | change])
    with pytest.raises(WronglungError, match="gold_object_attribute_with_coordinates.txt") as error:
        read_gold(root)
    assert message in str(error.value)


def test_an_image_of_two_patients_is_refused(tree: Tree) -> None:
    rows = [
        row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT, patient_id=patient)
        for patient in (10000001, 10000002)
    ]
    with pytest.raises(WronglungError, match=":3: image .* is of patient 10000002"):
        read_gold(tree.gold(rows))


@pytest.mark.parametrize("column", [one for one in GOLD_COLUMNS if one not in ("section", "attribute")])
def test_a_missing_column_is_named(tree: Tree, column: str) -> None:
    rest = [one for one in GOLD_COLUMNS if one != column]
    root = tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)], rest)
    with pytest.raises(WronglungError, match=f"no column {column}"):
        read_gold(root)


def test_section_and_attribute_may_be_missing(tree: Tree) -> None:
    rest = [one for one in GOLD_COLUMNS if one not in ("section", "attribute")]
    assert read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)], rest)).instances


def test_missing_and_unreadable_films_are_reported(tree: Tree) -> None:
    rows = [row(one, "1", "Clear.", "left lung", "normal", "yes", LEFT) for one in (A, B, C, D)]
    tree.film(D).write_bytes(b"no image")
    dataset = read_gold(tree.gold(rows))
    assert [instance.image_id for instance in dataset.instances] == [A, C]
    assert ledger(dataset) == [("image_missing", B), ("image_unreadable", D)]


def test_a_png_stands_for_a_missing_jpg(tree: Tree) -> None:
    tree.film(B, suffix=".png")
    (instance,) = read_gold(tree.gold([row(B, "1", "Clear.", "left lung", "normal", "yes", LEFT)])).instances
    assert instance.image.path.name == f"{B}.png"
    assert instance.image.load().getpixel((5, 5)) == 90


@pytest.mark.parametrize("size", [(50, 40), (200, 160), (33, 26)])
def test_boxes_follow_a_film_that_was_resized_as_a_whole(tree: Tree, size: tuple[int, int]) -> None:
    tree.film(A, size)
    dataset = read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", [50, 10, 90, 60])]))
    (instance,) = dataset.instances
    x, y = size[0] / 100, size[1] / 80
    (box,) = instance.boxes
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((50 * x, 10 * y, 90 * x, 60 * y))
    assert (instance.image.width, instance.image.height) == size
    assert ledger(dataset) == [("size_mismatch*", A)]


@pytest.mark.parametrize("size", [(224, 224), (50, 80), (80, 100)])
def test_a_cropped_or_padded_film_is_refused(tree: Tree, size: tuple[int, int]) -> None:
    tree.film(A, size)
    dataset = read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)]))
    assert not dataset.instances
    assert ledger(dataset) == [("size_mismatch", A)]


def write_scaling(tree: Tree) -> None:
    """The factors of a film of 100 × 80 pixels."""
    columns = ("image_id", "top", "bottom", "left", "right", "ratio")
    file = tree.imagenome / "gold_dataset/gold_bbox_scaling_factors_original_to_224x224.csv"
    write_table(file, columns, [(f"{A}.dcm", 22, 23, 0, 0, 2.24)])


@pytest.mark.parametrize(
    ("size", "factor", "said"),
    [((100, 80), 1.0, []), ((50, 40), 0.5, ["size_mismatch*"]), ((80, 80), None, ["size_mismatch"])],
)
def test_scaling_factors_tell_sizes_where_the_metadata_do_not(
    tree: Tree, size: tuple[int, int], factor: float | None, said: list[str]
) -> None:
    tree.metadata({C: (100, 80), A: ("", "")})
    tree.film(A, size)
    write_scaling(tree)
    dataset = read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", [50, 10, 90, 60])]))
    boxes = [box for instance in dataset.instances for box in instance.boxes]
    expected = [] if factor is None else [Box("left lung", *(one * factor for one in (50, 10, 90, 60)))]
    assert boxes == expected
    assert [reason for reason, _ in ledger(dataset)] == ["metadata_missing*", *said]


def test_without_any_metadata_sizes_are_those_of_the_files(tree: Tree) -> None:
    (tree.mimic / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    dataset = read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)]))
    assert (dataset.instances[0].image.width, dataset.instances[0].image.height) == (100, 80)
    assert ledger(dataset) == [("metadata_missing*", "mimic-cxr-2.0.0-metadata.csv.gz")]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("folder", ["", "files", ".."])
def test_the_metadata_are_found_beside_and_around_the_films(tree: Tree, suffix: str, folder: str) -> None:
    (tree.mimic / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    tree.metadata({A: (200, 160)}, suffix)
    written = tree.mimic / f"mimic-cxr-2.0.0-metadata{suffix}"
    written.rename(tree.mimic / folder / written.name)
    dataset = read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)]))
    assert ledger(dataset) == [("size_mismatch*", A)]


@pytest.mark.parametrize(
    ("image", "patient", "study"),
    [
        ("../../../../../outside", "10000001", "50000001"),
        ("/etc/passwd", "10000001", "50000001"),
        ("..\\..\\outside", "10000001", "50000001"),
        (A, "../../..", "50000001"),
        (A, "10000001", "/../../../.."),
        ("C:\\outside", "10000001", "50000001"),
    ],
)
def test_ids_never_lead_out_of_the_film_tree(tree: Tree, image: str, patient: str, study: str) -> None:
    Image.new("L", (100, 80)).save(tree.root / "outside.jpg")
    one = row(A, "1", "x", "left lung", "normal", "yes", LEFT, image_id=image, patient_id=patient, study_id=study)
    dataset = read_gold(tree.gold([one]))
    assert not dataset.instances
    assert [reason for reason, _ in ledger(dataset)] == ["metadata_missing*"] * (image != A) + ["path_outside_root"]


def test_a_link_out_of_the_film_tree_is_refused(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    Image.new("L", (100, 80)).save(outside)
    film = tree.film(A)
    film.unlink()
    film.symlink_to(outside)
    dataset = read_gold(tree.gold([row(A, "1", "x", "left lung", "normal", "yes", LEFT)]))
    assert ledger(dataset) == [("path_outside_root", A)]


def test_the_whole_film_tree_may_be_a_link(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("disk") / "films"
    (tree.mimic / "files").rename(elsewhere)
    (tree.mimic / "files").symlink_to(elsewhere)
    dataset = read_gold(tree.gold([row(A, "1", "x", "left lung", "normal", "yes", LEFT)]))
    assert len(dataset.instances) == 1
    assert not dataset.skipped


def test_all_region_boxes_of_a_film_are_known(tree: Tree) -> None:
    columns = [
        "image_id", "x1", "y1", "x2", "y2", "width", "height", "bbox_name", "annot_id", "original_x1", "original_x2",
        "original_y1", "original_y2", "original_width", "original_height", "annotator", "coord224", "coord_original",
    ]  # fmt: skip

    def box(image: str, region: str, corners: Sequence[Any]) -> list[Any]:
        x1, y1, x2, y2 = corners
        return [f"{image}.dcm", 1.0, 2.0, 3.0, 4.0, 2.0, 2.0, region, 7, x1, x2, y1, y2, 9.0, 9.0, "1_C", "[1]", "[2]"]

    rows = [
        box(A, "trachea", [40.0, 2.0, 50.0, 20.0]),
        box(A, "left lung", [float(one) for one in LEFT]),
        box(A, "carina", ["", "", "", ""]),
        box(B, "trachea", [1.0, 1.0, 2.0, 2.0]),
    ]
    write_table(tree.imagenome / "gold_dataset/gold_bbox_coordinate_annotations_1000images.csv", columns, rows)
    dataset = read_gold(tree.gold([row(A, "1", "x", "left lung", "normal", "yes", LEFT)]))
    assert dataset.regions == {A: (Box("trachea", 40, 2, 50, 20), Box("left lung", *map(float, LEFT)))}
    assert ledger(dataset) == [("box_missing", A)]


def test_gold_by_the_split_of_mimic_cxr(tree: Tree) -> None:
    rows = [row(one, "1", "Clear.", "left lung", "normal", "yes", LEFT) for one in (A, C)]
    root = tree.gold(rows)
    with pytest.raises(WronglungError, match="no mimic-cxr-2.0.0-split.csv.gz .* split=test"):
        read_gold(root, split="test")
    columns = ("dicom_id", "study_id", "subject_id", "split")
    table = [(A, "50000001", "10000001", "train"), (C, "50000002", "11000002", "test")]
    write_table(tree.mimic / "mimic-cxr-2.0.0-split.csv.gz", columns, table)
    assert [(one.image_id, one.split) for one in read_gold(root).instances] == [(A, "train"), (C, "test")]
    assert [one.image_id for one in read_gold(root, split="test").instances] == [C]
    with pytest.raises(WronglungError, match="must be one of all, train, validate, test"):
        read_gold(root, split="valid")  # type: ignore[arg-type]


def _mirror(tree: Tree) -> Path:
    """As a download tool leaves it: everything under a host's name."""
    host = tree.root / "host.org/files"
    host.mkdir(parents=True)
    for name in ("chest-imagenome", "mimic-cxr-jpg"):
        (tree.root / name).rename(host / name)
    return tree.root / "host.org"


def _renamed(tree: Tree) -> Path:
    (tree.root / "chest-imagenome").rename(tree.root / "chest-imagenome-dataset-1.0.0")
    (tree.root / "mimic-cxr-jpg").rename(tree.root / "MIMIC-CXR-JPG")
    return tree.root / "chest-imagenome-dataset-1.0.0"


def _beside_dicom(tree: Tree) -> Path:
    (tree.root / "mimic-cxr/2.0.0/files/p10/p10000001").mkdir(parents=True)
    return tree.imagenome


@pytest.mark.parametrize(
    "place",
    [
        lambda tree: tree.root,
        lambda tree: tree.imagenome.parent,
        lambda tree: tree.imagenome,
        lambda tree: tree.imagenome / "gold_dataset",
        lambda tree: tree.imagenome / "gold_dataset/gold_object_attribute_with_coordinates.txt",
        lambda tree: tree.mimic.parent,
        lambda tree: tree.mimic,
        lambda tree: tree.mimic / "files",
        _mirror,
        _renamed,
        _beside_dicom,
    ],
)
def test_the_trees_are_found_from_wherever_the_user_points(tree: Tree, place: Callable[[Tree], Path]) -> None:
    tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)])
    dataset = read_gold(place(tree))
    assert len(dataset.instances) == 1
    assert not dataset.skipped


def test_films_may_be_elsewhere(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", [50, 10, 90, 60])])
    small = tmp_path_factory.mktemp("small")
    film = small / f"p10/p10000001/s50000001/{A}.png"
    film.parent.mkdir(parents=True)
    Image.new("L", (50, 40)).save(film)
    dataset = read_gold(root, images=small)
    assert dataset.instances[0].image.path == film
    assert dataset.instances[0].boxes == (Box("left lung", 25, 5, 45, 30),)
    with pytest.raises(WronglungError, match="holds no films under files/p10"):
        read_gold(root, images=tree.imagenome)
    with pytest.raises(WronglungError, match="is not a folder"):
        read_gold(root, images=root / "nowhere")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="no Chest ImaGenome found; looked for .* give the folder that holds"):
        read_gold(tmp_path)
    (tmp_path / "chest-imagenome/gold_dataset").mkdir(parents=True)
    with pytest.raises(WronglungError, match="has no gold_dataset/gold_object_attribute_with_coordinates.txt"):
        read_gold(tmp_path)
    with pytest.raises(WronglungError, match="has no silver_dataset/splits"):
        read_silver(tmp_path)
    tree = Tree(tmp_path / "other")
    with pytest.raises(WronglungError, match="no films found; looked for MIMIC-CXR-JPG .* argument images"):
        read_gold(tree.gold([row(A, "1", "Clear.", "left lung", "normal", "yes", LEFT)]))


def test_silver_phrases_become_one_instance_a_sentence(tree: Tree) -> None:
    tree.graph(
        A,
        {"right lung": RIGHT, "left lung": LEFT, "trachea": [45, 1, 52, 20]},
        [
            ("2", EFFUSION, "right lung", ["nlp|yes|abnormal", "anatomicalfinding|yes|pleural effusion"]),
            ("10", "No\n pneumothorax.", "left lung", ["anatomicalfinding|no|pneumothorax"]),
            ("10", "No\n pneumothorax.", "right lung", ["anatomicalfinding|no|pneumothorax"]),
        ],
    )
    dataset = load_dataset("imagenome-silver", tree.splits(test=[A]))
    assert dataset.name == "imagenome-silver"
    assert not dataset.skipped
    first, second = dataset.instances
    assert (first.id, second.id) == (sent(A, "2"), sent(A, "10"))
    assert (first.patient_id, first.study_id, first.split) == ("10000001", "50000001", "test")
    assert first.boxes == (Box("right lung", *map(float, RIGHT)),)
    assert first.findings == (
        Finding("abnormal", "yes", "right lung"),
        Finding("pleural effusion", "yes", "right lung"),
    )
    assert second.sentence == "No\n pneumothorax."
    assert [box.name for box in second.boxes] == ["right lung", "left lung"]
    assert [box.name for box in dataset.regions[A]] == ["right lung", "left lung", "trachea"]


def test_silver_splits_leave_out_the_gold_patients(tree: Tree) -> None:
    for image in (A, B, C, D):
        tree.film(image)
        tree.graph(image, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["nlp|yes|normal"])])
    root = tree.splits(train=[D, A], valid=[B], test=[C], avoid=[A])
    names = {
        split: [(one.image_id, one.split) for one in read_silver(root, split=split).instances]
        for split in get_args(SilverSplit)
    }
    assert names == {
        "train": [(D, "train")],
        "valid": [(B, "valid")],
        "test": [(C, "test")],
        "all": [(D, "train"), (B, "valid"), (C, "test")],
    }
    train = read_silver(root, split="train")
    assert ledger(train) == [("image_in_gold_set", A)]
    assert train.name == "imagenome-silver-train"
    with pytest.raises(WronglungError, match="must be one of train, valid, test, all"):
        read_silver(root, split="validate")  # type: ignore[arg-type]
    (tree.imagenome / "silver_dataset/splits/images_to_avoid.csv").unlink()
    with pytest.raises(WronglungError, match="has no silver_dataset/splits/images_to_avoid.csv"):
        read_silver(root)


def test_silver_boxes_follow_the_rules(tree: Tree) -> None:
    tree.graph(
        A,
        {
            "right lung": [-3, 12, 40, 99],
            "left lung": [90, 62, 55, 10],
            "carina": [0, 0, 0, 0],
            "svc": [None, None, None, None],
            "abdomen": [300, 1, 400, 2],
            "spine": [[40, 1, 50, 70], [41, 1, 51, 75]],
        },
        [
            ("1", "Both.", "right lung", ["anatomicalfinding|yes|lung opacity"]),
            ("1", "Both.", "left lung", ["anatomicalfinding|yes|lung opacity"]),
            ("2", "Carina.", "carina", ["anatomicalfinding|no|mediastinal widening"]),
            ("3", "Air in the neck.", "neck", ["anatomicalfinding|yes|subcutaneous air"]),
            ("4", "Right lung and neck.", "neck", ["nlp|yes|abnormal"]),
            ("4", "Right lung and neck.", "right lung", ["nlp|yes|abnormal", "nlp|yes|abnormal"]),
            ("5", "Nothing.", "left lung", []),
            ("6", "Spine.", "spine", ["anatomicalfinding|yes|scoliosis"]),
        ],
    )
    dataset = read_silver(tree.splits(test=[A]))
    by_number = {instance.id.rpartition("|")[2]: instance for instance in dataset.instances}
    right = Box("right lung", 0, 12, 40, 80)
    assert by_number["1"].boxes == (right, Box("left lung", 55, 10, 90, 62))
    assert by_number["4"].boxes == (right,)
    # Labels at regions without a box are kept, and are told by having none.
    assert Finding("abnormal", "yes", "neck") in by_number["4"].findings
    assert by_number["6"].boxes == (Box("spine", 40, 1, 50, 70), Box("spine", 41, 1, 51, 75))
    assert set(by_number) == {"1", "4", "6"}
    assert ledger(dataset) == [
        ("box_clipped*", A),
        ("box_flipped*", A),
        ("box_degenerate", A),
        ("box_missing", A),
        ("box_outside_image", A),
        ("duplicate_row*", A),
        ("region_without_box", A),
        ("no_valid_box", sent(A, "2")),
        ("no_valid_box", sent(A, "3")),
        ("duplicate_row*", sent(A, "4")),
        ("sentence_without_annotation", sent(A, "5")),
    ]


def test_missing_and_damaged_scene_graphs_are_reported(tree: Tree) -> None:
    tree.film(B)
    tree.film(D)
    phrase = [("1", "Clear.", "left lung", ["nlp|yes|normal"])]
    tree.graph(A, {"left lung": LEFT}, [])
    tree.graph(C, {"left lung": LEFT}, phrase, image_id=A)
    tree.graph(D, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["normal"])])
    dataset = read_silver(tree.splits(test=[A, B, C, D]))
    assert not dataset.instances
    assert ledger(dataset) == [
        ("no_annotation", A),
        ("scene_graph_missing", B),
        ("scene_graph_unreadable", C),
        ("scene_graph_unreadable", D),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[", b"[]", b"\xff\xfe{}", b'{"image_id": 5}', b"[" * 100_000,
        b'{"image_id": "x", "objects": [{"bbox_name": "a", "original_x1": "wide"}], "attributes": []}',
        b'{"image_id": "x", "objects": [], "attributes": [{"bbox_name": "a", "attributes": [], "phrases": ["b"], "phrase_IDs": []}]}',
        b'{"image_id": "x", "objects": [], "attributes": [{"bbox_name": "a", "attributes": [[]], "phrases": ["\\ud800"], "phrase_IDs": ["1|1"]}]}',
    ],
)  # fmt: skip
def test_a_broken_scene_graph_does_not_stop_the_rest(tree: Tree, content: bytes) -> None:
    tree.graph(C, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["nlp|yes|normal"])])
    root = tree.splits(test=[A, C])
    (tree.imagenome / f"silver_dataset/scene_graph/{A}_SceneGraph.json").write_bytes(content)
    dataset = read_silver(root)
    assert [instance.image_id for instance in dataset.instances] == [C]
    assert ledger(dataset) == [("scene_graph_unreadable", A)]


def test_lateral_views_are_left_out_and_doubled_rows_count_once(tree: Tree) -> None:
    for image in (A, B, C):
        tree.film(image)
        tree.graph(image, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["nlp|yes|normal"])])
    tree.graph(C, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["nlp|yes|normal"])], viewpoint="LATERAL")
    dataset = read_silver(tree.splits(test=[A, A, B, C], views={A: "", B: "LL", C: "AP"}))
    assert [instance.image_id for instance in dataset.instances] == [A]
    assert ledger(dataset) == [("duplicate_row*", "test.csv:3"), ("view_not_frontal", B), ("view_not_frontal", C)]


def test_scene_graphs_may_be_nested_and_must_be_unpacked(tree: Tree) -> None:
    tree.graph(A, {"left lung": LEFT}, [("1", "Clear.", "left lung", ["nlp|yes|normal"])])
    root = tree.splits(test=[A])
    folder = tree.imagenome / "silver_dataset/scene_graph"
    (folder / "scene_graph").mkdir()
    next(folder.glob("*.json")).rename(folder / "scene_graph" / f"{A}_SceneGraph.json")
    assert len(read_silver(root).instances) == 1
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(WronglungError, match="scene_graph.zip is missing"):
        read_silver(root)
    (tree.imagenome / "silver_dataset/scene_graph.zip").write_bytes(b"PK")
    with pytest.raises(WronglungError, match="scene_graph.zip is not unpacked"):
        read_silver(root)


@pytest.mark.parametrize("image", ["../../outside", "/outside", "..\\outside"])
def test_ids_never_lead_out_of_the_scene_graphs(tree: Tree, image: str) -> None:
    dataset = read_silver(tree.splits(test=[image]))
    assert [reason for reason, _ in ledger(dataset)] == ["metadata_missing*", "path_outside_root"]


def test_a_pipe_in_place_of_a_scene_graph_is_refused(tree: Tree) -> None:
    root = tree.splits(test=[A])
    os.mkfifo(tree.imagenome / f"silver_dataset/scene_graph/{A}_SceneGraph.json")
    assert ledger(read_silver(root)) == [("scene_graph_unreadable", A)]


@given(st.text(max_size=40))
def test_any_coordinate_cell_gives_four_numbers_or_none(text: str) -> None:
    corners = parse_coordinates(text)
    assert corners is None or len(corners) == 4


@given(st.lists(st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3)), max_size=6))
def test_coordinates_are_read_as_literals(values: list[Any]) -> None:
    corners = parse_coordinates(repr(values))
    if len(values) == 4 and all(
        isinstance(one, int) and not isinstance(one, bool) and abs(one) < 2**53 for one in values
    ):
        assert corners == tuple(values)
    assert corners is None or all(one is None or isinstance(one, float) for one in corners)


def test_a_split_of_two_thousand_films_opens_in_seconds(tree: Tree) -> None:
    regions = [f"region {at}" for at in range(27)]
    images = [f"{A[:-8]}{at:08x}" for at in range(2000)]
    content = tree.film(A).read_bytes()
    boxes = {"right lung": RIGHT, "left lung": LEFT, **dict.fromkeys(regions, RIGHT)}
    for image in images:
        STUDY[image] = STUDY[A]
        (tree.mimic / f"files/p10/p10000001/s50000001/{image}.jpg").write_bytes(content)
        tree.graph(
            image,
            boxes,
            [
                (
                    str(at),
                    f"Sentence {at} of the report.",
                    region,
                    ["nlp|yes|abnormal", "anatomicalfinding|yes|lung opacity"],
                )
                for at in range(5)
                for region in ("right lung", "left lung")
            ],
        )
    root = tree.splits(test=images)
    tree.metadata(dict.fromkeys(images, (100, 80)))
    for image in images:
        del STUDY[image]
    start = time.process_time()
    dataset = read_silver(root)
    seconds = time.process_time() - start
    assert len(dataset.instances) == 10_000
    assert not dataset.skipped
    assert seconds < 6


def test_the_counts_of_the_published_run_stand_beside_ones_own(tree: Tree) -> None:
    gone = [0, 0, 0, 0]
    root = tree.gold(
        [
            row(A, "1", "One.", "right lung", "abnormal", "yes", RIGHT),
            row(A, "2", "Two.", "right lung", "pneumonia", "yes", gone),
            row(A, "3", "Three.", "left lung", "abnormal", "no", LEFT),
            row(A, "3", "Three.", "right lung", "abnormal", "yes", RIGHT),
            row(D, "4", "A film that is missing.", "left lung", "abnormal", "yes", LEFT),
        ]
    )
    dataset = load_dataset("imagenome-gold", root)
    assert len(dataset.instances) == 2
    assert [(one.subset, one.published, one.annotated) for one in dataset.published] == [
        ("all", 2496, 4),
        ("abnormal", 748, 3),
        ("one_lung", 285, 3),
        ("mdrb", 252, None),
    ]
    assert summarise(dataset)["beside the published run"] == {
        "all": "published 2,496; here 4 annotated, 2 usable",
        "abnormal": "published 748; here 3 annotated, 2 usable",
        "one_lung": "published 285; here 3 annotated, 1 usable",
        "mdrb": "published 252; here 2 usable",
    }
    assert load_dataset("phantom:32", patients=4).published == ()


def dicom_film(tree: Tree, image: str, size: tuple[int, int] = (100, 80)) -> Path:
    """A film of MIMIC-CXR: 12 bits in MONOCHROME2, black in its left half."""
    patient, study = STUDY[image]
    file = tree.root / f"mimic-cxr/2.0.0/files/p{patient[:2]}/p{patient}/s{study}/{image}.dcm"
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint16)
    pixels[:, size[0] // 2 :] = 4095
    save_dicom(file, pixels)
    return file


def test_films_of_mimic_cxr_are_read_as_dicom(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    dicom_film(tree, A)
    root = tree.gold([row(A, "1", "One.", "right lung", "abnormal", "yes", RIGHT)])
    (instance,) = load_dataset("imagenome-gold", root).instances
    assert instance.image.path.suffix == ".dcm"
    assert (instance.image.width, instance.image.height) == (100, 80)
    pixels = np.asarray(instance.image.load())
    assert (pixels[:, :50] == 0).all()
    assert (pixels[:, 50:] == 255).all()


def test_films_of_mimic_cxr_jpg_go_first(tree: Tree) -> None:
    dicom_film(tree, A)
    root = tree.gold([row(A, "1", "One.", "right lung", "abnormal", "yes", RIGHT)])
    (instance,) = load_dataset("imagenome-gold", root).instances
    assert instance.image.path.suffix == ".jpg"
    (instance,) = load_dataset("imagenome-gold", root, images=root / "mimic-cxr").instances
    assert instance.image.path.suffix == ".dcm"


def test_a_dicom_film_that_is_damaged_is_reported(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    dicom_film(tree, A)
    dicom_film(tree, C).write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    root = tree.gold([row(one, "1", "One.", "right lung", "abnormal", "yes", RIGHT) for one in (A, C)])
    dataset = load_dataset("imagenome-gold", root)
    assert [one.image_id for one in dataset.instances] == [A]
    assert ("image_unreadable", C) in ledger(dataset)


def test_a_tree_of_reports_is_no_tree_of_films(tree: Tree) -> None:
    """MIMIC-CXR's reports lie where its films would; those of MIMIC-CXR-JPG beside it are read."""
    root = tree.gold([row(A, "1", "One.", "right lung", "abnormal", "yes", RIGHT)])
    report = tree.imagenome / "mimic-cxr-reports/files/p10/p10000001/s50000001.txt"
    report.parent.mkdir(parents=True)
    report.write_text("FINAL REPORT")
    dataset = load_dataset("imagenome-gold", tree.imagenome)
    assert [one.image.path.suffix for one in dataset.instances] == [".jpg"]
    assert load_dataset("imagenome-gold", root).fingerprint == dataset.fingerprint
