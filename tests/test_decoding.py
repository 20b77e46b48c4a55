"""Image files to pixels: always 8 bits a channel, DICOM as a radiologist would see it, and nothing dangerous opened."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from wronglung.benchmark.decoding import decode, image_size
from wronglung.benchmark.instances import ImageRef


def film(values: np.ndarray, **elements: Any) -> Dataset:
    """A DICOM film of unsigned or signed 16-bit values [rows, columns]."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    one = Dataset()
    one.file_meta = meta
    one.Rows, one.Columns = values.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
    one.PixelRepresentation = int(values.dtype == np.int16)
    one.PixelData = values.astype("<u2" if values.dtype != np.int16 else "<i2").tobytes()
    for name, value in elements.items():
        setattr(one, name, value)
    return one


def stored(one: Dataset) -> bytes:
    stream = io.BytesIO()
    one.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shown(one: Dataset) -> np.ndarray:
    return np.asarray(decode(stored(one), ".dcm"))


RAMP = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)


def test_without_a_window_the_darkest_value_is_black_and_the_brightest_white() -> None:
    np.testing.assert_array_equal(shown(film(RAMP + 17)), np.rint(RAMP / RAMP.max() * 255))


def test_monochrome1_is_inverted() -> None:
    np.testing.assert_array_equal(
        shown(film(RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - np.rint(RAMP / RAMP.max() * 255)
    )


def window(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """The linear window of the standard (PS3.3 C.11.2.1.2.1) as grey levels, written out."""
    level = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    level[values <= centre - 0.5 - (width - 1) / 2] = 0
    level[values > centre - 0.5 + (width - 1) / 2] = 255
    return np.rint(level)


@pytest.mark.parametrize(("centre", "width"), [(2048, 1024), (100, 300), (3000, 4096), (2000, 2)])
def test_the_first_window_is_applied(centre: int, width: int) -> None:
    one = film(RAMP, WindowCenter=[centre, 5], WindowWidth=[width, 7])
    np.testing.assert_array_equal(shown(one), window(RAMP.astype(float), centre, width))


def test_a_window_is_in_rescaled_values() -> None:
    one = film(RAMP, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3000", WindowWidth="2000")
    np.testing.assert_array_equal(shown(one), window(RAMP * 2.0 - 1000, 3000, 2000))


def test_a_negative_slope_turns_the_grey_levels() -> None:
    one = film(RAMP, RescaleSlope="-1", RescaleIntercept="4095", WindowCenter="2048", WindowWidth="4096")
    np.testing.assert_array_equal(shown(one), window(4095.0 - RAMP, 2048, 4096))


def test_signed_values() -> None:
    values = RAMP.astype(np.int16) - 2048
    one = film(values, WindowCenter="0", WindowWidth="1000")
    np.testing.assert_array_equal(shown(one), window(values.astype(float), 0, 1000))


def test_all_values_of_sixteen_signed_bits() -> None:
    values = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(256, 256)
    expected = np.rint((values.astype(float) + 32768) / 65535 * 255)
    np.testing.assert_array_equal(shown(film(values, BitsStored=16, HighBit=15)), expected)


def test_a_table_that_does_not_rise_is_shown_from_its_darkest_to_its_brightest_value() -> None:
    entries = [(value * 7919) % 4096 for value in range(4096)]
    values = np.array([[3, 1000], [77, 4095]], dtype=np.uint16)
    chosen = np.array(entries)[values].astype(float)
    expected = np.rint((chosen - chosen.min()) / (chosen.max() - chosen.min()) * 255)
    np.testing.assert_array_equal(shown(film(values, ModalityLUTSequence=[table(entries, 16)])), expected)


def test_values_of_more_than_sixteen_bits_are_refused() -> None:
    one = film(np.zeros((2, 2), dtype=np.uint16))
    one.BitsAllocated, one.BitsStored, one.HighBit = 32, 32, 31
    one.PixelData = np.array([[0, 1], [2, 4_000_000_000]], dtype="<u4").tobytes()
    with pytest.raises(OSError, match="not integers of at most 16 bits"):
        shown(one)


def table(entries: list[int], bits: int, first: int = 0) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def test_a_lookup_table_goes_before_a_window() -> None:
    entries = [value * value // 4095 for value in range(4096)]
    one = film(RAMP, VOILUTSequence=[table(entries, 12)], WindowCenter="2", WindowWidth="2")
    expected = np.rint(np.array(entries)[RAMP] / 4095 * 255)
    np.testing.assert_array_equal(shown(one), expected)


def test_a_modality_table_sets_the_range_of_the_window() -> None:
    entries = [value * 16 for value in range(4096)]
    one = film(RAMP, ModalityLUTSequence=[table(entries, 16)], WindowCenter="32000", WindowWidth="32000")
    np.testing.assert_array_equal(shown(one), window(RAMP * 16.0, 32000, 32000))


def test_sixteen_bits_and_a_constant_film() -> None:
    values = np.array([[0, 65535], [32768, 256]], dtype=np.uint16)
    np.testing.assert_array_equal(shown(film(values, BitsStored=16, HighBit=15)), np.rint(values / 65535 * 255))
    np.testing.assert_array_equal(shown(film(np.full((3, 4), 7, dtype=np.uint16))), np.zeros((3, 4)))


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"WindowCenter": None, "WindowWidth": None, "VOILUTFunction": ""},
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": [2048, 1], "WindowWidth": [0, 1]},
    ],
)
def test_elements_that_say_nothing_do_not_count(elements: dict[str, Any]) -> None:
    np.testing.assert_array_equal(shown(film(RAMP, **elements)), np.rint(RAMP / RAMP.max() * 255))


def test_a_compressed_film_is_the_same_film() -> None:
    one = film(RAMP)
    expected = shown(one)
    one.compress(RLELossless)
    np.testing.assert_array_equal(shown(one), expected)


def test_colour_is_shown_as_it_is() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    one = film(np.zeros((4, 5), dtype=np.uint16))
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
    one.BitsAllocated, one.BitsStored, one.HighBit = 8, 8, 7
    one.PixelData = colours.tobytes()
    image = decode(stored(one), ".dcm")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), colours)


def test_size_and_pixels_are_those_of_the_file_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.dcm", "a.dicom", "a.DCM", "a"):
        (tmp_path / name).write_bytes(stored(film(np.zeros((6, 9), dtype=np.uint16))))
        assert image_size(tmp_path / name) == (9, 6)
        assert ImageRef("a", tmp_path / name, 9, 6).load().size == (9, 6)


def deflated() -> bytes:
    one = film(RAMP)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return stored(one)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "DICOM"),
        (b"\0" * 500, "DICOM"),
        (stored(film(RAMP))[:-40], "DICOM film: .*bytes"),
        (stored(film(RAMP, NumberOfFrames=3)), "holds 3 frames"),
        (stored(film(RAMP, Rows=60_000, Columns=60_000)), "60000 × 60000 pixels"),
        (deflated(), "deflated"),
        (stored(film(RAMP))[:300], "has no Rows and Columns"),
        (stored(film(RAMP, PhotometricInterpretation="PALETTE COLOR")), "photometric interpretation 'PALETTE COLOR'"),
    ],
)
def test_a_film_that_cannot_be_shown_says_why(data: bytes, message: str) -> None:
    with pytest.raises(OSError, match=message):
        decode(data, ".dcm")


def test_a_deflated_film_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    """A zip bomb: 200 MB of zeros behind a small header."""
    data = deflated()
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    meta = 128 + 4 + 12 + struct.unpack_from("<I", data, 140)[0]
    bomb = data[:meta] + body.compress(bytes(200_000_000)) + body.flush()
    (tmp_path / "bomb.dcm").write_bytes(bomb)
    with pytest.raises(OSError, match="deflated"):
        image_size(tmp_path / "bomb.dcm")


def test_without_pydicom_a_film_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(film(RAMP))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(OSError, match=r'pip install "wronglung\[dicom\]"'):
        decode(data, ".dcm")


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_sixteen_bit_files_keep_their_high_byte() -> None:
    """Pillow's own conversion would turn every level above 255 into white."""
    values = np.array([[0, 255, 256, 4095], [40_000, 65_280, 65_535, 1]], dtype=np.uint16)
    pixels = decode(png(Image.fromarray(values)))
    assert pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(pixels), values >> 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_other_files_keep_their_mode(mode: str) -> None:
    image = Image.linear_gradient("L").convert(mode)
    assert np.array_equal(np.asarray(decode(png(image))), np.asarray(image))


def test_what_has_no_eight_bit_reading_is_refused() -> None:
    with pytest.raises(OSError, match="floating-point"):
        decode(png(Image.new("F", (4, 4), 0.5), "TIFF"))
    with pytest.raises(OSError, match=r"outside 0\.\.65535"):
        decode(png(Image.new("I", (4, 4), -1), "TIFF"))


def test_formats_that_other_programs_decode_are_not_opened(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    file = tmp_path / "film.png"
    Image.new("L", (20, 10)).save(file, "EPS")
    with pytest.raises(OSError, match="not an image of a known format"):
        image_size(file)
    with pytest.raises(OSError, match="not an image of a known format"):
        decode(file.read_bytes())


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    data = bytearray(png(Image.new("L", (8, 8))))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    with pytest.raises(OSError, match="exceeds limit"):
        image_size(tmp_path / "bomb.png")


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1), dtype=np.uint8)).resize(
        (width, height)
    )


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((801, 640), 80, (101, 80)),
        ((801, 640), 81, (201, 160)),
        ((801, 640), 300, (401, 320)),
        ((801, 640), 321, (801, 640)),
        ((801, 640), 5000, (801, 640)),
        ((64, 1000), 8, (8, 125)),
    ],
)
def test_a_jpeg_film_is_reduced_while_it_is_decoded(
    tmp_path: Path, size: tuple[int, int], at_least: int, expected: tuple[int, int]
) -> None:
    file = tmp_path / "a.jpg"
    noise(*size).save(file, quality=95)
    reduced = ImageRef("a", file, *size).load(at_least=at_least)
    assert reduced.size == expected
    assert ImageRef("a", file, *size).load().size == size
    with Image.open(file) as whole:
        smooth = np.asarray(whole.reduce(-(-size[0] // expected[0])), dtype=float)
    assert np.abs(np.asarray(reduced, dtype=float) - smooth).mean() < 3


def test_other_codecs_are_decoded_in_full(tmp_path: Path) -> None:
    noise(400, 300).save(tmp_path / "a.png")
    assert ImageRef("a", tmp_path / "a.png", 400, 300).load(at_least=16).size == (400, 300)


def test_another_size_than_announced_is_an_error(tmp_path: Path) -> None:
    noise(400, 300).save(tmp_path / "a.jpg")
    for size in ((401, 300), (200, 150)):
        with pytest.raises(OSError, match="as announced"):
            ImageRef("a", tmp_path / "a.jpg", *size).load()


def test_pydicom_is_the_version_whose_header_reader_is_used() -> None:
    assert pydicom.__version__.startswith("3.")


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_an_orientation_tag_turns_nothing(tmp_path: Path, kind: str, orientation: int) -> None:
    """Boxes are in stored pixels."""
    pixels = Image.fromarray(np.arange(60 * 40, dtype=np.uint32).reshape(40, 60).astype(np.uint8))
    exif = Image.Exif()
    exif[0x112] = orientation
    file = tmp_path / f"a.{kind.lower()}"
    pixels.save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert image_size(file) == (60, 40)
    shown = decode(file.read_bytes()).convert("L")
    assert shown.size == (60, 40)
    if kind in ("TIFF", "PNG"):
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(pixels))


def test_decoding_in_threads_leaves_the_warnings_of_the_process_alone() -> None:
    before = list(warnings.filters)
    data = [png(noise(40, 30)), stored(film(RAMP))] * 40
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode, data))
    assert list(warnings.filters) == before
