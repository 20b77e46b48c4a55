"""Several models under one suite: which, with what arguments, and in which folder each one's run goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..tasks.schema import read_yaml
from .errors import WronglungError, explain


@dataclass(frozen=True)
class Entry:
    """A model of a sweep: its catalogue name or file, its arguments, and the name of its run's folder."""

    model: str
    folder: str
    arguments: dict[str, str] = field(default_factory=dict)


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    arguments: dict[str, str | int | float | bool] = {}


class _Sweep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: list[str | _Listed] = Field(min_length=1)


def read_sweep(file: Path) -> list[Entry]:
    """The models of a sweep file.

    ::

        models:
          - oracle
          - model: gloria
            name: epoch-10                       # the run's folder
            arguments: {checkpoint: epoch10.safetensors}

    Raises :class:`WronglungError` for a file that is missing or is no sweep, and for two runs of the same folder.
    """
    try:
        content: Any = read_yaml(file)
        sweep = _Sweep.model_validate(content)
    except ValidationError as error:
        raise WronglungError(f"{file}: {explain(error)}") from error
    listed = [_Listed(model=one) if isinstance(one, str) else one for one in sweep.models]
    return _distinct(
        [
            Entry(
                one.model,
                folder_name(one.name or one.model),
                {key: _text(value) for key, value in one.arguments.items()},
            )
            for one in listed
        ],
        str(file),
    )


def entries_of(models: Sequence[str]) -> list[Entry]:
    """Models by name alone. Raises :class:`WronglungError` for one that is named twice."""
    return _distinct([Entry(one, folder_name(one)) for one in models], "--model")


def folder_name(name: str) -> str:
    """A name as that of a folder: letters, digits, ``.``, ``_`` and ``-``, at most 100, the first no point."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:100] or "_"


def _distinct(entries: list[Entry], where: str) -> list[Entry]:
    twice = [folder for folder, times in Counter(one.folder.lower() for one in entries).items() if times > 1]
    if twice:
        raise WronglungError(
            f"{where}: two models would write to the folder {twice[0]!r}; give them a name each in a sweep file"
        )
    return entries


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
