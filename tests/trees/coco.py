"""COCO-style JSON with captions."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image


def write(root: Path) -> Path:
    """Returns the folder."""
    (root / "images").mkdir()
    for name in ("a.png", "b.jpg"):
        Image.new("L", (60, 48), 90).save(root / "images" / name)
    document = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 120, "height": 96, "study_id": "s", "patient_id": "p", "split": "test"},
            {"id": "two", "file_name": "b.jpg"},
            {"id": 3, "file_name": "missing.png"},
        ],
        "categories": [{"id": 1, "name": "right lung"}, {"id": 2, "name": "left lung"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 1, "bbox": [6, 9, 22, 42]},
            {"id": 11, "image_id": 1, "category_id": 2, "bbox": [31, 9.5, 23, 142]},
            {"id": 20, "image_id": 1, "caption": "Opacities in both lungs.", "annotation_ids": [10, 11]},
            {"id": 21, "image_id": "two", "caption": "A nodule.", "category_id": 2, "bbox": [40, 20, 3, 3]},
            {"id": 22, "image_id": "two", "caption": "Nothing.", "category_id": 2, "bbox": [40, 20, 0, 3]},
        ],
    }  # fmt: skip
    (root / "set.json").write_text(json.dumps(document))
    return root
