"""The whole dataset as perturbations see it, and draws that depend on keys, never on order."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

from ..benchmark.instances import Box, Instance
from .sentences import clauses


@dataclass(frozen=True, slots=True)
class Trial:
    """What is put to the model, and what its answer is scored against.

    ``boxes`` are in original pixels of the instance's own image.
    """

    sentence: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """A source of random choices for one task: the same key always gives the same choice.

    Choices are read from SHA-256 digests, so that they are the same on every machine and with every library
    version, and no choice depends on the ones before it.
    """

    seed: int
    task: str
    index: int = 0

    def integer(self, below: int, *key: str) -> int:
        """A number in [0, below), uniform up to a bias of 2⁻²⁰⁰."""
        return self._number(*key) % below

    def permutation(self, members: Sequence[str], *key: str) -> list[str]:
        """The members (distinct strings) in a random order that does not depend on the given one."""
        return sorted(members, key=lambda member: (self._number(*key, member), member))

    def _number(self, *key: str) -> int:
        text = json.dumps([self.seed, self.task, self.index, *key])
        return int.from_bytes(hashlib.sha256(text.encode()).digest())


class Pool:
    """All instances of a dataset, indexed for drawing. The order of ``instances`` does not matter."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self.instances = tuple(sorted(instances, key=lambda one: one.id))

    def stranger(self, instance: Instance, draw: Draw) -> Instance | None:
        """A uniformly drawn instance of another patient.

        Where all instances are one patient's, of another report; where there is one report, of another image; None
        where there is one image.
        """
        for members, names, group in self._groupings:
            first, end = bisect_left(names, group(instance)), bisect_right(names, group(instance))
            if end - first < len(members):
                at = draw.integer(len(members) - (end - first), instance.id)
                return members[at if at < first else at + end - first]
        return None

    def kin(self, instance: Instance) -> tuple[Instance, ...]:
        """The instances that :meth:`stranger` never draws for this one: as a rule, those of the same patient."""
        for members, names, group in self._groupings:
            first, end = bisect_left(names, group(instance)), bisect_right(names, group(instance))
            if end - first < len(members):
                return tuple(members[first:end])
        return self.instances

    @cached_property
    def _groupings(self) -> list[tuple[list[Instance], list[str], Callable[[Instance], str]]]:
        """Per level (patient, report, image): the instances sorted by group, their group names, and the level."""
        levels = (attrgetter("cluster"), attrgetter("report"), attrgetter("image_id"))
        groupings: list[tuple[list[Instance], list[str], Callable[[Instance], str]]] = []
        for level in levels:
            members = sorted(self.instances, key=level)
            groupings.append((members, [level(one) for one in members], level))
        return groupings

    @cached_property
    def report_images(self) -> dict[tuple[str, str], tuple[Instance, ...]]:
        """The instances of each (report, image), in order of id. Boxes are only comparable within one image."""
        groups: dict[tuple[str, str], list[Instance]] = {}
        for instance in self.instances:
            groups.setdefault((instance.report, instance.image_id), []).append(instance)
        return {key: tuple(members) for key, members in groups.items()}

    def conditions_at(self, regions: Iterable[str]) -> tuple[str, ...]:
        """The conditions that some instance affirms at exactly these regions (none: negates), sorted."""
        return self._conditions.get(frozenset(regions), ())

    @cached_property
    def _conditions(self) -> dict[frozenset[str], tuple[str, ...]]:
        seen: dict[frozenset[str], set[str]] = {}
        for instance in self.instances:
            for clause in clauses(instance.findings):
                seen.setdefault(frozenset(clause.regions), set()).add(clause.condition)
        return {regions: tuple(sorted(conditions)) for regions, conditions in seen.items()}
