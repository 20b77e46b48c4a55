"""Batches that shrink when memory runs out, and a cache bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from .errors import WronglungError
from .protocol import Features

Result = TypeVar("Result")


@dataclass
class BatchSize:
    """The largest batch in use; it only ever shrinks."""

    size: int


def in_batches(
    function: Callable[[int, int], Result], count: int, batch: BatchSize
) -> Iterator[tuple[int, int, Result]]:
    """Call ``function(start, stop)`` over ``range(count)`` and yield ``(start, stop, result)``.

    When the function runs out of memory the batch size is halved for good and the batch tried again. Raises
    :class:`WronglungError` when a single item does not fit.
    """
    start = 0
    while start < count:
        stop = min(start + batch.size, count)
        try:
            result = function(start, stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch.size == 1:
                raise WronglungError(
                    "out of memory with a batch of one; use a smaller model, --dtype bfloat16, or another --device"
                ) from error
            batch.size = max(1, min(batch.size, stop - start) // 2)
        else:
            yield start, stop, result
            start = stop
            continue
        # Behind the handler: there, the traceback would still hold the tensors of the failed call.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an allocation failure on any device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


class FeatureCache:
    """The most recently used features by sentence, at most ``capacity`` bytes of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: OrderedDict[str, Features] = OrderedDict()
        self._bytes = 0

    def get(self, sentence: str) -> Features | None:
        features = self._items.get(sentence)
        if features is not None:
            self._items.move_to_end(sentence)
        return features

    def put(self, sentence: str, features: Features) -> None:
        # Rows of a batch are views that would keep the whole batch alive.
        own = Features({name: tensor.clone() for name, tensor in features.tensors.items()}, features.geometry)
        self._items[sentence] = own
        self._bytes += own.nbytes
        while self._bytes > self.capacity and len(self._items) > 1:
            _, dropped = self._items.popitem(last=False)
            self._bytes -= dropped.nbytes
