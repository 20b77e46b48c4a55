"""What a training run is: one validated configuration, put together from a size, a variant and changes to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ....benchmark.errors import WronglungError, explain
from ....benchmark.safe_yaml import parse_yaml, read_yaml
from ...networks.resnet import Stem
from ...preprocessing.greyscale import Intensity
from ..attention import TEMPERATURE_ATTENTION, LocalSimilarity, Tokens
from ..design import Pieces
from ..text import Cleaning
from .presets import Kind, preset, summaries

Share = Annotated[float, Field(ge=0, le=1)]
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSection(_Section):
    """The image encoder, and the frame that films are brought into (see ``Frame``)."""

    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    bottleneck: bool
    width: PositiveInt
    stem: Stem
    longer_side: PositiveInt
    crop: PositiveInt
    inner: PositiveInt
    intensity: Intensity = "as-is"
    weights: Path | None = None
    """A torchvision state dict of this ResNet to start from, or None for random weights."""


class TextSection(_Section):
    """The text encoder. With ``bert``, a folder or hub name, its vocabulary and sizes are those of that model."""

    bert: str | None = None
    pretrained: bool = True
    """With ``bert``: start from its weights, not only from its vocabulary and sizes."""
    layers: PositiveInt = 2
    heads: PositiveInt = 2
    intermediate: PositiveInt = 128
    dropout: Share = 0.1
    min_count: PositiveInt = 2
    """Without ``bert``: words that occur at least this often in the training sentences make the vocabulary."""
    cleaning: Cleaning
    pieces: Pieces = "sum"


class AttentionSection(_Section):
    tokens: Tokens
    """Slots that a sentence's map and the local loss are made of."""
    temp1: PositiveFloat = TEMPERATURE_ATTENTION
    centred_start: bool = False
    """Region vectors start short and without a common part, which random weights would give them."""
    no_attention: bool = False
    """A learned vector that attention may fall on instead of a region."""
    local_similarity: LocalSimilarity = "fork-eval"
    """What the trained model reports as its local similarity; has no effect on training."""


class SentencesSection(_Section):
    """Which sentence an image is paired with, and what is done to it."""

    keep: Literal["all", "abnormal"] = "all"
    pairing: Literal["own", "random"] = "own"
    """``random``: a sentence of another patient, drawn anew each time."""
    masking: Literal["none", "entities", "words"] = "none"
    """Replace clinical entities (scispaCy) or words by [MASK]."""
    probability: Share = 0.5
    """Of an entity to be masked; of the words, the share."""
    entities: Literal["auto", "umls", "radiology"] = "radiology"
    """The knowledge base that entities are linked to."""


class LossSection(_Section):
    """Weights of the terms; 0 leaves a term out."""

    local: NonNegativeFloat = 1.0
    overall: NonNegativeFloat = 1.0
    """The global contrastive loss."""
    words: Literal["sum", "mean"] = "sum"
    """How the local similarity pools the words of a sentence."""
    no_attention: NonNegativeFloat = 0.0
    entropy: NonNegativeFloat = 0.0
    divergence: NonNegativeFloat = 0.0
    segmentation: NonNegativeFloat = 0.0
    few_shot: PositiveInt = 30
    """With ``segmentation``: how many annotated instances supervise attention."""
    few_shot_batch: PositiveInt = 10
    """How many of them go with each batch."""


class OptimizerSection(_Section):
    """AdamW. The learning rate rises linearly over ``warmup`` steps, then follows ``schedule``."""

    learning_rate: PositiveFloat
    local_rate: PositiveFloat = 1.0
    """The local embedder's learning rate, as a share of ``learning_rate``. The local loss compares directions, so nothing
    but attention holds the length of region vectors: where it grows fast, the softmax over words saturates early."""
    weight_decay: NonNegativeFloat
    betas: Betas = (0.9, 0.999)
    warmup: NonNegativeInt = 0
    schedule: Literal["constant", "cosine", "plateau"]
    """``cosine``: down to 0 at the last epoch. ``plateau``: times ``factor`` after ``plateau_patience`` epochs without
    a better validation loss (torch's own schedule waits for one more)."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: PositiveInt = 5
    clip: PositiveFloat | None
    """Largest norm of the gradient."""


class AugmentationSection(_Section):
    """Random changes to a film. It is never flipped: a flip exchanges left and right."""

    shift: Share
    """Of the frame, in each direction."""
    scale: Annotated[float, Field(ge=0, lt=1)]
    rotate: Annotated[float, Field(ge=0, le=45)]
    """Degrees, in either direction."""
    brightness: NonNegativeFloat
    contrast: Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(_Section):
    variant: str
    size: str
    dimensions: PositiveInt
    image: ImageSection
    text: TextSection
    attention: AttentionSection
    sentences: SentencesSection = SentencesSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection
    augmentation: AugmentationSection
    init: Path | None = None
    """A checkpoint of the same design to start from."""
    epochs: PositiveInt
    patience: PositiveInt = 10
    """Epochs without a better validation loss before training stops."""
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: PositiveInt = 1
    """Batches whose gradients are added up before a step of the optimizer; contrasts stay within a batch."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    validation_instances: NonNegativeInt = 200
    """How many validation instances localization is measured on after an epoch; 0 leaves it out."""
    save_every: PositiveInt | None = None
    """Batches between saved states within an epoch, beside those at its end."""
    workers: NonNegativeInt = 0
    """Processes that decode films; with 0, decoded films are kept in memory."""
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if self.image.crop > self.image.longer_side:
            raise ValueError(f"image.crop {self.image.crop} is larger than image.longer_side {self.image.longer_side}")
        if self.text.bert is None and self.dimensions % self.text.heads:
            raise ValueError(f"text.heads {self.text.heads} do not divide dimensions {self.dimensions}")
        if self.loss.no_attention and not self.attention.no_attention:
            raise ValueError("loss.no_attention needs attention.no_attention: true")
        loss = self.loss
        if not any((loss.local, loss.overall, loss.no_attention, loss.entropy, loss.divergence)):
            raise ValueError(
                "loss.local, overall, no_attention, entropy and divergence are all 0: nothing is learned from sentences"
            )
        return self


def load_config(
    variant: str, size: str = "small", file: Path | None = None, changes: Iterable[str] = ()
) -> TrainingConfig:
    """The configuration of a variant at a size, changed by a YAML ``file``, then by ``changes`` ("loss.local=0.5").

    Raises :class:`WronglungError` for an unknown name, a file that is no mapping, and a bad key or value.
    """
    merged = _builtin("sizes", size)
    _merge(merged, _builtin("variants", variant))
    where = f"variant {variant!r}, size {size!r}"
    if file is not None:
        if not file.exists():
            raise WronglungError(f"{file}: no such file")
        _merge(merged, read_yaml(file))
        where = str(file)
    for change in changes:
        _merge(merged, _change(change))
    try:
        return TrainingConfig.model_validate({"variant": variant, "size": size, **merged})
    except ValidationError as error:
        raise WronglungError(f"{where}: {explain(error, whole='configuration')}") from error


def as_yaml(config: TrainingConfig) -> str:
    """The whole configuration, as a file that ``load_config`` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _builtin(kind: Kind, name: str) -> dict[str, Any]:
    try:
        text = preset(kind, name)
    except KeyError:
        known = ", ".join(summaries(kind))
        raise WronglungError(f"unknown {kind.removesuffix('s')} {name!r}; known: {known}") from None
    content: dict[str, Any] = parse_yaml(text, f"{kind}/{name}.yaml") or {}
    return content


def _change(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise WronglungError(f"--set {text!r}: write it as KEY=VALUE, for example optimizer.learning_rate=0.001")
    tree: Any = parse_yaml(value, f"--set {text!r}: {value!r} is not a value")
    for step in reversed(key.split(".")):
        tree = {step: tree}
    changes: dict[str, Any] = tree
    return changes


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value
