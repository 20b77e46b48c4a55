"""Files that are read as a whole, from strangers: regular ones, of a bounded size."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from .errors import WronglungError, first_line


def read_small(file: Any, most: int) -> bytes:
    """The bytes of a file, a path or a package's resource.

    Raises :class:`WronglungError` for one that is missing, cannot be read, is larger than ``most`` bytes, or is no regular file: a pipe
    would be waited for, a device never ends.
    """
    try:
        if not file.is_file():
            if isinstance(file, Path) and (file.exists() or file.is_symlink()):
                raise WronglungError(f"{file}: is not a regular file")
            raise WronglungError(f"{file}: cannot be read: {os.strerror(errno.ENOENT)}")
        with file.open("rb") as stream:
            content: bytes = stream.read(most + 1)
    except OSError as error:
        raise WronglungError(f"{file}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise WronglungError(f"{file}: is larger than {most:,} bytes, as no file of this kind is")
    return content


def parse_json(content: bytes, where: str) -> Any:
    """The value of JSON that can be printed and written again: without NaN, infinity, and halves of surrogate pairs.

    Raises :class:`WronglungError`; ``where`` is for its message.
    """
    try:
        value = json.loads(content)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise WronglungError(f"{where}: cannot be read as JSON ({first_line(error)})") from error
    return value
