"""Results on disk: one folder a run, every file written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..tasks.schema import SuiteSpec
from .errors import WronglungError, first_line
from .instances import Skipped
from .schema_version import check_version
from .small_file import parse_json, read_small

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

    from .geometry import Geometry
    from .stored_rows import StoredRows

SCHEMA_VERSION = 1

RESULTS, INSTANCES, SKIPPED, MAPS = "results.json", "instances.parquet", "skipped.jsonl", "maps.safetensors"
_LARGEST = 1 << 25
"""Bytes of a summary; one of ten thousand cells has five million."""
_ROWS_A_BYTE = 20
"""More rows than this for a byte of their file are a bomb: their ids differ."""
PAIRS = "pairs.parquet"
"""Beside the maps: what else the model said of each (image, sentence) pair."""


class Score(BaseModel):
    """One cell: a metric's mean over a subset under a task."""

    model_config = ConfigDict(extra="forbid")

    task: str
    sentences: str
    """The sentence source: ``original`` or ``synthetic``."""
    perturbation: str | None
    subset: str
    metric: str
    value: float | None
    """Mean over the instances where the metric is defined; a fraction in [0, 1] or natural units; null if there are none."""
    ci_low: float | None
    ci_high: float | None
    """95 % interval of ``value`` from resampling patients; null under 10 patients."""
    delta: float | None
    """Mean of (perturbed − unperturbed of the same sentence source) over the instances where both are defined."""
    delta_ci_low: float | None
    delta_ci_high: float | None
    delta_changed: float | None
    """``delta`` over the instances that the perturbation changed."""
    n_instances: int
    """Instances of the subset."""
    n_changed: int
    """Of these, changed by the perturbation."""
    n_patients: int
    n_undefined: int
    """Instances of the subset for which the metric has no value."""
    higher_is_better: bool | None


class Correlation(BaseModel):
    """Pearson correlation of two quantities over all instances of the first task."""

    model_config = ConfigDict(extra="forbid")

    a: str
    b: str
    r: float | None
    """Null where one of the two is constant or undefined."""
    n_instances: int


class DatasetSummary(BaseModel):
    """What was evaluated on."""

    model_config = ConfigDict(extra="forbid")

    name: str
    fingerprint: str
    """SHA-256 of the instances; see :attr:`wronglung.Dataset.fingerprint`."""
    ids_fingerprint: str | None = None
    """SHA-256 of the instances' ids alone."""
    images_fingerprint: str | None = None
    """SHA-256 of the image files that were decoded, with their ids."""
    n_instances: int
    n_images: int
    n_patients: int
    unit: Literal["patients", "studies", "images", "patients, studies or images"] = "patients, studies or images"
    """What ``n_patients`` counts: the widest group of dependent instances that the dataset tells. The first runs do not say."""
    limit: int | None
    """If set, only the first instances were evaluated: a partial run."""
    subsets: dict[str, int | None]
    """Instances per subset; null where the dataset cannot say."""
    skipped: dict[str, int]
    """What the reader and the run left out, by reason."""
    repaired: dict[str, int] = {}
    """What the reader repaired, by reason."""


class Manifest(BaseModel):
    """What a number may depend on."""

    model_config = ConfigDict(extra="forbid")

    wronglung: str
    commit: str | None
    """Commit of the package's own source tree, with ``-dirty`` when it had changes; null for an installed release."""
    packages: dict[str, str]
    python: str
    platform: str
    device: str
    dtype: str
    threads: int
    seed: int
    batch_size: int
    """The largest batch in use at the end; smaller than asked for when memory ran out."""
    decode_at_least: int | None = None
    """If set, JPEG files were reduced while they were decoded, down to this many pixels on the short side."""
    command: list[str]
    encoded_images: int
    encoded_sentences: int
    aligned_pairs: int
    seconds: dict[str, float]
    """Wall time by stage."""
    peak_memory_mb: float | None
    warnings: list[str] = []
    """What went wrong beside the evaluation and changed no figure, such as a tracker that failed."""


class RunResults(BaseModel):
    """The content of ``results.json``."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    status: Literal["complete"]
    model: dict[str, Any]
    """The model's card."""
    dataset: DatasetSummary
    suite: dict[str, Any]
    """The suite as resolved; a YAML file of it runs the same again."""
    manifest: Manifest
    scores: list[Score] = Field(min_length=1)
    correlations: list[Correlation]

    @field_validator("model")
    @classmethod
    def _is_a_card(cls, model: dict[str, Any]) -> dict[str, Any]:
        # That of another version may lack what this one knows, and say more.
        named, settings = isinstance(model.get("name"), str), isinstance(model.get("settings", {}), Mapping)
        if not named:
            raise ValueError("has no name that is text")
        if not settings:
            raise ValueError("its settings are no mapping")
        return model


@dataclass(frozen=True)
class Results:
    """A run: the summary, one row per (instance, task), what was skipped, and the maps if they were kept.

    ``maps`` are float32 [rows, columns] under ``image id/sentence digest``; ``geometries`` are theirs, by image id, for original
    pixels; ``pairs`` has a row per map with the model's similarities and its weight on no region (NaN where it has none).
    """

    run: RunResults
    instances: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    maps: Mapping[str, torch.Tensor] | None = None
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    pairs: pa.Table | None = None

    def __repr__(self) -> str:
        dataset, suite = self.run.dataset, self.run.suite
        return (
            f"<Results of {self.run.model['name']!r} on {dataset.name!r} ({dataset.n_instances} instances) under "
            f"{suite['name']} {suite['version']}; save(folder) writes the run>"
        )

    def save(self, folder: Path) -> None:
        """Write the run's files into the folder; ``results.json`` comes last, so that it vouches for the others.

        Files of an earlier run go first, ``results.json`` before all.

        Raises :class:`WronglungError` when the folder cannot be written to; no partial file is left.
        """
        _save(self, lambda path: self.instances.to_parquet(path, index=False, compression="zstd"), folder)


@dataclass(frozen=True)
class StoredResults:
    """As :class:`Results`, of a run whose rows are in a file, as they may be too many for memory."""

    run: RunResults
    rows: StoredRows
    skipped: tuple[Skipped, ...] = ()
    maps: Mapping[str, torch.Tensor] | None = None
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    pairs: pa.Table | None = None

    def save(self, folder: Path) -> None:
        """As :meth:`Results.save`; the file of the rows is moved."""
        _save(self, lambda path: shutil.move(self.rows.file, path), folder)


def _save(results: Results | StoredResults, write_rows: Callable[[Path], object], folder: Path) -> None:
    files = [folder / name for name in (RESULTS, MAPS, PAIRS, INSTANCES, SKIPPED)]
    remove(*files)
    try:
        _write(results, write_rows, folder)
    except WronglungError:
        # A run is whole or not there at all.
        remove(*files)
        raise


def _write(results: Results | StoredResults, write_rows: Callable[[Path], object], folder: Path) -> None:
    write_whole(folder / INSTANCES, write_rows)
    write_text(folder / SKIPPED, _jsonl(results.skipped))
    maps, pairs = results.maps, results.pairs
    if maps is not None:
        # What the maps cover, without which nobody else could place them on the images.
        geometry = json.dumps({image: astuple(one) for image, one in sorted(results.geometries.items())})
        write_whole(folder / MAPS, lambda path: _save_maps(maps, {"geometry": geometry}, path))
        if pairs is not None:
            write_whole(folder / PAIRS, lambda path: _write_parquet(pairs, path))
    write_text(folder / RESULTS, results.run.model_dump_json(indent=1) + "\n")


def load_run(path: Path) -> RunResults:
    """Read the summary of a run from its folder or its ``results.json``.

    Raises :class:`WronglungError` for a missing or damaged file and for one of another schema version.
    """
    file = path / RESULTS if path.is_dir() else path
    if not (file.exists() or file.is_symlink()):
        raise WronglungError(f"{path}: no run here ({RESULTS} is missing)")
    return validated(parse_json(read_small(file, _LARGEST), str(file)), str(file))


def validated(raw: object, where: str) -> RunResults:
    """The summary in a JSON value; ``where`` is for messages.

    Raises :class:`WronglungError` for a value that is none, and for one of another schema version.
    """
    if not isinstance(raw, dict):
        raise WronglungError(f"{where}: is not a run of wronglung: is no JSON object")
    check_version(raw.get("schema_version"), SCHEMA_VERSION, where)
    try:
        run = RunResults.model_validate(raw)
        SuiteSpec.model_validate(run.suite, context={"recorded": True})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        raise WronglungError(
            f"{where}: is not a run of wronglung: {key + ': ' if key else ''}{first['msg']}"
        ) from error
    return run


def load_results(path: Path) -> Results:
    """Read a run from its folder: the summary, and the rows of ``instances.parquet`` without the maps.

    Raises :class:`WronglungError` as :func:`load_run` does, and for a missing or damaged table of instances.
    """
    run = load_run(path)
    file = (path if path.is_dir() else path.parent) / INSTANCES
    return Results(run, read_instances(file))


def load_at_hand(path: Path) -> Results | RunResults:
    """:func:`load_results` where the run's instances lie beside its summary, else :func:`load_run`."""
    beside = (path if path.is_dir() else path.parent) / INSTANCES
    return load_results(path) if beside.exists() else load_run(path)


def read_instances(file: Path) -> pd.DataFrame:
    """The rows of a run's ``instances.parquet``: one per (instance, task).

    Raises :class:`WronglungError` for a file that is missing, is not parquet, or lacks a column that every run writes.
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    if file.exists() and not file.is_file():
        raise WronglungError(f"{file}: is not a regular file")
    try:
        with parquet.ParquetFile(file) as opened:
            rows = opened.metadata.num_rows
            if rows > _ROWS_A_BYTE * file.stat().st_size:
                raise WronglungError(f"{file}: claims {rows:,} rows, more than a file of its size holds")
            names = opened.schema_arrow.names
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise WronglungError(f"{file}: has the column {twice[0]!r} more than once")
            frame: pd.DataFrame = opened.read().to_pandas()
    except FileNotFoundError as error:
        raise WronglungError(f"{file}: is missing; the values of single instances are read from it") from error
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        # Beside damaged data, also whatever a damaged description of the columns for pandas leads to.
        raise WronglungError(f"{file}: cannot be read as parquet ({first_line(error)})") from error
    for column in ("instance_id", "cluster", "task", "changed"):
        if column not in frame:
            raise WronglungError(f"{file}: has no column {column!r}; it is not of a run of wronglung")
    for column in ("instance_id", "cluster", "task"):
        if not pd.api.types.is_string_dtype(frame[column]) or frame[column].isna().any():
            raise WronglungError(f"{file}: column {column!r} must hold text in every row")
    return frame


def claim_folder(folder: Path, overwrite: bool) -> None:
    """Make sure, before any work, that a run can be written to the folder.

    Creates it if needed. Raises :class:`WronglungError` when it holds a run (unless ``overwrite``) or cannot be written to.
    """
    if (folder / RESULTS).exists() and not overwrite:
        raise WronglungError(f"{folder}: holds a run already; choose another --out, or --overwrite it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be created: {error.strerror}") from error
    write_whole(folder / ".write-test", lambda path: path.write_bytes(b""), keep=False)


def write_whole(target: Path, write: Callable[[Path], object], keep: bool = True) -> None:
    """Let ``write`` fill a temporary file beside the target and move it there in one step.

    Raises :class:`WronglungError` when the file system refuses (no space, no permission); the temporary file is removed.
    """
    temporary: Path | None = None
    target = target.resolve()
    if target.exists() and not target.is_file():
        raise WronglungError(f"{target}: cannot be written: is not a regular file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        if keep:
            # mkstemp makes private files; results are shared like any other file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
    except OSError as error:
        raise WronglungError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove(*files: Path) -> None:
    """Remove the files that exist; raises :class:`WronglungError` where that is not allowed."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise WronglungError(f"{file}: cannot be removed: {error.strerror}") from error


def _save_maps(maps: Mapping[str, torch.Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write float32 maps as safetensors, in order of their keys, a map at a time: all together may not fit in memory.

    The format is a length, a JSON header of names, types, shapes and places, and the values (huggingface/safetensors).
    """
    keys = sorted(maps)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for key in keys:
        shape = list(maps[key].shape)
        start, end = end, end + 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _HEADER:
        raise WronglungError(f"{len(keys)} maps are more than one safetensors file can list; run without --save-maps")
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for key in keys:
            stream.write(maps[key].contiguous().numpy().astype("<f4", copy=False).tobytes())


_HEADER = 100_000_000
"""Bytes of a header, beyond which safetensors reads no file."""


def _write_parquet(table: pa.Table, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")


def write_text(target: Path, text: str) -> None:
    """:func:`write_whole` for text, in UTF-8."""
    write_whole(target, lambda path: path.write_text(text, encoding="utf-8"))


def _jsonl(entries: Iterable[Skipped]) -> str:
    return "".join(
        json.dumps({"reason": one.reason, "where": one.where, "detail": one.detail, "repaired": one.repaired}) + "\n"
        for one in entries
    )
