"""Checkpoints with foreign objects in them, as safetensors and a JSON card: ``wronglung convert-checkpoint``.

Training frameworks save configurations, callbacks and optimizers beside the weights, as objects of classes that only their
own code can make. Here no such object is made: tensors go into the one file, plain values (numbers, text, lists, mappings)
into the other, and whatever else there was is named there.
"""

from __future__ import annotations

import json
import math
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ...benchmark.errors import WronglungError
from .inert_pickle import Inert, InertFile, StoredTensor
from .state_dicts import container, file_digest, file_format, read_state_dict
from .whole_file import write_bytes

_DEEP = 20
"""Nesting beyond this is left out; a configuration has a few levels, a hostile file as many as it likes."""
_LONG = 10_000
"""Characters of text, bits of a whole number, and plain values in all, that are kept, and of what is left out, that are
named."""


def convert(source: Path, out: Path, *, strip: str = "", overwrite: bool = False) -> Path:
    """Write a checkpoint's tensors to ``out`` (``.safetensors``) and its card to ``out`` with the suffix ``.json``.

    ``strip`` is taken off the front of every name that begins with it (``model.``, ``gloria.``); if any does, tensors
    whose names do not are left out and listed in the card. Returns the card's path. Neither file is left half written.

    Raises :class:`WronglungError` for what :func:`.state_dicts.read_state_dict` refuses, an ``out`` of another suffix or
    that exists, and for a ``strip`` that no name begins with.
    """
    if out.suffix != ".safetensors":
        raise WronglungError(f"{out}: give a name that ends in .safetensors")
    card = out.with_suffix(".json")
    for path in (out, card):
        if path.exists() and not overwrite:
            raise WronglungError(f"{path}: exists; choose another name, or --overwrite")
    weights = read_state_dict(source)
    kept = {key.removeprefix(strip): tensor for key, tensor in weights.items() if key.startswith(strip)}
    if not kept:
        raise WronglungError(f"{source}: no tensor's name begins with {strip!r}; the first is {next(iter(weights))!r}")
    for key in kept:
        if key == "__metadata__" or any("\ud800" <= character <= "\udfff" for character in key):
            raise WronglungError(f"{source}: {key!r} cannot be the name of a tensor in a safetensors file")
    values, left_out = _beside(source)
    left_out += [{"at": key, "what": "tensor"} for key in weights if not key.startswith(strip)]
    out.parent.mkdir(parents=True, exist_ok=True)
    description = {
        "source": {"file": source.name, "sha256": file_digest(source), "bytes": source.stat().st_size},
        "tensors": len(kept),
        "numbers": sum(tensor.numel() for tensor in kept.values()),
        "stripped": strip,
        "values": values,
        "left_out": left_out,
        "wronglung": version("wronglung"),
    }
    # Tensors that share memory are written apart: safetensors knows no sharing.
    apart = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in kept.items()}
    described = (json.dumps(description, indent=1) + "\n").encode()
    write_bytes(out, save(apart))
    write_bytes(card, described)
    return card


def _beside(source: Path) -> tuple[Any, list[dict[str, str]]]:
    """The plain values beside a torch file's tensors, and where something else was."""
    if file_format(source) != "zip":
        return {}, []
    try:
        with closing(InertFile(source)) as file:
            content = file.content
    except ValueError as error:
        raise WronglungError(f"checkpoint {source}: what is beside its tensors cannot be read ({error})") from error
    if isinstance(content, dict):
        taken = container(content)
        content = {key: value for key, value in dict.items(content) if key != taken}
    plain = _Plain()
    kept = plain.of(content, "")
    return {} if kept is _NOTHING else kept, plain.left_out


class _Plain:
    """Plain values of what a file holds; ``left_out`` says where anything else was."""

    def __init__(self) -> None:
        self.left_out: list[dict[str, str]] = []
        self._values = 0

    def of(self, value: Any, at: str, depth: int = 0) -> Any:
        self._values += 1
        if value is None or (isinstance(value, int) and value.bit_length() <= _LONG):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return value[:_LONG]
        room = depth < _DEEP and self._values < _LONG
        if room and isinstance(value, dict):
            kept = {}
            for key, one in dict.items(value):
                name = self.of(key, at, _DEEP)
                if name is not _NOTHING:
                    kept[str(name)] = self.of(one, f"{at}.{name}" if at else str(name), depth + 1)
            return {name: one for name, one in kept.items() if one is not _NOTHING}
        if room and isinstance(value, list | tuple | set | frozenset):
            listed = [self.of(one, f"{at}[{index}]", depth + 1) for index, one in enumerate(value)]
            return [one for one in listed if one is not _NOTHING]
        if not isinstance(value, StoredTensor) and len(self.left_out) < _LONG:
            what = value.origin if isinstance(value, Inert) else type(value).__name__
            self.left_out.append({"at": at[:_LONG], "what": what})
        return _NOTHING


_NOTHING = object()
