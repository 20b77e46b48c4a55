"""Small models in the files that the transformers library publishes, and golden pixels in the place of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from wronglung.adapters.dual import DualModel, DualNetwork, dual_card
from wronglung.adapters.saliency.cosine import LocalSimilarity
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import LoadedImage


def write_published(
    folder: Path,
    config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    *,
    tokenizer: Tokenizer | None = None,
    processor: Mapping[str, Any] | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
    pickled: bool = False,
) -> Path:
    """The folder, with the files of a model in it."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"config": config, "preprocessor_config": processor, "tokenizer_config": tokenizer_config}
    for name, content in told.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    if pickled:
        torch.save(dict(state), folder / "pytorch_model.bin")
    else:
        safetensors.torch.save_file({key: one.contiguous() for key, one in state.items()}, folder / "model.safetensors")
    return folder


def word_tokenizer(size: int, template: str, special: Mapping[str, int], unknown: str) -> Tokenizer:
    """A tokenizer of ``size`` words: "w7" has id 7, unless a special token has it; ``template`` as "[CLS] $A [SEP]"."""
    names = {number: name for name, number in special.items()}
    vocabulary = {names.get(number, f"w{number}"): number for number in range(size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(special.items()))
    return tokenizer


class GoldenPixels:
    """In the place of a pipeline: the image whose grey level is i becomes the i-th item of ``pixels``."""

    def __init__(self, pixels: npt.NDArray[np.float32]) -> None:
        self._pixels = torch.from_numpy(pixels)
        self.images = [LoadedImage(str(at), Image.new("L", (9, 9), at)) for at in range(len(pixels))]

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, Geometry]:
        height, width = self._pixels.shape[-2:]
        return self._pixels[int(np.asarray(image)[0, 0])], Geometry.squash(*image.size, width, height)

    levels = __call__

    def finished(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def dual_model(
    network: DualNetwork, method: str, tau: float = 0.07, similarity: LocalSimilarity = "attention"
) -> DualModel:
    card = dual_card(
        network,
        method,
        name="golden",
        checkpoint=None,
        tau=tau,
        similarity=similarity,
        tokens="",
        dtype=torch.float32,
    )
    return DualModel(network, method, card, similarity=similarity, tau=tau)


def off(found: torch.Tensor, golden: npt.NDArray[Any]) -> float:
    """The largest absolute difference of two arrays of one shape."""
    assert tuple(found.shape) == golden.shape
    return float((found.double() - torch.from_numpy(golden).double()).abs().max())


def film(name: str, height: int, width: int) -> LoadedImage:
    """A noisy grey image."""
    levels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width), dtype=np.uint8)
    return LoadedImage(name, Image.fromarray(levels))
