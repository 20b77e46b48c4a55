"""BERT text towers of checkpoints: their configuration, their word pieces, and encoding without padding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt, ValidationError
from transformers import BertConfig, BertTokenizer

from ...benchmark.errors import WronglungError

UNUSED = r"(embeddings\.(position_ids|token_type_ids)|pooler\..*|.*\.crossattention\..*)"
"""Regular expression for tensors of a BERT that have no effect on its hidden states."""

_HEAD_SIZE = 64
"""Width of an attention head where no config.json tells their number; that of every published BERT size."""


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


def bert_config(
    weights: Mapping[str, torch.Tensor], prefix: str, settings: BertSettings | Path | None, path: Path
) -> BertConfig:
    """The configuration of the BERT whose tensors have names that begin with ``prefix``.

    Sizes come from the tensors; the number of heads, the activation and the layer norms' epsilon from ``settings`` (a
    ``config.json``), or else are those of every published BERT: one head per 64 dimensions, GELU, 1e-12. ``path``, the
    checkpoint, is for messages.

    Raises :class:`WronglungError` for a tensor that is missing, and where file and checkpoint disagree.
    """

    def size(key: str, axis: int) -> int:
        if prefix + key not in weights:
            raise WronglungError(f"checkpoint {path}: has no {prefix + key!r}; is it the checkpoint of another model?")
        shape = weights[prefix + key].shape
        if len(shape) != 2:
            raise WronglungError(f"checkpoint {path}: {prefix + key!r} has shape {tuple(shape)}; it needs two axes")
        return shape[axis]

    told = settings if isinstance(settings, BertSettings) else BertSettings.read(settings)
    source = settings if isinstance(settings, Path) else path
    hidden = size("embeddings.word_embeddings.weight", 1)
    heads = told.num_attention_heads or max(1, hidden // _HEAD_SIZE)
    if hidden % heads:
        raise WronglungError(f"{source}: {heads} attention heads do not divide {hidden} dimensions")
    layer = re.compile(rf"{re.escape(prefix)}encoder\.layer\.(\d+)\.")
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=len({found[1] for key in weights if (found := layer.match(key))}),
        num_attention_heads=heads,
        intermediate_size=size("encoder.layer.0.intermediate.dense.weight", 0),
        max_position_embeddings=size("embeddings.position_embeddings.weight", 0),
        type_vocab_size=size("embeddings.token_type_embeddings.weight", 0),
        vocab_size=size("embeddings.word_embeddings.weight", 0),
        hidden_act=told.hidden_act,
        layer_norm_eps=told.layer_norm_eps,
    )
    for key, value in told.model_dump(exclude_none=True).items():
        if getattr(config, key) != value:
            raise WronglungError(
                f"{source}: {key} is {value}, but the checkpoint {path} has {getattr(config, key)}; give the BERT "
                "that the checkpoint was trained with (--model-arg bert=FOLDER)"
            )
    return config


class WordPieces:
    """Word pieces of one vocabulary, lower-cased or not: ids between [CLS] and [SEP].

    ``vocabulary`` is a ``vocab.txt``: one piece a line, its id the line's number. ``size`` is the number of its pieces,
    ``digest`` its SHA-256. Raises :class:`WronglungError` for a vocabulary without BERT's special pieces, or of another
    size than ``expected``, which is that of the checkpoint's word vectors.
    """

    def __init__(self, vocabulary: Path, expected: int, *, lower_case: bool = True) -> None:
        content = vocabulary.read_bytes()
        pieces = content.decode("utf-8", "replace").removesuffix("\n").split("\n")
        missing = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - {piece.strip() for piece in pieces}
        if missing:
            raise WronglungError(f"{vocabulary}: is no BERT vocabulary; it has no {', '.join(sorted(missing))}")
        if len(pieces) != expected:
            raise WronglungError(
                f"{vocabulary}: has {len(pieces)} pieces, but the checkpoint has vectors for {expected}; give the "
                "vocabulary that the checkpoint was trained with"
            )
        self.size = len(pieces)
        self.digest = hashlib.sha256(content).hexdigest()
        # The file's path is given by position: its keyword differs between versions of transformers, which ignore an
        # unknown one and then know no words.
        self._tokenizer = BertTokenizer(str(vocabulary), do_lower_case=lower_case)

    def ids(self, sentence: str, limit: int) -> list[int]:
        """At most ``limit`` ids, [CLS] and [SEP] included; longer sentences are cut."""
        ids: list[int] = self._tokenizer(sentence, truncation=True, max_length=limit, padding=False)["input_ids"]
        return ids

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return list(self._tokenizer.convert_ids_to_tokens(list(ids)))


def without_padding(
    rows: Sequence[Sequence[int]], encode: Callable[[torch.Tensor], torch.Tensor]
) -> list[torch.Tensor]:
    """What ``encode`` makes of each row of ids, in their order; rows of equal length go together, as int64 [rows, ids].

    No padding is needed, so that a row's result does not depend on the length of others.
    """
    lengths: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        lengths.setdefault(len(row), []).append(index)
    encoded: dict[int, torch.Tensor] = {}
    for indices in lengths.values():
        encoded.update(zip(indices, encode(torch.tensor([rows[index] for index in indices])), strict=True))
    return [encoded[index] for index in range(len(rows))]
