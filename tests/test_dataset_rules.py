"""The rules that every dataset reader shares."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wronglung.benchmark.datasets.rules import (
    Ledger,
    bare_id,
    check_box,
    image_ids,
    open_image,
    parse_json,
    read_text,
    same_shape,
)
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Skipped

NAN, INF = math.nan, math.inf


def reasons(ledger: Ledger) -> list[str]:
    return [entry.reason + "*" * entry.repaired for entry in ledger.entries]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scan.dcm", "scan"),
        ("scan.jpg", "scan"),
        ("scan.JPEG", "scan"),
        ("a.b.png", "a.b"),
        ("scan.png.jpg", "scan.png"),
        ("scanXdcm", "scanXdcm"),
        ("scan.dcm.gz", "scan.dcm.gz"),
        (".png", ".png"),
        ("10.1016-slash-j.crad.2020.04.002-a", "10.1016-slash-j.crad.2020.04.002-a"),
    ],
)
def test_an_id_loses_one_literal_suffix(name: str, expected: str) -> None:
    assert bare_id(name) == expected


def test_images_that_would_share_an_id_keep_their_whole_names() -> None:
    assert image_ids(["a.png", "b.png", "a.jpg", "b.png"]) == {"a.png": "a.png", "b.png": "b", "a.jpg": "a.jpg"}


@pytest.mark.parametrize(
    ("corners", "expected", "said"),
    [
        ([10, 20, 30.5, 40], Box("", 10, 20, 30.5, 40), []),
        ([0, 0, 100, 50], Box("", 0, 0, 100, 50), []),
        (None, None, ["box_missing"]),
        ([], None, ["box_missing"]),
        ([1, 2, 3], None, ["box_missing"]),
        ([1, 2, None, 4], None, ["box_missing"]),
        ([1, 2, NAN, 4], None, ["box_missing"]),
        ([1, 2, INF, 4], None, ["box_missing"]),
        ([0, 0, 0, 0], None, ["box_degenerate"]),
        ([5, 5, 5, 9], None, ["box_degenerate"]),
        ([-9, 5, -2, 5], None, ["box_degenerate"]),
        ([30, 40, 10, 20], Box("", 10, 20, 30, 40), ["box_flipped*"]),
        ([30, 20, 10, 40], Box("", 10, 20, 30, 40), ["box_flipped*"]),
        ([-5, -5, 120, 60], Box("", 0, 0, 100, 50), ["box_clipped*"]),
        ([101, 5, 120, 9], None, ["box_outside_image"]),
        ([100, 5, 120, 9], None, ["box_outside_image"]),
        ([-7, 5, 0, 9], None, ["box_outside_image"]),
        ([120, 60, -5, -5], Box("", 0, 0, 100, 50), ["box_flipped*", "box_clipped*"]),
        ([130, 5, 120, 9], None, ["box_flipped*", "box_outside_image"]),
    ],
)
def test_boxes_are_checked_in_order(corners: list[float | None] | None, expected: Box | None, said: list[str]) -> None:
    ledger = Ledger()
    assert check_box("", corners, (100, 50), "row 3", ledger) == expected
    assert reasons(ledger) == said
    assert all(entry.where == "row 3" for entry in ledger.entries)


def test_the_ledger_shows_the_box_as_it_is_stored() -> None:
    ledger = Ledger()
    check_box("left lung", [-5, 1, None, 4], (10, 10), "a", ledger)
    check_box("left lung", [-5.25, 1, 3, 4], (10, 10), "a", ledger)
    assert ledger.entries == [
        Skipped("box_missing", "a", "left lung: [-5, 1, null, 4]"),
        Skipped("box_clipped", "a", "left lung: [-5.25, 1, 3, 4] on 10 × 10 pixels", repaired=True),
    ]


def test_boxes_of_a_larger_frame_are_scaled_before_they_are_clipped() -> None:
    ledger = Ledger()
    assert check_box("", [10, 20, 30, 40], (100, 50), "a", ledger, frame=(200, 200)) == Box("", 5, 5, 15, 10)
    assert check_box("", [190, 20, 210, 40], (100, 50), "a", ledger, frame=(200, 200)) == Box("", 95, 5, 100, 10)
    assert reasons(ledger) == ["box_clipped*"]


coordinate = st.one_of(
    st.none(), st.just(NAN), st.just(-INF), st.integers(-200, 300), st.floats(-200, 300, allow_nan=False)
)


@given(st.lists(coordinate, max_size=5), st.integers(1, 150), st.integers(1, 150))
def test_a_box_that_passes_is_valid_and_every_other_is_reported(
    corners: list[float | None], width: int, height: int
) -> None:
    ledger = Ledger()
    box = check_box("", corners, (width, height), "a", ledger)
    dropped = [entry for entry in ledger.entries if not entry.repaired]
    assert len(dropped) == (box is None)
    if box is not None:
        assert 0 <= box.x1 < box.x2 <= width
        assert 0 <= box.y1 < box.y2 <= height
        inside = box == Box("", *(float(corner) for corner in corners))  # type: ignore[arg-type]
        assert inside == (not ledger.entries)


@given(st.lists(st.floats(-200, 300), min_size=4, max_size=4), st.integers(1, 150), st.integers(1, 150))
def test_a_checked_box_passes_unchanged(corners: list[float], width: int, height: int) -> None:
    box = check_box("", corners, (width, height), "a", Ledger())
    if box is not None:
        again = Ledger()
        assert check_box("", [box.x1, box.y1, box.x2, box.y2], (width, height), "a", again) == box
        assert again.entries == []


@given(st.integers(200, 4000), st.integers(200, 4000), st.floats(0.05, 3))
def test_a_resized_image_has_the_same_shape(width: int, height: int, ratio: float) -> None:
    assert same_shape((width, height), (max(1, round(width * ratio)), max(1, round(height * ratio))))


def test_a_cropped_or_padded_image_has_not() -> None:
    assert not same_shape((2544, 3056), (1024, 1024))
    assert not same_shape((2544, 3056), (2544, 3000))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    Image.new("L", (40, 30)).save(root / "images" / "a.png")
    return root


def test_an_image_is_found_with_the_size_of_its_pixels(root: Path) -> None:
    ledger = Ledger()
    image = open_image(root, "images/a.png", "a", ledger)
    assert image is not None
    assert (image.id, image.width, image.height) == ("a", 40, 30)
    assert image.load().size == (40, 30)
    assert ledger.entries == []


def test_an_orientation_tag_does_not_turn_the_image(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("L", (40, 30)).save(root / "turned.jpg", exif=exif)
    image = open_image(root, "turned.jpg", "turned", Ledger())
    assert image is not None
    assert (image.width, image.height) == image.load().size == (40, 30)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "images/../../outside.png",
        "images/../images/a.png",
        "/etc/hostname",
        "C:\\films\\a.png",
        "\\\\server\\a.png",
        "images\\..\\..\\outside.png",
        "a\0.png",
    ],
)
def test_a_path_that_leads_out_of_the_root_is_refused(root: Path, path: str) -> None:
    Image.new("L", (4, 3)).save(root.parent / "outside.png")
    ledger = Ledger()
    assert open_image(root, path, "a", ledger) is None
    assert reasons(ledger) == ["path_outside_root"]


def test_a_link_that_leads_out_of_the_root_is_refused(root: Path) -> None:
    Image.new("L", (4, 3)).save(root.parent / "outside.png")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "folder").symlink_to(root.parent)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "inside.png").symlink_to(root / "images" / "a.png")
    ledger = Ledger()
    assert open_image(root, "link.png", "link", ledger) is None
    assert open_image(root, "folder/outside.png", "folder", ledger) is None
    assert open_image(root, "loop.png", "loop", ledger) is None
    assert open_image(root, "inside.png", "inside", ledger) is not None
    assert [(entry.reason, entry.where) for entry in ledger.entries][:2] == [
        ("path_outside_root", "link"),
        ("path_outside_root", "folder"),
    ]
    assert len(ledger.entries) == 3


def test_a_root_that_is_a_link_itself_is_fine(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert open_image(tmp_path / "alias", "images/a.png", "a", Ledger()) is not None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("images/b.png", "image_missing"),
        ("images", "image_missing"),
        ("", "image_missing"),
        ("x" * 5000, "image_unreadable"),
        ("text.png", "image_unreadable"),
        ("empty.png", "image_unreadable"),
        ("cut.png", "image_unreadable"),
    ],
)
def test_a_missing_or_unreadable_image_is_reported(root: Path, path: str, reason: str) -> None:
    (root / "text.png").write_text("not an image")
    (root / "empty.png").touch()
    (root / "cut.png").write_bytes((root / "images" / "a.png").read_bytes()[:20])
    ledger = Ledger()
    assert open_image(root, path, "a", ledger) is None
    assert reasons(ledger) == [reason]


def test_an_image_too_large_to_decode_is_reported(root: Path) -> None:
    header = b"P5 60000 60000 255\n"
    (root / "bomb.pgm").write_bytes(header)
    ledger = Ledger()
    assert open_image(root, "bomb.pgm", "bomb", ledger) is None
    assert reasons(ledger) == ["image_unreadable"]


def test_a_shrunk_image_is_kept_and_a_cropped_one_is_not(root: Path) -> None:
    ledger = Ledger()
    assert open_image(root, "images/a.png", "a", ledger, frame=(40, 30)) is not None
    assert ledger.entries == []
    assert open_image(root, "images/a.png", "a", ledger, frame=(2000, 1500)) is not None
    assert open_image(root, "images/a.png", "a", ledger, frame=(2000, 2000)) is None
    assert open_image(root, "images/a.png", "a", ledger, frame=(0, 2000)) is None
    assert reasons(ledger) == ["size_mismatch*", "size_mismatch", "size_mismatch"]


def test_text_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbfid\r\n")
    assert read_text(file) == "id\r\n"


def test_text_that_is_not_utf8_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"id\nfi\xe8vre\n")
    with pytest.raises(WronglungError, match=r"a\.csv:2: not UTF-8"):
        read_text(file)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="is not a regular file"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('["\\uD800"]', "surrogates"),
    ],
)
def test_bad_json_is_a_value_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_a_character_beyond_the_first_plane_is_fine() -> None:
    assert parse_json('["\\ud83d\\ude00"]') == ["😀"]
