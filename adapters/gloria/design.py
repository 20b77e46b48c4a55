"""A checkpoint that was trained here: safetensors that carry all that is needed to use them.

The released checkpoints leave their preprocessing, tokens and vocabulary to the reader. Ours hold, in the file's
metadata, a :class:`Design` (JSON) and the vocabulary, so that one file is a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from ...benchmark.errors import WronglungError, explain
from ...benchmark.schema_version import check_version
from ...benchmark.small_file import parse_json
from ..files.whole_file import write_bytes
from ..networks.bert import BertSettings
from ..networks.resnet import Stem
from ..preprocessing.greyscale import Intensity
from .attention import TEMPERATURE_ATTENTION, LocalSimilarity, Tokens
from .preprocessing import RELEASED, Frame
from .text import Cleaning

METADATA = "wronglung-gloria"
"""The key of the design and the vocabulary among a file's metadata."""

VERSION = 1
"""Of designs, which is not written as long as it is the first."""

Pieces = Literal["sum", "mean"]
"""How the pieces of a word become one vector. ``sum`` is the released code's: words of many pieces weigh more."""


class Design(BaseModel):
    """How a network was built and trained, as far as its tensors do not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    longer_side: PositiveInt = Field(default=RELEASED.longer_side, le=4096)
    crop: PositiveInt = Field(default=RELEASED.crop, le=4096)
    inner: PositiveInt = Field(default=RELEASED.inner, le=4096)
    stem: Stem = "imagenet"
    heads: PositiveInt | None = None
    hidden_act: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12
    cleaning: Cleaning = "released"
    tokens: Tokens = "cls+words"
    pieces: Pieces = "sum"
    intensity: Intensity = "as-is"
    local_similarity: LocalSimilarity = "fork-eval"
    temp1: PositiveFloat = TEMPERATURE_ATTENTION
    trained_on: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _crop_fits(self) -> Design:
        if self.crop > self.longer_side:
            raise ValueError(f"crop {self.crop} is larger than longer_side {self.longer_side}")
        return self

    @property
    def frame(self) -> Frame:
        return Frame(self.longer_side, self.crop, self.inner)

    @property
    def bert(self) -> BertSettings:
        return BertSettings(
            num_attention_heads=self.heads, hidden_act=self.hidden_act, layer_norm_eps=self.layer_norm_eps
        )


def write_checkpoint(
    path: Path, weights: Mapping[str, torch.Tensor], design: Design, vocabulary: bytes, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint, whole or not at all; floating-point tensors in ``dtype`` where one is given.

    Equal weights give equal bytes. Raises :class:`WronglungError` when the file cannot be written.
    """
    state = {
        key: (tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor).contiguous().cpu()
        for key, tensor in weights.items()
    }
    # One key: the order of several differs from call to call.
    own = {
        "design": design.model_dump(mode="json", exclude_defaults=True),
        "vocabulary": vocabulary.decode("utf-8"),
    }
    write_bytes(path, safetensors.torch.save(state, {METADATA: json.dumps(own)}))


def read_design(path: Path) -> tuple[Design, bytes] | None:
    """The design and the vocabulary in a checkpoint, or None for one that was not trained here.

    Raises :class:`WronglungError` for a design that is damaged or of a later version.
    """
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size < 9 or stream.read(9)[8:] != b"{":
            return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise WronglungError(f"checkpoint {path}: is damaged or truncated ({error})") from error
    if METADATA not in metadata:
        return None
    where = f"checkpoint {path}: its {METADATA} metadata"
    raw = parse_json(metadata[METADATA].encode(errors="surrogatepass"), where)
    if isinstance(raw, dict) and isinstance(raw.get("design"), dict):
        check_version(raw["design"].get("version", VERSION), VERSION, where)
    try:
        own = _Metadata.model_validate(raw)
    except ValidationError as error:
        raise WronglungError(f"{where} is not valid: {explain(error)}") from error
    return own.design, own.vocabulary.encode()


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="forbid")

    design: Design
    vocabulary: str
