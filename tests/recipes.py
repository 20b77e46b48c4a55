"""Weights and inputs made by recipe, from which the reference numbers of the original encoders were computed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def recipe_state(entries: Iterable[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """The state dict of a manifest's ``entries``: each tensor drawn from the checksum of its key."""
    entries = list(entries)
    state = {entry["key"]: _tensor(entry) for entry in entries if "tied_to" not in entry}
    tied = {entry["key"]: state[entry["tied_to"]] for entry in entries if "tied_to" in entry}
    return {entry["key"]: (state | tied)[entry["key"]] for entry in entries}


def _tensor(entry: Mapping[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, entry["dtype"])
    if entry["transform"] == "zero":
        return torch.zeros(entry["shape"], dtype=dtype)
    values = entry["shift"] + entry["scale"] * draw(entry["key"], entry["shape"])
    return torch.as_tensor(np.abs(values) if entry["transform"] == "abs" else values).to(dtype)


def draw(key: str, shape: Iterable[int]) -> npt.NDArray[np.float64]:
    """Standard normal numbers that depend on the key alone."""
    return np.asarray(np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(shape)))


def golden_manifest(folder: Path) -> dict[str, Any]:
    """The description of a folder of reference numbers."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def golden_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The reference numbers of a folder."""
    with np.load(folder / "golden.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}
