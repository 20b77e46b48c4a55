"""The names of all metrics, as result files carry them. Plain data: nothing heavy is imported to list them.

Other packages add metrics by entry points in the group ``wronglung.metrics``, each a :class:`Metric` with a ``function``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..errors import WronglungError
from ..registry import METRICS as REGISTRY
from ..registry import Entry
from .cards import CARDS
from .metric import Function, Metric

__all__ = ["ENTRIES", "METRICS", "ONLY_FOR", "Function", "Metric", "find_metric"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in CARDS}

ONLY_FOR = {
    "random_attention_kl": "random_sentences",
    "selection_accuracy_local": "random_sentences",
    "selection_accuracy_global": "random_sentences",
    "laterality_swap_gain": "swap_left_right",
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


def known_metric(name: str) -> Metric | None:
    """:func:`find_metric`, or None where the package that brings the metric is not installed: runs outlive their plug-ins."""
    try:
        return find_metric(name)
    except WronglungError:
        return None
