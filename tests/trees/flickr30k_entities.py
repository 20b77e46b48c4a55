"""Flickr30k Entities, annotations and images side by side in one folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SENTENCES = {
    "1000000001": (
        "[/EN#40001/people A radiologist] holds [/EN#40002/other a film] against [/EN#0/notvisual the light] .\r\n"
        "[/EN#40001/people A  woman] ’s [/EN#40004/bodyparts/people left hand] in [/EN#40005/scene a room] .\r\n"
        "A caption without phrases .\r\n"
        "[/EN#40002/other X-rays] , [/EN#40003/other \"two\"] [/EN#broken of] [/EN#40006/other them] .\r\n"
        "[/EN#40007/other Nothing] is left ."
    ),
    "0000000002": "[/EN#50001/people Ein Mädchen] läuft .\n",
    "1000000003": "[/EN#60001/people A man] .\n",
    "1000000004": "[/EN#70001/people A man] .\n",
    "1000000005": "[/EN#80001/people A man] .\n",
    "1000000006": "Nobody .\n",
    "1000000007": "[/EN#90001/people A man] .\n",
}  # fmt: skip


def annotation(image_id: str, *objects: str, size: tuple[int, int] = (60, 48)) -> str:
    width, height = size
    return (
        f"<annotation><filename>{image_id}.jpg</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{''.join(objects)}</annotation>"
    )


def an_object(names: tuple[int, ...], *corners: object) -> str:
    inside = "".join(f"<name>{name}</name>" for name in names)
    if not corners:
        return f"<object>{inside}<scene>1</scene><nobndbox>0</nobndbox></object>"
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object>{inside}<bndbox>{box}</bndbox></object>"


def write(root: Path) -> Path:
    """Returns the folder."""
    annotations = {
        "1000000001": annotation(
            "1000000001",
            an_object((40001,), 1, 1, 30, 48),
            an_object((40002, 40003), 31, 5, 40, 15),
            an_object((40003,), 10, 10, 12, 12),
            an_object((40003,), 10, 10, 12, 12),  # twice
            an_object((40004,), 20, 30, 80, 60),  # beyond the border
            an_object((40005,)),
            an_object((40006,), 40, 20, 30, 10),  # flipped
            an_object((40007,), 11, 5, 10, 9),  # no width
            an_object((40007,), 70, 5, 80, 9),  # outside
            an_object((40007,), "", 5, 8, 9),
        ),
        "0000000002": annotation("0000000002", an_object((50001,), 21, 21, 40, 60), size=(120, 96)),
        "1000000003": annotation("1000000003", an_object((60001,), 2, 2, 9, 9)),  # no such image
        "1000000004": "<annotation><object>",
        "1000000005": '<!DOCTYPE a [<!ENTITY b "bb">]>' + annotation("1000000005", an_object((80001,), 1, 1, 5, 5)),
        "1000000006": annotation("1000000006"),
        "1000000007": annotation("1000000007", an_object((90001,), 2, 2, 9, 9)),  # in no list
    }
    for folder in ("Annotations", "Sentences", "flickr30k-images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for image_id, text in annotations.items():
        (root / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")
        (root / "Sentences" / f"{image_id}.txt").write_bytes(SENTENCES[image_id].encode())
        if image_id != "1000000003":
            Image.new("RGB", (60, 48), (90, 60, 30)).save(root / "flickr30k-images" / f"{image_id}.jpg")
    (root / "train.txt").write_bytes(b"\xef\xbb\xbf1000000001\r\n1000000003\r\n1000000004\r\n1000000005\r\n")
    (root / "val.txt").write_text("0000000002\n1000000006")
    (root / "test.txt").write_text("1000000099\n1000000001\n../Sentences/1000000007\n")
    (root / "UNRELATED_CAPTIONS").write_text("1000000006 1\n")
    return root
