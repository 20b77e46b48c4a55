"""From a model's name to its files: configuration, preprocessing, weights, and what its text tower needs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import open_clip
from pydantic import BaseModel, ValidationError

from ...benchmark.errors import WronglungError, explain
from ..files.hub import model_folder
from ..files.transformers_format import CONFIG, read_json
from ..preprocessing.pixels import CLIP_MEAN, CLIP_STD, Triple

OPEN_CLIP_CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""Names of the file with the vocabulary; one is enough."""
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json")
RANDOM = "random"
"""In the place of a file with weights."""


class Preprocessing(BaseModel):
    """open_clip's preprocessing, by its names; the defaults are its own."""

    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"


@dataclass(frozen=True)
class Source:
    """Where everything lies."""

    title: str
    """What the model is called: the name as given, or that of its folder or repository."""
    config: Mapping[str, Any]
    """open_clip's ``model_cfg``."""
    preprocessing: Preprocessing
    checkpoints: tuple[Path, ...]
    """Several are an ensemble, none are random weights."""
    folder: Path | None = None
    """The model's own, which may hold its tokenizer."""
    quick_gelu: bool = False
    """Whether the weights were trained with it."""


def find(model: str, weights: str | None) -> Source:
    """The files of a name, as :func:`.adapter.load` explains it: a folder, ``hf-hub:owner/name``, ``NAME`` or ``NAME/TAG``.

    Raises :class:`WronglungError` saying what is unknown or missing, and how to get it.
    """
    where = model.removeprefix("local-dir:").removeprefix("hf-hub:")
    if model.startswith("hf-hub:") or where != model or Path(where).expanduser().is_dir():
        return _of_folder(model, where, weights)
    name, _, tag = model.partition("/")
    config = open_clip.get_model_config(name)
    if config is None:
        raise WronglungError(
            f"model={model}: open_clip has no model {name!r}{_nearest(name, open_clip.list_models())}; a model on the "
            "Hugging Face hub is hf-hub:owner/name"
        )
    if not tag:
        if weights is None:
            raise WronglungError(
                f"model={model}: needs its weights: weights=FILE (for CheXzero, one of the .pt files that its authors share, or "
                f"the folder of them), or one of open_clip's tags, {_tags(name)}, as open-clip:{name}/TAG; weights={RANDOM} is "
                "for a dry run"
            )
        own_gelu = bool(config.get("quick_gelu", False))
        return Source(model, config, Preprocessing(), given_weights(weights), quick_gelu=own_gelu)
    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        raise WronglungError(f"model={model}: open_clip has no weights {tag!r} of {name}; it has {_tags(name)}")
    return Source(
        model,
        config,
        _preprocessing(known, f"model={model}"),
        (_tagged(known["hf_hub"]),) if weights is None else given_weights(weights),
        quick_gelu=bool(known.get("quick_gelu", False)),
    )


def given_weights(weights: str) -> tuple[Path, ...]:
    """The checkpoints that an argument names: a file, or a folder of the weights of one model, or of an ensemble.

    Raises :class:`WronglungError` where there is none.
    """
    if weights == RANDOM:
        return ()
    path = Path(weights).expanduser()
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise WronglungError(f"weights={weights}: no such file or folder")
    own = _first_of(path, WEIGHTS)
    found = (own,) if own else tuple(sorted(one for one in path.iterdir() if one.suffix in (".pt", ".pth")))
    if not found:
        raise WronglungError(f"weights={weights}: the folder holds no {' or '.join(WEIGHTS)}, and no .pt or .pth")
    return found


def text_config_folder(source: Source, text: str | None) -> Path | None:
    """The folder with the ``config.json`` of a text tower that transformers builds; None where open_clip builds it.

    Raises :class:`WronglungError` where it is missing.
    """
    name = text or source.config["text_cfg"].get("hf_model_name")
    if not source.config["text_cfg"].get("hf_model_name"):
        return None
    return _text_folder(str(name), [CONFIG])


def tokenizer_folder(source: Source, text: str | None) -> Path | None:
    """The folder with the tokenizer's files; None for open_clip's own byte pairs.

    Raises :class:`WronglungError` where they are missing.
    """
    config = source.config["text_cfg"]
    name = config.get("hf_tokenizer_name") or config.get("hf_model_name")
    if not name:
        return None
    if text is None and source.folder is not None and _first_of(source.folder, TOKENIZERS):
        return source.folder
    return _text_folder(text or str(name), [TOKENIZERS])


def tokenizer_file(folder: Path) -> Path:
    """The file with the vocabulary in a tokenizer's folder."""
    return _first_of(folder, TOKENIZERS) or folder / TOKENIZERS[0]


def _of_folder(model: str, where: str, weights: str | None) -> Source:
    required: list[str | tuple[str, ...]] = [OPEN_CLIP_CONFIG, *([WEIGHTS] if weights is None else [])]
    folder = model_folder(where, required, (*TOKENIZERS, *TOKENIZER_EXTRAS), argument="model")
    content = read_json(folder / OPEN_CLIP_CONFIG)
    config = content.get("model_cfg")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise WronglungError(f"{folder / OPEN_CLIP_CONFIG}: has no model_cfg with vision_cfg and text_cfg")
    return Source(
        path.resolve().name if (path := Path(where).expanduser()).is_dir() else where,
        config,
        _preprocessing(content.get("preprocess_cfg", {}), str(folder / OPEN_CLIP_CONFIG)),
        given_weights(str(folder) if weights is None else weights),
        folder,
        bool(config.get("quick_gelu", False)),
    )


def _preprocessing(content: Any, where: str) -> Preprocessing:
    try:
        return Preprocessing.model_validate(content)
    except ValidationError as error:
        raise WronglungError(f"{where}: {explain(error, 'preprocess_cfg')}") from None


def _tagged(hub: str) -> Path:
    """The file with a tag's weights; ``hub`` is "owner/name/", or that and the file's name."""
    repository, file = os.path.split(hub)
    names = (f"{Path(file).stem}.safetensors", file) if file else WEIGHTS
    folder = model_folder(repository, [names], argument="weights")
    return _first_of(folder, names) or folder / names[0]


def _text_folder(name: str, required: Sequence[str | tuple[str, ...]]) -> Path:
    return model_folder(name, required, (CONFIG, *TOKENIZERS, *TOKENIZER_EXTRAS), argument="text")


def _first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((path for name in names if (path := folder / name).is_file()), None)


def _tags(name: str) -> str:
    return ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "(none)"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
