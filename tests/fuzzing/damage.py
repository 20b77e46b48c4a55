"""Random damage to the bytes of a file, whatever it holds."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

TOKENS = (
    b"\0", b"\xff\xfe", b"../../../../etc/passwd", b"/etc/passwd", b"..\\..\\x", b"1e999", b"-1e999", b"NaN", b"-0", b"null",
    b'"', b'""', b"\r\n", b"\t", b",", b"[", b"{", b"]}", b"[" * 3000, b"9" * 400, b"9" * 5000, b"1.5", b"-7", b"\xed\xa0\x80",
    b"\\ud800", b"\xe2\x80\xae", b"true", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"x" * 100_000, b"!!python/object:os.system",
    b"cos\nsystem\n(S'true'\ntR.", b"&x [*x]", b"<<: *x", b"? !!set", b"2026-13-45", b"0x" + b"f" * 300, b"1:" * 40 + b"1",
    b"\x1b]0;owned\x07\x1b[2J", b"<script>alert(1)</script>", b"0" * 30 + b"1", b": ", b"\n- ", b"{{ 7 * 7 }}",
)  # fmt: skip


def at(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    low, high = sorted((at(data, rng), at(data, rng)))
    return data[:low] + data[high:] if rng.random() < 0.5 else data[:low]


def insert(data: bytes, rng: random.Random) -> bytes:
    place = at(data, rng)
    return data[:place] + rng.choice(TOKENS) + data[place:]


def lines(data: bytes, rng: random.Random) -> bytes:
    """A line twice, gone, or in another place."""
    rows = data.split(b"\n")
    row = rows.pop(rng.randrange(len(rows)))
    for _ in range(rng.randint(0, 2)):
        rows.insert(rng.randrange(len(rows) + 1), row)
    return b"\n".join(rows)


def value(data: bytes, rng: random.Random) -> bytes:
    """A number, a quoted text or a cell replaced."""
    found = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"\n]*"|[^,\t\n]+', data))
    if not found:
        return data
    match = rng.choice(found)
    other = rng.choice([*TOKENS, b"", b'""', b"-1", b"0", b"1", b"99999999", rng.choice(found)[0]])
    return data[: match.start()] + other + data[match.end() :]


def key(data: bytes, rng: random.Random) -> bytes:
    """A word replaced everywhere: a column or key renamed, an id that no longer fits."""
    words = sorted(set(re.findall(rb"[A-Za-z_]{3,}", data)))
    return data.replace(rng.choice(words), rng.choice([b"x", b"", *words])) if words else data


MUTATIONS: tuple[Mutation, ...] = (flip, cut, insert, lines, value, value, value, key)
LONG = 1 << 20
"""Of longer files only bytes are damaged: to look for words takes too long."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    zipped = data[:2] == b"\x1f\x8b" and rng.random() < 0.7
    if zipped:
        data = gzip.decompress(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(MUTATIONS if len(data) < LONG else MUTATIONS[:3])(data, rng)
    return gzip.compress(data) if zipped else data
