"""The folder of a run: taken by one run at a time, gone on with after any stop, with a note of how far it is.

While a run is unfinished, its folder holds ``parts/`` (see :mod:`.parts`), in it ``identity.json``, what decides the figures, and
``progress.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import WronglungError, first_line
from .locking import locked
from .parts import PARTS, FolderParts
from .results import INSTANCES, MAPS, PAIRS, RESULTS, SKIPPED, remove, write_text, write_whole

PROGRESS, IDENTITY, WRITE_TEST = "progress.json", "identity.json", "write-test"
VERSION = 1

Status = Literal["running", "interrupted", "failed"]


@dataclass
class RunFolder:
    """The folder of one run, in use by this process and those that a launcher started with it.

    ``complete`` says that it holds a finished run, which is to be left alone, ``unfinished`` that it holds parts to go on with.
    """

    folder: Path
    complete: bool
    unfinished: bool
    is_main: bool = True
    images: int = 0
    _done: int = 0
    _parts: FolderParts | None = None

    def begin(self, identity: Mapping[str, Any], images: int) -> FolderParts:
        """Where parts go; those of an unfinished run are kept if it is the same run.

        ``identity`` is what decides the figures, ``images`` how many there are. Raises :class:`WronglungError` where the
        folder holds parts of another run, naming what differs, or damaged ones.
        """
        text = json.dumps({"version": VERSION, **identity}, indent=1)
        parts = FolderParts(self.folder, hashlib.sha256(text.encode()).hexdigest())
        if self.is_main:
            self._prepare(text)
            self._done = len(parts.done())
            self.images = images
            self.note("running", self._done)
        self._parts = parts
        return parts

    def _prepare(self, identity: str) -> None:
        file = self.folder / PARTS / IDENTITY
        if self.unfinished:
            _check_same(file, json.loads(identity), self.folder)
        else:
            self.clear()
            _make(self.folder / PARTS)
            write_text(file, identity + "\n")
        # What a process was writing when it was killed.
        for name in (RESULTS, MAPS, PAIRS, INSTANCES, SKIPPED, PROGRESS, WRITE_TEST):
            remove(*self.folder.glob(f".{name}.*"))
        remove(*(self.folder / PARTS).glob(".*"))

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
        """Note why the run stopped, as far as the folder can still be written to. A run that had not begun changes nothing, and
        one that failed before anything was finished leaves nothing."""
        if self._parts is None or not self.is_main:
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            done = len(self._parts.done())
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
            raise WronglungError(f"{self.folder / PARTS}: cannot be removed: {error.strerror or error}") from error
        remove(self.folder / PROGRESS)


@contextmanager
def claimed(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """Take a folder for one run, before any work: made if needed, and locked against other processes until the end.

    ``resume`` goes on with an unfinished run, and leaves a finished one as it is; ``overwrite`` lets either be replaced. A run
    that stops leaves its parts and ``progress.json`` with the reason.

    Raises :class:`WronglungError` when another process writes to the folder, when it holds a run and neither is given, and
    when it cannot be written to.
    """
    if resume and overwrite:
        raise WronglungError(f"{folder}: go on with --resume or replace it with --overwrite, not both")
    with ExitStack() as stack:
        _make(folder)
        write_whole(folder / WRITE_TEST, lambda path: path.write_bytes(b""), keep=False)
        stack.enter_context(locked(folder, lambda: _in_use(folder)))
        parts = folder / PARTS
        if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
            raise WronglungError(f"{parts}: a run keeps its parts in a folder of this name; move what is there")
        # Results beside an identity are those of an earlier run that is being replaced, or were written when the run was killed.
        unfinished = (parts / IDENTITY).exists()
        complete = not unfinished and (folder / RESULTS).exists()
        if not resume and not overwrite:
            if complete:
                raise WronglungError(f"{folder}: holds a run already; choose another --out, or --overwrite it")
            if unfinished:
                raise WronglungError(
                    f"{folder}: holds an unfinished run ({describe_progress(folder)}); go on with --resume, or --overwrite it"
                )
        claim = RunFolder(folder, complete and resume, unfinished and resume)
        if claim.complete and (parts.exists() or (folder / PROGRESS).exists()):
            # Killed while it was cleaning up.
            claim.clear()
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


def _in_use(folder: Path) -> str:
    told = _read_json(folder / PROGRESS)
    who = f" (process {told['process']} on {told['host']})" if {"process", "host"} <= told.keys() else ""
    return f"another run is writing to this folder{who}; wait for it, or choose another --out"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _check_same(file: Path, now: Mapping[str, Any], folder: Path) -> None:
    before = _read_json(file)
    if not before:
        raise WronglungError(
            f"{file}: is damaged, so nobody knows what the parts beside it are of; --overwrite the run"
        )
    differs = list(_differences(before, now))
    if differs:
        more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
        raise WronglungError(
            f"{folder}: the unfinished run there was started with another {', '.join(differs[:3])}{more}; --resume with the "
            "same, or --overwrite it"
        )


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """The places in which two JSON values differ, with both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**now, **before}:
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{where}.{at}")
    elif before != now:
        yield f"{where} ({_short(before)} then, {_short(now)} now)"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
