"""Evaluate a model on a dataset under a suite: the one function behind the command line and the Python API."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..tasks.schema import SuiteSpec, load_suite
from ..tasks.subsets import is_abnormal
from .arguments import check_arguments, named_parameters
from .errors import WronglungError
from .instances import Dataset, ImageRef, Skipped, cluster_unit, fingerprint_images
from .plan import Plan
from .protocol import DatasetAware, check_model
from .registry import MODELS
from .results import DatasetSummary, Manifest, Results, RunResults
from .rows import Candidates, Row, rows_of
from .runner import Runner, Stages, digest
from .summary import correlations, scores
from .trackers.loading import check_tracker
from .trackers.protocol import RunStart, Tracker
from .trackers.tracking import tracking

__all__ = ["evaluate", "load_model", "load_suite"]

PACKAGES = ("numpy", "pandas", "pillow", "pyarrow", "scikit-learn", "scipy", "torch", "transformers")
DEFAULT_BATCH = 16


def load_model(name: str, /, *, device: str = "auto", dtype: str = "auto", **arguments: Any) -> Any:
    """Make the model ``name`` (a built-in name, a plug-in's, or ``path/to/file.py:Class``).

    "NAME:VALUE" is short for the first argument that it cannot do without (``open-clip:ViT-B-16/openai``). ``arguments`` are those of its factory; strings are converted to the annotated types. ``device`` is "auto" (CUDA,
    else MPS, else CPU) or a torch device, ``dtype`` "auto" (float32), "float32", "bfloat16" or "float16"; both are
    passed to factories that take them. Raises :class:`WronglungError` for an unknown name or argument, a device that
    is not there, and an object that is no alignment model.
    """
    base, short = MODELS.split(name)
    factory = MODELS.get(base)
    if not callable(factory):
        raise WronglungError(f"model {name!r}: {factory!r} is not a class or function that makes a model")
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    parameters = named_parameters(factory, named)
    own = [one for one in parameters if one not in ("device", "dtype")]
    if short is not None:
        if not own:
            raise WronglungError(f"model {base!r}: takes no arguments; leave {':' + short!r} out")
        arguments = {MODELS.first_argument(base, own): short, **arguments}
    values = check_arguments(factory, arguments, own, f"model {name!r}")
    if "device" in parameters:
        values["device"] = resolve_device(device)
    if "dtype" in parameters:
        values["dtype"] = resolve_dtype(dtype)
    try:
        model = factory(**values)
    except WronglungError:
        raise
    except (Exception, SystemExit) as error:
        raise WronglungError(f"model {name!r} cannot be made: {type(error).__name__}: {error}") from error
    check_model(model)
    if preset := MODELS.preset(base, values):
        model.card = model.card.model_copy(update={"settings": {**preset, **model.card.settings}})
    return model


def placement(name: str, device: str, dtype: str) -> dict[str, str]:
    """Where a model computes and in which type, for the manifest; one that takes neither is NumPy on the CPU."""
    parameters = inspect.signature(MODELS.get(MODELS.split(name)[0])).parameters
    return {
        "device": resolve_device(device) if "device" in parameters else "cpu",
        "dtype": str(resolve_dtype(dtype)).removeprefix("torch.") if "dtype" in parameters else "float32",
    }


def resolve_device(device: str) -> str:
    """The device to use; raises :class:`WronglungError` for one that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WronglungError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def resolve_dtype(dtype: str) -> torch.dtype:
    """The floating-point type of the encoders."""
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype != "auto" and dtype not in types:
        raise WronglungError(f"unknown dtype {dtype!r}; known: auto, {', '.join(types)}")
    return types["float32" if dtype == "auto" else dtype]


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
    decode_at_least: int | None = None,
    trackers: Sequence[Tracker] = (),
    context: Mapping[str, Any] | None = None,
) -> Results:
    """Run a suite.

    ``limit`` evaluates the first instances only, with the values of the full run. ``batch_size`` (default 16) is halved
    when memory runs out. ``workers`` threads (by default one a processor, at most 8) decode images ahead of the model.
    ``decode_at_least`` lets JPEG files be decoded at 1/2, 1/4 or 1/8 of their size as long as the short side keeps that many
    pixels: faster on large films, and slightly other grey levels. ``trackers`` are told what happens; what fails in one is a
    warning, also in the manifest, and changes nothing else. ``context`` (``device``, ``dtype``, ``command``, ``seconds``) is recorded in the manifest. The
    scores depend on the model, the dataset's instances, the suite and the seed, never on the order of the instances
    nor, beyond the model's own rounding, on the batch size.

    Raises :class:`WronglungError` for an empty dataset, duplicated instance ids, a model that breaks the protocol, and
    when no image can be read.
    """
    check_model(model)
    for tracker in trackers:
        check_tracker(tracker)
    if isinstance(suite, str):
        suite = load_suite(suite)
    _check_dataset(dataset)
    for what, value, least in (
        ("limit", limit, 1),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
        ("decode_at_least", decode_at_least, 16),
    ):
        if value is not None and value < least:
            raise WronglungError(f"{what} must be at least {least}, not {value}")
    started = time.perf_counter()
    plan = Plan(suite, dataset, seed, limit)
    subsets = plan.subsets()
    if not any(subsets.values()):
        raise WronglungError(
            f"dataset {dataset.name!r}: no instance belongs to any subset of suite {suite.name!r} ({', '.join(subsets)})"
        )
    if isinstance(model, DatasetAware):
        model.prepare(dataset)
    candidates = Candidates(plan.pool)
    runner = Runner(
        model,
        plan,
        batch_size=batch_size or DEFAULT_BATCH,
        candidates=candidates.sentences,
        local_candidates="selection_accuracy_local_exhaustive" in suite.metrics,
        global_candidates="selection_accuracy_global_exhaustive" in suite.metrics,
        keep_maps=save_maps,
        progress=progress,
        workers=workers or default_workers(),
        decode_at_least=decode_at_least,
    )
    context = {**(context or {}), "decode_at_least": decode_at_least}
    settings = {
        "batch_size": runner.batch.size,
        **{key: context.get(key) for key in ("device", "dtype", "decode_at_least")},
    }
    with tracking(trackers, _run_start(model, dataset, plan, limit, settings)) as told:
        rows: list[Row] = []
        for answers in runner.answers():
            with runner.stages.scoring():
                rows.extend(rows_of(plan, answers, candidates))
        if not rows:
            raise WronglungError(
                f"dataset {dataset.name!r}: none of its images can be read; {runner.skipped[0].detail}"
            )
        frame = _frame(rows, suite, subsets)
        with runner.stages.time("summary"):
            cells, pairs = scores(frame, suite, subsets, seed), correlations(frame, suite)
        told.cells_done(cells)
        skipped = (*dataset.skipped, *runner.skipped)
        run = RunResults(
            status="complete",
            model=model.card.model_dump(mode="json"),
            dataset=_summarise(dataset, frame, subsets, skipped, limit, runner.image_digests),
            suite=suite.model_dump(mode="json"),
            manifest=_manifest(runner, runner.stages, seed, context, started),
            scores=cells,
            correlations=pairs,
        )
    told.run_ended(run)
    run.manifest.warnings = told.warnings
    return Results(run, frame, skipped, None if runner.maps is None else _pack(runner.maps), runner.geometries)


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


def _run_start(model: Any, dataset: Dataset, plan: Plan, limit: int | None, settings: Mapping[str, Any]) -> RunStart:
    return RunStart(
        model=model.card.model_dump(mode="json"),
        dataset={
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "ids_fingerprint": dataset.ids_fingerprint,
            "n_instances": len(plan.instances),
            "limit": limit,
        },
        suite={"name": plan.suite.name, "version": plan.suite.version},
        settings={"wronglung": _version("wronglung"), "seed": plan.seed, **settings},
    )


def _frame(rows: list[Row], suite: SuiteSpec, subsets: Mapping[str, frozenset[str] | None]) -> pd.DataFrame:
    """One row per (instance, task), sorted by instance id and the suite's order of tasks."""
    rows = sorted(rows, key=lambda row: (row.instance.id, row.task))
    tasks = [suite.tasks[row.task] for row in rows]
    metrics = dict.fromkeys((*suite.metrics, *suite.correlations))
    metrics.pop("is_abnormal", None)
    columns: dict[str, Any] = {
        "instance_id": [row.instance.id for row in rows],
        "image_id": [row.instance.image_id for row in rows],
        "study_id": [row.instance.study_id for row in rows],
        "patient_id": [row.instance.patient_id for row in rows],
        "cluster": [row.instance.cluster for row in rows],
        "task": [task.name for task in tasks],
        "sentences": [task.sentences.name for task in tasks],
        "sentence_sha256": [None if row.sentence is None else digest(row.sentence) for row in rows],
        "changed": [row.changed for row in rows],
        "undefined": [row.undefined for row in rows],
        "is_abnormal": [is_abnormal(row.instance) if row.instance.findings else None for row in rows],
    }
    for name, members in subsets.items():
        columns[f"in_{name}"] = [members is not None and row.instance.id in members for row in rows]
    for metric in metrics:
        columns[metric] = np.array([row.values.get(metric, np.nan) for row in rows], dtype=np.float64)
    text = ("instance_id", "image_id", "study_id", "patient_id", "cluster", "task", "sentences", "sentence_sha256")
    frame = pd.DataFrame(columns)
    return frame.astype({**dict.fromkeys((*text, "undefined"), "string"), "is_abnormal": "boolean"})


def _summarise(
    dataset: Dataset,
    frame: pd.DataFrame,
    subsets: Mapping[str, frozenset[str] | None],
    skipped: tuple[Skipped, ...],
    limit: int | None,
    image_digests: Mapping[str, str],
) -> DatasetSummary:
    ids = set(frame["instance_id"])
    return DatasetSummary(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        ids_fingerprint=dataset.ids_fingerprint,
        images_fingerprint=fingerprint_images(image_digests),
        n_instances=len(ids),
        n_images=frame["image_id"].nunique(),
        n_patients=frame["cluster"].nunique(),
        unit=cluster_unit(frame["cluster"]),
        limit=limit,
        subsets={name: None if members is None else len(members & ids) for name, members in subsets.items()},
        skipped=_by_reason(skipped, repaired=False),
        repaired=_by_reason(skipped, repaired=True),
    )


def _by_reason(entries: tuple[Skipped, ...], repaired: bool) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in entries if one.repaired is repaired).items()))


def _manifest(runner: Runner, stages: Stages, seed: int, context: Mapping[str, Any], started: float) -> Manifest:
    seconds = {**context.get("seconds", {}), **stages.seconds, "total": time.perf_counter() - started}
    return Manifest(
        wronglung=_version("wronglung"),
        commit=commit(),
        packages={name: _version(name) for name in PACKAGES},
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=context.get("device", "unknown"),
        dtype=context.get("dtype", "unknown"),
        threads=torch.get_num_threads(),
        seed=seed,
        decode_at_least=context.get("decode_at_least"),
        batch_size=runner.batch.size,
        command=list(context.get("command", [])),
        encoded_images=runner.counts.images,
        encoded_sentences=runner.counts.sentences,
        aligned_pairs=runner.counts.pairs,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_memory_mb=_peak_memory(),
    )


def _peak_memory() -> float | None:
    """The largest resident size of this process so far in MiB, or None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str | None:
    """The commit of the source tree that this package runs from, or None when it is not one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip()


def _pack(maps: Mapping[tuple[str, str], torch.Tensor]) -> dict[str, torch.Tensor]:
    """Maps under the key ``image id/sentence digest``, in sorted order."""
    return {f"{image}/{sentence}": maps[image, sentence].contiguous() for image, sentence in sorted(maps)}
