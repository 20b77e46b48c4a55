"""A snapshot of a dataset on the Hub: parquet files by split, images as ``datasets`` stores them, and a mapping file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MAPPING = """\
name: hub-set
image: picture
sentence: captions
boxes: objects
box_format: xywh
box_units: pixels
id: ids
image_id: number
study_id: study
patient_id: patient
findings: findings
regions: all
width: width
height: height
"""

_BOX = pa.struct(
    {
        "name": pa.string(),
        "box": pa.list_(pa.float64()),
        "mask": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),
    }
)
_FINDING = pa.struct({"label": pa.string(), "context": pa.string(), "region": pa.string()})
SCHEMA = pa.schema(
    {
        "picture": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "captions": pa.list_(pa.string()),
        "objects": pa.list_(pa.list_(_BOX)),
        "ids": pa.list_(pa.string()),
        "number": pa.int64(),
        "study": pa.string(),
        "patient": pa.string(),
        "findings": pa.list_(pa.list_(_FINDING)),
        "all": pa.list_(_BOX),
        "width": pa.int32(),
        "height": pa.int32(),
    }
)


def picture(grey: int, size: tuple[int, int] = (60, 48), suffix: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, format=suffix)
    return file.getvalue()


def box(name: str, *numbers: float | None, mask: Any = None) -> dict[str, Any]:
    return {"name": name, "box": list(numbers) or None, "mask": mask}


def row(number: int, data: bytes | None, path: str | None, captions: list[Any], objects: list[Any], **more: Any) -> Any:
    return {
        "picture": None if (data, path) == (None, None) else {"bytes": data, "path": path},
        "number": number,
        "captions": captions,
        "objects": objects,
        "ids": [f"{number}/{at}" for at in range(len(captions))],
        "width": 60,
        "height": 48,
        **more,
    }


def write(root: Path) -> Path:
    """Returns the folder."""
    left = box("left lung", 30, 10, 20, 30)
    half = {"size": [2, 2], "counts": "02203"}  # no mask at all: its runs do not fill it
    right_half = {"size": [2, 2], "counts": "22"}
    train = [
        row(
            7, picture(10), "seven.png", ["A left opacity.", "  État\tstable,\r\n___ ."],
            [[box("left lung", 60, 20, 40, 60)], [box("", mask=right_half), left, left]],
            study="007", patient="p,1", width=120, height=96,
            findings=[[{"label": "lung opacity", "context": "yes", "region": "left lung"}], []],
            all=[box("right lung", 8, 8, 40, 60), box("left lung", 60, 20, 40, 60)],
        ),
        row(
            7, picture(10), None, ["Bad boxes.", "Worse boxes.", "No box.", "Broken mask."],
            [
                [box("a", 20, 20, -10, -10), box("b", 50, 40, 30, 30), left],
                [box("c", 1, 1, 0, 5), box("d", 70, 50, 5, 5), box("e", 1, None, 2, 2)],
                [],
                [box("f", 1, 2, 3, 4, mask=half)],
            ],
            ids=["7/2", "7/3", "7/4", "7/5"], study="007", patient="p,1",
        ),
        row(8, None, "sub/eight.JPG", ["In a file.", None, ""], [[left], [left], [left]]),
        row(8, None, "sub/eight.JPG", ["In a file."], [[left]]),  # said twice
        row(9, None, "../outside.png", ["x"], [[left]]),
        row(10, None, "missing.png", ["x"], [[left]]),
        row(11, None, None, ["x"], [[left]]),
        row(12, b"no image", None, ["x"], [[left]]),
        row(13, picture(13), None, ["x"], [[left]], width=60, height=100),
        row(14, picture(14), None, ["x", "y"], [[left]]),
        row(15, picture(15), None, [], []),
    ]  # fmt: skip
    test = [row(20, picture(20, suffix="jpeg"), None, ["In the test split."], [[left]], width=None)]
    (root / "data").mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("test", test)):
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet", row_group_size=4)
    (root / "images" / "sub").mkdir(parents=True, exist_ok=True)
    (root / "images" / "sub" / "eight.JPG").write_bytes(picture(8, suffix="jpeg"))
    (root / "mapping.yaml").write_bytes(b"\xef\xbb\xbf" + MAPPING.replace("\n", "\r\n").encode())
    return root
