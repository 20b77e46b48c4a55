"""Synthetic sentences: the templates of the paper's Table 1, and the released code's own behaviour."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from wronglung.benchmark.instances import Finding
from wronglung.tasks.sentences import Variant, clauses, merge_sides, mirror, render


def findings(*triples: str) -> list[Finding]:
    parts = (triple.split("|") for triple in triples)
    return [Finding(label, "no" if context == "no" else "yes", region) for label, context, region in parts]


@pytest.mark.parametrize(
    ("triples", "sentence"),
    [
        (["normal|yes|cardiac silhouette"], "The cardiac silhouette is normal."),
        (["abnormal|yes|left lung", "abnormal|yes|spine"], "The left lung and spine are abnormal."),
        (["lung opacity|yes|left lung"], "There is lung opacity in the left lung."),
        (["lung opacity|yes|left lung", "lung opacity|yes|right lung"], "There is lung opacity in the lungs."),
        (["pneumothorax|no|left lung"], "There is no pneumothorax."),
        (["pneumothorax|no|left lung", "pneumothorax|yes|right lung"], "There is pneumothorax in the right lung."),
        (
            ["abnormal|yes|left lung", "abnormal|yes|mediastinum", "abnormal|yes|trachea"],
            "The left lung, mediastinum, and trachea are abnormal.",
        ),
        (
            ["abnormal|yes|right lung", "pleural effusion|no|left lung", "pneumonia|yes|right lung"],
            "The right lung is abnormal. There is no pleural effusion. There is pneumonia in the right lung.",
        ),
    ],
)
@pytest.mark.parametrize("variant", get_args(Variant))
def test_templates(triples: list[str], sentence: str, variant: Variant) -> None:
    assert render(clauses(findings(*triples)), variant=variant) == sentence


@pytest.mark.parametrize(
    ("triples", "clean", "released"),
    [
        (
            ["abnormal|yes|left lung", "abnormal|yes|left lung"],
            "The left lung is abnormal.",
            "The left lung are abnormal.",
        ),
        (
            ["normal|yes|left hilar structures", "normal|yes|right hilar structures"],
            "The hilar structures are normal.",
            "The hilar structuress are normal.",
        ),
        (
            ["normal|yes|left hilar structures"],
            "The left hilar structures are normal.",
            "The left hilar structures is normal.",
        ),
        (
            ["fracture|yes|leftmost rib", "fracture|yes|rightmost rib"],
            "There is fracture in the leftmost rib and rightmost rib.",
            "There is fracture in the leftmost ribs and rightmost ribs.",
        ),
    ],
)
def test_where_the_released_code_differs(triples: list[str], clean: str, released: str) -> None:
    assert render(clauses(findings(*triples)), variant="clean") == clean
    assert render(clauses(findings(*triples)), variant="released") == released


def test_order_is_that_of_first_mention_in_both_variants() -> None:
    triples = [f"fracture|yes|{region}" for region in ("spine", "left clavicle", "trachea", "right clavicle")]
    for variant in get_args(Variant):
        assert render(clauses(findings(*triples)), variant=variant) == (
            "There is fracture in the spine, clavicles, and trachea."
        )


def test_released_variant_agrees_with_the_released_code(golden: Path) -> None:
    """Up to the order of regions, which that code takes from a hash set and which differs between processes."""
    rows = json.loads((golden / "text_perturbations.json").read_text())["synthetic_sentences"]
    assert len(rows) >= 25
    for row in rows:
        triples = zip(row["conditions"], row["contexts"], row["locations"], strict=False)
        # The released code takes any context but "yes" for a negation.
        made = [Finding(label, "yes" if context == "yes" else "no", region) for label, context, region in triples]
        sentence = render(clauses(made), variant="released")
        assert sentence in row["outputs_seen"]
        assert [_clause(part) for part in _split(sentence)] == [_expected(one) for one in row["clauses"]]


def _split(sentence: str) -> list[str]:
    return re.findall(r"[^.]+\.", sentence)


def _clause(sentence: str) -> tuple[str, set[str]]:
    text = sentence.strip().removesuffix(".")
    if match := re.fullmatch(r"There is no (.+)", text):
        return match[1], set()
    if match := re.fullmatch(r"There is (.+?) in the (.+)", text):
        return match[1], _listed(match[2])
    match = re.fullmatch(r"The (.+) (?:is|are) (normal|abnormal)", text)
    assert match is not None
    return match[2], _listed(match[1])


def _listed(text: str) -> set[str]:
    return set(re.split(r", and | and |, ", text))


def _expected(clause: dict[str, Any]) -> tuple[str, set[str]]:
    return clause["condition"], set(clause["location_set"])


def test_sides_are_words_not_substrings() -> None:
    assert mirror("left lung") == "right lung"
    assert mirror("left arm left side") == "right arm right side"
    assert mirror("leftmost rib") is None
    assert mirror("leftmost rib", "released") == "rightmost rib"
    assert merge_sides(["left lung", "spine", "right lung", "left lung"]) == ("lungs", "spine")
    assert merge_sides(["right lung"]) == ("right lung",)
