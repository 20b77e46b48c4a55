"""CheXlocalize as it is published: masks, contours, the human benchmark, and CheXpert's films beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wronglung.benchmark.masks import from_pixels

WIDTH, HEIGHT = 60, 48


def coded(*rectangles: tuple[int, int, int, int], width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """COCO's run lengths of a union of rectangles (x1, y1, x2, y2); of nothing without one."""
    pixels = np.zeros((height, width), dtype=np.bool_)
    for x1, y1, x2, y2 in rectangles:
        pixels[y1:y2, x1:x2] = True
    return {"size": [height, width], "counts": from_pixels(pixels).counts.decode()}


def square(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def save_film(file: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, height)).save(file)


def write(root: Path) -> Path:
    """The folder that holds CheXlocalize/ and CheXpert/."""
    empty = coded()
    test = {
        "patient00002_study1_view1_frontal": {
            "Enlarged Cardiomediastinum": coded((20, 10, 40, 40)),
            "Cardiomegaly": empty,
            "Airspace Opacity": coded((5, 5, 10, 20), (45, 5, 50, 20)),
            "Pleural Effusion": coded((0, 40, 15, 48)),
            "Support Devices": empty,
        },
        # Two films of one study; the second is a copy of half the size.
        "patient00001_study2_view1_frontal": {"Lung Lesion": coded((30, 8, 33, 11)), "Cardiomegaly": empty},
        "patient00001_study2_view2_lateral": {"Lung Lesion": coded((10, 8, 16, 12)), "Edema": empty},
        "patient00003_study1_view1_frontal": {"Edema": empty, "Pneumothorax": empty},
        "patient00004_study1_view1_frontal": {"Edema": coded((1, 1, 5, 5))},  # has no file
        "patient00005_study1_view1_frontal": {"Edema": coded((1, 1, 5, 5))},  # was cropped
        "patient00006_study1_view1_frontal": {"Edema": coded((1, 1, 5, 5))},  # is no image
        "patient00007_study1_view1_frontal": {
            "Edema": {"size": [HEIGHT, WIDTH], "counts": "P"},
            "Pneumothorax": {"size": [HEIGHT, WIDTH]},
            "Atelectasis": coded((1, 1, 5, 5)),
            "Consolidation": coded((1, 1, 5, 5), width=30, height=24),
            "Kerley B líneas": coded((7, 7, 9, 9)),  # not one of the ten
        },
        "../patient00002": {"Edema": coded((1, 1, 5, 5))},
    }
    val = {
        "patient00100_study1_view1_frontal": {
            "img_size": [HEIGHT, WIDTH],
            "Cardiomegaly": [square(10, 20, 30, 40)],
            "Airspace Opacity": [square(5, 5, 9.6, 9), square(40, 5, 44, 9), [[1, 1]]],
            "Support Devices": [[[1.0, 2.0], [8.0, 2.0]]],
            "Edema": [],
        },
        "patient00101_study3_view1_frontal": {
            "img_size": [HEIGHT, WIDTH],
            "Pleural Effusion": [square(50, 40, 70, 60)],  # beyond the border
            "Edema": [square(-9, -9, -5, -5)],  # outside
            "Atelectasis": [[[3, 4]]],
            "Consolidation": [[[3, "x"], [4, 5], [6, 7]]],
        },
        "patient00102_study1_view1_frontal": {"Edema": [square(1, 1, 5, 5)]},  # no img_size
        "patient00103_study1_view1_frontal": {},
    }
    human = {"patient00002_study1_view1_frontal": {"Pleural Effusion": coded((0, 30, 20, 48))}}
    folder = root / "chexlocalize" / "CheXlocalize"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gt_segmentations_test.json").write_text(json.dumps(test))
    (folder / "gt_annotations_val.json").write_text("\ufeff" + json.dumps(val, indent=1), encoding="utf-8")
    (folder / "hb_segmentations_test.json").write_text(json.dumps(human))
    films = root / "chexlocalize" / "CheXpert"
    for patient in (1, 2, 3, 5, 7):
        for study, view in ((1, "view1_frontal"), (2, "view1_frontal"), (2, "view2_lateral")):
            shrunk = 2 if view.endswith("lateral") else 1
            cropped = 8 if patient == 5 else 0
            file = films / "test" / f"patient{patient:05d}" / f"study{study}" / f"{view}.jpg"
            save_film(file, WIDTH // shrunk, HEIGHT // shrunk - cropped)
    damaged = films / "test" / "patient00006" / "study1" / "view1_frontal.jpg"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no image")
    for patient, study in ((100, 1), (101, 3), (102, 1)):
        save_film(films / "val" / f"patient{patient:05d}" / f"study{study}" / "view1_frontal.png")
    return root / "chexlocalize"
