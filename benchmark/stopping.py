"""Commands that are stopped politely: Ctrl-C, and SIGTERM, which is how batch systems end a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled as an interrupt is."""


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Let SIGTERM unwind a command as Ctrl-C does, and say what is kept.

    ``kept`` is one line for standard error. The exit code is then 143 after SIGTERM and 130 after Ctrl-C. Elsewhere than in the
    main thread, which alone is told of signals, nothing changes.
    """

    def terminate(*_: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(f"wronglung: {kept}", err=True)
        if isinstance(stop, Terminated):
            typer.echo("wronglung: terminated", err=True)
            raise typer.Exit(143) from stop
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
