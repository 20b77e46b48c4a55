"""Networks put together under the parameter names of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ...benchmark.errors import WronglungError


def tree(parts: Mapping[str, nn.Module]) -> nn.Module:
    """A module with the parameters of ``parts``, each under its dotted name; a part may lie inside an earlier one."""
    root = nn.Module()
    for name, part in parts.items():
        *folders, last = name.split(".")
        at = root
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, nn.Module())
            at = at.get_submodule(folder)
        at.add_module(last, part)
    return root


def linear(weights: Mapping[str, torch.Tensor], name: str, path: Path) -> nn.Linear:
    """A linear layer of the sizes that the checkpoint ``path`` has under ``name``, with a bias if that has one.

    Raises :class:`WronglungError` where it has none of that name.
    """
    weight = weights.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise WronglungError(
            f"checkpoint {path}: has no matrix '{name}.weight'; is it the checkpoint of another model?"
        )
    return nn.Linear(weight.shape[1], weight.shape[0], bias=f"{name}.bias" in weights)


def released_file(weights: str, names: Sequence[str], get: str) -> Path:
    """The file that ``weights`` is, or the first of ``names`` in the folder that it is; ``get`` says how to get one.

    Raises :class:`WronglungError` where there is none.
    """
    path = Path(weights).expanduser()
    for file in [path / name for name in names] if path.is_dir() else [path]:
        if file.is_file():
            return file
    problem = f"the folder holds no {' or '.join(names)}" if path.is_dir() else "no such file or folder"
    raise WronglungError(f"weights={weights}: {problem}; {get}")
