"""Baseline files: as much of a run as a comparison needs, in one file that can be committed.

A baseline is a parquet file. Its schema's metadata hold the run's summary, cut to the cells that are kept, as JSON; its rows
are those of ``instances.parquet`` with the columns that these cells need. Instance ids are digests and patients are
numbered, on both sides of every comparison; there is no sentence, no image and no name of a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_bool_dtype, is_float_dtype
from pyarrow import parquet

from ..benchmark.cells import Cell
from ..benchmark.errors import WronglungError, first_line
from ..benchmark.results import INSTANCES, Results, RunResults, load_results, read_instances, validated, write_whole
from ..benchmark.small_file import parse_json
from ..tasks.schema import SuiteSpec

SUFFIX = ".parquet"
_SUMMARY = b"wronglung.run"
_DIGITS = 16
"""Of a digest, hexadecimal: 64 bits."""


def load_side(path: Path) -> Results:
    """One side of a comparison: a run's folder, or a baseline file, with ids as digests and patients numbered.

    Raises :class:`WronglungError` for a missing or damaged file, and for instances without a column that a cell of the
    summary needs.
    """
    if path.suffix == SUFFIX and not path.is_dir():
        results, file = _read(path), path
    else:
        results = load_results(path)
        results = replace(results, instances=pseudonymous(results.instances))
        file = (path if path.is_dir() else path.parent) / INSTANCES
    _check_columns(results, file)
    return results


def pseudonymous(instances: pd.DataFrame) -> pd.DataFrame:
    """The rows with digests for instance ids, and with clusters numbered in order of their smallest digest.

    A number says which rows belong together and nothing else, where the digest of a patient's number could be found by trying
    all numbers. Equal instances of equal patients get equal names in every run.
    """
    ids = instances["instance_id"].astype(object)
    digests = {one: hashlib.sha256(one.encode(errors="surrogatepass")).hexdigest()[:_DIGITS] for one in ids.unique()}
    if len(set(digests.values())) < len(digests):
        raise WronglungError("two instances have the same digest; rename one of them in the dataset")
    named = instances.assign(instance_id=ids.map(digests).astype("string"))
    first = named.groupby("cluster")["instance_id"].min().sort_values()
    numbers = pd.Series([f"{at:08d}" for at in range(len(first))], index=first.index, dtype="string")
    return named.assign(cluster=named["cluster"].map(numbers).astype("string"))


def write_baseline(target: Path, results: Results, cells: Collection[Cell]) -> None:
    """Write what comparisons of ``cells`` need of a run (as :func:`load_side` gives it).

    A metric is kept under the tasks for which ``cells`` has it, and their unperturbed ones, on all subsets. Equal runs give equal
    bytes, whatever the order of their rows; what differs between two executions of one run (times, memory, paths) is left out.
    Raises :class:`WronglungError` where the file cannot be written, and where another is there that is no baseline.
    """
    if target.exists():
        try:
            _summary(target)
        except WronglungError as error:
            raise WronglungError(f"{error}; it is not replaced, remove it or name another file") from error
    run = _cut(results.run, cells)
    kept = {(one.task, one.metric) for one in run.scores}
    tasks = {task for task, _ in kept}
    rows = results.instances[results.instances["task"].isin(tasks)].sort_values(["task", "instance_id"])
    texts = {name: pa.array(rows[name], pa.string()) for name in ("instance_id", "cluster", "task")}
    flags = {
        name: pa.array(rows[name].to_numpy(np.bool_))
        for name in ("changed", *dict.fromkeys(f"in_{one.subset}" for one in run.scores))
    }
    figures = {}
    for metric in dict.fromkeys(one.metric for one in run.scores):
        asked = rows["task"].isin({task for task, other in kept if other == metric}).to_numpy()
        figures[metric] = pa.array(np.where(asked, rows[metric].to_numpy(np.float64), np.nan))
    table = pa.table({**texts, **flags, **figures}).replace_schema_metadata({_SUMMARY: run.model_dump_json().encode()})
    write_whole(
        target,
        lambda path: parquet.write_table(
            table, path, compression="zstd", compression_level=19, use_dictionary=[*texts], write_statistics=False
        ),
    )


def _cut(run: RunResults, cells: Collection[Cell]) -> RunResults:
    """The summary with the cells that are kept, and without what is of one execution only."""
    suite = SuiteSpec.model_validate(run.suite, context={"recorded": True})
    bases = {task.name: suite.base_of(task).name for task in suite.tasks}
    asked = {(task, cell.metric) for cell in cells for task in (cell.task, bases[cell.task])}
    scores = [one for one in run.scores if (one.task, one.metric) in asked]
    manifest = run.manifest.model_copy(update={"command": [], "seconds": {}, "peak_memory_mb": None, "warnings": []})
    return run.model_copy(update={"scores": scores, "correlations": [], "manifest": manifest})


def _read(file: Path) -> Results:
    run = validated(parse_json(_summary(file), f"{file}: its summary"), f"{file}: its summary")
    return Results(run, read_instances(file))


def _summary(file: Path) -> bytes:
    """The JSON of a baseline's summary; raises :class:`WronglungError` for any other file."""
    if file.exists() and not file.is_file():
        raise WronglungError(f"{file}: is not a regular file")
    try:
        metadata = parquet.read_schema(file).metadata or {}
    except FileNotFoundError as error:
        raise WronglungError(f"{file}: does not exist; --update-baseline writes it from the candidate") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise WronglungError(f"{file}: cannot be read as parquet ({first_line(error)})") from error
    if _SUMMARY not in metadata:
        raise WronglungError(f"{file}: is no baseline; give a run's folder, or a file that --update-baseline wrote")
    summary: bytes = metadata[_SUMMARY]
    return summary


def _check_columns(results: Results, file: Path) -> None:
    """Refuse a table that was not written with the summary, before any figure is taken from it."""
    frame = results.instances
    for subset in dict.fromkeys(one.subset for one in results.run.scores):
        if f"in_{subset}" not in frame or not is_bool_dtype(frame[f"in_{subset}"]):
            raise WronglungError(f"{file}: column 'in_{subset}' is missing or does not hold true and false")
    for metric in dict.fromkeys(one.metric for one in results.run.scores):
        if metric not in frame or not is_float_dtype(frame[metric]):
            raise WronglungError(f"{file}: column {metric!r} is missing or does not hold floating-point numbers")
        if np.isinf(frame[metric].to_numpy(np.float64)).any():
            raise WronglungError(f"{file}: column {metric!r} holds infinite values, which no run writes")
