"""SIIM-ACR as the competition published it, on small films; one is of full size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from trees.dicom import save_dicom

SIDE = 1024
PREFIX = "1.2.276.0.7230010.3.1.4.8323329.1000.1517875201."


def film(number: int) -> str:
    return f"{PREFIX}{number:06d}"


def relative(*rectangles: tuple[int, int, int, int]) -> str:
    """Relative run lengths, column by column, of rectangles (x1, y1, x2, y2) beside each other, from left to right."""
    numbers, end = [], 0
    for x1, y1, x2, y2 in rectangles:
        for x in range(x1, x2):
            start = x * SIDE + y1
            numbers += [start - end, y2 - y1]
            end = start + y2 - y1
    return " ".join(map(str, numbers))


def write(root: Path) -> Path:
    """The folder that holds the table and the films."""
    upper, lower = relative((160, 160, 320, 480)), relative((800, 512, 816, 544), (880, 512, 896, 640))
    rows = [
        (film(1), " -1"),
        (film(2), f" {upper}"),
        (film(3), f" {lower}"),
        (film(2), f" {lower}"),  # a second mask, not behind the first
        (film(3), f" {lower}"),  # the row again
        (film(4), "-1"),
        (film(5), " 5 10 7"),
        (film(5), " 1048570 99"),
        (film(6), f" {upper}"),
        (film(6), " 1 x"),
        (film(7), f" {upper}"),  # has no file
        (film(8), f" {upper}"),  # was cropped
        (film(9), f" {upper}"),  # is no film
        (film(10), f" {upper}"),  # of full size
        (film(10), " -1"),
        (film(11), " 0 0"),
        (film(1), " -1"),
    ]
    root.mkdir(parents=True, exist_ok=True)
    lines = ["ImageId, EncodedPixels", *(f"{name},{encoded}" for name, encoded in rows)]
    (root / "train-rle.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    films = root / "dicom-images-train"
    shades = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 256).astype(np.uint16)
    for number in (1, 2, 3, 4, 5, 6, 8, 9, 11):
        file = films / f"1.2.3.{number}" / f"1.2.3.{number}.1" / f"{film(number)}.dcm"
        save_dicom(file, shades[:48] if number == 8 else shades, BitsStored=8, HighBit=7)
        if number == 9:
            file.write_bytes(b"no film")
    full = films / "1.2.3.10" / "1.2.3.10.1" / f"{film(10)}.png"
    full.parent.mkdir(parents=True)
    Image.new("L", (SIDE, SIDE), 60).save(full)
    return root
