"""A leaderboard as metadata for the Hugging Face Hub: files to put into a model's repository. Nothing is sent anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..benchmark.errors import WronglungError
from ..benchmark.results import write_text
from .columns import Column
from .sections import Figure, Line, Section
from .wording import title

EVAL_RESULTS = ".eval_results"
MODEL_INDEX = "model-index.yaml"


@dataclass(frozen=True)
class Source:
    """What the runs do not know.

    ``dataset`` is the dataset's id on the Hub (``owner/name``) and ``revision`` its commit; ``date`` is when the models were
    evaluated, in ISO 8601; ``url`` and ``name`` are where the figures can be looked up.
    """

    dataset: str
    revision: str | None = None
    date: str | None = None
    url: str | None = None
    name: str | None = None


def write_metadata(sections: Sequence[Section], source: Source, out: Path) -> list[Path]:
    """Write two files for each model of the runs into a folder of its own under ``out``, and return all paths.

    ``.eval_results/<suite>.yaml`` lists the figures as the Hub reads them; ``model-index.yaml`` is the older front matter of
    a model card, for benchmarks that the Hub does not know. Floors, ceilings and published figures are left out.

    Raises :class:`WronglungError` for sections on several datasets or suites, without a model, and for files that cannot be
    written.
    """
    kinds = sorted({(section.dataset, section.suite) for section in sections})
    if len(kinds) > 1:
        shown = ", ".join(f"{suite} on {dataset}" for dataset, suite in kinds)
        raise WronglungError(f"the Hub's files are about one dataset and one suite; give runs of one: {shown}")
    models = list(
        dict.fromkeys(
            line.model for section in sections for line in section.lines if line.role == "model" and not line.published
        )
    )
    if not models:
        raise WronglungError("no run of a model, only floors, ceilings or published figures: nothing for the Hub")
    written = []
    for model, folder in zip(models, _folders(models), strict=True):
        cells = list(_cells(sections, model))
        suite = re.sub(r"[^A-Za-z0-9-]+", "-", cells[0][0].suite.split(" ")[0]) if cells else "wrong-lung"
        entries = [_entry(*cell, source) for cell in cells]
        index = {"model-index": _model_index(model, cells, source)}
        for file, content in (
            (out / folder / EVAL_RESULTS / f"{suite}.yaml", entries),
            (out / folder / MODEL_INDEX, index),
        ):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WronglungError(f"{file.parent}: cannot be created: {error.strerror}") from error
            write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))
            written.append(file)
    return written


Cell = tuple[Section, Column, Figure]


def _cells(sections: Sequence[Section], model: str) -> Iterator[Cell]:
    for section in sections:
        line: Line | None = next((one for one in section.lines if one.model == model and not one.published), None)
        for column in section.columns:
            figure = None if line is None else line.figures[column.key]
            if figure is not None:
                yield section, column, figure


def _entry(section: Section, column: Column, figure: Figure, source: Source) -> dict[str, Any]:
    """An entry of the Hub's format of evaluation results; its ``task_id`` is ``subset.task.metric``."""
    dataset = {"id": source.dataset, "task_id": f"{section.subset}.{column.key}"}
    entry: dict[str, Any] = {"dataset": dataset, "value": figure.value}
    if source.revision is not None:
        dataset["revision"] = source.revision
    if source.date is not None:
        entry["date"] = source.date
    if source.url is not None:
        entry["source"] = {"url": source.url} | ({} if source.name is None else {"name": source.name})
    interval = (
        "" if figure.low is None else f"; 95 % interval {figure.low:.6g} to {figure.high:.6g} from resampling patients"
    )
    entry["notes"] = f"wronglung: {title(section)}{interval}"
    return entry


def _model_index(model: str, cells: Sequence[Cell], source: Source) -> list[dict[str, Any]]:
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    results = [
        EvalResult(
            task_type="image-text-localization",
            task_name=f"{column.task} on {section.subset}",
            dataset_type=source.dataset,
            dataset_name=section.dataset,
            dataset_config=f"{section.subset}.{column.task}",
            dataset_revision=source.revision,
            metric_type=f"delta_{column.metric}" if column.delta else column.metric,
            metric_name=f"{'Δ' if column.delta else ''}{column.metric}",
            metric_value=figure.value,
            source_name=None if source.url is None else source.name,
            source_url=source.url,
        )
        for section, column, figure in cells
    ]
    return eval_results_to_model_index(model, results)


def _folders(models: Sequence[str]) -> list[str]:
    """A folder's name for each model, without anything that a file system minds; no two are the same."""
    names: list[str] = []
    for model in models:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", model).strip("._")[:100] or "model"
        taken = {one.casefold() for one in names}
        numbers = (f"{name}-{number}" for number in range(2, len(models) + 2))
        names.append(
            name if name.casefold() not in taken else next(one for one in numbers if one.casefold() not in taken)
        )
    return names
