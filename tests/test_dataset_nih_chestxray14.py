"""The ChestX-ray14 reader, on a tree in the published form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import nih_chestxray14 as tree

from wronglung.benchmark.datasets.nih_chestxray14 import read
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, Finding

MASS = (225.084745762712, 547.019216763771, 225.084745762712 + 86.7796610169491, 547.019216763771 + 79.1864406779661)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree.write(tmp_path / "nih")


def entries(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(f"{one.reason}{'*' * one.repaired}", one.where, one.detail) for one in dataset.skipped]


def write_table(root: Path, *rows: str, header: str = tree.HEADER) -> None:
    (root / "BBox_List_2017.csv").write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")


def test_every_instance(root: Path) -> None:
    dataset = read(root)
    assert dataset.name == "nih-chestxray14"
    found = [
        (one.id, one.image_id, one.patient_id, one.split, one.sentence, one.findings, one.boxes)
        for one in dataset.instances
    ]
    assert found == [
        (
            f"{film}_{finding.replace(' ', '-')}",
            film,
            film[:8] if film[0] == "0" else None,
            split,
            sentence,
            (Finding(finding, "yes", ""),),
            (Box({"effusion": "pleural effusion"}.get(finding, finding), *corners),),
        )
        for film, finding, split, sentence, corners in (
            ("00000013_005", "atelectasis", "test", "There is atelectasis.", (16, 32, 24, 36)),
            ("00000013_005", "effusion", "test", "There is pleural effusion.", (32, 40, 48, 60)),
            ("00000079_000", "mass", "train_val", "There is a mass.", tuple(one * 64 / 1024 for one in MASS)),
            ("00000013_006", "cardiomegaly", "test", "There is cardiomegaly.", (60, 56, 64, 64)),
            ("00000032_001", "pneumothorax", "test", "There is pneumothorax.", (16, 32, 32, 40)),
            ("00000032_001", "hernia, sliding", "test", "There is hernia, sliding.", (1, 2, 5, 10)),
            ("00000103_000", "pneumonia", "test", "There is pneumonia.", (512, 512, 768, 768)),
            ("unnumbered", "nodule", None, "There is a nodule.", (1, 1, 2, 2)),
        )
    ]
    assert {one.study_id for one in dataset.instances} == {None}
    assert [one.image.width for one in dataset.instances] == [64] * 6 + [1024, 64]


def test_every_entry(root: Path) -> None:
    def mismatch(film: str, folder: str, *, height: int = 64, is_kept: bool = True) -> tuple[str, str, str]:
        then = "boxes scaled" if is_kept else "cropped or padded"
        detail = f"{folder}/images/{film}.png: announced as 1024 × 1024 pixels, is 64 × {height}: {then}"
        return "size_mismatch" + "*" * is_kept, film, detail

    assert entries(read(root)) == [
        ("category_missing", "BBox_List_2017.csv:15", "a box on 00000102_000 without a finding"),
        mismatch("00000013_005", "images_001"),
        mismatch("00000079_000", "images_002"),
        ("duplicate_row*", "00000079_000_mass", "1 boxes given twice"),
        mismatch("00000013_006", "images_001"),
        ("box_clipped*", "BBox_List_2017.csv:5", "cardiomegaly: [960, 896, 1088, 1056] on 1024 × 1024 pixels"),
        ("box_outside_image", "BBox_List_2017.csv:6", "infiltration: [1100, 10, 1150, 60] on 1024 × 1024 pixels"),
        ("no_valid_box", "00000013_006_infiltrate", ""),
        mismatch("00000032_001", "images_001"),
        ("box_degenerate", "BBox_List_2017.csv:7", "nodule: [64, 64, 64, 80]"),
        ("no_valid_box", "00000032_001_nodule", ""),
        ("box_missing", "BBox_List_2017.csv:8", "pneumonia: [null, 64, null, 96]"),
        ("no_valid_box", "00000032_001_pneumonia", ""),
        ("box_flipped*", "BBox_List_2017.csv:9", "pneumothorax: [512, 512, 256, 640]"),
        ("image_missing", "00000099_000", "no file of that name"),
        mismatch("00000100_000", "images_002", height=48, is_kept=False),
        ("image_unreadable", "00000101_000", "images_002/images/00000101_000.png: not an image of a known format"),
        mismatch("unnumbered", "images_002"),
    ]


def test_the_regions_of_a_film_are_its_boxes(root: Path) -> None:
    dataset = read(root)
    assert list(dataset.regions) == list(dict.fromkeys(one.image_id for one in dataset.instances))
    assert dataset.regions["00000013_005"] == (
        Box("atelectasis", 16, 32, 24, 36),
        Box("pleural effusion", 32, 40, 48, 60),
    )


def test_several_boxes_of_a_finding_are_one_instance(root: Path) -> None:
    write_table(root, "00000013_005.png,Nodule,16,16,32,32", "00000013_005.png,nodule,32,32,32,32")
    (instance,) = read(root).instances
    assert instance.boxes == (Box("nodule", 1, 1, 3, 3), Box("nodule", 2, 2, 4, 4))


def test_without_lists_there_is_no_split(root: Path) -> None:
    (root / "test_list.txt").unlink()
    assert {one.split for one in read(root).instances} == {"train_val", None}
    (root / "train_val_list.txt").unlink()
    assert {one.split for one in read(root).instances} == {None}


def test_prompts(root: Path) -> None:
    assert read(root, prompt="phrase").instances[1].sentence == "Pleural effusion"
    assert read(root, prompt="{finding}, seen.").instances[2].sentence == "A mass, seen."
    with pytest.raises(WronglungError, match="prompt='x'"):
        read(root, prompt="x")


def test_ways_to_point_at_it(root: Path, tmp_path: Path) -> None:
    expected = read(root).fingerprint
    assert read(tmp_path).fingerprint == expected
    assert read(root / "BBox_List_2017.csv").fingerprint == expected
    (root / "labels").mkdir()
    (root / "BBox_List_2017.csv").rename(root / "labels" / "BBox_List_2017.csv")
    beside = read(root)
    assert beside.fingerprint == expected
    assert beside.instances[0].split == "test", "the lists lie in the folder that was given"


def test_all_films_in_one_folder(root: Path) -> None:
    expected = read(root).fingerprint
    (root / "images").mkdir()
    for file in root.glob("images_*/images/*"):
        file.rename(root / "images" / file.name)
    assert read(root).fingerprint == expected


def test_films_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = read(root).fingerprint
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for folder in ("images_001", "images_002"):
        shutil.move(root / folder, elsewhere / folder)
    assert read(root, images=elsewhere).fingerprint == expected
    with pytest.raises(
        WronglungError, match="none of the 9 images that are needed is in there; name the folder"
    ) as error:
        read(root)
    assert str(error.value).startswith(f"{root}: ")
    with pytest.raises(WronglungError, match="is not a folder; images is"):
        read(root, images=elsewhere / "none")


def test_the_table_must_be_there(root: Path) -> None:
    (root / "BBox_List_2017.csv").rename(root / "boxes.csv")
    with pytest.raises(
        WronglungError, match=r"no BBox_List_2017\.csv or BBox_List_2017_Official_NIH\.csv in this folder"
    ):
        read(root)
    assert len(read(root / "boxes.csv").instances) == 8


@pytest.mark.parametrize(
    "header",
    [
        tree.HEADER,
        "Image Index,Finding Label,x,y,w,h",
        'Image Index,Finding Label,"Bbox [x,y,w,h]",,,',
        "\ufeff" + tree.HEADER,
    ],
)
@pytest.mark.parametrize("more", ["", ",,,", ", "])
def test_headers_and_rows_as_copies_have_them(root: Path, header: str, more: str) -> None:
    write_table(root, f"00000013_005.png,Nodule,16,16,32,32{more}", "", header=header)
    assert [one.boxes for one in read(root).instances] == [(Box("nodule", 1, 1, 3, 3),)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the first row must be Image Index,Finding Label"),
        (b"Image Index,Finding Labels,Follow-up #\n", "the first row must be"),
        (b"Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,1,2,3\n", r"csv:2: 5 cells, not 6"),
        (b"Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,1,2,3,4,5\n", r"csv:2: 7 cells, not 6"),
        (b"Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,M\xe4ss,1,2,3,4\n", r"csv: not UTF-8 after line"),
        (b"Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,\0,1,2,3,4\n", r"csv:2: holds a NUL byte"),
    ],
)
def test_a_damaged_table_is_one_error(root: Path, text: bytes, message: str) -> None:
    (root / "BBox_List_2017.csv").write_bytes(text)
    with pytest.raises(WronglungError, match=message) as caught:
        read(root)
    assert "BBox_List_2017.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "images_001/images/00000013_005.png", "a\\b.png", ""])
def test_no_name_leads_out_of_the_films(root: Path, name: str) -> None:
    write_table(root, f"{name},Mass,1,2,3,4", "00000013_006.png,Mass,16,16,16,16")
    dataset = read(root)
    assert [one.id for one in dataset.instances] == ["00000013_006_mass"]
    assert ("image_missing", name.removesuffix(".png")) in [one[:2] for one in entries(dataset)]


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    film = root / "images_001" / "images" / "00000013_006.png"
    film.rename(tmp_path / "secret.png")
    film.symlink_to(tmp_path / "secret.png")
    assert ("image_missing", "00000013_006", "no file of that name") in entries(read(root))


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(
        st.one_of(st.floats(-2000, 2000), st.sampled_from([float("nan"), float("inf")])), min_size=4, max_size=4
    )
)
def test_a_box_is_valid_or_in_the_ledger(numbers: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    tree.save_film(root / "images" / "00000001_000.png")
    write_table(root, f"00000001_000.png,Mass,{','.join(map(repr, numbers))}")
    dataset = read(root)
    reasons = {one.reason for one in dataset.skipped if not one.repaired}
    if not dataset.instances:
        assert reasons in ({"no_valid_box", one} for one in ("box_missing", "box_degenerate", "box_outside_image"))
        return
    (box,) = dataset.instances[0].boxes
    assert not reasons
    assert 0 <= box.x1 < box.x2 <= 64
    assert 0 <= box.y1 < box.y2 <= 64
