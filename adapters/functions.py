"""A model from functions of an image and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..benchmark.errors import WronglungError
from ..benchmark.geometry import Geometry
from ..benchmark.protocol import Alignment, LoadedImage, ModelCard

FRAME = 224
"""The whole image is squashed into a frame of this many pixels a side."""

Map = npt.NDArray[np.floating]


class FunctionModel:
    """An alignment model whose maps come from ``function(image, sentence)``, one pair at a time.

    The function returns [rows, columns] that cover the whole image evenly, the same numbers of them for all pairs. Where the
    card says "distribution" they are at least 0 and are divided by their sum. ``score(image, sentence)``, where there is one,
    is the global similarity.
    """

    def __init__(
        self,
        card: ModelCard,
        function: Callable[[LoadedImage, str], Map],
        score: Callable[[LoadedImage, str], float] | None = None,
    ) -> None:
        self.card = card
        self._function = function
        self._score = score

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Raises :class:`WronglungError` for maps of different sizes."""
        pairs = list(zip(images, sentences, strict=True))
        maps = [self._function(image, sentence) for image, sentence in pairs]
        sizes = sorted({one.shape for one in maps})
        if len(sizes) > 1:
            raise WronglungError(
                f"model {self.card.name!r}: maps of {' × '.join(map(str, sizes[0]))} and of "
                f"{' × '.join(map(str, sizes[-1]))} cells; make all maps of one size, or give from_functions a `grid`"
            )
        if self.card.map_kind == "distribution":
            maps = [one / one.sum() for one in maps]
        similarity = None
        if self._score is not None:
            similarity = torch.tensor([self._score(image, sentence) for image, sentence in pairs], dtype=torch.float64)
        return Alignment(
            torch.from_numpy(np.stack(maps).astype(np.float32)),
            [Geometry.squash(*image.pixels.size, FRAME, FRAME) for image in images],
            global_similarity=similarity,
        )
