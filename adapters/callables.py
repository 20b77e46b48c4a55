"""Two Python functions are a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError

from ..benchmark.errors import WronglungError, explain
from ..benchmark.protocol import LoadedImage, ModelCard
from .functions import FunctionModel, Map
from .precomputed.map_files import MAX_SIDE
from .saliency.regrid import regrid


def from_functions(
    saliency: Callable[[Image.Image, str], Any],
    score: Callable[[Image.Image, str], Any] | None = None,
    *,
    name: str,
    saliency_method: str,
    map_kind: Literal["distribution", "score"] = "score",
    grid: int | None = None,
    **card: Any,
) -> FunctionModel:
    """An alignment model from a function that makes a saliency map, and perhaps one that scores a pair.

    ``saliency(image, sentence)`` returns a 2-D array or tensor of real numbers, [rows, columns], that covers the whole image
    evenly, row 0 at the top; a higher value means a stronger alignment. The image has 8 bits a channel, in the mode of its file
    (``image.convert("RGB")`` makes them alike). Maps must all have the same numbers of rows and columns, unless ``grid`` is given:
    each is then brought to that many cells a side, at most 4096 (:func:`.saliency.regrid.regrid`). ``score(image, sentence)``
    returns one real number, the global similarity.

    With ``map_kind="distribution"`` maps must be at least 0 and are divided by their sum; with "score" they are taken as they
    are, and ``mass`` is "clip" unless something else is said. ``card`` takes the other fields of :class:`ModelCard`, such as
    ``temperature``, ``preprocessing``, ``checkpoint`` or ``pretraining_sources``.

    Raises :class:`WronglungError` for a card that is not valid and, when pairs are aligned, for what a function must not return.
    """
    card.setdefault("mass", "clip" if map_kind == "score" else "sum")
    card.setdefault("preprocessing", "whole image" if grid is None else f"whole image; maps on {grid} × {grid} cells")
    try:
        described = ModelCard(name=name, saliency_method=saliency_method, map_kind=map_kind, **card)
    except ValidationError as error:
        raise WronglungError(f"model {name!r}: {explain(error)}") from error
    if grid is not None and not 1 <= grid <= MAX_SIDE:
        raise WronglungError(f"model {name!r}: grid must be from 1 to {MAX_SIDE}, not {grid}")

    def one_map(image: LoadedImage, sentence: str) -> Map:
        where = f"model {name!r}: saliency for image {image.id} ({sentence!r})"
        array = _real(saliency(image.pixels, sentence), where)
        if array.ndim != 2 or 0 in array.shape:
            raise WronglungError(f"{where} has shape {array.shape}; return [rows, columns] that cover the whole image")
        if not np.isfinite(array).all():
            raise WronglungError(f"{where} is not finite (NaN or infinity, in float32)")
        if map_kind == "distribution" and (array.min() < 0 or not array.any()):
            raise WronglungError(f"{where} is negative somewhere or zero everywhere, which is no distribution")
        return array if grid is None else regrid(torch.from_numpy(array), grid).numpy()

    def one_score(image: LoadedImage, sentence: str) -> float:
        assert score is not None
        where = f"model {name!r}: score for image {image.id} ({sentence!r})"
        number = _real(score(image.pixels, sentence), where)
        if number.size != 1 or not math.isfinite(number.item()):
            raise WronglungError(f"{where} is not one finite number")
        return float(number.item())

    return FunctionModel(described, one_map, None if score is None else one_score)


def _real(value: Any, where: str) -> Map:
    """What a function returned as float32 of its own shape, not sharing memory with it."""
    array = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise WronglungError(f"{where} is {type(value).__name__}, not real numbers")
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32)
