"""Boxes, masks and the affine map between an image and a model's frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.geometry import Geometry, boxes_to_mask
from wronglung.benchmark.instances import Box

SIZES = st.integers(1, 40)
EDGES = st.floats(-10, 50, allow_nan=False)


@st.composite
def boxes(draw: st.DrawFn, edges: st.SearchStrategy[float] = EDGES) -> Box:
    (x1, x2), (y1, y2) = (sorted((draw(edges), draw(edges))) for _ in range(2))
    return Box("", x1, y1, x2, y2)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Resizes with padding or cropping on any side."""
    scales, offsets = st.floats(0.1, 4), st.floats(-30, 30)
    width, height, frame_width, frame_height = (draw(SIZES) for _ in range(4))
    return Geometry(width, height, frame_width, frame_height, draw(scales), draw(scales), draw(offsets), draw(offsets))


def inverse(geometry: Geometry) -> Geometry:
    return Geometry(
        geometry.frame_width,
        geometry.frame_height,
        geometry.image_width,
        geometry.image_height,
        1 / geometry.scale_x,
        1 / geometry.scale_y,
        -geometry.offset_x / geometry.scale_x,
        -geometry.offset_y / geometry.scale_y,
    )


def edges_of(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


@given(geometries(), boxes())
def test_boxes_return_from_the_frame_unchanged(geometry: Geometry, box: Box) -> None:
    (back,) = inverse(geometry).to_frame(geometry.to_frame([box]))
    assert edges_of(back) == pytest.approx(edges_of(box), abs=1e-9)


@given(SIZES, SIZES, SIZES, SIZES)
def test_squash_fills_the_frame_with_the_image(width: int, height: int, frame_width: int, frame_height: int) -> None:
    geometry = Geometry.squash(width, height, frame_width, frame_height)
    (whole,) = geometry.to_frame([Box("", 0, 0, width, height)])
    assert edges_of(whole) == pytest.approx((0, 0, frame_width, frame_height))
    assert geometry.visible_window == pytest.approx((0, 0, width, height))


@given(geometries())
def test_the_visible_window_is_the_part_of_the_image_inside_the_frame(geometry: Geometry) -> None:
    x1, y1, x2, y2 = geometry.visible_window
    assert 0 <= x1 <= x2
    assert 0 <= y1 <= y2
    if x1 < x2 and y1 < y2:
        (window,) = geometry.to_frame([Box("", x1, y1, x2, y2)])
        assert window.x1 >= -1e-9
        assert window.x2 <= geometry.frame_width + 1e-9
        assert window.y1 >= -1e-9
        assert window.y2 <= geometry.frame_height + 1e-9


@given(geometries(), boxes(st.floats(0, 40)))
def test_a_box_without_a_visible_part_adds_no_pixel(geometry: Geometry, box: Box) -> None:
    if not geometry.sees(box):
        assert not naive_mask(geometry.to_frame([clipped(box, geometry)]), *frame_size(geometry)).any()


def clipped(box: Box, geometry: Geometry) -> Box:
    width, height = geometry.image_width, geometry.image_height
    return Box("", min(box.x1, width), min(box.y1, height), min(box.x2, width), min(box.y2, height))


def frame_size(geometry: Geometry) -> tuple[int, int]:
    return geometry.frame_width, geometry.frame_height


def naive_mask(boxes: tuple[Box, ...] | list[Box], width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            mask[y, x] = any(b.x1 <= x + 0.5 < b.x2 and b.y1 <= y + 0.5 < b.y2 for b in boxes)
    return mask


@given(st.lists(boxes(st.one_of(EDGES, st.integers(-20, 100).map(lambda half: half / 2))), max_size=3), SIZES, SIZES)
def test_a_pixel_is_in_the_mask_when_its_centre_is_in_a_box(boxes: list[Box], width: int, height: int) -> None:
    np.testing.assert_array_equal(boxes_to_mask(boxes, width, height), naive_mask(boxes, width, height))


@given(boxes(), SIZES, SIZES, st.floats(0.1, 4), st.floats(0.1, 4))
def test_scales_apply_before_rasterizing(box: Box, width: int, height: int, sx: float, sy: float) -> None:
    scaled = Box("", box.x1 * sx, box.y1 * sy, box.x2 * sx, box.y2 * sy)
    np.testing.assert_array_equal(boxes_to_mask([box], width, height, sx, sy), naive_mask([scaled], width, height))


@pytest.mark.parametrize("wrong", [{"scale_x": 0.0}, {"scale_y": -1.0}, {"offset_x": math.nan}, {"frame_width": 0}])
def test_impossible_geometries_are_refused(wrong: dict[str, float]) -> None:
    values = {"image_width": 4, "image_height": 4, "frame_width": 2, "frame_height": 2, "scale_x": 0.5, "scale_y": 0.5}
    with pytest.raises(ValueError, match=r"at least one pixel|must be positive"):
        Geometry(**{**values, **wrong})  # type: ignore[arg-type]
