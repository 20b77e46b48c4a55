"""The sizes and variants that come with the package: YAML files whose first line says what they are."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

Kind = Literal["variants", "sizes"]


def summaries(kind: Kind) -> dict[str, str]:
    """Names, in alphabetical order, and what each is."""
    return {name: text.splitlines()[0].removeprefix("# ") for name, text in _texts(kind).items()}


def preset(kind: Kind, name: str) -> str:
    """The YAML of a name; raises ``KeyError`` for an unknown one."""
    return _texts(kind)[name]


def _texts(kind: Kind) -> dict[str, str]:
    folder = files(__package__).joinpath(kind)
    found = sorted(one.name for one in folder.iterdir() if one.name.endswith(".yaml"))
    return {name.removesuffix(".yaml"): folder.joinpath(name).read_text(encoding="utf-8") for name in found}
