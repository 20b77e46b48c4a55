"""Make a model from its name, on a device and in a type."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from .arguments import check_arguments, named_parameters
from .errors import WronglungError, first_line
from .processes import local_device
from .protocol import check_model
from .registry import MODELS


def load_model(name: str, /, *, device: str = "auto", dtype: str = "auto", **arguments: Any) -> Any:
    """Make the model ``name`` (a built-in name, a plug-in's, or ``path/to/file.py:Class``).

    "NAME:VALUE" is short for the first argument that it cannot do without (``open-clip:ViT-B-16/openai``). ``arguments`` are those of its factory; strings are converted to the annotated types. ``device`` is "auto" (CUDA,
    else MPS, else CPU) or a torch device, ``dtype`` "auto" (float32), "float32", "bfloat16" or "float16"; both are
    passed to factories that take them. Raises :class:`WronglungError` for an unknown name or argument, a device that
    is not there, and an object that is no alignment model.
    """
    base, short = MODELS.split(name)
    factory = MODELS.get(base)
    if not callable(factory):
        raise WronglungError(f"model {name!r}: {factory!r} is not a class or function that makes a model")
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    parameters = named_parameters(factory, named)
    own = [one for one in parameters if one not in ("device", "dtype")]
    if short is not None:
        if not own:
            raise WronglungError(f"model {base!r}: takes no arguments; leave {':' + short!r} out")
        arguments = {MODELS.first_argument(base, own): short, **arguments}
    values = check_arguments(factory, arguments, own, f"model {name!r}")
    if "device" in parameters:
        values["device"] = resolve_device(device)
    if "dtype" in parameters:
        values["dtype"] = resolve_dtype(dtype)
    try:
        model = factory(**values)
    except WronglungError:
        raise
    except (Exception, SystemExit) as error:
        raise WronglungError(f"model {name!r} cannot be made: {type(error).__name__}: {error}") from error
    check_model(model)
    if preset := MODELS.preset(base, values):
        model.card = model.card.model_copy(update={"settings": {**preset, **model.card.settings}})
    return model


def placement(name: str, device: str, dtype: str) -> dict[str, str]:
    """Where a model computes and in which type, for the manifest; one that takes neither is NumPy on the CPU."""
    parameters = inspect.signature(MODELS.get(MODELS.split(name)[0])).parameters
    return {
        "device": resolve_device(device) if "device" in parameters else "cpu",
        "dtype": str(resolve_dtype(dtype)).removeprefix("torch.") if "dtype" in parameters else "float32",
    }


def resolve_device(device: str) -> str:
    """The device to use, under a launcher of several processes this one's; raises :class:`WronglungError` for one that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return local_device("cuda")
        return "mps" if torch.backends.mps.is_available() else "cpu"
    device = local_device(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WronglungError(f"device {device!r} cannot be used here: {first_line(error)}") from error
    return device


def resolve_dtype(dtype: str) -> torch.dtype:
    """The floating-point type of the encoders."""
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype != "auto" and dtype not in types:
        raise WronglungError(f"unknown dtype {dtype!r}; known: auto, {', '.join(types)}")
    return types["float32" if dtype == "auto" else dtype]
