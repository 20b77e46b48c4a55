"""Rows of images, computed here or in other processes while the model goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeAlias

import torch

from .errors import WronglungError
from .rows import ImageAnswers, Row, Scoring

Scored: TypeAlias = tuple[list[Row], float]
"""The rows of an image, and the seconds that they took."""

Scorer: TypeAlias = Callable[[Scoring, ImageAnswers], Callable[[], Scored]]
"""Takes answers, and gives a function that waits for their rows."""

WORTH_IT = 5_000
"""Rows from which on other processes, which take seconds to start, are faster by default."""


def default_scoring_workers(rows: int, own_metrics: bool) -> int:
    """How many processes score by default: none for a short run, nor where metrics of another package, which another
    process may not find, are asked for; else one a processor, at most 8, shared by the launcher's processes of this machine.
    """
    processors = os.cpu_count() or 1
    if rows < WORTH_IT or own_metrics or processors == 1:
        return 0
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return min(8, processors // (int(local) if local.isdecimal() and int(local) else 1))


@contextmanager
def scorer(workers: int) -> Iterator[Scorer]:
    """Score in this process if ``workers`` is 0, else in so many others.

    The rows are the same. Waiting for rows raises :class:`WronglungError` when a process has died, and whatever scoring
    raises. The processes end with this one, however it ends.
    """
    if workers == 0:
        yield lambda scoring, answers: _done(_score(scoring, answers))
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start)
    try:

        def submit(scoring: Scoring, answers: ImageAnswers) -> Callable[[], Scored]:
            try:
                with _uninterrupted():
                    future = pool.submit(_score, scoring, answers)
            except BrokenProcessPool as error:
                raise _died() from error

            def result() -> Scored:
                try:
                    return future.result()
                except BrokenProcessPool as error:
                    raise _died() from error

            return result

        yield submit
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold an interrupt back, in this thread and, from its very start, in a process that is started meanwhile."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    from multiprocessing import resource_tracker

    # Started otherwise with the first process, it would let interrupts through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _died() -> WronglungError:
    return WronglungError(
        "a process that scores maps has died (killed, perhaps for memory); what is finished is kept, and --resume goes on "
        "with it; --scoring-workers 0 scores without other processes"
    )


def _done(scored: Scored) -> Callable[[], Scored]:
    return lambda: scored


def _score(scoring: Scoring, answers: ImageAnswers) -> Scored:
    """On one thread: scoring is made of many small operations, for which more threads wait for each other most of the time."""
    threads = torch.get_num_threads()
    start = time.perf_counter()
    torch.set_num_threads(1)
    try:
        return scoring.rows(answers), time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)


def _start() -> None:
    # An interrupt is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
