"""Folders of runs, baselines, and what lies beside them, through the verbs that read them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.figure  # noqa: F401 - makes folders of its own when it is imported

from wronglung import evaluate, load_model
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch

from .command_line import run
from .guard import ContractError
from .target import Input, Target

MODELS = ("oracle", "text-blind")
FORMATS = ("markdown", "latex", "csv", "html", "parquet", "huggingface")
PAPER = ("localization", "correlations", "swap-left-right", "subset-sizes")

GATES = """\
gates:
  - metric: auroc
    task: original
    subset: one_lung
    margin: 0.02
    inconclusive: fail
  - {metric: average_precision, subset: "*", relative: 0.1, better: higher, at_least: 0.1}
  - {metric: auroc, task: swap_left_right, delta: true, at_most: 0.5}
"""


@cache
def _made() -> Path:
    """Two runs with maps and their dataset, made once a process."""
    folder = Path(mkdtemp(prefix="fuzzing-"))
    data = load_dataset("jsonl", write_sketch(folder / "sketch", patients=10))
    for name in MODELS:
        results = evaluate(load_model(name), data, "smoke", save_maps=True)
        (folder / "runs" / name).mkdir(parents=True)
        results.save(folder / "runs" / name)
    return folder


def write_runs(folder: Path) -> Path:
    shutil.copytree(_made() / "runs", folder / "runs")
    shutil.copytree(_made() / "sketch", folder / "sketch")
    for maps in folder.rglob("maps.safetensors"):
        _shrink(maps)
    return folder / "runs"


def _shrink(file: Path) -> None:
    """The maps with every eighth row and column."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(file, framework="pt") as tensors:
        metadata = tensors.metadata()
        small = {key: tensors.get_tensor(key)[::8, ::8].contiguous() for key in tensors.keys()}  # noqa: SIM118
    save_file(small, file, metadata)


def _with_gates(folder: Path) -> Path:
    root = write_runs(folder)
    (folder / "gates.yaml").write_text(GATES)
    return root


def _with_baseline(folder: Path) -> Path:
    root = write_runs(folder)
    run("compare", folder / "base.parquet", root / "oracle", "--update-baseline")
    return root


def _leaderboard(given: Input) -> None:
    chosen = given.rng.choice(FORMATS)
    more = ["--dataset-id", "a/b"] if chosen == "huggingface" else []
    run("leaderboard", given.root, "--format", chosen, "--out", given.out / "board", *more)
    if chosen == "markdown":
        run("leaderboard", given.root)


def _compare(given: Input) -> None:
    pair = given.rng.sample(sorted(given.root.iterdir()), 2)
    printed = run("compare", *pair, "--format", given.rng.choice(("markdown", "json", "junit")), "--all")
    if not printed.strip():
        raise ContractError("a comparison without a word")


def _gates(given: Input) -> None:
    run("compare", given.root / "oracle", given.root / "oracle", "--gate", given.root.parent / "gates.yaml")


def _baseline(given: Input) -> None:
    base = given.root.parent / "base.parquet"
    run("compare", base, given.root / "text-blind")


def _report(given: Input) -> None:
    data = ["--include-data", "--dataset", "jsonl", "--data-root", given.root.parent / "sketch" / "sketch.jsonl"]
    limit = ["--max-instances", "3"]
    run("report", given.root, "--out", given.out / "report", *(data + limit if given.rng.random() < 0.5 else []))
    for page in (given.out / "report").rglob("*"):
        if page.suffix in (".html", ".js") and b"<img src=x onerror=" in page.read_bytes():
            raise ContractError(f"{page.name}: markup out of a run")


def _paper(given: Input) -> None:
    name = given.rng.choice(PAPER)
    kind = given.rng.choice(("svg", "csv") if name == "swap-left-right" else ("md", "tex", "csv"))
    run("paper", name, given.root, "--out", given.out / f"paper.{kind}")


def _precomputed(given: Input) -> None:
    """A run's folder as a model that looks its maps up."""
    from .maps import read_maps

    read_maps(given.root / "oracle", given.root.parent / "sketch" / "sketch.jsonl")


_RUN = ("results.json", "instances.parquet", "skipped.jsonl", "maps.safetensors", "pairs.parquet")


def _target(name: str, read: Callable[[Input], None], files: tuple[str, ...] = _RUN[:2]) -> Target:
    return Target(name, write_runs, read, files)


TARGETS = [
    _target("leaderboard", _leaderboard),
    _target("compare", _compare),
    _target("report", _report, _RUN),
    _target("paper", _paper),
    _target("run-as-maps", _precomputed, _RUN),
    Target("gates", _with_gates, _gates, ("gates.yaml",)),
    Target("baseline", _with_baseline, _baseline, ("base.parquet",)),
]
