"""Errors whose message is written for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class WronglungError(Exception):
    """Bad input or a refused request; the message names the place and the fix.

    The command line prints the message alone and exits with 2.
    """


_PLAIN = {"extra_forbidden": "unknown key", "missing": "is missing"}


def explain(error: ValidationError, whole: str = "") -> str:
    """All complaints of a validation in one line, each with its key; ``whole`` names what has none."""
    parts = []
    for one in error.errors(include_url=False):
        key = ".".join(str(step) for step in one["loc"]) or whole
        message = _PLAIN.get(one["type"]) or one["msg"].removeprefix("Value error, ")
        parts.append(f"{key}: {message}" if key else message)
    return "; ".join(parts)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, of a length that can be read; its class where it says nothing."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


_LONGEST = 300
