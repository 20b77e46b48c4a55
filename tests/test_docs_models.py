"""The page on models names every model, and its commands are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wronglung.adapters import CATALOGUE
from wronglung.benchmark.cli import app

PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_name_is_in_the_table(name: str) -> None:
    short = name.removeprefix("gloria-phantom")
    assert f"`{name}`" in PAGE or f"`{short}`" in PAGE or f"`{name}:" in PAGE


def test_no_verb_is_made_up() -> None:
    known = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback} | {"data"}
    assert set(re.findall(r"(?m)(?:^|`)wronglung ([a-z-]+)", PAGE)) <= known


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.version])
def test_a_preset_says_its_licence(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| ") and f"`{name}`" in line)
    assert re.search(r"MIT|Apache-2\.0|BSD-3|terms", row)
