"""Ranks of models, from the same resamples of patients for all; which of them cannot be told from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..benchmark.cells import Cell, cell_values
from ..benchmark.errors import WronglungError, first_line
from ..benchmark.statistics.ranks import rank_ranges
from ..benchmark.statistics.resampling import MIN_CLUSTERS, cluster_intervals, resampled_means
from .grouping import Entry
from .sections import Rank

Floats = npt.NDArray[np.float64]


class Ranks(NamedTuple):
    """Ranks by label, best first; the numbers of instances and of clusters behind them, None where ranks are by value."""

    by_label: Mapping[str, Rank]
    instances: int | None
    clusters: int | None


def rank(entries: Sequence[Entry], cell: Cell, higher_is_better: bool) -> Ranks:
    """Rank at least two models, each with a value of the cell.

    Over the instances that all models have a value for, where the rows of all are at hand and there are patients enough; by
    value otherwise. Raises :class:`WronglungError` for rows that do not belong to their run.
    """
    paired = Paired.of(entries, [cell])
    if paired is not None:
        values = paired.values[0]
        common = ~np.isnan(values).any(axis=1)
        clusters = len(set(paired.clusters[common]))
        if clusters >= MIN_CLUSTERS:
            values = np.where(common[:, None], values, np.nan)
            means = np.nanmean(values, axis=0)
            order = _order(entries, means, higher_is_better)
            first, last = rank_ranges(resampled_means(values, paired.clusters, paired.seed), higher_is_better)
            tied = paired.tied(values, order[0])
            tied[order[0]] = False
            ranks = {entries[at].label: Rank(int(first[at]), int(last[at]), bool(tied[at])) for at in order}
            return Ranks(ranks, int(common.sum()), clusters)
    means = np.array([value_of(entry, cell) for entry in entries], dtype=np.float64)
    order = _order(entries, means, higher_is_better)
    signed = means if higher_is_better else -means
    by_value = {
        entries[at].label: Rank(int((signed > signed[at]).sum()) + 1, int((signed >= signed[at]).sum())) for at in order
    }
    return Ranks(by_value, None, None)


def best(entries: Sequence[Entry], cells: Mapping[Cell, bool]) -> dict[Cell, frozenset[str]]:
    """The labels of the best model of each cell and of those not distinguishable from it, by whether higher is better.

    Without the rows of all models, and under ten patients, by value. A cell that fewer than two models have says nothing.
    """
    figures = {cell: [value_of(entry, cell) for entry in entries] for cell in cells}
    compared = [cell for cell, values in figures.items() if sum(value is not None for value in values) > 1]
    paired = Paired.of(entries, compared) if compared else None
    found = {}
    for at, cell in enumerate(compared):
        signed = np.array([np.nan if value is None else value for value in figures[cell]], dtype=np.float64)
        signed = signed if cells[cell] else -signed
        first = int(np.nanargmax(signed))
        chosen = signed == signed[first]
        if paired is not None:
            chosen |= paired.tied(paired.values[at], first)
        found[cell] = frozenset(entry.label for entry, is_best in zip(entries, chosen, strict=True) if is_best)
    return found


def agreement(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's τ-b of two orders of models, both with the better values higher; None under three models with both values."""
    from scipy.stats import kendalltau

    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if len(pairs) < 3:
        return None
    tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if np.isnan(tau) else tau


def value_of(entry: Entry, cell: Cell) -> float | None:
    """The figure of a cell in a run's summary."""
    return next(
        (
            one.delta if cell.delta else one.value
            for one in entry.run.scores
            if (one.task, one.subset, one.metric) == (cell.task, cell.subset, cell.metric)
        ),
        None,
    )


class Paired(NamedTuple):
    """Values of several models for the same instances: float64 [cells, instances, models], NaN where undefined."""

    values: Floats
    clusters: npt.NDArray[np.object_]
    seed: int

    @classmethod
    def of(cls, entries: Sequence[Entry], cells: Sequence[Cell]) -> Paired | None:
        """From the rows of each run; None where those of one are not at hand. All entries must have all cells."""
        first, columns = None, []
        for entry in entries:
            if entry.instances is None:
                return None
            try:
                one = cell_values(entry.run, entry.instances, cells)
            except (WronglungError, ValueError, TypeError) as error:
                # A column of a damaged file may hold anything.
                raise WronglungError(f"run of {entry.label}: {first_line(error)}") from error
            first = first or one
            if not np.array_equal(one.instance_ids, first.instance_ids):
                raise WronglungError(
                    f"run of {entry.label}: its instances are not those of the other runs on the same data"
                )
            for at, cell in enumerate(cells):
                column, said = one.values[:, at], value_of(entry, cell)
                mean = float(np.nanmean(column)) if not np.isnan(column).all() else None
                if (mean is None) != (said is None) or not np.isclose(mean or 0, said or 0, rtol=1e-6, atol=1e-9):
                    raise WronglungError(
                        f"run of {entry.label}: the values of its instances do not give the {cell.metric} of its summary; "
                        f"its files are of different runs, make it again"
                    )
            columns.append(one.values)
        if first is None:
            return None
        return cls(np.stack(columns, axis=-1).swapaxes(0, 1), first.clusters, entries[0].run.manifest.seed)

    def tied(self, values: Floats, first: int) -> npt.NDArray[np.bool_]:
        """Whose paired difference to model ``first`` has an interval that reaches 0, bool [models]; ``first`` has."""
        low, high = cluster_intervals(values - values[:, [first]], self.clusters, self.seed)
        return (low <= 0) & (high >= 0)


def _order(entries: Sequence[Entry], means: Floats, higher_is_better: bool) -> list[int]:
    signed = -means if higher_is_better else means
    return sorted(range(len(entries)), key=lambda at: (signed[at], entries[at].label))
