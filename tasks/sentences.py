"""Sentence sources: the report's own sentence, or one made from the findings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..benchmark.instances import Finding, Instance

STATES = ("normal", "abnormal")

Variant = Literal["clean", "released"]


def original(instance: Instance) -> str:
    """The sentence as the dataset stores it."""
    return instance.sentence


def synthetic(instance: Instance, *, variant: Variant = "clean") -> str | None:
    """A sentence made from the instance's findings after the templates of the paper's Table 1.

    Returns None for an instance without findings, and for one that affirms a finding and names no region for it.
    ``variant`` is explained at :func:`render`.
    """
    if not instance.findings or any(one.context == "yes" and not one.region for one in instance.findings):
        return None
    return render(clauses(instance.findings), variant=variant)


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a synthetic sentence; without regions, the condition is said to be absent."""

    condition: str
    regions: tuple[str, ...]


def clauses(findings: Sequence[Finding]) -> tuple[Clause, ...]:
    """One clause per condition, in order of first mention.

    A condition that is affirmed somewhere is affirmed at those regions (in order of first mention, repetitions kept);
    one that is affirmed nowhere is absent.
    """
    regions: dict[str, list[str]] = {}
    for finding in findings:
        affirmed = regions.setdefault(finding.label, [])
        if finding.context == "yes":
            affirmed.append(finding.region)
    return tuple(Clause(condition, tuple(where)) for condition, where in regions.items())


def render(parts: Sequence[Clause], *, variant: Variant = "clean") -> str:
    """Clauses as sentences, joined by blanks (paper, Table 1).

    "The {regions} is/are {c}." for normal and abnormal, "There is {c} in the {regions}." for other conditions,
    "There is no {c}." for an absent one. The left and the right of a region merge into its plural.

    The ``released`` variant does what the authors' code does: "left" and "right" are found as substrings and all of
    their occurrences mirrored, the plural is always "s" ("hilar structuress"), the verb is plural as soon as two
    regions were listed, a repeated one included ("The left lung are abnormal."). That code's order of regions changes
    from process to process; here it is the order of first mention in both variants. The ``clean`` variant compares
    whole words, leaves a plural as it is, and lets the verb follow what is printed.
    """
    return " ".join(_sentence(part, variant) for part in parts)


def _sentence(clause: Clause, variant: Variant) -> str:
    if not clause.regions:
        return f"There is no {clause.condition}."
    names = merge_sides(clause.regions, variant=variant)
    if clause.condition not in STATES:
        return f"There is {clause.condition} in the {_enumerate(names)}."
    plural = len(clause.regions) > 1 if variant == "released" else len(names) > 1 or _is_plural(names[0])
    return f"The {_enumerate(names)} {'are' if plural else 'is'} {clause.condition}."


def merge_sides(regions: Sequence[str], *, variant: Variant = "clean") -> tuple[str, ...]:
    """Region names without repetition, where the left and the right of a region become its plural."""
    listed = dict.fromkeys(regions)
    merged = (_without_side(region, variant) if mirror(region, variant) in listed else region for region in listed)
    return tuple(dict.fromkeys(merged))


def mirror(region: str, variant: Variant = "clean") -> str | None:
    """The name of the region on the other side, or None for a region without a side."""
    if variant == "released":
        swapped = region.replace("left", "\0").replace("right", "left").replace("\0", "right")
    else:
        swapped = re.sub(r"\b(left|right)\b", lambda match: "right" if match[0] == "left" else "left", region)
    return swapped if swapped != region else None


def _without_side(region: str, variant: Variant) -> str:
    if variant == "released":
        return region.replace("left ", "").replace("right ", "") + "s"
    bare = re.sub(r"\b(left|right)\s+", "", region)
    return bare if _is_plural(bare) else bare + "s"


def _is_plural(region: str) -> bool:
    return region.endswith("s") and not region.endswith(("ss", "us"))


def _enumerate(names: Sequence[str]) -> str:
    """ "x", "x and y", "x, y, and z"."""
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"
