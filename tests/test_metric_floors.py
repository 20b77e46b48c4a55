"""What floors and ceilings score by the measures beyond the paper's, through whole runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch

from wronglung import Dataset, ModelCard, evaluate, load_dataset, load_model, load_suite
from wronglung.adapters.functions import FunctionModel, Map
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Box
from wronglung.benchmark.metrics.catalogue import METRICS
from wronglung.benchmark.protocol import LoadedImage
from wronglung.benchmark.results import Results
from wronglung.benchmark.scoring import Wanted, score_map
from wronglung.tasks.schema import Protocol

FLOORS = ("uniform", "center-prior", "random", "text-blind", "mirrored-oracle")
HEADLINE = [metric.name for metric in METRICS.values() if metric.headline]
SUITE = """
name: beyond
version: "1.0"
description: Everything that the harness computes of a map.
tasks: [original, swap_left_right, random_sentences]
subsets: [all, one_lung]
metrics: [{metrics}]
"""
Runs = Callable[[str], Results]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "beyond.yaml"
    names = [name for name in METRICS if not name.startswith("selection")]
    path.write_text(SUITE.format(metrics=", ".join(f'"{name}"' for name in names)))
    return str(path)


@pytest.fixture(scope="module")
def dataset(sketch_file: Path) -> Dataset:
    return load_dataset("jsonl", sketch_file)


@pytest.fixture(scope="module")
def run(suite: str, dataset: Dataset) -> Runs:
    return cache(lambda name: evaluate(load_model(name), dataset, suite))


def value(results: Results, metric: str, task: str = "original", subset: str = "one_lung") -> float:
    found = next(
        one.value for one in results.run.scores if (one.metric, one.task, one.subset) == (metric, task, subset)
    )
    assert found is not None
    return found


def rows(results: Results, task: str) -> pd.DataFrame:
    frame = results.instances
    return frame[frame["task"] == task].set_index("instance_id")


def test_the_oracle_is_near_the_top_of_every_measure(run: Runs) -> None:
    oracle = run("oracle")
    for name in ("average_precision_normalized", "relevance_rank_accuracy", "mass_inside", "miou_minmax"):
        assert value(oracle, name) > 0.85, name
    assert value(oracle, "pointing_game") == 1
    assert value(oracle, "pointing_game_tolerance15") == 1
    assert value(oracle, "mdice_minmax") > value(oracle, "miou_minmax")
    assert value(oracle, "cnr") > 3
    assert value(oracle, "laterality_index") > 0.99
    assert value(oracle, "laterality_swap_gain", "swap_left_right") > 1.98


@pytest.mark.parametrize("metric", HEADLINE)
def test_the_mirrored_oracle_comes_last(run: Runs, metric: str) -> None:
    mirrored = value(run("mirrored-oracle"), metric)
    others = [value(run(name), metric) for name in ("oracle", *FLOORS) if name != "mirrored-oracle"]
    if metric == "average_precision_normalized":
        # A map that is flat in the boxes has the average precision of one that is flat everywhere: no room below chance.
        assert mirrored == pytest.approx(min(others), abs=0.01)
    elif metric == "pointing_game":
        # The centre of the film is in no lung either.
        assert mirrored == min(others) == 0
    else:
        assert mirrored < min(others)


def test_the_mirrored_oracle_is_on_exactly_the_wrong_lung(run: Runs) -> None:
    mirrored = run("mirrored-oracle")
    assert value(mirrored, "laterality_index") < -0.99
    assert value(mirrored, "laterality_swap_gain", "swap_left_right") < -1.98
    assert value(mirrored, "cnr") < 0
    # Which its absolute value would hide: it is then above a map that knows nothing.
    assert value(mirrored, "cnr_absolute") > value(run("uniform"), "cnr_absolute") == 0


def test_a_uniform_map_is_at_chance(run: Runs) -> None:
    uniform = rows(run("uniform"), "original")
    prevalence = uniform["average_precision"]
    for name in ("pointing_game", "relevance_rank_accuracy", "mass_inside"):
        np.testing.assert_allclose(uniform[name], prevalence, rtol=1e-12)
    for name in ("average_precision_normalized", "cnr", "cnr_absolute", "focus", "miou_minmax", "mdice_minmax"):
        np.testing.assert_allclose(uniform[name], 0, atol=1e-12)
    np.testing.assert_allclose(uniform["mass_inside_lift"], 1, rtol=1e-12)
    np.testing.assert_allclose(uniform["laterality_index"].dropna(), 0, atol=1e-12)
    assert (uniform["pointing_game_any"] == 1).all()


@pytest.mark.parametrize("name", ["uniform", "center-prior", "text-blind"])
def test_what_ignores_the_text_gains_nothing_from_a_swap(run: Runs, name: str) -> None:
    gain = rows(run(name), "swap_left_right")["laterality_swap_gain"].dropna()
    assert len(gain)
    assert (gain == 0).all()


def test_the_gain_is_the_index_lost_where_the_swap_changes_the_sentence(run: Runs) -> None:
    before, after = rows(run("oracle"), "original"), rows(run("oracle"), "swap_left_right")
    lost = (before["laterality_index"] - after["laterality_index"]).where(after["changed"])
    pd.testing.assert_series_equal(after["laterality_swap_gain"], lost, check_names=False)
    assert 0 < lost.notna().sum() < len(lost)
    assert before["laterality_swap_gain"].isna().all()


def test_the_gain_is_a_figure_of_the_swap_alone(run: Runs) -> None:
    cells = [one for one in run("oracle").run.scores if one.metric == "laterality_swap_gain"]
    assert {one.task for one in cells} == {"swap_left_right"}
    assert all(one.delta is None for one in cells)


def test_two_sided_targets_have_no_index_and_say_so(run: Runs, dataset: Dataset) -> None:
    original = rows(run("oracle"), "original")
    sides = {one.id: {box.name.split()[0] for box in one.boxes} for one in dataset.instances}
    both = [name for name, found in sides.items() if {"left", "right"} <= found]
    one = [name for name, found in sides.items() if len(found & {"left", "right"}) == 1 and len(found) == 1]
    assert both
    assert one
    assert original.loc[both, "laterality_index"].isna().all()
    assert set(original.loc[both, "undefined"]) == {"target_not_one_sided"}
    assert original.loc[one, "laterality_index"].notna().all()
    assert original.loc[one, "undefined"].isna().all()


def test_the_index_of_another_sentence_is_on_the_side_of_its_own_boxes(run: Runs) -> None:
    """A random sentence keeps the boxes, so that its index says whether the map still lies on their side."""
    frame = rows(run("oracle"), "random_sentences")
    assert frame["laterality_index"].notna().equals(rows(run("oracle"), "original")["laterality_index"].notna())
    assert frame["laterality_index"].mean() < 0.5


@pytest.mark.parametrize("name", ["oracle", "random", "mirrored-oracle"])
def test_every_figure_lies_in_its_range(run: Runs, name: str) -> None:
    frame = run(name).instances
    for metric in METRICS.values():
        if metric.name in frame:
            figures = frame[metric.name].dropna()
            assert figures.between(*metric.range).all(), metric.name


def test_the_focus_of_a_map_is_the_share_of_regions_that_it_leaves_out(dataset: Dataset, suite: str) -> None:
    def quarter(image: LoadedImage, sentence: str) -> Map:
        lit = np.zeros((8, 8))
        lit[:4, :4] = 1
        return lit

    card = ModelCard(name="quarter", saliency_method="a quarter", map_kind="distribution")
    frame = evaluate(FunctionModel(card, quarter), dataset, suite, limit=3).instances
    np.testing.assert_allclose(frame["focus"], 0.75)


@pytest.mark.parametrize("mass", ["sum", "clip", "softmax"])
@pytest.mark.parametrize("metric", [name for name in HEADLINE if name != "laterality_index"])
def test_headline_measures_are_the_same_for_a_map_that_is_scaled_and_shifted(
    metric: str, mass: Literal["sum", "clip", "softmax"]
) -> None:
    saliency = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    card = ModelCard(name="x", saliency_method="x", map_kind="score", mass=mass)
    boxes = (Box("left lung", 20, 10, 60, 90),)

    def figure(given: torch.Tensor) -> float:
        wanted = Wanted(frozenset(HEADLINE))
        scored = score_map(given, Geometry.squash(120, 100, 64, 64), card, Protocol(), None, [boxes], False, wanted)
        return scored.by_boxes[boxes].values[metric]

    assert figure(4 * saliency - 2) == pytest.approx(figure(saliency), rel=1e-5)


def test_what_is_not_wanted_is_not_computed() -> None:
    boxes = (Box("left lung", 20, 10, 60, 90),)
    card = ModelCard(name="x", saliency_method="x", map_kind="distribution")
    given = (torch.rand(7, 7), Geometry.squash(120, 100, 64, 64), card, Protocol(), None, [boxes], False)
    assert not {"cnr", "mass_inside", "miou_minmax"} & set(score_map(*given).by_boxes[boxes].values)
    some = score_map(*given, Wanted(frozenset({"cnr"}))).by_boxes[boxes].values
    assert "cnr" in some
    assert "mass_inside" not in some


def test_the_released_definitions_leave_the_new_measures_alone(dataset: Dataset, suite: str) -> None:
    exact = load_suite(suite)
    released = exact.model_copy(update={"protocol": Protocol(definitions="released")})
    few = dataclasses.replace(dataset, instances=dataset.instances[:6])
    one, other = (evaluate(load_model("random"), few, which).instances for which in (exact, released))
    new = [*HEADLINE, "miou_minmax", "mdice_minmax", "mass_inside", "laterality_swap_gain", "pointing_game_tolerance15"]
    pd.testing.assert_frame_equal(one[new], other[new])
