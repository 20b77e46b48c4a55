"""Scored boxes as a map: every pixel has the best score that covers it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.adapters.saliency.boxes import raster_max, raster_max_batch


def naive(boxes: torch.Tensor, scores: torch.Tensor, height: int, width: int, threshold: float) -> torch.Tensor:
    """Every pixel asks every box."""
    canvas = torch.zeros(height, width)
    for (x1, y1, x2, y2), score in zip(boxes.tolist(), scores.tolist(), strict=True):
        for row in range(height):
            for column in range(width):
                inside = math.floor(x1) <= column < math.ceil(x2) and math.floor(y1) <= row < math.ceil(y2)
                if inside and score > float(torch.tensor(threshold, dtype=scores.dtype)):
                    canvas[row, column] = max(float(canvas[row, column]), score)
    return canvas


def test_the_rule_of_the_reference_detector(shared: Path) -> None:
    folder = shared / "golden_encoders" / "hf_owlvit"
    manifest = json.loads((folder / "manifest.json").read_text())
    golden = np.load(folder / "golden.npz")
    height, width = manifest["target_hw"]
    for image in range(2):
        boxes = torch.from_numpy(golden["boxes_xyxy_target"][image])
        scores = torch.from_numpy(golden["score_grid"][image]).flatten(1)
        maps = raster_max_batch(boxes, scores, height, width, manifest["threshold"])
        assert np.array_equal(maps.numpy(), golden["raster_max"][image])


def test_overlap_has_the_larger_score() -> None:
    boxes = torch.tensor([[0.0, 0.0, 3.0, 2.0], [2.0, 1.0, 4.0, 3.0]])
    expected = [[0.9, 0.9, 0.9, 0.0], [0.9, 0.9, 0.9, 0.4], [0.0, 0.0, 0.4, 0.4]]
    assert torch.equal(raster_max(boxes, torch.tensor([0.9, 0.4]), 3, 4), torch.tensor(expected))


def test_a_box_covers_the_pixels_that_it_touches() -> None:
    boxes = torch.tensor([[0.9, 0.2, 1.1, 0.3]])
    assert raster_max(boxes, torch.ones(1), 2, 3).tolist() == [[1, 1, 0], [0, 0, 0]]


def test_a_box_is_cut_at_the_border() -> None:
    boxes = torch.tensor([[-math.inf, -5.0, 1.0, math.inf], [7.0, 7.0, 9.0, 9.0], [-3.0, -3.0, -1.0, -1.0]])
    assert raster_max(boxes, torch.ones(3), 2, 3).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_a_score_must_exceed_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0], [2.0, 0.0, 3.0, 1.0]])
    scores = torch.tensor([0.5, 0.5 + 1e-6, math.nan])
    assert raster_max(boxes, scores, 1, 3, threshold=0.5).bool().tolist() == [[False, True, False]]


def test_no_box_is_an_empty_map() -> None:
    assert torch.equal(raster_max(torch.zeros(0, 4), torch.zeros(0), 2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("boxes", "scores"), [((2, 4), (3,)), ((2, 3), (2,)), ((4,), (1,)), ((2, 4), (1, 2)), ((2, 4), ())]
)
def test_shapes_that_do_not_fit_are_refused(boxes: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="score"):
        raster_max(torch.zeros(boxes), torch.zeros(scores), 2, 2)


def test_a_coordinate_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="NaN"):
        raster_max(torch.tensor([[0.0, math.nan, 1.0, 1.0]]), torch.ones(1), 2, 2)


coordinates = st.floats(-3, 12, width=32)


@given(
    corners=st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=8),
    data=st.data(),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.3, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_every_pixel_as_the_naive_loop_says(
    corners: list[tuple[float, float, float, float]], data: st.DataObject, height: int, width: int, threshold: float
) -> None:
    values = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0])
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    scores = torch.tensor(data.draw(st.lists(values, min_size=len(corners), max_size=len(corners))), dtype=dtype)
    boxes = torch.tensor(corners).reshape(-1, 4)
    expected = naive(boxes, scores, height, width, threshold)
    assert torch.equal(raster_max(boxes, scores, height, width, threshold), expected)


def test_a_batch_is_its_sentences_one_by_one_and_fast_enough_for_a_detector() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(576, 2, generator=generator) * 200
    boxes = torch.cat([corners, corners + 1 + torch.rand(576, 2, generator=generator) * 60], dim=1)
    scores = torch.rand(100, 576, generator=generator)
    start = time.perf_counter()
    maps = raster_max_batch(boxes, scores, 224, 224)
    seconds = time.perf_counter() - start
    singles = torch.stack([raster_max(boxes, one, 224, 224) for one in scores])
    assert torch.equal(maps, singles)
    assert seconds < 5
