"""Weights that training starts from: a ResNet, a BERT, or another GLoRIA checkpoint.

Whatever does not fit is refused; nothing is left at random unseen.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import BertModel

from ....benchmark.errors import WronglungError, first_line
from ...files.transformers_format import silent
from ...networks.resnet import ResNetShape
from ..checkpoint import read_weights
from ..design import read_design
from ..network import GloriaNetwork
from ..text import BertFiles, find_bert


def bert_files(bert: str) -> BertFiles:
    """The vocabulary and configuration of ``text.bert``. Raises :class:`WronglungError` where they are not found."""
    try:
        return find_bert(bert)
    except WronglungError as error:
        if Path(bert).expanduser().is_dir():
            raise
        raise WronglungError(
            f"text.bert {bert!r} is no folder, not in the local cache, and cannot be downloaded: put vocab.txt, "
            "config.json and model.safetensors of a BERT model into a folder and give it with --set text.bert=FOLDER"
        ) from error


def load_resnet(network: GloriaNetwork, shape: ResNetShape, path: Path) -> None:
    """A torchvision state dict; its classifier is left out."""
    weights = {key: value for key, value in _read("image.weights", path).items() if not key.startswith("fc.")}
    _fit(network.img_encoder.model, weights, f"image.weights {path}", f"a {shape.name} of width {shape.width}")


def load_bert(network: GloriaNetwork, bert: str) -> None:
    """The weights of a folder or of a model on the Hugging Face hub; its pooler and heads are left out."""
    where, model = f"text.bert {bert!r}", network.text_encoder.model
    pretrained: Any = BertModel.from_pretrained
    try:
        with silent():
            source, found = pretrained(
                str(Path(bert).expanduser()) if Path(bert).expanduser().is_dir() else bert,
                config=model.config,
                add_pooling_layer=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise WronglungError(
            f"{where}: its weights cannot be loaded ({first_line(error)}); give a "
            "folder with model.safetensors, or text.pretrained=false to start from random weights"
        ) from error
    for key, given, needed in sorted(found["mismatched_keys"]):
        why = "vocab.txt" if "word_embeddings" in key else "config.json"
        raise WronglungError(
            f"{where}: its weights have {key!r} of shape {tuple(given)}, its {why} says {tuple(needed)}; "
            "give the files of one model"
        )
    for key in sorted(found["missing_keys"]):
        raise WronglungError(f"{where}: its weights have no {key!r}, which its config.json asks for")
    model.load_state_dict(source.state_dict())


def load_checkpoint(network: GloriaNetwork, path: Path) -> None:
    """Another checkpoint's weights. A no-attention vector that it lacks keeps its random start."""
    known = network.state_dict().keys()
    weights = {key: value for key, value in _read("init", path).items() if key in known}
    _fit(network, weights, f"init {path}", "this configuration", optional=lambda key: key == "no_attn_vec")


def vocabulary_of(path: Path) -> bytes | None:
    """The vocabulary that a checkpoint carries; None for one that was not trained here."""
    _read_check("init", path)
    found = read_design(path)
    return None if found is None else found[1]


def _read(what: str, path: Path) -> dict[str, torch.Tensor]:
    _read_check(what, path)
    return read_weights(path)


def _read_check(what: str, path: Path) -> None:
    if not path.is_file():
        raise WronglungError(f"{what} {path}: no such file")


def _fit(
    module: nn.Module,
    weights: Mapping[str, torch.Tensor],
    where: str,
    need: str,
    optional: Callable[[str], bool] = lambda key: False,
) -> None:
    state = module.state_dict()
    for key, own in state.items():
        if key not in weights:
            if not optional(key) and not key.endswith("num_batches_tracked"):
                raise WronglungError(f"{where}: has no {key!r}; it must be of the same design as {need}")
        elif weights[key].shape != own.shape:
            raise WronglungError(
                f"{where}: {key!r} has shape {tuple(weights[key].shape)}, {need} needs {tuple(own.shape)}; it must be "
                "of the same design"
            )
    for key in weights.keys() - state.keys():
        raise WronglungError(f"{where}: {key!r} is unknown to {need}; it must be of the same design")
    module.load_state_dict(dict(weights), strict=False)
