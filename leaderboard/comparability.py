"""What must be equal before two runs may stand side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..benchmark.results import RunResults
from ..tasks.schema import Protocol, TaskSpec


def identity(run: RunResults) -> Mapping[str, str]:
    """What was evaluated and how, as text by what it is called: equal in every key for runs that can be compared.

    The data, the suite with its protocol and the definitions of its subsets, and the seed of the random draws; not the tasks
    (:func:`task_definitions`), of which a run may lack some, nor the metrics. A setting that the
    summary leaves out has its default.
    """
    dataset, suite = run.dataset, run.suite
    return {
        "dataset": dataset.fingerprint,
        "images": str(dataset.images_fingerprint),
        "limit": str(dataset.limit),
        "number of instances": str(dataset.n_instances),
        "suite": str(suite["name"]),
        "major version of the suite": major(suite["version"]),
        "protocol": _text(Protocol.model_validate(suite.get("protocol", {})).model_dump()),
        "subsets": _text(suite["subsets"]),
        "seed": str(run.manifest.seed),
    }


def task_definitions(run: RunResults) -> Mapping[str, str]:
    """What each task of a run asks, as text by its name: equal for the tasks that two comparable runs share."""
    return {
        task.name: _text({**task.model_dump(include={"sentences", "perturbation"}), "version": major(task.version)})
        for task in map(TaskSpec.model_validate, run.suite["tasks"])
    }


def differences(one: RunResults, other: RunResults) -> list[str]:
    """Why two runs cannot be compared, a phrase each (``"seed: 0 and 1"``); none if they can."""
    first, second = identity(one), identity(other)
    found = [f"{key}: {_short(first[key])} and {_short(second[key])}" for key in first if first[key] != second[key]]
    tasks, others = task_definitions(one), task_definitions(other)
    return found + [f"task {name}: defined otherwise" for name in tasks if others.get(name, tasks[name]) != tasks[name]]


def major(version: str) -> str:
    """X of a version X.Y: figures under another X are not comparable."""
    return version.partition(".")[0]


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}…"
