"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ...benchmark.errors import WronglungError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; see :func:`write_whole`."""
    write_whole(path, lambda stream: stream.write(content))


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let ``fill`` write into a file beside ``path`` and move it there in one step.

    Raises :class:`WronglungError` when the file system refuses; nothing is left then.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            fill(stream)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__ or error
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause).splitlines()[0]
        raise WronglungError(f"{path}: cannot be written: {reason}") from error
