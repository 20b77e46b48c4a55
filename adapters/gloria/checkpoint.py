"""Reading GLoRIA checkpoints: released Lightning files, plain torch state dicts, and safetensors.

Nothing but tensors is taken from a file. The architecture is read from the tensors' names and shapes, never from the
configuration that may lie beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt, ValidationError
from transformers import BertConfig

from ...benchmark.errors import WronglungError
from ..files.state_dicts import Weights, load_strictly, read_state_dict
from .network import GloriaNetwork, ResNetShape, Stem
from .preprocessing import RELEASED
from .text import MAX_PIECES, BertFiles

_PREFIX = "gloria."
_BERT = "text_encoder.model."
# In released files, but without effect on any output.
_IGNORED = re.compile(
    r"text_encoder\.model\.(pooler\..*|embeddings\.(position_ids|token_type_ids))|.*\.num_batches_tracked"
)
_HEAD_SIZE = 64
"""Width of an attention head where no config.json tells their number; that of every published BERT size."""


def read_weights(path: Path) -> Weights:
    """All tensors of a checkpoint by their names in the network (``img_encoder.model.conv1.weight``, …).

    Up to and including the last "gloria." of a name is dropped, as the released loaders do. Reads and raises as
    :func:`..files.state_dicts.read_state_dict`.
    """
    if not path.is_file():
        raise WronglungError(f"checkpoint {path}: no such file; give a GLoRIA checkpoint with checkpoint=PATH")
    weights: Weights = {}
    for key, tensor in read_state_dict(path).items():
        name = key.rpartition(_PREFIX)[2]
        if name in weights:
            raise WronglungError(f"checkpoint {path}: {key!r} and another key both stand for {name!r}")
        weights[name] = tensor
    return weights


class BertSettings(BaseModel):
    """What matters of a BERT's ``config.json``."""

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    intermediate_size: int | None = None
    max_position_embeddings: int | None = None
    type_vocab_size: int | None = None
    vocab_size: int | None = None
    num_attention_heads: PositiveInt | None = None
    hidden_act: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12

    @classmethod
    def read(cls, file: Path | None) -> BertSettings:
        """Those of a file; of no file, the defaults. Raises :class:`WronglungError` for a file that is none."""
        if file is None:
            return cls()
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise WronglungError(f"{file}: {where + ': ' if where else ''}{first['msg']}") from error


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the tensors of a checkpoint say about the network."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int
    dimensions: int
    vocabulary: int
    bert_layers: int
    bert_intermediate: int
    bert_positions: int
    bert_types: int
    no_attention: bool


def architecture(weights: Mapping[str, torch.Tensor], path: Path) -> Architecture:
    """Read the architecture off the tensors. ``path`` is for messages.

    Raises :class:`WronglungError` naming the key that is missing or does not fit.
    """

    def size(key: str, axis: int) -> int:
        if key not in weights:
            raise WronglungError(f"checkpoint {path}: has no {key!r}; is it a GLoRIA checkpoint with a ResNet?")
        if weights[key].ndim <= axis:
            raise WronglungError(f"checkpoint {path}: {key!r} has shape {tuple(weights[key].shape)}")
        return weights[key].shape[axis]

    def blocks(stage: int) -> int:
        size(f"img_encoder.model.layer{stage}.0.conv1.weight", 0)
        return _count(weights, rf"img_encoder\.model\.layer{stage}\.(\d+)\.")

    dimensions = size("img_encoder.global_embedder.weight", 0)
    hidden = size(f"{_BERT}embeddings.word_embeddings.weight", 1)
    if hidden != dimensions:
        raise WronglungError(
            f"checkpoint {path}: '{_BERT}embeddings.word_embeddings.weight' has {hidden} dimensions, "
            f"'img_encoder.global_embedder.weight' {dimensions}; they must agree"
        )
    positions = size(f"{_BERT}embeddings.position_embeddings.weight", 0)
    if positions < MAX_PIECES:
        raise WronglungError(
            f"checkpoint {path}: '{_BERT}embeddings.position_embeddings.weight' has {positions} positions; "
            f"captions need {MAX_PIECES}"
        )
    return Architecture(
        blocks=(blocks(1), blocks(2), blocks(3), blocks(4)),
        bottleneck="img_encoder.model.layer1.0.conv3.weight" in weights,
        width=size("img_encoder.model.conv1.weight", 0),
        dimensions=dimensions,
        vocabulary=size(f"{_BERT}embeddings.word_embeddings.weight", 0),
        bert_layers=_count(weights, rf"{re.escape(_BERT)}encoder\.layer\.(\d+)\."),
        bert_intermediate=size(f"{_BERT}encoder.layer.0.intermediate.dense.weight", 0),
        bert_positions=positions,
        bert_types=size(f"{_BERT}embeddings.token_type_embeddings.weight", 0),
        no_attention="no_attn_vec" in weights,
    )


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    return len({found[1] for key in weights if (found := re.match(pattern, key))})


def bert_config(shape: Architecture, bert: BertFiles | BertSettings, path: Path) -> BertConfig:
    """The configuration of the text tower: sizes from the checkpoint, the rest from ``config.json``.

    Only the number of heads, the activation and the layer norms' epsilon come from the file; without one they are one
    head per 64 dimensions, GELU and 1e-12, as in every published BERT. Raises :class:`WronglungError` where file and
    checkpoint disagree.
    """
    if isinstance(bert, BertSettings):
        told, source, file = bert, str(path), path
    else:
        told, source, file = BertSettings.read(bert.config), bert.source, bert.config or path
    heads = told.num_attention_heads or max(1, shape.dimensions // _HEAD_SIZE)
    if shape.dimensions % heads:
        raise WronglungError(f"{source}: {heads} attention heads do not divide {shape.dimensions} dimensions")
    config = BertConfig(
        hidden_size=shape.dimensions,
        num_hidden_layers=shape.bert_layers,
        num_attention_heads=heads,
        intermediate_size=shape.bert_intermediate,
        max_position_embeddings=shape.bert_positions,
        type_vocab_size=shape.bert_types,
        vocab_size=shape.vocabulary,
        hidden_act=told.hidden_act,
        layer_norm_eps=told.layer_norm_eps,
    )
    for key, value in told.model_dump(exclude_none=True).items():
        if getattr(config, key) != value:
            raise WronglungError(
                f"{file}: {key} is {value}, but the checkpoint {path} has {getattr(config, key)}; "
                "give the BERT that the checkpoint was trained with (--model-arg bert=FOLDER)"
            )
    return config


def build_network(
    weights: Mapping[str, torch.Tensor],
    bert: BertFiles | BertSettings,
    path: Path,
    stem: Stem = "imagenet",
    inner: int = RELEASED.inner,
) -> GloriaNetwork:
    """The network with these weights, in float32 and evaluation mode. ``path`` is for messages.

    Raises :class:`WronglungError` for keys that are missing, unexpected or of another shape.
    """
    shape = architecture(weights, path)
    resnet = ResNetShape(shape.blocks, shape.bottleneck, shape.width, stem)
    network = GloriaNetwork(resnet, shape.dimensions, bert_config(shape, bert, path), shape.no_attention, inner)
    load_strictly(
        network, weights, path, f"a GLoRIA with a {resnet.name} and BERT of {shape.dimensions} dimensions", _IGNORED
    )
    return network.eval().requires_grad_(False)
