"""Damage to what a file holds, in a file that is whole: most damaged bytes end at a format's first check."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from .damage import mutated

Mutation = Callable[[bytes, random.Random], bytes]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), 10**30, 10**400, -(2**63), "", " ", "1", "x",
    "\0", "\ud800", "\u202e", "\x1b[2J\x1b]0;owned\x07", "../../../../etc/passwd", "/etc/passwd", "a/b", "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}", "|", "\n", "\\input{/etc/passwd}", "x" * 5000, "=cmd()", [], {}, [[]], [None], {"": None}, ["x"] * 50,
)  # fmt: skip


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with one place in it replaced, removed, renamed, doubled, or exchanged for another."""
    places = list(_places(value))
    if not places:
        return deepcopy(rng.choice(VALUES))
    parent, step = rng.choice(places)
    chance = rng.random()
    if chance < 0.55:
        parent[step] = deepcopy(rng.choice(VALUES))
    elif chance < 0.7:
        other, its = rng.choice(places)
        parent[step] = json.loads(json.dumps(other[its]))
    elif chance < 0.85:
        del parent[step]
    elif isinstance(parent, list):
        parent.insert(step, parent[step])
    else:
        parent[str(rng.choice(["x", "", "name", "schema_version", "__metadata__", str(step).upper()]))] = parent[step]
    return value


def _places(value: Any) -> Any:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in list(steps):
        yield value, step
        yield from _places(one)


def of_json(data: bytes, rng: random.Random) -> bytes:
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = changed(value, rng)
    return json.dumps(value).encode()


def of_json_lines(data: bytes, rng: random.Random) -> bytes:
    rows = data.splitlines()
    if not rows:
        return mutated(data, rng)
    place = rng.randrange(len(rows))
    rows[place] = of_json(rows[place], rng)
    return b"\n".join(rows) + b"\n"


def of_parquet(data: bytes, rng: random.Random) -> bytes:
    """A column, a row, a cell or the JSON of the schema's metadata."""
    table = parquet.read_table(io.BytesIO(data))
    metadata = dict(table.schema.metadata or {})
    chance = rng.random()
    if chance < 0.3 and metadata:
        name = rng.choice(sorted(metadata))
        text = metadata[name]
        metadata[name] = of_json(text, rng) if rng.random() < 0.8 and text[:1] == b"{" else mutated(text, rng)
        table = table.replace_schema_metadata(metadata)
    elif chance < 0.45:
        rows = sorted(rng.choices(range(table.num_rows), k=rng.choice((0, 1, table.num_rows, table.num_rows + 1))))
        table = table.take(pa.array(rows, pa.int64()))
    else:
        table = _column_changed(table, rng).replace_schema_metadata(metadata if rng.random() < 0.5 else None)
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def _column_changed(table: pa.Table, rng: random.Random) -> pa.Table:
    place = rng.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    chance = rng.random()
    if chance < 0.15:
        return table.remove_column(place)
    if chance < 0.3:
        return table.rename_columns(
            [rng.choice(["", "x", *table.column_names]) if one == name else one for one in table.column_names]
        )
    if chance < 0.5:
        kinds = (pa.string(), pa.float32(), pa.int64(), pa.bool_(), pa.binary(), pa.large_string(), pa.float16())
        try:
            return table.set_column(place, name, column.cast(rng.choice(kinds)))
        except (pa.ArrowException, NotImplementedError):
            return table.set_column(place, name, pa.nulls(table.num_rows))
    cells = column.to_pylist()
    for _ in range(rng.choice((1, 3, len(cells)))):
        if cells:
            cells[rng.randrange(len(cells))] = rng.choice(VALUES)
    for kind in (column.type, pa.string()):
        try:
            texts = cells if kind == column.type else [None if one is None else str(one) for one in cells]
            return table.set_column(place, name, pa.array(texts, kind))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return table.set_column(place, name, pa.array([[1]] * len(cells)))


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header: names, types, shapes, places, and the JSON within its metadata."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__") or {}
    if metadata and rng.random() < 0.5:
        name = rng.choice(sorted(metadata))
        text = metadata[name].encode(errors="surrogatepass")
        if rng.random() < 0.8:
            metadata[name] = json.dumps(changed(json.loads(text), rng)) if text[:1] == b"{" else "x"
        else:
            metadata[name] = mutated(text, rng).decode("latin-1")
    elif rng.random() < 0.5:
        name = rng.choice(sorted(header))
        header[rng.choice(["x", "", "a/b", name.upper(), "__metadata__"])] = header.pop(name)
    else:
        header = changed(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


OPCODES = (
    *(bytes([one]) for one in range(256)),
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"S'x'\n", b"(tR", b"c__builtin__\nexec\n", b"\x8c\x02os\x8c\x06system\x93", b"Q", b"R", b"b", b"}",
    b"]", b"I99999999999\n", b"\x8a\xff" + b"\x7f" * 255, b"ctorch\nFloatStorage\n", b"h\xff", b"(d.", b".",
)  # fmt: skip


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """A member of an archive such as torch writes: its pickle above all, and the archive's own names and flags."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    pickles = [at for at, (info, _) in enumerate(members) if info.filename.endswith(".pkl")]
    place = rng.choice(pickles) if pickles and rng.random() < 0.7 else rng.randrange(len(members))
    info, content = members[place]
    if rng.random() < 0.5:
        where = rng.randrange(len(content) + 1)
        content = content[:where] + rng.choice(OPCODES) + content[where + rng.randint(0, 3) :]
    else:
        content = mutated(content, rng)
    members[place] = (info, content)
    if rng.random() < 0.15:
        members.pop(rng.randrange(len(members)))
    sink = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(sink, "w", kind) as archive:
        for info, content in members:
            archive.writestr(rng.choice([info.filename] * 20 + ["../x", "/x", "x" * 300]), content)
    return sink.getvalue()


def of_npy(data: bytes, rng: random.Random) -> bytes:
    """The text of the header, which is Python's, with its length made right again."""
    length = int.from_bytes(data[8:10], "little")
    header = mutated(data[10 : 10 + length].rstrip(), rng)[:60_000] + b"\n"
    return data[:8] + len(header).to_bytes(2, "little") + header + data[10 + length :]


BY_SUFFIX: Mapping[str, Mutation] = {
    ".json": of_json,
    ".jsonl": of_json_lines,
    ".parquet": of_parquet,
    ".safetensors": of_safetensors,
    ".pt": of_zip,
    ".ckpt": of_zip,
    ".npy": of_npy,
}


def damaged(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """The bytes of a file with damage: to its content where the format is known, otherwise or now and then to its bytes."""
    structural = BY_SUFFIX.get(suffix)
    if structural is None or rng.random() < 0.35:
        return mutated(data, rng)
    return structural(data, rng)
