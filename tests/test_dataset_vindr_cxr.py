"""The VinDr-CXR and VinBigData readers, on trees in the published forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import vinbigdata, vindr_cxr
from trees.dicom import save_dicom
from trees.vindr_cxr import film

from wronglung.benchmark.datasets.vindr_cxr import read, read_vinbigdata
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding

NAMES = {"ild": "interstitial lung disease", "nodule/mass": "nodule or mass"}
"""What boxes are called, where it is not the finding: as in the sentence."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return vindr_cxr.write(tmp_path / "vindr-cxr" / "1.0.0")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return vinbigdata.write(tmp_path / "vinbigdata")


def entries(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(f"{one.reason}{'*' * one.repaired}", one.where, one.detail) for one in dataset.skipped]


def boxes(dataset: Dataset) -> dict[str, list[tuple[float, ...]]]:
    return {one.id: [(box.x1, box.y1, box.x2, box.y2) for box in one.boxes] for one in dataset.instances}


def write_table(root: Path, *rows: str, split: str = "test", header: str | None = None) -> None:
    if header is None:
        header = vindr_cxr.TEST if split == "test" else vindr_cxr.TRAIN
    text = "\n".join((header, *rows)) + "\n"
    (root / "annotations" / f"annotations_{split}.csv").write_text(text, encoding="utf-8")


def test_every_instance_of_the_consensus(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "vindr-cxr"
    found = [(one.id, one.image_id, one.sentence, one.findings, one.boxes) for one in dataset.instances]
    assert found == [
        (
            f"{film(number)}_{finding.replace(' ', '-')}",
            film(number),
            sentence,
            (Finding(finding, "yes", ""),),
            tuple(Box(NAMES.get(finding, finding), *one) for one in corners),
        )
        for number, finding, sentence, corners in (
            (1, "cardiomegaly", "There is cardiomegaly.", [(10.5, 20.25, 40, 44)]),
            (1, "ild", "There is interstitial lung disease.", [(1, 2, 20, 30), (30, 2, 50, 30)]),
            (3, "nodule/mass", "There is a nodule or mass.", [(5, 6, 9, 10), (50, 30, 60, 40)]),
            (3, "edema", "There is edema.", [(10, 10, 20, 30)]),
            (3, "scoliosis, mild", "There is scoliosis, mild.", [(25, 1, 35, 40)]),
            (7, "pleural effusion", "There is pleural effusion.", [(4, 30, 12, 46)]),
        )
    ]
    for one in dataset.instances:
        assert (one.split, one.patient_id, one.study_id) == ("test", None, None)
        assert (one.image.width, one.image.height) == (60, 48), "the frame is the DICOM film's own size"


def test_every_entry_of_the_consensus(root: Path) -> None:
    *listed, unreadable = entries(read(root))
    table = "annotations_test.csv"
    assert listed == [
        ("category_missing", f"{table}:14", f"a box on {film(3)} without a finding"),
        ("no_annotation", table, "2 rows without a finding or a box"),
        ("duplicate_row*", f"{film(1)}_ild", "rows given twice: 1"),
        ("box_clipped*", f"{table}:6", "nodule or mass: [50, 30, 60.5, 40] on 60 × 48 pixels"),
        ("box_outside_image", f"{table}:9", "lesion: [70, 10, 80, 20] on 60 × 48 pixels"),
        ("no_valid_box", f"{film(3)}_other-lesion", ""),
        ("box_degenerate", f"{table}:10", "rib fracture: [7, 10, 7, 20]"),
        ("no_valid_box", f"{film(3)}_rib-fracture", ""),
        ("box_flipped*", f"{table}:11", "edema: [20, 10, 10, 30]"),
        ("box_missing", f"{table}:12", "emphysema: [1, 2, null, 4]"),
        ("no_valid_box", f"{film(3)}_emphysema", ""),
        ("image_missing", film(4), "no file of that name"),
    ]
    assert unreadable[:2] == ("image_unreadable", film(5))
    assert unreadable[2].startswith(f"test/{film(5)}.dicom: DICOM film: ")


def test_every_instance_and_entry_of_the_three_readers(root: Path) -> None:
    dataset = read(root, split="train")
    assert boxes(dataset) == {
        f"{film(11)}_cardiomegaly": [(10, 20, 40, 44), (12, 20, 42, 44)],
        f"{film(13)}_lung-opacity": [(10, 10, 20, 20), (30, 10, 40, 20)],
    }
    assert {one.split for one in dataset.instances} == {"train"}
    assert entries(dataset) == [
        ("no_annotation", "annotations_train.csv", "2 rows without a finding or a box"),
        ("reader_disagreement", "annotations_train.csv", "3 findings on films that fewer than 2 readers marked"),
        ("duplicate_row*", f"{film(13)}_lung-opacity", "rows given twice: 1"),
    ]


@pytest.mark.parametrize(("agreement", "count"), [(1, 5), (2, 2), (3, 1), (4, 0)])
def test_agreement_counts_readers_not_boxes(root: Path, agreement: int, count: int) -> None:
    assert len(read(root, split="train", agreement=agreement).instances) == count


def test_one_reader_alone(root: Path) -> None:
    assert boxes(read(root, split="train", reader="R8")) == {
        f"{film(11)}_pleural-thickening": [(1, 1, 5, 5)],
        f"{film(12)}_calcification": [(20, 20, 24, 24)],
        f"{film(13)}_lung-opacity": [(30, 10, 40, 20)],
        f"{film(13)}_nodule/mass": [(5, 5, 7, 7), (9, 5, 11, 7)],
    }
    assert entries(read(root, split="train", reader="R10")) == [
        ("no_annotation", "annotations_train.csv", "1 rows without a finding or a box")
    ]


def test_what_readers_cannot_be_asked_for(root: Path) -> None:
    with pytest.raises(WronglungError, match=r"reader='R7' is not in the table; it has R8, R9, R10"):
        read(root, split="train", reader="R7")
    with pytest.raises(WronglungError, match=r"reader='R9': split test is a consensus, without readers"):
        read(root, reader="R9")
    with pytest.raises(WronglungError, match=r"agreement=0: must be the number of readers"):
        read(root, split="train", agreement=0)


def test_the_spelling_of_the_pediatric_set(root: Path) -> None:
    row = f"{film(11)},R9,Edema,10,20,40,44"
    write_table(root, row, split="train", header=vindr_cxr.TRAIN.replace("rad_id", "rad_ID"))
    assert len(read(root, split="train").instances) == 0
    assert len(read(root, split="train", agreement=1).instances) == 1
    assert len(read(root, split="train", reader="R9").instances) == 1


def test_the_regions_of_a_film_are_its_boxes(root: Path) -> None:
    dataset = read(root)
    assert {image_id: len(known) for image_id, known in dataset.regions.items()} == {film(1): 3, film(3): 4, film(7): 1}


def test_prompts(root: Path) -> None:
    assert read(root, prompt="phrase").instances[1].sentence == "Interstitial lung disease"
    assert read(root, prompt="Signs of {finding}.").instances[2].sentence == "Signs of a nodule or mass."
    with pytest.raises(WronglungError, match="prompt='x'"):
        read(root, prompt="x")


def test_ways_to_point_at_it(root: Path) -> None:
    expected = read(root).fingerprint
    folder = root / "annotations"
    for place in (root.parent, root.parent.parent, folder, folder / "annotations_test.csv"):
        assert read(place).fingerprint == expected
    with pytest.raises(
        WronglungError, match=r"annotations_train\.csv: is split train; give split=train, or the folder"
    ):
        read(folder / "annotations_train.csv")
    assert len(read(folder / "annotations_train.csv", split="train").instances) == 2


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    expected = read(root).fingerprint
    (root / "test").rename(tmp_path / "films")
    with pytest.raises(WronglungError, match=r"none of the 5 images that are needed is in there; name the folder"):
        read(root)
    assert read(root, images=tmp_path / "films").fingerprint == expected
    with pytest.raises(WronglungError, match="is not a folder; images is"):
        read(root, images=tmp_path / "none")
    (root / "annotations" / "annotations_test.csv").unlink()
    with pytest.raises(WronglungError, match=r"no annotations/annotations_test\.csv or annotations_test\.csv in this"):
        read(root)


@pytest.mark.parametrize(
    ("split", "header", "row", "message"),
    [
        ("test", "image_id,x_min,y_min,x_max,y_max", "", "no column class_name"),
        ("test", vindr_cxr.TEST, "a,b,1,2,3", r"csv:2: 5 cells under 6 column names"),
        ("test", vindr_cxr.TEST, "a\0,b,1,2,3,4", r"csv:2: holds a NUL byte"),
        ("train", vindr_cxr.TEST, f"{film(11)},Edema,1,2,3,4", r"csv:2: rad_id is empty, or there is no such column"),
        ("train", vindr_cxr.TRAIN, f"{film(11)},,Edema,1,2,3,4", r"csv:2: rad_id is empty"),
    ],
)
def test_a_damaged_table_is_one_error(root: Path, split: str, header: str, row: str, message: str) -> None:
    write_table(root, row, split=split, header=header)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root, split="train" if split == "train" else "test")
    assert f"annotations_{split}.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../test/x", "/etc/passwd", "a\\b", "", f"test/{film(1)}"])
def test_no_name_leads_out_of_the_films(root: Path, name: str) -> None:
    write_table(root, f"{name},Edema,1,2,3,4", f"{film(1)},Edema,1,2,3,4")
    dataset = read(root)
    assert [one.id for one in dataset.instances] == [f"{film(1)}_edema"]
    assert entries(dataset) == [("image_missing", name, "no file of that name")]


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    file = root / "test" / f"{film(1)}.dicom"
    file.rename(tmp_path / "secret.dicom")
    file.symlink_to(tmp_path / "secret.dicom")
    assert ("image_missing", film(1), "no file of that name") in entries(read(root))


def test_labels_that_differ_in_case_are_one_finding(root: Path) -> None:
    write_table(root, f"{film(1)},Edema,1,2,3,4", f"{film(1)},EDEMA,5,6,7,8")
    assert boxes(read(root)) == {f"{film(1)}_edema": [(1, 2, 3, 4), (5, 6, 7, 8)]}


def test_every_instance_and_entry_of_a_pack(pack: Path) -> None:
    dataset = read_vinbigdata(pack)
    assert dataset.name == "vinbigdata"
    assert boxes(dataset) == {
        f"{vinbigdata.film(1)}_aortic-enlargement": [(30, 10, 40, 20), (31, 11, 41, 21)],
        f"{vinbigdata.film(2)}_ild": [(5, 5, 25, 40), (35, 5, 55, 40), (6, 5, 25, 40)],
    }
    assert [one.sentence for one in dataset.instances] == [
        "There is aortic enlargement.",
        "There is interstitial lung disease.",
    ]
    assert {one.split for one in dataset.instances} == {"train"}

    def mismatch(number: int, rest: str) -> str:
        return f"train/{vinbigdata.film(number)}.png: announced as 600 × 480 pixels, is {rest}"

    assert entries(dataset) == [
        ("no_annotation", "train.csv", "4 rows without a finding or a box"),
        ("reader_disagreement", "train.csv", "1 findings on films that fewer than 2 readers marked"),
        ("size_mismatch*", vinbigdata.film(1), mismatch(1, "60 × 48: boxes scaled")),
        ("size_mismatch*", vinbigdata.film(2), mismatch(2, "60 × 48: boxes scaled")),
        ("metadata_missing", vinbigdata.film(4), "no usable size in the table of sizes"),
        ("size_mismatch", vinbigdata.film(5), mismatch(5, "60 × 60: cropped or padded")),
        ("image_missing", vinbigdata.film(6), "no file of that name"),
        ("metadata_missing", vinbigdata.film(7), "no usable size in the table of sizes"),
    ]


def test_readers_and_prompts_of_the_competition(pack: Path) -> None:
    dataset = read_vinbigdata(pack, reader="R10", prompt="phrase")
    assert [one.sentence for one in dataset.instances] == [
        "Aortic enlargement",
        "Interstitial lung disease",
        "Pneumothorax",
    ]
    assert len(read_vinbigdata(pack, agreement=3).instances) == 1


def test_a_pack_without_sizes_is_refused_unless_they_are_said(pack: Path) -> None:
    (pack / "train_meta.csv").unlink()
    with pytest.raises(WronglungError, match="films are PNG or JPEG files, and there is no train_meta.csv") as caught:
        read_vinbigdata(pack)
    assert "boxes are in pixels of the original films" in str(caught.value)
    assert "give sizes=original" in str(caught.value)
    with pytest.raises(WronglungError, match="sizes=table, but there is no train_meta.csv"):
        read_vinbigdata(pack, sizes="table")
    for file in (pack / "train").iterdir():
        vinbigdata.save_film(file, 600, 480)
    assert boxes(read_vinbigdata(pack, sizes="original")) == {
        f"{vinbigdata.film(1)}_aortic-enlargement": [(300, 100, 400, 200), (310, 110, 410, 210)],
        f"{vinbigdata.film(2)}_ild": [(50, 50, 250, 400), (350, 50, 550, 400), (60, 50, 250, 400)],
        f"{vinbigdata.film(4)}_cardiomegaly": [(200, 250, 450, 400)],
        f"{vinbigdata.film(5)}_cardiomegaly": [(200, 250, 450, 400), (210, 250, 450, 400)],
        f"{vinbigdata.film(7)}_cardiomegaly": [(200, 250, 450, 400), (210, 250, 450, 400)],
    }


def test_original_sizes_are_not_looked_up(pack: Path) -> None:
    vinbigdata.save_film(pack / "train" / f"{vinbigdata.film(1)}.png", 700, 480)
    image = read_vinbigdata(pack, sizes="original").instances[0].image
    assert (image.width, image.height) == (700, 480)


@pytest.mark.parametrize("place", ["films/train_meta.csv", "films/train/train_meta.csv", "table/train_meta.csv"])
def test_places_of_the_table_of_sizes(pack: Path, tmp_path: Path, place: str) -> None:
    expected = read_vinbigdata(pack).fingerprint
    for folder in ("films", "table"):
        (tmp_path / folder).mkdir()
    (pack / "train").rename(tmp_path / "films" / "train")
    (pack / "train.csv").rename(tmp_path / "table" / "train.csv")
    (pack / "train_meta.csv").rename(tmp_path / place)
    assert read_vinbigdata(tmp_path / "table", images=tmp_path / "films" / "train").fingerprint == expected
    assert read_vinbigdata(tmp_path, images=tmp_path / "films" / "train").fingerprint == expected


@pytest.mark.parametrize("suffix", [".dicom", ".dcm"])
def test_dicom_films_need_no_table(pack: Path, suffix: str) -> None:
    (pack / "train_meta.csv").unlink()
    for file in list((pack / "train").iterdir()):
        file.unlink()
    save_dicom(pack / "train" / f"{vinbigdata.film(1)}{suffix}", np.zeros((480, 600), dtype=np.uint16))
    assert boxes(read_vinbigdata(pack)) == {
        f"{vinbigdata.film(1)}_aortic-enlargement": [(300, 100, 400, 200), (310, 110, 410, 210)]
    }


def test_a_pack_of_the_consensus_needs_sizes_too(root: Path) -> None:
    for file in list((root / "test").iterdir()):
        file.unlink()
    vinbigdata.save_film(root / "test" / f"{film(1)}.png", 30, 24)
    with pytest.raises(WronglungError, match="there is no test_meta.csv"):
        read(root)
    (root / "test_meta.csv").write_text(f"image_id,dim0,dim1\n{film(1)},48.0,60.0\n")
    assert boxes(read(root)) == {
        f"{film(1)}_cardiomegaly": [(5.25, 10.125, 20, 22)],
        f"{film(1)}_ild": [(0.5, 1, 10, 15), (15, 1, 25, 15)],
    }


@pytest.mark.parametrize("reader", [read_vinbigdata, lambda root: read_vinbigdata(root / "train.csv")])
def test_ways_to_point_at_the_competition(pack: Path, reader: Callable[[Path], Dataset]) -> None:
    assert len(reader(pack).instances) == 2
    assert read_vinbigdata(pack.parent).fingerprint == reader(pack).fingerprint


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["R1", "R2", "R3"]),
            st.sampled_from(["Edema", "ILD"]),
            st.lists(st.integers(-5, 70), min_size=4, max_size=4),
        ),
        max_size=8,
    ),
    agreement=st.integers(1, 3),
)
def test_findings_are_kept_by_agreement_with_all_their_boxes(
    rows: list[tuple[str, str, list[int]]], agreement: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "annotations").mkdir()
    vindr_cxr.save_film(root / "train" / f"{film(11)}.dicom")
    lines = [f"{film(11)},{reader},{label},{','.join(map(str, corners))}" for reader, label, corners in rows]
    write_table(root, *lines, split="train")
    dataset = read(root, split="train", agreement=agreement)
    agreed = {
        label for label in ("Edema", "ILD") if len({reader for reader, other, _ in rows if other == label}) >= agreement
    }
    assert {one.findings[0].label for one in dataset.instances} <= {label.lower() for label in agreed}
    dropped = [one.where for one in dataset.skipped if one.reason == "no_valid_box"]
    assert len(dataset.instances) + len(dropped) == len(agreed)
    for one in dataset.instances:
        own = [corners for _, label, corners in rows if label.lower() == one.findings[0].label]
        valid = {
            (max(min(x1, x2), 0), max(min(y1, y2), 0), min(max(x1, x2), 60), min(max(y1, y2), 48))
            for x1, y1, x2, y2 in own
            if x1 != x2 and y1 != y2
        }
        assert {(box.x1, box.y1, box.x2, box.y2) for box in one.boxes} == {
            box for box in valid if box[0] < box[2] and box[1] < box[3]
        }
