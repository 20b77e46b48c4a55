"""Preprocessing as steps: each follows the arithmetic of the library that models were trained with, rounding included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image

from ...benchmark.geometry import Geometry
from .canvas import Backend, Canvas, Interpolation, blur, values
from .greyscale import grey

Triple = tuple[float, float, float]
"""One number a channel: red, green, blue."""

Colour = Literal["RGB", "grey", "stretched grey"]
"""How an image becomes 8-bit levels. ``RGB``: grey images stay grey, and alpha is dropped. ``grey``: as
:func:`.greyscale.grey` says. ``stretched grey``: each image's darkest level becomes 0 and its brightest 255, truncated."""

Rounding = Literal["round", "floor", "truncate"]
"""How half of an odd difference between an image and its crop becomes whole. ``round``: to the even neighbour, and towards
zero where the image is smaller (torchvision, open_clip). ``floor``: down (transformers with Pillow). ``truncate``: towards
zero (transformers with torchvision)."""


class Step(Protocol):
    """What is done to a canvas, and in words."""

    def __call__(self, canvas: Canvas) -> Canvas: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Pipeline:
    """Steps that make a model's input of an image.

    Levels that no step has turned into values become 0…1 where values are needed: at :class:`Normalise`, and at the end.
    """

    steps: tuple[Step, ...]
    colour: Colour = "RGB"

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, Geometry]:
        """The model's input, float32 [3, height, width] on the CPU, and how the image lies in it.

        Raises ``ValueError`` for an image that has no 8-bit reading (:func:`.greyscale.grey`) or is too thin.
        """
        pixels, geometry = self.levels(image)
        return self.finished(pixels[None])[0], geometry

    def levels(self, image: Image.Image) -> tuple[torch.Tensor, Geometry]:
        """What :meth:`finished` makes the model's input of, a quarter or a twelfth of its size, and how the image lies in it.

        uint8 [1 or 3, height, width], or the input itself where it is not made of 8-bit levels one by one. One pipeline always
        gives the same number of channels. Raises as the call does.
        """
        canvas = Canvas(_levels(image, self.colour))
        for step in self._shaping:
            canvas = step(canvas)
        pixels = canvas.pixels
        if pixels.is_floating_point():
            for step in self._pointwise:
                canvas = step(canvas)
            pixels = canvas.pixels.expand(3, -1, -1).contiguous()
        elif self.colour == "RGB":
            pixels = pixels.expand(3, -1, -1).contiguous()
        geometry = Geometry(
            *image.size,
            canvas.width,
            canvas.height,
            scale_x=canvas.scale_x,
            scale_y=canvas.scale_y,
            offset_x=canvas.offset_x,
            offset_y=canvas.offset_y,
        )
        return pixels, geometry

    def finished(self, pixels: torch.Tensor) -> torch.Tensor:
        """The model's input, float32 [batch, 3, height, width], of a batch of :meth:`levels`, on their device.

        The same bits on every device: values are looked up, not computed.
        """
        if pixels.is_floating_point():
            return pixels
        table = self._values.to(pixels.device, non_blocking=True)
        at = pixels.to(torch.int32) + torch.arange(0, 768, 256, dtype=torch.int32, device=pixels.device)[:, None, None]
        return table.index_select(0, at.flatten()).reshape(at.shape)

    @cached_property
    def _values(self) -> torch.Tensor:
        """What each level becomes, one channel after the other: float32 [3 · 256]."""
        canvas = Canvas(torch.arange(256, dtype=torch.uint8)[None, None])
        for step in self._pointwise:
            canvas = step(canvas)
        return values(canvas.pixels)[:, 0].expand(3, -1).flatten()

    @property
    def _shaping(self) -> tuple[Step, ...]:
        return self.steps[: len(self.steps) - len(self._pointwise)]

    @property
    def _pointwise(self) -> tuple[Step, ...]:
        """The last steps, that look at one value at a time."""
        after = takewhile(lambda step: isinstance(step, (Rescale, Normalise)), reversed(self.steps))
        return tuple(after)[::-1]

    def __str__(self) -> str:
        return "; ".join([self.colour, *map(str, self.steps)])

    @property
    def frame(self) -> tuple[int, int] | None:
        """Height and width of the input, or None where they depend on the image."""
        shaping = [step for step in self.steps if not isinstance(step, (Rescale, Normalise))]
        last = shaping[-1] if shaping else None
        return (last.height, last.width) if isinstance(last, (Squash, BlurredSquash, CentreCrop)) else None


def _levels(image: Image.Image, colour: Colour) -> torch.Tensor:
    """Levels of an image, uint8 [1 or 3, rows, columns]."""
    if colour == "RGB" and Image.getmodebase(image.mode) != "L":
        return torch.from_numpy(np.stack([np.asarray(band) for band in image.convert("RGB").split()]))
    levels = grey(image)
    if colour == "stretched grey":
        # In this order and precision: a truncated level depends on the last bit.
        above = levels.astype(np.float64) - levels.min()
        levels = (above / max(1.0, above.max()) * 255).astype(np.uint8)
    return torch.tensor(levels[None])


@dataclass(frozen=True)
class Shortest:
    """Resize until the shorter side is ``side`` pixels; the other one in proportion, truncated (torchvision's rule)."""

    side: int
    interpolation: Interpolation = "bicubic"
    backend: Backend = "pillow"

    def __call__(self, canvas: Canvas) -> Canvas:
        longer = int(self.side * max(canvas.height, canvas.width) / min(canvas.height, canvas.width))
        size = (longer, self.side) if canvas.width <= canvas.height else (self.side, longer)
        return canvas.resized(*size, self.interpolation, self.backend)

    def __str__(self) -> str:
        return f"shortest side to {self.side}, {_by(self.interpolation, self.backend)}"


@dataclass(frozen=True)
class Longest:
    """Resize until the longer side is ``side`` pixels; the other one, of a square the width, in proportion and truncated.

    ``exact``: else the longer side is a truncated product, too, which floating point leaves a pixel short for some sizes
    (CheXzero).
    """

    side: int
    interpolation: Interpolation = "bicubic"
    backend: Backend = "pillow"
    exact: bool = True

    def __call__(self, canvas: Canvas) -> Canvas:
        ratio = self.side / max(canvas.height, canvas.width)
        height, width = int(canvas.height * ratio), int(canvas.width * ratio)
        if self.exact:
            height, width = (self.side, width) if canvas.height >= canvas.width else (height, self.side)
        return canvas.resized(height, width, self.interpolation, self.backend)

    def __str__(self) -> str:
        product = "" if self.exact else " as a truncated product"
        return f"longest side to {self.side}{product}, {_by(self.interpolation, self.backend)}"


@dataclass(frozen=True)
class Fit:
    """Resize in proportion, rounded, until the image fits ``inside`` or ``around`` a frame (open_clip's rule)."""

    height: int
    width: int
    where: Literal["inside", "around"] = "inside"
    interpolation: Interpolation = "bicubic"
    backend: Backend = "pillow"

    def __call__(self, canvas: Canvas) -> Canvas:
        ratios = canvas.height / self.height, canvas.width / self.width
        ratio = max(ratios) if self.where == "inside" else min(ratios)
        height, width = round(canvas.height / ratio), round(canvas.width / ratio)
        return canvas.resized(height, width, self.interpolation, self.backend)

    def __str__(self) -> str:
        return f"fitted {self.where} {self.height} × {self.width}, {_by(self.interpolation, self.backend)}"


@dataclass(frozen=True)
class Squash:
    """Resize to a fixed size; the aspect ratio is not kept. ``antialias=False`` is for torch's arithmetic alone."""

    height: int
    width: int
    interpolation: Interpolation = "bicubic"
    backend: Backend = "pillow"
    antialias: bool = True

    def __call__(self, canvas: Canvas) -> Canvas:
        return canvas.resized(self.height, self.width, self.interpolation, self.backend, self.antialias)

    def __str__(self) -> str:
        plain = "" if self.antialias else ", not antialiased"
        return f"squashed to {self.height} × {self.width}, {_by(self.interpolation, self.backend)}{plain}"


@dataclass(frozen=True)
class BlurredSquash:
    """Resize to a fixed size as OWLv2 does: values, not levels; where both sides shrink, a Gaussian with a deviation of
    half the factor less one first; then bilinear without antialiasing."""

    height: int
    width: int

    def __call__(self, canvas: Canvas) -> Canvas:
        pixels = values(canvas.pixels)
        down, across = canvas.height / self.height, canvas.width / self.width
        if min(down, across) > 1:
            pixels = blur(pixels, (down - 1) / 2, (across - 1) / 2)
        return replace(canvas, pixels=pixels).resized(self.height, self.width, "bilinear", "torch", antialias=False)

    def __str__(self) -> str:
        return f"squashed to {self.height} × {self.width}, Gaussian and bilinear (torch)"


@dataclass(frozen=True)
class PadToSquare:
    """Pad with ``fill`` to a square of at least ``least`` pixels; the image in the centre (half a pixel up and left where
    it cannot be), or in the upper left corner."""

    centred: bool = True
    least: int = 1
    fill: int = 0

    def __call__(self, canvas: Canvas) -> Canvas:
        side = max(canvas.height, canvas.width, self.least)
        top, left = ((side - canvas.height) // 2, (side - canvas.width) // 2) if self.centred else (0, 0)
        return canvas.window(-top, -left, side, side, self.fill)

    def __str__(self) -> str:
        least = f" of at least {self.least}" if self.least > 1 else ""
        return f"padded to a square{least} with {self.fill}, image {'centred' if self.centred else 'upper left'}"


@dataclass(frozen=True)
class CentreCrop:
    """The centre of the image; where the image is smaller than that, it is padded with ``fill``."""

    height: int
    width: int
    rounding: Rounding = "round"
    fill: int = 0

    def __call__(self, canvas: Canvas) -> Canvas:
        top = _half(canvas.height - self.height, self.rounding)
        left = _half(canvas.width - self.width, self.rounding)
        return canvas.window(top, left, self.height, self.width, self.fill)

    def __str__(self) -> str:
        fill = f", padded with {self.fill}" if self.fill else ""
        return f"centre {self.height} × {self.width} ({self.rounding}){fill}"


def _half(difference: int, rounding: Rounding) -> int:
    if rounding == "floor":
        return difference // 2
    if rounding == "round" and difference > 0:
        return round(difference / 2)
    return int(difference / 2)


@dataclass(frozen=True)
class Rescale:
    """Turn levels into values by a factor: 1 for values of 0…255."""

    factor: float

    def __call__(self, canvas: Canvas) -> Canvas:
        return replace(canvas, pixels=canvas.pixels.to(torch.float32) * self.factor)

    def __str__(self) -> str:
        return f"levels times {self.factor:g}"


@dataclass(frozen=True)
class Normalise:
    """(value - mean) / deviation, by channel."""

    mean: Triple
    std: Triple

    def __call__(self, canvas: Canvas) -> Canvas:
        mean, std = (torch.tensor(one, dtype=torch.float32)[:, None, None] for one in (self.mean, self.std))
        return replace(canvas, pixels=(values(canvas.pixels) - mean) / std)

    def __str__(self) -> str:
        return f"mean {_listed(self.mean)}, deviation {_listed(self.std)}"


def _listed(numbers: Triple) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else " ".join(map(str, numbers))


_NAMES = {"pillow": "Pillow", "torch": "torch", "opencv": "OpenCV"}


def _by(interpolation: Interpolation, backend: Backend) -> str:
    return f"{interpolation} ({_NAMES[backend]})"
