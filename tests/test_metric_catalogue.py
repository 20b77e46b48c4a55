"""The catalogue of metric names, which result files carry."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from wronglung.benchmark.metrics.catalogue import METRICS
from wronglung.benchmark.metrics.ranking import rank, score

DIAGNOSTICS = {"entropy", "no_attention_weight", "random_attention_kl", "local_similarity", "global_similarity"}


def test_the_names_are_fixed() -> None:
    assert set(METRICS) == {
        "auroc",
        "average_precision",
        *(f"{measure}@{p}" for measure in ("precision", "recall", "f1", "iou") for p in (5, 10, 20, 30)),
        *(f"selection_accuracy_{kind}{how}" for kind in ("local", "global") for how in ("", "_exhaustive")),
        *DIAGNOSTICS,
    }


@pytest.mark.parametrize("name", METRICS)
def test_each_entry_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.summary
    assert metric.source
    assert metric.range[0] < metric.range[1]
    assert metric.higher_is_better is (None if name in DIAGNOSTICS else True)


def test_every_ranking_metric_is_listed() -> None:
    scores = score(rank(torch.rand(100)), np.arange(100) < 20)
    assert set(scores) <= set(METRICS)
    assert all(METRICS[name].range[0] <= value <= METRICS[name].range[1] for name, value in scores.items())


def test_listing_metrics_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, wronglung.benchmark.metrics.catalogue; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
