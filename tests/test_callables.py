"""Two Python functions as a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wronglung import Dataset, evaluate
from wronglung.adapters.callables import from_functions
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.protocol import Geometry, LoadedImage, check_alignment


def darkness(image: Image.Image, sentence: str) -> Any:
    """Signed, and different for different sentences."""
    levels = np.asarray(image.convert("L").resize((6, 5), Image.Resampling.BOX), dtype=np.float64)
    return (128 - levels) / 255 * (1 + len(sentence))


def length(image: Image.Image, sentence: str) -> float:
    return len(sentence) / 10


def film(width: int = 40, height: int = 30, seed: int = 0) -> LoadedImage:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return LoadedImage(f"film-{seed}", Image.fromarray(levels))


def model(saliency: Any = darkness, score: Any = length, **card: Any) -> Any:
    return from_functions(saliency, score, **{"name": "mine", "saliency_method": "darkness", **card})


def test_maps_and_scores_are_those_of_the_functions() -> None:
    images, sentences = [film(40, 30, 1), film(64, 64, 2)], ["left", "right lung"]
    alignment = model().align(images, sentences)
    for row, (image, sentence) in enumerate(zip(images, sentences, strict=True)):
        assert np.array_equal(alignment.saliency[row], darkness(image.pixels, sentence).astype(np.float32))
    assert alignment.global_similarity.tolist() == pytest.approx([0.4, 1.0])
    assert alignment.local_similarity is None
    assert alignment.geometry == [Geometry.squash(40, 30, 224, 224), Geometry.squash(64, 64, 224, 224)]
    check_alignment(alignment, model().card, [(40, 30), (64, 64)], sentences)


def test_without_a_score_there_is_no_similarity() -> None:
    assert model(score=None).align([film()], ["left"]).global_similarity is None


def test_the_card_says_what_was_said() -> None:
    card = model(temperature=0.1, mass="softmax", checkpoint="abc", pretraining_sources=("MIMIC-CXR",)).card
    assert (card.name, card.saliency_method, card.map_kind) == ("mine", "darkness", "score")
    assert (card.mass, card.temperature, card.checkpoint) == ("softmax", 0.1, "abc")
    assert model().card.mass == "clip"


def test_a_distribution_is_divided_by_its_sum() -> None:
    counts = np.arange(6).reshape(2, 3)
    made = model(lambda image, sentence: counts, map_kind="distribution")
    assert np.allclose(made.align([film()], ["left"]).saliency[0], counts / 15)
    assert made.card.mass == "sum"


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        np.array([[1, 2], [3, 4]], np.uint8),
    ],
)
def test_lists_tensors_and_integers_are_maps(value: Any) -> None:
    saliency = model(lambda image, sentence: value).align([film()], ["left"]).saliency
    assert saliency.dtype == torch.float32
    assert saliency.tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"saliency for image film-0 \('left'\) is NoneType, not real numbers"),
        ("map", "is str, not real numbers"),
        (np.zeros((2, 2), dtype=complex), "is ndarray, not real numbers"),
        (np.zeros(4), r"has shape \(4,\); return \[rows, columns\]"),
        (np.zeros((1, 4, 4)), r"has shape \(1, 4, 4\)"),
        (np.zeros((0, 4)), r"has shape \(0, 4\)"),
        ([[1.0, float("nan")]], "is not finite"),
        ([[1.0, 1e300]], "is not finite"),
    ],
)
def test_what_is_no_map_is_refused(value: Any, message: str) -> None:
    with pytest.raises(WronglungError, match=message):
        model(lambda image, sentence: value).align([film()], ["left"])


@pytest.mark.parametrize("value", [[[0.5, -0.1]], [[0.0, 0.0]]])
def test_what_is_no_distribution_is_refused(value: Any) -> None:
    with pytest.raises(WronglungError, match="which is no distribution"):
        model(lambda image, sentence: value, map_kind="distribution").align([film()], ["left"])


@pytest.mark.parametrize("value", [None, "high", [0.1, 0.2], float("inf")])
def test_a_score_is_one_finite_number(value: Any) -> None:
    with pytest.raises(WronglungError, match=r"score for image film-0 \('left'\) is"):
        model(score=lambda image, sentence: value).align([film()], ["left"])


def test_maps_of_different_sizes_are_refused_or_brought_to_a_grid() -> None:
    def own_size(image: Image.Image, sentence: str) -> Any:
        return np.asarray(image.convert("L"), dtype=np.float32)

    pairs = ([film(40, 30, 1), film(20, 60, 2)], ["left", "left"])
    with pytest.raises(WronglungError, match="maps of 30 × 40 and of 60 × 20 cells; make all maps of one size"):
        model(own_size).align(*pairs)
    together = model(own_size, grid=10).align(*pairs).saliency
    assert together.shape == (2, 10, 10)
    for row, image in enumerate(pairs[0]):
        assert torch.equal(model(own_size, grid=10).align([image], ["left"]).saliency[0], together[row])
        assert float(together[row].mean()) == pytest.approx(np.asarray(image.pixels).mean(), rel=0.02)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"mas": "sum"}, "mas: unknown key"),
        ({"mass": "max"}, "mass: Input should be"),
        ({"grid": 0}, "grid must be from 1 to 4096, not 0"),
        ({"grid": 4097}, "grid must be from 1 to 4096"),
    ],
)
def test_a_card_that_is_not_valid_is_refused(card: dict[str, Any], message: str) -> None:
    with pytest.raises(WronglungError, match=f"model 'mine': {message}"):
        model(**card)


def test_it_runs_under_a_suite(sketch: Dataset) -> None:
    results = evaluate(model(), sketch, "smoke", limit=3, workers=1)
    assert results.run.model["name"] == "mine"
    assert np.isfinite(results.instances["auroc"]).any()
