"""The neutral format, with everything that may stand in a line."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image


def write(root: Path) -> Path:
    """Returns the ``.jsonl`` file."""
    lines = []
    for at, name in enumerate(("a.png", "sub/b.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 48), 90).save(root / name)
        for number, text in enumerate(("Opacity in the left lung.", "  État\tstable ___ .")):
            box = {"name": "left lung", "box": [10 + at, 5.5, 40, 90]}
            line = {
                "id": f"{at}_{number}", "image": name, "sentence": text,
                "boxes": [box, {"name": "", "box": None, "mask": {"size": [4, 5], "counts": [3, 2, 15]}}],
                "findings": [{"label": "lung opacity", "context": "yes", "region": "left lung"}],
                "study_id": f"s{at}", "patient_id": "007", "split": "test",
            }  # fmt: skip
            if not number:
                line["regions"] = [box]
            lines.append(line | ({"image_id": "film b", "parent_regions": ["right lung"]} if at else {}))
    file = root / "set.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return file
