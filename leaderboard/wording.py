"""The words and numbers of a leaderboard, as every format for readers shows them: plain text, escaped by none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from ..benchmark.statistics.resampling import RESAMPLES
from .columns import Column, Intervals
from .published_rows import PUBLISHED_DATASET
from .sections import Figure, Line, Section

TIED = "≈"
NOTHING = "–"


def printable(text: str) -> str:
    """Text in one line, without any character that a terminal or an editor would obey."""
    return "".join(one if one.isprintable() else "�" for one in " ".join(text.split()))


def title(section: Section) -> str:
    """What a section is about."""
    name = f"{section.dataset} · {section.suite} · {section.subset}"
    if not section.applicable:
        return f"{name}: not applicable, the dataset does not say"
    patients = "" if section.n_patients is None else f", {section.n_patients:,} {section.unit}"
    return name if section.n_instances is None else f"{name} · {section.n_instances:,} instances{patients}"


def blocks(section: Section) -> Iterator[tuple[str, list[Column]]]:
    """The tables of a section: what stands in the corner, and the columns."""
    for name in dict.fromkeys(column.block for column in section.columns):
        yield name, [column for column in section.columns if column.block == name]


def shows_ranks(section: Section) -> bool:
    """Whether the lines differ in what the column of ranks says."""
    return any(line.rank is not None or standing(line) for line in section.lines if not line.published)


def label(line: Line) -> str:
    """The model's name, marked where its figures were not rerun."""
    return f"{line.model} †" if line.published else line.model


def standing(line: Line) -> str:
    """What the column of ranks says: a rank, a range of ranks, or why there is none."""
    if line.rank is not None:
        best, worst, tied = line.rank
        return (f"{best}" if best == worst else f"{best}–{worst}") + (f" {TIED}" if tied else "")
    if line.published:
        return "published"
    return line.role if line.role != "model" else "incomplete" if line.misses else ""


def figure(one: Figure | None, column: Column, intervals: Intervals) -> str:
    """A figure as text; a dash where there is none."""
    if one is None:
        return NOTHING
    value = _number(one.value, column)
    if intervals == "none" or one.low is None or one.high is None:
        return value
    if intervals == "plus-minus":
        return f"{value} ± {_number((one.high - one.low) / 2, column).lstrip('+')}"
    return f"{value} [{_number(one.low, column)}, {_number(one.high, column)}]"


def _number(value: float, column: Column) -> str:
    if column.delta and value == 0:
        return "0"
    scaled = value * 100 if column.percent else value
    text = format(scaled, f"{'+' if column.delta else ''}.{column.decimals}f")
    # What only rounds to zero keeps its digits but has no sign.
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def notes(sections: Sequence[Section], intervals: Intervals, *, ties: str = TIED) -> list[str]:
    """What a reader must know, a sentence or two each; ``ties`` says how models that tie for the best are marked."""
    found = [_legend(sections, intervals)]
    for section in sections:
        if section.applicable:
            found += _ranking(section, ties, several=len({one.dataset for one in sections}) > 1)
    for line in (line for section in sections for line in section.lines):
        if line.misses:
            found.append(f"{line.model} is incomplete and has no rank: it misses {', '.join(line.misses)}.")
    if any(line.published for section in sections for line in section.lines):
        found.append(
            f"† as published (McInerney et al., EMNLP 2022), not rerun: {PUBLISHED_DATASET}, "
            f"{PUBLISHED_INSTANCES['all']:,} instances."
        )
    return list(dict.fromkeys(found))


def _legend(sections: Sequence[Section], intervals: Intervals) -> str:
    columns = list(dict.fromkeys(column for section in sections for column in section.columns))
    parts = []
    percent = list(dict.fromkeys(one.label for one in columns if one.percent and not one.delta))
    if percent:
        deltas = ", as are their deltas" if any(one.percent and one.delta for one in columns) else ""
        parts.append(f"{', '.join(percent)} times 100{deltas}.")
    nats = list(dict.fromkeys(one.label for one in columns if one.metric in _IN_NATS))
    if nats:
        parts.append(f"{' and '.join(nats)} in nats.")
    if any(one.delta for one in columns):
        parts.append("Δ = perturbed − unperturbed of the same sentence source.")
    figures = (one for section in sections for line in section.lines for one in line.figures.values())
    if intervals != "none" and any(one is not None and one.low is not None for one in figures):
        parts.append(
            "In brackets, 95 % intervals from resampling patients."
            if intervals == "brackets"
            else "±: half the width of the 95 % interval from resampling patients."
        )
    return " ".join(parts)


_IN_NATS = ("random_attention_kl", "entropy")


def _ranking(section: Section, ties: str, several: bool) -> Iterator[str]:
    ranking = section.ranking
    if ranking is None:
        return
    where = f"on {ranking.subset}" + (f" of {section.dataset}" if several else "")
    names = {(one.metric, one.task): one.label for one in section.columns if not one.delta}
    name = names.get((ranking.metric, ranking.task), ranking.metric)
    bounds = "Floors and ceilings are not ranked." if any(line.role != "model" for line in section.lines) else ""
    if ranking.instances is None:
        text = (
            f"Ranks by {name} {where}, by value: the values of single instances are not at hand, or of too few patients for "
            f"intervals."
        )
    else:
        text = (
            f"Ranks by {name} {where}: the range in 95 % of {RESAMPLES:,} resamples of {ranking.clusters:,} {section.unit} "
            f"(n = {ranking.instances:,} instances of which all ranked models have a value). {ties}: not distinguishable "
            f"from the first, the 95 % interval of the paired difference reaches 0."
        )
    yield f"{text} {bounds}".strip()
    if ranking.agreement:
        taus = ", ".join(f"{other} {tau:.2f}".replace("-", "−") for other, tau in ranking.agreement.items())
        yield f"Kendall's τ between that order of {ranking.models} models and the order on {section.subset} by: {taus}."
