"""The GLoRIA variants that ship with the package: small networks trained on phantom, in ``phantom/`` beside this file.

A variant is ``<variant>.safetensors`` (float16) and its card ``<variant>.json``: how it was trained, on what, and with
which result. ``make checkpoints`` trains and writes them anew.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal, get_args

import torch

from ...benchmark.errors import WronglungError
from .adapter import Gloria, load

Variant = Literal["retrained", "abnormal", "masking", "random-sentences", "no-attention", "word-masking"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
FOLDER = "phantom"
PREFIX = "gloria-phantom-"


def load_shipped(variant: Variant, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """A shipped variant as a dual encoder for films of phantom's kind; ``dtype`` is what both encoders compute in.

    Raises :class:`WronglungError` when the checkpoint is not part of this installation.
    """
    name = f"{PREFIX}{variant}"
    resource = files(__package__).joinpath(FOLDER, f"{variant}.safetensors")
    if not resource.is_file():
        raise WronglungError(
            f"model {name!r}: its checkpoint {FOLDER}/{variant}.safetensors is not part of this installation; "
            "`make checkpoints` in the source tree trains the shipped variants"
        )
    with as_file(resource) as path:
        return load(path, name=name, device=device, dtype=dtype)


def retrained(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """GLoRIA as its authors train it, on phantom's training films."""
    return load_shipped("retrained", device, dtype)


def abnormal(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """Trained on sentences with an abnormal finding only."""
    return load_shipped("abnormal", device, dtype)


def masking(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """Trained on sentences whose clinical entities are masked at random."""
    return load_shipped("masking", device, dtype)


def random_sentences(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """Trained on sentences of other patients: what it knows of text and image has nothing to do with each other."""
    return load_shipped("random-sentences", device, dtype)


def no_attention(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """Trained with a learned vector that attention may fall on instead of a region."""
    return load_shipped("no-attention", device, dtype)


def word_masking(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Gloria:
    """Trained on sentences of which words are masked, whatever they are."""
    return load_shipped("word-masking", device, dtype)
