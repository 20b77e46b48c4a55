"""A small PadChest-GR as it is unpacked: films of 16 bits, reports with sentences in two languages, the master table."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STUDIES = ("0123456789", "1234567891", "1234567892", "1234567893")
IMAGES = tuple(f"{study}_abcdef_00-000-00{at}.png" for at, study in enumerate(STUDIES))
"""The third is not there."""
SIZES = {IMAGES[0]: (60, 48), IMAGES[1]: (40, 50), IMAGES[3]: (20, 20)}
REPORTS = "grounded_reports_20240819.json"


def finding(en: str | None, es: str | None, abnormal: bool | None, **more: Any) -> dict[str, Any]:
    return {"sentence_en": en, "sentence_es": es, "abnormal": abnormal, **more}


def studies() -> list[dict[str, Any]]:
    infiltrate = finding(
        "Right basal infiltrate.", "Infiltrado basal derecho.", True,
        boxes=[[0.1, 0.5, 0.4, 0.75]], extra_boxes=[[0.15, 0.5, 0.4, 0.75], [0.5, 0.5, 0.75, 1]],
        labels=["Infiltrates"], locations=["right", "basal"], progression="stable",
    )  # fmt: skip
    findings = {
        IMAGES[0]: [
            finding("No pleural effusion.", "No derrame pleural.", False),
            infiltrate,
            finding(
                " Bilateral \"ground glass\",\nmore on the left. ", "Vidrio deslustrado bilateral, más a la izquierda.", True,
                boxes=[[0.1, 0.125, 0.4, 0.875], [0.6, 0.125, 0.9, 0.875], [0.6, 0.125, 0.9, 0.875]], extra_boxes=[],
                labels=["ground glass pattern", "interstitial pattern"], locations=[], progression=None,
            ),
            infiltrate,
            finding("Heart of normal size.", "Corazón de tamaño normal.", False, boxes=[[0.3, 0.5, 0.7, 0.875]], labels=["normal"]),
        ],
        IMAGES[1]: [
            finding("Nodule.", "Nódulo.", True, boxes=[[0.25, 0.5, 0.5, 0.5]], labels=["nodule"]),
            finding("Nodule.", "Nódulo superior.", True, boxes=[[0.5, 0.5, 0.25, 0.2]], labels=["pseudonodule"]),
            finding("Catheter.", None, True, boxes=[[0.75, -0.2, 1.25, 0.5]], labels=[]),
            finding("A mass.", "Una masa.", True, boxes=[[0.5, 0.5], None, [1.5, 0.1, 2, 0.2]], labels=["mass"]),
        ],
        IMAGES[2]: [infiltrate],
        IMAGES[3]: [],
    }  # fmt: skip
    return [
        {"StudyID": study, "ImageID": image, "PreviousStudyID": None, "findings": findings[image]}
        for study, image in zip(STUDIES, IMAGES, strict=True)
    ]


def write(root: Path) -> Path:
    """Write the tree into ``root`` and return it."""
    folder = root / "PadChest_GR"
    folder.mkdir(parents=True)
    for image, (width, height) in SIZES.items():
        levels = np.linspace(0, 65535, width * height).reshape(height, width).astype(np.uint16)
        Image.fromarray(levels).save(folder / image)
    text = json.dumps(studies(), ensure_ascii=False, indent=1)
    (root / REPORTS).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (root / "grounded_reports_20240101.json").write_text("[]")
    write_master_table(root)
    return root


COLUMNS = ("StudyID", "ImageID", "PatientID", "split", "label", "label_group", "boxes_count")


def write_master_table(root: Path, *extra: tuple[str, ...]) -> Path:
    """A zipped table with one row per study and label; studies repeat, the last one is not in it."""
    rows = [
        (STUDIES[0], IMAGES[0], "0042", "train", "infiltrates", "Parenchyma, other", "1"),
        (STUDIES[0], IMAGES[0], "0042", "train", "ground glass pattern", "Parenchyma, other", "2"),
        (STUDIES[1], IMAGES[1], "77", "validation", "nodule", "Nodule", "1"),
        ("9999999999", "9999999999_x.png", "78", "test", "nodule", "Nodule", "1"),
        (STUDIES[2], IMAGES[2], "79", "test", "infiltrates", "Parenchyma, other", "1"),
        *extra,
    ]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([COLUMNS, *rows])
    file = root / "master_table.csv.zip"
    with zipfile.ZipFile(file, "w") as archive:
        # Named without a date, so that the bytes are always the same.
        archive.writestr(zipfile.ZipInfo("master_table.csv"), text.getvalue())
        archive.writestr(zipfile.ZipInfo("__MACOSX/._master_table.csv"), b"\x00\x05")
    return file
