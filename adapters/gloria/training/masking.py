"""Text masking for training: whole clinical entities, or words at random.

A masked stretch becomes ``[MASK]``, as in the released code, whose cleaning then turns it into the ordinary word "mask";
plain cleaning keeps BERT's mask token (see :mod:`..text`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..text import MASK

_WORD = re.compile(r"\S+")


class Span(Protocol):
    """A stretch of a sentence: ``sentence[start:end]``."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def mask_spans(sentence: str, spans: Sequence[Span], chosen: Sequence[bool] | NDArray[np.bool_]) -> str:
    """``sentence`` with every span ``i`` of which ``chosen[i]`` is true replaced by one ``[MASK]``.

    ``spans`` are sorted and do not overlap; all other characters stay as they are, so neighbouring entities become
    neighbouring masks. Raises :class:`ValueError` for spans out of order or outside the sentence, and where ``chosen``
    has another length.
    """
    parts = []
    done = 0
    for span, masked in zip(spans, chosen, strict=True):
        if not done <= span.start < span.end <= len(sentence):
            raise ValueError(f"span {span.start}:{span.end} is out of order or outside a sentence of {len(sentence)}")
        parts += [sentence[done : span.start], MASK if masked else sentence[span.start : span.end]]
        done = span.end
    return "".join((*parts, sentence[done:]))


def mask_entities(sentence: str, spans: Sequence[Span], probability: float, rng: np.random.Generator) -> str:
    """``sentence`` with each span masked with ``probability`` in [0, 1], independently of the others.

    One uniform number is drawn per span, in their order, whatever the probability.
    """
    _check(probability)
    return mask_spans(sentence, spans, rng.random(len(spans)) < probability)


def mask_words(sentence: str, probability: float, rng: np.random.Generator) -> str:
    """``sentence`` with a fixed share of its words masked, chosen at random without replacement.

    Of n words (stretches without white space) max(1, int(n * ``probability``)) are masked, but at most n - 1, as in
    the released code: a sentence of one word stays as it is, one of two loses a word whatever ``probability`` in
    [0, 1] is.
    """
    _check(probability)
    words = [_Word(*match.span()) for match in _WORD.finditer(sentence)]
    count = min(max(1, int(len(words) * probability)), len(words) - 1)
    if count < 1:
        return sentence
    chosen = np.zeros(len(words), dtype=np.bool_)
    chosen[rng.choice(len(words), size=count, replace=False)] = True
    return mask_spans(sentence, words, chosen)


class _Word:
    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end


def _check(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies between 0 and 1, not at {probability}")
