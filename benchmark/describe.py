"""What a name means, as text."""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import Any

import yaml

from ..tasks.schema import list_definitions, load_suite, load_task
from .arguments import type_hints
from .errors import WronglungError
from .metrics.catalogue import ONLY_FOR, Metric, find_metric
from .registry import DATASETS, METRICS, MODELS, PERTURBATIONS, SENTENCES, SUBSETS, TRACKERS, Registry


def describe(name: str) -> str:
    """Everything that goes by a name: a suite or task as YAML, a function with its signature, a metric's card.

    Raises :class:`WronglungError` when nothing does.
    """
    parts = []
    if name.endswith((".yaml", ".yml")) or name in {row.name for row in list_definitions("suite")}:
        parts.append(f"suite {name}\n\n{_yaml(load_suite(name))}")
    if name in {row.name for row in list_definitions("task")}:
        parts.append(f"task {name}\n\n{_yaml(load_task(name))}")
    if name in {row.name for row in METRICS.listed()}:
        parts.append(f"metric {name}\n\n{_card(find_metric(name))}")
    parts += [
        f"{registry.kind} {base}\n\n{_preset(registry, base)}{_function(registry.get(base), registry.kind)}"
        for registry in (MODELS, DATASETS, PERTURBATIONS, SUBSETS, SENTENCES, TRACKERS)
        for base in [registry.split(name)[0]]
        if base in {row.name for row in registry.listed()} or (registry is MODELS and ".py:" in name)
    ]
    if not parts:
        raise WronglungError(f"nothing is called {name!r}; `wronglung list` shows all names")
    return "\n\n".join(parts)


def _card(metric: Metric) -> str:
    low, high = metric.range
    better = {True: "higher is better", False: "lower is better", None: "a diagnostic, never ranked on"}
    lines = {
        "range": f"[{low:g}, {high:g}]; {better[metric.higher_is_better]}",
        "margin": "" if metric.margin is None else f"{metric.margin:g} is the smallest change that counts",
        "ties": metric.ties,
        "degenerate": metric.degenerate,
        "only for": f"task {ONLY_FOR[metric.name]}, without a delta" if metric.name in ONLY_FOR else "",
        "headline": "one of the measures to read first" if metric.headline else "",
        "source": metric.source,
    }
    return "\n".join((metric.summary, *(f"{key}: {text}" for key, text in lines.items() if text)))


def _preset(registry: Registry, name: str) -> str:
    """What a preset is, before what its family is."""
    entry = registry.builtin().get(name)
    if entry is None or entry.version is None:
        return ""
    pinned = ", ".join(f"{key}={value}" for key, value in entry.preset.items())
    missing = f"\nneeds {entry.missing()}" if entry.missing() else ""
    return f"{entry.summary} (preset, version {entry.version}): {pinned}{missing}\n\nIts family:\n\n"


def _yaml(spec: Any) -> str:
    return yaml.safe_dump(
        spec.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=100
    )


def _function(function: Any, kind: str) -> str:
    written = function.func if isinstance(function, partial) else function
    description = inspect.getdoc(written) or "no description"
    parameters = list(inspect.signature(function).parameters.values())
    if kind == "dataset":
        # A reader's format is described by its module; its first parameter is the folder.
        module = inspect.getmodule(written)
        description = f"{inspect.cleandoc((module and module.__doc__) or '')}\n\n{description}"
        parameters = parameters[1:]
    elif kind not in ("model", "tracker"):
        # What a task's or suite's YAML may set.
        parameters = [one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    hints = type_hints(function)
    named = (_argument(one, hints.get(one.name)) for one in parameters if one.name not in ("self", "device", "dtype"))
    arguments = "\n".join(f"  {one}" for one in named)
    return f"{_plain(description)}\n\narguments\n{arguments or '  none'}"


def _plain(text: str) -> str:
    """A docstring without its markup: names alone, without the module that they are in."""
    text = re.sub(r":\w+:`[~.]*(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return text.replace("``", "`")


def _argument(parameter: inspect.Parameter, hint: Any) -> str:
    """``name: type = default``, with the values that a choice has instead of the name of its type."""
    kind = "" if hint is None else f": {inspect.formatannotation(hint).replace('typing.', '').replace('pathlib.', '')}"
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}{kind}{default}"
