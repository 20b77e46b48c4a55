"""Which instances are shown in pictures, and what a model answers for them: the very sentences that a run scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..benchmark.geometry import Geometry
from ..benchmark.instances import Dataset, Instance
from ..benchmark.metrics.distribution import as_distribution
from ..benchmark.plan import Plan
from ..benchmark.protocol import DatasetAware, LoadedImage, check_alignment
from ..benchmark.registry import SUBSETS

TASKS = ("original", "swap_left_right", "random_sentences")
"""A picture's columns: the true sentence, with left and right swapped, and of another patient."""


@dataclass(frozen=True)
class Example:
    """An instance with the sentence that each of :data:`TASKS` puts to the model."""

    instance: Instance
    sentences: Mapping[str, str]


@dataclass(frozen=True)
class Heat:
    """A model's map for one sentence: the mass of each region, [rows, columns] float64, and where it lies.

    The masses sum to 1, or to less where the model put the rest on no region.
    """

    mass: torch.Tensor
    geometry: Geometry


def choose(plan: Plan, count: int) -> list[Example]:
    """The first ``count`` instances, of different patients, whose sentence names a side of one lung with a finding.

    They are in the subsets ``one_lung`` and ``abnormal`` and change when left and right are swapped; the order is the
    dataset's, and no model is asked. Fewer, where the dataset has no more; none, where the suite lacks one of the tasks.
    """
    members = [SUBSETS.get(name)(plan.pool) or frozenset() for name in ("one_lung", "abnormal")]
    names = [task.name for task in plan.suite.tasks]
    if not {*TASKS} <= {*names}:
        return []
    chosen: list[Example] = []
    patients: set[str] = set()
    for image in plan.images():
        asked: dict[str, dict[str, str]] = {}
        changed = set()
        for question in image.questions:
            task, identity = names[question.task], question.instance.id
            if question.trial is None or question.draw or task not in TASKS:
                continue
            asked.setdefault(identity, {})[task] = question.trial.sentence
            if task == "swap_left_right" and question.changed:
                changed.add(identity)
        for instance in dict.fromkeys(question.instance for question in image.questions):
            fits = instance.id in changed and all(instance.id in subset for subset in members)
            if fits and instance.cluster not in patients and len(asked[instance.id]) == len(TASKS):
                if len(chosen) == count:
                    return chosen
                chosen.append(Example(instance, asked[instance.id]))
                patients.add(instance.cluster)
    return chosen


def heats(model: Any, dataset: Dataset, examples: Sequence[Example]) -> list[dict[str, Heat]]:
    """What a model answers: for each example a map by task. Raises ``OSError`` for an image that cannot be decoded.

    The model is asked for a handful of pairs anew: results keep maps, but not where they lie on the film.
    """
    if isinstance(model, DatasetAware):
        model.prepare(dataset)
    found = []
    for example in examples:
        image = LoadedImage(example.instance.image_id, example.instance.image.load())
        sentences = [example.sentences[task] for task in TASKS]
        names = [f"instance {example.instance.id} ({task})" for task in TASKS]
        with torch.no_grad():
            alignment = model.align([image] * len(TASKS), sentences)
        check_alignment(alignment, model.card, [image.pixels.size] * len(TASKS), names)
        mass = as_distribution(alignment.saliency, model.card.mass, model.card.temperature)
        if alignment.no_attention_weight is not None:
            mass = mass * (1 - alignment.no_attention_weight.cpu().double()[:, None])
        maps = mass.reshape(alignment.saliency.shape)
        found.append({task: Heat(one, where) for task, one, where in zip(TASKS, maps, alignment.geometry, strict=True)})
    return found
