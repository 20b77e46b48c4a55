"""Does a higher value mean a stronger alignment? Only a model that understands the films can show it."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ..frames import scoring_frame
from ..metrics.ranking import rank, score
from .material import findings
from .subject import Subject, Verdict, failed, not_shown, passed

OTHERS = 4
"""Sentences of other films that each true sentence is held against."""
UNDERSTANDS = 0.7
"""How often the true sentence must have the higher similarity; without understanding, 0.7 comes about once in 200 times."""


def polarity(subject: Subject) -> Verdict:
    """Maps of sentences that a model tells apart are higher inside the boxes of these sentences than outside."""
    films = [film for film, _ in findings()]
    instances = [instance for _, instance in findings()]
    sentences = [instance.sentence for instance in instances]
    turns = [sentences[turn:] + sentences[:turn] for turn in range(OTHERS + 1)]
    answer = subject.ask_all(films * len(turns), [sentence for turn in turns for sentence in turn])
    values = []
    for at, instance in enumerate(instances):
        frame = scoring_frame(answer.geometry[at], "model")
        pixels = frame.sample(answer.saliency[at], "bilinear").flatten()
        (scores,) = score(rank(pixels, [frame.mask(instance.boxes).reshape(-1)]))
        values.append(scores["auroc"])
    defined = np.array([value for value in values if not math.isnan(value)])
    if not defined.size:
        return not_shown("no box lies inside what the model sees")
    auroc, error = float(defined.mean()), float(defined.std() / math.sqrt(len(defined)))
    seen = f"AUROC {auroc:.2f} ± {error:.2f} on {len(defined)} generated chest films"
    similarities = {
        "global": answer.global_similarity,
        "local": answer.local_similarity,
    }
    told = {kind: _told(values, len(films)) for kind, values in similarities.items() if values is not None}
    if not told:
        return not_shown(f"{seen}; the model has no similarity that shows whether it understands them")
    best = max(told, key=lambda kind: told[kind])
    seen += f"; the {best} similarity picks the true sentence in {told[best]:.0%}"
    if told[best] < UNDERSTANDS:
        return not_shown(f"{seen}, so it does not understand them")
    if auroc + 2 * error < 0.5:
        return failed(f"{seen}, but the map avoids its boxes")
    return (
        passed(seen)
        if auroc - 2 * error > 0.5
        else not_shown(f"{seen}, but the map neither seeks nor avoids its boxes")
    )


def _told(similarity: Tensor, films: int) -> float:
    """How often the first of each film's sentences has a higher similarity than the others, ties counting one half."""
    true, *others = similarity.double().reshape(-1, films)
    return float(np.mean([((true > other).double() + (true == other).double() / 2).mean() for other in others]))
