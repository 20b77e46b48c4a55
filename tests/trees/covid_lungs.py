"""The COVID-19 lung boxes: COCO boxes of both lungs, and a table with free-text notes."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

NOTES = (
    'patientid,offset,view,filename,clinical_notes\n'
    '007,0,PA,a.jpg,"Opacity in the left lower zone. The right lung is clear,\nas before."\n'
    '311a,3,AP,b.png,Both lungs are clear.\n'
    '311a,3,L,c.png,A lateral film.\n'
    '4,0,PA,missing.png,The left lung is white.\n'
)  # fmt: skip


def write(root: Path) -> Path:
    """Returns the folder."""
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    images, annotations = [], []
    for at, name in enumerate(("a.jpg", "b.png", "c.png", "missing.png")):
        images.append({"id": at, "file_name": name, "width": 60, "height": 48})
        if name != "missing.png":
            Image.new("L", (60, 48), 90).save(root / "images" / name)
        for category, x in ((1, 4), (2, 34)):
            annotations.append(
                {"id": 2 * at + category, "image_id": at, "category_id": category, "bbox": [x, 5, 22, 36 + 10 * at]}
            )
    del annotations[-1]["category_id"]
    categories = [{"id": 1, "name": "Right Lung"}, {"id": 2, "name": "Left Lung"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/annotations.json").write_text(json.dumps(document))
    (root / "metadata.csv").write_text(NOTES)
    return root
