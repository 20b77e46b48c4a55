"""All metrics of a run again from its stored maps, under the same suite or another: without the model, and without an image."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError
from tqdm import tqdm

from ..tasks.schema import SuiteSpec, load_suite
from .errors import WronglungError, explain, first_line
from .evaluation import Settings
from .frame import merged, table_of
from .instances import Dataset, Skipped
from .manifest import manifest
from .outcome import Asked, cells_of_frame, conclude
from .plan import ImagePlan, Plan, by_sentence
from .protocol import ModelCard
from .results import INSTANCES, PAIRS, SKIPPED, Results, RunResults, load_run
from .rows import ImageAnswers, Row, Scoring, digest
from .runner import Stages
from .scoring import Wanted
from .scoring_pool import Scored, default_scoring_workers, scorer
from .stored_maps import StoredMaps

EXHAUSTIVE = ("selection_accuracy_local_exhaustive", "selection_accuracy_global_exhaustive")
"""What takes the similarity with every sentence of the dataset, which no run keeps."""

AHEAD = 64
"""Images that may wait for their scores."""
ROWS = 20_000
"""Rows that are held as objects before they become a table, which is smaller."""


def rescore(
    run: Path,
    dataset: Dataset,
    suite: SuiteSpec | str | None = None,
    *,
    seed: int | None = None,
    limit: int | None = None,
    save_maps: bool = False,
    scoring_workers: int | None = 0,
    progress: bool = False,
    context: Mapping[str, Any] | None = None,
) -> Results:
    """Score the maps that a run kept.

    ``run`` is its folder and ``dataset`` what it was made on. ``suite``, ``seed`` and ``limit`` are the run's own where they are not
    given; then the scores are the run's, to the last bit. ``scoring_workers`` other processes score (None: as many as seem worth
    it). Exhaustive selection accuracies are carried over from the run, and similarities are undefined for a run of a version that
    did not keep them; what is lost so is a warning in the manifest. ``context`` may hold the ``command`` and ``seconds`` for the manifest.

    Raises :class:`WronglungError` for a run without maps, another dataset, a damaged file, and a suite that asks for a map that is
    not there.
    """
    stages = Stages()
    with stages.time("total"):
        stored = _Stored.open(run, dataset)
        of_run = stored.run
        chosen = load_suite(suite) if isinstance(suite, str) else suite or stored.suite()
        seed = of_run.manifest.seed if seed is None else seed
        limit = of_run.dataset.limit if limit is None else limit
        Settings(seed=seed, limit=limit, scoring_workers=scoring_workers).check()
        plan = Plan(chosen, dataset, seed, limit)
        asked = Asked.of(plan, dataset)
        if scoring_workers is None:
            scoring_workers = default_scoring_workers(
                len(plan.instances) * len(chosen.tasks), bool(Wanted.by(chosen).own)
            )
        names: list[str] = []
        tables = list(_tables(stored, asked, names, scoring_workers, progress, stages))
        if not tables:
            raise WronglungError(f"{run}: none of the images that are asked for could be read when the run was made")
        with stages.time("summary"):
            frame = merged(tables, chosen)
            cells = cells_of_frame(asked, frame)
    made = manifest(
        stages.seconds, {}, of_run.manifest.batch_size, plan.seed,
        {
            **{name: getattr(of_run.manifest, name) for name in ("device", "dtype", "decode_at_least")},
            **(context or {}),
        },
    )  # fmt: skip
    made.warnings = stored.warnings(chosen)
    skipped = (*dataset.skipped, *(stored.unreadable[image] for image in plan.by_image if image in stored.unreadable))
    result = conclude(asked, of_run.model, frame, skipped, {}, made, cells)
    result.dataset.images_fingerprint = (
        of_run.dataset.images_fingerprint if set(frame["image_id"]) == stored.images else None
    )
    if not save_maps:
        return Results(result, frame, skipped)
    return Results(result, frame, skipped, *stored.maps.only(names))


@dataclass(frozen=True)
class _Stored:
    """A run on disk: its summary, its maps, and what cannot be made again from these.

    ``images`` are those that it has rows of, ``unreadable`` those that it could not read. ``exhaustive`` are its exhaustive selection
    accuracies, by instance id and metric, ``measured`` the columns of its table.
    """

    folder: Path
    run: RunResults
    maps: StoredMaps
    measured: frozenset[str]
    images: frozenset[str]
    unreadable: Mapping[str, Skipped]
    exhaustive: Mapping[str, Mapping[str, float]]

    @classmethod
    def open(cls, path: Path, dataset: Dataset) -> _Stored:
        run = load_run(path)
        folder = path if path.is_dir() else path.parent
        if dataset.fingerprint != run.dataset.fingerprint:
            raise WronglungError(
                f"{folder}: was made on {run.dataset.name!r} with fingerprint {run.dataset.fingerprint}, not on "
                f"{dataset.name!r} with {dataset.fingerprint}; give the dataset, split and arguments that it was made on"
            )
        maps = StoredMaps.open(folder, _card(run.model, folder))
        table = _read_table(folder / INSTANCES)
        if maps.pairs is None and "no_attention_weight" in table and table["no_attention_weight"].notna().any():
            raise WronglungError(
                f"{folder}: has no {PAIRS}, and its model puts weight on no region, without which entropy cannot be computed; "
                "make the run again with --save-maps"
            )
        return cls(
            folder,
            run,
            maps,
            frozenset(table.columns),
            frozenset(table["image_id"]),
            _unreadable(folder / SKIPPED),
            _exhaustive(table),
        )

    def suite(self) -> SuiteSpec:
        """The run's own."""
        return SuiteSpec.model_validate(self.run.suite, context={"recorded": True})

    def answers(self, plan: ImagePlan) -> ImageAnswers:
        """As the model gave them when the run was made."""
        ids = {one.instance.id for one in plan.questions}
        return ImageAnswers(
            plan.questions,
            self.maps.aligned(plan.image, by_sentence(plan.questions)),
            {one: self.exhaustive[one] for one in ids if one in self.exhaustive},
        )

    def warnings(self, suite: SuiteSpec) -> list[str]:
        """What a run under this suite would say and its maps do not."""
        lost = []
        if self.maps.pairs is None:
            lost.append(
                f"{self.folder} is of a version that kept no {PAIRS}: similarities, and what follows from them, are undefined"
            )
        wanted = {*suite.metrics, *suite.correlations}
        lost += [
            f"{metric} is undefined: the suite of {self.folder} did not ask for it"
            for metric in EXHAUSTIVE
            if metric in wanted and metric not in self.measured
        ]
        return lost


def _tables(
    stored: _Stored, asked: Asked, names: list[str], workers: int, progress: bool, stages: Stages
) -> Iterator[pa.Table]:
    """The rows of all images, some thousand at a time. The names of the maps that are asked for are added to ``names``."""
    plan = asked.plan
    scoring = Scoring.of(plan.suite, stored.maps.card)
    instances = {one.id: one for one in plan.instances}
    chosen = [image for image in plan.by_image if image not in stored.unreadable]
    waiting: deque[Callable[[], Scored]] = deque()
    rows: list[Row] = []
    missing, first = 0, ""

    def collect() -> None:
        scored, seconds = waiting.popleft()()
        rows.extend(scored)
        stages.add("scoring", seconds)

    with scorer(workers) as score:
        for one in tqdm(
            plan.images(chosen), total=len(chosen), unit="image", disable=not progress, leave=False
        ):  # fmt: skip
            sentences = by_sentence(one.questions)
            lacking = stored.maps.missing(one.image.id, sentences)
            missing += len(lacking)
            if missing:
                # Nothing is scored any more: what follows is only counted.
                first = first or f"image {one.image.id!r} with {lacking[0]!r}"
                continue
            names += [f"{one.image.id}/{digest(sentence)}" for sentence in sentences]
            with stages.time("reading maps"):
                answers = stored.answers(one)
            waiting.append(score(scoring, answers))
            while len(waiting) > (AHEAD if workers else 0):
                collect()
            if len(rows) >= ROWS:
                yield table_of(rows, instances, plan.suite, asked.subsets)
                rows.clear()
        if missing:
            raise WronglungError(
                f"{stored.folder}: {missing} of the pairs that suite {plan.suite.name!r} asks for have no map, the first is {first}; "
                f"make the run again under this suite, or ask for what it was made with (seed {stored.run.manifest.seed})"
            )
        while waiting:
            collect()
    if rows:
        yield table_of(rows, instances, plan.suite, asked.subsets)


def _card(model: Mapping[str, Any], folder: Path) -> ModelCard:
    try:
        # That of a newer version may say more.
        return ModelCard.model_validate({key: model[key] for key in ModelCard.model_fields if key in model})
    except ValidationError as error:
        raise WronglungError(f"{folder}: its model's card cannot be read: {explain(error)}") from error


def _unreadable(file: Path) -> dict[str, Skipped]:
    """The images that a run could not read."""
    try:
        entries = [Skipped(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        return {one.where: one for one in entries if one.reason == "image_unreadable"}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise WronglungError(
            f"{file}: cannot be read as the list of what a run left out ({first_line(error)})"
        ) from error


def _read_table(file: Path) -> pd.DataFrame:
    """Of a run's ``instances.parquet`` what no map can tell."""
    try:
        known = parquet.read_schema(file).names
        columns = [name for name in (*_TEXT, "no_attention_weight", *EXHAUSTIVE) if name in known]
        table: pd.DataFrame = parquet.read_table(file, columns=columns, partitioning=None).to_pandas(
            ignore_metadata=True
        )
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise WronglungError(f"{file}: cannot be read as parquet ({first_line(error)})") from error
    for name in _TEXT:
        if name not in table or not pd.api.types.is_string_dtype(table[name]):
            raise WronglungError(f"{file}: has no column {name!r} of text; it is not of a run of wronglung")
    for name in table.columns.difference(list(_TEXT)):
        if not pd.api.types.is_float_dtype(table[name]):
            raise WronglungError(f"{file}: column {name!r} must hold numbers")
    return table


_TEXT = ("instance_id", "image_id")


def _exhaustive(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Exhaustive selection accuracies by instance; they depend on the model and the dataset alone."""
    found: dict[str, dict[str, float]] = {}
    for metric in table.columns.intersection(list(EXHAUSTIVE)):
        for instance, value in table[["instance_id", metric]].dropna().itertuples(index=False):
            found.setdefault(instance, {})[metric] = value
    return found
