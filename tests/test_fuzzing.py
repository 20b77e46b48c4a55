"""A short run of every fuzz target; :mod:`fuzz` runs them for as long as is asked for."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from fuzzing.all_targets import TARGETS
from fuzzing.damage import mutated
from fuzzing.datasets import READERS, check
from fuzzing.formats import BY_SUFFIX, damaged
from fuzzing.guard import ContractError, watched
from fuzzing.target import Fuzzer, Input, Target

from wronglung.benchmark.datasets import CATALOGUE
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, ImageRef, Instance

INPUTS = 15
FEW = {
    "leaderboard": 12, "compare": 8, "report": 5, "paper": 10, "gates": 8, "baseline": 10, "columns": 12, "convert-checkpoint": 8,
    "run-as-maps": 12, "imagenome-silver": 25, "imagenome-gold": 25,
}  # fmt: skip
"""Of what takes longer: a whole verb for every input."""


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_give_one_clear_error(name: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(TARGETS[name], tmp_path)
    assert fuzzer.whole
    faults = [fault for seed in range(FEW.get(name, INPUTS)) if (fault := fuzzer.once(seed)) is not None]
    assert not faults, faults[0]
    # Neither is every damage refused nor every file taken: readers of datasets leave a row out, where others give an error.
    assert fuzzer.outcomes["read" if name in READERS or name == "detect" else "refused"]
    assert fuzzer.reads_whole_files_again()


def test_every_reader_has_a_target() -> None:
    assert set(READERS) == set(CATALOGUE) - {"phantom"}


def test_damage_is_damage(tmp_path: Path) -> None:
    data = b'{"a": [1, 2], "b": "text"}\n' * 3
    assert sum(mutated(data, random.Random(seed)) != data for seed in range(100)) > 90
    for name in ("run-as-maps", "torch-checkpoints", "maps", "jsonl"):
        (tmp_path / name).mkdir()
        TARGETS[name].write(tmp_path / name)
    for suffix in BY_SUFFIX:
        whole = next(one for one in sorted(tmp_path.rglob(f"*{suffix}")) if one.stat().st_size).read_bytes()
        assert sum(damaged(whole, suffix, random.Random(seed)) != whole for seed in range(20)) > 15, suffix


def test_the_contract_of_instances_is_looked_at(tmp_path: Path) -> None:
    inside = ImageRef("a", tmp_path / "a.png", 10, 10)

    def dataset(image: ImageRef, *corners: float, times: int = 1) -> Dataset:
        return Dataset("d", (Instance("i", image, "Text.", (Box("", *corners),)),) * times)

    check(dataset(inside, 0, 0, 10, 10), tmp_path)
    with pytest.raises(ContractError, match="outside of the root"):
        check(dataset(ImageRef("a", tmp_path / "../b.png", 10, 10), 0, 0, 1, 1), tmp_path)
    for corners in ((0, 0, 11, 1), (0, 0, 0, 1), (0, 0, float("nan"), 1), (-1, 0, 1, 1)):
        with pytest.raises(ContractError, match="on 10 × 10 pixels"):
            check(dataset(inside, *corners), tmp_path)
    with pytest.raises(ContractError, match="more than once"):
        check(dataset(inside, 0, 0, 1, 1, times=2), tmp_path)


def _refuse_and_leave(given: Input) -> None:
    (given.out / "half").write_text("")
    raise WronglungError("no")


def _kill_time(given: Input) -> None:
    while True:
        pass


READS_BADLY = {
    "refused, and left half behind": _refuse_and_leave,
    "os.system": lambda given: os.system("true") and None,
    "wrote to": lambda given: (given.root.parent / "new").write_text("") and None,
    "files beside were written": lambda given: (given.root.parent.parent / "outside.txt").write_text("x") and None,
    "KeyError": lambda given: dict[str, None]()["x"],
    "an error without a message": lambda given: (_ for _ in ()).throw(WronglungError(" ")),
    "more than": _kill_time,
}


@pytest.mark.parametrize("message", READS_BADLY)
def test_what_must_not_happen_is_noticed(message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.guard.SECONDS", 0.2)

    def write(folder: Path) -> Path:
        (folder / "file.txt").write_text("some text")
        return folder / "file.txt"

    started = False

    def read(given: Input) -> None:
        nonlocal started
        if started:
            READS_BADLY[message](given)
        started = True

    fault = Fuzzer(Target("bad", write, read), tmp_path).once(1)
    assert fault is not None
    assert message in fault or "wrote to" in fault


def test_the_watch_ends_with_its_block(tmp_path: Path) -> None:
    with watched(tmp_path):
        (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    assert os.system("true") == 0
