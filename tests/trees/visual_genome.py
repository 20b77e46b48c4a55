"""Visual Genome: regions in the spellings of both versions, and images in two folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def region(number: int, image: int, phrase: str, x: Any, y: Any, width: Any, height: Any) -> dict[str, Any]:
    return {
        "region_id": number, "image_id": image, "phrase": phrase, "x": x, "y": y, "width": width, "height": height
    }  # fmt: skip


REGIONS: list[dict[str, Any]] = [
    {
        "id": 7,
        "regions": [
            region(301, 7, "a red bicycle leaning on the fence", 12, 6, 25, 40),
            region(302, 7, "the  fence ", 0, 10, 60, 20),
            region(303, 7, "a red bicycle leaning on the fence", 12, 6, 25, 40),  # said twice
            region(302, 7, "another phrase of the same number", 1, 1, 5, 5),
            region(305, 7, "beyond the border", -1, -1, 70, 20),
            region(306, 7, "outside", 60, 10, 5, 5),
            region(307, 7, "no height", 3, 3, 5, 0),
            region(308, 7, "nowhere", None, 3, 5, 5),
            region(309, 7, "flipped", 20, 20, -10, -10),
            region(310, 7, " \n", 3, 3, 5, 5),
        ],
    },
    # As in version 1.0.
    {"image_id": 8, "regions": [{"id": 310, "phrase": "un café", "x": 20, "y": 30, "width": 50, "height": 40}]},
    {"id": 9, "regions": [region(400, 9, "no such file", 1, 1, 5, 5)]},
    {"id": 10, "regions": []},
    {"id": 11, "regions": [region(500, 11, "of another shape", 1, 1, 5, 5)]},
    {"id": 12, "regions": [region(600, 12, "no image", 1, 1, 5, 5)]},
    {"id": 13, "regions": [region(700, 13, "of unknown size", 1, 2, 3, 4)]},
]
SIZES: list[dict[str, Any]] = [
    {"image_id": 7, "url": "https://x/7.jpg", "width": 60, "height": 48, "coco_id": None, "flickr_id": None},
    {"id": 8, "url": "https://x/8.jpg", "width": 120, "height": 96, "coco_id": 77, "flickr_id": 1},
    *({"image_id": one, "width": 60, "height": 48} for one in (9, 10, 12)),
    {"image_id": 11, "width": 60, "height": 90},
]


def write(root: Path) -> Path:
    """Returns the folder."""
    for folder in ("VG_100K", "VG_100K_2"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(REGIONS, ensure_ascii=False)
    (root / "region_descriptions.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (root / "image_data.json").write_text(json.dumps(SIZES, indent=1))
    for image_id in (7, 8, 10, 11, 13):
        folder = "VG_100K_2" if image_id % 2 else "VG_100K"
        Image.new("RGB", (60, 48), (90, 60, 30)).save(root / folder / f"{image_id}.jpg")
    (root / "VG_100K" / "12.jpg").write_bytes(b"no image")
    return root
