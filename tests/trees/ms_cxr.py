"""A small MS-CXR beside a small MIMIC-CXR-JPG, as they are unpacked."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

A = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff00"
B = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff01"
C = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff02"
D = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff03"
E = "0a1b2c3d-11223344-55667788-99aabbcc-ddeeff04"
PLACES = {
    A: "files/p10/p10000001/s50000001",
    B: "files/p10/p10000001/s50000001",
    C: "files/p11/p11000002/s50000002",
    D: "files/p11/p11000002/s50000003",
    E: "files/p12/p12000003/s50000004",
}
FRAMES = {A: (60, 48), B: (60, 48), C: (600, 480), D: (60, 48), E: (600, 480)}
FILES = {A: (60, 48), B: (60, 48), C: (60, 48), E: (60, 60)}
"""Sizes of the image files: C is shrunk, D is not there, E is cropped."""
COLUMNS = (
    "dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "split",
)  # fmt: skip

Row = tuple[str, str, str, tuple[Any, Any, Any, Any], str]
ROWS: tuple[Row, ...] = (
    (A, "Pneumothorax", "Left apical pneumothorax, small", (30, 4, 20.5, 10), "train"),
    (B, "Edema", "  mild œdema\nin both lungs ", (5, 6, 20, 30), "train"),
    (A, "Pleural Effusion", "bilateral \"layering\" effusions", (4, 30, 20, 12), "train"),
    (A, "Pleural Effusion", "bilateral \"layering\" effusions", (34, 30, 20, 12), "train"),
    (A, "Pleural Effusion", "bilateral \"layering\" effusions", (34, 30, 20, 12), "train"),
    (B, "Edema", "  mild œdema\nin both lungs ", (32, 6, 20, 30), "train"),
    (C, "Pneumonia", "Left apical pneumothorax, small", (300, 40, 205, 100), "val"),
    (C, "Consolidation", "right basal consolidation", (100, 200, 150, 200), "val"),
    (C, "Pneumonia", "right basal consolidation", (100, 200, 150, 200), "val"),
    (C, "Lung Opacity", "opacity at the border", (500, 400, 150, 100), "val"),
    (C, "Atelectasis", "no box is left", (100, 200, 0, 200), "val"),
    (C, "Atelectasis", "no box is left", (700, 500, 20, 20), "val"),
    (D, "Cardiomegaly", "the heart is enlarged", (10, 20, 30, 20), "test"),
    (E, "Cardiomegaly", "the heart is enlarged", (100, 200, 300, 200), "test"),
    (B, "", "retrocardiac opacity", (40, 40, -10, -12), "train"),
    (B, "Lung Opacity", "retrocardiac opacity", ("", "", "", ""), "train"),
    (B, "Lung Opacity", " ", (1, 2, 3, 4), "train"),
)  # fmt: skip


def path(image_id: str) -> str:
    return f"{PLACES[image_id]}/{image_id}.jpg"


def write(root: Path) -> Path:
    """Write both collections under ``root`` and return it; of the tables, the CSV files of two versions."""
    for image_id, (width, height) in FILES.items():
        file = root / "mimic-cxr-jpg/2.1.0" / path(image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        levels = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
        Image.fromarray(levels).save(file, quality=90)
    release = root / "ms-cxr/1.1.0"
    release.mkdir(parents=True)
    rows = [cells(*row) for row in ROWS]
    outside = [A, "Edema", "a path that leads out", f"files/p10/p10000001/../../{A}.jpg", 1, 2, 3, 4, 60, 48, "train"]
    table = table_bytes([COLUMNS, *rows, outside])
    (release / "MS_CXR_Local_Alignment_v1.1.0.csv").write_bytes(b"\xef\xbb\xbf" + table)
    old = table_bytes([COLUMNS[:-1], rows[0][:-1]])
    (release / "MS_CXR_Local_Alignment_v1.0.0.csv").write_bytes(old)
    (release / "LICENSE.txt").write_text("PhysioNet Credentialed Health Data License\n")
    return root


def cells(image_id: str, category: str, text: str, box: tuple[Any, Any, Any, Any], split: str) -> list[Any]:
    return [image_id, category, text, path(image_id), *box, *FRAMES[image_id], split]


def table_bytes(rows: list[Any]) -> bytes:
    """With Windows line ends, as after a detour through a spreadsheet program."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def write_json(root: Path) -> Path:
    """Write the rows of the table as the JSON file of the same version, and return that file."""
    categories = {name: at for at, name in enumerate(sorted({row[1] for row in ROWS if row[1]}), start=1)}
    images = {image_id: 40 - 3 * at for at, image_id in enumerate(FRAMES)}  # neither dense nor sorted
    document = {
        "info": {"version": "1.1.0"},
        "categories": [{"id": at, "name": name} for name, at in categories.items()],
        "images": [
            {"id": images[one], "file_name": f"{one}.jpg", "width": width, "height": height, "path": path(one)}
            for one, (width, height) in FRAMES.items()
        ],
        "annotations": [
            {
                "id": 200 + at, "image_id": images[one], "category_id": categories.get(category),
                "bbox": [None if number == "" else number for number in box],
                "width": FRAMES[one][0], "height": FRAMES[one][1], "label_text": text, "split": split,
            }
            for at, (one, category, text, box, split) in enumerate(ROWS)
        ],
    }  # fmt: skip
    file = root / "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return file
