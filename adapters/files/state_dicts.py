"""Reading the tensors of checkpoints: torch files of any age and safetensors, whatever else lies in them.

Nothing but tensors is taken from a file, and nothing that it names is imported or called except what makes up a tensor.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import nn

from ...benchmark.errors import WronglungError, first_line
from .inert_pickle import DTYPES, Inert, InertFile, InertTensor, StoredTensor

Weights = dict[str, torch.Tensor]

CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Where training frameworks put a state dict beside other things; the first that holds a mapping is taken."""

_NOT_READ = "a tensor of a kind that is not read: sparse, quantised, complex, on the meta device, or of a rare dtype"


def file_digest(*paths: Path) -> str:
    """SHA-256 in hexadecimal: of a file, or of the digests of several, in their order."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(one.digest() for one in digests)).hexdigest()


def container(content: Mapping[Any, Any]) -> str | None:
    """Which of :data:`CONTAINERS` holds the state dict; none where ``content`` is it."""
    return next((name for name in CONTAINERS if isinstance(content.get(name), dict)), None)


def read_state_dict(path: Path) -> Weights:
    """All tensors of a checkpoint by name: what lies under one of :data:`CONTAINERS`, or the whole.

    They are dense, of one of :data:`.inert_pickle.DTYPES`, and take no more memory than the file holds for them.

    Raises :class:`WronglungError` for a file that is missing, damaged, of another format, or without a state dict, and
    by its name for anything in it that is no such tensor.
    """
    if path.is_dir():
        raise WronglungError(f"checkpoint {path}: is a folder; give the file in it")
    if not path.is_file():
        raise WronglungError(f"checkpoint {path}: no such file")
    read = {"safetensors": _from_safetensors, "zip": _from_zip, "legacy": _from_legacy}[file_format(path)]
    return read(path)


def file_format(path: Path) -> Literal["safetensors", "zip", "legacy"]:
    """The format of a checkpoint: safetensors, torch's zip format, or torch's from before version 1.6.

    Raises :class:`WronglungError` for a file that begins as none of them.
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    # First, as a safetensors file begins with the length of its header, and a number may look like the start of the others.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"PK"):
        return "zip"
    if head.startswith(b"\x80"):
        return "legacy"
    if head[8:9] == b"{":  # cut short
        return "safetensors"
    raise WronglungError(f"checkpoint {path}: is neither a torch file nor safetensors")


def load_strictly(
    module: nn.Module,
    weights: Mapping[str, torch.Tensor],
    path: Path,
    what: str,
    ignored: re.Pattern[str] | None = None,
) -> None:
    """Put a checkpoint's tensors into a module, as float32; ``path`` and ``what`` (is built) are for messages.

    Tensors whose whole name ``ignored`` matches may be missing, or be in the file without a place. Raises
    :class:`WronglungError` naming the keys that are missing and unknown, and the shapes that differ.
    """

    def counted(names: Iterable[str]) -> set[str]:
        return {name for name in names if ignored is None or not ignored.fullmatch(name)}

    own = module.state_dict()
    expected, given = counted(own), counted(weights)
    problems = []
    for problem, keys in (("has no", expected - given), ("has an unknown", given - expected)):
        if keys:
            first, *others = sorted(keys)
            problems.append(f"{problem} {first!r}" + (f" (and {len(others)} more)" if others else ""))
    if problems:
        raise WronglungError(f"checkpoint {path}: {' and '.join(problems)} for {what}")
    for key in sorted(expected):
        if weights[key].shape != own[key].shape:
            raise WronglungError(
                f"checkpoint {path}: {key!r} has shape {tuple(weights[key].shape)}, {what} needs {tuple(own[key].shape)}"
            )
    fitting = {key: weights[key].float() if weights[key].is_floating_point() else weights[key] for key in expected}
    module.load_state_dict(fitting, strict=False)


def _from_safetensors(path: Path) -> Weights:
    try:
        tensors: Weights = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise WronglungError(f"checkpoint {path}: is damaged or truncated ({error})") from error
    return _state_dict(tensors, torch.Tensor, path)


def _from_zip(path: Path) -> Weights:
    try:
        with zipfile.ZipFile(path) as archive:
            # Mapped, compressed bytes would be taken for weights.
            compressed = next((one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED), None)
    except Exception as error:  # zipfile reports a damaged archive in many ways
        raise WronglungError(f"checkpoint {path}: is damaged or truncated ({first_line(error)})") from error
    if compressed:
        raise WronglungError(
            f"checkpoint {path}: {compressed.filename} in it is compressed, as nothing is in a torch file; is it an archive "
            "that holds the checkpoint?"
        )
    try:
        # Asked first: when torch.load meets a long name that it does not know, it takes minutes to say so.
        if torch.serialization.get_unsafe_globals_in_checkpoint(str(path)):
            return _from_inert(path)
        # Mapped, so that optimizer states in the file cost no memory.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        return _from_inert(path)
    except Exception as error:  # torch reports a damaged archive in many ways
        if "torchscript" in str(error).lower():
            raise WronglungError(
                f"checkpoint {path}: is a TorchScript archive, which holds code; use the same weights as a state dict or "
                "safetensors"
            ) from error
        raise WronglungError(f"checkpoint {path}: is damaged or truncated ({first_line(error)})") from error
    return _state_dict(content, torch.Tensor, path)


def _from_inert(path: Path) -> Weights:
    try:
        with closing(InertFile(path)) as file:
            stored = _state_dict(file.content, StoredTensor, path)
            weights: Weights = {}
            for key, tensor in stored.items():
                try:
                    weights[key] = file.load_tensor(tensor)
                except ValueError as error:
                    raise ValueError(f"{key!r}: {error}") from error
            return weights
    except ValueError as error:
        raise WronglungError(f"checkpoint {path}: is damaged or no torch file ({error})") from error


def _from_legacy(path: Path) -> Weights:
    try:
        with _ShortLines(io.FileIO(path)) as stream:
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WronglungError(
            f"checkpoint {path}: is a bare pickle, or a torch file from before version 1.6, that holds more than "
            "tensors or is damaged, and is not unpickled; save its state dict as safetensors"
        ) from error
    return _state_dict(content, torch.Tensor, path)


class _ShortLines(io.BufferedReader):
    """A file whose lines, which in a pickle are names, are no longer than names are."""

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(_LONGEST_NAME)
        if len(line) == _LONGEST_NAME:
            raise pickle.UnpicklingError(f"a name of {_LONGEST_NAME} letters or more")
        return line


_LONGEST_NAME = 4096


def _state_dict(content: Any, kind: type, path: Path) -> dict[str, Any]:
    """The mapping of names to tensors in what a file holds."""
    if isinstance(content, dict):
        taken = container(content)
        content = content if taken is None else content[taken]
    if not isinstance(content, dict) or not content:
        raise WronglungError(f"checkpoint {path}: holds no state dict")
    entries = dict(dict.items(content))
    for key, value in entries.items():
        if not isinstance(key, str) or not isinstance(value, kind):
            if isinstance(value, InertTensor):
                raise WronglungError(f"checkpoint {path}: {key!r} is {_NOT_READ}")
            what = "an object of an unknown class" if isinstance(value, Inert) else type(value).__name__
            raise WronglungError(f"checkpoint {path}: {key!r} is {what}, not a tensor by name")
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_nested or value.is_meta or value.dtype not in DTYPES:
                raise WronglungError(f"checkpoint {path}: {key!r} is {_NOT_READ}")
            if value.numel() * value.itemsize > value.untyped_storage().nbytes():
                raise WronglungError(f"checkpoint {path}: {key!r} has more numbers than the file holds for it")
    return entries
