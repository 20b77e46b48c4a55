"""Decode throughput of a run against a plain Pillow loop, on films of 1 and 7.5 megapixels.

    python benchmarks/decoding.py FOLDER [--films 24]

Written once are films with the noise and size of a radiograph (JPEG of quality 95, PNG, and 12-bit DICOM). Printed are films a second,
milliseconds of CPU a film, and CPU over that of the plain loop, medians of interleaved repeats: ``pillow`` opens, decodes and drops one film after another; ``wronglung`` is what a run does
(read, SHA-256, decode, check) on one and on two threads; ``reduced`` lets JPEG films be decoded at a fraction of their size with
a short side of at least 512 pixels; ``prepared`` adds what GLoRIA's preprocessing does, in the same threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageFilter
from tabulate import tabulate

from wronglung.adapters.gloria.preprocessing import model_input
from wronglung.benchmark.decoding import image_size
from wronglung.benchmark.instances import ImageRef

SIZES = {"1 MP": (900, 1111), "7.5 MP": (2544, 2948)}


def film(size: tuple[int, int], number: int) -> Image.Image:
    """Smooth structures and fine noise, grey, 8 bits."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 20), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 4, (size[1], size[0]))
    smooth = np.asarray(coarse.filter(ImageFilter.GaussianBlur(3)), dtype=float)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def write(folder: Path, films: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    for name, size in SIZES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(films):
            pixels = film(size, number)
            pixels.save(folder / name / f"{number}.jpg", quality=95)
            if number < films // 4:
                pixels.save(folder / name / f"{number}.png")
                one = Dataset()
                one.file_meta = FileMetaDataset()
                one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                one.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
                one.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
                one.Rows, one.Columns, one.SamplesPerPixel = size[1], size[0], 1
                one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 0
                one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
                one.WindowCenter, one.WindowWidth = 2048, 3000
                one.PixelData = (np.asarray(pixels).astype("<u2") * 16).tobytes()
                one.save_as(folder / name / f"{number}.dcm", enforce_file_format=True)


def pillow(images: list[ImageRef]) -> None:
    for image in images:
        with Image.open(image.path) as one:
            one.load()


def threads(
    number: int, at_least: int | None = None, prepare: Callable[[Image.Image], object] = lambda pixels: None
) -> Callable[[list[ImageRef]], None]:
    import hashlib

    def load(image: ImageRef) -> None:
        data = image.read()
        hashlib.sha256(data).hexdigest()
        prepare(image.decoded(data, at_least=at_least))

    def run(images: list[ImageRef]) -> None:
        with ThreadPoolExecutor(number) as pool:
            for _ in pool.map(load, images):
                pass

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    folder = given.folder / f"films-{given.films}"
    if not folder.exists():
        write(folder, given.films)
    rows = []
    for name in SIZES:
        for suffix in ("jpg", "png", "dcm"):
            files = sorted((folder / name).glob(f"*.{suffix}"))
            images = [ImageRef(file.stem, file, *image_size(file)) for file in files]
            ways: dict[str, Callable[[list[ImageRef]], None]] = {
                "wronglung, 1 thread": threads(1),
                "2 threads": threads(2),
                "prepared, 1 thread": threads(1, None, model_input),
                "prepared, 2 threads": threads(2, None, model_input),
            }
            if suffix != "dcm":
                ways = {"pillow": pillow, **ways}
            if suffix == "jpg":
                ways |= {"reduced, 1 thread": threads(1, 512), "reduced, 2 threads": threads(2, 512)}
            seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(given.repeats):
                for way, run in ways.items():
                    start, cpu = time.perf_counter(), time.process_time()
                    run(images)
                    seconds[way].append((time.perf_counter() - start, time.process_time() - cpu))
            for way, taken in seconds.items():
                wall, cpu = (median(column) for column in zip(*taken, strict=True))
                ratio = ""
                if plain := seconds.get("pillow"):
                    ratio = f"{median(own / least for (_, own), (_, least) in zip(taken, plain, strict=True)):.2f}"
                rows.append((name, suffix, way, f"{len(images) / wall:.1f}", f"{1000 * cpu / len(images):.2f}", ratio))
    heads = ("film", "file", "way", "films/s", "CPU ms", "CPU / pillow")
    print(tabulate(rows, heads, tablefmt="github"))  # noqa: T201


if __name__ == "__main__":
    main()
