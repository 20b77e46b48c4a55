"""The loops of :mod:`.kernels`, compiled by numba where it is installed and compiling them pays.

Compiling takes seconds, and is kept on disk for later processes where numba finds a folder to write to. It begins when a
process has scored :data:`AFTER` maps, which takes about as long without. ``WRONGLUNG_COMPILED=0`` forbids it, and
``WRONGLUNG_COMPILED=1`` compiles at the first map. Results are the same to the last bit either way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from math import inf
from typing import Any, NamedTuple

from . import kernels as loops

VARIABLE = "WRONGLUNG_COMPILED"
AFTER = 10_000
"""Maps."""


class Kernels(NamedTuple):
    """The functions of :mod:`.kernels`, compiled; they hold no lock of Python's while they run."""

    radix_sort: Callable[..., Any]
    positives: Callable[..., Any]
    bilinear: Callable[..., Any]


_maps = 0
_after: float = {"0": inf, "1": 0}.get(os.environ.get(VARIABLE, ""), AFTER)


def kernels(maps: int = 0) -> Kernels | None:
    """The compiled loops, or None where it has not paid to compile them yet; ``maps`` more are going to be scored."""
    global _maps
    _maps += maps
    return load() if _maps >= _after else None


@cache
def load() -> Kernels | None:
    """The compiled loops; None where numba is missing or cannot compile here."""
    try:
        from numba import njit
    except Exception:  # a numba that does not go with the installed NumPy raises more than ImportError
        return None
    for on_disk in (True, False):
        try:
            return Kernels(
                *(
                    njit(_SIGNATURES[name], nogil=True, cache=on_disk, error_model="numpy")(getattr(loops, name))
                    for name in Kernels._fields
                )
            )
        except Exception:  # noqa: S112 - no folder that the cache may be kept in, or nothing that numba can do here
            continue
    return None


_AXIS = "Tuple((i8[::1], i8[::1], f4[::1]))"
_SIGNATURES = {
    "radix_sort": [f"{key}[::1]({key}[::1], {key}[::1], i8, i8)" for key in ("u4", "u8")],
    "positives": [f"Tuple((i8, i8))({key}[::1], i8, i8, i8[::1], f8[::1])" for key in ("u4", "u8")],
    "bilinear": [f"void(f4[:, ::1], {_AXIS}, {_AXIS}, f4[:, ::1])"],
}
