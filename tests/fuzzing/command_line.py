"""The command line in this process, with what it promises its user."""

from __future__ import annotations

import contextlib
import io
import sys

from wronglung.benchmark import cli
from wronglung.benchmark.errors import WronglungError

from .guard import ContractError


def run(*arguments: object) -> str:
    """What a command prints, where it ends with 0 or 1.

    Raises :class:`WronglungError` with its message where it ends with 2, and :class:`ContractError` for any other end, a message that
    is not one line, and a character that a terminal would obey.
    """
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["wronglung", *map(str, arguments)]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = before
    printed, said = out.getvalue(), err.getvalue()
    if code not in (0, 1, 2):
        raise ContractError(f"exit code {code}: {said}")
    if "Traceback" in printed + said:
        raise ContractError(f"a traceback at the user: {said}")
    for character in printed + said:
        if not character.isprintable() and character not in "\n\t\r" and ord(character) < 0xA0:
            raise ContractError(f"{character!r} goes to the terminal")
    if code == 2:
        if not said.strip() or (said.startswith("wronglung: ") and said.count("\n") != 1):
            raise ContractError(f"not one line: {said!r}")
        raise WronglungError(said.strip())
    return printed
