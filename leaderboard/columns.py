"""Which columns a leaderboard has, and in which order: a small YAML file, and what becomes of it for given runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..benchmark.errors import WronglungError, explain
from ..benchmark.metrics.catalogue import METRICS, ONLY_FOR
from ..benchmark.results import RunResults
from ..benchmark.safe_yaml import read_yaml

Intervals = Literal["brackets", "plus-minus", "none"]
EVERY_PERTURBATION = "*"

_Name = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True)
class Column:
    """A column: a metric's value under a task, or its delta against the task's unperturbed sentences.

    ``percent`` figures are shown times 100, as the field does. ``block`` is the table that the column belongs to, with its
    title in the corner. ``higher_is_better`` is None for deltas, and for metrics that nothing is ranked by.
    """

    metric: str
    task: str
    delta: bool
    percent: bool
    label: str
    decimals: int
    block: str
    higher_is_better: bool | None = None

    @property
    def key(self) -> str:
        """The column's name in machine-readable tables."""
        return f"{self.task}.delta_{self.metric}" if self.delta else f"{self.task}.{self.metric}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSpec(_Strict):
    """A column of a columns file."""

    metric: _Name
    task: _Name = "original"
    """A task's name, or ``"*"`` for a column per perturbation that the runs have."""
    delta: bool = False
    label: str | None = None
    """By default the metric's name, or the task's for ``"*"``."""
    percent: bool | None = None
    """Times 100; by default as the metric says (:attr:`Metric.percent`)."""
    decimals: Annotated[int, Field(ge=0, le=10)] | None = None
    """By default 1 for percentages, 2 for their deltas, and 3 for the rest."""


class Block(_Strict):
    """Columns that stand in one table."""

    title: _Name
    columns: Annotated[tuple[ColumnSpec, ...], Field(min_length=1)]


class RankingSpec(_Strict):
    """The cell that models are ranked by: the first of ``subsets`` in which one has a value."""

    metric: _Name = "auroc"
    task: _Name = "original"
    subsets: Annotated[tuple[_Name, ...], Field(min_length=1)] = ("one_lung", "all")


class Layout(_Strict):
    """The content of a columns file."""

    ranking: RankingSpec = RankingSpec()
    subsets: tuple[_Name, ...] | None = None
    """The subsets to show, in this order; by default all, in the suite's."""
    other_metrics: bool = False
    """Whether metrics of other packages are shown, too: their values in the first block, and a block of deltas each."""
    intervals: Intervals = "brackets"
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]


def load_layout(file: Path | None = None) -> Layout:
    """A columns file; by default the one that ships. Raises :class:`WronglungError` citing the file and the key."""
    path = files(__package__) / "columns.yaml" if file is None else file
    try:
        return Layout.model_validate(read_yaml(path))
    except ValidationError as error:
        raise WronglungError(f"{path}: {explain(error)}") from error


def check_layout(layout: Layout, runs: Sequence[RunResults], file: Path) -> None:
    """Refuse what can only be a mistake in a columns file: a metric, task or subset that neither a run nor this package has.

    Raises :class:`WronglungError` naming the file and the key.
    """
    from ..tasks.schema import list_definitions

    metrics = {*METRICS, *(one.metric for run in runs for one in run.scores)}
    tasks = {*(one.name for one in list_definitions("task")), *(one.task for run in runs for one in run.scores)}
    subsets = {one.subset for run in runs for one in run.scores}
    named = [("ranking", layout.ranking.metric, layout.ranking.task)]
    for at, block in enumerate(layout.blocks):
        named += [(f"blocks.{at}.columns.{n}", one.metric, one.task) for n, one in enumerate(block.columns)]
    for key, metric, task in named:
        if metric not in metrics:
            raise WronglungError(f"{file}: {key}.metric: unknown metric {metric!r}; `wronglung list metrics` has all")
        if task not in tasks and (task != EVERY_PERTURBATION or key == "ranking"):
            raise WronglungError(f"{file}: {key}.task: unknown task {task!r}; `wronglung list tasks` has all")
    if runs and not subsets & {*layout.ranking.subsets}:
        raise WronglungError(
            f"{file}: ranking.subsets: no run has one of these; there are {', '.join(sorted(subsets))}"
        )
    for subset in layout.subsets or ():
        if runs and subset not in subsets:
            raise WronglungError(
                f"{file}: subsets: no run has a subset {subset!r}; there are {', '.join(sorted(subsets))}"
            )


def columns(layout: Layout, runs: Sequence[RunResults], perturbations: Iterable[str]) -> tuple[Column, ...]:
    """The columns of a layout for runs that can be compared, with one per perturbation where it says ``"*"``."""
    perturbations = list(perturbations)
    directions = {one.metric: one.higher_is_better for run in runs for one in run.scores}
    directions = {name: metric.higher_is_better for name, metric in METRICS.items()} | directions
    found: dict[tuple[str, str, bool], Column] = {}
    for block in _blocks(layout, runs):
        for spec in block.columns:
            for task in perturbations if spec.task == EVERY_PERTURBATION else [spec.task]:
                if spec.delta and spec.metric in ONLY_FOR:
                    continue
                column = _column(spec, task, block.title, directions.get(spec.metric))
                # A cell stands in one column only.
                found.setdefault((column.metric, column.task, column.delta), column)
    return tuple(found.values())


def _blocks(layout: Layout, runs: Sequence[RunResults]) -> Iterator[Block]:
    listed = {one.metric for block in layout.blocks for one in block.columns}
    suites = dict.fromkeys(name for run in runs for name in run.suite["metrics"])
    others = [name for name in suites if name not in METRICS and name not in listed] if layout.other_metrics else []
    first, *rest = layout.blocks
    yield Block(title=first.title, columns=(*first.columns, *(ColumnSpec(metric=name) for name in others)))
    yield from rest
    for name in others:
        yield Block(title=f"Δ{name}", columns=(ColumnSpec(metric=name, task=EVERY_PERTURBATION, delta=True),))


def _column(spec: ColumnSpec, task: str, block: str, higher_is_better: bool | None) -> Column:
    known = METRICS.get(spec.metric)
    percent = spec.percent if spec.percent is not None else known is not None and known.percent
    decimals = (2 if spec.delta else 1) if percent else 3
    return Column(
        spec.metric,
        task,
        spec.delta,
        percent,
        spec.label or (task.replace("_", " ") if spec.task == EVERY_PERTURBATION else spec.metric),
        decimals if spec.decimals is None else spec.decimals,
        block,
        None if spec.delta else higher_is_better,
    )
