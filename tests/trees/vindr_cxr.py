"""VinDr-CXR as it is published, on small DICOM films: the consensus of the test films, three readers of the training films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trees.dicom import save_dicom

WIDTH, HEIGHT = 60, 48
TEST = "image_id,class_name,x_min,y_min,x_max,y_max"
TRAIN = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"


def film(number: int) -> str:
    """An id; the first ones look like numbers with leading zeros."""
    return f"{number:032d}" if number < 3 else f"{number:02x}aa00bb11cc22dd33ee44ff55660077"


TEST_ROWS = (
    f"{film(1)},Cardiomegaly,10.5,20.25,40.0,44.0",
    f"{film(2)},No finding,,,,",
    f"{film(3)},Nodule/Mass,5.0,6.0,9.0,10.0",
    f"{film(1)},ILD,1.0,2.0,20.0,30.0",
    f"{film(3)},Nodule/Mass,50.0,30.0,60.5,40.0",  # sticks out
    f"{film(1)},ILD,30.0,2.0,50.0,30.0",  # a second box
    f"{film(1)},ILD,1.0,2.0,20.0,30.0",  # the row again
    f"{film(3)},Other lesion,70,10,80,20",  # outside
    f"{film(3)},Rib fracture,7,10,7,20",  # no width
    f"{film(3)},Edema,20,10,10,30",  # flipped
    f"{film(3)},Emphysema,1,2,,4",
    f'{film(3)},"Scoliosis, mild",25,1,35,40',  # not one of the 22
    f"{film(3)},,1,1,2,2",
    f"{film(4)},Cardiomegaly,1,1,9,9",  # has no file
    f"{film(5)},Cardiomegaly,1,1,9,9",  # is no film
    f"{film(6)},No finding,,,,",
    f"{film(7)},Pleural effusion,4,30,12,46",  # MONOCHROME1
)
TRAIN_ROWS = (
    f"{film(11)},R9,Cardiomegaly,10,20,40,44",
    f"{film(11)},R10,Cardiomegaly,12,20,42,44",
    f"{film(11)},R8,Pleural thickening,1,1,5,5",  # one of three readers
    f"{film(12)},R9,No finding,,,,",
    f"{film(12)},R10,No finding,,,,",
    f"{film(12)},R8,Calcification,20,20,24,24",
    f"{film(13)},R9,Lung Opacity,10,10,20,20",
    f"{film(13)},R10,Lung Opacity,10,10,20,20",  # drawn alike
    f"{film(13)},R8,Lung Opacity,30,10,40,20",
    f"{film(13)},R9,Lung Opacity,10,10,20,20",  # the row again
    f"{film(13)},R8,Nodule/Mass,5,5,7,7",
    f"{film(13)},R8,Nodule/Mass,9,5,11,7",  # two boxes, one reader
)


def save_film(file: Path, photometric: str = "MONOCHROME2") -> None:
    shades = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    save_dicom(file, shades, PhotometricInterpretation=photometric)


def write(root: Path) -> Path:
    """The folder of the release."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations_test.csv").write_bytes(
        "".join(f"{row}\r\n" for row in (TEST, *TEST_ROWS)).encode("utf-8-sig")
    )
    (folder / "annotations_train.csv").write_text("".join(f"{row}\n" for row in (TRAIN, *TRAIN_ROWS)))
    for number in (1, 2, 3, 6, 7):
        save_film(root / "test" / f"{film(number)}.dicom", "MONOCHROME1" if number == 7 else "MONOCHROME2")
    (root / "test" / f"{film(5)}.dicom").write_bytes(b"no film")
    for number in (11, 12, 13):
        save_film(root / "train" / f"{film(number)}.dicom")
    return root
