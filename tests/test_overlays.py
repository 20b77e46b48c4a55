"""Pictures of instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wronglung.benchmark.datasets.overlays import draw, picture
from wronglung.benchmark.instances import Box, ImageRef, Instance
from wronglung.benchmark.masks import from_pixels

BLUE, ORANGE = (74, 163, 255), (255, 159, 28)


def instance(file: Path, image: Image.Image, *boxes: Box, sentence: str = "Opacity.", name: str = "a") -> Instance:
    image.save(file)
    return Instance(name, ImageRef("a", file, *image.size), sentence, boxes)


def test_boxes_are_drawn_where_they_are_in_the_colour_of_their_side(tmp_path: Path) -> None:
    film = Image.new("L", (1024, 512))
    right, left = Box("right lung", 100, 60, 400, 460), Box("left lung", 600, 60, 900, 460)
    drawn = picture(instance(tmp_path / "a.png", film, right, left))
    pixels = np.asarray(drawn)
    for box, colour in ((right, BLUE), (left, ORANGE)):
        rows, columns = np.nonzero((pixels == colour).all(axis=-1))
        # The film is drawn at half its size, 8 pixels from the corner.
        assert (columns.min(), rows.min()) == (box.x1 / 2 + 8, box.y1 / 2 + 8)
        assert (columns.max() + 1, rows.max() + 1) == (box.x2 / 2 + 8, box.y2 / 2 + 8)


def test_a_long_sentence_makes_a_longer_picture(tmp_path: Path) -> None:
    film = Image.new("L", (64, 64))
    short = picture(instance(tmp_path / "a.png", film))
    long = picture(instance(tmp_path / "a.png", film, sentence="opacity " * 100))
    assert short.width == long.width
    assert short.height < long.height


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I", "I;16"])
def test_every_mode_of_a_film_is_drawn(tmp_path: Path, mode: str) -> None:
    suffix = ".tiff" if mode == "I" else ".png"
    if mode.startswith("I"):
        depth = np.uint16 if mode == "I;16" else np.int32
        film = Image.fromarray(np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(depth))
    else:
        film = Image.linear_gradient("L").resize((64, 64)).convert(mode)
    pixels = np.asarray(picture(instance(tmp_path / f"a{suffix}", film)))[8:520, 8:520]
    assert pixels.min() < 10
    assert pixels.max() > 245


def test_one_file_an_instance_in_order(tmp_path: Path) -> None:
    film = Image.new("L", (64, 64))
    instances = [instance(tmp_path / "a.png", film, name=name) for name in ("b/../../c", "a", "b/../../c")]
    out = tmp_path / "out"
    out.mkdir()
    written = draw(instances, out)
    assert [file.name for file in written] == ["1_b_.._.._c.png", "2_a.png", "3_b_.._.._c.png"]
    assert all(Image.open(file).size[0] == 528 for file in written)
    assert sorted(out.iterdir()) == list(written)


def test_a_film_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    broken = instance(tmp_path / "a.png", Image.new("L", (64, 64)))
    whole = instance(tmp_path / "b.png", Image.new("L", (64, 64)))
    (tmp_path / "a.png").write_text("text")
    assert len(draw([broken, whole], tmp_path)) == 1


def test_a_mask_is_tinted_and_the_rest_of_its_box_is_not(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), dtype=np.bool_)
    pixels[1:3, 1] = pixels[1, 1:3] = True
    box = Box("left lung", 16, 16, 48, 48, mask=from_pixels(pixels))
    sheet = np.asarray(picture(instance(tmp_path / "a.png", Image.new("L", (64, 64)), box)))
    scale = 512 // 64
    inside, corner = sheet[8 + 20 * scale, 8 + 28 * scale], sheet[8 + 42 * scale, 8 + 42 * scale]
    assert inside.max() > 60
    assert corner.max() == 0
