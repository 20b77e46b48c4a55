"""One model's run: chunks of images asked, scored and kept as parts, and the parts merged into results."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from .errors import WronglungError, first_line
from .films import Decoded, Film, Reader
from .frame import Rows, merged, table_of
from .geometry import Geometry
from .instances import Skipped
from .manifest import manifest, version_of
from .outcome import Asked, cells_of_frame, conclude
from .parts import PARTS, MemoryParts, Part, Parts, merge_counts
from .protocol import AdapterError, DatasetAware, DualEncoder
from .results import Results, StoredResults
from .rows import Candidates, ImageAnswers, Row, Scoring, digest
from .run_folder import RunFolder
from .runner import Runner, Stages
from .scoring_pool import Scored, Scorer
from .stored_rows import StoredRows, sort_rows
from .trackers.protocol import RunStart, Tracker
from .trackers.tracking import Tracking, tracking

PART_IMAGES, PART_SECONDS = 64, 20.0
"""A part is closed when it has so many images or took so long: what a kill costs at most."""


@dataclass(frozen=True)
class Job:
    """One model to evaluate: what its manifest records (see :func:`.evaluation.evaluate`), who is told, and its folder, if any."""

    model: Any
    context: Mapping[str, Any] = field(default_factory=dict)
    trackers: Sequence[Tracker] = ()
    claim: RunFolder | None = None


@dataclass(frozen=True)
class RunSettings:
    """What all runs of an evaluation have in common, beside what is asked."""

    batch_size: int
    save_maps: bool
    decode_at_least: int | None
    feature_cache: Path | None


@dataclass
class _Chunk:
    """Some images on their way from the model to a part."""

    images: list[str]
    digests: dict[str, str]
    skipped: list[Skipped]
    rows: list[Callable[[], Scored]]
    answers: list[tuple[str, ImageAnswers]]
    """Of each image, where maps are kept."""
    seconds: dict[str, float]
    counts: Counter[str]


@dataclass(frozen=True)
class _Collected:
    """A chunk with its rows, and the seconds that they took."""

    chunk: _Chunk
    rows: list[Row]
    seconds: float


class OneRun:
    """A run in progress. ``error`` is what stopped it, if something did; ``done`` are the images that were finished before."""

    def __init__(
        self, job: Job, asked: Asked, candidates: Candidates, settings: RunSettings, score: Scorer, ahead: int
    ) -> None:
        """``ahead`` chunks may wait for their scores while the model goes on."""
        self.job, self._asked, self._settings = job, asked, settings
        suite = asked.plan.suite
        self._runner = Runner(
            job.model,
            batch_size=settings.batch_size,
            candidates=candidates,
            local_candidates="selection_accuracy_local_exhaustive" in suite.metrics,
            global_candidates="selection_accuracy_global_exhaustive" in suite.metrics,
        )
        self._scoring, self._score, self._ahead = Scoring.of(suite, job.model.card), score, ahead
        self._place = {image: at for at, image in enumerate(asked.plan.by_image)}
        self._instances = {one.id: one for one in asked.plan.instances}
        # Rows become parts while the model goes on.
        self._collector = ThreadPoolExecutor(1) if ahead else None
        self._collecting: deque[Future[None]] = deque()
        self._told: Tracking | None = None
        self._parts: Parts = MemoryParts()
        self.done: frozenset[str] = frozenset()
        self.error: WronglungError | None = None
        self._new_part()

    @property
    def who(self) -> str:
        return str(self.job.model.card.name)

    @property
    def reader(self) -> Reader:
        return Reader(self.job.model, self._runner.store)

    def begin(self) -> None:
        """Let the model look at the dataset, and open the feature cache and the run's folder, where there are such."""
        with self._failing():
            model, folder = self.job.model, self._settings.feature_cache
            if isinstance(model, DatasetAware):
                self._prepare(model)
            if folder is not None and isinstance(model, DualEncoder):
                from .feature_store import FeatureStore

                computed = {"device": self._device(), "dtype": str(self.job.context.get("dtype", "unknown"))}
                self._runner.store = FeatureStore.open(folder, model.card, self._settings.decode_at_least, computed)
            if self.job.claim is not None:
                self._parts = self.job.claim.begin(self._identity(), len(self._place))

    def _prepare(self, model: DatasetAware) -> None:
        dataset = self._asked.dataset
        try:
            model.prepare(dataset)
        except WronglungError:
            raise
        except (Exception, SystemExit) as error:
            raise AdapterError(
                f"model {self.who!r} failed to prepare for dataset {dataset.name!r}: {type(error).__name__}: {error}"
            ) from error

    def finished_before(self) -> list[str]:
        """The images that parts hold already."""
        return sorted(self._parts.done())

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the trackers of the start, and of what stops the run."""
        settings = {
            "batch_size": self._settings.batch_size,
            **{key: self.job.context.get(key) for key in ("device", "dtype")},
            "decode_at_least": self._settings.decode_at_least,
        }
        with tracking(self.job.trackers, self._start(settings)) as self._told:
            yield

    def take(self, chunk: Sequence[Decoded], reader: int, waited: float) -> None:
        """Ask about those images of a chunk that are not done; ``waited`` is the time that reading them took."""
        chosen = [(plan, film) for plan, film in chunk if plan.image.id not in self.done]
        if self.error is not None or not chosen:
            return
        self._runner.stages.add("decoding", waited)
        with self._failing():
            films = [(plan, film) for plan, film in chosen if isinstance(film, Film)]
            answers = self._runner.ask(films, reader)
            self._collect_soon(
                _Chunk(
                    [plan.image.id for plan, _ in chosen],
                    {film.ref.id: film.digest for _, film in films},
                    [
                        Skipped("image_unreadable", plan.image.id, str(error))
                        for plan, error in chosen
                        if isinstance(error, OSError)
                    ],
                    [self._score(self._scoring, one) for one in answers],
                    [(plan.image.id, one) for (plan, _), one in zip(films, answers, strict=True)]
                    if self._settings.save_maps
                    else [],
                    *self._runner.drain(),
                )
            )

    def flush(self) -> None:
        """Keep what has been answered: to be called when no chunk is left, or when the run is stopped."""
        if self.error is not None:
            return
        with self._failing():
            self._settle()

    def outcome(self) -> Results | StoredResults | WronglungError:
        """The results, in the main process, when all processes are through."""
        if self.error is None:
            with self._failing():
                return self._conclude()
        assert self.error is not None
        return self.error

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let an error stop this run, and no other."""
        try:
            yield
        except WronglungError as error:
            self.fail(error)

    def fail(self, error: WronglungError) -> None:
        """Stop for an error, and keep what has been answered."""
        self.error = error
        wait(self._collecting)
        self._collecting.clear()
        with suppress(WronglungError):
            self._close_part()
        if self._told is not None:
            self._told.run_ended(error)
        if self.job.claim is not None:
            self.job.claim.stopped(error)

    def _settle(self) -> None:
        """Wait for the rows of what has been answered, and close the part with them."""
        while self._collecting:
            # An interrupt leaves it in its place: no part is closed while the thread is at it.
            wait([self._collecting[0]])
            self._collecting.popleft().result()
        self._close_part()

    def _new_part(self) -> None:
        self._collected: list[_Collected] = []
        self._opened = time.perf_counter()

    def _collect_soon(self, chunk: _Chunk) -> None:
        if self._collector is None:
            self._collect(chunk)
            return
        self._collecting.append(self._collector.submit(self._collect, chunk))
        while len(self._collecting) > self._ahead:
            wait([self._collecting[0]])
            self._collecting.popleft().result()

    def _collect(self, chunk: _Chunk) -> None:
        scored = [rows() for rows in chunk.rows]
        rows = [row for of_image, _ in scored for row in of_image]
        # In one step: whatever stops the run, no half of a chunk gets into a part.
        self._collected.append(_Collected(chunk, rows, sum(seconds for _, seconds in scored)))
        images = sum(len(one.chunk.images) for one in self._collected)
        if images >= PART_IMAGES or time.perf_counter() - self._opened > PART_SECONDS:
            self._close_part()

    def _close_part(self) -> None:
        collected = self._collected
        if not collected:
            return
        chunks = [one.chunk for one in collected]
        images = tuple(image for chunk in chunks for image in chunk.images)
        answers = [one for chunk in chunks for one in chunk.answers]
        spent = Stages()
        for one in collected:
            for stage, seconds in {**one.chunk.seconds, "scoring": one.seconds}.items():
                spent.add(stage, seconds)
        spent.add("total", time.perf_counter() - self._opened)
        keep = self._settings.save_maps
        part = Part(
            min(self._place[image] for image in images),
            images,
            table_of(
                [row for one in collected for row in one.rows],
                self._instances, self._asked.plan.suite, self._asked.subsets,
            ),
            {image: digest for chunk in chunks for image, digest in chunk.digests.items()},
            tuple(one for chunk in chunks for one in chunk.skipped),
            spent.seconds,
            sum((chunk.counts for chunk in chunks), Counter()),
            _maps(answers) if keep else {},
            _geometries(answers) if keep else {},
            _pairs(answers) if keep else None,
        )  # fmt: skip
        self._parts.add(part)
        self._new_part()
        if self.job.claim is not None:
            self.job.claim.advance(len(part.images))

    def _conclude(self) -> Results | StoredResults:
        started = time.perf_counter()
        rows, parts = self._merged()
        self._check_whole(parts)
        asked, context = self._asked, self.job.context
        place = self._place
        skipped = sorted((one for part in parts for one in part.skipped), key=lambda one: place[one.where])
        if rows is None:
            raise WronglungError(f"dataset {asked.dataset.name!r}: none of its images can be read; {skipped[0].detail}")
        cells = cells_of_frame(asked, rows)
        if self._told is not None:
            self._told.cells_done(cells)
        seconds, counts = merge_counts(parts)
        summing_up = time.perf_counter() - started
        seconds |= {"summary": summing_up, "total": seconds.get("total", 0.0) + summing_up}
        everything = (*asked.dataset.skipped, *skipped)
        digests = {image: one for part in parts for image, one in part.digests.items()}
        made = manifest(
            seconds, counts, self._runner.batch.size, asked.plan.seed,
            {**context, "decode_at_least": self._settings.decode_at_least},
        )  # fmt: skip
        run = conclude(asked, self.job.model.card.model_dump(mode="json"), rows, everything, digests, made, cells)
        if self._told is not None:
            self._told.run_ended(run)
            run.manifest.warnings = [*self._told.warnings]
        if self._runner.store is not None:
            run.manifest.warnings += self._runner.store.warnings
        geometries = {image: one for part in parts for image, one in part.geometries.items()}
        kept = (_MergedMaps(parts), geometries, _merged_pairs(parts)) if self._settings.save_maps else ()
        if isinstance(rows, StoredRows):
            return StoredResults(run, rows, everything, *kept)
        return Results(run, rows, everything, *kept)

    def _merged(self) -> tuple[Rows | None, list[Part]]:
        """The rows of all parts, sorted, in a file where there is a folder, or None where there is no row; and the parts without
        theirs."""
        parts: list[Part] = []

        def tables() -> Iterator[pa.Table]:
            for part in self._parts.each():
                parts.append(replace(part, rows=part.rows.schema.empty_table()))
                if part.rows.num_rows:
                    yield part.rows

        plan = self._asked.plan
        if self.job.claim is None:
            of_parts = list(tables())
            return merged(of_parts, plan.suite) if of_parts else None, parts
        scratch = self.job.claim.folder / PARTS
        stored = StoredRows(scratch / ".rows.parquet")
        try:
            count = sort_rows(
                tables(), sorted(self._instances), [task.name for task in plan.suite.tasks], scratch, stored.file
            )
        except OSError as error:
            raise WronglungError(f"{scratch}: cannot be written: {error.strerror or first_line(error)}") from error
        return stored if count else None, parts

    def _check_whole(self, parts: Sequence[Part]) -> None:
        held = Counter(image for part in parts for image in part.images)
        twice = [image for image, times in held.items() if times > 1]
        where = "" if self.job.claim is None else f"{self.job.claim.folder}: "
        if twice:
            raise WronglungError(f"{where}image {twice[0]!r} is in two parts of the run; begin anew with --overwrite")
        missing = [image for image in self._place if image not in held]
        if missing:
            raise WronglungError(
                f"{where}{len(missing)} of {len(self._place)} images are in no part, {missing[0]!r} for one; the folder must be "
                "on a file system that all processes share. --resume evaluates what is missing"
            )

    def _identity(self) -> dict[str, Any]:
        """What a run must have in common with its beginning to go on with it."""
        asked, context = self._asked, self.job.context
        return {
            "model": self.job.model.card.model_dump(mode="json"),
            "dataset": asked.dataset.fingerprint,
            "suite": asked.plan.suite.model_dump(mode="json"),
            "seed": asked.plan.seed,
            "limit": asked.plan.limit,
            "device": self._device(),
            "dtype": context.get("dtype", "unknown"),
            "decode_at_least": self._settings.decode_at_least,
            "save_maps": self._settings.save_maps,
            "wronglung": version_of("wronglung"),
            "torch": version_of("torch"),
        }

    def _device(self) -> str:
        """The kind of device: which one of several GPUs computes decides nothing."""
        return str(self.job.context.get("device", "unknown")).partition(":")[0]

    def _start(self, settings: Mapping[str, Any]) -> RunStart:
        asked = self._asked
        return RunStart(
            model=self.job.model.card.model_dump(mode="json"),
            dataset={
                "name": asked.dataset.name,
                "fingerprint": asked.dataset.fingerprint,
                "ids_fingerprint": asked.dataset.ids_fingerprint,
                "n_instances": len(asked.plan.instances),
                "limit": asked.plan.limit,
            },
            suite={"name": asked.plan.suite.name, "version": asked.plan.suite.version},
            settings={"wronglung": version_of("wronglung"), "seed": asked.plan.seed, **settings},
        )


Answered = Sequence[tuple[str, ImageAnswers]]


def _maps(answers: Answered) -> dict[str, npt.NDArray[np.float32]]:
    return {
        f"{image}/{digest(sentence)}": one.saliency
        for image, answer in answers
        for sentence, one in answer.aligned.items()
    }


def _geometries(answers: Answered) -> dict[str, Geometry]:
    return {image: one.geometry for image, answer in answers for one in answer.aligned.values()}


_PAIRS = pa.schema(
    [
        ("image_id", pa.string()),
        ("sentence_sha256", pa.string()),
        ("local_similarity", pa.float64()),
        ("global_similarity", pa.float64()),
        ("no_attention_weight", pa.float64()),
    ]
)


def _pairs(answers: Answered) -> pa.Table:
    rows = [
        (image, digest(sentence), one.local_similarity, one.global_similarity, one.no_attention_weight)
        for image, answer in answers
        for sentence, one in answer.aligned.items()
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(_PAIRS)
    return pa.table(
        [pa.array(list(one), field.type) for one, field in zip(columns, _PAIRS, strict=True)], schema=_PAIRS
    )


def _merged_pairs(parts: Sequence[Part]) -> pa.Table:
    together = pa.concat_tables([part.pairs for part in parts if part.pairs is not None])
    return together.sort_by([("image_id", "ascending"), ("sentence_sha256", "ascending")])


class _MergedMaps(Mapping[str, torch.Tensor]):
    """The maps of all parts, each read when it is asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._maps = {key: part.maps for part in parts for key in part.maps}

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self._maps[key][key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)
