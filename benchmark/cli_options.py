"""Options that several verbs of the command line share, and what becomes of their values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import WronglungError

if TYPE_CHECKING:
    from .instances import Dataset

ModelArgs = Annotated[
    list[str] | None, typer.Option("--model-arg", metavar="KEY=VALUE", help="An argument of the model; repeatable.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto (float32), float32, bfloat16 or float16.")]
BatchSize = Annotated[str, typer.Option(help="A number, or auto; halved when memory runs out.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random draws and of the intervals.")]
Name = Annotated[
    str, typer.Option("--dataset", "-d", help="A name from `wronglung list datasets`, such as phantom or phantom:128.")
]
DataRoot = Annotated[Path | None, typer.Option(help="The dataset's folder or file; phantom needs none.")]
DataArgs = Annotated[
    list[str] | None, typer.Option("--data-arg", metavar="KEY=VALUE", help="An argument of the reader; repeatable.")
]
Split = Annotated[str | None, typer.Option(help="This split only; by default what the reader chooses.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]


def load(name: str, root: Path | None, split: str | None = None, arguments: dict[str, str] | None = None) -> Dataset:
    """The dataset that the options name."""
    from .datasets import load_dataset

    return load_dataset(name, root, split=split, **(arguments or {}))


def pairs(values: list[str] | None, option: str = "--model-arg") -> dict[str, str]:
    """KEY=VALUE options as a mapping. Raises :class:`WronglungError` for one without "="."""
    arguments = {}
    for value in values or []:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise WronglungError(f"{option} {value!r}: write it as KEY=VALUE")
        arguments[key.replace("-", "_")] = text
    return arguments


def shows_progress(quiet: bool) -> bool:
    """Whether to draw progress bars: not into a file, and not when asked to be quiet."""
    return not quiet and sys.stderr.isatty()
