"""Tables of collections: plain, gzipped or zipped; and what a hostile one cannot do."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from wronglung.benchmark.datasets import tables
from wronglung.benchmark.datasets.tables import first_row, read_table
from wronglung.benchmark.errors import WronglungError

TEXT = '\ufeffa,b,"c d"\r\n1,"x\ny",3\r\n\r\n4,"5 ""quoted""",é\r\n'
ROWS = [(3, ("1", "x\ny", "3", "")), (5, ("4", '5 "quoted"', "é", ""))]


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [TEXT.encode(), gzip.compress(TEXT.encode()), zipped(**{"t.csv": TEXT.encode(), "__MACOSX/._t.csv": b"x"})],
    ids=["plain", "gzip", "zip"],
)
def test_however_it_is_packed_a_table_has_the_same_rows(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "table"
    file.write_bytes(content)
    assert list(read_table(file, ("a", "b", "c d"), optional=("e",))) == ROWS
    assert first_row(file) == ("a", "b", "c d")


def test_names_are_shown_without_their_blanks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ImageId, EncodedPixels\n")
    assert first_row(tmp_path / "t.csv") == ("ImageId", "EncodedPixels")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(), "holds 0 files"),
        (zipped(a=b"x", b=b"y"), "holds 2 files; a zipped table holds one"),
        (zipped(a=TEXT.encode())[:40], "cannot be unzipped"),
        (gzip.compress(TEXT.encode() * 500)[:-20], "cannot be read"),
        (b"a,b\n1,\0\n", ":2: holds a NUL byte"),
        (b"a,b\n1,\xff\n", "not UTF-8 after line"),
        (b'a,b\n1,"\n', "a quote is not closed"),
        (b"a,b\n1\n", ":2: 1 cells under 2 column names"),
        (b"a,a\n", "no column b"),
        (b"", "is empty"),
    ],
    # A zip file holds the time at which it was made; a test's name must not.
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_damaged_table_is_one_error_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(WronglungError, match=message) as caught:
        list(read_table(file, ("a", "b")))
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped(t=content)], ids=["gzip", "zip"])
def test_a_bomb_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: object) -> None:
    """Much text behind a small file: in lines, and as one line without an end."""
    monkeypatch.setattr(tables, "_MAX_TABLE", 1 << 20)
    monkeypatch.setattr(tables, "_MAX_LINE", 1 << 16)
    many, one = tmp_path / "many", tmp_path / "one"
    many.write_bytes(pack(b"a,b\n" + b"1,2\n" * 1_000_000))  # type: ignore[operator]
    one.write_bytes(pack(b"a,b\n" + b"1" * 4_000_000))  # type: ignore[operator]
    with pytest.raises(WronglungError, match="a table of more than"):
        list(read_table(many, ("a", "b")))
    with pytest.raises(WronglungError, match="a line of more than"):
        list(read_table(one, ("a", "b")))


def test_what_a_spreadsheet_leaves_behind(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,2\n,\n \n3,4\n")
    assert [row for _, row in read_table(file, ("a", "b"))] == [("1", "2"), ("3", "4")]
    file.write_text("a;b\n1;2\n")
    with pytest.raises(WronglungError, match="its columns are separated by ';'"):
        list(read_table(file, ("a", "b")))
    file.write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(WronglungError, match="is UTF-16; save the table as UTF-8"):
        list(read_table(file, ("a", "b")))


def test_in_a_table_without_text_a_stray_quote_swallows_no_row(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('a,b\n1,2\n"3,4\n5,"6\n7,8\n')
    with pytest.raises(WronglungError, match="t.csv:3: a quote is opened here and not closed on the line"):
        list(read_table(file, ("a", "b"), has_text=False))
    file.write_text('a,b\n1,"2, with a comma"\n')
    assert [row for _, row in read_table(file, ("a", "b"), has_text=False)] == [("1", "2, with a comma")]


def test_blank_rows_end(tmp_path: Path) -> None:
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(b"a,b\n" + b"\n" * 200_000))
    with pytest.raises(WronglungError, match="more than 100,000 blank rows"):
        list(read_table(file, ("a", "b")))
