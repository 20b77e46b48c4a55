"""Reading GLoRIA checkpoints: released Lightning files, plain torch state dicts, and safetensors.

Nothing but tensors is taken from a file. The architecture is read from the tensors' names and shapes, never from the
configuration that may lie beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...benchmark.errors import WronglungError
from ..files.state_dicts import Weights, load_strictly, read_state_dict
from ..networks.bert import BertSettings, bert_config
from ..networks.resnet import ResNetShape, Stem
from .network import GloriaNetwork
from .preprocessing import RELEASED
from .text import MAX_PIECES, BertFiles

_PREFIX = "gloria."
_BERT = "text_encoder.model."
# In released files, but without effect on any output.
_IGNORED = re.compile(
    r"text_encoder\.model\.(pooler\..*|embeddings\.(position_ids|token_type_ids))|.*\.num_batches_tracked"
)


def read_weights(path: Path) -> Weights:
    """All tensors of a checkpoint by their names in the network (``img_encoder.model.conv1.weight``, …).

    Up to and including the last "gloria." of a name is dropped, as the released loaders do. Reads and raises as
    :func:`..files.state_dicts.read_state_dict`.
    """
    if not path.exists():
        raise WronglungError(f"checkpoint {path}: no such file; give a GLoRIA checkpoint with checkpoint=PATH")
    weights: Weights = {}
    for key, tensor in read_state_dict(path).items():
        name = key.rpartition(_PREFIX)[2]
        if name in weights:
            raise WronglungError(f"checkpoint {path}: {key!r} and another key both stand for {name!r}")
        weights[name] = tensor
    return weights


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the tensors of a checkpoint say about the network."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int
    dimensions: int
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
        no_attention="no_attn_vec" in weights,
    )


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    return len({found[1] for key in weights if (found := re.match(pattern, key))})


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
    config = bert_config(weights, _BERT, bert if isinstance(bert, BertSettings) else bert.config, path)
    resnet = ResNetShape(shape.blocks, shape.bottleneck, shape.width, stem)
    network = GloriaNetwork(resnet, shape.dimensions, config, shape.no_attention, inner)
    load_strictly(
        network, weights, path, f"a GLoRIA with a {resnet.name} and BERT of {shape.dimensions} dimensions", _IGNORED
    )
    return network.eval().requires_grad_(False)
