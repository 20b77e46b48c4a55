"""What each perturbation does to an instance, and that draws depend on keys alone."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.instances import Box, Finding, ImageRef, Instance
from wronglung.tasks.perturbations import (
    random_boxes,
    random_sentences,
    shuffle_boxes,
    swap_conditions,
    swap_left_right,
    swap_substrings,
    swap_words,
)
from wronglung.tasks.pool import Draw, Pool, Trial
from wronglung.tasks.sentences import synthetic


def instance(
    name: str,
    sentence: str = "Clear.",
    boxes: tuple[Box, ...] | None = None,
    findings: tuple[Finding, ...] = (),
    patient: str | None = None,
    image: str | None = None,
    size: tuple[int, int] = (100, 200),
) -> Instance:
    image = image or f"image-{name}"
    box = (Box("left lung", 60, 10, 90, len(name) * 10 + 10),)
    return Instance(
        name,
        ImageRef(image, Path(image), *size),
        sentence,
        box if boxes is None else boxes,
        findings,
        study_id=image,
        patient_id=patient or image,
    )


def trial(one: Instance) -> Trial:
    return Trial(one.sentence, one.boxes)


DRAW = Draw(0, "task")


class TestSwapWords:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("There is a small right pleural effusion.", "There is a small left pleural effusion."),
            ("LEFT LUNG IS CLEAR.", "RIGHT LUNG IS CLEAR."),
            ("Right-sided PICC, left base clear.", "Left-sided PICC, right base clear."),
            ("Left greater than right.", "Right greater than left."),
            ("Left\nright", "Right\nleft"),
            ("RIGHT–LEFT asymmetry", "LEFT–RIGHT asymmetry"),
            ("right_lung", "left_lung"),
            ("rIgHt base", "left base"),
        ],
    )
    def test_exchanges_whole_words_and_keeps_case(self, before: str, after: str) -> None:
        assert swap_words(before) == after

    @pytest.mark.parametrize(
        "sentence",
        ["Upright portable film.", "The bright density, cleft-like.", "Leftward shift, alright.", "leftright", ""],
    )
    def test_leaves_words_alone_that_only_contain_a_side(self, sentence: str) -> None:
        assert swap_words(sentence) == sentence

    @given(st.lists(st.sampled_from(["left", "right", "Left", "RIGHT", "upright", "lung", ",", "-"])))
    def test_is_its_own_inverse(self, words: list[str]) -> None:
        sentence = " ".join(words)
        assert swap_words(swap_words(sentence)) == sentence

    @given(st.text(alphabet="leftrighLEFTRIGH -.", max_size=40))
    def test_changes_nothing_but_the_two_words(self, sentence: str) -> None:
        words = sentence.replace("-", " ").replace(".", " ").split()
        sides = sum(word.lower() in ("left", "right") for word in words)
        swapped = swap_words(sentence).replace("-", " ").replace(".", " ").split()
        changed = sum(a != b for a, b in zip(words, swapped, strict=True))
        assert changed == sides


class TestSwapSubstrings:
    def test_agrees_with_the_released_code(self, golden: Path) -> None:
        rows = json.loads((golden / "text_perturbations.json").read_text())["swap_left_right"]
        assert len(rows) >= 28
        for row in rows:
            assert swap_substrings(row["input"]) == row["output"]

    def test_is_substring_based_where_the_clean_swap_is_not(self) -> None:
        assert swap_substrings("Upright.") == "upleft."
        assert swap_words("Upright.") == "Upright."

    def test_the_task_names_both(self) -> None:
        one = instance("a", "Upright film, left base.")
        pool = Pool([one])
        assert swap_left_right(one, trial(one), pool, DRAW).sentence == "Upright film, right base."
        released = swap_left_right(one, trial(one), pool, DRAW, match="substring")
        assert released.sentence == "upleft film, right base."
        assert released.boxes == one.boxes


class TestShuffleBoxes:
    def report(self, count: int) -> list[Instance]:
        return [instance(f"s{at}", boxes=(Box("", 0, 0, at + 1, 1),), image="film", patient="p") for at in range(count)]

    @given(st.integers(1, 6), st.integers(0, 50))
    def test_permutes_the_box_sets_of_a_report(self, count: int, seed: int) -> None:
        report = self.report(count)
        pool = Pool(report)
        shuffled = [shuffle_boxes(one, trial(one), pool, Draw(seed, "shuffle_boxes")) for one in report]
        assert Counter(one.boxes for one in shuffled) == Counter(one.boxes for one in report)
        assert [one.sentence for one in shuffled] == [one.sentence for one in report]

    def test_all_permutations_are_equally_likely(self) -> None:
        report = self.report(3)
        pool = Pool(report)
        seen = Counter(
            tuple(shuffle_boxes(one, trial(one), pool, Draw(seed, "t")).boxes[0].x2 for one in report)
            for seed in range(1200)
        )
        assert len(seen) == 6
        assert min(seen.values()) > 140  # 200 expected, standard deviation 13

    def test_never_mixes_two_films_of_one_study(self) -> None:
        a = instance("a", boxes=(Box("", 0, 0, 1, 1),), image="film-1", patient="p")
        b = instance("b", boxes=(Box("", 0, 0, 2, 2),), image="film-2", patient="p")
        pool = Pool([a, b])
        for seed in range(20):
            assert shuffle_boxes(a, trial(a), pool, Draw(seed, "t")).boxes == a.boxes


class TestStrangers:
    def dataset(self) -> list[Instance]:
        return [
            instance(f"p{patient}-{at}", f"sentence {patient} {at}", image=f"film-{patient}", patient=f"p{patient}")
            for patient in range(4)
            for at in range(patient + 1)
        ]

    def test_come_from_another_patient(self) -> None:
        members = self.dataset()
        pool = Pool(members)
        for one in members:
            for seed in range(20):
                donor = pool.stranger(one, Draw(seed, "t"))
                assert donor is not None
                assert donor.patient_id != one.patient_id

    def test_are_drawn_uniformly(self) -> None:
        members = self.dataset()
        pool = Pool(members)
        counts: Counter[str] = Counter()
        for seed in range(1800):
            donor = pool.stranger(members[0], Draw(seed, "t"))
            assert donor is not None
            counts[donor.id] += 1
        assert len(counts) == 9
        assert min(counts.values()) > 140  # 200 expected, standard deviation 13

    def test_kin_are_all_the_others(self) -> None:
        members = self.dataset()
        pool = Pool(members)
        for one in members:
            drawn = {donor.id for seed in range(300) if (donor := pool.stranger(one, Draw(seed, "t"))) is not None}
            assert drawn == {other.id for other in members} - {kin.id for kin in pool.kin(one)}

    def test_fall_back_to_another_report_then_to_none(self) -> None:
        a = instance("a", image="film-1", patient="p")
        b = instance("b", image="film-2", patient="p")
        assert Pool([a, b]).stranger(a, DRAW) == b
        alone = Pool([a])
        assert alone.stranger(a, DRAW) is None
        assert random_sentences(a, trial(a), alone, DRAW) == trial(a)
        assert random_boxes(a, trial(a), alone, DRAW) == trial(a)

    def test_random_boxes_keep_their_relative_place(self) -> None:
        a = instance("a", size=(100, 200), patient="p")
        b = instance("b", boxes=(Box("x", 10, 10, 20, 40),), size=(50, 400), patient="q")
        drawn = random_boxes(a, trial(a), Pool([a, b]), DRAW)
        assert drawn == Trial(a.sentence, (Box("x", 20, 5, 40, 20),))

    def test_draws_do_not_depend_on_the_order_of_the_dataset(self) -> None:
        members = self.dataset()
        shuffled = members[:]
        random.Random(1).shuffle(shuffled)
        one, other = Pool(members), Pool(shuffled)
        for member in members:
            for perturb in (random_sentences, random_boxes, shuffle_boxes):
                draw = Draw(7, perturb.__name__)
                assert perturb(member, trial(member), one, draw) == perturb(member, trial(member), other, draw)

    def test_draws_differ_by_seed_task_and_number(self) -> None:
        members = self.dataset()
        pool = Pool(members)

        def choices(draw: Draw) -> list[str]:
            return [random_sentences(one, trial(one), pool, draw).sentence for one in members]

        assert choices(Draw(0, "t")) == choices(Draw(0, "t"))
        assert choices(Draw(0, "t")) != choices(Draw(1, "t"))
        assert choices(Draw(0, "t")) != choices(Draw(0, "u"))
        assert choices(Draw(0, "t", 0)) != choices(Draw(0, "t", 1))


class TestSwapConditions:
    def with_findings(self, name: str, *findings: Finding) -> Instance:
        return instance(name, findings=findings, patient=name)

    def swapped(self, one: Instance, *others: Instance, draw: Draw = DRAW) -> str:
        sentence = synthetic(one)
        assert sentence is not None
        return swap_conditions(one, Trial(sentence, one.boxes), Pool([one, *others]), draw).sentence

    def test_takes_a_condition_seen_at_the_same_regions(self) -> None:
        one = self.with_findings("a", Finding("lung opacity", "yes", "left lung"))
        other = self.with_findings("b", Finding("pneumonia", "yes", "left lung"))
        elsewhere = self.with_findings("c", Finding("atelectasis", "yes", "right lung"))
        assert self.swapped(one, other, elsewhere) == "There is pneumonia in the left lung."

    def test_the_order_of_regions_does_not_matter(self) -> None:
        one = self.with_findings("a", *(Finding("lung opacity", "yes", r) for r in ("left lung", "right lung")))
        other = self.with_findings("b", *(Finding("pneumonia", "yes", r) for r in ("right lung", "left lung")))
        assert self.swapped(one, other) == "There is pneumonia in the lungs."

    def test_never_takes_a_condition_of_the_same_sentence(self) -> None:
        one = self.with_findings(
            "a", Finding("lung opacity", "yes", "left lung"), Finding("pneumonia", "yes", "left lung")
        )
        assert self.swapped(one) == "There is lung opacity in the left lung. There is pneumonia in the left lung."

    def test_leaves_the_sentence_where_nothing_else_was_seen(self) -> None:
        one = self.with_findings("a", Finding("lung opacity", "yes", "left lung"))
        assert self.swapped(one) == synthetic(one)

    def test_absent_conditions_are_swapped_for_absent_ones(self) -> None:
        one = self.with_findings("a", Finding("pneumothorax", "no", "left lung"))
        other = self.with_findings("b", Finding("pleural effusion", "no", "right lung"))
        assert self.swapped(one, other) == "There is no pleural effusion."
