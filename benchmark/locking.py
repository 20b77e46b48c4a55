"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import WronglungError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process, however that ends.

    Raises :class:`WronglungError` with what ``refusal`` says when another process holds it, and where files cannot be locked.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise WronglungError(f"{folder}: {refusal()}") from error
    except (OSError, NotImplementedError) as error:
        raise WronglungError(f"{folder / LOCK}: cannot be locked: {error}") from error
    try:
        yield
    finally:
        # While it is held, so that nobody else can have the same file. What has become of the folder meanwhile is not for here.
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()
