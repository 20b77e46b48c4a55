"""Text masking: entities one by one, words by their number."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.adapters.gloria.text import clean
from wronglung.adapters.gloria.training.entities import load_entities
from wronglung.adapters.gloria.training.masking import mask_entities, mask_spans, mask_words
from wronglung.benchmark.errors import WronglungError


class Span(NamedTuple):
    start: int
    end: int


SENTENCE = "Small left effusion and atelectasis."
SPANS = (Span(11, 19), Span(24, 35))


@pytest.mark.parametrize(
    ("chosen", "masked"),
    [
        ((False, False), "Small left effusion and atelectasis."),
        ((True, False), "Small left [MASK] and atelectasis."),
        ((False, True), "Small left effusion and [MASK]."),
        ((True, True), "Small left [MASK] and [MASK]."),
    ],
)
def test_chosen_spans_become_one_mask_each(chosen: tuple[bool, bool], masked: str) -> None:
    assert mask_spans(SENTENCE, SPANS, chosen) == masked


def test_neighbouring_entities_stay_two_masks_for_the_text_encoder() -> None:
    sentence = "Left edema/effusion, pleural thickening."
    spans = (Span(5, 10), Span(11, 19), Span(21, 39))
    masked = mask_spans(sentence, spans, (True, True, True))
    assert masked == "Left [MASK]/[MASK], [MASK]."
    assert clean(masked) == "left mask mask mask"


@pytest.mark.parametrize("spans", [(Span(3, 3),), (Span(0, 9),), (Span(2, 5), Span(4, 6)), (Span(4, 6), Span(0, 2))])
def test_spans_out_of_order_or_place_are_refused(spans: tuple[Span, ...]) -> None:
    with pytest.raises(ValueError, match="out of order or outside"):
        mask_spans("eight ch", spans, [True] * len(spans))


def test_a_choice_per_span_is_needed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mask_spans(SENTENCE, SPANS, [True])


def test_entities_are_masked_independently_with_the_probability_asked_for() -> None:
    rng = np.random.default_rng(0)
    seen = [mask_entities(SENTENCE, SPANS, 0.3, rng) for _ in range(4000)]
    first = np.array(["effusion" not in text for text in seen])
    second = np.array(["atelectasis" not in text for text in seen])
    # Four standard deviations of a share of 4000 draws are 0.029 and less.
    assert abs(first.mean() - 0.3) < 0.03
    assert abs(second.mean() - 0.3) < 0.03
    assert abs((first & second).mean() - 0.09) < 0.02


@pytest.mark.parametrize(("probability", "masked"), [(0.0, SENTENCE), (1.0, "Small left [MASK] and [MASK].")])
def test_the_ends_of_the_probability_are_certain(probability: float, masked: str) -> None:
    rng = np.random.default_rng(1)
    assert {mask_entities(SENTENCE, SPANS, probability, rng) for _ in range(50)} == {masked}


def test_as_many_numbers_are_drawn_as_there_are_entities() -> None:
    one, other = np.random.default_rng(2), np.random.default_rng(2)
    mask_entities(SENTENCE, SPANS, 0.0, one)
    mask_entities(SENTENCE, SPANS, 1.0, other)
    assert one.random() == other.random() == np.random.default_rng(2).random(3)[2]


def test_the_same_generator_gives_the_same_text() -> None:
    texts = {mask_words("one two three four five six", 0.5, np.random.default_rng(7)) for _ in range(5)}
    assert len(texts) == 1
    assert mask_words("one two three four five six", 0.5, np.random.default_rng(8)) not in texts


def test_the_number_of_masked_words_is_that_of_the_released_code(golden: Path) -> None:
    rng = np.random.default_rng(3)
    cases = json.loads((golden / "text_perturbations.json").read_text())["word_mask_counts"]
    assert len(cases) == 3
    for case in cases:
        for n, expected in enumerate(case["masked_words_for_sentence_of_n_words"]):
            sentence = " ".join(f"w{i}" for i in range(n))
            masked = mask_words(sentence, case["mask_prob"], rng)
            assert masked.split().count("[MASK]") == expected, (case["mask_prob"], n)


@given(st.text(alphabet="ab. \n\t,", max_size=40), st.floats(0, 1), st.integers(0, 2**32))
def test_words_that_are_not_masked_and_white_space_stay(sentence: str, probability: float, seed: int) -> None:
    masked = mask_words(sentence, probability, np.random.default_rng(seed))
    before, after = sentence.split(), masked.split()
    assert len(after) == len(before)
    assert all(new in (old, "[MASK]") for old, new in zip(before, after, strict=True))
    changed = sum(word == "[MASK]" for word in after)
    assert changed == max(0, min(max(1, int(len(before) * probability)), len(before) - 1))
    assert "".join(filter(str.isspace, masked)) == "".join(filter(str.isspace, sentence))


def test_every_word_is_as_likely_to_be_masked() -> None:
    rng = np.random.default_rng(4)
    counts = np.zeros(5)
    for _ in range(5000):
        counts += [word == "[MASK]" for word in mask_words("a b c d e", 0.4, rng).split()]
    # Two of five each time; four standard deviations of a share of 5000 draws are 0.028.
    assert np.abs(counts / 5000 - 0.4).max() < 0.028


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_is_one(probability: float) -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mask_words("a b c", probability, rng)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mask_entities(SENTENCE, SPANS, probability, rng)


def test_without_scispacy_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scispacy", None)
    with pytest.raises(WronglungError, match=r'needs scispaCy: pip install "wronglung\[masking\]"'):
        load_entities("radiology")
