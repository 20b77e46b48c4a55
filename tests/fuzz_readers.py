"""A fuzz target for each reader: a small tree in the published format, damaged at random, must give instances or one clear error.

    PYTHONPATH=tests python tests/fuzz_readers.py [--reader NAME] [--seconds 60] [--seed 0]

An input fails when the reader raises anything but :class:`WronglungError`, takes more than five seconds, gives an instance
that breaks the contract (an image outside the root, a box outside its image, an id given twice), or touches a file outside.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import math
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wronglung.benchmark.datasets import read_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Dataset

SECONDS_AN_INPUT = 5
IMAGES = (".png", ".jpg", ".dcm", ".dicom")


@dataclass(frozen=True)
class Target:
    """A reader's name, the module of ``trees`` that writes its format, and arguments of the reader."""

    reader: str
    tree: str
    arguments: tuple[tuple[str, str], ...] = ()


TARGETS = {
    "imagenome-gold": Target("imagenome-gold", "imagenome"),
    "imagenome-silver": Target("imagenome-silver", "imagenome", (("split", "all"),)),
    "covid-lungs": Target("covid-lungs", "covid_lungs"),
    "jsonl": Target("jsonl", "jsonl"),
    "coco": Target("coco", "coco"),
    "ms-cxr": Target("ms-cxr", "ms_cxr"),
    "padchest-gr": Target("padchest-gr", "padchest_gr"),
    "rsna-pneumonia": Target("rsna-pneumonia", "rsna_pneumonia"),
    "chexlocalize": Target("chexlocalize", "chexlocalize", (("split", "all"),)),
    "siim-acr": Target("siim-acr", "siim_acr"),
    "nih-chestxray14": Target("nih-chestxray14", "nih_chestxray14"),
    "vindr-cxr": Target("vindr-cxr", "vindr_cxr"),
    "vinbigdata": Target("vinbigdata", "vinbigdata"),
    "huggingface": Target("huggingface", "huggingface"),
    "flickr30k-entities": Target("flickr30k-entities", "flickr30k_entities"),
    "refcoco": Target("refcoco", "refcoco"),
    "visual-genome": Target("visual-genome", "visual_genome"),
}

Mutation = Callable[[bytes, random.Random], bytes]

TOKENS = (
    b"\0", b"\xff\xfe", b"../../../../etc/passwd", b"/etc/passwd", b"..\\..\\x", b"1e999", b"-1e999", b"NaN", b"-0", b"null",
    b'"', b'""', b"\r\n", b"\t", b",", b"[", b"{", b"]}", b"[" * 3000, b"9" * 400, b"9" * 5000, b"1.5", b"-7", b"\xed\xa0\x80",
    b"\\ud800", b"\xe2\x80\xae", b"true", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"x" * 100_000, b"!!python/object:os.system",
    b"cos\nsystem\n(S'true'\ntR.",
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


def mutated(data: bytes, rng: random.Random) -> bytes:
    zipped = data[:2] == b"\x1f\x8b" and rng.random() < 0.7
    if zipped:
        data = gzip.decompress(data)
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(MUTATIONS)(data, rng)
    return gzip.compress(data) if zipped else data


class ContractError(Exception):
    """What the reader must not do."""


@contextmanager
def time_limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise ContractError(f"more than {SECONDS_AN_INPUT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_AN_INPUT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(dataset: Dataset, root: Path) -> None:
    """The contract of instances, as far as a reader must keep it whatever it is given."""
    top = root.resolve()
    twice = [one for one, times in Counter(one.id for one in dataset.instances).items() if times > 1]
    if twice:
        raise ContractError(f"instance id {twice[0]!r} occurs more than once")
    boxes = [(instance.image, box) for instance in dataset.instances for box in instance.boxes]
    for image, box in boxes:
        if not image.path.resolve().is_relative_to(top):
            raise ContractError(f"{image.path} is outside of the root")
        corners = (box.x1, box.y1, box.x2, box.y2)
        if not all(map(math.isfinite, corners)) or not (
            0 <= box.x1 < box.x2 <= image.width and 0 <= box.y1 < box.y2 <= image.height
        ):
            raise ContractError(f"{box} on {image.width} × {image.height} pixels")
        if box.mask is not None:
            box.mask.pixels()
    for instance in dataset.instances:
        if not instance.boxes or not isinstance(instance.sentence, str):
            raise ContractError(f"{instance.id}: no box or no sentence")
    dataset.fingerprint.encode()
    for image in {id(one.image): one.image for one in dataset.instances}.values():
        try:
            image.load()
        except OSError:
            continue


class Fuzzer:
    """One reader's target, in a folder of its own."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.folder = folder / "data"
        self.folder.mkdir()
        self.outside = folder / "outside.txt"
        self.outside.write_text("untouched")
        self.outcomes: Counter[str] = Counter()
        self.root: Path = importlib.import_module(f"trees.{target.tree}").write(self.folder)
        files = sorted(one for one in self.folder.rglob("*") if one.is_file())
        self.annotations = [one for one in files if one.suffix not in IMAGES]
        self.images = [one for one in files if one.suffix in IMAGES]

    def read(self) -> Dataset | None:
        """Read the tree as it is; None where that is refused with a message."""
        with time_limit():
            try:
                dataset = read_dataset(self.target.reader, self.root, **dict(self.target.arguments))
            except WronglungError as error:
                if not str(error).strip():
                    raise ContractError("an error without a message") from error
                return None
            check(dataset, self.folder)
        return dataset

    def once(self, seed: int) -> str | None:
        """Damage one file, read, and put it back. Returns what went wrong."""
        rng = random.Random(seed)
        pool = self.annotations if not self.images or rng.random() < 0.85 else self.images
        file = rng.choice(pool)
        content = file.read_bytes()
        chance = rng.random()
        try:
            if chance < 0.02:
                file.unlink()
            elif chance < 0.03:
                file.unlink()
                file.mkdir()
            elif chance < 0.05:
                file.unlink()
                file.symlink_to(self.outside)
            else:
                file.write_bytes(mutated(content, rng))
            self.outcomes["refused" if self.read() is None else "read"] += 1
            if self.outside.read_text() != "untouched":
                raise ContractError("a file outside was written")
        except Exception:
            return f"{file.relative_to(self.folder)}, seed {seed}: {traceback.format_exc(limit=-6)}"
        finally:
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink(missing_ok=True)
            file.write_bytes(content)
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=TARGETS, action="append")
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    failed = False
    for name in given.reader or TARGETS:
        folder = Path(tempfile.mkdtemp())
        try:
            fuzzer, runs, end = Fuzzer(TARGETS[name], folder), 0, time.monotonic() + given.seconds
            faults: list[str] = []
            while time.monotonic() < end and len(faults) < 5:
                fault = fuzzer.once(given.seed + runs)
                runs += 1
                faults += [fault] if fault else []
        finally:
            shutil.rmtree(folder)
        failed |= bool(faults)
        sys.stdout.write(f"{name}: {runs} inputs ({dict(fuzzer.outcomes)}), {len(faults)} failures\n" + "".join(faults))
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
