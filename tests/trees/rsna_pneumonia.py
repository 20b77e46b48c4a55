"""A small copy of the RSNA pneumonia detection challenge as it is unpacked, with DICOM films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dicom import save_dicom

A, B, C, D, E, F = (f"00aa11bb-22cc-33dd-44ee-5566ff77889{at}" for at in range(6))
NUMERIC = "0012345678"
TABLE = "stage_2_train_labels.csv"
FOLDER = "stage_2_train_images"
HEADER = "patientId,x,y,width,height,Target"
ROWS = (
    f"{F},,,,,0",
    f"{A},264.0,152.0,213.0,379.0,1",
    f"{A},562.0,152.0,256.0,453.0,1",
    f"{B},,,,,0",
    f"{A},264.0,152.0,213.0,379.0,1",
    f"{NUMERIC},960.0,0.0,128.0,64.0,1",
    f"{C},512.0,512.0,-256.0,-128.0,1",
    f"{C},512.0,512.0,0.0,128.0,1",
    f"{C},1024.0,512.0,10.0,128.0,1",
    f"{C},,,,,1",
    f"{D},10.0,10.0,0.0,0.0,1",
    f"{E},10.0,10.0,100.0,100.0,1",
    f"{F},10.0,10.0,100.0,100.0,0",
)


def write(root: Path) -> Path:
    """Write the tree into ``root`` and return it: films of 64 × 64 pixels, so that boxes shrink to a sixteenth; E is not there."""
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    for at, image_id in enumerate((A, B, C, D, F, NUMERIC)):
        inverted = {"PhotometricInterpretation": "MONOCHROME1"} if at == 2 else {}
        save_dicom(root / FOLDER / f"{image_id}.dcm", ramp, PatientID=image_id, ViewPosition="AP", **inverted)
    save_dicom(root / "stage_2_test_images" / "ffff.dcm", ramp)
    # As after a detour through a spreadsheet program.
    (root / TABLE).write_bytes(b"\xef\xbb\xbf" + "\r\n".join((HEADER, *ROWS, "")).encode())
    detailed = "\n".join(
        ("patientId,class", f"{A},Lung Opacity", f"{B},No Lung Opacity / Not Normal", f"{F},Normal", "")
    )
    (root / "stage_2_detailed_class_info.csv").write_text(detailed)
    return root
