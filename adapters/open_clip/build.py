"""open_clip's classes from a configuration, with a checkpoint's weights, and their tokenizers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn
from torch.nn import functional
from transformers import AutoConfig

from ...benchmark.errors import WronglungError, first_line
from ..files.state_dicts import load_strictly, read_state_dict

Tokenizer = Callable[[Sequence[str]], torch.Tensor]
"""Sentences to ids [sentences, context length], int64."""

_OPENAI = ("input_resolution", "context_length", "vocab_size")
# Numbers that OpenAI's own files carry, and a buffer of old text towers.
_IGNORED = re.compile(rf"{'|'.join(_OPENAI)}|.*\.position_ids")
_POSITIONS = ("visual.positional_embedding", "visual.attnpool.positional_embedding")
_TOKENIZER_OPTIONS = {"clean", "strip_sep_token"}


def build(
    config: Mapping[str, Any], what: str, image_size: int | None, quick_gelu: bool, text_folder: Path | None
) -> nn.Module:
    """The model of open_clip's ``model_cfg`` with the same random weights each time, in evaluation mode.

    ``what`` it is, for messages. ``image_size`` and ``quick_gelu`` take precedence over the configuration;
    timm's transformers keep their size until :func:`set_image_size`. ``text_folder`` has the ``config.json`` of the text tower,
    where transformers builds that.

    Raises :class:`WronglungError` for a configuration that cannot be built.
    """
    own: dict[str, Any] = deepcopy({**config, "quick_gelu": quick_gelu})
    vision, text = own["vision_cfg"], own["text_cfg"]
    custom_text = own.pop("custom_text", False) or text_folder is not None
    if "multimodal_cfg" in own:
        raise WronglungError(f"{what}: models with a text decoder (CoCa) are not supported")
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if image_size is not None:
        vision["image_size"] = image_size
    if text_folder is not None:
        _check_text_class(text_folder)
        text |= {"hf_model_name": str(text_folder), "hf_model_pretrained": False}
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = kind(**own)
    except Exception as error:  # a configuration can be wrong in many ways
        raise WronglungError(f"{what}: open_clip cannot build its configuration ({first_line(error)})") from error
    return model.eval()


def load_weights(model: nn.Module, path: Path, what: str, quick_gelu: bool) -> None:
    """Put a checkpoint's weights into a model; positions are interpolated where its image size is another.

    ``quick_gelu``: whether the model was built with it. Raises :class:`WronglungError` as :func:`read_state_dict` and
    :func:`load_strictly` do, and for OpenAI's own files where it was not.
    """
    own = model.state_dict()
    state = {key.removeprefix("module."): tensor for key, tensor in read_state_dict(path).items()}
    if not quick_gelu and any(key in state for key in _OPENAI):
        raise WronglungError(f"checkpoint {path}: is OpenAI's, whose weights need quick GELU; give quick_gelu=true")
    for key in _POSITIONS:
        if key in state and key in own:
            state[key] = resized_positions(state[key], own[key])
    # Written as a number by some versions and as a vector of one by others.
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in own and state[key].numel() == 1:
            state[key] = state[key].reshape(own[key].shape)
    load_strictly(model, state, path, what, _IGNORED)


def resized_positions(positions: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Positions [1 + P, C] of the class token and a square of patches, interpolated to another square (bicubic,
    antialiased, as open_clip does)."""
    old, new = math.isqrt(len(positions) - 1), math.isqrt(len(like) - 1)
    if len(positions) == len(like) or len(positions) != old * old + 1 or len(like) != new * new + 1:
        return positions
    square = positions[1:].float().T.reshape(1, -1, old, old)
    resized = functional.interpolate(square, (new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:1].float(), resized[0].flatten(1).T])


def set_image_size(model: nn.Module, side: int) -> None:
    """Bring a transformer of timm, with its weights, to another image size; other towers have it from the start."""
    visual: Any = model.visual
    if isinstance(visual, TimmModel) and hasattr(visual.trunk, "set_input_size"):
        visual.set_input_size(side)


def frame_of(model: nn.Module, what: str) -> tuple[int, int]:
    """Height and width of the input in pixels.

    Raises :class:`WronglungError` where they are no multiples of the patch: the rest would be cut off, and the map's cells
    would not cover the frame evenly.
    """
    visual: Any = model.visual
    sides = visual.image_size
    height, width = (sides, sides) if isinstance(sides, int) else sides
    if isinstance(visual, ModifiedResNet):
        patch = 32
    elif isinstance(visual, TimmModel):
        patch = visual.trunk.feature_info[-1]["reduction"]
    else:
        patch = visual.patch_size[0]
    if height % patch or width % patch:
        raise WronglungError(
            f"{what}: an image of {height} × {width} pixels is no whole number of patches of {patch}; "
            f"give image_size={height // patch * patch}"
        )
    return height, width


def build_tokenizer(config: Mapping[str, Any], folder: Path | None, vocabulary: int, what: str) -> Tokenizer:
    """From sentences to ids, cut at and padded to the context length that the configuration says.

    ``folder`` holds the tokenizer's files; None is open_clip's own byte pairs. Raises :class:`WronglungError` for files
    that are damaged, or that know more ids than the ``vocabulary`` of the text tower.
    """
    text = config["text_cfg"]
    length = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    options = text.get("tokenizer_kwargs", {})
    if unknown := set(options) - _TOKENIZER_OPTIONS:
        raise WronglungError(f"{what}: tokenizer_kwargs has {', '.join(sorted(unknown))}, which is not supported")
    if folder is None:
        return _byte_pairs(length, **options)
    try:
        found = open_clip.tokenizer.HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # damaged files surface as anything
        raise WronglungError(f"{folder}: cannot be read as a tokenizer ({first_line(error)})") from error
    if len(found.tokenizer) > vocabulary:
        raise WronglungError(
            f"{folder}: the tokenizer has {len(found.tokenizer)} ids, but the text tower of {what} knows {vocabulary}; "
            "give the tokenizer that it was trained with (text=FOLDER)"
        )
    checked: Tokenizer = found
    return checked


@cache
def _byte_pairs(length: int, **options: Any) -> Tokenizer:
    tokenizer: Tokenizer = open_clip.SimpleTokenizer(context_length=length, **options)
    return tokenizer


def _check_text_class(folder: Path) -> None:
    try:
        AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # damaged files surface as anything
        raise WronglungError(
            f"{folder / 'config.json'}: is the configuration of no text tower that transformers has; code beside it is not "
            f"run ({first_line(error)})"
        ) from error
