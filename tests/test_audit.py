"""What the audit of dependencies tells, and that what the package imports is declared."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "open_clip": "open_clip_torch", "cv2": "opencv-python",
    "spacy": "scispacy", "huggingface_hub": "transformers", "tokenizers": "transformers", "mlflow": "mlflow-skinny", "torchvision": "open_clip_torch",
    "timm": "open_clip_torch", "joblib": "scispacy", "nmslib": "scispacy", "click": "typer",
}  # fmt: skip
"""What is imported under another name, or comes with the package on the right."""


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_vulnerability_is_told(audit: ModuleType) -> None:
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]},
            {"name": "b", "version": "1", "vulns": []},
            {"name": "c", "skip_reason": "not found"},
        ]
    }
    assert audit.told(report) == (["a 1: X-1, fixed in 2"], 2, 1)


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}]}', 1, "X-1"),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 0, "NOT AUDITED"),
        ("", 0, "NOT AUDITED"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "1 packages audited"),
    ],
)
def test_nothing_passes_in_silence(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    status: int,
    says: str,
) -> None:
    class Done:
        stdout, stderr = answer, "could not connect"

    def run(*_: Any, **__: Any) -> Done:
        return Done()

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == status
    told = capsys.readouterr()
    assert says in told.out + told.err


def test_what_is_imported_is_declared() -> None:
    declared = _declared()
    for top in ("adapters", "benchmark", "leaderboard", "tasks"):
        for path in (ROOT / top).rglob("*.py"):
            for module in _imported(path):
                if module in sys.stdlib_module_names or module == "wronglung":
                    continue
                assert _plain(NAMES.get(module, module)) in declared, f"{path.relative_to(ROOT)} imports {module}"


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for one in [
        *project["dependencies"],
        *(
            one
            for extra in ("open-clip", "masking", "dicom", "speed")
            for one in project["optional-dependencies"][extra]
        ),
    ]:
        assert ">=" in one, one


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    return {_plain(re.split(r"[\s\[<>=;]", one)[0]) for one in everything}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere, its own aside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
