"""A model from one function of an image and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..benchmark.geometry import Geometry
from ..benchmark.protocol import Alignment, LoadedImage, ModelCard

FRAME = 224
"""The whole image is squashed into a frame of this many pixels a side."""

Map = npt.NDArray[np.floating]


class FunctionModel:
    """An alignment model whose maps come from ``function(image, sentence)``, one pair at a time.

    The function returns [rows, columns] of at least 0 that cover the whole image evenly; they are divided by their sum.
    """

    def __init__(self, card: ModelCard, function: Callable[[LoadedImage, str], Map]) -> None:
        self.card = card
        self._function = function

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        maps = [self._function(image, sentence) for image, sentence in zip(images, sentences, strict=True)]
        saliency = np.stack([one / one.sum() for one in maps]).astype(np.float32)
        geometry = [Geometry.squash(*image.pixels.size, FRAME, FRAME) for image in images]
        return Alignment(torch.from_numpy(saliency), geometry)
