"""The names of all metrics, as result files carry them. Plain data: nothing heavy is imported to list them.

Other packages add metrics by entry points in the group ``wronglung.metrics``, each a :class:`Metric` with a ``function``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import WronglungError
from ..registry import METRICS as REGISTRY
from ..registry import Entry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Function: TypeAlias = "Callable[[npt.NDArray[np.float32], npt.NDArray[np.bool_]], float]"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric's figure means.

    ``higher_is_better`` is None for diagnostics, which nothing is ranked by. ``range`` holds the lowest and highest
    value there can be. ``source`` is where the definition comes from.

    ``function`` is for metrics of other packages, and None for those that the harness computes itself. It is given one
    map on the scoring grid, float32 [rows, columns], read-only, -inf where the model saw nothing, and the pixels that the
    sentence is about, bool [rows, columns]; it returns a number within ``range``, or NaN where the figure is undefined.
    """

    name: str
    summary: str
    higher_is_better: bool | None
    range: tuple[float, float]
    source: str
    function: Function | None = None


_PAPER = 'McInerney et al., "That\'s the Wrong Lung!", EMNLP 2022'
_UNIT = (0.0, 1.0)


def _top(p: int) -> tuple[Metric, ...]:
    pixels = f"the {p} % of pixels with the highest saliency"
    return (
        Metric(f"precision@{p}", f"share of {pixels} that lies in the boxes", True, _UNIT, _PAPER),
        Metric(f"recall@{p}", f"share of the boxes' pixels among {pixels}", True, _UNIT, _PAPER),
        Metric(f"f1@{p}", f"harmonic mean of precision@{p} and recall@{p} (Dice)", True, _UNIT, _PAPER),
        Metric(f"iou@{p}", f"intersection over union of {pixels} and the boxes", True, _UNIT, _PAPER),
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "auroc",
            "chance that a pixel in the boxes has a higher saliency than one outside, ties counting one half",
            True,
            _UNIT,
            _PAPER,
        ),
        Metric(
            "average_precision",
            "precision of the pixel ranking, averaged over the boxes' pixels (step sum, ties joined)",
            True,
            _UNIT,
            _PAPER,
        ),
        *(metric for p in (5, 10, 20, 30) for metric in _top(p)),
        Metric("entropy", "entropy of the map over its regions, in nats", None, (0.0, inf), _PAPER),
        Metric("no_attention_weight", "attention that the model put on no region at all", None, _UNIT, _PAPER),
        Metric(
            "random_attention_kl",
            "symmetric KL divergence between the maps of the true and of a random sentence, in nats",
            None,
            (0.0, inf),
            _PAPER,
        ),
        Metric(
            "local_similarity",
            "the model's similarity of sentence and image regions, on its own scale",
            None,
            (-inf, inf),
            'Huang et al., "GLoRIA", ICCV 2021',
        ),
        Metric(
            "global_similarity",
            "the model's similarity of sentence and whole image, on its own scale",
            None,
            (-inf, inf),
            'Huang et al., "GLoRIA", ICCV 2021',
        ),
        Metric(
            "selection_accuracy_local",
            "how often the true sentence has a higher local similarity than a random one of another report",
            True,
            _UNIT,
            _PAPER,
        ),
        Metric(
            "selection_accuracy_global",
            "how often the true sentence has a higher global similarity than a random one of another report",
            True,
            _UNIT,
            _PAPER,
        ),
        Metric(
            "selection_accuracy_local_exhaustive",
            "selection_accuracy_local, expected over all sentences of other reports",
            True,
            _UNIT,
            "the expectation of selection_accuracy_local's random draw",
        ),
        Metric(
            "selection_accuracy_global_exhaustive",
            "selection_accuracy_global, expected over all sentences of other reports",
            True,
            _UNIT,
            "the expectation of selection_accuracy_global's random draw",
        ),
    )
}

ONLY_FOR = {
    "random_attention_kl": "random_sentences",
    "selection_accuracy_local": "random_sentences",
    "selection_accuracy_global": "random_sentences",
}
"""Metrics that compare two sentences belong to the task that brings the second one, and have no delta."""

ENTRIES = {name: Entry(f"{__name__}:{name}", metric.summary) for name, metric in METRICS.items()}
"""The same for the registry, to which the metrics are attributes of this module."""


def __getattr__(name: str) -> Metric:
    if name not in METRICS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return METRICS[name]


@cache
def find_metric(name: str) -> Metric:
    """The metric of a name, built in or another package's; looked up once a process.

    Raises :class:`WronglungError` for an unknown name, one that is claimed twice, and an entry point that is no
    :class:`Metric` of this name with a function.
    """
    found: Any = REGISTRY.get(name)
    if not isinstance(found, Metric) or found.name != name or not (name in METRICS or callable(found.function)):
        raise WronglungError(
            f"metric {name!r}: its entry point must hold a wronglung.benchmark.metrics.catalogue.Metric of this name, with "
            f"a function; it holds {found!r}"
        )
    return found
