"""``wronglung compare``: is a candidate at least as good as its base, where it has to be?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..benchmark.cells import Cell, CellValues, cell_values, cells_of
from ..benchmark.errors import WronglungError
from ..benchmark.results import Results, RunResults
from ..benchmark.statistics.resampling import LEVEL, Method, caution
from .baseline import SUFFIX, load_side, write_baseline
from .changes import Change, changes
from .comparability import differences
from .gate_text import cell_text
from .gates import GateRule, default_rules, fail_on_rule, read_gates, resolve
from .judgement import Judgement, Outcome, judge


@dataclass(frozen=True)
class Comparison:
    """A candidate held against its base."""

    base: RunResults
    candidate: RunResults
    n_patients: int
    level: float
    method: Method
    seed: int
    changes: tuple[Change, ...]
    """Of every cell that the base has."""
    gates: tuple[Judgement, ...]
    notes: tuple[str, ...]
    """What a reader of the figures should know."""

    @property
    def passed(self) -> bool:
        """Whether no gate fails the comparison."""
        return not any(one.fails for one in self.gates)

    @property
    def outcome(self) -> Outcome:
        """``inconclusive`` where nothing fails, and no gate passed either: the data could not tell anything."""
        if not self.passed:
            return "failed"
        return "passed" if any(one.outcome == "passed" for one in self.gates) else "inconclusive"

    def changed(self) -> list[Change]:
        """The cells without a gate that changed, most margins first.

        A difference was shown (adjusted p of at most 1 − level) that is not known to be within the metric's margin. Cells of
        metrics without a margin, such as similarities on a model's own scale, are not among them.
        """
        gated = {one.gate.cell for one in self.gates}
        found = [
            (abs(one.difference) / one.margin if one.margin else math.inf, one)
            for one in self.changes
            if one.cell not in gated and one.verdict in ("moved", "inconclusive")
            if one.margin is not None and one.difference is not None
            if one.adjusted_p is not None and one.adjusted_p <= 1 - self.level
        ]
        return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def compare(
    base: Path,
    candidate: Path,
    *,
    gate: Path | None = None,
    fail_on: Sequence[str] = (),
    level: float = LEVEL,
    method: Method = "percentile",
    seed: int | None = None,
    strict: bool = False,
) -> Comparison:
    """Compare the runs or baselines at two paths, under the gates of a file and of ``fail_on``; without both, the default ones.

    ``level`` is that of the intervals, ``seed`` that of the resamples (by default the seed of the runs). With ``strict``,
    whatever is inconclusive fails. Raises :class:`WronglungError` for what cannot be read or compared.
    """
    if not 0 < level < 1:
        raise WronglungError(f"the level of the intervals must lie between 0 and 1, not {level}")
    before, after = load_side(base), load_side(candidate)
    _require_comparable(before, after)
    gates = resolve(_rules(before.run, gate, fail_on), before.run)
    cells = cells_of(before.run)
    values, others = _values(before, cells, base), _values(after, cells, candidate)
    if list(values.clusters) != list(others.clusters):
        raise WronglungError(f"{candidate}: cannot be compared: the same instances are of other patients")
    seed = before.run.manifest.seed if seed is None else seed
    found = changes(values, others, {one.cell for one in gates}, seed=seed, level=level, method=method)
    by_cell = {one.cell: one for one in found}
    asked = [one for one in gates if not (one.optional and _is_empty(by_cell[one.cell]))]
    if not asked:
        raise WronglungError("nothing is gated: no gated cell has a value in either run")
    unasked = [one.cell for one in gates if one not in asked]
    return Comparison(
        before.run,
        after.run,
        len(set(values.clusters)),
        level,
        method,
        seed,
        tuple(found),
        tuple(judge(one, by_cell[one.cell], before.run.dataset.unit, strict) for one in asked),
        tuple(_notes(before.run, after.run, unasked)),
    )


def update_baseline(
    target: Path, candidate: Path, *, gate: Path | None = None, fail_on: Sequence[str] = (), everything: bool = False
) -> None:
    """Write the baseline file of a run: the cells that its gates need, or with ``everything`` all that have a direction.

    Raises :class:`WronglungError` for a run that cannot be read or lacks a gated cell, and for a target that is no file name of
    a baseline.
    """
    if target.suffix != SUFFIX or target.is_dir():
        raise WronglungError(f"{target}: a baseline is a {SUFFIX} file; name one as BASE to write it")
    results = load_side(candidate)
    cells = {one.cell for one in resolve(_rules(results.run, gate, fail_on), results.run)}
    if everything:
        ranked = {one.metric for one in results.run.scores if one.higher_is_better is not None}
        cells |= {one for one in cells_of(results.run) if one.metric in ranked}
    _values(results, sorted(cells), candidate)
    write_baseline(target, results, cells)


def _rules(run: RunResults, gate: Path | None, fail_on: Sequence[str]) -> list[GateRule]:
    metrics = list(dict.fromkeys(one.metric for one in run.scores))
    given = [*([] if gate is None else read_gates(gate)), *(fail_on_rule(text, metrics) for text in fail_on)]
    rules = given or default_rules(run)
    if not rules:
        raise WronglungError(
            "nothing is gated: the base has none of the cells that are by default; name some with --fail-on"
        )
    return list(rules)


def _require_comparable(base: Results, candidate: Results) -> None:
    """Refuse what cannot stand side by side, and a candidate that lacks instances or cells of its base."""
    found = differences(base.run, candidate.run)
    ids, others = ({*one.instances["instance_id"]} for one in (base, candidate))
    for here, there, whose in ((ids, others, "base"), (others, ids, "candidate")):
        if base.run.dataset.fingerprint == candidate.run.dataset.fingerprint and here - there:
            found.insert(0, f"{len(here - there)} of the {whose}'s {len(here)} instances are not in the other run")
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise WronglungError(f"the runs cannot be compared: {'; '.join(found[:4])}{more}")
    has = set(cells_of(candidate.run))
    missing = [cell_text(one) for one in cells_of(base.run) if one not in has]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WronglungError(
            f"the candidate lacks cells of the base: {', '.join(missing[:3])}{more}; run the same suite"
        )


def _values(results: Results, cells: Sequence[Cell], path: Path) -> CellValues:
    """The values behind the cells, after a look whether they are those of the summary."""
    try:
        samples = cell_values(results.run, results.instances, cells)
    except WronglungError as error:
        raise WronglungError(f"{path}: {error}") from error
    figures = {(one.task, one.subset, one.metric): one for one in results.run.scores}
    for at, cell in enumerate(cells):
        score = figures[cell.task, cell.subset, cell.metric]
        stated = score.delta if cell.delta else score.value
        column = samples.values[:, at]
        defined = column[~np.isnan(column)]
        if defined.size != 0 if stated is None else not (defined.size and np.isclose(defined.mean(), stated)):
            raise WronglungError(
                f"{path}: the instances do not give the summary's {cell_text(cell)}; the files are of different runs"
            )
    return samples


def _is_empty(change: Change) -> bool:
    return change.base is None and change.candidate is None


def _notes(base: RunResults, candidate: RunResults, unasked: Sequence[Cell]) -> list[str]:
    notes = []
    few = caution(base.dataset.n_patients, base.dataset.unit)
    if few is not None:
        notes.append(few)
    if base.dataset.limit is not None:
        notes.append(f"partial runs, the first {base.dataset.n_instances} instances only")
    versions = [str(one.suite["version"]) for one in (base, candidate)]
    if versions[0] != versions[1]:
        notes.append(f"versions {' and '.join(versions)} of the suite")
    if unasked:
        notes.append(f"not gated, as neither run has a value: {', '.join(map(cell_text, unasked))}")
    extra = set(cells_of(candidate)) - set(cells_of(base))
    if extra:
        notes.append(f"{len(extra)} cells of the candidate are not in the base, so they are not compared")
    return notes
