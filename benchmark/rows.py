"""From a model's answers about one image to one row of metric values per (instance, task)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from ..tasks.pool import Pool
from ..tasks.schema import Protocol, SuiteSpec
from .geometry import Geometry
from .instances import Instance
from .metrics.selection import expected_win, win
from .plan import Question, by_sentence
from .protocol import ModelCard
from .scoring import NO_DIVERGENCE, NO_MASS, NOT_APPLICABLE, OF_A_METRIC, ScoredMap, Wanted, divergence, score_map


@dataclass(frozen=True, slots=True)
class Aligned:
    """What a model said of one (image, sentence) pair.

    ``saliency`` is float32 [rows, columns] on the host, ``geometry`` that of the map for original pixels. The similarities and
    the weight on no region are NaN where the model has none.
    """

    saliency: npt.NDArray[np.float32]
    geometry: Geometry
    local_similarity: float = math.nan
    global_similarity: float = math.nan
    no_attention_weight: float = math.nan


@dataclass(frozen=True, slots=True)
class ImageAnswers:
    """Everything a model said about one image, and what it was asked.

    ``aligned`` holds every sentence that the questions ask about. ``exhaustive`` are selection accuracies over all candidate
    sentences, by instance id and metric, where they were asked for and the model has them.
    """

    questions: tuple[Question, ...]
    aligned: Mapping[str, Aligned]
    exhaustive: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one (instance, task), averaged over draws; ``sentence_sha256`` is that of the first draw."""

    instance_id: str
    task: int
    sentence_sha256: str | None
    changed: bool
    undefined: str | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Scoring:
    """How answers become rows: the suite, what the model's maps are, and the metrics that are wanted.

    A pure function of plain data, so that other processes can do it.
    """

    suite: SuiteSpec
    card: ModelCard
    wanted: Wanted

    @classmethod
    def of(cls, suite: SuiteSpec, card: ModelCard) -> Scoring:
        return cls(suite, card, Wanted.by(suite))

    def rows(self, answers: ImageAnswers) -> list[Row]:
        """The rows of all instances of one image."""
        scored = {
            sentence: self._scored(answers.aligned[sentence], questions)
            for sentence, questions in by_sentence(answers.questions).items()
        }
        return list(_rows(self.suite, answers, scored))

    def _scored(self, aligned: Aligned, questions: Sequence[Question]) -> ScoredMap:
        weight = aligned.no_attention_weight
        return score_map(
            torch.from_numpy(aligned.saliency),
            aligned.geometry,
            self.card,
            self.suite.protocol,
            None if math.isnan(weight) else weight,
            dict.fromkeys(one.trial.boxes for one in questions if one.trial is not None),
            keep_mass="random_attention_kl" in self.wanted.names,
            wanted=self.wanted,
        )


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


def digest(sentence: str) -> str:
    """The identity of a sentence in result files, which do not hold report text."""
    return hashlib.sha256(sentence.encode()).hexdigest()[:16]


def _rows(suite: SuiteSpec, answers: ImageAnswers, scored: Mapping[str, ScoredMap]) -> Iterator[Row]:
    grouped: dict[tuple[str, int], list[Question]] = {}
    for question in answers.questions:
        grouped.setdefault((question.instance.id, question.task), []).append(question)
    bases = [suite.tasks.index(suite.base_of(task)) for task in suite.tasks]
    for (identity, at), draws in grouped.items():
        instance, task = draws[0].instance, suite.tasks[at]
        base = grouped[identity, bases[at]][0].trial
        if base is None:
            yield Row(identity, at, None, False, NOT_APPLICABLE, {})
            continue
        measured = [
            _measure(question, task.name, answers.aligned, scored, base.sentence, suite.protocol) for question in draws
        ]
        values = {name: _mean([one[name] for one, _ in measured]) for name in measured[0][0]}
        if base.sentence == instance.sentence and task.perturbation is None:
            values |= answers.exhaustive.get(identity, {})
        first = draws[0].trial
        yield Row(
            identity,
            at,
            None if first is None else digest(first.sentence),
            any(question.changed for question in draws),
            next((reason for _, reason in measured if reason is not None), None),
            values,
        )


def _measure(
    question: Question,
    task: str,
    aligned: Mapping[str, Aligned],
    scored: Mapping[str, ScoredMap],
    truth: str,
    protocol: Protocol,
) -> tuple[dict[str, float], str | None]:
    assert question.trial is not None, "a perturbation returns a trial wherever its base has one"
    answer, of_map = aligned[question.trial.sentence], scored[question.trial.sentence]
    true_answer, of_true_map = aligned[truth], scored[truth]
    boxes = of_map.by_boxes[question.trial.boxes]
    values = {
        **boxes.values,
        "entropy": of_map.entropy,
        "focus": of_map.focus,
        "no_attention_weight": answer.no_attention_weight,
        "local_similarity": answer.local_similarity,
        "global_similarity": answer.global_similarity,
    }
    undefined = boxes.undefined
    if math.isnan(of_map.entropy):
        undefined = undefined or NO_MASS
    if task == "random_sentences":
        if of_true_map.mass is not None and of_map.mass is not None:
            values["random_attention_kl"] = divergence(of_true_map.mass, of_map.mass, protocol)
            if math.isnan(values["random_attention_kl"]):
                undefined = undefined or NO_DIVERGENCE
        values["selection_accuracy_local"] = win(true_answer.local_similarity, answer.local_similarity)
        values["selection_accuracy_global"] = win(true_answer.global_similarity, answer.global_similarity)
    straight = of_true_map.by_boxes.get(question.trial.boxes)
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
