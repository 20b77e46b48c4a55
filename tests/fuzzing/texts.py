"""What users write themselves: suites, tasks, columns, configurations of training, sweeps."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from wronglung.adapters.gloria.training import config
from wronglung.benchmark.datasets.detect import detect
from wronglung.benchmark.sweep import read_sweep
from wronglung.tasks.schema import load_suite, load_task

from .command_line import run
from .runs import write_runs
from .target import Input, Target

TASK = """\
name: mine
version: "1.2"
title: A task of mine
sentences: original
perturbation: {name: swap_left_right, match: word}
expected: decrease
citation: nobody
description: |
  Several
  lines.
"""
SUITE = """\
name: my-suite
version: "2.0"
description: Some tasks
protocol: {frame: image, resolution: 64, draws: 2, box_edges: inclusive}
tasks:
  - original
  - mine.yaml
  - name: in_place
    version: "1.0"
    title: In place
    sentences: {name: original}
    perturbation: shuffle_boxes
    expected: report
subsets: [all, one_lung]
metrics: [auroc, average_precision, entropy]
correlations: [auroc, is_abnormal]
"""
COLUMNS = """\
ranking: {metric: auroc, task: original, subsets: [one_lung, all]}
subsets: [one_lung]
other_metrics: true
intervals: plus-minus
blocks:
  - title: Values
    columns:
      - {metric: auroc, label: A, percent: true, decimals: 2}
      - {metric: average_precision, task: original}
  - title: Deltas
    columns:
      - {metric: auroc, task: "*", delta: true}
"""
SWEEP = """\
models:
  - oracle
  - model: precomputed
    name: mine
    arguments: {maps: a/b, grid: 14, signed: true}
"""


def _file(name: str, text: str, beside: Callable[[Path], object] | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        if beside is not None:
            beside(folder)
        (folder / name).write_text(text)
        return folder / name

    return write


def _suite(given: Input) -> None:
    suite = load_suite(str(given.root))
    # What is accepted can be written down and read again.
    type(suite).model_validate_json(suite.model_dump_json())


def _columns(given: Input) -> None:
    shown = given.rng.choice(("markdown", "latex", "csv", "html"))
    run("leaderboard", given.root.parent / "runs", "--columns", given.root, "--format", shown)


def _training(given: Input) -> None:
    config.as_yaml(config.load_config("retrained", file=given.root))


def _mixed_tree(folder: Path) -> Path:
    """Collections side by side, to be told apart."""
    for tree in ("coco", "huggingface", "ms_cxr", "vinbigdata", "jsonl"):
        (folder / tree).mkdir()
        importlib.import_module(f"trees.{tree}").write(folder / tree)
    return folder


def _task(given: Input) -> None:
    str(load_task(str(given.root)))


def _sweep(given: Input) -> None:
    str(read_sweep(given.root))


def _detect(given: Input) -> None:
    for found in detect(given.root):
        str(found)


TARGETS = [
    Target("suite", _file("suite.yaml", SUITE, _file("mine.yaml", TASK)), _suite, ("suite.yaml", "mine.yaml")),
    Target("task", _file("mine.yaml", TASK), _task),
    Target("columns", _file("columns.yaml", COLUMNS, write_runs), _columns, ("columns.yaml",)),
    Target("training-config", _file("training.yaml", config.as_yaml(config.load_config("masking"))), _training),
    Target("sweep", _file("sweep.yaml", SWEEP), _sweep),
    Target("detect", _mixed_tree, _detect, media=(".png", ".jpg", ".dcm")),
]
