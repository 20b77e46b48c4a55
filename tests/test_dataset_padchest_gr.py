"""The PadChest-GR reader, on a small copy of the published tree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import padchest_gr
from trees.padchest_gr import COLUMNS, IMAGES, REPORTS, STUDIES

from wronglung.benchmark.datasets.padchest_gr import Language, Reader, read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding

A, B, C, D = (image.removesuffix(".png") for image in IMAGES)
GROUND_GLASS = "ground glass pattern, interstitial pattern"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return padchest_gr.write(tmp_path / "data" / "PadChest-GR")


def ledger(dataset: Dataset) -> list[tuple[str, str]]:
    """Reason (with * for what was repaired) and place of each entry."""
    return [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped]


def write_findings(root: Path, *findings: dict[str, Any], image: str = IMAGES[0]) -> None:
    """Replace the reports by these sentences of one film."""
    study = {"StudyID": STUDIES[0], "ImageID": image, "findings": list(findings)}
    (root / REPORTS).write_text(json.dumps([study]), encoding="utf-8")


def said(text: str = "x", **more: Any) -> dict[str, Any]:
    return {"sentence_en": text, "abnormal": True, "boxes": [[0, 0, 0.5, 0.5]], "labels": ["mass"], **more}


def yes(*labels: str) -> tuple[Finding, ...]:
    return tuple(Finding(label, "yes", "") for label in labels)


def test_every_sentence_of_the_tree(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "padchest-gr"
    first, second = (STUDIES[0], "0042", "train"), (STUDIES[1], "77", "validation")
    assert [
        (one.id, one.image_id, one.sentence, one.findings, (one.study_id, one.patient_id, one.split))
        for one in dataset.instances
    ] == [
        (f"{A}_sent_1", A, "Right basal infiltrate.", yes("infiltrates"), first),
        (
            f"{A}_sent_2", A, ' Bilateral "ground glass",\nmore on the left. ',
            yes("ground glass pattern", "interstitial pattern"), first,
        ),
        (f"{A}_sent_4", A, "Heart of normal size.", (Finding("normal", "yes", ""),), first),
        (f"{B}_sent_0", B, "Nodule.", yes("nodule", "pseudonodule"), second),
        (f"{B}_sent_2", B, "Catheter.", yes("abnormal"), second),
    ]  # fmt: skip
    assert [one.is_abnormal for one in dataset.instances] == [True, True, False, True, True]


def test_boxes_are_scaled_to_the_films_own_size(root: Path) -> None:
    boxes = [one.boxes for one in read(root).instances]
    assert boxes == [
        (Box("infiltrates", 6, 24, 24, 36),),
        (
            Box(GROUND_GLASS, 6, 6, 24, 42),
            Box(GROUND_GLASS, 36, 6, 54, 42),
        ),
        (Box("", 18, 24, 42, 42),),
        (Box("pseudonodule", 10, 10, 20, 25),),
        (Box("", 30, 0, 40, 25),),
    ]


def test_every_entry_of_the_ledger_of_the_tree(root: Path) -> None:
    assert ledger(read(root)) == [
        ("duplicate_row*", f"{A}_sent_3"),
        ("no_annotation", D),
        ("sentence_without_annotation", f"{A}_sent_0"),
        ("duplicate_row*", f"{A}_sent_2"),
        ("box_degenerate", f"{B}_sent_0"),
        ("box_flipped*", f"{B}_sent_1"),
        ("box_clipped*", f"{B}_sent_2"),
        ("box_missing", f"{B}_sent_3"),
        ("box_missing", f"{B}_sent_3"),
        ("box_outside_image", f"{B}_sent_3"),
        ("no_valid_box", f"{B}_sent_3"),
        ("image_missing", C),
        ("metadata_missing*", D),
    ]


def test_the_regions_of_a_film_are_the_boxes_of_its_sentences(root: Path) -> None:
    dataset = read(root)
    assert list(dataset.regions) == [A, B, D]
    for image_id, boxes in dataset.regions.items():
        own = [box for instance in dataset.instances if instance.image_id == image_id for box in instance.boxes]
        assert boxes == tuple(own)


def test_films_of_16_bits_are_scaled_to_8(root: Path) -> None:
    pixels = np.asarray(read(root).instances[0].image.load())
    assert (str(pixels.dtype), *pixels.shape) == ("uint8", 48, 60)
    assert np.all(np.diff(pixels.ravel().astype(int)) >= 0), "a ramp stays one: nothing wraps"
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_in_spanish(root: Path) -> None:
    dataset = read(root, language="es")
    assert [(one.id, one.sentence) for one in dataset.instances] == [
        (f"{A}_sent_1", "Infiltrado basal derecho."),
        (f"{A}_sent_2", "Vidrio deslustrado bilateral, más a la izquierda."),
        (f"{A}_sent_4", "Corazón de tamaño normal."),
        (f"{B}_sent_1", "Nódulo superior."),
    ]
    assert [entry for entry in ledger(dataset) if entry[0] in ("sentence_missing", "no_valid_box")] == [
        ("sentence_missing", f"{B}_sent_2"),
        ("no_valid_box", f"{B}_sent_0"),
        ("no_valid_box", f"{B}_sent_3"),
    ]


def test_the_second_readers_boxes(root: Path) -> None:
    dataset = read(root, boxes="second")
    (instance,) = dataset.instances
    assert instance.id == f"{A}_sent_1"
    assert instance.boxes == (Box("infiltrates", 9, 24, 24, 36), Box("infiltrates", 30, 24, 45, 48))
    unread = [where for reason, where in ledger(dataset) if reason == "sentence_without_annotation"]
    assert unread == [f"{A}_sent_{at}" for at in (0, 2, 4)] + [f"{B}_sent_{at}" for at in (0, 2, 3)]


@pytest.mark.parametrize("place", ["", "..", REPORTS, "PadChest_GR"])
def test_the_ways_of_pointing_at_it(root: Path, place: str) -> None:
    assert read(root / place).fingerprint == read(root).fingerprint


def test_two_levels_above(root: Path) -> None:
    assert len(read(root.parent.parent).instances) == 5


def test_the_newest_date_counts(root: Path) -> None:
    (root / "grounded_reports_20251231.json").write_text((root / REPORTS).read_text("utf-8-sig"), encoding="utf-8")
    (root / REPORTS).write_text("[]")
    assert len(read(root).instances) == 5
    assert read(root / "grounded_reports_20240101.json").instances == ()


def test_reports_and_films_in_folders_of_other_names(root: Path) -> None:
    (root / "PadChest_GR").rename(root / "films")
    whole = read(root).fingerprint
    (root / "films/a/b").mkdir(parents=True)
    (root / "films" / IMAGES[0]).rename(root / "films/a" / IMAGES[0])
    assert read(root).fingerprint == whole
    (root / "annotations").mkdir()
    (root / REPORTS).rename(root / "annotations" / REPORTS)
    (root / "grounded_reports_20240101.json").unlink()
    assert read(root).fingerprint == whole
    with pytest.raises(WronglungError, match="films: no PadChest-GR found"):
        read(root / "films")


def test_films_elsewhere_in_another_format_and_size(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copies"
    elsewhere.mkdir()
    for film in sorted((root / "PadChest_GR").iterdir()):
        Image.new("L", (120, 96)).save(elsewhere / f"{film.stem}.jpg")
        film.unlink()
    with pytest.raises(
        WronglungError,
        match="PadChest_GR .*: none of the 4 images that are needed is in there; .* with the argument images",
    ):
        read(root)
    dataset = read(root, images=elsewhere)
    assert dataset.instances[0].boxes == (Box("infiltrates", 12, 48, 48, 72),)
    assert {one.image.path.suffix for one in dataset.instances} == {".jpg"}
    with pytest.raises(
        WronglungError, match="copies/none: is not a folder; images is the folder in which the images are"
    ):
        read(root, images=elsewhere / "none")


def test_without_the_master_table(root: Path) -> None:
    (root / "master_table.csv.zip").unlink()
    dataset = read(root)
    assert {(one.study_id, one.patient_id, one.split) for one in dataset.instances} == {
        (STUDIES[0], None, None),
        (STUDIES[1], None, None),
    }
    assert [entry for entry in ledger(dataset) if entry[0] == "metadata_missing*"] == [
        ("metadata_missing*", "master_table.csv")
    ]


@pytest.mark.parametrize("name", ["master_table.csv", "master_table.csv.gz"])
def test_the_master_table_plain_and_gzipped(root: Path, name: str) -> None:
    (root / "master_table.csv.zip").unlink()
    text = f"\ufeffsplit,PatientID,StudyID\r\ntest,0042.0,{STUDIES[0]}.0\r\n,,{STUDIES[1]}\r\n".encode()
    (root / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    patients = {one.study_id: (one.patient_id, one.split) for one in read(root).instances}
    assert patients == {STUDIES[0]: ("0042", "test"), STUDIES[1]: (None, None)}


def test_the_first_row_of_a_study_counts(root: Path) -> None:
    padchest_gr.write_master_table(root, (STUDIES[0], IMAGES[0], "43", "test", "", "", ""))
    dataset = read(root)
    assert (dataset.instances[0].patient_id, dataset.instances[0].split) == ("0042", "train")
    assert ("row_contradicts*", "master_table.csv.zip:7") in ledger(dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"StudyID,label\n", "no column PatientID and no column split"),
        (",".join(COLUMNS).encode() + b"\n1\n", r"master_table\.csv:2: 1 cells under 7"),
    ],
)
def test_a_damaged_master_table_is_one_error(root: Path, content: bytes, message: str) -> None:
    (root / "master_table.csv.zip").unlink()
    (root / "master_table.csv").write_bytes(content)
    with pytest.raises(WronglungError, match=message):
        read(root)


def test_a_sentence_that_stands_twice_is_one_instance_with_all_its_boxes(root: Path) -> None:
    write_findings(root, said(), said(boxes=[[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]]), said("y"))
    dataset = read(root)
    assert [(one.id, one.boxes) for one in dataset.instances] == [
        (f"{A}_sent_0", (Box("mass", 0, 0, 30, 24), Box("mass", 30, 24, 60, 48))),
        (f"{A}_sent_2", (Box("mass", 0, 0, 30, 24),)),
    ]
    assert ledger(dataset) == [("duplicate_row*", f"{A}_sent_1")]


def test_findings_by_what_a_sentence_is_marked_as(root: Path) -> None:
    write_findings(
        root,
        said("a", labels=["Pleural Effusion", " mass ", ""]),
        said("b", labels=None),
        said("c", abnormal=False),
        said("d", abnormal=False, labels=[]),
        said("e", abnormal=None),
    )
    assert [(one.boxes[0].name, one.findings) for one in read(root).instances] == [
        ("pleural effusion, mass", yes("pleural effusion", "mass")),
        ("", yes("abnormal")),
        ("", (Finding("mass", "no", ""),)),
        ("", ()),
        ("", ()),
    ]


def test_all_but_the_sentence_may_be_absent(root: Path) -> None:
    write_findings(root, {"sentence_en": "x"}, {}, {"sentence_en": " "}, {"sentence_en": "y", "boxes": None, "new": 1})
    assert ledger(read(root)) == [
        ("sentence_missing", f"{A}_sent_1"),
        ("sentence_missing", f"{A}_sent_2"),
        ("sentence_without_annotation", f"{A}_sent_0"),
        ("sentence_without_annotation", f"{A}_sent_3"),
    ]


def test_studies_may_share_a_film_only_when_they_are_one(root: Path) -> None:
    entry = {"StudyID": STUDIES[0], "ImageID": IMAGES[0], "findings": [said()]}
    entries = [entry, {**entry, "findings": [said("y")]}, {**entry, "StudyID": 7}]
    (root / REPORTS).write_text(json.dumps(entries))
    dataset = read(root)
    assert [(one.id, one.sentence) for one in dataset.instances] == [(f"{A}_sent_0", "x"), (f"{A}_sent_1", "y")]
    assert ledger(dataset) == [("row_contradicts", "entry [2]")]


def test_films_that_differ_in_the_suffix_alone_keep_it_in_their_ids(root: Path) -> None:
    names = [IMAGES[0], f"{A}.jpg"]
    entries = [{"StudyID": 5, "ImageID": name, "findings": [said()]} for name in names]
    (root / REPORTS).write_text(json.dumps(entries))
    assert [one.id for one in read(root).instances] == [f"{name}_sent_0" for name in names]


@pytest.mark.parametrize("name", ["../secret.png", "/secret.png", "..\\secret.png", "a\0.png", "link.png", "."])
def test_no_film_leads_out_of_the_folder(root: Path, name: str) -> None:
    Image.new("L", (60, 48)).save(root / "secret.png")
    (root / "PadChest_GR/link.png").symlink_to(root / "secret.png")
    entries = [{"StudyID": 5, "ImageID": one, "findings": [said()]} for one in (name, IMAGES[0])]
    (root / REPORTS).write_text(json.dumps(entries))
    dataset = read(root)
    assert [one.image_id for one in dataset.instances] == [A]
    reason = "image_missing" if name == "." else "path_outside_root"
    assert [entry for entry in ledger(dataset) if entry[0] != "metadata_missing*"] == [
        (reason, name.removesuffix(".png"))
    ]


def test_a_damaged_film_goes_to_the_ledger(root: Path) -> None:
    (root / "PadChest_GR" / IMAGES[0]).write_bytes(b"no image")
    dataset = read(root)
    assert ("image_unreadable", A) in ledger(dataset)
    assert {one.image_id for one in dataset.instances} == {B}


def test_without_reports(root: Path) -> None:
    for file in root.glob("*.json"):
        file.unlink()
    with pytest.raises(
        WronglungError, match=r"no PadChest-GR found; looked for grounded_reports_\*\.json in this folder"
    ):
        read(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"{}", "the document: "),
        (b'[{"StudyID": "1"}]', r"\[0\]\.ImageID: missing"),
        (
            b'[{"StudyID": "1", "ImageID": "a.png", "findings": [{"boxes": [0.1]}]}]',
            r"\[0\]\.findings\[0\]\.boxes\[0\]: ",
        ),
        (
            b'[{"StudyID": "1", "ImageID": "a.png", "findings": [{"abnormal": "yes"}]}]',
            r"\[0\]\.findings\[0\]\.abnormal: ",
        ),
        (b"[\n\xe9]", r"\.json:2: not UTF-8"),
    ],
)
def test_damaged_reports_are_one_error(root: Path, content: bytes, message: str) -> None:
    (root / REPORTS).write_bytes(content)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert REPORTS in str(caught.value)


def test_arguments_are_checked(root: Path) -> None:
    assert (get_args(Language), get_args(Reader)) == (("en", "es"), ("first", "second"))
    with pytest.raises(WronglungError, match="language='fr': must be one of en, es"):
        read(root, language="fr")  # type: ignore[arg-type]
    with pytest.raises(WronglungError, match="boxes='both': must be one of first, second"):
        read(root, boxes="both")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return padchest_gr.write(tmp_path_factory.mktemp("padchest"))


CORNER = st.one_of(st.none(), st.floats(-0.5, 1.5), st.sampled_from([0, 1, float("nan"), float("inf")]))
BOXES = st.lists(st.one_of(st.none(), st.lists(CORNER, min_size=3, max_size=5)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(sentences=st.lists(BOXES, max_size=4))
def test_every_box_is_valid_or_an_entry(shared_root: Path, sentences: list[list[list[float | None] | None]]) -> None:
    write_findings(shared_root, *(said(str(at), boxes=boxes) for at, boxes in enumerate(sentences)))
    dataset = read(shared_root)
    left_out = {"box_missing", "box_degenerate", "box_outside_image", "duplicate_row"}
    boxes = [box for instance in dataset.instances for box in instance.boxes]
    assert len(boxes) + sum(entry.reason in left_out for entry in dataset.skipped) == sum(map(len, sentences))
    without = {"no_valid_box", "sentence_without_annotation"}
    assert len(dataset.instances) + sum(entry.reason in without for entry in dataset.skipped) == len(sentences)
    assert all(0 <= box.x1 < box.x2 <= 60 and 0 <= box.y1 < box.y2 <= 48 for box in boxes)
