"""The scoring frame: boxes and saliency maps on one grid of pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.benchmark.frames import FrameName, Interpolation, ScoringFrame, scoring_frame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Box

WHOLE = Geometry.squash(224, 224, 224, 224)
CROP = Geometry(60, 40, 20, 20, 0.5, 0.5, -5.0, 0.0)
"""60 × 40 pixels halved to 30 × 20, of which the 20 × 20 in the middle are seen."""
LETTERBOX = Geometry(40, 20, 20, 20, 0.5, 0.5, 0.0, 5.0)
"""40 × 20 pixels halved to 20 × 10, with 5 rows of padding above and below."""

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MODES: list[Interpolation] = ["bilinear", "nearest"]
FRAMES: list[FrameName] = ["model", "image"]


def noise(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((rows, columns), dtype=np.float32))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    size, scale, offset = st.integers(1, 30), st.floats(0.2, 3), st.floats(-20, 20)
    return Geometry(
        draw(size), draw(size), draw(size), draw(size), draw(scale), draw(scale), draw(offset), draw(offset)
    )


def centres(frame: ScoringFrame) -> tuple[list[float], list[float]]:
    """The pixels' centres on the model's frame, (x, y)."""
    g = frame.geometry
    if frame.frame == "model":
        return [x + 0.5 for x in range(frame.width)], [y + 0.5 for y in range(frame.height)]
    return (
        [(x + 0.5) * (g.image_width / frame.width * g.scale_x) + g.offset_x for x in range(frame.width)],
        [(y + 0.5) * (g.image_height / frame.height * g.scale_y) + g.offset_y for y in range(frame.height)],
    )


def reference_sample(frame: ScoringFrame, saliency: np.ndarray, mode: Interpolation) -> np.ndarray:
    """The arithmetic that ScoringFrame.sample states, one pixel at a time."""
    g = frame.geometry
    xs, ys = centres(frame)
    pixels = np.full((frame.height, frame.width), -np.inf, np.float32)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            if not (0 <= x < g.frame_width and 0 <= y < g.frame_height):
                continue
            if mode == "nearest":
                cell = (
                    int(y) * saliency.shape[0] // g.frame_height,
                    int(x) * saliency.shape[1] // g.frame_width,
                )
                pixels[row, column] = saliency[cell]
                continue
            top, bottom, down = neighbours(frame, row, saliency.shape[0], vertical=True)
            left, right, across = neighbours(frame, column, saliency.shape[1], vertical=False)
            upper, lower = (
                saliency[r, left] + across * (saliency[r, right] - saliency[r, left]) for r in (top, bottom)
            )
            pixels[row, column] = upper + down * (lower - upper)
    return pixels


def neighbours(frame: ScoringFrame, pixel: int, cells: int, vertical: bool) -> tuple[int, int, np.float32]:
    g = frame.geometry
    if vertical:
        extent, offset, scale = g.frame_height, g.offset_y, g.image_height / frame.height * g.scale_y
    else:
        extent, offset, scale = g.frame_width, g.offset_x, g.image_width / frame.width * g.scale_x
    if frame.frame == "model":
        scale, offset = 1.0, 0.0
    slope = float(np.float32(scale * (cells / extent)))
    position = np.float32(slope * (pixel + 0.5) + (offset * (cells / extent) - 0.5))
    position = min(max(position, np.float32(0)), np.float32(cells - 1))
    low = int(position)
    beyond = position - np.float32(low)
    high = min(low + 1, cells - 1)
    return (low, high, beyond) if beyond <= 0.5 else (high, low, np.float32(1) - beyond)


@settings(max_examples=60, deadline=None)
@given(geometries(), SHAPES, st.sampled_from(FRAMES), st.sampled_from(MODES), st.integers(0, 9))
def test_each_pixel_follows_the_stated_arithmetic(
    geometry: Geometry, shape: tuple[int, int], frame: FrameName, mode: Interpolation, seed: int
) -> None:
    scoring = scoring_frame(geometry, frame, resolution=17)
    saliency = noise(*shape, seed) - 0.3
    pixels = scoring.sample(saliency, mode)
    assert pixels.dtype == torch.float32
    np.testing.assert_array_equal(pixels.numpy(), reference_sample(scoring, saliency.numpy(), mode))


@pytest.mark.parametrize("shape", [(19, 19), (7, 7), (37, 37), (8, 12), (1, 5), (300, 200)])
@pytest.mark.parametrize("size", [(224, 224), (299, 299), (64, 96), (10, 7)])
def test_bilinear_agrees_with_pytorch(shape: tuple[int, int], size: tuple[int, int]) -> None:
    height, width = size
    frame = scoring_frame(Geometry.squash(1000, 700, width, height), "model")
    for saliency in (noise(*shape), torch.exp(6 * noise(*shape)), noise(*shape) - 0.5):
        expected = F.interpolate(saliency[None, None], size=size, mode="bilinear")[0, 0]
        ulp = float(np.spacing(saliency.abs().max().numpy()[()]))
        # On some processors PyTorch rounds a pixel's position twice, which moves it by an ulp of a cell index.
        moved = max(shape) * 2.0**-24 * float(saliency.max() - saliency.min())
        torch.testing.assert_close(frame.sample(saliency, "bilinear"), expected, rtol=0, atol=2 * ulp + moved)


@pytest.mark.parametrize("shape", [(19, 19), (7, 7), (37, 37), (8, 12), (1, 5)])
@pytest.mark.parametrize("size", [(224, 224), (299, 299), (64, 96)])
def test_nearest_upsampling_equals_pytorchs(shape: tuple[int, int], size: tuple[int, int]) -> None:
    height, width = size
    frame = scoring_frame(Geometry.squash(1000, 700, width, height), "model")
    expected = F.interpolate(noise(*shape)[None, None], size=size, mode="nearest")[0, 0]
    assert torch.equal(frame.sample(noise(*shape), "nearest"), expected)


@pytest.mark.parametrize("pair", [0, 3])
def test_overlays_equal_those_of_the_original_code(golden: Path, pair: int) -> None:
    arrays = np.load(golden / "attention.npz")
    frame = scoring_frame(WHOLE, "model")
    saliency = torch.from_numpy(arrays["attn_mean_matched"][pair])
    np.testing.assert_array_equal(frame.sample(saliency, "nearest"), arrays[f"overlay_nearest_{pair}"])
    np.testing.assert_allclose(frame.sample(saliency, "bilinear"), arrays[f"overlay_bilinear_{pair}"], rtol=2e-6)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("mode", MODES)
def test_pixels_do_not_depend_on_memory_layout(frame: FrameName, mode: Interpolation) -> None:
    scoring = scoring_frame(Geometry.squash(331, 257, 224, 224), frame)
    batch = torch.stack([noise(19, 19, seed) for seed in range(5)])
    strided = batch.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for one, other in zip(batch, strided, strict=True):
        assert torch.equal(scoring.sample(one.clone(), mode), scoring.sample(other, mode))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [1 / 361, 0.1, 1e-30])
def test_a_constant_map_stays_constant_to_the_last_bit(frame: FrameName, mode: Interpolation, value: float) -> None:
    saliency = torch.full((19, 19), value)
    pixels = scoring_frame(Geometry.squash(331, 257, 224, 224), frame).sample(saliency, mode)
    assert bool((pixels == saliency[0, 0]).all())


def test_sampling_leaves_the_map_alone_and_takes_half_precision() -> None:
    saliency = noise(19, 19).half()
    before = saliency.clone()
    frame = scoring_frame(WHOLE, "model")
    assert torch.equal(frame.sample(saliency, "bilinear"), frame.sample(before.float(), "bilinear"))
    assert torch.equal(saliency, before)


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((3000, 2500), 224, (224, 187)),
        ((2500, 3000), 224, (187, 224)),
        ((100, 50), 224, (224, 112)),
        ((9999, 1), 8, (8, 1)),
    ],
)
def test_the_image_frame_has_the_resolution_on_its_long_side(
    size: tuple[int, int], resolution: int, expected: tuple[int, int]
) -> None:
    frame = scoring_frame(Geometry.squash(*size, 224, 224), "image", resolution)
    assert (frame.width, frame.height) == expected


def test_the_model_frame_is_the_models_own_whatever_the_resolution() -> None:
    frame = scoring_frame(CROP, "model", resolution=7)
    assert (frame.width, frame.height) == (20, 20)


def test_a_resolution_below_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        scoring_frame(CROP, "image", resolution=0)


@pytest.mark.parametrize("mode", MODES)
def test_the_image_frame_of_a_squashed_square_is_the_model_frame(mode: Interpolation) -> None:
    geometry = Geometry.squash(1024, 1024, 224, 224)
    model, image = scoring_frame(geometry, "model"), scoring_frame(geometry, "image", resolution=224)
    saliency, boxes = noise(19, 19), [Box("", 100, 33, 700, 910), Box("", 0, 0, 50, 1024)]
    assert torch.equal(model.sample(saliency, mode), image.sample(saliency, mode))
    np.testing.assert_array_equal(model.mask(boxes), image.mask(boxes))


def test_the_image_frame_undoes_a_squash() -> None:
    """A map that lights the left half of the frame lights the left half of the image, whatever its shape."""
    saliency = torch.zeros(2, 2)
    saliency[:, 0] = 1
    pixels = scoring_frame(Geometry.squash(300, 600, 10, 10), "image", resolution=60).sample(saliency, "nearest")
    assert pixels.shape == (60, 30)
    assert bool((pixels[:, :15] == 1).all())
    assert bool((pixels[:, 15:] == 0).all())


@pytest.mark.parametrize("mode", MODES)
def test_what_the_model_never_saw_ranks_last(mode: Interpolation) -> None:
    pixels = scoring_frame(CROP, "image", resolution=60).sample(noise(5, 5), mode)
    assert pixels.shape == (40, 60)
    assert bool((pixels[:, :10] == -math.inf).all())
    assert bool((pixels[:, 50:] == -math.inf).all())
    assert bool(torch.isfinite(pixels[:, 10:50]).all())


def test_padding_is_part_of_the_model_frame_but_not_of_the_image_frame() -> None:
    saliency = torch.zeros(4, 4)
    saliency[0] = 1  # rows 0 to 4 of the frame: padding
    model = scoring_frame(LETTERBOX, "model").sample(saliency, "nearest")
    image = scoring_frame(LETTERBOX, "image", resolution=40).sample(saliency, "nearest")
    assert bool((model[:5] == 1).all())
    assert image.shape == (20, 40)
    assert bool((image == 0).all())


def test_a_frame_that_shows_nothing_of_the_image_is_all_unseen() -> None:
    for offset in (-1000.0, 1000.0):
        frame = scoring_frame(Geometry(10, 10, 10, 10, 1, 1, offset, 0), "image", resolution=10)
        assert bool((frame.sample(noise(3, 3), "bilinear") == -math.inf).all())


@settings(max_examples=60, deadline=None)
@given(
    geometries(),
    st.sampled_from(FRAMES),
    st.lists(st.tuples(*[st.floats(0, 30)] * 4), max_size=3),
    st.booleans(),
)
def test_a_pixel_is_in_the_mask_when_its_centre_is_in_a_mapped_box(
    geometry: Geometry, frame: FrameName, corners: list[tuple[float, float, float, float]], inclusive: bool
) -> None:
    scoring = scoring_frame(geometry, frame, resolution=13)
    boxes = [Box("", min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    one = 1 if inclusive else 0
    g = geometry
    if frame == "model":
        scale_x, scale_y, offset_x, offset_y = g.scale_x, g.scale_y, g.offset_x, g.offset_y
    else:
        scale_x, scale_y, offset_x, offset_y = scoring.width / g.image_width, scoring.height / g.image_height, 0, 0
    expected = np.zeros((scoring.height, scoring.width), bool)
    for y in range(scoring.height):
        for x in range(scoring.width):
            expected[y, x] = any(
                box.x1 * scale_x + offset_x <= x + 0.5 < (box.x2 + one) * scale_x + offset_x
                and box.y1 * scale_y + offset_y <= y + 0.5 < (box.y2 + one) * scale_y + offset_y
                for box in boxes
            )
    np.testing.assert_array_equal(scoring.mask(boxes, inclusive=inclusive), expected)


def test_inclusive_corners_hold_their_last_pixel() -> None:
    frame = scoring_frame(Geometry.squash(8, 8, 8, 8), "model")
    box = Box("", 2, 3, 4, 5)
    assert frame.mask([box]).sum() == 2 * 2
    assert frame.mask([box], inclusive=True).sum() == 3 * 3


def test_equal_frames_are_one_key() -> None:
    assert len({scoring_frame(CROP, "image", 60), scoring_frame(CROP, "image", 60), scoring_frame(CROP, "model")}) == 2
