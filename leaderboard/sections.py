"""What a leaderboard is made of: sections of lines of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .columns import Column

Role = Literal["model", "floor", "ceiling"]


class Figure(NamedTuple):
    """A figure with its 95 % interval, in the units of the result files (fractions, nats).

    ``n`` is the number of instances behind a value; None for deltas and for published figures, which do not say.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Rank(NamedTuple):
    """The range of a model's ranks, from 1; ``tied``: another model is first, but not distinguishable from this one."""

    best: int
    worst: int
    tied: bool = False


@dataclass(frozen=True)
class Line:
    """A model's figures, by :attr:`Column.key`; ``published`` figures were taken from the paper, not rerun.

    ``figures`` holds None where a cell is undefined or was not asked for; ``misses`` names the tasks and metrics that other
    models of the section were asked for and this one was not. ``rank`` is None for floors, ceilings, published figures, models that miss anything, and where
    there is nothing to compare. ``best`` holds the keys of columns in which the model is the best of the ranked ones, or is
    not distinguishable from it.
    """

    model: str
    published: bool
    figures: Mapping[str, Figure | None]
    role: Role = "model"
    misses: tuple[str, ...] = ()
    rank: Rank | None = None
    best: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Ranking:
    """How the models of a section were ranked.

    Ranks are ranges from resampling ``clusters`` patients with the ``instances`` for which all ranked models have a value; both
    numbers are None where ranks are by value. ``agreement`` is Kendall's τ between this order and that by another column, by label.
    """

    metric: str
    task: str
    subset: str
    models: int
    instances: int | None = None
    clusters: int | None = None
    agreement: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Section:
    """The models that can be compared: one dataset, one suite and major version, one subset.

    ``n_patients`` counts what ``unit`` says. ``applicable``: whether the dataset can say which instances belong to the
    subset. Lines are in order: ceilings, ranked models, other models, floors, published figures.
    """

    dataset: str
    suite: str
    subset: str
    n_instances: int | None
    n_patients: int | None
    unit: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    applicable: bool = True
    ranking: Ranking | None = None
