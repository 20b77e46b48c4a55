"""Preprocessing as steps: the same pixels as the libraries that models were trained with, and where they came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from wronglung.adapters.gloria import preprocessing as gloria
from wronglung.adapters.preprocessing.canvas import Canvas, values
from wronglung.adapters.preprocessing.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    HALF_MEAN,
    HALF_STD,
    BlurredSquash,
    CentreCrop,
    Colour,
    Fit,
    Longest,
    Normalise,
    PadToSquare,
    Pipeline,
    Rescale,
    Rounding,
    Shortest,
    Squash,
    Step,
    biovil,
    chexzero,
    clip,
    from_processor,
    medclip,
    pad256,
)
from wronglung.adapters.preprocessing.steps import _levels
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry

sides = st.integers(20, 150)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth noise of the full range, the same for the same size: unlike white noise, its averages differ by place."""
    levels = np.random.default_rng(width * 10_007 + height).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def processor(kind: str, **keys: Any) -> dict[str, Any]:
    return {"image_processor_type": f"{kind}ImageProcessor", **keys}


GOLDEN: dict[str, Pipeline] = {
    "open_clip_shortest_224": clip(224),
    "open_clip_squash_224": clip(224, "squash"),
    "open_clip_longest_224": clip(224, "longest"),
    "hf_clip_224": from_processor(processor("CLIP"), "torch"),
    "hf_clip_pil_224": from_processor(processor("CLIP"), "pillow"),
    "hf_siglip_224": from_processor(processor("Siglip"), "torch"),
    "hf_siglip_448_bilinear": from_processor(
        processor("Siglip", size={"height": 448, "width": 448}, resample=2), "torch"
    ),
    "hf_blip_384": from_processor(processor("Blip"), "torch"),
    "hf_owlvit_768": from_processor(processor("OwlViT"), "torch"),
    "hf_owlv2_960": from_processor(processor("Owlv2"), "torch"),
    "biovil_512_480": biovil(512, 480),
    "biovil_t_512_448": biovil(512, 448),
    "pad256_crop224_half": pad256(),
    "medclip_224": medclip(),
    "bit_518": from_processor(processor("Bit", size={"shortest_edge": 518}, crop_size=518), "torch"),
}


@pytest.fixture(scope="module")
def golden_pixels(shared: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(shared / "golden_encoders" / "preprocess" / "golden.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", GOLDEN)
def test_pixels_are_those_of_the_original_implementation(
    name: str, golden_pixels: dict[str, npt.NDArray[Any]], shared: Path
) -> None:
    pipeline = GOLDEN[name]
    for number in range(3):
        with Image.open(shared / "golden_encoders" / "biovil" / "images" / f"cxr_{number}.png") as image:
            pixels, geometry = pipeline(image)
        key = f"{name}.{number}"
        assert pixels.shape == tuple(golden_pixels[f"{key}.shape"])
        assert (geometry.frame_height, geometry.frame_width) == pipeline.frame == tuple(pixels.shape[1:])
        step = pixels.shape[1] // 28
        np.testing.assert_allclose(pixels[:1, ::step, ::step], golden_pixels[key], rtol=0, atol=1e-4)
        np.testing.assert_allclose(pixels.mean((1, 2)), golden_pixels[f"{key}.channel_mean"], rtol=0, atol=1e-4)


# Against the libraries' own code, at sizes that make their rounding show.


@settings(max_examples=30, deadline=None)
@given(
    width=sides,
    height=sides,
    frame=st.sampled_from([48, (48, 48), (33, 48), (61, 40)]),
    mode=st.sampled_from(["shortest", "squash", "longest"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
@example(width=53, height=48, frame=48, mode="shortest", interpolation="bicubic")
@example(width=47, height=300, frame=48, mode="longest", interpolation="bicubic")
def test_clip_is_open_clips_transform(width: int, height: int, frame: Any, mode: Any, interpolation: Any) -> None:
    transform = pytest.importorskip("open_clip.transform").image_transform(
        frame, is_train=False, resize_mode=mode, interpolation=interpolation
    )
    image = noise(width, height)
    pixels, _ = clip(frame, mode, interpolation)(image)
    torch.testing.assert_close(pixels, transform(image), rtol=0, atol=1e-6)


def _theirs(kind: str, backend: str, keys: dict[str, Any], image: Image.Image) -> torch.Tensor:
    pytest.importorskip("torchvision")
    import transformers

    name = f"{kind}ImageProcessor" + ("Pil" if backend == "pillow" else "")
    found = getattr(transformers, name, None)
    if found is None:
        pytest.skip(f"this transformers has no {name}")
    result: torch.Tensor = found(**keys)(image, return_tensors="pt")["pixel_values"][0]
    return result


CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    ("CLIP", {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}),
    ("CLIP", {"size": 48, "crop_size": 48, "resample": 2}),
    ("CLIP", {"size": {"shortest_edge": 40}, "crop_size": {"height": 53, "width": 39}}),
    ("CLIP", {"do_resize": False, "crop_size": 64, "do_normalize": False}),
    ("Bit", {"size": {"shortest_edge": 56}, "crop_size": {"height": 51, "width": 51}}),
    ("Siglip", {"size": {"height": 48, "width": 64}}),
    ("Siglip", {"size": [40, 48], "do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0] * 3}),
    ("Blip", {"size": 48, "rescale_factor": 1 / 127.5}),
    ("OwlViT", {"size": {"height": 96, "width": 96}, "do_center_crop": True, "crop_size": 80}),
    ("ViT", {"size": 48}),
    ("ViT", {"size": {"height": 64, "width": 48}, "resample": 3, "do_normalize": False, "do_rescale": False}),
]


@pytest.mark.parametrize("backend", ["pillow", "torch"])
@pytest.mark.parametrize(("kind", "keys"), CONFIGURATIONS)
@pytest.mark.parametrize("size", [(50, 64), (131, 97), (48, 48), (37, 149), (83, 41)])
def test_a_processor_file_gives_what_transformers_processor_does(
    kind: str, keys: dict[str, Any], size: tuple[int, int], backend: Any
) -> None:
    image = noise(*size)
    pixels, geometry = from_processor(processor(kind, **keys), backend)(image)
    theirs = _theirs(kind, backend, keys, image).to(torch.float32)
    assert (geometry.frame_height, geometry.frame_width) == tuple(theirs.shape[1:])
    torch.testing.assert_close(pixels, theirs, rtol=0, atol=1e-5)


# Without padding, transformers swaps the axes of a blur that is not the same along both.
@pytest.mark.parametrize(
    ("size", "pad"), [((50, 64), True), ((131, 97), True), ((300, 211), True), ((143, 143), False)]
)
def test_owlv2_is_blurred_before_it_shrinks(size: tuple[int, int], pad: bool) -> None:
    keys = {"size": {"height": 72, "width": 72}, "do_pad": pad}
    image = noise(*size)
    pixels, _ = from_processor(processor("Owlv2", **keys))(image)
    torch.testing.assert_close(pixels, _theirs("Owlv2", "torch", keys, image), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(2, 700), height=st.integers(2, 700))
@example(width=343, height=392)
@example(width=49, height=49)
def test_pad256_is_glorias_own_preprocessing(width: int, height: int) -> None:
    image = noise(width, height, "L")
    if 256 * min(width, height) < max(width, height):
        return
    pixels, geometry = pad256()(image)
    assert geometry == gloria.geometry(width, height)
    expected = gloria.normalise(torch.tensor(gloria.model_input(image)))
    torch.testing.assert_close(pixels, expected.expand(3, -1, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(320, 320), (401, 333), (154, 90), (77, 500), (606, 400)])
@pytest.mark.parametrize("antialias", [False, True])
def test_chexzero_resizes_what_was_normalised(size: tuple[int, int], antialias: bool) -> None:
    image = noise(*size, "L")
    ratio = 320.0 / max(size)
    width, height = (int(side * ratio) for side in size)  # 319 for a longer side of 154, 77 or 606
    square = Image.new("L", (320, 320))
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), ((320 - width) // 2, (320 - height) // 2))
    levels = torch.tensor(np.asarray(square), dtype=torch.float32).expand(1, 3, 320, 320)
    expected = functional.interpolate(
        (levels - 101.48761) / 83.43944, (224, 224), mode="bicubic", align_corners=False, antialias=antialias
    )
    pixels, _ = chexzero(224, antialias)(image)
    torch.testing.assert_close(pixels, expected[0], rtol=0, atol=1e-5)


def test_chexzero_is_not_antialiased_unless_told_to() -> None:
    image = noise(500, 400, "L")
    assert torch.equal(chexzero()(image)[0], chexzero(antialias=False)(image)[0])
    assert not torch.equal(chexzero()(image)[0], chexzero(antialias=True)(image)[0])


@pytest.mark.parametrize("size", [(320, 241), (99, 180), (500, 501)])
def test_medclip_pastes_on_a_square_of_at_least_224(size: tuple[int, int]) -> None:
    image = noise(*size, "L")
    side = max(224, *size)
    square = Image.new("L", (side, side))
    square.paste(image, (int((side - size[0]) / 2), int((side - size[1]) / 2)))
    levels = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC)) / 255
    pixels, _ = medclip()(image)
    np.testing.assert_allclose(pixels[0], (levels - 0.5862785803043838) / 0.27950088968644304, rtol=0, atol=1e-5)


def test_biovil_stretches_the_levels_of_each_image() -> None:
    dark = Image.fromarray((np.asarray(noise(600, 560, "L")) // 3 + 17).astype(np.uint8))
    levels = np.asarray(dark).astype(float)
    levels -= levels.min()
    levels /= levels.max()
    levels *= 255
    stretched = Image.fromarray(levels.astype(np.uint8)).resize((548, 512), Image.Resampling.BILINEAR)
    expected = np.asarray(stretched)[16:496, 34:514] / 255
    np.testing.assert_allclose(biovil()(dark)[0][2], expected, rtol=0, atol=1e-6)
    assert not biovil()(Image.new("L", (600, 600), 77))[0].any(), "a constant image becomes black"


def test_medsiglip_pads_to_a_square_before_its_processor() -> None:
    processed = from_processor(processor("Siglip", size={"height": 448, "width": 448}))
    pipeline = replace(processed, steps=(PadToSquare(), *processed.steps))
    square = Image.new("RGB", (301, 301))
    square.paste(noise(200, 301), (50, 0))
    pixels, geometry = pipeline(noise(200, 301))
    assert torch.equal(pixels, processed(square)[0])
    assert geometry == Geometry(200, 301, 448, 448, 448 / 301, 448 / 301, 50 * (448 / 301), 0.0)


# Where pixels come to lie.

PIPELINES: list[Pipeline] = [
    clip(64),
    clip(64, "squash"),
    clip(64, "longest"),
    clip((50, 71)),
    clip((50, 71), "longest"),
    clip(64, backend="torch"),
    from_processor(processor("CLIP", size=60, crop_size=77)),
    from_processor(processor("CLIP", size=60, crop_size=77), "torch"),
    from_processor(processor("CLIP", do_resize=False, crop_size=64)),
    from_processor(processor("Owlv2", size=64)),
    from_processor(processor("Owlv2", size=300, do_pad=False)),
    biovil(64, 51),
    chexzero(),
    medclip(),
    pad256(),
    Pipeline((PadToSquare(), Squash(64, 64, "bilinear", "torch"))),
    Pipeline((Longest(64, "lanczos"), CentreCrop(70, 60, "floor"), Squash(64, 64, "bilinear"))),
    Pipeline(()),
]


@settings(max_examples=300, deadline=None)
@given(width=sides, height=sides, across=st.floats(0, 1), down=st.floats(0, 1), pipeline=st.sampled_from(PIPELINES))
def test_a_spot_lands_where_the_geometry_says(
    width: int, height: int, across: float, down: float, pipeline: Pipeline
) -> None:
    spot = 8
    left, top = round(across * (width - spot)), round(down * (height - spot))
    levels = np.zeros((height, width), dtype=np.uint8)
    black, geometry = pipeline(Image.fromarray(levels))
    levels[top : top + spot, left : left + spot] = 255
    lit, same = pipeline(Image.fromarray(levels))
    assert same == geometry, "geometry depends on the size alone"
    assert (geometry.image_width, geometry.image_height) == (width, height)

    x = (left + spot / 2) * geometry.scale_x + geometry.offset_x
    y = (top + spot / 2) * geometry.scale_y + geometry.offset_y
    reach_x, reach_y = (spot / 2 * scale + 4 * max(1, scale) for scale in (geometry.scale_x, geometry.scale_y))
    inside_image = spot <= left <= width - 2 * spot and spot <= top <= height - 2 * spot
    inside_frame = reach_x < x < geometry.frame_width - reach_x and reach_y < y < geometry.frame_height - reach_y
    if not (inside_image and inside_frame):
        return
    light = (lit - black)[1].double()
    total = float(light.sum())
    rows, columns = torch.arange(light.shape[0]) + 0.5, torch.arange(light.shape[1]) + 0.5
    assert float(light.sum(0) @ columns.double()) / total == pytest.approx(x, abs=0.3)
    assert float(light.sum(1) @ rows.double()) / total == pytest.approx(y, abs=0.3)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_levels_that_are_finished_later_are_what_the_steps_make(pipeline: Pipeline, mode: str) -> None:
    image = noise(90, 120, mode)
    canvas = Canvas(_levels(image, pipeline.colour))
    for step in pipeline.steps:
        canvas = step(canvas)
    levels, geometry = pipeline.levels(image)
    finished = pipeline.finished(torch.stack([levels, levels]))
    assert torch.equal(finished, values(canvas.pixels).expand(2, 3, -1, -1))
    assert torch.equal(pipeline(image)[0], finished[0])
    assert pipeline(image)[1] == geometry


def test_only_what_is_made_of_levels_waits_as_such() -> None:
    image = noise(300, 260)
    assert clip(64).levels(image)[0].shape == (3, 64, 64)
    assert pad256().levels(image)[0].shape == (1, 224, 224)
    assert {one.levels(image)[0].dtype for one in (clip(64), pad256(), Pipeline(()))} == {torch.uint8}
    assert chexzero().levels(image)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("rounding", "size", "crop", "offset"),
    [
        ("round", 53, 48, -2),
        ("round", 55, 48, -4),
        ("floor", 53, 48, -2),
        ("floor", 55, 48, -3),
        ("truncate", 55, 48, -3),
        ("round", 43, 48, 2),
        ("floor", 43, 48, 3),
        ("truncate", 43, 48, 2),
        ("round", 48, 48, 0),
    ],
)
def test_half_of_an_odd_difference_is_rounded_as_told(rounding: Any, size: int, crop: int, offset: int) -> None:
    levels = np.zeros((60, size), dtype=np.uint8)
    levels[:, 20] = 255
    pixels, geometry = Pipeline((CentreCrop(60, crop, rounding),))(Image.fromarray(levels))
    assert geometry == Geometry(size, 60, crop, 60, 1.0, 1.0, offset, 0)
    assert int(pixels[0, 0].argmax()) == 20 + offset


def test_every_rounding_is_specified() -> None:
    assert set(get_args(Rounding)) == {"round", "floor", "truncate"}


@pytest.mark.parametrize(
    ("step", "x", "y"),
    [
        (PadToSquare(fill=51), 0, 19),
        (PadToSquare(centred=False, fill=51), 0, 0),
        (PadToSquare(least=107, fill=51), 3, 23),
        (CentreCrop(90, 120, fill=51), 10, 14),
    ],
    ids=str,
)
def test_padding_is_outside_of_what_the_geometry_calls_image(step: Step, x: int, y: int) -> None:
    pixels, geometry = Pipeline((step,))(Image.new("RGB", (100, 61), "white"))
    assert (geometry.offset_x, geometry.offset_y) == (x, y)
    expected = torch.full((geometry.frame_height, geometry.frame_width), 0.2)
    expected[y : y + 61, x : x + 100] = 1
    torch.testing.assert_close(pixels, expected.expand(3, -1, -1))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_the_input_is_float32_of_three_channels_and_of_the_frame(pipeline: Pipeline) -> None:
    image = noise(133, 90)
    before = image.tobytes()
    pixels, geometry = pipeline(image)
    assert (pixels.dtype, pixels.shape[0], pixels.is_contiguous()) == (torch.float32, 3, True)
    assert tuple(pixels.shape[1:]) == (geometry.frame_height, geometry.frame_width)
    assert pipeline.frame in (None, tuple(pixels.shape[1:]))
    assert torch.equal(pipeline(image)[0], pixels)
    assert image.tobytes() == before


def test_the_frame_is_known_where_it_is_fixed() -> None:
    assert clip((50, 71)).frame == (50, 71)
    assert chexzero(80).frame == (80, 80)
    assert from_processor(processor("Owlv2", size=64)).frame == (64, 64)
    assert Pipeline((Squash(5, 6), PadToSquare(), Normalise(CLIP_MEAN, CLIP_STD))).frame is None
    assert Pipeline((CentreCrop(5, 6), Shortest(7))).frame is None
    assert Pipeline(()).frame is None


# Colour.


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_a_grey_image_gives_what_its_three_equal_channels_give(pipeline: Pipeline) -> None:
    image = noise(133, 90, "L")
    torch.testing.assert_close(pipeline(image)[0], pipeline(image.convert("RGB"))[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "RGBX", "CMYK", "P", "YCbCr", "HSV"])
def test_colour_is_kept_and_alpha_dropped(mode: str) -> None:
    image = noise(40, 30).convert(mode)
    if mode == "RGBA":
        image.putalpha(90)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(Pipeline(())(image)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I", "I;16"])
def test_grey_modes_are_read_alike_in_every_colour(mode: str) -> None:
    levels = np.asarray(noise(40, 30, "L"))
    if mode == "1":
        levels = np.where(levels > 127, 255, 0).astype(np.uint8)
    image = (
        Image.fromarray(levels.astype(np.uint16) * 256 + 99)
        if mode == "I;16"
        else Image.fromarray(levels.astype(np.int32) * 256)
        if mode == "I"
        else Image.fromarray(levels).convert(mode)
    )
    assert image.mode == mode
    for colour in ("RGB", "grey"):
        np.testing.assert_allclose(Pipeline((), colour)(image)[0][1], levels / 255, rtol=0, atol=1e-6)


# In words, for the model's card.


def test_a_pipeline_is_one_line_of_words() -> None:
    assert str(clip()) == (
        "RGB; shortest side to 224, bicubic (Pillow); centre 224 × 224 (round); mean 0.48145466 0.4578275 0.40821073, "
        "deviation 0.26862954 0.26130258 0.27577711"
    )
    assert str(chexzero()) == (
        "grey; longest side to 320 as a truncated product, lanczos (Pillow); centre 320 × 320 (truncate); levels times 1; "
        "mean 101.48761, deviation 83.43944; squashed to 224 × 224, bicubic (torch), not antialiased"
    )
    assert str(biovil()) == ("stretched grey; shortest side to 512, bilinear (Pillow); centre 480 × 480 (round)")


VARIANTS: list[Step] = [
    *(Shortest(64, *how) for how in (("bicubic", "pillow"), ("bilinear", "pillow"), ("bicubic", "torch"))),
    *(
        Longest(64, *how)
        for how in (("bicubic", "pillow", True), ("bicubic", "pillow", False), ("area", "opencv", True))
    ),
    *(Fit(64, *how) for how in ((64, "inside"), (64, "around"), (65, "inside"))),
    *(Squash(64, 64, "bicubic", *how) for how in (("pillow", True), ("torch", True), ("torch", False))),
    BlurredSquash(64, 64),
    *(PadToSquare(*how) for how in ((True, 1, 0), (False, 1, 0), (True, 224, 0), (True, 1, 128))),
    *(CentreCrop(64, 64, *how) for how in (("round", 0), ("floor", 0), ("truncate", 0), ("round", 128))),
    *(Rescale(factor) for factor in (1, 1 / 127.5)),
    *(Normalise(*how) for how in ((CLIP_MEAN, CLIP_STD), (HALF_MEAN, HALF_STD), (HALF_MEAN, CLIP_STD))),
]


def test_what_differs_in_pixels_differs_in_words() -> None:
    pipelines = [Pipeline((step,)) for step in VARIANTS]
    pipelines += [Pipeline((VARIANTS[0],), colour) for colour in get_args(Colour) if colour != "RGB"]
    assert len(set(map(str, pipelines))) == len(pipelines)


# What is refused.


@pytest.mark.parametrize(
    ("pipeline", "size", "message"),
    [
        (pad256(), (3, 900), "3 × 900 pixels are too thin: nothing is left of the shorter side at 0 × 256"),
        (clip(64, "longest"), (2000, 5), "2000 × 5 pixels are too thin"),
        (chexzero(), (5, 2000), "5 × 2000 pixels are too thin"),
        (clip(224), (1, 60_000), "1 × 60000 pixels are too thin: they would become 224 × 13440000"),
    ],
)
def test_an_image_that_is_too_thin_is_refused_with_its_size(
    pipeline: Pipeline, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(Image.new("L", size))


@pytest.mark.parametrize("colour", get_args(Colour))
def test_floating_point_pixels_are_refused(colour: Colour) -> None:
    with pytest.raises(ValueError, match="floating-point pixels, which have no 8-bit reading"):
        Pipeline((), colour)(Image.new("F", (9, 9)))


@pytest.mark.parametrize(
    "step",
    [
        Squash(9, 9, "lanczos", "torch"),
        Squash(9, 9, "area"),
        Squash(9, 9, antialias=False),
        Shortest(9, "box", "opencv"),
    ],
)
def test_an_interpolation_that_the_backend_has_not_is_refused(step: Step) -> None:
    with pytest.raises(ValueError, match="has no .* interpolation with antialias="):
        Pipeline((step,))(noise(20, 20))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "image_processor_type is None; it must be one of CLIPImageProcessor, "),
        (processor("ConvNext"), "image_processor_type is 'ConvNextImageProcessor'; it must be one of"),
        ({"image_processor_type": ["CLIP"]}, "image_processor_type is ['CLIP']; it must be one of"),
        (processor("CLIP", size={"longest_edge": 224}), "size: {'longest_edge': 224} is not understood"),
        (
            processor("CLIP", size={"shortest_edge": 9, "longest_edge": 9}),
            "size: {'shortest_edge': 9, 'longest_edge': 9}",
        ),
        (processor("CLIP", size={"shortest_edge": 0}), "size.0: Input should be greater than 0"),
        (processor("CLIP", size="224"), "size: 224 is not understood"),
        (processor("CLIP", crop_size={"shortest_edge": 9}), "crop_size"),
        (processor("CLIP", resample=6), "resample: Input should be less than 6"),
        (processor("CLIP", image_std=[0.1, 0.2]), "image_std.2: is missing"),
        (processor("CLIP", image_std=[0.1, 0.2, 0.0]), "image_std.2: Input should be greater than 0"),
        (processor("CLIP", image_mean=[0.1, 0.2, float("nan")]), "image_mean.2: Input should be a finite number"),
        (processor("CLIP", do_pad=True), "do_pad is true"),
        (processor("CLIP", do_flip_channel_order=True), "do_flip_channel_order is True, and there is no step for it"),
        (processor("ViT", do_center_crop=True), "crop_size is missing, and do_center_crop is true"),
        (processor("Owlv2", size={"shortest_edge": 9}), 'size must have "height" and "width"'),
    ],
)
def test_a_processor_file_that_cannot_be_followed_is_refused_by_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(WronglungError) as caught:
        from_processor(config, source="models/x/preprocessor_config.json")
    assert str(caught.value).startswith("models/x/preprocessor_config.json: ")
    assert message in str(caught.value)


def test_lanczos_in_a_processor_file_needs_pillow() -> None:
    config = processor("CLIP", resample=1)
    assert "lanczos (Pillow)" in str(from_processor(config))
    with pytest.raises(WronglungError, match=r"resample is 1 \(lanczos\), which needs the Pillow backend"):
        from_processor(config, "torch")


@pytest.mark.parametrize(
    "config",
    [
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3},
        processor("CLIP", do_pad=None, do_thumbnail=False, processor_class="CLIPProcessor"),
        {"image_processor_type": "CLIPImageProcessorFast", "feature_extractor_type": "ViTFeatureExtractor"},
    ],
)
def test_old_and_new_files_of_one_processor_mean_the_same(config: dict[str, Any]) -> None:
    assert from_processor(config) == from_processor(processor("CLIP"))
