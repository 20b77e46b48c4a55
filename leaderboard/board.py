"""Runs side by side: which figures stand in a table, and in which order."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ..benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from ..benchmark.errors import WronglungError
from ..benchmark.metrics.catalogue import METRICS
from ..benchmark.results import RESULTS, RunResults
from .comparability import identity, task_definitions

PUBLISHED_DATASET = "Chest ImaGenome gold"
PUBLISHED_NAMES = {
    "gloria": "GLoRIA",
    "retrained": "GLoRIA retrained",
    "retrained-abnormal": "GLoRIA retrained, abnormal",
    "retrained-masking": "GLoRIA retrained, masking",
    "retrained-randsent": "GLoRIA retrained, random sentences",
}


class Figure(NamedTuple):
    """A figure with its 95 % interval, in the units of the result files (fractions, nats)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """A column: a metric's value under a task, or its delta against the task's unperturbed sentences."""

    metric: str
    task: str
    delta: bool
    percent: bool
    """Shown times 100, as the field does."""

    @property
    def key(self) -> str:
        """The column's name in machine-readable tables."""
        return f"{self.task}.delta_{self.metric}" if self.delta else f"{self.task}.{self.metric}"


@dataclass(frozen=True)
class Line:
    """A model's figures, by :attr:`Column.key`; ``published`` figures were taken from the paper, not rerun."""

    model: str
    published: bool
    figures: Mapping[str, Figure | None]


@dataclass(frozen=True)
class Section:
    """The models that can be compared: one dataset, one suite version, one subset."""

    dataset: str
    suite: str
    subset: str
    n_instances: int | None
    n_patients: int | None
    unit: str
    """What ``n_patients`` counts."""
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    applicable: bool = True
    """Whether the dataset can say which instances belong to the subset."""


BASE_METRICS = ("auroc", "average_precision")
DELTA_METRICS = ("auroc", "average_precision")
DIAGNOSTICS = (
    ("random_attention_kl", "random_sentences"),
    ("entropy", "original"),
    ("selection_accuracy_local", "random_sentences"),
    ("selection_accuracy_global", "random_sentences"),
)
IN_NATS = ("entropy", "random_attention_kl")


def board(
    runs: Sequence[RunResults], *, published: bool = False, subsets: Sequence[str] | None = None
) -> list[Section]:
    """Sections of comparable runs, by subset.

    Runs on other data, of another suite version, with another seed or cut by a limit get sections of their own. Lines
    are in order of AUROC on ``one_lung``, where it matters most which lung the map is on (on ``all`` if the suite has no
    such subset); ``published`` adds the paper's lines below. Raises :class:`WronglungError` for a subset that no run has.
    """
    groups: dict[tuple[str, ...], list[RunResults]] = {}
    for run in runs:
        groups.setdefault(_comparable(run), []).append(run)
    sections = [section for group in groups.values() for section in _sections(group, published)]
    if published and not runs:
        sections = _published_sections()
    if subsets:
        unknown = sorted({*subsets} - {section.subset for section in sections})
        if unknown:
            raise WronglungError(f"no run has a subset {unknown[0]!r}")
        sections = [section for section in sections if section.subset in subsets]
    return sections


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders among the given ones and directly or deeper inside them, in sorted order.

    Raises :class:`WronglungError` for a path without a run.
    """
    found: list[Path] = []
    for folder in folders:
        if folder.is_file() or (folder / RESULTS).is_file():
            inside = [folder]
        elif folder.is_dir():
            inside = sorted(path.parent for path in folder.rglob(RESULTS))
        else:
            raise WronglungError(f"{folder}: does not exist")
        if not inside:
            raise WronglungError(f"{folder}: no run here ({RESULTS} is missing)")
        found.extend(path for path in inside if path not in found)
    return found


def _comparable(run: RunResults) -> tuple[str, ...]:
    """What must be equal for runs of one section."""
    return (*identity(run).values(), *task_definitions(run).values())


def _sections(runs: Sequence[RunResults], published: bool) -> list[Section]:
    first = runs[0]
    perturbed = dict.fromkeys(one.task for run in runs for one in run.scores if one.perturbation is not None)
    columns = _columns(perturbed, _own_metrics(runs))
    subsets = list(dict.fromkeys(one.subset for one in first.scores))
    by_subset = {subset: [_line(run, subset, columns, label) for run, label in _labelled(runs)] for subset in subsets}
    ranking = next(
        (by_subset[name] for name in ("one_lung", "all") if any(_rank(line) > -1 for line in by_subset.get(name, ()))),
        by_subset[subsets[0]],
    )
    order = sorted(range(len(runs)), key=lambda at: _rank(ranking[at]), reverse=True)
    partial = f" (first {first.dataset.n_instances} instances only)" if first.dataset.limit is not None else ""
    sections = []
    for subset in subsets:
        cell = next(one for one in first.scores if one.subset == subset)
        lines = [by_subset[subset][at] for at in order]
        if published:
            lines += _published_lines(subset, columns)
        sections.append(
            Section(
                first.dataset.name + partial,
                f"{first.suite['name']} {first.suite['version']}",
                subset,
                cell.n_instances,
                cell.n_patients,
                first.dataset.unit,
                columns,
                tuple(lines),
                any(run.dataset.subsets.get(subset) is not None for run in runs),
            )
        )
    return sections


def _own_metrics(runs: Sequence[RunResults]) -> list[str]:
    """The metrics of the runs' suites that are not of this package, in their order."""
    return list(dict.fromkeys(name for run in runs for name in run.suite["metrics"] if name not in METRICS))


def _columns(perturbed: Iterable[str], own: Sequence[str] = ()) -> tuple[Column, ...]:
    """``own`` metrics are shown as they are, in units that only their package knows."""
    base = [Column(metric, "original", False, True) for metric in BASE_METRICS]
    base += [Column(metric, "original", False, False) for metric in own]
    deltas = [
        Column(metric, task, True, metric in DELTA_METRICS) for task in perturbed for metric in (*DELTA_METRICS, *own)
    ]
    rest = [Column(metric, task, False, metric not in IN_NATS) for metric, task in DIAGNOSTICS]
    return (*base, *deltas, *rest)


def _line(run: RunResults, subset: str, columns: Sequence[Column], label: str) -> Line:
    cells = {(one.task, one.metric): one for one in run.scores if one.subset == subset}
    figures: dict[str, Figure | None] = {}
    for column in columns:
        cell = cells.get((column.task, column.metric))
        value = None if cell is None else cell.delta if column.delta else cell.value
        if cell is None or value is None:
            figures[column.key] = None
        elif column.delta:
            figures[column.key] = Figure(value, cell.delta_ci_low, cell.delta_ci_high)
        else:
            figures[column.key] = Figure(value, cell.ci_low, cell.ci_high)
    return Line(label, False, figures)


def _labelled(runs: Sequence[RunResults]) -> list[tuple[RunResults, str]]:
    """Runs with the model's name; where names are the same, with what differs of settings, checkpoint and preprocessing."""
    names = [str(run.model["name"]) for run in runs]
    labels = []
    for run, name in zip(runs, names, strict=True):
        others = [_identity(other) for other, its in zip(runs, names, strict=True) if its == name]
        parts = [text for key, text in _identity(run).items() if len({other.get(key) for other in others}) > 1]
        labels.append(f"{name} ({', '.join(parts)})" if parts else name)
    numbered = [
        f"{label} #{labels[: at + 1].count(label)}" if labels.count(label) > 1 else label
        for at, label in enumerate(labels)
    ]
    return list(zip(runs, numbered, strict=True))


def _identity(run: RunResults) -> dict[str, str]:
    """What tells two models of one name apart, as text by key."""
    card = run.model
    parts = {key: f"{key}={value}" for key, value in card.get("settings", {}).items()}
    if card.get("checkpoint"):
        parts["checkpoint"] = str(card["checkpoint"])[:8]
    return {**parts, "preprocessing": str(card.get("preprocessing", ""))}


def _rank(line: Line) -> float:
    figure = line.figures[f"original.{BASE_METRICS[0]}"]
    return -1.0 if figure is None else figure.value


_PUBLISHED_METRICS = {
    "attention_entropy_nats": ("entropy", 1.0),
    "random_attention_kl_x100": ("random_attention_kl", 0.01),
}


def published_figures() -> dict[tuple[str, str, str, str, bool], float]:
    """The paper's figures by (model, task, subset, metric, is a delta), in the units of the result files."""
    figures = {}
    text = (files(__package__) / "published" / "wrong_lung_2022.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        base = "original" if row["sentences"] == "original" else "synthetic"
        task = base if row["perturbation"] == "none" else row["perturbation"]
        delta = row["metric"].startswith("delta_")
        name = row["metric"].removeprefix("delta_")
        if name.startswith("pearson("):
            continue
        metric, unit = _PUBLISHED_METRICS.get(name, (name, 0.01))
        figures[row["model"], task, row["subset"], metric, delta] = float(row["value"]) * unit
    return figures


def _published_lines(subset: str, columns: Sequence[Column]) -> list[Line]:
    figures = published_figures()
    lines = []
    for model, label in PUBLISHED_NAMES.items():
        row = {
            column.key: None if value is None else Figure(value)
            for column in columns
            for value in [figures.get((model, column.task, subset, column.metric, column.delta))]
        }
        if any(row.values()):
            lines.append(Line(label, True, row))
    return lines


def _published_sections() -> list[Section]:
    tasks = ("swap_left_right", "shuffle_boxes", "random_sentences", "random_boxes", "swap_conditions")
    columns = _columns(tasks)
    return [
        Section(
            PUBLISHED_DATASET,
            "wrong-lung",
            subset,
            n,
            None,
            "patients",
            columns,
            tuple(_published_lines(subset, columns)),
        )
        for subset, n in PUBLISHED_INSTANCES.items()
    ]
