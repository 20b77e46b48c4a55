"""Saliency methods of encoders whose image vector is a linear map of the mean over the cells of their last stage.

The same map of each cell gives patches in the sentence's space whose mean is the image's vector, exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..dual import Dense, Gradient, Method
from ..saliency.gradient import gradcam


def linear_methods(features: Callable[[torch.Tensor], torch.Tensor], project: nn.Linear) -> dict[str, Method]:
    """``similarity`` and ``gradcam``.

    ``features``: of pixels the last stage [batch, C, rows, columns]. ``project``: to the sentence's space.
    """

    def pooled(last: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = project(last.mean(dim=(2, 3)))
        return vectors

    def dense(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = features(pixels)
        return project(last.permute(0, 2, 3, 1)), pooled(last)

    def activations(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = features(pixels)
        return last, pooled(last)

    return {
        "similarity": Dense("cosine of linearly projected patches and sentence", dense),
        "gradcam": Gradient("GradCAM on the last stage", activations, lambda last, text: gradcam(last, pooled, text)),
    }
