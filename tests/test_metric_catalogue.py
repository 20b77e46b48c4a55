"""The catalogue of metric names, which result files carry, and the page written from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wronglung.benchmark.describe import describe
from wronglung.benchmark.metrics.catalogue import METRICS, ONLY_FOR, Metric
from wronglung.benchmark.metrics.page import page
from wronglung.benchmark.metrics.ranking import rank, score
from wronglung.tasks.schema import list_definitions

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

DIAGNOSTICS = {
    "entropy",
    "focus",
    "no_attention_weight",
    "random_attention_kl",
    "local_similarity",
    "global_similarity",
    # Both flatter maps that they should not, so nothing is ranked by them.
    "cnr_absolute",
    "pointing_game_any",
}
HEADLINE = {"average_precision_normalized", "relevance_rank_accuracy", "pointing_game", "cnr", "laterality_index"}


def test_the_names_are_fixed() -> None:
    assert set(METRICS) == {
        "auroc",
        "average_precision",
        *(f"{measure}@{p}" for measure in ("precision", "recall", "f1", "iou") for p in (5, 10, 20, 30)),
        *(f"selection_accuracy_{kind}{how}" for kind in ("local", "global") for how in ("", "_exhaustive")),
        *HEADLINE,
        *(f"pointing_game_{variant}" for variant in ("first", "any", "tolerance15")),
        *("miou_minmax", "miou_clamp", "mdice_minmax", "mass_inside", "mass_inside_lift", "laterality_swap_gain"),
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
    assert metric.headline is (name in HEADLINE)


@pytest.mark.parametrize("name", METRICS)
def test_changes_are_judged_of_what_is_ranked_by(name: str) -> None:
    metric = METRICS[name]
    if name in DIAGNOSTICS:
        assert metric.margin is None
    else:
        assert metric.margin is not None
        assert 0 < metric.margin < 0.1


@pytest.mark.parametrize(
    "name", [name for name in METRICS if "similarity" not in name and name != "no_attention_weight"]
)
def test_each_measure_of_a_map_says_what_degenerate_input_gives(name: str) -> None:
    assert METRICS[name].degenerate
    assert METRICS[name].ties or name in DIAGNOSTICS


def test_the_fields_of_other_packages_metrics_have_defaults() -> None:
    theirs = Metric("own", "a summary", True, (0.0, 1.0), "here", lambda saliency, mask: 0.5)
    assert (theirs.ties, theirs.degenerate, theirs.margin, theirs.headline) == ("", "", None, False)


def test_metrics_for_one_task_name_a_task_that_there_is() -> None:
    assert set(ONLY_FOR) <= set(METRICS)
    assert set(ONLY_FOR.values()) <= {row.name for row in list_definitions("task")}


def test_every_ranking_metric_is_listed() -> None:
    (scores,) = score(rank(torch.rand(100), [np.arange(100) < 20]))
    assert set(scores) <= set(METRICS)
    assert all(METRICS[name].range[0] <= value <= METRICS[name].range[1] for name, value in scores.items())


def test_listing_metrics_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, wronglung.benchmark.metrics.catalogue; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_page_is_written_from_the_cards() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m wronglung.benchmark.metrics.page"


@pytest.mark.parametrize("name", METRICS)
def test_the_page_names_every_metric(name: str) -> None:
    assert f"`{name}`" in page()


def test_a_card_is_shown_whole() -> None:
    card = METRICS["cnr"]
    shown = describe("cnr")
    assert all(text in shown for text in (card.summary, card.source, card.ties, card.degenerate, "[-inf, inf]", "0.05"))
    assert "headline" in shown
    swap = describe("laterality_swap_gain")
    assert "task swap_left_right" in swap
    assert "headline" not in swap


def test_a_card_without_more_is_shown_short() -> None:
    assert describe("no_attention_weight").splitlines()[2:] == [
        "attention that the model put on no region at all",
        "range: [0, 1]; a diagnostic, never ranked on",
        f"source: {METRICS['no_attention_weight'].source}",
    ]
