"""Tables as collections ship them: comma or tab separated, plain, gzipped or zipped, columns addressed by name."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from ..errors import WronglungError

_MAX_LINE = 16 << 20  # characters; an unclosed quote or a bomb ends here, not in all memory
_MAX_TABLE = 4 << 30  # characters; no table of the collections comes near it, a bomb does
_MAX_BLANK = 100_000
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def read_table(
    file: Path, columns: Sequence[str], *, optional: Sequence[str] = (), delimiter: str = ",", has_text: bool = True
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The rows of a table, one at a time: the line number and the cells of ``columns``, then of ``optional`` ones.

    Cells are text as stored, quoted tabs and newlines included; an optional column that the table lacks gives "". Other
    columns are ignored. The first row names the columns; blanks around a name do not count. UTF-8 with or without a byte
    order mark, any line ends; whether the file is gzipped, or a zip archive of one table, is told from its content.

    A table without free text (``has_text=False``) has one row a line: a quote that is opened by mistake is then an error where
    it stands, instead of swallowing the rows up to the next one.

    Raises :class:`WronglungError`, with file and line, for a missing column, a row of another length, a NUL byte, a cell
    or line of more than 16 MiB, and a file that cannot be read.
    """
    rows = read_rows(file, delimiter=delimiter, has_text=has_text)
    header = next(rows, None)
    if header is None:
        raise WronglungError(f"{file}: is empty; its first row must name the columns")
    width = len(header[1])
    places = _places([name.strip() for name in header[1]], columns, optional, file)
    for line, row in rows:
        if len(row) != width:
            raise WronglungError(f"{file}:{line}: {len(row)} cells under {width} column names")
        yield line, tuple("" if at is None else row[at] for at in places)


def read_rows(file: Path, *, delimiter: str = ",", has_text: bool = True) -> Iterator[tuple[int, list[str]]]:
    """All rows of a table that are not blank, one at a time: the line number and the cells, as many as there are.

    For tables whose first row does not name the columns properly; as :func:`read_table` otherwise.
    """
    limit = csv.field_size_limit()
    with _open(file) as stream:
        own: list[str] = []
        reader = csv.reader(_lines(stream, file, own), delimiter=delimiter)
        try:
            last, blank = list[str](), 0
            while (row := _next(reader, file, limit)) is not None:
                if len(own) > 1 and not has_text:
                    first = reader.line_num - len(own) + 1
                    raise WronglungError(f"{file}:{first}: a quote is opened here and not closed on the line")
                if any(map(str.strip, row)):
                    yield reader.line_num, row
                else:
                    blank += 1
                    if blank > _MAX_BLANK:
                        raise WronglungError(f"{file}:{reader.line_num}: more than {_MAX_BLANK:,} blank rows")
                last, own[:] = own[:], []
            _check_closed(last, delimiter)
        except csv.Error as error:
            raise WronglungError(f"{file}:{reader.line_num}: not a table ({error})") from error
        except UnicodeDecodeError as error:
            raise WronglungError(
                f"{file}: not UTF-8 after line {reader.line_num} ({error.reason}); save the table as UTF-8"
            ) from error
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise WronglungError(f"{file}: cannot be read after line {reader.line_num}: {error}") from error


def first_row(file: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The names of a table's columns, without the blanks around them. Raises :class:`WronglungError` as :func:`read_table`."""
    with _open(file) as stream:
        try:
            row = _next(csv.reader(_lines(stream, file, []), delimiter=delimiter), file, csv.field_size_limit())
        except (
            csv.Error,
            UnicodeDecodeError,
            OSError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
            zipfile.BadZipFile,
        ) as error:
            raise WronglungError(f"{file}: cannot be read: {error}") from error
    return tuple(name.strip() for name in row or ())


def _next(reader: Iterator[list[str]], file: Path, limit: int) -> list[str] | None:
    """The next row; the limit of a cell is a setting of the whole process, so it is raised for this call only."""
    csv.field_size_limit(_MAX_LINE)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _places(header: Sequence[str], columns: Sequence[str], optional: Sequence[str], file: Path) -> list[int | None]:
    lacking = [name for name in columns if name not in header]
    if lacking:
        other = next((one for one in (";", "\t", ",") if len(header) == 1 and one in header[0]), None)
        if other is not None:
            raise WronglungError(f"{file}: its columns are separated by {other!r}; save it as the collection has it")
        shown = ", ".join(name or "(unnamed)" for name in header)
        raise WronglungError(f"{file}: no column {' and no column '.join(lacking)}; the first row names {shown[:500]}")
    for name in (*columns, *optional):
        if header.count(name) > 1:
            raise WronglungError(f"{file}: column {name} occurs twice in the first row")
    return [header.index(name) if name in header else None for name in (*columns, *optional)]


def _open(file: Path) -> IO[str]:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise WronglungError(f"{file}: is not a regular file")
        with file.open("rb") as start:
            magic = start.read(4)
        if magic[:2] in _UTF_16:
            raise WronglungError(f"{file}: is UTF-16; save the table as UTF-8")
        if magic in _ZIP_MAGIC:
            raw = _unzip(file)
        else:
            raw = cast("IO[bytes]", gzip.GzipFile(file)) if magic[:2] == _GZIP_MAGIC else file.open("rb")
    except OSError as error:
        raise WronglungError(f"{file}: cannot be read: {error.strerror or error}") from error
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


def _unzip(file: Path) -> IO[bytes]:
    """The one table in a zip archive; what other programs add (folders, __MACOSX) does not count."""
    try:
        archive = zipfile.ZipFile(file)
        names = [one for one in archive.namelist() if not one.endswith("/") and not one.startswith("__MACOSX/")]
        if len(names) != 1:
            raise WronglungError(f"{file}: holds {len(names)} files; a zipped table holds one")
        return archive.open(names[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, lzma.LZMAError) as error:
        raise WronglungError(f"{file}: cannot be unzipped ({error})") from error


def _check_closed(lines: Iterable[str], delimiter: str) -> None:
    """Raises ``csv.Error`` when the last row ends inside of quotes: then it may have swallowed any number of rows."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        list(reader)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error("a quote is not closed") from error


def _lines(stream: IO[str], file: Path, seen: list[str]) -> Iterator[str]:
    """The lines of a table, which are also appended to ``seen``."""
    number = total = 0
    while line := stream.readline(_MAX_LINE):
        number += 1
        total += len(line)
        if total > _MAX_TABLE:
            raise WronglungError(f"{file}:{number}: a table of more than 4 GiB of text")
        if len(line) == _MAX_LINE:
            raise WronglungError(f"{file}:{number}: a line of more than 16 MiB")
        if "\0" in line:
            raise WronglungError(f"{file}:{number}: holds a NUL byte; the file is damaged")
        seen.append(line)
        yield line
