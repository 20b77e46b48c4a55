"""One process or several: under a launcher, each trains on its share of every epoch.

``torchrun --nproc_per_node N -m wronglung train ...`` starts N, as does ``accelerate launch --multi_gpu
--num_processes N -m wronglung train ...``, also on CPUs with ``--device cpu``; ``accelerate launch --cpu`` starts a
single one, whatever N is. Only the launcher's environment (``WORLD_SIZE``, ``RANK``, ...) is looked at. Mixed precision
is the configuration's ``precision``, not the launcher's.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ....benchmark.errors import WronglungError
from ....benchmark.processes import world_size


@dataclass(frozen=True)
class Processes:
    """This process among ``count``: its number, and where it computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module, *, all_used: bool = True) -> nn.Module:
        """The model on its device, with gradients averaged over the processes.

        Without ``all_used``, some parameters have no part in the loss; to find them costs time.
        """
        model.to(self.device)
        if self.count == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=not all_used)

    def from_main(self, value: Any) -> Any:
        """The main process's value, in every process."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes that a launcher has started, or this one alone.

    ``device`` is "cpu", "cuda", "cuda:N" or "mps"; with several processes "cuda" is the launcher's local GPU. Raises
    :class:`WronglungError` for a device that several processes cannot share.
    """
    count = world_size()
    if count == 1:
        yield Processes(0, 1, torch.device(device))
        return
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        raise WronglungError(f"device {device!r}: several processes can train on cpu or cuda")
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    except ValueError as error:  # a variable of the environment is missing
        raise WronglungError(f"WORLD_SIZE={count}, but no launcher is there ({error}); use torchrun") from error
    try:
        with warnings.catch_warnings():
            # Filters of 1 × 1: their gradients' strides differ in name only.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield Processes(distributed.get_rank(), count, where)
        # Nobody leaves before all are done, and nothing that talks to the others outlives the group: a process that was
        # still at it would wait for one that has gone, for ever.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
