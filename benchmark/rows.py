"""From a model's answers to one row of metric values per (instance, task)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..tasks.pool import Pool
from ..tasks.schema import Protocol
from .instances import Instance
from .metrics.selection import expected_win, win
from .plan import Plan, Question
from .runner import Answer, ImageAnswers
from .scoring import NO_DIVERGENCE, NO_MASS, NOT_APPLICABLE, OF_A_METRIC, divergence


@dataclass(frozen=True)
class Row:
    """The values of one (instance, task), averaged over draws; ``sentence`` is that of the first draw."""

    instance: Instance
    task: int
    sentence: str | None
    changed: bool
    undefined: str | None
    values: Mapping[str, float]


class Candidates:
    """All distinct sentences of a dataset, with how often each occurs: what a true sentence is selected from."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        counts = Counter(instance.sentence for instance in pool.instances)
        self.sentences = sorted(counts)
        self._at = {sentence: at for at, sentence in enumerate(self.sentences)}
        self._counts = np.array([counts[sentence] for sentence in self.sentences], dtype=np.float64)

    def accuracy(self, instance: Instance, similarities: npt.NDArray[np.float64]) -> float:
        """How often the instance's sentence beats a sentence of another patient, over all of them; ties count one half.

        ``similarities`` are those of the instance's image with all candidates.
        """
        weights = self._counts.copy()
        for one in self._pool.kin(instance):
            weights[self._at[one.sentence]] -= 1
        return expected_win(similarities, self._at[instance.sentence], weights)


def rows_of(plan: Plan, answers: ImageAnswers, candidates: Candidates) -> Iterator[Row]:
    """The rows of all instances of one image."""
    suite = plan.suite
    grouped: dict[tuple[str, int], list[Question]] = {}
    for question in answers.plan.questions:
        grouped.setdefault((question.instance.id, question.task), []).append(question)
    bases = [suite.tasks.index(suite.base_of(task)) for task in suite.tasks]
    for (identity, task), draws in grouped.items():
        instance = draws[0].instance
        base = grouped[identity, bases[task]][0].trial
        if base is None:
            yield Row(instance, task, None, False, NOT_APPLICABLE, {})
            continue
        truth = answers.by_sentence[base.sentence]
        name = suite.tasks[task].name
        measured = [_measure(question, name, answers.by_sentence, truth, suite.protocol) for question in draws]
        values = {name: _mean([one[name] for one, _ in measured]) for name in measured[0][0]}
        if base.sentence == instance.sentence and suite.tasks[task].perturbation is None:
            for kind, similarities in answers.candidates.items():
                values[f"selection_accuracy_{kind}_exhaustive"] = candidates.accuracy(instance, similarities)
        first = draws[0].trial
        yield Row(
            instance,
            task,
            None if first is None else first.sentence,
            any(question.changed for question in draws),
            next((reason for _, reason in measured if reason is not None), None),
            values,
        )


def _measure(
    question: Question, task: str, by_sentence: Mapping[str, Answer], truth: Answer, protocol: Protocol
) -> tuple[dict[str, float], str | None]:
    assert question.trial is not None, "a perturbation returns a trial wherever its base has one"
    answer = by_sentence[question.trial.sentence]
    boxes = answer.map.by_boxes[question.trial.boxes]
    weight = answer.map.no_attention_weight
    values = {
        **boxes.values,
        "entropy": answer.map.entropy,
        "focus": answer.map.focus,
        "no_attention_weight": math.nan if weight is None else weight,
        "local_similarity": answer.local_similarity,
        "global_similarity": answer.global_similarity,
    }
    undefined = boxes.undefined
    if math.isnan(answer.map.entropy):
        undefined = undefined or NO_MASS
    if task == "random_sentences":
        if truth.map.mass is not None and answer.map.mass is not None:
            values["random_attention_kl"] = divergence(truth.map.mass, answer.map.mass, protocol)
            if math.isnan(values["random_attention_kl"]):
                undefined = undefined or NO_DIVERGENCE
        values["selection_accuracy_local"] = win(truth.local_similarity, answer.local_similarity)
        values["selection_accuracy_global"] = win(truth.global_similarity, answer.global_similarity)
    straight = truth.map.by_boxes.get(question.trial.boxes)
    if task == "swap_left_right" and question.changed and straight and "laterality_index" in values:
        values["laterality_swap_gain"] = straight.values["laterality_index"] - values["laterality_index"]
    undefined = undefined or next((why for name, why in OF_A_METRIC.items() if math.isnan(values.get(name, 0.0))), None)
    return values, undefined


def _mean(values: Sequence[float]) -> float:
    """The mean of the defined values."""
    if len(values) == 1:
        return values[0]
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
