"""Scored boxes as saliency maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch


def raster_max(
    boxes: torch.Tensor, scores: torch.Tensor, height: int, width: int, threshold: float = 0.0
) -> torch.Tensor:
    """Each pixel has the largest score above ``threshold`` whose box covers it, else 0: float32 [height, width].

    ``boxes`` [N, 4] are (x1, y1, x2, y2) in edge coordinates of the pixels of the map, ``scores`` [N]. A box covers the pixels
    that it touches: its upper left corner is rounded down and its lower right corner up, and what lies outside the map is cut
    off. Scores are held against the threshold in their own dtype. Unscored boxes have scores of 1: the map is then 1 inside
    their union.

    The largest score does not count overlaps twice, as a sum would, nor punish them, as a mean would. The result is on the
    device of ``boxes``. Raises ``ValueError`` for shapes that do not fit and for a coordinate that is no number.
    """
    if scores.ndim != 1:
        raise ValueError(f"one score a box, not scores of shape {tuple(scores.shape)}")
    return raster_max_batch(boxes, scores[None], height, width, threshold)[0]


def raster_max_batch(
    boxes: torch.Tensor, scores: torch.Tensor, height: int, width: int, threshold: float = 0.0
) -> torch.Tensor:
    """:func:`raster_max` of the same boxes under the scores of S sentences, [S, N]: float32 [S, height, width]."""
    if boxes.shape != (scores.shape[-1], 4) or scores.ndim != 2:
        raise ValueError(f"boxes [N, 4] and scores [S, N], not {tuple(boxes.shape)} and {tuple(scores.shape)}")
    corners = boxes.detach().cpu().double().numpy()
    if np.isnan(corners).any():
        raise ValueError("a coordinate of a box is NaN")
    first = np.floor(corners[:, :2]).clip(0, (width, height)).astype(np.int64)
    end = np.ceil(corners[:, 2:]).clip(0, (width, height)).astype(np.int64)
    maps = np.zeros((len(scores), height, width), dtype=np.float32)
    scores = scores.detach().cpu()
    values, above = scores.float().numpy(), (scores > threshold).numpy()
    for canvas, of_sentence, chosen in zip(maps, values, above, strict=True):
        _paint(canvas, first[chosen], end[chosen], of_sentence[chosen])
    return torch.from_numpy(maps).to(boxes.device)


def _paint(
    canvas: npt.NDArray[np.float32],
    first: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
) -> None:
    """Paint boxes from the lowest score to the highest, so that the highest stays."""
    order = np.argsort(values, kind="stable")
    corners = np.concatenate([first, end], axis=1)[order].tolist()
    for (x1, y1, x2, y2), value in zip(corners, values[order].tolist(), strict=True):
        canvas[y1:y2, x1:x2] = value
