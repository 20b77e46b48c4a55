"""The reader of the RSNA pneumonia challenge, on a small copy of the published tree."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import rsna_pneumonia
from trees.rsna_pneumonia import FOLDER, HEADER, NUMERIC, TABLE, A, B, C, D, E, F

from wronglung.benchmark.datasets.rsna_pneumonia import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return rsna_pneumonia.write(tmp_path / "data" / "rsna-pneumonia-detection-challenge")


def ledger(dataset: Dataset) -> list[tuple[str, str]]:
    """Reason (with * for what was repaired) and place, without the note of each film that it is a shrunk copy."""
    entries = [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped]
    return [entry for entry in entries if entry[0] != "size_mismatch*"]


def write_rows(root: Path, *rows: str, header: str = HEADER) -> None:
    (root / TABLE).write_text("\n".join((header, *rows, "")), encoding="utf-8")


def test_every_film_with_boxes_is_an_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "rsna-pneumonia"
    assert [(one.id, one.image_id, one.boxes) for one in dataset.instances] == [
        (
            f"{A}_pneumonia",
            A,
            (Box("pneumonia", 16.5, 9.5, 29.8125, 33.1875), Box("pneumonia", 35.125, 9.5, 51.125, 37.8125)),
        ),
        (f"{NUMERIC}_pneumonia", NUMERIC, (Box("pneumonia", 60, 0, 64, 4),)),
        (f"{C}_pneumonia", C, (Box("pneumonia", 16, 24, 32, 32),)),
    ]
    for instance in dataset.instances:
        assert instance.sentence == "There is pneumonia."
        assert instance.findings == (Finding("pneumonia", "yes", ""),)
        assert (instance.patient_id, instance.study_id, instance.split) == (None, None, None)
        assert instance.image.load().size == (64, 64)


def test_every_entry_of_the_ledger_of_the_tree(root: Path) -> None:
    dataset = read(root)
    assert [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped] == [
        ("duplicate_row*", f"{TABLE}:6"),
        ("category_missing", f"{TABLE}:14"),
        ("no_annotation", TABLE),
        ("size_mismatch*", A),
        ("size_mismatch*", NUMERIC),
        ("box_clipped*", f"{TABLE}:7"),
        ("size_mismatch*", C),
        ("box_flipped*", f"{TABLE}:8"),
        ("box_degenerate", f"{TABLE}:9"),
        ("box_outside_image", f"{TABLE}:10"),
        ("box_missing", f"{TABLE}:11"),
        ("size_mismatch*", D),
        ("box_degenerate", f"{TABLE}:12"),
        ("no_valid_box", f"{D}_pneumonia"),
        ("image_missing", E),
    ]


def test_films_without_a_box_are_one_entry(root: Path) -> None:
    details = [entry.detail for entry in read(root).skipped if entry.reason == "no_annotation"]
    assert details == ["2 films without a box (Target is 0)"]
    write_rows(root, f"{A},,,,,0", f"{B},nan,nan,nan,nan,0.0", f"{B},,,,,0", f"{A},0,0,512,512,1")
    dataset = read(root)
    assert [one.image_id for one in dataset.instances] == [A]
    assert [entry.detail for entry in dataset.skipped if entry.reason == "no_annotation"] == [
        "1 film without a box (Target is 0)"
    ]


def test_the_regions_of_a_film_are_its_boxes(root: Path) -> None:
    dataset = read(root)
    assert dataset.regions == {**{one.image_id: one.boxes for one in dataset.instances}, D: ()}


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("there-is", "There is pneumonia."),
        ("findings-suggesting", "Findings suggesting pneumonia."),
        ("phrase", "Pneumonia"),
        ("{finding} is seen", "Pneumonia is seen"),
    ],
)
def test_the_sentence_is_made_by_a_prompt(root: Path, prompt: str, sentence: str) -> None:
    assert {one.sentence for one in read(root, prompt=prompt).instances} == {sentence}


def test_a_prompt_without_a_place_for_the_finding_is_refused(root: Path) -> None:
    with pytest.raises(WronglungError, match="prompt='pneumonia': must be one of there-is, .* {finding} once in it"):
        read(root, prompt="pneumonia")


def test_films_of_the_published_size_need_no_repair(root: Path) -> None:
    (root / FOLDER / f"{A}.dcm").unlink()
    Image.new("L", (1024, 1024)).save(root / FOLDER / f"{A}.png")
    write_rows(root, f"{A},264.0,152.0,213.0,379.0,1")
    dataset = read(root)
    assert dataset.instances[0].boxes == (Box("pneumonia", 264, 152, 477, 531),)
    assert dataset.skipped == ()


def test_a_cropped_film_is_left_out(root: Path) -> None:
    (root / FOLDER / f"{A}.dcm").unlink()
    Image.new("L", (60, 48)).save(root / FOLDER / f"{A}.png")
    dataset = read(root)
    assert ("size_mismatch", A) in ledger(dataset)
    assert A not in dataset.regions


def test_inverted_films_are_turned(root: Path) -> None:
    images = {one.image_id: np.asarray(one.image.load()).astype(int) for one in read(root).instances}
    assert np.array_equal(images[C], 255 - images[A])
    assert images[A][0, 0] == 0


@pytest.mark.parametrize("place", ["", "..", "../..", TABLE, FOLDER])
def test_the_ways_of_pointing_at_it(root: Path, place: str) -> None:
    assert read(root / place).fingerprint == read(root).fingerprint


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_the_table_compressed(root: Path, suffix: str) -> None:
    whole = read(root)
    content = (root / TABLE).read_bytes()
    (root / TABLE).unlink()
    if suffix == ".gz":
        (root / f"{TABLE}.gz").write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(root / f"{TABLE}.zip", "w") as archive:
            archive.writestr(TABLE, content)
    assert read(root).fingerprint == whole.fingerprint
    assert [one for one, _ in ledger(read(root))] == [one for one, _ in ledger(whole)]


def test_the_table_under_another_name(root: Path) -> None:
    assert len(read((root / TABLE).rename(root / "train.csv")).instances) == 3


def test_copies_in_any_folder_and_format(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copies"
    (elsewhere / "a/b").mkdir(parents=True)
    whole = read(root).fingerprint
    for film in sorted((root / FOLDER).iterdir()):
        Image.new("L", (64, 64)).save(elsewhere / ("a/b" if film.stem == A else "a") / f"{film.stem}.jpg")
        film.unlink()
    with pytest.raises(
        WronglungError,
        match=f"{FOLDER} .*: none of the 5 images that are needed is in there; .* with the argument images",
    ):
        read(root)
    dataset = read(root, images=elsewhere)
    assert dataset.fingerprint == whole
    assert {one.image.path.suffix for one in dataset.instances} == {".jpg"}
    with pytest.raises(WronglungError, match="copies/none: is not a folder; images is the folder"):
        read(root, images=elsewhere / "none")
    (elsewhere / "a").rename(root / "films")
    assert read(root).fingerprint == whole


def test_tables_and_films_in_folders_beside_each_other(root: Path) -> None:
    (root / "labels").mkdir()
    (root / TABLE).rename(root / "labels" / TABLE)
    assert len(read(root).instances) == 3
    assert len(read(root / "labels").instances) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",1,2,3,4,1", "image_missing"),
        (f"{A},1,2,3,4,0", "category_missing"),
        (f"{A},,,,,", "category_missing"),
        (f"{A},1,2,3,4,2", "category_missing"),
        (f"{A},1,2,3,4,yes", "category_missing"),
        (f"{A},one,2,3,4,1", "box_missing"),
        (f"{A},1,2,3,inf,1", "box_missing"),
        (f'{A},"1,2",2,3,4,1', "box_missing"),
        (f"{A},nan,nan,nan,nan,1", "box_missing"),
    ],
)
def test_a_bad_row_goes_to_the_ledger(root: Path, row: str, reason: str) -> None:
    write_rows(root, row, f"{A},512,512,256,256,1")
    dataset = read(root)
    assert [one.boxes for one in dataset.instances] == [(Box("pneumonia", 32, 32, 48, 48),)]
    assert ledger(dataset) == [(reason, f"{TABLE}:2")]


def test_ids_that_carry_the_suffix_of_their_file(root: Path) -> None:
    write_rows(root, f"{A}.dcm,512,512,256,256,1.0", f"{NUMERIC},5.12e2,512,256,256,01")
    dataset = read(root)
    assert [one.id for one in dataset.instances] == [f"{A}_pneumonia"]
    assert ledger(dataset) == [("category_missing", f"{TABLE}:3")]


@pytest.mark.parametrize("name", ["../secret", "/secret", "..\\secret", f"../{FOLDER}/{A}", f"link{A}"])
def test_no_film_leads_out_of_the_folder(root: Path, name: str) -> None:
    (root / FOLDER / f"{D}.dcm").rename(root / "secret.dcm")
    (root / FOLDER / f"link{A}.dcm").symlink_to(root / "secret.dcm")
    write_rows(root, f"{name},512,512,256,256,1", f"{A},512,512,256,256,1")
    dataset = read(root)
    assert [one.image_id for one in dataset.instances] == [A]
    assert ledger(dataset) == [("path_outside_root", name)]


def test_a_damaged_film_goes_to_the_ledger(root: Path) -> None:
    (root / FOLDER / f"{A}.dcm").write_bytes(b"no film")
    dataset = read(root)
    assert ("image_unreadable", A) in ledger(dataset)
    assert [one.image_id for one in dataset.instances] == [NUMERIC, C]


def test_without_the_table(root: Path) -> None:
    (root / TABLE).unlink()
    with pytest.raises(
        WronglungError, match=r"no RSNA pneumonia challenge found; looked for stage_2_train_labels\.csv in"
    ):
        read(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"patientId,Target\n", "no column x and no column y and no column width and no column height"),
        (HEADER.encode() + b"\n1,2\n", r"labels\.csv:2: 2 cells under 6 column names"),
        (HEADER.encode() + b"\n\xff,,,,,0\n", "not UTF-8"),
        (HEADER.encode() + b"\n\0,,,,,0\n", "NUL byte"),
    ],
)
def test_a_damaged_table_is_one_error(root: Path, content: bytes, message: str) -> None:
    (root / TABLE).write_bytes(content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert TABLE in str(caught.value)


def test_a_table_of_films_without_boxes_needs_no_films(root: Path) -> None:
    write_rows(root, f"{F},,,,,0")
    dataset = read(root)
    assert dataset.instances == ()
    assert ledger(dataset) == [("no_annotation", TABLE)]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rsna_pneumonia.write(tmp_path_factory.mktemp("rsna"))


NUMBER = st.integers(-1100, 1100)
ROW = st.tuples(st.sampled_from([A, B]), NUMBER, NUMBER, NUMBER, NUMBER)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=8))
def test_every_row_is_a_box_or_an_entry(shared_root: Path, rows: list[tuple[str, int, int, int, int]]) -> None:
    write_rows(shared_root, *(f"{image_id},{x}.0,{y}.0,{w}.0,{h}.0,1" for image_id, x, y, w, h in rows))
    dataset = read(shared_root)
    left_out = {"box_degenerate", "box_outside_image", "duplicate_row"}
    boxes = [box for instance in dataset.instances for box in instance.boxes]
    assert len(boxes) + sum(entry.reason in left_out for entry in dataset.skipped) == len(rows)
    left_out_films = sum(entry.reason == "no_valid_box" for entry in dataset.skipped)
    assert len(dataset.instances) + left_out_films == len({row[0] for row in rows})
    assert all(0 <= box.x1 < box.x2 <= 64 and 0 <= box.y1 < box.y2 <= 64 for box in boxes)
