"""What must not happen while a stranger's file is read: code that runs, files that are written elsewhere, hours, gigabytes."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 5.0
"""Of computing, for an input; waiting may take four times as long, as other work may share the machine."""
MEGABYTES = 1000.0
"""By which the largest resident size may grow with one input."""


class ContractError(BaseException):
    """What a reader must not do. No ``Exception``, so that no reader takes it for a damaged file."""


_RUNS = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn",
    "socket.connect", "socket.getaddrinfo", "ctypes.dlopen", "webbrowser.open", "shutil.rmtree", "os.kill",
}  # fmt: skip
_CHANGES = {
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_allowed: tuple[str, ...] | None = None
_complaints: list[str] = []
_installed = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    # A run's manifest names the commit of the package's own source tree.
    if event == "subprocess.Popen" and arguments[0] == "git" and "describe" in arguments[1]:
        return
    if event in _RUNS and not (event == "shutil.rmtree" and _inside(arguments[0])):
        _complaints.append(f"{event}{arguments!r}"[:300])
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES and not _inside(arguments[0]):
        _complaints.append(f"wrote to {arguments[0]!r}")
    elif event in _CHANGES:
        # What is removed with its folder is named relative to the folder's descriptor, which comes last.
        folder = arguments[-1] if event != "os.truncate" and isinstance(arguments[-1], int) else -1
        if not all(_inside(one, folder) for one in arguments if isinstance(one, str | bytes)):
            _complaints.append(f"{event}{arguments!r}"[:300])


def _inside(path: Any, folder: int = -1) -> bool:
    if isinstance(path, int) or _allowed is None:
        return True
    base = f"/proc/self/fd/{folder}" if folder >= 0 else ""
    where = os.path.realpath(os.path.join(base, os.fsdecode(path)))  # noqa: PTH118
    return where.startswith(_allowed) or where == os.devnull


@contextmanager
def watched(*folders: Path) -> Iterator[None]:
    """Raises :class:`ContractError` at the end of a block that started a process, reached for the network, loaded a library, or
    wrote, moved or removed a file outside of the folders; that computed or waited too long, or took too much memory.
    """
    global _allowed, _installed
    if not _installed:
        sys.addaudithook(_watch)
        _installed = True
    _complaints.clear()
    size, started, worked = _resident(), time.monotonic(), time.process_time()
    _allowed = tuple(os.path.realpath(one) for one in folders)
    try:
        with _alarms():
            yield
    finally:
        _allowed = None
    if _complaints:
        raise ContractError(_complaints[0])
    if time.process_time() - worked > SECONDS or time.monotonic() - started > 4 * SECONDS:
        raise ContractError(f"took {time.process_time() - worked:.1f} s of computing")
    if _resident() - size > MEGABYTES:
        raise ContractError(f"took {_resident() - size:.0f} MB")


@contextmanager
def _alarms() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise ContractError(f"more than {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, late), signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_REAL, 4 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGPROF, before[1])


def _resident() -> float:
    """The largest resident size so far in MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
