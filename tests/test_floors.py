"""Floors: what they look at, and what they cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wronglung import load_model
from wronglung.adapters.functions import FunctionModel
from wronglung.benchmark.protocol import LoadedImage


def spot(mode: str, column: int) -> LoadedImage:
    """A grainy film with one bright spot."""
    levels = np.random.default_rng(0).integers(20, 60, (128, 128)).astype(np.uint8)
    levels[56:72, column : column + 16] = 250
    if mode == "I;16":
        return LoadedImage("spot", Image.fromarray(levels.astype(np.uint16) * 257))
    return LoadedImage("spot", Image.fromarray(levels).convert(mode))


def maps(name: str, images: list[LoadedImage], sentences: list[str]) -> np.ndarray:
    model = load_model(name)
    assert isinstance(model, FunctionModel)
    return model.align(images, sentences).saliency.numpy()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "1", "P"])
def test_text_blind_looks_at_the_image_in_every_mode(mode: str) -> None:
    left, right = maps("text-blind", [spot(mode, 16), spot(mode, 96)], ["any", "any"])
    assert left[28:36, 8:16].mean() > 3 * left.mean()
    assert right[28:36, 48:56].mean() > 3 * right.mean()


@pytest.mark.parametrize("name", ["uniform", "center-prior", "text-blind"])
def test_what_ignores_the_text_gives_the_same_bytes_for_any(name: str) -> None:
    image = spot("L", 16)
    one, other = maps(name, [image, image], ["left lung", "There is nothing here."])
    assert one.tobytes() == other.tobytes()


def test_random_is_new_for_each_image_and_sentence_and_the_same_when_asked_again() -> None:
    image, other = spot("L", 16), LoadedImage("other", spot("L", 16).pixels)
    first, sentence, film, again = maps("random", [image, image, other, image], ["a", "b", "a", "a"])
    assert not np.array_equal(first, sentence)
    assert not np.array_equal(first, film)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["uniform", "center-prior", "random", "text-blind"])
def test_maps_are_distributions(name: str) -> None:
    flat = LoadedImage("flat", Image.new("L", (30, 50), 7))
    one = maps(name, [flat], ["x"])[0]
    assert (one >= 0).all()
    assert one.sum() == pytest.approx(1, abs=1e-5)
