"""The MS-CXR reader, on a small copy of both trees in the published format."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import ms_cxr
from trees.ms_cxr import COLUMNS, A, B, C, D, E, cells, path, table_bytes

from wronglung.benchmark.datasets.ms_cxr import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding, Instance

TABLE = "MS_CXR_Local_Alignment_v1.1.0.csv"
RELEASE = "ms-cxr/1.1.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ms_cxr.write(tmp_path / "data")


def ledger(dataset: Dataset) -> list[tuple[str, str]]:
    """Reason (with * for what was repaired) and place of each entry."""
    return [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped]


def write_rows(root: Path, *rows: list[Any], columns: tuple[str, ...] = COLUMNS) -> Path:
    """Replace the table by one of these rows."""
    file = root / RELEASE / TABLE
    file.write_bytes(table_bytes([columns, *rows]))
    return file


def facts(instance: Instance) -> tuple[Any, ...]:
    return (
        instance.id, instance.image_id, instance.sentence, [finding.label for finding in instance.findings],
        instance.boxes, instance.patient_id, instance.study_id, instance.split,
    )  # fmt: skip


def test_every_phrase_of_the_tree(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "ms-cxr"
    first = ("10000001", "50000001", "train")
    other = ("11000002", "50000002", "val")
    assert [facts(one) for one in dataset.instances] == [
        (
            f"{A}_phrase_0", A, "Left apical pneumothorax, small", ["pneumothorax"],
            (Box("pneumothorax", 30, 4, 50.5, 14),), *first,
        ),
        (
            f"{A}_phrase_1", A, 'bilateral "layering" effusions', ["pleural effusion"],
            (Box("pleural effusion", 4, 30, 24, 42), Box("pleural effusion", 34, 30, 54, 42)), *first,
        ),
        (
            f"{B}_phrase_0", B, "  mild œdema\nin both lungs ", ["edema"],
            (Box("edema", 5, 6, 25, 36), Box("edema", 32, 6, 52, 36)), *first,
        ),
        (f"{B}_phrase_1", B, "retrocardiac opacity", ["lung opacity"], (Box("", 30, 28, 40, 40),), *first),
        (
            f"{C}_phrase_0", C, "Left apical pneumothorax, small", ["pneumonia"],
            (Box("pneumonia", 30, 4, 50.5, 14),), *other,
        ),
        (
            f"{C}_phrase_1", C, "right basal consolidation", ["consolidation", "pneumonia"],
            (Box("consolidation", 10, 20, 25, 40), Box("pneumonia", 10, 20, 25, 40)), *other,
        ),
        (f"{C}_phrase_2", C, "opacity at the border", ["lung opacity"], (Box("lung opacity", 50, 40, 60, 48),), *other),
    ]  # fmt: skip
    findings = [finding for instance in dataset.instances for finding in instance.findings]
    assert {(finding.context, finding.region) for finding in findings} == {("yes", "")}
    assert all(instance.image.load().size == (60, 48) for instance in dataset.instances)


def test_every_entry_of_the_ledger_of_the_tree(root: Path) -> None:
    assert ledger(read(root)) == [
        ("duplicate_row*", f"{TABLE}:7"),
        ("sentence_missing", f"{TABLE}:20"),
        ("path_malformed", f"{TABLE}:21"),
        ("category_missing*", f"{TABLE}:18"),
        ("box_flipped*", f"{TABLE}:18"),
        ("box_missing", f"{TABLE}:19"),
        ("size_mismatch*", C),
        ("box_clipped*", f"{TABLE}:13"),
        ("box_degenerate", f"{TABLE}:14"),
        ("box_outside_image", f"{TABLE}:15"),
        ("no_valid_box", f"{C}_phrase_3"),
        ("image_missing", D),
        ("size_mismatch", E),
    ]


def test_the_regions_of_a_film_are_the_boxes_of_its_phrases(root: Path) -> None:
    dataset = read(root)
    assert list(dataset.regions) == [A, B, C]
    for image_id, boxes in dataset.regions.items():
        own = [box for instance in dataset.instances if instance.image_id == image_id for box in instance.boxes]
        assert boxes == tuple(dict.fromkeys(own))


def test_the_json_file_says_the_same(root: Path) -> None:
    table = read(root)
    file = ms_cxr.write_json(root)
    document = read(file)
    assert document.instances == table.instances
    assert document.regions == table.regions
    assert [reason for reason, _ in ledger(document)] == [
        reason for reason, where in ledger(table) if where != f"{TABLE}:21"
    ]
    assert ledger(document)[0] == ("duplicate_row*", f"{file.name}: annotations[4]")


def test_the_newest_version_counts_and_the_table_before_the_json_file(root: Path) -> None:
    release = root / RELEASE
    ms_cxr.write_json(root)
    assert "MS_CXR_Local_Alignment_v1.1.0.csv:7" in {entry.where for entry in read(root).skipped}
    (release / TABLE).unlink()
    assert any(entry.where.startswith("MS_CXR_Local_Alignment_v1.1.0.json") for entry in read(root).skipped)
    (release / "MS_CXR_Local_Alignment_v1.1.0.json").unlink()
    (only,) = read(root).instances
    assert (only.id, only.split) == (f"{A}_phrase_0", None), "version 1.0.0 has no splits"
    newest = release / "later/MS_CXR_Local_Alignment_v1.10.0.csv.gz"
    newest.parent.mkdir()
    row = cells(A, "Edema", "newer", (1, 2, 3, 4), "test")
    newest.write_bytes(gzip.compress(table_bytes([COLUMNS, row])))
    shutil.copy(release / "MS_CXR_Local_Alignment_v1.0.0.csv", release / "MS_CXR_Local_Alignment_v1.9.csv")
    assert [one.sentence for one in read(root).instances] == ["newer"]


@pytest.mark.parametrize(
    "place",
    [
        "",
        "..",
        RELEASE,
        "ms-cxr",
        f"{RELEASE}/{TABLE}",
        "mimic-cxr-jpg",
        "mimic-cxr-jpg/2.1.0",
        "mimic-cxr-jpg/2.1.0/files",
    ],
)
def test_the_ways_of_pointing_at_it(root: Path, place: str) -> None:
    assert read(root / place).fingerprint == read(root).fingerprint


def test_a_release_folder_of_any_name(root: Path) -> None:
    (root / RELEASE).rename(
        root / "ms-cxr-making-the-most-of-text-semantics-to-improve-vision-language-processing-1.1.0"
    )
    shutil.rmtree(root / "ms-cxr")
    assert len(read(root).instances) == 7
    (root / TABLE).write_bytes(table_bytes([COLUMNS, cells(A, "Edema", "beside the films", (1, 2, 3, 4), "test")]))
    assert [one.sentence for one in read(root / TABLE).instances] == ["beside the films"]


def test_the_file_under_another_name(root: Path) -> None:
    own = (root / RELEASE / TABLE).rename(root / RELEASE / "boxes.txt")
    assert len(read(own).instances) == 7


def test_films_may_be_elsewhere_and_in_another_format(root: Path, tmp_path: Path) -> None:
    (root / "mimic-cxr-jpg").rename(tmp_path / "films")
    with pytest.raises(WronglungError, match="no films found; looked for MIMIC-CXR-JPG .* argument images"):
        read(root)
    for film in (tmp_path / "films").rglob("*.jpg"):
        film.rename(film.with_suffix(".png"))
    dataset = read(root, images=tmp_path / "films")
    assert len(dataset.instances) == 7
    assert {one.image.path.suffix for one in dataset.instances} == {".png"}


def test_dicom_films(root: Path) -> None:
    import numpy as np
    from trees.dicom import save_dicom

    for film in root.rglob("*.jpg"):
        film.unlink()
    save_dicom(root / "mimic-cxr-jpg/2.1.0" / path(A).replace(".jpg", ".dcm"), np.zeros((48, 60), dtype=np.uint16))
    assert [one.id for one in read(root).instances] == [f"{A}_phrase_0", f"{A}_phrase_1"]


def test_a_phrase_is_its_exact_text_on_its_film(root: Path) -> None:
    texts = ("small effusion", "Small effusion", "small effusion ", "small effusion")
    write_rows(root, *(cells(A, "Edema", text, (at, 2, 3, 4), "train") for at, text in enumerate(texts)))
    assert [(one.id[-1], one.sentence, len(one.boxes)) for one in read(root).instances] == [
        ("0", "small effusion", 2),
        ("1", "Small effusion", 1),
        ("2", "small effusion ", 1),
    ]


def test_findings_outlive_their_boxes(root: Path) -> None:
    write_rows(
        root,
        cells(A, "Edema", "x", (1, 2, 3, 4), "train"),
        cells(A, "Pneumonia", "x", (1, 2, 0, 0), "train"),
    )
    (instance,) = read(root).instances
    assert instance.findings == (Finding("edema", "yes", ""), Finding("pneumonia", "yes", ""))
    assert instance.boxes == (Box("edema", 1, 2, 4, 6),)


def test_two_boxes_that_are_one_after_repair_count_once(root: Path) -> None:
    write_rows(root, *(cells(A, "Edema", "x", (50, 40, side, side), "train") for side in (20, 30)))
    dataset = read(root)
    assert dataset.instances[0].boxes == (Box("edema", 50, 40, 60, 48),)
    assert [reason for reason, _ in ledger(dataset)] == ["box_clipped*", "box_clipped*", "duplicate_row*"]


def test_numbers_and_ids_that_went_through_a_spreadsheet(root: Path) -> None:
    row = [f"{A}.dcm", "Edema", "x", path(A), "1.0", "2.50", "3e0", " 4", "60.0", "48.00", ""]
    write_rows(root, row)
    dataset = read(root)
    (instance,) = dataset.instances
    assert (instance.id, instance.boxes, instance.split) == (f"{A}_phrase_0", (Box("edema", 1, 2.5, 4, 6.5),), None)
    assert not dataset.skipped


@pytest.mark.parametrize("number", ["", "nan", "NaN", "inf", "1,2", "one", "[1]", "1" * 5000, "1e999", "None"])
def test_a_coordinate_that_is_no_number(root: Path, number: str) -> None:
    write_rows(root, cells(A, "Edema", "x", (number, 2, 3, 4), "train"))
    assert ledger(read(root)) == [("box_missing", f"{TABLE}:2"), ("no_valid_box", f"{A}_phrase_0")]


def test_a_film_without_a_size_has_that_of_its_file(root: Path) -> None:
    row = cells(A, "Edema", "x", (1, 2, 3, 4), "train")
    for sides in (["", ""], ["0", "48"], ["-60", "48"], ["sixty", "48"], ["6" * 5000, "48"]):
        write_rows(root, [*row[:8], *sides, "train"])
        dataset = read(root)
        assert len(dataset.instances) == 1
        assert ledger(dataset) == [("metadata_missing*", A)]
    write_rows(root, [*row[:8], "", "", "train"], row)
    assert ledger(read(root)) == [("duplicate_row*", f"{TABLE}:3")]


def test_rows_that_contradict_the_first_row_of_their_film(root: Path) -> None:
    row = cells(A, "Edema", "x", (1, 2, 3, 4), "train")
    elsewhere = f"files/p10/p10000001/s50000009/{A}.jpg"
    write_rows(root, row, [*row[:8], 600, 480, "train"], [*row[:3], elsewhere, *row[4:]])
    dataset = read(root)
    assert len(dataset.instances) == 1
    assert ledger(dataset) == [("row_contradicts", f"{TABLE}:3"), ("row_contradicts", f"{TABLE}:4")]


@pytest.mark.parametrize(
    "place",
    [
        "",
        path(A).removeprefix("files/"),
        f"/{path(A)}",
        path(A).replace("files/", "files/../files/"),
        path(A).replace("p10/p", "p11/p"),
        path(A).replace(".jpg", "_jpg"),
        path(A).replace("50000001", "5000000"),
        path(A).replace("10000001", "1000000\u0661"),
        path(B),
        path(A).replace(A, f"../{A}"),
        path(A) + "\n",
    ],
)
def test_a_path_of_another_form_goes_to_the_ledger(root: Path, place: str) -> None:
    row = cells(A, "Edema", "x", (1, 2, 3, 4), "train")
    write_rows(root, [*row[:3], place, *row[4:]], row)
    dataset = read(root)
    assert [one.id for one in dataset.instances] == [f"{A}_phrase_0"]
    (entry,) = dataset.skipped
    assert (entry.reason, entry.where.split(":")[0]) == ("path_malformed", TABLE)
    assert entry.detail == f"{place}: not files/pNN/pNNNNNNNN/sNNNNNNNN/{A}.jpg"


def test_no_link_leads_out_of_the_films(root: Path, tmp_path: Path) -> None:
    film = root / "mimic-cxr-jpg/2.1.0" / path(A)
    film.rename(tmp_path / "a.jpg")
    film.symlink_to(tmp_path / "a.jpg")
    dataset = read(root)
    assert A not in {one.image_id for one in dataset.instances}
    assert ("path_outside_root", A) in ledger(dataset)


def test_a_damaged_film_goes_to_the_ledger(root: Path) -> None:
    (root / "mimic-cxr-jpg/2.1.0" / path(A)).write_bytes(b"no image")
    dataset = read(root)
    assert ("image_unreadable", A) in ledger(dataset)
    assert [one.image_id for one in dataset.instances] == [B, B, C, C, C]


def test_without_the_release(root: Path) -> None:
    shutil.rmtree(root / "ms-cxr")
    with pytest.raises(WronglungError, match=r"no MS-CXR found; looked for MS_CXR_Local_Alignment_v\*\.csv or \.json"):
        read(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; its first row must name the columns"),
        (
            b"dicom_id,path\n",
            "no column category_name and no column label_text and .*; the first row names dicom_id, path",
        ),
        (",".join(COLUMNS).encode() + b"\r\na,b\r\n", r"v1\.1\.0\.csv:2: 2 cells under 11 column names"),
        (",".join(COLUMNS).encode() + b"\n\xe9" + b"," * 10 + b"\n", "not UTF-8"),
    ],
)
def test_a_damaged_table_is_one_error(root: Path, content: bytes, message: str) -> None:
    (root / RELEASE / TABLE).write_bytes(content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert TABLE in str(caught.value)


IMAGE = {"id": 7, "file_name": f"{A}.jpg", "path": path(A), "width": 60, "height": 48}
ANNOTATION = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "label_text": "x"}


def document(**changes: Any) -> dict[str, Any]:
    categories = [{"id": 2, "name": "Edema"}]
    return {"info": {}, "images": [IMAGE], "annotations": [ANNOTATION], "categories": categories, **changes}


def write_document(root: Path, content: Any) -> Path:
    file = root / RELEASE / "MS_CXR_Local_Alignment_v1.1.0.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the document: "),
        ({"images": [], "annotations": []}, "categories: missing"),
        (document(images=[{"id": 7}]), r"images\[0\]\.file_name: missing"),
        (document(images=[IMAGE, IMAGE]), r"images\[1\]\.id: 7 occurs twice"),
        (document(annotations=[{**ANNOTATION, "bbox": "1"}]), r"annotations\[0\]\.bbox: "),
        (document(annotations=[{**ANNOTATION, "label_text": 3}]), r"annotations\[0\]\.label_text: "),
    ],
)
def test_a_damaged_json_file_is_one_error(root: Path, content: Any, message: str) -> None:
    file = write_document(root, content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(file)
    assert file.name in str(caught.value)


def test_what_is_incomplete_in_the_json_file_goes_to_the_ledger(root: Path) -> None:
    broken: list[dict[str, Any]] = [
        {"image_id": 9},
        {"category_id": None, "bbox": [5, 6, 7, 8]},
        {"category_id": 99, "bbox": [9, 6, 7, 8]},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, None, 3, 4]},
        {"bbox": None},
        {"label_text": None},
    ]
    annotations = [ANNOTATION, *({**ANNOTATION, **one} for one in broken)]
    unused = {**IMAGE, "id": 8, "file_name": f"{B}.jpg", "path": path(B)}
    file = write_document(root, document(annotations=annotations, images=[IMAGE, unused]))
    dataset = read(file)
    (instance,) = dataset.instances
    assert instance.boxes == (Box("edema", 1, 2, 4, 6), Box("", 5, 6, 12, 14), Box("", 9, 6, 16, 14))
    assert instance.findings == (Finding("edema", "yes", ""),)
    assert ledger(dataset) == [
        ("no_annotation", B),
        ("image_missing", f"{file.name}: annotations[1]"),
        ("sentence_missing", f"{file.name}: annotations[7]"),
        ("category_missing*", f"{file.name}: annotations[2]"),
        ("category_missing*", f"{file.name}: annotations[3]"),
        ("box_missing", f"{file.name}: annotations[4]"),
        ("box_missing", f"{file.name}: annotations[5]"),
        ("box_missing", f"{file.name}: annotations[6]"),
    ]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ms_cxr.write(tmp_path_factory.mktemp("ms-cxr") / "data")


BOXES = st.tuples(*[st.one_of(st.integers(-70, 70), st.floats(-70, 70).map(lambda one: round(one, 3)))] * 4)
ROW = st.tuples(st.sampled_from([A, B]), st.sampled_from(["Edema", "Pneumonia", ""]), st.sampled_from("xyz"), BOXES)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, max_size=12))
def test_every_row_is_a_box_or_an_entry(shared_root: Path, rows: list[tuple[str, str, str, Any]]) -> None:
    write_rows(shared_root, *(cells(image_id, label, text, box, "train") for image_id, label, text, box in rows))
    dataset = read(shared_root)
    left_out = {"box_degenerate", "box_outside_image", "duplicate_row"}
    boxes = sum(len(instance.boxes) for instance in dataset.instances)
    assert boxes + sum(entry.reason in left_out for entry in dataset.skipped) == len(rows)
    phrases = len(dataset.instances) + sum(entry.reason == "no_valid_box" for entry in dataset.skipped)
    assert phrases == len({(image_id, text) for image_id, _, text, _ in rows})
    for instance in dataset.instances:
        assert all(0 <= box.x1 < box.x2 <= 60 and 0 <= box.y1 < box.y2 <= 48 for box in instance.boxes)
