"""What is finished of a run, part by part: in memory, or in the run's folder, from where it can go on after any stop.

A folder of an unfinished run holds ``parts/`` and ``progress.json``. Each part is the rows of some images, written whole or not at
all: ``part-N.arrow``, N being the first image's place in the dataset, with what else is known of these images in the file's
metadata, and the maps beside it. Parts of several processes differ in N.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import WronglungError, first_line
from .geometry import Geometry
from .instances import Skipped
from .results import RESULTS, remove, write_text, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

PARTS, PROGRESS, IDENTITY, LOCK = "parts", "progress.json", "identity.json", ".lock"
VERSION = 1

Maps: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""Maps [rows, columns] under ``image id/sentence digest``."""


@dataclass(frozen=True)
class Part:
    """Some images' rows, and what happened to the images.

    ``rows`` are those of ``instances.parquet``; ``first`` is the first image's place in the dataset; ``images`` are the ids of
    all images that were looked at, ``digests`` the SHA-256 of the files that could be read, ``skipped`` the others. ``pairs`` has a
    row per map with its similarities. ``seconds`` and ``counts`` are what the part cost.
    """

    first: int
    images: tuple[str, ...]
    rows: pa.Table
    digests: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    seconds: Mapping[str, float]
    counts: Mapping[str, int]
    maps: Maps = field(default_factory=dict)
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    pairs: pa.Table | None = None


class Parts(Protocol):
    """Where parts are kept until they are merged."""

    def done(self) -> frozenset[str]:
        """The ids of the images that are finished."""
        ...

    def add(self, part: Part) -> None: ...

    def all(self) -> Sequence[Part]:
        """All parts in the order of their first images; their maps are read when they are looked at."""
        ...


class MemoryParts:
    """Parts of a run that lives in this process."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def done(self) -> frozenset[str]:
        return frozenset(image for part in self._parts for image in part.images)

    def add(self, part: Part) -> None:
        self._parts.append(part)

    def all(self) -> Sequence[Part]:
        return sorted(self._parts, key=lambda part: part.first)


class FolderParts:
    """Parts in a run's folder. Several processes may add parts of different images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PARTS

    def done(self) -> frozenset[str]:
        return frozenset(image for file in self._files() for image in _read_told(file)["images"])

    def add(self, part: Part) -> None:
        """Raises :class:`WronglungError` when the folder cannot be written to."""
        name = f"part-{part.first:09d}"
        told = {
            "images": part.images,
            "digests": part.digests,
            "skipped": [astuple(one) for one in part.skipped],
            "seconds": part.seconds,
            "counts": part.counts,
            "geometries": {image: astuple(one) for image, one in part.geometries.items()},
        }
        if part.pairs is not None:
            maps, pairs = dict(part.maps), part.pairs
            write_whole(self._folder / f"{name}.safetensors", lambda path: _save(maps, path))
            write_whole(self._folder / f"{name}.pairs", lambda path: _write_table(pairs, path))
        rows = part.rows.replace_schema_metadata({**(part.rows.schema.metadata or {}), _TOLD: json.dumps(told)})
        # Last, as it vouches for the others.
        write_whole(self._folder / f"{name}.arrow", lambda path: _write_table(rows, path))

    def all(self) -> Sequence[Part]:
        return [_read_part(file) for file in self._files()]

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.arrow"))


_TOLD = b"wronglung-part"


def _write_table(table: pa.Table, path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(table, path, compression="lz4")


def _read_table(file: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import feather

    try:
        return feather.read_table(file, memory_map=False)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _damaged(file, error) from error


def _read_told(file: Path) -> dict[str, Any]:
    """What a part says of its images, without its rows."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        with pa.OSFile(str(file)) as stream:
            told = json.loads(ipc.open_file(stream).schema.metadata[_TOLD])
        if not isinstance(told["images"], list):
            raise TypeError("its images are no list")
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from error
    return dict(told)


def _read_part(file: Path) -> Part:
    rows, told = _read_table(file), _read_told(file)
    pairs = file.with_suffix(".pairs")
    try:
        return Part(
            int(file.stem.removeprefix("part-")),
            tuple(told["images"]),
            rows,
            told["digests"],
            tuple(Skipped(*one) for one in told["skipped"]),
            told["seconds"],
            told["counts"],
            _StoredMaps(file.with_suffix(".safetensors")) if pairs.exists() else {},
            {image: Geometry(*one) for image, one in told["geometries"].items()},
            _read_table(pairs) if pairs.exists() else None,
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: BaseException) -> WronglungError:
    return WronglungError(
        f"{file}: is damaged ({first_line(error)}); remove it, and --resume evaluates its images again"
    )


def _save(maps: Maps, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(dict(maps), path)


_OPEN: OrderedDict[Path, Any] = OrderedDict()
"""Files of maps that are open: maps are read in order of their names, in which those of a part are scattered."""


class _StoredMaps(Mapping[str, npt.NDArray[np.float32]]):
    """Maps in a file, each read when it is asked for."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _open(self) -> Any:
        from safetensors import SafetensorError, safe_open

        if self._file not in _OPEN:
            try:
                _OPEN[self._file] = safe_open(self._file, framework="np")
            except (SafetensorError, OSError) as error:
                raise _damaged(self._file, error) from error
            if len(_OPEN) > 200:
                _OPEN.popitem(last=False)
        return _OPEN[self._file]

    def __getitem__(self, key: str) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._open().get_tensor(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._open().keys())

    def __len__(self) -> int:
        return len(self._open().keys())


Status = Literal["running", "interrupted", "failed"]


@dataclass
class RunFolder:
    """The folder of one run, in use by this process and those that a launcher started with it.

    ``complete`` says that it holds a finished run, which is to be left alone.
    """

    folder: Path
    complete: bool
    unfinished: bool
    is_main: bool = True
    images: int = 0
    _done: int = 0

    def begin(self, identity: Mapping[str, Any], images: int) -> FolderParts:
        """Where parts go; those of an unfinished run are kept if it is the same run.

        ``identity`` is what decides the figures, ``images`` how many there are. Raises :class:`WronglungError` where the
        folder holds parts of another run, naming what differs.
        """
        self.images = images
        if self.is_main:
            file = self.folder / PARTS / IDENTITY
            if self.unfinished:
                _check_same(_read_json(file), {"version": VERSION, **identity}, self.folder)
            else:
                self.clear()
                _make(self.folder / PARTS)
                write_text(file, json.dumps({"version": VERSION, **identity}, indent=1) + "\n")
                self.unfinished = True
            for left in (self.folder / PARTS).glob(".*"):
                left.unlink(missing_ok=True)
            self._done = len(FolderParts(self.folder).done())
            self.note("running", self._done)
        return FolderParts(self.folder)

    def advance(self, images: int) -> None:
        """Note that so many more images are finished, by this process."""
        self._done += images
        self.note("running", self._done)

    def note(self, status: Status, done: int, message: str = "") -> None:
        """Write ``progress.json``."""
        if not self.is_main:
            return
        told = {
            "version": VERSION, "status": status, "images_done": done, "images": self.images, "message": message,
            "process": os.getpid(), "host": socket.gethostname(),
        }  # fmt: skip
        write_text(self.folder / PROGRESS, json.dumps(told, indent=1) + "\n")

    def stopped(self, error: BaseException) -> None:
        """Note why the run stopped, as far as the folder can still be written to; a failure before anything was finished leaves
        nothing."""
        if not self.unfinished or not self.is_main:
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            done = len(FolderParts(self.folder).done())
            if done or interrupted:
                self.note("interrupted" if interrupted else "failed", done, "" if interrupted else first_line(error))
            else:
                self.clear()
        except (WronglungError, OSError):
            return

    def clear(self) -> None:
        """Remove what an unfinished run left. Raises :class:`WronglungError` where that is not allowed."""
        if not self.is_main:
            return
        try:
            if (self.folder / PARTS).exists():
                # The identity goes first: without it nobody goes on with half of the parts.
                (self.folder / PARTS / IDENTITY).unlink(missing_ok=True)
                shutil.rmtree(self.folder / PARTS)
        except OSError as error:
            raise WronglungError(f"{self.folder / PARTS}: cannot be removed: {error.strerror}") from error
        remove(self.folder / PROGRESS)


@contextmanager
def claimed(folder: Path, *, resume: bool, overwrite: bool, is_main: bool = True) -> Iterator[RunFolder]:
    """Take a folder for one run, before any work: made if needed, and locked against other processes until the end.

    ``resume`` goes on with an unfinished run, and leaves a finished one as it is; ``overwrite`` lets either be replaced. A run
    that stops leaves its parts and ``progress.json`` with the reason.

    Raises :class:`WronglungError` when another process writes to the folder, when it holds a run and neither is given, and
    when it cannot be written to.
    """
    if resume and overwrite:
        raise WronglungError(f"{folder}: go on with --resume or replace it with --overwrite, not both")
    with ExitStack() as stack:
        if is_main:
            _make(folder)
            write_whole(folder / ".write-test", lambda path: path.write_bytes(b""), keep=False)
            stack.enter_context(_locked(folder))
        complete = (folder / RESULTS).exists()
        unfinished = not complete and (folder / PARTS / IDENTITY).exists()
        if not resume and not overwrite:
            if complete:
                raise WronglungError(f"{folder}: holds a run already; choose another --out, or --overwrite it")
            if unfinished:
                raise WronglungError(
                    f"{folder}: holds an unfinished run ({describe_progress(folder)}); go on with --resume, or --overwrite it"
                )
        claim = RunFolder(folder, complete and resume, unfinished and resume, is_main)
        try:
            yield claim
        except BaseException as error:
            claim.stopped(error)
            raise


def describe_progress(folder: Path) -> str:
    """How far an unfinished run is, in words."""
    told = _read_json(folder / PROGRESS)
    status, done, images = (told.get(key) for key in ("status", "images_done", "images"))
    if status not in ("running", "interrupted", "failed") or not isinstance(done, int) or not isinstance(images, int):
        return "its progress is not known"
    # What was still running when nobody was left to say otherwise has been killed.
    return f"{'killed' if status == 'running' else status}, at least {done} of {images} images done"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be created: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """An advisory lock, which ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        told = _read_json(folder / PROGRESS)
        who = f" (process {told['process']} on {told['host']})" if {"process", "host"} <= told.keys() else ""
        raise WronglungError(
            f"{folder}: another run is writing to this folder{who}; wait for it, or choose another --out"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise WronglungError(f"{folder / LOCK}: cannot be locked: {error}") from error
    try:
        yield
    finally:
        # While it is held, so that nobody else can have the same file.
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    now = json.loads(json.dumps(now))
    differs = [key for key in now if before.get(key) != now[key]]
    if differs:
        values = ", ".join(f"{key} ({_short(before.get(key))} then, {_short(now[key])} now)" for key in differs[:3])
        raise WronglungError(
            f"{folder}: the unfinished run there was started with another {values}; --resume with the same, or --overwrite it"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def merge_counts(parts: Iterable[Part]) -> tuple[dict[str, float], Counter[str]]:
    """What all parts cost: seconds by stage, and counts."""
    seconds: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
        for stage, value in part.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return seconds, counts
