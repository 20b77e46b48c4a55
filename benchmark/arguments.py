"""Arguments from a command line or YAML file, checked against a function's own signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from .errors import WronglungError, explain


def check_arguments(
    function: Callable[..., Any], given: Mapping[str, Any], parameters: Collection[str], where: str
) -> dict[str, Any]:
    """Values for the named parameters: the given ones converted to the annotated types, the defaults for the rest.

    Raises :class:`WronglungError`, starting with ``where``, for an unknown or missing argument and a wrong value.
    """
    hints = type_hints(function)
    signature = inspect.signature(function).parameters
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if one.default is inspect.Parameter.empty else one.default)
        for name, one in signature.items()
        if name in parameters
    }
    model = create_model("arguments", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    try:
        return dict(model(**given))
    except ValidationError as error:
        raise WronglungError(f"{where}: {explain(error)} (arguments: {', '.join(fields) or 'none'})") from error


def named_parameters(function: Callable[..., Any], kinds: Collection[Any]) -> list[str]:
    """The names of a function's parameters of the given kinds (of :class:`inspect.Parameter`)."""
    return [one.name for one in inspect.signature(function).parameters.values() if one.kind in kinds]


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotated types of a function's or class's parameters, resolved; also of one with arguments bound."""
    if isinstance(function, partial):
        function = function.func
    try:
        return get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except NameError:
        # A name that is imported for type checkers only; the function then gets what was given.
        return {}
