"""The values behind a run's cells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from wronglung import Results, evaluate, load_dataset, load_model
from wronglung.benchmark.cells import Cell, cell_values, cells_of
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.statistics.resampling import cluster_intervals


@pytest.fixture(scope="module")
def results(sketch_file: Path) -> Results:
    return evaluate(load_model("oracle"), load_dataset("jsonl", sketch_file), "wrong-lung")


def test_their_means_and_intervals_are_the_figures_of_the_run(results: Results) -> None:
    samples = cell_values(results.run, results.instances)
    low, high = cluster_intervals(samples.values, samples.clusters, results.run.manifest.seed)
    figures = {(one.task, one.subset, one.metric): one for one in results.run.scores}
    assert len(samples.cells) > len(figures)
    for at, cell in enumerate(samples.cells):
        score = figures[cell.task, cell.subset, cell.metric]
        column = samples.column(cell)
        value = score.delta if cell.delta else score.value
        interval = (score.delta_ci_low, score.delta_ci_high) if cell.delta else (score.ci_low, score.ci_high)
        assert np.isnan(column).all() if value is None else np.nanmean(column) == pytest.approx(value, abs=1e-12)
        assert (low[at], high[at]) == pytest.approx(
            tuple(np.nan if end is None else end for end in interval), abs=1e-12, nan_ok=True
        )


def test_the_order_of_rows_does_not_matter(results: Results) -> None:
    shuffled = results.instances.sample(frac=1, random_state=0)
    one, other = cell_values(results.run, results.instances), cell_values(results.run, shuffled)
    np.testing.assert_array_equal(one.values, other.values)
    assert list(one.instance_ids) == sorted(one.instance_ids)


def test_every_score_has_its_cell_and_only_changes_of_one_sentence_a_delta(results: Results) -> None:
    cells = cells_of(results.run)
    assert Cell("swap_left_right", "all", "auroc", delta=True) in cells
    assert Cell("original", "all", "auroc", delta=True) not in cells
    assert not [cell for cell in cells if cell.delta and cell.metric == "random_attention_kl"]
    assert {cell[:3] for cell in cells} == {(one.task, one.subset, one.metric) for one in results.run.scores}


def test_what_a_table_lacks_is_said(results: Results) -> None:
    def refused(frame: object, cell: Cell, message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            cell_values(results.run, frame, [cell])  # type: ignore[arg-type]

    frame = results.instances
    refused(frame.drop(columns="auroc"), Cell("original", "all", "auroc"), "no column 'auroc'")
    refused(frame.drop(columns="in_all"), Cell("original", "all", "auroc"), "no column 'in_all'")
    refused(frame, Cell("original", "all", "auroc", delta=True), "perturbs nothing")
    swapped = frame.index[frame["task"] == "swap_left_right"]
    refused(frame.drop(index=swapped[:1]), Cell("swap_left_right", "all", "auroc", True), "not have the same instances")
    twice = dataclasses.replace(results, instances=frame.loc[[*frame.index, swapped[0]]]).instances
    refused(twice, Cell("swap_left_right", "all", "auroc"), "several rows for one instance")
