"""A dual encoder without weights: bright places on the side that the sentence names."""

import numpy as np
import torch

from wronglung import Alignment, Features, Geometry, ModelCard

CELLS = 14
# The patient's left is on the viewer's right: x grows to the right, y grows downwards.
DIRECTIONS = {"left": (0, 1, 0), "right": (0, -1, 0), "upper": (0, 0, -1), "lower": (0, 0, 1)}


class Compass:
    card = ModelCard(
        name="compass",
        saliency_method="dot product of cells and sentence",
        map_kind="score",  # may be negative; entropy takes its softmax
        mass="softmax",
        preprocessing=f"8-bit grey, resized to {CELLS} × {CELLS}",
    )

    def encode_images(self, images):
        return [self._encode(image) for image in images]

    def _encode(self, image):
        grey = np.asarray(image.pixels.convert("L").resize((CELLS, CELLS)), dtype=np.float32) / 255
        y, x = np.mgrid[-1 : 1 : CELLS * 1j, -1 : 1 : CELLS * 1j].astype(np.float32)
        cells = torch.from_numpy(np.stack([grey, x * grey, y * grey], axis=-1))
        geometry = Geometry.squash(*image.pixels.size, 224, 224)  # the whole image fills the whole frame
        return Features({"cells": cells, "global": cells.mean((0, 1))}, geometry)

    def encode_sentences(self, sentences):
        vectors = [[(1, 0, 0), *(DIRECTIONS[word] for word in DIRECTIONS if word in one.lower())] for one in sentences]
        return [Features({"global": torch.tensor(one, dtype=torch.float32).sum(0)}) for one in vectors]

    def align_features(self, images, sentences):
        text = torch.stack([one.tensors["global"] for one in sentences])
        cells = torch.stack([one.tensors["cells"] for one in images])
        pooled = torch.stack([one.tensors["global"] for one in images])
        saliency = (cells * text[:, None, None]).sum(-1)
        return Alignment(saliency, [one.geometry for one in images], global_similarity=(pooled * text).sum(-1))

    def global_similarity_matrix(self, images, sentences):
        pooled, text = (torch.stack([one.tensors["global"] for one in items]) for items in (images, sentences))
        return pooled @ text.T
