"""The covid-lungs reader, on trees that the tests write and on the reduced copy of the data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wronglung.benchmark.anatomy import parent_lung
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.covid_lungs import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding

RIGHT = [10, 20, 30, 60]
LEFT = [50, 15, 35, 66]


def film(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": sum(map(ord, name)), "file_name": name, "width": 100, "height": 90, "license": 1, **changes}


def lungs(name: str, right: Any = RIGHT, left: Any = LEFT) -> list[dict[str, Any]]:
    image_id = film(name)["id"]
    common = {"image_id": image_id, "iscrowd": 0, "segmentation": []}
    return [
        {"id": image_id * 10, "category_id": 1, "bbox": right, **common},
        {"id": image_id * 10 + 1, "category_id": 2, "bbox": left, **common},
    ]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the layout of the collection: films, their annotations, and the notes by file name."""

    def write(
        notes: dict[str, str] | None,
        *,
        films: list[dict[str, Any]] | None = None,
        annotations: list[dict[str, Any]] | None = None,
        columns: dict[str, dict[str, str]] | None = None,
    ) -> Path:
        names = list(notes or {})
        films = [film(name) for name in names] if films is None else films
        drawn = [one for name in names for one in lungs(name)] if annotations is None else annotations
        for folder in ("images", "annotations"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for entry in films:
            if not (tmp_path / "images" / entry["file_name"]).exists():
                Image.new("L", (100, 90)).save(tmp_path / "images" / entry["file_name"])
        document = {
            "categories": [{"id": 1, "name": "Right Lung"}, {"id": 2, "name": "Left Lung"}],
            "images": films,
            "annotations": drawn,
        }
        (tmp_path / "annotations" / "annotations.json").write_text(json.dumps(document))
        if notes is not None:
            with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, ["patientid", "filename", "view", "clinical_notes", ""])
                table.writeheader()
                for name, text in notes.items():
                    extra = (columns or {}).get(name, {})
                    table.writerow({"filename": name, "clinical_notes": text, "patientid": "311a", **extra})
        return tmp_path

    return write


def reasons(dataset: Dataset) -> list[tuple[str, str]]:
    return [(entry.reason + "*" * entry.repaired, entry.where) for entry in dataset.skipped]


def test_a_sentence_that_names_a_lung_is_an_instance_with_its_box(write: Write) -> None:
    dataset = read(write({"a.jpg": "Cough. Left lung consolidation."}))
    (instance,) = dataset.instances
    assert instance.id == "a_sent_1"
    assert instance.sentence == "Left lung consolidation."
    assert (instance.image_id, instance.study_id, instance.patient_id, instance.split) == ("a", "a", "311a", None)
    assert instance.boxes == (Box("left lung", 50, 15, 85, 81),)
    assert instance.findings == (Finding("consolidation", "yes", "left lung"), Finding("abnormal", "yes", "left lung"))
    assert reasons(dataset) == [("sentence_without_region", "a_sent_0")]


def test_a_zone_is_a_third_of_its_lung_and_its_findings_hold_for_the_lung(write: Write) -> None:
    (instance,) = read(write({"a.jpg": "Right upper lobe and left lower zone opacity."})).instances
    assert instance.boxes == (Box("right upper lung zone", 10, 20, 40, 40), Box("left lower lung zone", 50, 59, 85, 81))
    assert instance.regions == {"right lung", "right upper lung zone", "left lung", "left lower lung zone"}


def test_an_apical_zone_lies_in_the_upper_zone(write: Write) -> None:
    (instance,) = read(write({"a.jpg": "Nodule in the right apical zone."})).instances
    assert [box.name for box in instance.boxes] == ["right upper lung zone"]
    assert instance.regions == {"right lung", "right upper lung zone"}


def test_all_regions_of_every_image_are_known(write: Write) -> None:
    dataset = read(write({"a.jpg": "", "b.jpg": "Cough."}))
    assert list(dataset.regions) == ["a", "b"]
    assert [box.name for box in dataset.regions["a"]] == [
        "right lung",
        "right upper lung zone",
        "right mid lung zone",
        "right lower lung zone",
        "left lung",
        "left upper lung zone",
        "left mid lung zone",
        "left lower lung zone",
    ]
    right, *zones = dataset.regions["a"][:4]
    assert [zone.y1 for zone in zones] == [20, 40, 60]
    assert zones[-1].y2 == right.y2 == 80


def test_only_regions_with_a_box_are_findings(write: Write) -> None:
    (instance,) = read(write({"a.jpg": "Left effusion with blunting of the left costophrenic angle."})).instances
    assert instance.regions == {"left lung"}


def test_every_usual_image_format_is_read_and_names_its_image_alike(write: Write) -> None:
    names = ["b.png", "c.jpeg", "a.jpg", "D.JPG"]
    dataset = read(write(dict.fromkeys(names, "Left effusion.")))
    assert [one.id for one in dataset.instances] == ["b_sent_0", "c_sent_0", "a_sent_0", "D_sent_0"]


def test_notes_may_stand_in_the_annotations_instead_of_a_table(write: Write) -> None:
    facts = {"patientid": 12, "view": "PA", "clinical_notes": "Left effusion."}
    root = write(None, films=[film("a.jpg", metadata=facts)], annotations=lungs("a.jpg"))
    (instance,) = read(root).instances
    assert instance.patient_id == "12"


def test_a_shrunk_copy_is_joined_by_the_original_file_name_too(write: Write) -> None:
    root = write(
        {"a.png": "Left effusion."}, films=[film("a.jpg", original_file_name="a.png")], annotations=lungs("a.jpg")
    )
    assert [one.id for one in read(root).instances] == ["a_sent_0"]


def test_a_table_that_went_through_a_spreadsheet(write: Write) -> None:
    root = write({"a.jpg": "Left effusion,\nlarge.", "b.jpg": 'A "white-out" of the right lung.'})
    table = root / "metadata.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert [one.sentence for one in read(root).instances] == [
        "Left effusion,\nlarge.",
        'A "white-out" of the right lung.',
    ]


def test_the_first_of_two_rows_of_a_film_counts(write: Write) -> None:
    root = write({"a.jpg": "Left effusion."})
    with (root / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write("311a,a.jpg,PA,Right effusion.,\n")
    dataset = read(root)
    assert [one.sentence for one in dataset.instances] == ["Left effusion."]
    assert reasons(dataset) == [("duplicate_row*", "metadata.csv:3")]


def test_boxes_follow_a_shrunk_image_and_a_cropped_one_is_left_out(write: Write) -> None:
    notes = dict.fromkeys(("a.jpg", "b.jpg"), "Left effusion.")
    films = [film("a.jpg", width=1000, height=900), film("b.jpg", width=1000, height=1000)]
    dataset = read(write(notes, films=films, annotations=[*lungs("a.jpg", left=[500, 150, 350, 660]), *lungs("b.jpg")]))
    (instance,) = dataset.instances
    assert instance.boxes == (Box("left lung", 50, 15, 85, 81),)
    assert reasons(dataset) == [("size_mismatch*", "a"), ("size_mismatch", "b")]


def test_what_is_left_out_is_reported(write: Write) -> None:
    names = ("missing.jpg", "text.jpg", "lateral.jpg", "silent.jpg", "boxless.jpg", "half.jpg", "good.jpg")
    root = write(
        {**dict.fromkeys(names, "Bilateral opacities. Left effusion. Left effusion."), "silent.jpg": " "},
        films=[film(name) for name in (*names, "unlisted.jpg")],
        annotations=[
            *(one for name in names[:4] for one in lungs(name)),
            lungs("half.jpg")[1],
            {"image_id": film("half.jpg")["id"], "bbox": RIGHT, "id": 850},
            *lungs("good.jpg"),
            {"image_id": 7, "bbox": RIGHT},
        ],
        columns={"lateral.jpg": {"view": "L"}},
    )
    (root / "images" / "missing.jpg").unlink()
    (root / "images" / "text.jpg").write_text("text")
    dataset = read(root)
    assert [one.id for one in dataset.instances] == ["half_sent_1", "good_sent_0", "good_sent_1"]
    assert reasons(dataset) == [
        ("image_missing", "annotations[12]"),
        ("image_missing", "missing"),
        ("image_unreadable", "text"),
        ("view_not_frontal", "lateral"),
        ("no_annotation", "boxless"),
        ("category_missing", "half, annotation 850"),
        ("metadata_missing", "unlisted"),
        ("no_annotation", "silent"),
        ("region_without_box", "half_sent_0"),
        ("duplicate_row*", "half_sent_2"),
        ("duplicate_row*", "good_sent_2"),
    ]


def test_broken_boxes_go_to_the_ledger(write: Write) -> None:
    notes = dict.fromkeys(("a.jpg", "b.jpg", "c.jpg", "d.jpg"), "Left effusion.")
    boxes = [
        *lungs("a.jpg", left=None),
        *lungs("b.jpg", left=[50, 15, 0, 66]),
        *lungs("c.jpg", left=[50, 15, 60, 66]),
        *lungs("d.jpg"),
        *lungs("d.jpg"),
    ]
    dataset = read(write(notes, annotations=boxes))
    assert [one.id for one in dataset.instances] == ["c_sent_0", "d_sent_0"]
    assert [reason for reason, _ in reasons(dataset)] == [
        "box_missing",
        "box_degenerate",
        "box_clipped*",
        "duplicate_row*",
        "duplicate_row*",
        "region_without_box",
        "region_without_box",
    ]


def test_no_path_leads_out_of_the_root(write: Write, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "c.jpg"
    Image.new("L", (100, 90)).save(elsewhere)
    names = ["../images/a.jpg", str(elsewhere), "link.jpg", "a.jpg"]
    root = write({"a.jpg": "Left effusion."})
    (root / "images" / "link.jpg").symlink_to(elsewhere)
    root = write(
        dict.fromkeys(names, "Left effusion."),
        films=[film(name) for name in names],
        annotations=[one for name in names for one in lungs(name)],
    )
    dataset = read(root)
    assert [one.id for one in dataset.instances] == ["a_sent_0"]
    assert [reason for reason, _ in reasons(dataset)] == ["path_outside_root"] * 3


def test_what_is_missing_is_said(write: Write, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="does not exist; give its folder"):
        load_dataset("covid-lungs", tmp_path / "none")
    with pytest.raises(WronglungError, match=r"no annotations/annotations\.json and no images; expected"):
        read(tmp_path)
    root = write({"a.jpg": "Left effusion."})
    (root / "metadata.csv").unlink()
    with pytest.raises(WronglungError, match=r"metadata\.csv does not exist, and the annotations hold no metadata"):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the document: "),
        ('{"images": [], "annotations": []}', "categories: missing"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\]\.file_name: missing"),
        ('{"images": [], "annotations": [{"image_id": "x"}], "categories": []}', r"annotations\[0\]\.image_id: "),
        (
            json.dumps({"images": [film("a.jpg"), film("a.jpg")], "annotations": [], "categories": []}),
            r"images\[1\]\.id: \d+ occurs twice",
        ),
    ],
)
def test_a_broken_annotation_file_is_one_error(write: Write, text: str, message: str) -> None:
    root = write({"a.jpg": "Left effusion."})
    (root / "annotations" / "annotations.json").write_text(text)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert "annotations.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "no column clinical_notes and no column filename"),
        (b"filename,notes\na.jpg,x\n", "no column clinical_notes"),
        (b"filename,clinical_notes\na.jpg,fi\xe8vre\n", r"metadata\.csv:2: not UTF-8"),
        (b"filename,clinical_notes\na.jpg," + b"x" * 200_000, r"metadata\.csv:\d+: not a CSV table"),
    ],
)
def test_a_broken_table_is_one_error(write: Write, table: bytes, message: str) -> None:
    root = write({"a.jpg": "Left effusion."})
    (root / "metadata.csv").write_bytes(table)
    with pytest.raises(WronglungError, match=message):
        read(root)


def test_an_empty_set(write: Write) -> None:
    with pytest.raises(WronglungError, match=r"no usable instance"):
        load_dataset("covid-lungs", write({}))


@pytest.fixture(scope="module")
def real(covid_lungs: Path) -> Dataset:
    return load_dataset("covid-lungs", covid_lungs)


def test_every_film_of_the_real_set_has_two_lungs_and_six_zones(real: Dataset) -> None:
    assert len(real.regions) == 360
    for boxes in real.regions.values():
        named = {box.name: box for box in boxes}
        assert len(boxes) == len(named) == 8
        right, left = named["right lung"], named["left lung"]
        assert right.x1 + right.x2 < left.x1 + left.x2, "the patient's right is on the viewer's left"
        for name, box in named.items():
            lung = named[parent_lung(name) or name]
            assert lung.x1 <= box.x1 < box.x2 <= lung.x2
            assert lung.y1 <= box.y1 < box.y2 <= lung.y2


def test_instances_of_the_real_set_are_valid(real: Dataset) -> None:
    assert len({one.id for one in real.instances}) == len(real.instances) > 200
    for instance in real.instances:
        assert instance.patient_id
        assert instance.study_id == instance.image_id
        known = real.regions[instance.image_id]
        assert set(instance.boxes) <= set(known)
        assert instance.regions <= {box.name for box in known}
        said = {(finding.label, finding.region) for finding in instance.findings}
        assert {(label, lung) for label, region in said if (lung := parent_lung(region))} <= said


def test_nothing_of_the_real_set_vanishes(real: Dataset) -> None:
    assert {entry.reason for entry in real.skipped} <= {"sentence_without_region", "no_annotation", "duplicate_row"}
    without_notes = {entry.where for entry in real.skipped if entry.reason == "no_annotation"}
    sentences = {entry.where.rpartition("_sent_")[0] for entry in real.skipped if entry.reason != "no_annotation"}
    with_instance = {one.image_id for one in real.instances}
    assert without_notes | sentences | with_instance == set(real.regions)
    assert not without_notes & with_instance


@pytest.mark.parametrize(
    ("instance_id", "regions"),
    [
        ("jkms-35-e79-g001-l-a_sent_0", {"right upper lung zone", "right lower lung zone", "left lower lung zone"}),
        ("parapneumonic-effusion-1-PA_sent_1", {"left mid lung zone"}),
        ("covid-19-pneumonia-7-PA_sent_1", {"left lung"}),
        ("kjr-21-e24-g001-l-a_sent_1", {"right lung", "left lung"}),
        ("ec3a480c0926ded74429df416cfb05_jumbo_sent_1", {"left lung"}),
        ("ec3a480c0926ded74429df416cfb05_jumbo_sent_2", {"right lung"}),
    ],
)
def test_known_sentences_of_the_real_set(real: Dataset, instance_id: str, regions: set[str]) -> None:
    (instance,) = [one for one in real.instances if one.id == instance_id]
    assert {box.name for box in instance.boxes} == regions


def test_reading_twice_gives_the_same_set(real: Dataset, covid_lungs: Path) -> None:
    assert read(covid_lungs).fingerprint == real.fingerprint
