"""What the documentation shows is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wronglung import Geometry
from wronglung.adapters.preprocessing.pixels import clip

ROOT = Path(__file__).parent.parent
PLUGGING_IN = (ROOT / "docs" / "plugging-in.md").read_text(encoding="utf-8")
ADAPTER, CROP, TEST = re.findall(r"```python\n(.*?)```", PLUGGING_IN, re.DOTALL)
EXAMPLE = ROOT / "examples" / "plugin"


@pytest.mark.parametrize("size", [(300, 200), (257, 640), (224, 224), (225, 1001)])
def test_the_crop_is_that_of_clip(size: tuple[int, int]) -> None:
    known: dict[str, Any] = {"Geometry": Geometry}
    exec(CROP, known)  # noqa: S102 (ours, from the page)
    shown, (_, exact) = known["crop_geometry"](*size), clip(224)(Image.new("L", size))
    assert (shown.offset_x, shown.offset_y) == pytest.approx((exact.offset_x, exact.offset_y), abs=1)
    assert (shown.scale_x, shown.scale_y) == pytest.approx((exact.scale_x, exact.scale_y), rel=0.005)


PYTEST = ("-m", "pytest", "-q", "-p", "wronglung.benchmark.pytest_plugin")


def python(folder: Path, *arguments: str | Path) -> str:
    # An installed plug-in of pytest is loaded by its entry point, and only once.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def compass(tmp_path: Path) -> Path:
    """A folder with the adapter of the documentation."""
    (tmp_path / "compass.py").write_text(ADAPTER, encoding="utf-8")
    return tmp_path


def test_the_minimal_adapter_is_short() -> None:
    assert len(ADAPTER.splitlines()) < 50


def test_the_minimal_adapter_passes_the_checks(compass: Path) -> None:
    out = python(compass, "-m", "wronglung", "check", "compass.py:Compass")
    assert "ok     geometry against a moving patch" in out
    assert "FAILED" not in out


def test_the_minimal_adapter_runs(compass: Path, sketch_file: Path) -> None:
    data = ("--dataset", "jsonl", "--data-root", sketch_file)
    run = ("-m", "wronglung", "run", "--model", "compass.py:Compass", *data, "--suite", "smoke", "--out", "run")
    assert "compass" in python(compass, *run)
    assert (compass / "run" / "results.json").is_file()


def test_the_test_passes_with_the_fixture(compass: Path) -> None:
    (compass / "test_compass.py").write_text(TEST, encoding="utf-8")
    assert "1 passed" in python(compass, *PYTEST, "test_compass.py")


class TestExamplePackage:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def test_it_is_what_the_documentation_shows(self) -> None:
        shown = tomllib.loads(re.findall(r"```toml\n(.*?)```", PLUGGING_IN, re.DOTALL)[0])
        assert shown["project"]["entry-points"] == self.project["entry-points"]
        assert (EXAMPLE / "src/wronglung_compass/model.py").read_text(encoding="utf-8").endswith(ADAPTER)

    def test_its_own_tests_pass_where_it_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        info = tmp_path / "wronglung_compass-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wronglung-compass\nVersion: 0.1.0\n")
        groups = self.project["entry-points"].items()
        lines = [
            line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{EXAMPLE / 'src'}")
        assert "wronglung-compass" in python(tmp_path, "-m", "wronglung", "list", "models")
        assert "6 passed" in python(tmp_path, *PYTEST, "-c", EXAMPLE / "pyproject.toml", EXAMPLE)
