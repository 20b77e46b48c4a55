"""How well a model under training localizes: a few figures of validation data, for a log."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..tasks.schema import load_suite
from .evaluation import evaluate
from .instances import Dataset

SUITE = "smoke"


def validation(dataset: Dataset, instances: int) -> Callable[[Any], dict[str, float]] | None:
    """A function that measures a model on the first ``instances`` of a dataset, or None for 0 of them.

    It gives AUROC on all instances (``auroc``) and on those about one lung (``auroc_one_lung``), the changes of both
    when left and right are swapped (``swap_left_right``, ``swap_left_right_one_lung``), ``random_attention_kl`` and
    ``entropy`` in nats. What the data cannot say is NaN.
    """
    if instances == 0:
        return None
    suite = load_suite(SUITE)

    def measure(model: Any) -> dict[str, float]:
        scores = evaluate(model, dataset, suite, limit=instances).run.scores
        cells = {(one.perturbation, one.subset, one.metric): one for one in scores}

        def value(perturbation: str | None, subset: str, metric: str, field: str = "value") -> float:
            cell = cells.get((perturbation, subset, metric))
            found = None if cell is None else getattr(cell, field)
            return math.nan if found is None else float(found)

        return {
            "auroc": value(None, "all", "auroc"),
            "auroc_one_lung": value(None, "one_lung", "auroc"),
            "swap_left_right": value("swap_left_right", "all", "auroc", "delta"),
            "swap_left_right_one_lung": value("swap_left_right", "one_lung", "auroc", "delta"),
            "random_attention_kl": value("random_sentences", "all", "random_attention_kl"),
            "entropy": value(None, "all", "entropy"),
        }

    return measure
