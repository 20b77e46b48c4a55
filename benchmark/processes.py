"""The processes that a launcher has started for one run, on this machine or on several.

``torchrun --nproc_per_node N -m wronglung run ...`` starts N; so does ``accelerate launch --num_processes N -m wronglung run ...``.
Only the launcher's environment (``WORLD_SIZE``, ``RANK``, ``MASTER_ADDR``, ...) is looked at. The processes share a file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from .errors import WronglungError

Item = TypeVar("Item")

_PATIENCE = timedelta(days=30)
"""How long one process waits for the others, which may have more work; one that dies is noticed at once."""


@dataclass(frozen=True)
class Processes:
    """This process, ``rank``, among ``count``."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of the items, every ``count``-th."""
        return items[self.rank :: self.count]

    def from_main(self, value: Item) -> Item:
        """The main process's value, in every process."""
        if self.count == 1:
            return value
        from torch import distributed

        box: list[Any] = [value]
        try:
            distributed.broadcast_object_list(box, src=0)
        except RuntimeError as error:
            raise _gone() from error
        self._let_all_receive()
        received: Item = box[0]
        return received

    def gathered(self, value: Item) -> list[Item]:
        """Each process's value, by rank, in every process. Raises :class:`WronglungError` when one of them is gone."""
        if self.count == 1:
            return [value]
        from torch import distributed

        box: list[Any] = [None] * self.count
        try:
            distributed.all_gather_object(box, value)
        except RuntimeError as error:
            raise _gone() from error
        self._let_all_receive()
        return box

    @staticmethod
    def _let_all_receive() -> None:
        """A process that ends cuts off those that are receiving still; so nobody goes on before all are through. If one has died
        since, the next exchange says so."""
        from torch import distributed

        with suppress(RuntimeError):
            distributed.barrier()

    def wait(self) -> None:
        """Wait until all processes are here. Raises :class:`WronglungError` when one of them is gone."""
        if self.count == 1:
            return
        from torch import distributed

        try:
            distributed.barrier()
        except RuntimeError as error:
            raise _gone() from error


ALONE = Processes()


def _gone() -> WronglungError:
    return WronglungError(
        "another process of this run has stopped or cannot be reached; what is finished is kept in the run's folder: start "
        "all processes again with --resume"
    )


def world_size() -> int:
    """How many processes a launcher has started. Raises :class:`WronglungError` for a WORLD_SIZE that is no such number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise WronglungError(f"WORLD_SIZE={text!r}: must be a number of processes; launchers set it")
    return int(text)


def local_device(device: str) -> str:
    """The device of this process: under a launcher of several, "cuda" is the one with its local rank, counted round where there
    are fewer."""
    if device == "cuda" and world_size() > 1:
        import torch

        local = os.environ.get("LOCAL_RANK", "0")
        return f"cuda:{(int(local) if local.isdecimal() else 0) % max(1, torch.cuda.device_count())}"
    return device


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that a launcher has started, or this one alone.

    They talk through gloo, also where the models compute on GPUs: nothing but a few names is exchanged. Raises
    :class:`WronglungError` where WORLD_SIZE says that there are several and no launcher is there.
    """
    count = world_size()
    if count == 1:
        yield ALONE
        return
    from torch import distributed

    try:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    except ValueError as error:  # a variable of the environment is missing
        raise WronglungError(f"WORLD_SIZE={count}, but no launcher is there ({error}); use torchrun") from error
    except RuntimeError as error:
        raise _gone() from error
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()
