"""Pixel masks: run lengths as COCO codes them, polygons, and how a mask becomes the target of a map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from wronglung.benchmark.frames import scoring_frame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Box
from wronglung.benchmark.masks import (
    Mask,
    from_coco,
    from_outlines,
    from_pixels,
    from_polygons,
    from_relative_runs,
    from_segmentation,
    union,
)

ARRAYS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(ARRAYS)
def test_pixels_come_back(pixels: np.ndarray) -> None:
    mask = from_pixels(pixels)
    np.testing.assert_array_equal(mask.pixels(), pixels)
    assert (mask.height, mask.width) == pixels.shape


@given(ARRAYS)
def test_the_coding_is_that_of_the_coco_api(pixels: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    ours = from_pixels(pixels)
    assert ours.counts == theirs["counts"]
    assert from_coco(theirs["size"], theirs["counts"]) == ours
    assert from_coco(theirs["size"], theirs["counts"].decode()) == ours


def test_long_runs_are_coded_as_the_coco_api_codes_them() -> None:
    pixels = np.zeros((3000, 2500), dtype=np.bool_)
    pixels[100:2900, 3:2400] = True
    pixels[1500:1510, 700:900] = False
    assert from_pixels(pixels).counts == coco.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]


@given(ARRAYS)
def test_plain_counts_and_relative_runs_say_the_same(pixels: np.ndarray) -> None:
    flat, runs, value = pixels.ravel(order="F").tolist(), [0], False
    for pixel in flat:
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    height, width = pixels.shape
    assert from_coco((height, width), runs) == from_pixels(pixels)
    pairs = runs if len(runs) % 2 == 0 else runs[:-1]
    assert from_relative_runs(pairs, width, height) == from_pixels(pixels)


def test_empty_runs_do_not_make_another_mask() -> None:
    assert from_coco((2, 2), [0, 1, 0, 1, 2, 0]) == from_coco((2, 2), [0, 2, 2])


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ((2, 2), [1, 2], "runs of 3 pixels in a mask of 2 × 2"),
        ((2, 2), [5, -1], "negative"),
        ((0, 2), [], "a mask of 2 × 0 pixels"),
        ((1 << 15, 1 << 15), [1 << 30], "a mask of 32768 × 32768"),
        ((2,), [2], "height, width"),
        ((2, 2), "P", "end too early"),
        ((2, 2), "\x7f", "hold"),
        ((2, 2), "!", "hold"),
        ((2, 2), "P" * 99, "end too early"),
    ],
)
def test_a_damaged_coding_is_refused(size: tuple[int, ...], counts: str | list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_coco(size, counts)


@given(st.binary(max_size=30))
def test_no_text_does_anything_but_decode_or_be_refused(counts: bytes) -> None:
    try:
        mask = from_coco((5, 7), counts)
    except ValueError:
        return
    assert mask.pixels().shape == (5, 7)


@given(ARRAYS)
def test_the_extent_is_that_of_the_pixels(pixels: np.ndarray) -> None:
    rows, columns = np.nonzero(pixels)
    expected = None if not rows.size else (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert from_pixels(pixels).extent() == expected


def test_polygons_are_drawn_with_their_outlines_and_united() -> None:
    polygons = [[(1.0, 1.0), (6.0, 1.0), (6.0, 4.0)], [(8.0, 8.0), (9.0, 9.0)]]
    canvas = Image.new("1", (12, 10))
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon(polygon, outline=1, fill=1)
    np.testing.assert_array_equal(from_polygons(polygons, 12, 10).pixels(), np.asarray(canvas))


@pytest.mark.parametrize(
    "polygon", [[(1.0, 1.0)], [], [(1.0, float("nan")), (2.0, 2.0)], [(1e300, 0.0), (2.0, 2.0)], [(10**400, 0), (2, 2)]]
)
def test_a_polygon_that_is_none_is_refused(polygon: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="polygon"):
        from_polygons([polygon], 10, 10)


@given(ARRAYS, st.integers(0, 2**32 - 1))
def test_a_union_is_pixel_by_pixel(pixels: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).random(pixels.shape) < 0.5
    np.testing.assert_array_equal(union([from_pixels(pixels), from_pixels(other)]).pixels(), pixels | other)


def boxed(mask: Mask, width: int, height: int) -> Box:
    x1, y1, x2, y2 = mask.extent() or (0, 0, 1, 1)
    x, y = width / mask.width, height / mask.height
    return Box("", x1 * x, y1 * y, x2 * x, y2 * y, mask=mask)


@given(
    ARRAYS,
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.2, 3),
    st.floats(0.2, 3),
    st.floats(-9, 9),
    st.floats(-9, 9),
)
@settings(max_examples=60)
def test_a_pixel_of_a_frame_is_inside_when_its_centre_falls_on_the_mask(
    pixels: np.ndarray, width: int, height: int, sx: float, sy: float, ox: float, oy: float
) -> None:
    mask = from_pixels(pixels)
    geometry = Geometry(width, height, 13, 11, sx, sy, ox, oy)
    covered = geometry.mask([boxed(mask, width, height)])
    for row in range(11):
        for column in range(13):
            x = (column + 0.5 - ox) / sx * (mask.width / width)
            y = (row + 0.5 - oy) / sy * (mask.height / height)
            inside = 0 <= x < mask.width and 0 <= y < mask.height
            assert covered[row, column] == (inside and pixels[int(y), int(x)])


def test_a_box_counts_where_there_is_no_mask_or_masks_are_left_aside() -> None:
    pixels = np.zeros((10, 10), dtype=np.bool_)
    pixels[2:6, 3:9] = True
    pixels[4, 5] = False
    box, plain = boxed(from_pixels(pixels), 10, 10), Box("", 0, 0, 1, 1)
    for frame in ("model", "image"):
        scoring = scoring_frame(Geometry.squash(10, 10, 10, 10), frame, 10)
        assert scoring.mask([box]).sum() == 23
        assert scoring.mask([box, plain]).sum() == 24
        assert scoring.mask([box, plain], segmented=False).sum() == 25


POINTS = st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 20)), min_size=3, max_size=8)


@given(POINTS)
def test_a_pixel_is_inside_an_outline_when_its_centre_is(points: list[tuple[float, float]]) -> None:
    def crossings(x: float, y: float) -> int:
        found = 0
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            if (y1 <= y) != (y2 <= y):
                found += x >= x1 + (y - y1) * ((x2 - x1) / (y2 - y1))
        return found

    drawn = from_outlines([points], 20, 15).pixels()
    for row in range(15):
        for column in range(20):
            assert drawn[row, column] == crossings(column + 0.5, row + 0.5) % 2


def test_a_square_is_its_edges_as_in_the_coco_api() -> None:
    square = [[10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]]
    mask = from_segmentation(square, 64, 48)
    assert mask.extent() == (10, 10, 20, 20)
    assert mask.pixels().sum() == 100
    assert mask.counts == coco.merge(coco.frPyObjects(square, 48, 64))["counts"]


def test_polygons_are_nearly_those_of_the_coco_api() -> None:
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(100):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 20)))
        points = rng.uniform(60, 140, 2) + rng.uniform(15, 60) * np.stack([np.cos(angles), np.sin(angles)], 1)
        flat = points.ravel().tolist()
        ours = from_segmentation([flat], 200, 180).pixels()
        theirs = coco.decode(coco.merge(coco.frPyObjects([flat], 180, 200))).astype(bool)
        overlaps.append((ours & theirs).sum() / (ours | theirs).sum())
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.97
