"""From a decoded image to a model's input, and where the image's pixels lie in it.

>>> pipeline = Pipeline((Shortest(224), CentreCrop(224, 224), Normalise(CLIP_MEAN, CLIP_STD)))
>>> pixels, geometry = pipeline(image)

Here are the pipelines of whole families, and the reader of Hugging Face's processor files; the steps are in
:mod:`.steps`. One more step before or after: ``replace(pipeline, steps=(PadToSquare(), *pipeline.steps))``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from ...benchmark.errors import WronglungError, explain
from ...benchmark.protocol import LoadedImage, Preprocessed
from .canvas import Backend, Canvas, Interpolation
from .steps import (
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
    Triple,
)

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "HALF_MEAN",
    "HALF_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backend",
    "BlurredSquash",
    "Canvas",
    "CentreCrop",
    "Colour",
    "Fit",
    "Interpolation",
    "Longest",
    "Normalise",
    "PadToSquare",
    "Pipeline",
    "Rescale",
    "Rounding",
    "Shortest",
    "Squash",
    "Step",
    "Triple",
    "biovil",
    "chexzero",
    "clip",
    "from_processor",
    "medclip",
    "pad256",
    "preprocessed",
]

CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF_MEAN: Triple = (0.5, 0.5, 0.5)
HALF_STD: Triple = (0.5, 0.5, 0.5)


def preprocessed(pipeline: Pipeline, image: LoadedImage) -> Preprocessed:
    """An image as far as threads of the host prepare it: :meth:`.steps.Pipeline.levels`.

    Raises :class:`WronglungError` naming an image that the pipeline cannot take.
    """
    try:
        pixels, geometry = pipeline.levels(image.pixels)
    except ValueError as error:
        raise WronglungError(f"image {image.id}: {error}") from error
    return Preprocessed(pixels, geometry)


def clip(
    side: int | tuple[int, int] = 224,
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest",
    interpolation: Interpolation = "bicubic",
    mean: Triple = CLIP_MEAN,
    std: Triple = CLIP_STD,
    backend: Backend = "pillow",
) -> Pipeline:
    """open_clip's inference transform. ``side``: of the input's square, or its (height, width).

    ``resize_mode``: ``shortest`` crops the longer side's ends away; ``squash`` does not keep the aspect ratio; ``longest``
    pads with black.
    """
    height, width = (side, side) if isinstance(side, int) else side
    crop = CentreCrop(height, width)
    resize: tuple[Step, ...]
    if resize_mode == "squash":
        resize = (Squash(height, width, interpolation, backend),)
    elif resize_mode == "longest":
        resize = (Fit(height, width, "inside", interpolation, backend), crop)
    elif height == width:
        resize = (Shortest(height, interpolation, backend), crop)
    else:
        # open_clip takes another rule to a frame that is no square, and forgets the interpolation.
        resize = (Fit(height, width, "around", "bicubic", backend), crop)
    return Pipeline((*resize, Normalise(mean, std)))


def biovil(resize: int = 512, crop: int = 480) -> Pipeline:
    """BioViL's, and with ``crop=448`` BioViL-T's."""
    return Pipeline((Shortest(resize, "bilinear"), CentreCrop(crop, crop)), colour="stretched grey")


def chexzero(side: int = 224, antialias: bool = False) -> Pipeline:
    """CheXzero's: an 8-bit square of 320 pixels, normalised as values of 0…255, and only then resized to ``side``.

    ``antialias``: of that second resize; off by default, as in the library's version that the authors pinned.
    """
    return Pipeline(
        (
            Longest(320, "lanczos", exact=False),
            CentreCrop(320, 320, "truncate"),
            Rescale(1),
            Normalise((101.48761,) * 3, (83.43944,) * 3),
            Squash(side, side, "bicubic", "torch", antialias),
        ),
        colour="grey",
    )


def medclip() -> Pipeline:
    """MedCLIP's: a black square of the longer side, at least 224 pixels, resized to 224."""
    return Pipeline(
        (PadToSquare(least=224), Squash(224, 224), Normalise((0.5862785803043838,) * 3, (0.27950088968644304,) * 3)),
        colour="grey",
    )


def pad256(mean: Triple = HALF_MEAN, std: Triple = HALF_STD) -> Pipeline:
    """That of GLoRIA, and of what came after it: a black square of 256 pixels by area averaging, of which the centre of
    224 is used."""
    return Pipeline(
        (Longest(256, "area", "opencv"), PadToSquare(), CentreCrop(224, 224), Normalise(mean, std)), colour="grey"
    )


_CLIP_LIKE = {
    "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224,
    "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
}  # fmt: skip
_FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP": _CLIP_LIKE,
    "Bit": _CLIP_LIKE,
    "Siglip": {"size": [224, 224], "resample": 3, "image_mean": HALF_MEAN, "image_std": HALF_STD},
    "Blip": {"size": 384, "resample": 3, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "OwlViT": {"size": 768, "resample": 3, "crop_size": 768, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "Owlv2": {"size": 960, "resample": 2, "do_pad": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "ViT": {"size": 224, "resample": 2, "image_mean": HALF_MEAN, "image_std": HALF_STD},
}
"""What a processor's file leaves out."""
_ONE_SIDE_IS_SHORTEST = ("CLIP", "Bit", "Siglip")
_TYPE = re.compile(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")
_RESAMPLE: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""


def _sides(value: object) -> tuple[int, ...]:
    """The shortest side alone, or height and width."""
    match value:
        case int() as side:
            return side, side
        case [int() as height, int() as width]:
            return height, width
        case {"height": int() as height, "width": int() as width, **others} if not others:
            return height, width
        case {"shortest_edge": int() as side, **others} if not others:
            return (side,)
    raise ValueError(f'{value} is not understood; {{"shortest_edge": …}} and {{"height": …, "width": …}} are')


class _Processor(BaseModel):
    """The keys that are followed."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    size: Annotated[tuple[PositiveInt, ...], BeforeValidator(_sides)]
    crop_size: Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_sides)] | None = None
    resample: Annotated[int, Field(ge=0, lt=len(_RESAMPLE))]
    rescale_factor: PositiveFloat = 1 / 255
    image_mean: Triple
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    do_resize: bool = True
    do_center_crop: bool = False
    do_rescale: bool = True
    do_normalize: bool = True
    do_pad: bool = False
    do_convert_rgb: bool = True


def from_processor(
    config: Mapping[str, Any],
    backend: Literal["pillow", "torch"] = "pillow",
    source: str = "preprocessor_config.json",
) -> Pipeline:
    """What a Hugging Face image processor does, from the mapping in a model's ``preprocessor_config.json``.

    ``backend``: whether to follow transformers' processors on Pillow or those on torchvision; they differ by some
    hundredths in places, and by a pixel in where they pad. OWLv2 is always resized as the latter do. ``source`` names the
    file in messages. Grey images become three channels, whatever the file says, and alpha is dropped.

    Raises :class:`WronglungError` naming the key that is wrong, or that asks for what a pipeline cannot do.
    """
    kind = config.get("image_processor_type") or config.get("feature_extractor_type")
    family = _TYPE.sub("", str(kind))
    if family not in _FAMILIES:
        known = ", ".join(f"{one}ImageProcessor" for one in _FAMILIES)
        raise WronglungError(f"{source}: image_processor_type is {kind!r}; it must be one of {known}")
    try:
        return Pipeline(_steps(_processor(config, family), family, backend))
    except ValidationError as error:
        raise WronglungError(f"{source}: {explain(error)}") from None
    except ValueError as error:
        raise WronglungError(f"{source}: {error}") from None


def _processor(config: Mapping[str, Any], family: str) -> _Processor:
    given = {**_FAMILIES[family], **{key: value for key, value in config.items() if value is not None}}
    for key, value in given.items():
        if key.startswith("do_") and value and key not in _Processor.model_fields:
            raise ValueError(f"{key} is {value!r}, and there is no step for it")
    if isinstance(given["size"], int) and family in _ONE_SIDE_IS_SHORTEST:
        given["size"] = {"shortest_edge": given["size"]}
    return _Processor.model_validate(given)


def _steps(processor: _Processor, family: str, backend: Literal["pillow", "torch"]) -> tuple[Step, ...]:
    before, after = _owlv2(processor) if family == "Owlv2" else (_resize_and_crop(processor, backend), [])
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    rescale = [] if math.isclose(factor, 1 / 255) else [Rescale(factor)]
    normalise = [Normalise(processor.image_mean, processor.image_std)] if processor.do_normalize else []
    return (*before, *rescale, *after, *normalise)


def _owlv2(processor: _Processor) -> tuple[list[Step], list[Step]]:
    """What is done to levels, and what to values."""
    if len(processor.size) == 1:
        raise ValueError('size must have "height" and "width"')
    before: list[Step] = [PadToSquare(centred=False)] if processor.do_pad else []
    after: list[Step] = [BlurredSquash(*processor.size)] if processor.do_resize else []
    return before, after


def _resize_and_crop(processor: _Processor, backend: Literal["pillow", "torch"]) -> list[Step]:
    if processor.do_pad:
        raise ValueError("do_pad is true, and there is a step for it in Owlv2ImageProcessor alone")
    steps: list[Step] = []
    if processor.do_resize:
        interpolation = _RESAMPLE[processor.resample]
        if backend == "torch" and interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"resample is {processor.resample} ({interpolation}), which needs the Pillow backend")
        match processor.size:
            case (side,):
                steps.append(Shortest(side, interpolation, backend))
            case height, width:
                steps.append(Squash(height, width, interpolation, backend))
    if processor.do_center_crop:
        if processor.crop_size is None:
            raise ValueError("crop_size is missing, and do_center_crop is true")
        steps.append(CentreCrop(*processor.crop_size, "floor" if backend == "pillow" else "truncate"))
    return steps
