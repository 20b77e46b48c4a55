"""Perturbations: what is done to an instance's sentence or boxes.

A perturbation is a function ``(instance, trial, pool, draw, *, parameters) -> Trial``. ``trial`` is the unperturbed
one of the same sentence source; a perturbation that cannot change an instance returns it as it is. Parameters are
keyword-only, typed, and have defaults; a task's YAML may set them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from ..benchmark.instances import Box, Instance
from .pool import Draw, Pool, Trial
from .sentences import Clause, Variant, clauses, render

_OTHER_SIDE = {"left": "right", "right": "left"}


def swap_left_right(
    instance: Instance, trial: Trial, pool: Pool, draw: Draw, *, match: Literal["word", "substring"] = "word"
) -> Trial:
    """Exchange "left" and "right" in the sentence.

    ``word`` swaps whole words ("Left-sided" → "Right-sided"), keeps their case, and leaves "upright" and "leftward"
    alone. ``substring`` is what the authors' code does: see :func:`swap_substrings`.
    """
    swap = swap_words if match == "word" else swap_substrings
    return replace(trial, sentence=swap(trial.sentence))


def swap_words(sentence: str) -> str:
    """Exchange the whole words "left" and "right", keeping lower, UPPER, Title or mixed case."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = _OTHER_SIDE[word.lower()]
        if word.isupper():
            return swapped.upper()
        return swapped.capitalize() if word[0].isupper() else swapped

    return re.sub(r"(?<![^\W_])(?:left|right)(?![^\W_])", other, sentence, flags=re.IGNORECASE)


def swap_substrings(sentence: str) -> str:
    """The released code's swap: lower-case, then exchange substrings through a placeholder.

    "upright" becomes "upleft", and a text that holds the placeholder "left*****" is damaged.
    """
    placeholder = "right*****"
    return sentence.lower().replace("right", placeholder).replace("left", "right").replace(placeholder, "left")


def shuffle_boxes(instance: Instance, trial: Trial, pool: Pool, draw: Draw) -> Trial:
    """Permute the box sets among the sentences of one report about one image, uniformly at random."""
    key = (instance.report, instance.image_id)
    boxes = {one.id: one.boxes for one in pool.report_images[key]}
    members = list(boxes)
    donors = draw.permutation(members, *key)
    return replace(trial, boxes=boxes[donors[members.index(instance.id)]])


def random_sentences(instance: Instance, trial: Trial, pool: Pool, draw: Draw) -> Trial:
    """The sentence of a random instance of another patient (another report or image where there is one patient)."""
    donor = pool.stranger(instance, draw)
    return trial if donor is None else replace(trial, sentence=donor.sentence)


def random_boxes(instance: Instance, trial: Trial, pool: Pool, draw: Draw) -> Trial:
    """The boxes of a random instance of another patient, at the same relative place of this image."""
    donor = pool.stranger(instance, draw)
    return trial if donor is None else replace(trial, boxes=carry(donor.boxes, donor, instance))


def carry(boxes: tuple[Box, ...], source: Instance, target: Instance) -> tuple[Box, ...]:
    """Boxes of one image scaled by the two images' widths and heights; a mask covers the whole image and goes along."""
    x = target.image.width / source.image.width
    y = target.image.height / source.image.height
    return tuple(replace(box, x1=box.x1 * x, y1=box.y1 * y, x2=box.x2 * x, y2=box.y2 * y) for box in boxes)


def swap_conditions(instance: Instance, trial: Trial, pool: Pool, draw: Draw, *, variant: Variant = "clean") -> Trial:
    """Regenerate a synthetic sentence with other conditions.

    Each clause's condition is replaced by a random one that some instance of the dataset affirms at exactly the same
    regions (for an absent condition: that some instance negates), and that this sentence does not mention; where there
    is none, the clause stays. Replacements within one sentence are drawn without regard to each other.
    """
    own = clauses(instance.findings)
    if not own:
        return trial
    mentioned = {clause.condition for clause in own}
    swapped = []
    for clause in own:
        others = [one for one in pool.conditions_at(clause.regions) if one not in mentioned]
        if others:
            choice = others[draw.integer(len(others), instance.id, clause.condition)]
            swapped.append(Clause(choice, clause.regions))
        else:
            swapped.append(clause)
    return replace(trial, sentence=render(swapped, variant=variant))
