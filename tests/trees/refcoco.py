"""RefCOCO (two partitions) and RefCOCOg, with COCO's images; the references are pickles of Python 2."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from PIL import Image

FILE = "COCO_train2014_0000000{}.jpg"


def python2_pickle(value: Any) -> bytes:
    """A pickle as Python 2 writes it in protocol 2: texts are bytes without a coding, nothing is remembered."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, str):
        data = value.encode("latin-1")
        return b"T" + struct.pack("<i", len(data)) + data
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, dict):
        pairs = b"".join(_pickled(key) + _pickled(one) for key, one in value.items())
        return b"}(" + pairs + b"u"
    return b"](" + b"".join(_pickled(one) for one in value) + b"e"


def ref(number: int, ann_id: int, image: int, split: str, *sentences: tuple[int, str]) -> dict[str, Any]:
    return {
        "ref_id": number,
        "ann_id": ann_id,
        "category_id": 1,
        "image_id": image,
        "file_name": FILE.format(image).replace(".jpg", f"_{number}.jpg"),
        "sent_ids": [one for one, _ in sentences],
        "split": split,
        "sentences": [
            {"sent_id": one, "sent": text, "raw": text.upper(), "tokens": text.split()} for one, text in sentences
        ],
    }


REFS = [
    ref(41, 900016, 90001, "train", (3, "the lady in blue"), (4, "lady")),
    ref(42, 900020, 90002, "testA", (5, "the café sign")),
    ref(43, 900017, 90001, "train", (6, "dog  on left ,"), (6, "dog  on left ,"), (7, " ")),
    ref(44, 900018, 90001, "val", (8, "left edge")),
    ref(45, 900019, 90001, "val", (9, "nothing")),
    ref(46, 999999, 90001, "val", (10, "no such annotation")),
    ref(47, 900030, 90003, "testB", (11, "no such file")),
    ref(48, 900040, 90004, "testB", (12, "not listed")),
    ref(49, 900050, 90005, "testB", (13, "outside")),
    ref(50, 900021, 90002, "testB", (14, "a broken outline")),
]  # fmt: skip


def annotation(number: int, image: int, bbox: list[Any], segmentation: Any = (), category: int = 1) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": bbox, "segmentation": segmentation,
        "area": 1.5, "iscrowd": int(isinstance(segmentation, dict)),
    }  # fmt: skip


INSTANCES: dict[str, Any] = {
    "info": {"year": 2014},
    "licenses": [],
    "images": [
        {"id": number, "file_name": name, "width": width, "height": height, "license": 3, "coco_url": "http://x"}
        for number, name, width, height in (
            (90001, FILE.format(90001), 60, 48),
            (90002, FILE.format(90002), 120, 96),  # its file was shrunk
            (90003, FILE.format(90003), 60, 48),  # it has no file
            (90005, "../" + FILE.format(90001), 60, 48),
            (90006, FILE.format(90006), 60, 48),  # nothing refers to it
        )
    ],
    "annotations": [
        annotation(900016, 90001, [10.5, 8.25, 20, 30.5], [[10.5, 8.25, 30.5, 8.25, 30.5, 38.75, 10.5, 38.75]]),
        annotation(900017, 90001, [0, 20, 10, 10], {"size": [48, 60], "counts": [20, 10, 2850]}, category=18),
        annotation(900018, 90001, [50, 40, 20, 20]),
        annotation(900019, 90001, [5, 5, 0, 9]),
        annotation(900020, 90002, [20, 20, 40, 20], [[20, 20, 60, 20, 60, 40], [20, 20, 30, 40, 20, 40]], category=99),
        annotation(900021, 90002, [20, 20, -10, 20], [[1, 2, 3]]),
        annotation(900022, 90001, [1, 1, 5, 5]),  # nothing refers to it
        annotation(900030, 90003, [1, 1, 5, 5]),
        annotation(900050, 90005, [1, 1, 5, 5]),
        annotation(900060, 90006, [1, 1, 5, 5]),
    ],
    "categories": [{"id": 1, "name": "Person"}, {"id": 18, "name": "dog", "supercategory": "animal"}],
}


def write(root: Path) -> Path:
    """Returns the folder that holds the sets and the images."""
    for variant, partitions in (("refcoco", ("unc", "google")), ("refcocog", ("umd",))):
        (root / variant).mkdir(parents=True, exist_ok=True)
        for partition in partitions:
            refs = REFS if partition == "unc" else REFS[:1]
            (root / variant / f"refs({partition}).p").write_bytes(python2_pickle(refs))
        (root / variant / "instances.json").write_text(json.dumps(INSTANCES))
    (root / "train2014").mkdir(exist_ok=True)
    for image in (90001, 90002, 90006):
        Image.new("RGB", (60, 48), (90, 60, 30)).save(root / "train2014" / FILE.format(image))
    return root
