"""Writing a dataset's images: into a new folder, as JPEG or PNG."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import WronglungError
from ..instances import ImageRef

if TYPE_CHECKING:
    from PIL import Image

ImageFormat = Literal["jpg", "png"]


def check_encoding(image_format: str, quality: int) -> None:
    """Raises :class:`WronglungError` for an unknown format and a JPEG quality outside of 1 to 95."""
    if image_format not in ("jpg", "png") or not 1 <= quality <= 95:
        raise WronglungError(f"image_format={image_format!r}, quality={quality}: jpg or png, and 1 to 95")


def make_empty(folder: Path) -> None:
    """Make a folder; raises :class:`WronglungError` when it exists and holds something, ``OSError`` when it cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise WronglungError(f"{folder}: is not empty; give a new folder")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``folder`` when all went well, and else is removed.

    Raises :class:`WronglungError` when ``folder`` holds something, and ``OSError`` when it cannot be written.
    """
    make_empty(folder)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        yield scratch
        for one in sorted(scratch.iterdir()):
            one.replace(folder / one.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def in_png_colours(pixels: Image.Image) -> Image.Image:
    """The pixels, as RGB where PNG does not have their colours."""
    return pixels.convert("RGB") if pixels.mode in ("CMYK", "YCbCr", "LAB", "HSV") else pixels


def save_image(image: ImageRef, file: Path, image_format: ImageFormat, quality: int) -> None:
    """Encode an image; PNG keeps every pixel. The file's folder is made if needed.

    Raises :class:`WronglungError` for an image that cannot be decoded, or is neither grey nor RGB of 8 bits where JPEG is
    asked for, and ``OSError`` for a file that cannot be written.
    """
    try:
        pixels = image.load()
    except OSError as error:
        raise WronglungError(f"image {image.id}: {error}") from error
    pixels = in_png_colours(pixels)
    if image_format == "jpg" and pixels.mode not in ("L", "RGB"):
        raise WronglungError(f"image {image.id}: mode {pixels.mode} is not for JPEG; write png")
    file.parent.mkdir(parents=True, exist_ok=True)
    if image_format == "jpg":
        pixels.save(file, quality=quality)
    else:
        pixels.save(file)
