"""The VinBigData competition's training films in a pack of small PNG files, with the table of their original sizes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
WIDTH, HEIGHT = 600, 480


def film(number: int) -> str:
    return f"{number:02x}bb00bb11cc22dd33ee44ff55660077"


ROWS = (
    f"{film(1)},No finding,14,R11,,,,",
    f"{film(1)},Aortic enlargement,0,R10,300.0,100.0,400.0,200.0",
    f"{film(1)},Aortic enlargement,0,R9,310.0,110.0,410.0,210.0",
    f"{film(2)},ILD,5,R8,50.0,50.0,250.0,400.0",
    f"{film(2)},ILD,5,R9,350.0,50.0,550.0,400.0",
    f"{film(2)},ILD,5,R10,60.0,50.0,250.0,400.0",
    f"{film(2)},Pneumothorax,12,R10,60.0,50.0,250.0,400.0",
    f"{film(3)},No finding,14,R1,,,,",
    f"{film(3)},No finding,14,R2,,,,",
    f"{film(3)},No finding,14,R3,,,,",
    f"{film(4)},Cardiomegaly,3,R9,200,250,450,400",  # not in the table of sizes
    f"{film(4)},Cardiomegaly,3,R10,200,250,450,400",
    f"{film(5)},Cardiomegaly,3,R9,200,250,450,400",  # was padded to a square
    f"{film(5)},Cardiomegaly,3,R10,210,250,450,400",
    f"{film(6)},Cardiomegaly,3,R9,200,250,450,400",  # has no file
    f"{film(6)},Cardiomegaly,3,R10,210,250,450,400",
    f"{film(7)},Cardiomegaly,3,R9,200,250,450,400",  # its size is no number
    f"{film(7)},Cardiomegaly,3,R10,210,250,450,400",
)
META = (
    "image_id,dim0,dim1",
    *(f"{film(number)},{HEIGHT},{WIDTH}" for number in (1, 2, 3, 5, 6)),
    f"{film(7)},?,{WIDTH}",
)


def save_film(file: Path, width: int = 60, height: int = 48) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, height)).save(file)


def write(root: Path) -> Path:
    """The folder that holds the table and the pack."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.csv").write_text("".join(f"{row}\n" for row in (HEADER, *ROWS)))
    (root / "train_meta.csv").write_bytes("".join(f"{row}\r\n" for row in META).encode())
    for number in (1, 2, 3, 4, 7):
        save_film(root / "train" / f"{film(number)}.png")
    save_film(root / "train" / f"{film(5)}.png", 60, 60)
    return root
