"""What the benchmarks of whole runs have in common: a GLoRIA of the released size, and films of the size of a radiograph.

The weights are random and in the format of the released checkpoints; they are scaled so that maps are not flat. The films are
phantom's, enlarged, with fine noise, as JPEG files of quality 95; the sentences, their repetition and the boxes are phantom's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from transformers import BertConfig

from wronglung.adapters.gloria.network import GloriaNetwork
from wronglung.adapters.networks.resnet import ResNetShape
from wronglung.benchmark.datasets.phantom import read
from wronglung.benchmark.instances import Dataset, ImageRef
from wronglung.benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed

Result = TypeVar("Result")

MEGAPIXELS_7_5 = (2544, 2948)
"""Width and height of a film in MIMIC-CXR-JPG."""
_PIECES = 28_996
"""Of Bio_ClinicalBERT's vocabulary."""
_SPREAD = 2.0
"""Standard deviation of the products of words and regions, in a trained GLoRIA of the order of 1."""


@dataclass(frozen=True)
class Size:
    """Blocks of the ResNet's stages, and layers and width of the BERT."""

    blocks: tuple[int, int, int, int]
    layers: int
    width: int


RELEASED = Size((3, 4, 6, 3), 12, 768)
TINY = Size((1, 1, 1, 1), 2, 64)


def films(folder: Path, count: int, size: tuple[int, int] = MEGAPIXELS_7_5, files: int | None = None) -> Dataset:
    """A dataset of ``count`` films of ``size`` (width, height), which are written to the folder if they are not there yet.

    ``files``: how many different ones there are; films then share them, and are read and decoded nevertheless.
    """
    # A fifth of the patients are in the test split, and have at least one film.
    data = read(patients=6 * count + 40, size=128)
    chosen = _images(data)[:count]
    assert len(chosen) == count, "more patients are needed"
    written = chosen[:files]
    width, height = size
    folder = folder / f"films-{width}x{height}"
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 4, (height, width)).astype(np.float32)
    paths = {image.id: folder / f"{written[at % len(written)].id}.jpg" for at, image in enumerate(chosen)}

    def write(numbered: tuple[int, ImageRef]) -> None:
        number, image = numbered
        if not paths[image.id].exists():
            smooth = np.asarray(image.load().resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
            levels = np.clip(smooth + np.roll(noise, 997 * number), 0, 255).astype(np.uint8)
            Image.fromarray(levels).save(paths[image.id], quality=95)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, enumerate(written)))
    across, down = width / 128, height / 128
    instances = tuple(
        replace(
            one,
            image=ImageRef(one.image_id, paths[one.image_id], width, height),
            boxes=tuple(
                replace(box, x1=box.x1 * across, x2=box.x2 * across, y1=box.y1 * down, y2=box.y2 * down)
                for box in one.boxes
            ),
        )
        for one in data.instances
        if one.image_id in paths
    )
    return Dataset("phantom-films", instances)


def _images(data: Dataset) -> list[ImageRef]:
    return list({one.image_id: one.image for one in data.instances}.values())


def write_gloria(folder: Path, data: Dataset, size: Size = RELEASED) -> dict[str, Any]:
    """Write a checkpoint as released, with its BERT's files; returns the arguments that ``load_model("gloria", ...)`` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(data)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    heads = size.width // 64
    (folder / "config.json").write_text(json.dumps({"hidden_size": size.width, "num_attention_heads": heads}))
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=len(vocabulary), hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=heads,
        intermediate_size=4 * size.width,
    )  # fmt: skip
    network = GloriaNetwork(ResNetShape(size.blocks, bottleneck=True), size.width, bert, no_attention=False).eval()
    with torch.no_grad():
        regions, _ = network.img_encoder(torch.randn(2, 1, 224, 224))
        words = network.text_encoder(torch.arange(5, 25)[None])[0]
        products = torch.einsum("wd,bdrc->bwrc", words, regions)
        network.img_encoder.local_embedder.weight.mul_(_SPREAD / products.std())
    checkpoint = folder / "gloria.ckpt"
    torch.save({"state_dict": {f"gloria.{key}": one for key, one in network.state_dict().items()}}, checkpoint)
    return {"checkpoint": str(checkpoint), "bert": str(folder)}


def _vocabulary(data: Dataset) -> list[str]:
    """The words of a dataset, long ones as two pieces, in a vocabulary of the size of a real one."""
    words = sorted({word for one in data.instances for word in re.findall(r"\w+", one.sentence.lower())})
    pieces = [piece for word in words for piece in ([word] if len(word) < 9 else [word[:5], f"##{word[5:]}"])]
    letters = [piece for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for piece in (letter, f"##{letter}")]
    known = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *pieces]))
    return [*known, *(f"[unused{at}]" for at in range(_PIECES - len(known)))]


@dataclass
class Watched:
    """A model whose encoders are timed, in seconds of CPU of the calling thread, and whose features may be kept for all later runs."""

    model: Any
    keep: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    """How many items were encoded, by method."""

    def __post_init__(self) -> None:
        self._kept: dict[Any, Features] = {}

    @property
    def card(self) -> ModelCard:
        card: ModelCard = self.model.card
        return card

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        made: Preprocessed = self.model.preprocess(image)
        return Named(made.pixels, made.geometry, image.id) if self.keep else made

    def encode_images(self, images: Sequence[LoadedImage]) -> Sequence[Features]:
        return self.encode_preprocessed([self.preprocess(image) for image in images])

    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> Sequence[Features]:
        names = [getattr(image, "name", None) for image in images]
        return self._encoded("images", self.model.encode_preprocessed, images, names)

    def encode_sentences(self, sentences: Sequence[str]) -> Sequence[Features]:
        return self._encoded("sentences", self.model.encode_sentences, sentences, sentences)

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        found: Alignment = self._timed("alignment", lambda: self.model.align_features(images, sentences))
        return found

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        found: torch.Tensor = self.model.global_similarity_matrix(images, sentences)
        return found

    def _encoded(
        self, what: str, encode: Callable[[Any], Sequence[Features]], items: Sequence[Any], names: Sequence[Any]
    ) -> Sequence[Features]:
        new = [at for at, name in enumerate(names) if name not in self._kept]
        self.calls[what] = self.calls.get(what, 0) + len(new)
        encoded = self._timed(what, lambda: encode([items[at] for at in new])) if new else []
        if not self.keep:
            return encoded
        self._kept.update(zip([names[at] for at in new], encoded, strict=True))
        return [self._kept[name] for name in names]

    def _timed(self, what: str, call: Callable[[], Result]) -> Result:
        start = time.thread_time()
        try:
            return call()
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.thread_time() - start


@dataclass(frozen=True)
class Named(Preprocessed):
    """A prepared image that can be recognised."""

    name: str
