"""ChestX-ray14's boxes as they are published, with small films in two of the twelve folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ROWS = (
    "00000013_005.png,Atelectasis,256,512,128,64",
    "00000079_000.png,Mass,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661",
    "00000013_005.png,Effusion,512.0,640.0,256.0,320.0",
    "00000013_006.png,Cardiomegaly,960,896,128,160",  # beyond the border
    "00000013_006.png,Infiltrate,1100,10,50,50",  # outside
    "00000032_001.png,Nodule,64,64,0,16",  # no width
    "00000032_001.png,Pneumonia,,64,32,32",
    "00000032_001.png,Pneumothorax,512,512,-256,128",  # flipped
    '00000032_001.png,"Hernia, sliding",16,32,64,128',  # not one of the eight
    "00000079_000.png,Mass,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661",  # the row again
    "00000099_000.png,Mass,1,2,3,4",  # has no file
    "00000100_000.png,Mass,1,2,3,4",  # was cropped
    "00000101_000.png,Mass,1,2,3,4",  # is no image
    "00000102_000.png,,1,2,3,4",
    "00000103_000.png,Pneumonia,512,512,256,256",  # of full size
    "unnumbered.png,Nodule,16,16,16,16",
)


def save_film(file: Path, width: int = 64, height: int = 64) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, height)).save(file)


def write(root: Path) -> Path:
    """The folder that holds the table, the lists and the films."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "BBox_List_2017.csv").write_bytes("".join(f"{row}\r\n" for row in (HEADER, *ROWS)).encode("utf-8-sig"))
    (root / "test_list.txt").write_text("00000013_005.png\n00000013_006.png\n00000032_001.png\n00000103_000.png\n")
    (root / "train_val_list.txt").write_bytes(b"00000079_000.png\r\n00000080_000.png\r\n")
    first, second = root / "images_001" / "images", root / "images_002" / "images"
    for name in ("00000013_005", "00000013_006", "00000032_001"):
        save_film(first / f"{name}.png")
    for name in ("00000079_000", "00000102_000", "unnumbered"):
        save_film(second / f"{name}.png")
    save_film(second / "00000100_000.png", 64, 48)
    save_film(second / "00000103_000.png", 1024, 1024)
    (second / "00000101_000.png").write_bytes(b"no image")
    return root
