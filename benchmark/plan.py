"""What will be asked of the model: all tasks' (image, sentence) pairs, pooled by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..tasks.pool import Draw, Pool, Trial
from ..tasks.schema import SuiteSpec, TaskSpec, bind
from .instances import Dataset, ImageRef, Instance
from .registry import PERTURBATIONS, SENTENCES, SUBSETS


@dataclass(frozen=True, slots=True)
class Question:
    """One draw of one task for one instance.

    ``trial`` is None where the task does not apply (an instance without findings has no synthetic sentence).
    ``changed`` says whether the perturbation changed the sentence or the boxes.
    """

    instance: Instance
    task: int
    draw: int
    trial: Trial | None
    changed: bool


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """All questions about one image."""

    image: ImageRef
    questions: tuple[Question, ...]


def by_sentence(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """The questions of each distinct sentence, sentences in sorted order: one map serves them all."""
    pairs: dict[str, list[Question]] = {}
    for question in questions:
        if question.trial is not None:
            pairs.setdefault(question.trial.sentence, []).append(question)
    return dict(sorted(pairs.items()))


class Plan:
    """The questions of a suite on a dataset.

    Perturbations and subsets always see the whole dataset; ``limit`` only cuts how many instances (the first ones, in
    dataset order) are evaluated, so that their values are those of the full run.
    """

    def __init__(self, suite: SuiteSpec, dataset: Dataset, seed: int = 0, limit: int | None = None) -> None:
        self.suite = suite
        self.seed = seed
        self.limit = limit
        self.pool = Pool(dataset.instances)
        self.instances = dataset.instances[:limit]
        self._tasks = [_BoundTask.of(task, suite) for task in suite.tasks]

    @cached_property
    def by_image(self) -> Mapping[str, Sequence[Instance]]:
        """The instances of each image, images in dataset order."""
        grouped: dict[str, list[Instance]] = {}
        for instance in self.instances:
            grouped.setdefault(instance.image_id, []).append(instance)
        return grouped

    def images(self, chosen: Iterable[str] | None = None) -> Iterator[ImagePlan]:
        """The images in dataset order, or the ``chosen`` ones (ids), each once, with all its questions."""
        for image in self.by_image if chosen is None else chosen:
            members = self.by_image[image]
            yield ImagePlan(members[0].image, tuple(one for instance in members for one in self._ask(instance)))

    def subsets(self) -> dict[str, frozenset[str] | None]:
        """The members (instance ids) of each subset, or None where the dataset cannot say."""
        return {call.name: bind(SUBSETS, call, self.suite.name)(self.pool) for call in self.suite.subsets}

    def _ask(self, instance: Instance) -> Iterator[Question]:
        for index, task in enumerate(self._tasks):
            sentence = task.sentences(instance)
            base = None if sentence is None else Trial(sentence, instance.boxes)
            if base is None or task.perturbation is None:
                yield Question(instance, index, 0, base, False)
                continue
            for number in range(self.suite.protocol.draws):
                draw = Draw(self.seed, self.suite.tasks[index].name, number)
                trial = task.perturbation(instance, base, self.pool, draw)
                yield Question(instance, index, number, trial, _differs(trial, base))


def _differs(trial: Trial, base: Trial) -> bool:
    """Whether a trial asks or expects something else; case and the order of boxes do not count."""
    return trial.sentence.lower() != base.sentence.lower() or frozenset(trial.boxes) != frozenset(base.boxes)


@dataclass(frozen=True, slots=True)
class _BoundTask:
    sentences: Callable[[Instance], str | None]
    perturbation: Callable[[Instance, Trial, Pool, Draw], Trial] | None

    @classmethod
    def of(cls, task: TaskSpec, suite: SuiteSpec) -> _BoundTask:
        where = f"suite {suite.name!r}: task {task.name!r}"
        perturbation: Any = task.perturbation and bind(PERTURBATIONS, task.perturbation, where)
        return cls(bind(SENTENCES, task.sentences, where), perturbation)
