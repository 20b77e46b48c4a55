"""The layout: wronglung.X is the folder X/, everything is shipped, and nothing heavy is imported early."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wronglung

ROOT = Path(__file__).parent.parent
TOPS = ("adapters", "benchmark", "leaderboard", "tasks")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_shipped() -> None:
    inits = (init.parent.relative_to(ROOT).parts for top in TOPS for init in (ROOT / top).rglob("__init__.py"))
    found = {".".join(("wronglung", *parts)) for parts in inits} | {"wronglung"}
    assert found == set(SETUPTOOLS["packages"])


def test_every_data_file_is_shipped() -> None:
    kinds = (".yaml", ".csv", ".json", ".jsonl")
    data = [path for top in TOPS for path in (ROOT / top).rglob("*") if path.suffix in kinds]
    assert data
    for path in data:
        top = path.relative_to(ROOT).parts[0]
        patterns = SETUPTOOLS["package-data"][f"wronglung.{top}"]
        assert any(path in set((ROOT / top).glob(pattern)) for pattern in patterns), path


def test_links_follow_the_mapping() -> None:
    if not (ROOT / "src/wronglung/tasks").is_symlink():
        pytest.skip("this checkout has no symbolic links")
    for top in TOPS:
        assert SETUPTOOLS["package-dir"][f"wronglung.{top}"] == top
        assert (ROOT / "src/wronglung" / top).resolve() == ROOT / top


def test_the_root_exports_what_it_says() -> None:
    for name in wronglung.__all__:
        assert getattr(wronglung, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = wronglung.no_such_name


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "models", "--json"], ["run", "--help"]])
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["wronglung", *{arguments!r}]
from wronglung.benchmark.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = sorted({{"torch", "transformers", "datasets", "sklearn", "scipy", "pandas"}} & set(sys.modules))
print("HEAVY", heavy, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout
    assert "HEAVY []" in done.stderr


ALLOWED = {
    # Who may import whom: folder -> other folders.
    "tasks": {"benchmark"},
    "benchmark": {"tasks"},
    "adapters": {"benchmark"},
    "leaderboard": {"benchmark", "tasks"},
}
# The command line and the plug-in of pytest compose everything.
ENTRANCES = ("cli.py", "pytest_plugin.py")
KNOWN_TO_TASKS = {"arguments", "errors", "instances", "registry", "metrics.catalogue", "safe_yaml"}
KNOWN_TO_ADAPTERS = {
    "anatomy", "arguments", "errors", "geometry", "instances", "locking", "processes", "protocol", "registry", "safe_yaml",
    "schema_version", "small_file",
}  # fmt: skip


def test_imports_go_one_way() -> None:
    for top in TOPS:
        for path in (ROOT / top).rglob("*.py"):
            package = ("wronglung", *path.relative_to(ROOT).parent.parts)
            for module in _relative_imports(path, package):
                folder = module.split(".")[1]
                name = ".".join(module.split(".")[2:])
                if top == "benchmark" and path.name.endswith(ENTRANCES):
                    continue
                assert folder == top or folder in ALLOWED[top], (path, module)
                assert module != "wronglung.benchmark.cli", path
                if top == "tasks" and folder == "benchmark":
                    assert name in KNOWN_TO_TASKS, (path, module)
                if top == "adapters" and folder == "benchmark":
                    assert name in KNOWN_TO_ADAPTERS, (path, module)


def _relative_imports(path: Path, package: tuple[str, ...]) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            found.append(".".join((*base, node.module or "")))
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert not (node.module or "").startswith("wronglung"), f"{path}: import relatively inside the package"
    return found
