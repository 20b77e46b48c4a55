"""The GitHub Action at the root of the repository: its script, run as the runner would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from planting import lower, plant

from wronglung import evaluate, load_dataset, load_model

ACTION: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "action.yml").read_text(encoding="utf-8"))
(STEP,) = ACTION["runs"]["steps"]


@pytest.fixture(scope="module")
def runs(sketch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, and ``worse``, where one metric is."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "base").mkdir()
    evaluate(load_model("oracle"), load_dataset("jsonl", sketch_file), "smoke").save(folder / "base")
    plant(folder / "base", folder / "worse", lower("auroc", 0.2))
    return folder


class Runner:
    """Runs the step in a folder of its own, with ``wronglung`` on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary, self.output = folder / "summary", folder / "output"
        (folder / "bin").mkdir()
        (folder / "bin" / "wronglung").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wronglung "$@"\n')
        (folder / "bin" / "wronglung").chmod(0o755)

    def __call__(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        given = {key.replace("_", "-"): value for key, value in inputs.items()}
        values = {name: given.pop(name, spec.get("default", "")) for name, spec in ACTION["inputs"].items()}
        assert not given
        env = {name: values[text.removeprefix("${{ inputs.").removesuffix(" }}")] for name, text in STEP["env"].items()}
        places = {
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.output),
            "TMPDIR": str(self.folder),
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # As GitHub's runner starts `shell: bash`.
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEP["run"]],
            env={**os.environ, **env, **places, "PATH": path}, cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture
def step(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_every_input_reaches_the_script_as_a_variable_and_never_as_code() -> None:
    assert "${{" not in STEP["run"]
    assert {text.removeprefix("${{ inputs.").removesuffix(" }}") for text in STEP["env"].values()} == set(
        ACTION["inputs"]
    )
    # `WRONGLUNG_...` variables are options of the command line.
    assert not [name for name in STEP["env"] if name.startswith(("WRONGLUNG", "GITHUB"))]


def test_passes_and_puts_the_table_into_the_summary(runs: Path, step: Runner) -> None:
    done = step(base=str(runs / "base"), candidate=str(runs / "base"), fail_on="auroc:-0.02\n\niou@10:-5%\n")
    assert done.returncode == 0, done.stderr
    assert step.summary.read_text().startswith("### passed: of 2 gates, 2 passed\n")
    assert step.output.read_text() == "outcome=passed\n"
    assert "### passed" in done.stdout
    assert sorted(path.name for path in step.folder.iterdir()) == ["bin", "output", "summary"]


def test_fails_and_writes_the_file_that_is_asked_for(runs: Path, step: Runner) -> None:
    (step.folder / "gates.yaml").write_text("gates: [{metric: auroc}]")
    done = step(base=str(runs / "base"), candidate=str(runs / "worse"), gate="gates.yaml", out="report 1.xml")
    assert done.returncode == 1, done.stderr
    assert "### FAILED: of 1 gates, 1 failed" in step.summary.read_text()
    assert '<testsuite name="wronglung compare" tests="1" failures="1"' in (step.folder / "report 1.xml").read_text()
    assert step.output.read_text() == "outcome=failed\n"


def test_refuses_with_a_word_in_the_summary(runs: Path, step: Runner) -> None:
    done = step(base=str(runs / "gone"), candidate=str(runs / "base"), out="report.xml")
    assert done.returncode == 2
    assert "no run here" in done.stderr
    assert "refused" in step.summary.read_text()
    assert step.output.read_text() == "outcome=refused\n"
    assert not (step.folder / "report.xml").exists()


def test_what_looks_like_shell_or_an_option_is_text(runs: Path, step: Runner) -> None:
    hostile = "--update-baseline $(touch pwned) `touch pwned` '; touch pwned; \"; touch pwned"
    done = step(base=hostile, candidate=str(runs / "base"), fail_on=hostile)
    assert done.returncode == 2
    assert f"wronglung: {hostile}: no run here" in done.stderr
    assert not (step.folder / "pwned").exists()
