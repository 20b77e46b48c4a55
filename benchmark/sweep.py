"""Several models under one suite: which, with what arguments, and in which folder each one's run goes."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import WronglungError, explain
from .safe_yaml import read_yaml


@dataclass(frozen=True)
class Entry:
    """A model of a sweep: its catalogue name or file, its arguments, and the name of its run's folder."""

    model: str
    folder: str
    arguments: dict[str, str] = field(default_factory=dict)


_Value = str | int | float | bool


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    arguments: dict[str, _Value] = {}
    each: dict[str, _Value | list[_Value]] = Field(default={}, max_length=1)


class _Sweep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: list[str | _Listed] = Field(min_length=1)


def read_sweep(file: Path) -> list[Entry]:
    """The models of a sweep file, in its order.

    ::

        models:
          - oracle
          - model: gloria
            name: epoch-10                                  # the run's folder
            arguments: {checkpoint: epoch10.safetensors}
          - model: gloria                                   # a run for each file, sorted: gloria-a, gloria-b
            each: {checkpoint: runs/train/*/best.safetensors}
          - model: biomedclip                               # a run for each value: biomedclip-gradcam, ...
            each: {method: [gradcam, chefer]}

    Relative paths, also in patterns, are relative to the working directory, as on the command line. A run of ``each`` is
    named after its value, or after the part of a file's name from the pattern's first wildcard (``*``, ``?``, ``[...]``, ``**``)
    to its last, so that files which appear later change no name.

    Raises :class:`WronglungError` for a file that is missing or is no sweep, for a pattern that matches no file, and for two
    runs of the same folder.
    """
    try:
        content: Any = read_yaml(file)
        sweep = _Sweep.model_validate(content)
    except ValidationError as error:
        raise WronglungError(f"{file}: {explain(error)}") from error
    listed = [_Listed(model=one) if isinstance(one, str) else one for one in sweep.models]
    return _distinct([entry for one in listed for entry in _entries_of(one, file)], str(file))


def _entries_of(listed: _Listed, file: Path) -> Iterator[Entry]:
    name = listed.name or listed.model
    arguments = {key: _text(value) for key, value in listed.arguments.items()}
    if not listed.each:
        yield Entry(listed.model, folder_name(name), arguments)
    for key, given in listed.each.items():
        if key in arguments:
            raise WronglungError(f"{file}: {name}: {key!r} is in `arguments` and in `each`; leave one of them out")
        for one in given if isinstance(given, list) else [given]:
            for value, label in _expanded(_text(one), f"{file}: {name}: {key}"):
                yield Entry(listed.model, folder_name(f"{name}-{label}"), {**arguments, key: value})


def _expanded(value: str, where: str) -> list[tuple[str, str]]:
    """A value, or the files that match it as a pattern, sorted; each with what tells it from the others."""
    first, last = re.search(r"[*?[]", value), re.search(r"[^]*?]*$", value)
    if first is None or last is None or first.start() >= last.start():
        return [(value, value)]
    found = sorted(glob.glob(value, recursive=True))  # noqa: PTH207 (Path knows no absolute patterns)
    if not found:
        raise WronglungError(f"{where}: no file matches {value!r}")
    before, after = value[: first.start()], last[0]
    return [(one, one.removeprefix(before).removesuffix(after) or one) for one in found]


def entries_of(models: Sequence[str]) -> list[Entry]:
    """Models by name alone. Raises :class:`WronglungError` for one that is named twice."""
    return _distinct([Entry(one, folder_name(one)) for one in models], "--model")


def folder_name(name: str) -> str:
    """A name as that of a folder: letters, digits, ``.``, ``_`` and ``-``, the last 100 of them, the first no point.

    Of a model in a Python file it is that of the file and of the class.
    """
    short = re.sub(r"^.*/(?=[^/]+\.py:)", "", name, flags=re.DOTALL)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", short)[-100:].lstrip(".") or "_"


def _distinct(entries: list[Entry], where: str) -> list[Entry]:
    twice = [folder for folder, times in Counter(one.folder.lower() for one in entries).items() if times > 1]
    if twice:
        raise WronglungError(
            f"{where}: two models would write to the folder {twice[0]!r}; give them a name each in a sweep file"
        )
    return entries


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
