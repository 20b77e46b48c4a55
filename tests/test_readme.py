"""What README says can be done as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wronglung import Dataset, evaluate, load_model
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_adapter_runs_and_passes_the_checks(tmp_path: Path, sketch: Dataset) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class Mine" in block)
    assert len(code.splitlines()) < 50
    (tmp_path / "mine.py").write_text(code)
    model = load_model(f"{tmp_path / 'mine.py'}:Mine")
    assert [one for one in check_adapter(model) if one.outcome == "failed"] == []
    assert evaluate(model, sketch, "smoke").run.model["name"] == "mine"


def test_every_verb_is_in_the_table() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for verb in verbs - {"show"}:
        assert f"`wronglung {verb}" in README, verb


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (Path(__file__).parent.parent / path).exists()
