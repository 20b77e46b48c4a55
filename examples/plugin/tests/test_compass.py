"""The plug-in, installed: found by name, held against the protocol, and run."""

import numpy as np
import pytest
from wronglung_compass.metric import pointing_game

from wronglung import evaluate, load_dataset, load_model


def test_the_model_keeps_the_protocol(wronglung_check):
    checks = {one.name: one.outcome for one in wronglung_check("compass")}
    assert checks["geometry against a moving patch"] == "passed"


def test_the_suite_gives_the_metric_and_the_perturbation():
    results = evaluate(load_model("compass"), load_dataset("phantom", patients=60), "compass")
    cells = {(one.task, one.subset, one.metric): one for one in results.run.scores}
    assert 0 <= cells["original", "all", "pointing_game"].value <= 1
    assert cells["original", "one_lung", "auroc"].value > 0.5
    assert cells["swap_left_right", "one_lung", "auroc"].delta < 0
    assert cells["swap_upper_lower", "all", "pointing_game"].n_changed > 0


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [([[0, 1], [0, 0]], 1.0), ([[1, 0], [0, 0]], 0.0), ([[1, 1], [0, 0]], 0.5)],
)
def test_the_pointing_game(saliency, expected):
    mask = np.array([[False, True], [False, False]])
    assert pointing_game(np.array(saliency, dtype=np.float32), mask) == expected
    assert np.isnan(pointing_game(np.array(saliency, dtype=np.float32), mask & False))
