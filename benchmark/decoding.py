"""Image files to pixels: ordinary image formats through Pillow, DICOM through pydicom, always 8 bits a channel.

Files are untrusted: only formats that are decoded in process are opened (Pillow would hand PostScript to another program),
a size beyond the limit is refused before pixels are made, and deflated DICOM is refused because it inflates without one.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Odd metadata and large films are no reason to warn: what matters is refused as an error. Filters are the process's, so they are
# set once; in the threads that decode they would undo each other.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\..*")
warnings.filterwarnings("ignore", module=r"pydicom\..*")

Size = tuple[int, int]

_ORIENTATION = 0x112
MAX_PIXELS = 2 * 89_478_485
"""Twice Pillow's limit for a warning, which is where Pillow refuses."""
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
_DICOM_SUFFIXES = (".dcm", ".dicom")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_FAULTS = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    MemoryError,
    Image.DecompressionBombError,
)


def image_size(path: Path) -> Size:
    """The (width, height) of an image file in pixels, from its header alone.

    It is that of the stored pixels; an orientation tag does not turn it. Raises ``OSError`` for a file that is no image
    of a known format, or is larger than :data:`MAX_PIXELS`.
    """
    try:
        with path.open("rb") as stream:
            return size_of(stream, path.suffix)
    except OSError as error:
        raise OSError(str(error.strerror or error).replace(f"{path!s}", path.name)) from error


def size_of(stream: Any, suffix: str = "") -> Size:
    """As :func:`image_size`, of an open binary file; ``suffix`` is that of its name."""
    if suffix.lower() in _DICOM_SUFFIXES or _is_dicom(stream):
        return _dicom_size(_read_dicom(stream, header_only=True))
    try:
        with Image.open(stream, formats=FORMATS) as image:
            return _stored_size(image)
    except _FAULTS as error:
        raise OSError(_in_words(error)) from error


def decode(data: bytes, suffix: str = "", *, at_least: int | None = None) -> Image.Image:
    """The pixels of an image file, 8 bits a channel, in its own mode (for example "L", "RGB" or "RGBA").

    Grey levels of more than 8 bits keep their high byte (of 16), as OpenCV's 8-bit mode does. A DICOM film is shown as
    :func:`dicom_pixels` says. ``at_least`` lets a JPEG file be decoded at 1/2, 1/4 or 1/8 of its size as long as its short
    side keeps that many pixels, which is faster and gives slightly other grey levels than shrinking the whole film does.

    Raises ``OSError`` for a file that is damaged, of an unknown format, or holds pixels without an 8-bit reading.
    """
    stream = io.BytesIO(data)
    if suffix.lower() in _DICOM_SUFFIXES or _is_dicom(stream):
        return dicom_pixels(_read_dicom(stream))
    try:
        image = Image.open(stream, formats=FORMATS)
        if isinstance(image, TiffImageFile):
            # Pillow turns TIFF files, and no others, by their orientation when it loads them.
            image.getexif()[_ORIENTATION] = 1
            image._size = image._tile_size
        if at_least is not None:
            _reduce(image, at_least)
        image.load()
        return _eight_bits(image)
    except _FAULTS as error:
        raise OSError(_in_words(error)) from error


def _stored_size(image: Image.Image) -> Size:
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[256]), int(image.tag_v2[257])
    return image.size


def _is_dicom(stream: Any) -> bool:
    start = stream.read(132)
    stream.seek(0)
    return bytes(start[128:132]) == b"DICM"


def _in_words(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return str(error) or type(error).__name__


def _reduce(image: Image.Image, at_least: int) -> None:
    factor = next((one for one in (8, 4, 2) if min(image.size) // one >= at_least), 1)
    if factor > 1:
        # Of the sizes that the codec can give, draft takes the smallest that is no smaller than asked in both directions.
        image.draft(None, (image.width // factor, image.height // factor))


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("holds floating-point pixels, which have no 8-bit reading")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("holds integers outside 0..65535, which have no 8-bit reading")
    return Image.fromarray((values >> 8).astype(np.uint8))


def dicom_pixels(film: Dataset) -> Image.Image:
    """A DICOM film as a radiologist would see it, in 8 bits a channel.

    Stored values go through the modality's rescaling or lookup table, then the film's first window or lookup table
    (VOI LUT; without one, from the darkest to the brightest value), and are inverted where MONOCHROME1 says that low
    values are bright. Colour is shown as it is. Raises ``OSError`` for what cannot be shown: several frames, damage, or a
    compression that needs another package.
    """
    from pydicom.pixels.processing import convert_color_space

    _dicom_size(film)
    try:
        _drop_unusable(film)
        values = film.pixel_array
        interpretation = str(film.get("PhotometricInterpretation", ""))
        if not interpretation.startswith(("MONOCHROME1", "MONOCHROME2", "RGB", "YBR")):
            raise ValueError(f"photometric interpretation {interpretation!r}")
        if values.ndim == 3:
            if interpretation.startswith("YBR"):
                values = convert_color_space(values, interpretation, "RGB")
            return Image.fromarray(_eight_bit_colour(values, int(film.BitsStored)))
        if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
            raise ValueError(f"values of type {values.dtype}, not integers of at most 16 bits")
        low = int(values.min())
        table = _levels(film, values, np.arange(low, int(values.max()) + 1).astype(values.dtype))
        if interpretation == "MONOCHROME1":
            table = 255 - table
        return Image.fromarray(np.take(table, np.subtract(values, low, dtype=np.int32) if low else values))
    except Exception as error:
        # pydicom raises whatever a damaged element leads to; its longer messages list the plug-ins that it tried.
        raise OSError(f"DICOM film: {' '.join(_in_words(error).split())[:300]}") from error


def _drop_unusable(film: Dataset) -> None:
    """Remove elements that are there and say nothing, as some films have them: they then count as absent."""
    for name in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"):
        if name in film and film.get(name) in (None, ""):
            delattr(film, name)
    width = film.get("WindowWidth")
    widths = [] if width is None else [width] if isinstance(width, int | float | str) else list(width)
    if widths and float(widths[0]) <= 0:
        del film.WindowWidth
        if "WindowCenter" in film:
            del film.WindowCenter


def _levels(film: Dataset, values: npt.NDArray[Any], stored: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The grey level of each stored value from the film's lowest to its highest: a film has far more pixels than values."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    shown = np.asarray(apply_voi_lut(apply_modality_lut(stored, film), film), dtype=np.float64)
    occurring = shown
    if film.get("ModalityLUTSequence"):
        # A table need not rise, so that the film's extremes may be those of any value in between.
        occurring = shown[np.bincount((values.astype(np.int64) - int(stored[0])).ravel(), minlength=len(stored)) > 0]
    return _stretch(shown, _shown_range(film, occurring))


def _shown_range(film: Dataset, shown: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The values that are black and white: the output range of the table or window, else the film's own extremes.

    pydicom gives a table's entries as they are, and maps a window to all values that the stored bits can take after
    rescaling.
    """
    table = (film.get("VOILUTSequence") or [None])[0]
    if table is not None and None not in (table.get("LUTDescriptor"), table.get("LUTData")):
        return 0.0, float((1 << int(table.LUTDescriptor[2])) - 1)
    if None in (film.get("WindowCenter"), film.get("WindowWidth")):
        return float(shown.min()), float(shown.max())
    bits, signed = int(film.BitsStored), int(film.PixelRepresentation) == 1
    if film.get("ModalityLUTSequence"):
        bits, signed = int(film.ModalityLUTSequence[0].LUTDescriptor[2]), False
    slope, intercept = film.get("RescaleSlope"), film.get("RescaleIntercept")
    scale, offset = (1.0, 0.0) if slope is None or intercept is None else (float(slope), float(intercept))
    least = -(1 << (bits - 1)) if signed else 0
    # With a negative slope the first is the greater one, and is what pydicom makes black.
    return least * scale + offset, (least + (1 << bits) - 1) * scale + offset


def _stretch(values: npt.NDArray[np.float64], shown: tuple[float, float]) -> npt.NDArray[np.uint8]:
    low, high = shown
    if high == low:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _eight_bit_colour(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    return (values >> max(0, bits - 8)).astype(np.uint8)


def _read_dicom(stream: Any, *, header_only: bool = False) -> Dataset:
    try:
        from pydicom import dcmread
        from pydicom.filereader import _read_file_meta_info, read_preamble
    except ImportError as error:
        raise OSError('is a DICOM film, which needs pydicom: pip install "wronglung[dicom]"') from error
    try:
        read_preamble(stream, False)
        if str(_read_file_meta_info(stream).get("TransferSyntaxUID", "")) == _DEFLATED:
            raise ValueError("is deflated, which is not read; store it in another transfer syntax")
        stream.seek(0)
        return dcmread(stream, stop_before_pixels=header_only)
    except Exception as error:
        raise OSError(f"DICOM film: {' '.join(_in_words(error).split())[:300]}") from error


def _dicom_size(film: Dataset) -> Size:
    try:
        width, height, frames = int(film.Columns), int(film.Rows), int(film.get("NumberOfFrames", 1) or 1)
    except Exception as error:
        raise OSError("DICOM film: has no Rows and Columns") from error
    if frames != 1:
        raise OSError(f"DICOM film: holds {frames} frames; a film has one")
    if width * height > MAX_PIXELS:
        raise OSError(f"DICOM film: {width} × {height} pixels is more than {MAX_PIXELS}")
    return width, height
