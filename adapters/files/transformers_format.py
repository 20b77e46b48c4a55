"""Models as the transformers library publishes them: a folder, or a repository on the Hugging Face hub, of
configuration, weights, tokenizer and preprocessing.

Classes are chosen here and never by what is read: no code comes from a repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from ...benchmark.errors import WronglungError, first_line
from ...benchmark.small_file import parse_json, read_small
from ..preprocessing.canvas import Canvas
from ..preprocessing.pixels import CentreCrop, Pipeline, Shortest, Squash, Step, from_processor
from .hub import model_folder
from .state_dicts import load_strictly, read_state_dict

if TYPE_CHECKING:
    from transformers import PreTrainedConfig  # has another name in version 4

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PROCESSOR = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

# Buffers that old versions of the library wrote into the weights.
_IGNORED = re.compile(r".*\.position_ids")

_Model = TypeVar("_Model", bound=PreTrainedModel)


@dataclass(frozen=True)
class Published:
    """A model's files. ``source`` is what the user gave as ``weights``."""

    source: str
    folder: Path
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        return next(path for name in WEIGHTS if (path := self.folder / name).is_file())

    @property
    def name(self) -> str:
        """What the model is called: its name on the hub, or its folder's."""
        given = Path(self.source).expanduser()
        return given.resolve().name if given.is_dir() else self.source


def find(
    source: str,
    model_type: str,
    required: Sequence[str | tuple[str, ...]],
    refused: Mapping[str, str] | None = None,
) -> Published:
    """The files of a folder, or of a repository on the hub (:func:`.hub.model_folder`).

    ``required`` is what the family reads beside configuration, weights and preprocessing; ``refused`` says why some
    ``model_type`` is none of its own. Raises :class:`WronglungError` for what is missing, and for another
    ``model_type``.
    """
    folder = model_folder(source, [CONFIG, WEIGHTS, *required], [PROCESSOR], argument="weights")
    config = read_json(folder / CONFIG)
    kind = str(config.get("model_type"))
    if kind == model_type:
        return Published(source, folder, config)
    why = (refused or {}).get(kind, f"this adapter reads {model_type!r}")
    if "auto_map" in config:
        why = (
            "its class is code of the repository (auto_map), which is never run; write an adapter around that class "
            "(FILE.py:NAME), or compute its maps beforehand"
        )
    raise WronglungError(f"{folder / CONFIG}: model_type is {kind!r}; {why}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises :class:`WronglungError` for a file that holds none."""
    content = parse_json(read_small(path, _LARGEST), str(path))
    if not isinstance(content, dict):
        raise WronglungError(f"{path}: holds no JSON object")
    return content


def check_sizes(config: Any, path: Path) -> None:
    """Refuse sizes that no model has, before memory is asked for: a configuration is read from a stranger's file.

    Raises :class:`WronglungError` for more than :data:`LAYERS` layers, and for any other number beyond :data:`SIZE`.
    """
    for key, value in config.items() if isinstance(config, Mapping) else ():
        check_sizes(value, path)
        for number in value if isinstance(value, list) else [value]:
            limit = LAYERS if "layers" in str(key) else SIZE
            if isinstance(number, int) and number > limit:
                raise WronglungError(f"{path}: {key} is more than {limit:,}, which no model of this kind has")


_LARGEST = 1 << 24
"""Bytes of a configuration."""

LAYERS, SIZE = 200, 1_000_000
"""Limits to what configurations may ask for; the largest vocabulary here has 256,000 pieces."""


def build(published: Published, model_class: type[_Model]) -> _Model:
    """The model with its weights: float32, with attention computed step by step, so that its weights can be had.

    Raises :class:`WronglungError` for a configuration that makes no such model, and for weights that do not fit it.
    """
    check_sizes(published.config, published.folder / CONFIG)
    configuration: Any = model_class.config_class
    make: Any = model_class._from_config
    try:
        config = configuration.from_dict(dict(published.config))
        model: _Model = make(config, attn_implementation="eager").float()
    except Exception as error:  # configurations are checked in many places, each with its own exceptions
        raise WronglungError(
            f"{published.folder / CONFIG}: makes no {model_class.__name__} ({first_line(error)})"
        ) from error
    what = f"the {model_class.__name__} of {CONFIG}"
    load_strictly(model, read_state_dict(published.weights), published.weights, what, _IGNORED)
    return model


def read_tokenizer(
    published: Published, vocabulary: int, plain: type[PreTrainedTokenizerFast] | None = None
) -> Tokenizer:
    """The tokenizer of ``tokenizer.json``, which neither pads nor cuts; where there is none, of the vocabulary files
    that the class ``plain`` reads.

    Raises :class:`WronglungError` for files that hold none, and for one with ids beyond the model's ``vocabulary``.
    """
    path = published.folder / TOKENIZER
    try:
        if plain is None or path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            tokenizer = plain.from_pretrained(published.folder, local_files_only=True).backend_tokenizer
    except Exception as error:  # the library's own exceptions have no common class
        raise WronglungError(f"{published.folder}: no tokenizer can be read ({error})") from error
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= vocabulary:
        raise WronglungError(
            f"{published.folder}: the tokenizer has ids up to {largest}, the model vectors for {vocabulary}; they are "
            "not of the same model"
        )
    # Files may carry the padding and the length of whatever they were last used for.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass(frozen=True)
class WholePatches:
    """Drops what makes no whole patch of ``patch`` pixels at the right and at the bottom, as the embedding does."""

    patch: int

    def __call__(self, canvas: Canvas) -> Canvas:
        return canvas.window(0, 0, *(side // self.patch * self.patch for side in (canvas.height, canvas.width)))

    def __str__(self) -> str:
        return f"whole patches of {self.patch}"


def read_pipeline(
    published: Published, processor: str, tower: PreTrainedConfig, image_size: int | None = None
) -> tuple[Pipeline, tuple[int, int]]:
    """The preprocessing of ``preprocessor_config.json``, and the grid of patches that comes of it; without such a file,
    the defaults of the image ``processor`` (a class).

    The input is a square of the size that the image ``tower``'s configuration has, or of ``image_size``. What the
    patches do not cover is left out of the frame. Raises :class:`WronglungError` for a size that file and tower do not
    agree on.
    """
    path = published.folder / PROCESSOR
    pipeline = from_processor(
        read_json(path) if path.is_file() else {"image_processor_type": processor}, source=str(path)
    )
    side, patch = image_size or tower.image_size, tower.patch_size
    if side < patch:
        raise WronglungError(f"image_size={side}: smaller than a patch ({patch} pixels)")
    if image_size is not None or not path.is_file():
        pipeline = _resized(pipeline, side)
    if pipeline.frame != (side, side):
        raise WronglungError(f"{path}: does not make images of {side} × {side} pixels, which {CONFIG} asks for")
    if side % patch:
        pipeline = replace(pipeline, steps=(*pipeline.steps, WholePatches(patch)))
    return pipeline, (side // patch, side // patch)


def _resized(pipeline: Pipeline, side: int) -> Pipeline:
    """The pipeline with a square of ``side`` pixels at its end."""
    before = pipeline.frame[0] if pipeline.frame else side
    steps: list[Step] = []
    for step in pipeline.steps:
        if isinstance(step, Shortest):
            steps.append(replace(step, side=round(step.side * side / before)))
        elif isinstance(step, (Squash, CentreCrop)):
            steps.append(replace(step, height=side, width=side))
        else:
            steps.append(step)
    return replace(pipeline, steps=tuple(steps))


@contextmanager
def silent() -> Iterator[None]:
    """Without transformers' progress and reports: what they would say is checked here."""
    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
