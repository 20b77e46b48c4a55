"""What a model's page shows: its card, what the perturbations change, where it stands between floors and ceilings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...benchmark.metrics.catalogue import known_metric
from ...benchmark.results import Score
from ..reading import read
from . import figures
from .groups import Entry, Group

WIDTH = 220
"""Of a plot, in the units of its drawing."""
_EDGE = 6
CARD = {
    "saliency_method": "Saliency method",
    "map_kind": "Map",
    "mass": "As a distribution",
    "tokens": "Tokens",
    "preprocessing": "Preprocessing",
    "checkpoint": "Checkpoint (SHA-256)",
    "pretraining_sources": "Pretrained on",
}


class Scale(NamedTuple):
    """A horizontal axis from ``low`` to ``high``."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + share * (WIDTH - 2 * _EDGE), 1)


def page(group: Group, entry: Entry, regions: int | None, headline: Sequence[str]) -> dict[str, Any]:
    """The content of a model's page for its template; ``regions`` of its maps, where known, ``headline`` metrics."""
    return {
        "reading": None if entry.role != "model" else read(entry.run, regions).text,
        "card": list(_card(entry)),
        "settings": sorted((str(key), _plain(value)) for key, value in (entry.run.model.get("settings") or {}).items()),
        "versions": _versions(entry),
        "changes": [one for one in (_changes(group, entry, metric) for metric in headline) if one["rows"]],
        "calibration": list(_calibration(group, entry, headline)),
        "correlations": _correlations(entry),
    }


def headline(group: Group) -> list[str]:
    """The metrics that a page goes into: those with a smallest change that counts, in the suite's order."""
    judged = [one for one in group.metrics if (known := known_metric(one)) is not None and known.margin is not None]
    ranked = [one for one in group.metrics if (known := known_metric(one)) is None or known.higher_is_better]
    short = [one for one in judged if one in ("auroc", "average_precision") or _is_headline(one)]
    return short or judged or ranked[:2]


def _is_headline(metric: str) -> bool:
    known = known_metric(metric)
    return known is not None and known.headline


def _card(entry: Entry) -> Iterator[tuple[str, str]]:
    for key, label in CARD.items():
        value = entry.run.model.get(key)
        if value:
            yield label, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _versions(entry: Entry) -> list[tuple[str, str]]:
    manifest = entry.run.manifest
    commit = f" ({manifest.commit[:12]})" if manifest.commit else ""
    return [
        ("wronglung", f"{manifest.wronglung}{commit}"),
        ("Python", f"{manifest.python}, {manifest.platform}"),
        ("Device", f"{manifest.device}, {manifest.dtype}"),
        ("Seed", str(manifest.seed)),
        *sorted(manifest.packages.items()),
    ]


def _plain(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _changes(group: Group, entry: Entry, metric: str) -> dict[str, Any]:
    """The deltas of a metric by task and subset, drawn on one scale for all models of the group.

    Floors and ceilings move further than models do, and are drawn on a scale of their own.
    """
    unit, known = figures.unit(metric), known_metric(metric)
    margin = None if known is None else known.margin
    alike = [other for other in group.entries if (other.role == "model") == (entry.role == "model")]
    everywhere = [one for other in alike for one in other.scores.values() if one.metric == metric]
    scale = _scale(_ends(everywhere, margin or 0.0))
    rows = []
    for task in group.tasks:
        scores = [entry.scores.get((task["name"], subset, metric)) for subset in group.subsets]
        found = [one for one in scores if one is not None and one.delta is not None]
        for at, score in enumerate(found):
            assert score.delta is not None, "only those were kept"
            rows.append(
                {
                    "task": task["title"] if at == 0 else None,
                    "span": len(found),
                    "subset": score.subset,
                    "text": unit.text(score.delta, signed=True),
                    "interval": unit.interval(score.delta_ci_low, score.delta_ci_high, signed=True),
                    "dot": scale.x(score.delta),
                    "line": _line(scale, score.delta_ci_low, score.delta_ci_high),
                    "change": figures.change(score, task["expected"]),
                    "n_changed": score.n_changed,
                    "n": score.n_instances,
                }
            )
    return {
        "metric": metric,
        "name": figures.name(metric),
        "summary": "" if known is None else known.summary,
        "margin": None if margin is None else unit.text(margin),
        "percent": unit.scale == 100,
        "band": None if margin is None else _line(scale, -margin, margin),
        "zero": scale.x(0.0),
        "ends": [unit.text(scale.low, signed=True), unit.text(scale.high, signed=True)],
        "rows": rows,
    }


def _ends(scores: Iterable[Score], margin: float) -> Iterator[float]:
    yield from (-margin, 0.0, margin)
    for one in scores:
        yield from (end for end in (one.delta, one.delta_ci_low, one.delta_ci_high) if end is not None)


def _scale(values: Iterable[float]) -> Scale:
    values = list(values)
    low, high = min(values), max(values)
    room = (high - low) * 0.03 or 0.5
    return Scale(low - room, high + room)


def _line(scale: Scale, low: float | None, high: float | None) -> tuple[float, float] | None:
    """Where a stretch begins, and how long it is."""
    if low is None or high is None:
        return None
    return scale.x(low), round(max(scale.x(high) - scale.x(low), 0.5), 1)


def _calibration(group: Group, entry: Entry, headline: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A model's values between those of the floors and the ceilings, on the subset shown first and on the widest."""
    for subset in dict.fromkeys((group.subset, group.subsets[0])):
        rows = []
        for metric in headline:
            task = next((one["name"] for one in group.tasks if _value(entry, one["name"], subset, metric)), None)
            if task is not None:
                rows.append(_placed(group, entry, task, subset, metric))
        if rows:
            yield {"subset": subset, "rows": rows}


def _placed(group: Group, entry: Entry, task: str, subset: str, metric: str) -> dict[str, Any]:
    unit = figures.unit(metric)
    score = entry.scores[task, subset, metric]
    assert score.value is not None, "the caller asked for it"
    known = {
        role: sorted(
            (other.value, one.label)
            for one in group.entries
            for other in [_value(one, task, subset, metric)]
            if one.role == role and one is not entry and other is not None and other.value is not None
        )
        for role in ("floor", "ceiling")
    }
    floors, ceilings = known["floor"], known["ceiling"]
    if score.higher_is_better is False:
        floors, ceilings = floors[::-1], ceilings[::-1]
    ends = [score.value, *(value for value, _ in (*floors, *ceilings))]
    ends += [end for end in (score.ci_low, score.ci_high) if end is not None]
    scale = _scale(ends)
    best_floor, best_ceiling = (floors[-1] if floors else None), (ceilings[-1] if ceilings else None)
    way = None
    if entry.role == "model" and best_floor and best_ceiling and best_floor[0] != best_ceiling[0]:
        way = round((score.value - best_floor[0]) / (best_ceiling[0] - best_floor[0]) * 100)
    return {
        "name": figures.name(metric),
        "text": unit.text(score.value),
        "interval": unit.interval(score.ci_low, score.ci_high),
        "floor": best_floor and (unit.text(best_floor[0]), best_floor[1]),
        "ceiling": best_ceiling and (unit.text(best_ceiling[0]), best_ceiling[1]),
        "way": None if way is None else str(way).replace("-", "−"),
        "dot": scale.x(score.value),
        "line": _line(scale, score.ci_low, score.ci_high),
        "floors": [scale.x(value) for value, _ in floors],
        "ceilings": [scale.x(value) for value, _ in ceilings],
    }


def _value(entry: Entry, task: str, subset: str, metric: str) -> Score | None:
    score = entry.scores.get((task, subset, metric))
    return score if score is not None and score.value is not None else None


def _correlations(entry: Entry) -> dict[str, Any] | None:
    """The correlation matrix, each cell with its text and a class by sign and tenth; None where nothing is defined."""
    pairs = entry.run.correlations
    if not any(one.r is not None for one in pairs):
        return None
    names = list(dict.fromkeys(name for one in pairs for name in (one.a, one.b)))
    by_pair = {frozenset((one.a, one.b)): one.r for one in pairs}

    def cell(row: str, column: str) -> tuple[str, str]:
        if row == column:
            return "1", ""
        r = by_pair.get(frozenset((row, column)))
        if r is None:
            return "–", ""
        return figures.Unit(1, 2).text(r), f"r{'m' if r < 0 else 'p'}{min(5, round(abs(r) * 5))}"

    return {
        "names": [figures.name(one) for one in names],
        "rows": [(figures.name(row), [cell(row, column) for column in names]) for row in names],
        "n": max(one.n_instances for one in pairs),
    }
