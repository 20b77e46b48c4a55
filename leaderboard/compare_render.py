"""A comparison as Markdown, JSON or JUnit XML."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeAlias
from xml.etree import ElementTree

from tabulate import tabulate

from ..benchmark.metrics.catalogue import known_metric
from ..benchmark.results import RunResults
from .changes import Change
from .compare import Comparison
from .gate_text import cell_text
from .judgement import Judgement, Outcome
from .wording import printable

SCHEMA_VERSION = 1
SHOWN = 20
"""Rows of changed cells without a gate in a short table."""

Format: TypeAlias = Literal["markdown", "json", "junit"]

_ORDER: tuple[Outcome, ...] = ("failed", "inconclusive", "passed")


def render(comparison: Comparison, fmt: Format, *, everything: bool = False) -> str:
    """The text of a comparison; ``everything`` adds the cells that did not change to Markdown. JSON has all in any case."""
    if fmt == "json":
        return _json(comparison)
    return _junit(comparison) if fmt == "junit" else _markdown(comparison, everything)


def outcome_line(comparison: Comparison) -> str:
    """The outcome in one line."""
    counts = Counter(one.outcome for one in comparison.gates)
    parts = [f"{counts[outcome]} {outcome}" for outcome in _ORDER if counts[outcome]]
    said = "FAILED" if comparison.outcome == "failed" else comparison.outcome
    return f"{said}: of {len(comparison.gates)} gates, {', '.join(parts)}"


def _markdown(comparison: Comparison, everything: bool) -> str:
    base, candidate = (escape(str(one.model["name"])) for one in (comparison.base, comparison.candidate))
    dataset, suite = comparison.base.dataset, comparison.base.suite
    where = f"{dataset.name} · {suite['name']} {suite['version']}"
    size = f"{dataset.n_instances:,} instances, {comparison.n_patients:,} {dataset.unit}"
    ordered = sorted(comparison.gates, key=lambda one: _ORDER.index(one.outcome))
    parts = [
        f"### {outcome_line(comparison)}",
        f"{candidate} against {base} on {escape(f'{where} · {size}')}",
        _table(_GATE_COLUMNS, [_gate_row(one) for one in ordered]),
    ]
    changed = comparison.changed()
    if changed:
        shown = changed if everything else changed[:SHOWN]
        title = f"**Changed without a gate** ({len(changed)} cells"
        title += ")" if len(shown) == len(changed) else f"; the {SHOWN} largest, in margins; --all shows all)"
        parts += [title, _table(_CHANGE_COLUMNS, map(_change_row, shown))]
    if everything:
        told = {one.gate.cell for one in comparison.gates} | {one.cell for one in changed}
        rest = [one for one in comparison.changes if one.cell not in told]
        table = _table(_CHANGE_COLUMNS, map(_change_row, rest))
        parts.append(f"<details><summary>All other cells ({len(rest)})</summary>\n\n{table}\n\n</details>")
    return "\n\n".join([*parts, _legend(comparison), *(f"Note: {escape(one)}." for one in comparison.notes)])


_GATE_COLUMNS = ("", "cell", "base", "candidate", "difference", "may be worse by", "p", "detectable", "why")
_CHANGE_COLUMNS = ("cell", "base", "candidate", "difference", "p", "verdict", "instances")


def _gate_row(one: Judgement) -> list[str]:
    change, gate, unit = one.change, one.gate, _Unit(one.gate.cell.metric)
    limits = [f"≥ {unit.text(gate.at_least)}"] if gate.at_least is not None else []
    limits += [f"≤ {unit.text(gate.at_most)}"] if gate.at_most is not None else []
    tolerated = [unit.text(one.margin)] if one.margin is not None else []
    outcome = "FAILED" if one.outcome == "failed" else f"{one.outcome}, fails" if one.fails else one.outcome
    return [
        outcome, escape(cell_text(gate.cell)), *_figures(change, unit), ", ".join([*tolerated, *limits]),
        _p(change.adjusted_p), unit.text(change.detectable), escape(one.reason),
    ]  # fmt: skip


def _change_row(one: Change) -> list[str]:
    unit = _Unit(one.cell.metric)
    return [
        escape(cell_text(one.cell)),
        *_figures(one, unit),
        _p(one.adjusted_p),
        one.verdict or "–",
        f"{one.n_paired:,}",
    ]


def _figures(change: Change, unit: _Unit) -> list[str]:
    difference = unit.text(change.difference, signed=True)
    if change.low is not None and change.high is not None:
        difference += f" [{unit.text(change.low, signed=True)}, {unit.text(change.high, signed=True)}]"
    signed = change.cell.delta
    return [unit.text(change.base, signed=signed), unit.text(change.candidate, signed=signed), difference]


def _legend(comparison: Comparison) -> str:
    return (
        f"Difference = candidate − base over the instances where both have a value, with {comparison.level * 100:g} % intervals "
        f"({comparison.method}) from resampling {comparison.base.dataset.unit}. Fractions are times 100. p: sign-flip test, adjusted among the "
        "gates by Holm, among the other cells by Benjamini and Hochberg. Detectable: the true difference that data like these "
        "show four times in five."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return tabulate(list(rows), columns, tablefmt="pipe", disable_numparse=True)


class _Unit:
    """How figures of a metric are shown: fractions times 100, anything else as it is."""

    def __init__(self, metric: str) -> None:
        known = known_metric(metric)
        self.percent = known is not None and known.percent

    def text(self, value: float | None, signed: bool = False) -> str:
        if value is None:
            return "–"
        text = f"{value * 100:+.2f}" if self.percent else f"{value:+.4f}"
        # What only rounds to zero has no sign.
        return text.lstrip("+-") if float(text) == 0 or not (signed or value < 0) else text.replace("-", "−")


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line, also inside a table, without control characters for the terminal."""
    return re.sub(r"[&<>|`*\[\]\\~$]|(?<!\w)_|_(?!\w)", lambda found: f"&#{ord(found[0])};", printable(text))


def _json(comparison: Comparison) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "outcome": comparison.outcome,
        "base": _described(comparison.base),
        "candidate": _described(comparison.candidate),
        "n_patients": comparison.n_patients,
        "level": comparison.level,
        "method": comparison.method,
        "seed": comparison.seed,
        "notes": list(comparison.notes),
        "gates": [_gate(one) for one in comparison.gates],
        "cells": [_cell(one) for one in comparison.changes],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _described(run: RunResults) -> dict[str, Any]:
    return {
        "model": run.model["name"],
        "checkpoint": run.model.get("checkpoint"),
        "dataset": run.dataset.name,
        "fingerprint": run.dataset.fingerprint,
        "suite": f"{run.suite['name']} {run.suite['version']}",
        "wronglung": run.manifest.wronglung,
        "commit": run.manifest.commit,
    }


def _gate(one: Judgement) -> dict[str, Any]:
    gate, change = asdict(one.gate), one.change
    del gate["cell"], gate["optional"]
    return {
        **one.gate.cell._asdict(),
        **gate,
        "margin": one.margin,
        "outcome": one.outcome,
        "reason": one.reason,
        "fails": one.fails,
        "difference": change.difference,
        "low": change.low,
        "high": change.high,
        "adjusted_p": change.adjusted_p,
        "detectable": change.detectable,
    }


def _cell(change: Change) -> dict[str, Any]:
    return {**change.cell._asdict(), **{key: value for key, value in asdict(change).items() if key != "cell"}}


def _junit(comparison: Comparison) -> str:
    counts = Counter(_junit_kind(one) for one in comparison.gates)
    totals = {"tests": len(comparison.gates), "failures": counts["failure"], "skipped": counts["skipped"], "errors": 0}
    suite = ElementTree.Element(
        "testsuite", {"name": "wronglung compare", **{key: str(n) for key, n in totals.items()}}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("base", "candidate"):
        model = getattr(comparison, name).model["name"]
        ElementTree.SubElement(properties, "property", {"name": name, "value": _xml(str(model))})
    for one in comparison.gates:
        cell = one.gate.cell
        place = {"classname": _xml(f"{cell.task}.{cell.subset}"), "name": _xml(cell_text(cell))}
        case = ElementTree.SubElement(suite, "testcase", place)
        kind = _junit_kind(one)
        if kind is not None:
            told = ElementTree.SubElement(case, kind, {"message": _xml(f"{one.outcome}: {one.reason}")})
            told.text = _xml(_sentence(one))
    ElementTree.indent(suite, " ")
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=False)


def _junit_kind(one: Judgement) -> Literal["failure", "skipped"] | None:
    return "failure" if one.fails else "skipped" if one.outcome == "inconclusive" else None


def _sentence(one: Judgement) -> str:
    base, candidate, difference = _figures(one.change, _Unit(one.gate.cell.metric))
    return f"base {base}, candidate {candidate}, difference {difference}"


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 has no way to write."""
    return re.sub(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
