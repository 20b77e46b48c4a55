"""Evaluate models on a dataset under a suite: the functions behind the command line and the Python API."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..tasks.schema import SuiteSpec, load_suite
from .errors import WronglungError
from .films import read_ahead
from .instances import Dataset, ImageRef
from .models import load_model
from .one_run import Job, OneRun, RunSettings
from .outcome import Asked
from .plan import Plan
from .processes import ALONE, Processes
from .protocol import check_model
from .results import Results, StoredResults
from .rows import Candidates
from .scoring import Wanted
from .scoring_pool import default_scoring_workers, scorer
from .trackers.loading import check_tracker
from .trackers.protocol import Tracker

__all__ = ["Job", "Settings", "evaluate", "evaluate_all", "load_model", "load_suite"]

DEFAULT_BATCH = 16
CHUNK = 16
"""Images in work at a time; as many as fit a batch, if that is larger."""
AHEAD = 2
"""Chunks that may wait for their scores while the model goes on."""


def evaluate(
    model: Any,
    dataset: Dataset,
    suite: SuiteSpec | str = "wrong-lung",
    *,
    seed: int = 0,
    limit: int | None = None,
    batch_size: int | None = None,
    save_maps: bool = False,
    progress: bool = False,
    workers: int | None = None,
    scoring_workers: int = 0,
    decode_at_least: int | None = None,
    feature_cache: Path | None = None,
    trackers: Sequence[Tracker] = (),
    context: Mapping[str, Any] | None = None,
) -> Results:
    """Run a suite.

    ``limit`` evaluates the first instances only, with the values of the full run. ``batch_size`` (default 16) is halved
    when memory runs out. ``workers`` threads (by default one a processor, at most 8) decode images ahead of the model.
    ``scoring_workers`` other processes score the maps while the model goes on; a script that asks for some must start its work
    under ``if __name__ == "__main__":``.
    ``decode_at_least`` lets JPEG files be decoded at 1/2, 1/4 or 1/8 of their size as long as the short side keeps that many
    pixels: faster on large films, and slightly other grey levels. ``feature_cache`` is a folder in which a dual encoder's features
    are kept for other runs. ``trackers`` are told what happens; what fails in one is a
    warning, also in the manifest, and changes nothing else. ``context`` (``device``, ``dtype``, ``command``, ``seconds``) is recorded in the manifest. The
    scores depend on the model, the dataset's instances, the suite and the seed, never on the order of the instances
    nor, beyond the model's own rounding, on the batch size.

    Raises :class:`WronglungError` for an empty dataset, duplicated instance ids, a model that breaks the protocol, and
    when no image can be read.
    """
    settings = Settings(
        seed, limit, batch_size, save_maps, progress, workers, scoring_workers, decode_at_least, feature_cache
    )
    job = Job(model, context or {}, trackers)
    (outcome,) = evaluate_all([job], dataset, suite, settings)
    if isinstance(outcome, WronglungError):
        raise outcome
    assert isinstance(outcome, Results), "one process is the main one, and keeps its rows in memory"
    return outcome


@dataclass(frozen=True)
class Settings:
    """How runs are done: the arguments of :func:`evaluate`."""

    seed: int = 0
    limit: int | None = None
    batch_size: int | None = None
    save_maps: bool = False
    progress: bool = False
    workers: int | None = None
    scoring_workers: int | None = 0
    """None: as many as seem worth it."""
    decode_at_least: int | None = None
    feature_cache: Path | None = None

    def check(self) -> None:
        """Raises :class:`WronglungError` for a number that is too small."""
        for what, value, least in (
            ("limit", self.limit, 1),
            ("batch_size", self.batch_size, 1),
            ("seed", self.seed, 0),
            ("workers", self.workers, 1),
            ("scoring_workers", self.scoring_workers, 0),
            ("decode_at_least", self.decode_at_least, 16),
        ):
            if value is not None and value < least:
                raise WronglungError(f"{what} must be at least {least}, not {value}")


def evaluate_all(
    jobs: Sequence[Job],
    dataset: Dataset,
    suite: SuiteSpec | str,
    settings: Settings,
    ours: Processes = ALONE,
) -> list[Results | StoredResults | WronglungError | None]:
    """Run a suite on several models at once: images are decoded, and questions made, once for all.

    Each model's outcome: its results (None in all but the main process), or the error that stopped it; the other models go on.
    What stops all of them is raised, as by :func:`evaluate`. With several processes (``ours``) each takes its share of the images,
    the jobs have folders, and the main process merges what all have written.
    """
    settings.check()
    for job in jobs:
        check_model(job.model)
        for tracker in job.trackers:
            check_tracker(tracker)
    if isinstance(suite, str):
        suite = load_suite(suite)
    _check_dataset(dataset)
    plan = Plan(suite, dataset, settings.seed, settings.limit)
    asked = Asked.of(plan, dataset)
    candidates = Candidates(plan.pool)
    run_settings = RunSettings(
        settings.batch_size or DEFAULT_BATCH, settings.save_maps, settings.decode_at_least, settings.feature_cache
    )
    workers = settings.scoring_workers
    if workers is None:
        workers = default_scoring_workers(len(plan.instances) * len(suite.tasks), bool(Wanted.by(suite).own))
    with scorer(workers) as score:
        runs = [OneRun(job, asked, candidates, run_settings, score, AHEAD if workers else 0) for job in jobs]
        if ours.is_main:
            for run in runs:
                run.begin()
        ours.wait()
        if not ours.is_main:
            for run in runs:
                run.begin()
        _share_errors(runs, ours)
        finished = ours.from_main([run.finished_before() for run in runs] if ours.is_main else [])
        for run, done in zip(runs, finished, strict=True):
            run.done = frozenset(done)
        with ExitStack() as stack:
            for run in runs:
                stack.enter_context(run.told())
            try:
                _ask(runs, plan, settings, ours)
            finally:
                # Also when the run is stopped: what has been answered is kept.
                for run in runs:
                    run.flush()
            _share_errors(runs, ours)
            return [run.outcome() if ours.is_main else run.error for run in runs]


def _share_errors(runs: Sequence[OneRun], ours: Processes) -> None:
    """Wait for all processes, and stop a run in all of them that one of them could not go on with."""
    for run, errors in zip(runs, zip(*ours.gathered([run.error for run in runs]), strict=True), strict=True):
        error = next((one for one in errors if one is not None), None)
        if run.error is None and error is not None:
            run.fail(error)


def _ask(runs: Sequence[OneRun], plan: Plan, settings: Settings, ours: Processes) -> None:
    """Put this process's share of the images, in chunks, to all runs that have not done them."""
    todo = [image for image in plan.by_image if any(image not in run.done for run in runs)]
    count = max(CHUNK, settings.batch_size or DEFAULT_BATCH)
    chunks = ours.share([todo[at : at + count] for at in range(0, len(todo), count)])
    mine = [image for chunk in chunks for image in chunk]
    reading = read_ahead(
        plan.images(mine), [run.reader for run in runs], count, settings.workers or default_workers(),
        settings.decode_at_least,
    )  # fmt: skip
    with (
        tqdm(total=len(mine), unit="image", disable=not settings.progress or not ours.is_main, leave=False) as bar,
        closing(reading),
    ):
        while True:
            start = time.perf_counter()
            chunk = next(reading, None)
            waited = time.perf_counter() - start
            if chunk is None or all(run.error is not None for run in runs):
                return
            for at, run in enumerate(runs):
                run.take(chunk, at, waited)
            bar.update(len(chunk))


def default_workers() -> int:
    """One thread a processor, at most 8: beyond that, decoding waits for memory."""
    return min(8, os.cpu_count() or 1)


def _check_dataset(dataset: Dataset) -> None:
    if not dataset.instances:
        raise WronglungError(f"dataset {dataset.name!r}: holds no instance")
    twice = [one for one, count in Counter(instance.id for instance in dataset.instances).items() if count > 1]
    if twice:
        raise WronglungError(
            f"dataset {dataset.name!r}: instance id {twice[0]!r} occurs more than once; make ids unique"
        )
    images: dict[str, ImageRef] = {}
    for instance in dataset.instances:
        if images.setdefault(instance.image_id, instance.image) != instance.image:
            raise WronglungError(
                f"dataset {dataset.name!r}: two images have the id {instance.image_id!r}; make ids unique"
            )
