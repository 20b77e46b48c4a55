"""The plug-in, installed: found by name, held against the protocol, and run."""

import numpy as np
import pytest
from wronglung_compass.metric import peak_distance

from wronglung import evaluate, load_dataset, load_model


def test_the_model_keeps_the_protocol(wronglung_check):
    checks = {one.name: one.outcome for one in wronglung_check("compass")}
    assert checks["geometry against a moving patch"] == "passed"


def test_the_suite_gives_the_metric_and_the_perturbation():
    results = evaluate(load_model("compass"), load_dataset("phantom", patients=60), "compass")
    cells = {(one.task, one.subset, one.metric): one for one in results.run.scores}
    assert 0 <= cells["original", "all", "peak_distance"].value <= 1
    assert cells["original", "one_lung", "auroc"].value > 0.5
    assert cells["swap_left_right", "one_lung", "auroc"].delta < 0
    assert cells["swap_upper_lower", "all", "peak_distance"].n_changed > 0


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [
        ([[0, 1], [0, 0]], 0.0),
        ([[1, 0], [0, 0]], 1 / 8**0.5),
        ([[1, 1], [0, 0]], 1 / 8**0.5 / 2),
        ([[0, 0], [1, 0]], 2**0.5 / 8**0.5),
    ],
)
def test_the_peak_distance(saliency, expected):
    mask = np.array([[False, True], [False, False]])
    assert peak_distance(np.array(saliency, dtype=np.float32), mask) == pytest.approx(expected)
    assert np.isnan(peak_distance(np.array(saliency, dtype=np.float32), mask & False))
