"""``wronglung run``: evaluate models, each into a folder, in one process or several, and go on where a run was stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .cli_options import (  # fmt: skip
    BatchSize,
    DataArgs,
    DataRoot,
    Device,
    Dtype,
    Json,
    ModelArgs,
    Name,
    Quiet,
    Seed,
    Split,
    load,
    pairs,
    shows_progress,
)
from .errors import WronglungError
from .stopping import stoppable

if TYPE_CHECKING:
    from .one_run import Job
    from .results import RunResults
    from .run_folder import RunFolder
    from .sweep import Entry

Value = TypeVar("Value")


def run(
    dataset: Name,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The run's folder, or that of the runs of several models; made if needed."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A name from `wronglung list models`, or file.py:Class; repeatable."),
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="A YAML file of models with their arguments, in place of --model.")
    ] = None,
    only: Annotated[
        int | None, typer.Option(min=0, help="Of several models the one with this number, from 0; for arrays of jobs.")
    ] = None,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    suite: Annotated[str, typer.Option("--suite", "-s", help="A name, or a path to a .yaml file.")] = "wrong-lung",
    model_arg: ModelArgs = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate the first N instances only.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = "auto",
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode images; by default one a processor, at most 8.")
    ] = None,
    scoring_workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that score maps; by default none for short runs, else one a processor, at most 8."
        ),
    ] = None,
    decode_at_least: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Let JPEG films be decoded at 1/2, 1/4 or 1/8, with a short side of at least N pixels: faster, not exact.",
        ),
    ] = None,
    feature_cache: Annotated[
        Path | None, typer.Option(help="Keep features of images and sentences in this folder, for runs to come.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Of several models, how many share a pass over the images.")] = 8,
    save_maps: Annotated[bool, typer.Option("--save-maps", help="Keep the maps in maps.safetensors.")] = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker", metavar="NAME[:VALUE]", help="Log to this one of `wronglung list trackers`, too; repeatable."
        ),
    ] = None,
    tracker_arg: Annotated[
        list[str] | None,
        typer.Option("--tracker-arg", metavar="NAME.KEY=VALUE", help="An argument of a tracker; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run; leave finished ones as they are.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a model, or several, on one dataset under one suite."""
    from .evaluation import Settings
    from .processes import processes

    arguments, data_arguments = pairs(model_arg), pairs(data_arg, "--data-arg")
    entries, single = _entries(model, sweep, only, arguments)
    if not single and (tracker or tracker_arg):
        raise WronglungError("--tracker goes with one model at a time; choose one of several with --only N")
    settings = Settings(
        seed, limit, _batch_size(batch_size), save_maps, shows_progress(quiet), workers, scoring_workers, decode_at_least,
        feature_cache,
    )  # fmt: skip
    with stoppable("what is finished is kept; go on with --resume"), processes() as ours, ExitStack() as stack:
        from .models import resolve_device, resolve_dtype

        # What is cheap to refuse is refused before anything is loaded.
        # Absolute, as a model may change the working directory.
        folders = [(out if single else out / entry.folder).absolute() for entry in entries]
        claims = _claim(folders, resume, overwrite, ours, stack)
        todo = [at for at, claim in enumerate(claims) if not claim.complete]
        failures: dict[int, str] = {}
        if todo:
            # Refused for every model, also for one that takes neither.
            resolve_device(device)
            resolve_dtype(dtype)
            from ..tasks.schema import load_suite
            from .evaluation import evaluate_all
            from .trackers.loading import load_trackers

            chosen = load_suite(suite)
            told = load_trackers(tracker or [], tracker_arg or []) if ours.is_main else []
            data, seconds = _timed(lambda: load(dataset, data_root, split, data_arguments))
            for start in range(0, len(todo), at_once):
                group = todo[start : start + at_once]
                jobs: dict[int, Job] = {}
                for at in group:
                    try:
                        jobs[at] = _job(entries[at], device, dtype, seconds, claims[at], told)
                    except WronglungError as error:
                        if single:
                            raise
                        failures[at] = str(error)
                # What one process cannot load, none evaluates.
                for told_by_one in ours.gathered({at: failures[at] for at in group if at in failures}):
                    failures = {**told_by_one, **failures}
                jobs = {at: job for at, job in jobs.items() if at not in failures}
                if not jobs:
                    continue
                outcomes = evaluate_all(list(jobs.values()), data, chosen, settings, ours)
                for at, outcome in zip(jobs, outcomes, strict=True):
                    if isinstance(outcome, WronglungError):
                        if single:
                            raise outcome
                        failures[at] = str(outcome)
                    elif outcome is not None:
                        outcome.save(folders[at])
                        claims[at].clear()
        if not ours.is_main:
            return
    print_results([folder for at, folder in enumerate(folders) if at not in failures], as_json, quiet)
    if failures:
        told_of = "; ".join(f"{entries[at].folder}: {message}" for at, message in failures.items())
        raise WronglungError(f"{len(failures)} of {len(entries)} models failed: {told_of}")


def _entries(
    models: list[str] | None, sweep: Path | None, only: int | None, arguments: dict[str, str]
) -> tuple[list[Entry], bool]:
    """The models, and whether there is a single one, whose run is the folder itself."""
    from .sweep import Entry, entries_of, read_sweep

    if (sweep is None) == (not models):
        raise WronglungError("say which model with --model NAME, or which models with --sweep FILE")
    if sweep is None and models is not None and len(models) == 1 and only is None:
        return [Entry(models[0], "", arguments)], True
    if arguments:
        raise WronglungError("--model-arg goes with a single --model; write the arguments of several into a sweep file")
    entries = read_sweep(sweep) if sweep is not None else entries_of(models or [])
    if only is not None:
        if only >= len(entries):
            raise WronglungError(
                f"--only {only}: there are {len(entries)} models, with the numbers 0 to {len(entries) - 1}"
            )
        entries = [entries[only]]
    return entries, False


def _claim(folders: Sequence[Path], resume: bool, overwrite: bool, ours: Any, stack: ExitStack) -> list[RunFolder]:
    from .run_folder import RunFolder, claimed

    if ours.is_main:
        claims = [stack.enter_context(claimed(one, resume=resume, overwrite=overwrite)) for one in folders]
        ours.from_main([claim.complete for claim in claims])
        return claims
    complete = ours.from_main([False] * len(folders))
    return [RunFolder(folder, done, False, is_main=False) for folder, done in zip(folders, complete, strict=True)]


def _job(entry: Entry, device: str, dtype: str, seconds: float, claim: RunFolder, trackers: Sequence[Any]) -> Job:
    from .models import load_model, placement
    from .one_run import Job

    loaded, loading = _timed(lambda: load_model(entry.model, device=device, dtype=dtype, **entry.arguments))
    context = {
        **placement(entry.model, device, dtype),
        "command": ["wronglung", *sys.argv[1:]],
        "seconds": {"dataset": seconds, "model loading": loading},
    }
    return Job(loaded, context, trackers, claim)


def print_results(folders: Sequence[Path], as_json: bool, quiet: bool) -> None:
    """Print the results that are in the folders."""
    from .results import load_run

    runs = [load_run(folder) for folder in folders]
    if not runs:
        return
    if as_json:
        texts = [one.model_dump_json(indent=1) for one in runs]
        typer.echo(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        return
    from ..leaderboard.board import board
    from ..leaderboard.render import render

    typer.echo(render(board(runs), "markdown"))
    if not quiet:
        notes(runs[0])
        for folder in folders:
            typer.echo(f"written: {folder}", err=True)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise WronglungError(f"--batch-size {text!r}: must be a number of at least 1, or auto")
    return int(text)


def _timed(call: Callable[[], Value]) -> tuple[Value, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def notes(run: RunResults) -> None:
    """What a reader of the table should know about the data behind it."""
    from .statistics.resampling import caution

    dataset = run.dataset
    if dataset.limit is not None:
        typer.echo(f"note: partial run, the first {dataset.n_instances} instances only", err=True)
    for name, size in dataset.subsets.items():
        if size is None:
            typer.echo(f"note: subset {name}: not applicable, the dataset does not say", err=True)
        elif size == 0:
            typer.echo(f"note: subset {name}: empty, its cells have no value", err=True)
    few = caution(dataset.n_patients, dataset.unit)
    if few is not None:
        typer.echo(f"note: {few}", err=True)
    for what, reasons in (("left out", dataset.skipped), ("repaired while reading", dataset.repaired)):
        if reasons:
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            typer.echo(f"note: {what}: {listed}", err=True)
    unmoved = [one.task for one in run.scores if one.perturbation and one.subset == "all" and one.n_changed == 0]
    for task in dict.fromkeys(unmoved):
        typer.echo(f"note: {task} changes no instance of this dataset; its deltas say nothing", err=True)
