"""A short run of every reader's fuzz target; :mod:`fuzz_readers` runs for as long as is asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_readers import TARGETS, ContractError, Fuzzer, check, mutated

from wronglung.benchmark.datasets import CATALOGUE
from wronglung.benchmark.instances import Box, Dataset, ImageRef, Instance

INPUTS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_give_instances_or_one_clear_error(name: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(TARGETS[name], tmp_path)
    whole = fuzzer.read()
    assert whole is not None
    assert whole.instances
    faults = [fault for seed in range(INPUTS) if (fault := fuzzer.once(seed)) is not None]
    assert not faults, faults[0]
    again = fuzzer.read()
    assert again is not None
    assert again.fingerprint == whole.fingerprint
    assert fuzzer.outcomes["read"] > INPUTS / 10


def test_every_reader_has_a_target() -> None:
    assert {target.reader for target in TARGETS.values()} == set(CATALOGUE) - {"phantom"}


def test_damage_is_damage() -> None:
    data = b'{"a": [1, 2], "b": "text"}\n' * 3
    assert sum(mutated(data, random.Random(seed)) != data for seed in range(100)) > 90


def test_the_contract_is_looked_at(tmp_path: Path) -> None:
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
