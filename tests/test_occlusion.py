"""Occlusion: where a score falls when the image is hidden."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torch.nn import functional

from wronglung import Dataset, evaluate, load_model
from wronglung.adapters import CATALOGUE
from wronglung.adapters import occlusion as module
from wronglung.adapters.occlusion import DualOcclusion, PairedOcclusion, Windows, load, occlusion
from wronglung.benchmark.arguments import check_arguments
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.protocol import Alignment, DualEncoder, Features, Geometry, LoadedImage, ModelCard


def film(width: int = 42, height: int = 56, seed: int = 0, mode: str = "L") -> LoadedImage:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return LoadedImage(f"film-{seed}", Image.fromarray(levels).convert(mode))


def black_with_white(box: tuple[int, int, int, int], width: int = 56, height: int = 56) -> LoadedImage:
    pixels = Image.new("L", (width, height))
    pixels.paste(255, box)
    return LoadedImage("box", pixels)


def light_in(box: tuple[int, int, int, int]) -> Callable[[Sequence[Image.Image], Sequence[str]], list[float]]:
    """The sum of all pixels in a box, for any sentence."""

    def score(images: Sequence[Image.Image], sentences: Sequence[str]) -> list[float]:
        return [float(np.asarray(image.crop(box), dtype=np.float64).sum()) for image in images]

    return score


def vector(sentence: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4])
    return torch.randn(12, generator=torch.Generator().manual_seed(seed))


class Encoder:
    """A tiny dual encoder: the image's mean grey on 3 × 4 tiles, against a vector of the sentence."""

    card = ModelCard(
        name="tiny",
        saliency_method="none",
        map_kind="score",
        checkpoint="abc",
        preprocessing="grey tiles",
        pretraining_sources=("MIMIC-CXR",),
        settings={"tiles": 12},
    )
    encoded = 0

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        self.encoded += len(images)
        assert len(images) <= module.BATCH
        return [Features({"global": self._tiles(one), "more": torch.zeros(3)}, _squash(one)) for one in images]

    def _tiles(self, image: LoadedImage) -> torch.Tensor:
        tiles = image.pixels.convert("L").resize((3, 4), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(tiles, dtype=np.float32)).flatten() - 128

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        return [Features({"global": vector(one), "words": torch.zeros(len(one))}) for one in sentences]

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        pairs = zip(images, sentences, strict=True)
        cosine = torch.stack([self.global_similarity_matrix([a], [b])[0, 0] for a, b in pairs])
        return Alignment(torch.zeros(len(images), 1, 1), [], global_similarity=cosine)

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        a, b = (torch.stack([one.tensors["global"] for one in items]) for items in (images, sentences))
        return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


class Aligner:
    """The same without features."""

    card = Encoder.card

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        inner = Encoder()
        return inner.align_features(inner.encode_images(images), inner.encode_sentences(sentences))


def _squash(image: LoadedImage) -> Geometry:
    return Geometry.squash(*image.pixels.size, 224, 224)


def naive(
    image: Image.Image, sentence: str, score: Callable[[Image.Image, str], float], cells: int, window: int, fill: str
) -> np.ndarray:
    """Every pixel averages over the windows that cover it: float64 [height, width]."""
    pixels = np.asarray(image)
    hidden = np.full_like(pixels, round(pixels.mean()))
    if fill == "blur":
        hidden = np.asarray(image.filter(ImageFilter.GaussianBlur(max(image.size) * window / cells / 2)))
    total, count = np.zeros(pixels.shape), np.zeros(pixels.shape)
    high, wide = pixels.shape[0] // cells, pixels.shape[1] // cells
    for top in range(cells - window + 1):
        for left in range(cells - window + 1):
            place = (
                slice(top * high, (top + window) * high),
                slice(left * wide, (left + window) * wide),
            )
            changed = pixels.copy()
            changed[place] = hidden[place]
            total[place] += score(image, sentence) - score(Image.fromarray(changed), sentence)
            count[place] += 1
    return total / count


@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize(("cells", "window"), [(7, 2), (7, 3), (4, 1), (3, 3)])
def test_every_pixel_has_the_mean_over_the_windows_that_cover_it(cells: int, window: int, fill: Any) -> None:
    image = film(cells * 6, cells * 4)
    encoder = Encoder()

    def cosine(pixels: Image.Image, sentence: str) -> float:
        features = encoder.encode_images([LoadedImage("one", pixels)])
        return float(encoder.global_similarity_matrix(features, encoder.encode_sentences([sentence]))[0, 0])

    expected = naive(image.pixels, "left lung", cosine, cells, window, fill)
    made = occlusion(Encoder(), cells=cells, window=window, fill=fill)
    saliency = made.align([image], ["left lung"]).saliency[0].numpy()
    assert saliency.shape == (cells, cells)
    assert np.abs(saliency.repeat(4, 0).repeat(6, 1) - expected).max() < 1e-6


# A cell at the border lies below fewer windows, and may tie with its neighbour.
@given(row=st.integers(2, 11), column=st.integers(2, 11))
@settings(max_examples=8, deadline=None)
def test_the_map_peaks_where_the_score_looks(row: int, column: int) -> None:
    box = (column * 4, row * 4, column * 4 + 4, row * 4 + 4)
    image = black_with_white(box)
    saliency = occlusion(light_in(box)).align([image], ["any"]).saliency[0]
    assert saliency.shape == (14, 14)
    assert divmod(int(saliency.argmax()), 14) == (row, column)
    assert int((saliency == saliency.max()).sum()) == 1
    # The image's mean, 255 / 196, is put over the 16 white pixels by every window that covers this cell.
    assert float(saliency.max()) == pytest.approx(16 * (255 - 1))


def test_a_place_that_speaks_against_the_sentence_is_negative() -> None:
    box = (8, 8, 16, 16)
    against = occlusion(lambda images, sentences: [-one for one in light_in(box)(images, sentences)])
    saliency = against.align([black_with_white(box)], ["any"]).saliency[0]
    assert float(saliency.min()) < 0
    assert against.card.signed


def test_a_dual_encoder_gives_the_maps_of_its_own_paired_form() -> None:
    images, sentences = [film(40, 30, 1), film(64, 90, 2)], ["left", "right lung"]
    dual, paired = occlusion(Encoder()), occlusion(Aligner())
    assert isinstance(dual, DualOcclusion)
    assert isinstance(dual, DualEncoder)
    assert isinstance(paired, PairedOcclusion)
    one, other = dual.align(images, sentences), paired.align(images, sentences)
    assert (one.saliency - other.saliency).abs().max() < 1e-6
    assert one.global_similarity is not None
    assert other.global_similarity is not None
    assert (one.global_similarity - other.global_similarity).abs().max() < 1e-6
    assert one.geometry == other.geometry == [_squash(image) for image in images]
    matrix = dual.global_similarity_matrix(dual.encode_images(images), dual.encode_sentences(sentences))
    assert matrix.diagonal().tolist() == pytest.approx(one.global_similarity.tolist(), abs=1e-6)


@pytest.mark.parametrize("scorer", [Encoder(), Aligner(), light_in((3, 3, 20, 20))])
def test_a_pair_does_not_depend_on_the_batch(scorer: Any) -> None:
    images, sentences = [film(40, 30, 1), film(64, 90, 2), film(30, 30, 3)], ["left", "right lung", "heart"]
    model = occlusion(scorer, cells=6)
    together = model.align(images, sentences)
    for row, pair in enumerate(zip(images, sentences, strict=True)):
        alone = model.align([pair[0]], [pair[1]])
        assert torch.equal(alone.saliency[0], together.saliency[row])


def test_an_encoder_sees_each_occluded_image_once_however_many_the_sentences(sketch: Dataset) -> None:
    encoder = Encoder()
    made = occlusion(encoder, cells=4)
    encoder.encoded = 0
    results = evaluate(made, sketch, "smoke", limit=6, workers=1)
    assert results.run.manifest.encoded_images == 2
    assert encoder.encoded == 2 * (1 + 9)
    assert results.run.manifest.aligned_pairs > 6
    assert np.isfinite(results.instances["selection_accuracy_global"]).any()


def test_the_image_itself_is_left_alone() -> None:
    image = film()
    before = image.pixels.tobytes()
    occlusion(Encoder(), cells=3).align([image], ["left"])
    assert image.pixels.tobytes() == before


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_images_of_any_mode(mode: str) -> None:
    modes: set[str] = set()

    def score(images: Sequence[Image.Image], sentences: Sequence[str]) -> list[float]:
        modes.update(image.mode for image in images)
        return light_in((0, 0, 20, 20))(images, sentences)

    saliency = occlusion(score, cells=3).align([film(mode=mode)], ["left"]).saliency
    assert bool(saliency.isfinite().all())
    assert modes == {"L" if mode == "L" else "RGB"}


def test_an_image_of_fewer_pixels_than_cells() -> None:
    saliency = occlusion(Encoder()).align([film(5, 3)], ["left"]).saliency[0]
    assert saliency.shape == (14, 14)
    assert bool(saliency.isfinite().all())


def test_the_card_names_the_method_and_keeps_what_the_model_is() -> None:
    card = occlusion(Encoder(), fill="blur").card
    assert card.name == "tiny + occlusion"
    assert card.saliency_method == "occlusion (window 2/14 of the side, stride 1/14, fill blur)"
    assert (card.checkpoint, card.preprocessing, card.pretraining_sources) == ("abc", "grey tiles", ("MIMIC-CXR",))
    assert dict(card.settings) == {"inner": '{"tiles": 12}', "cells": 14, "window": 2, "fill": "blur", "tau": 0.07}
    assert occlusion(light_in((0, 0, 1, 1))).card.name == "score + occlusion"
    named = occlusion(Encoder(), name="mine", tau=0.5).card
    assert (named.name, named.mass, named.temperature) == ("mine", "softmax", 0.5)


@pytest.mark.parametrize("comparable", [True, False, None])
def test_maps_are_as_comparable_as_the_model_says(comparable: bool | None) -> None:
    class Said(Encoder):
        card = Encoder.card.model_copy(update={"comparable": comparable})

    assert occlusion(Said()).card.comparable is comparable
    assert occlusion(light_in((0, 0, 1, 1))).card.comparable is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window=0: must be from 1 to cells=14"),
        ({"window": 5, "cells": 4}, "window=5: must be from 1 to cells=4"),
        ({"cells": 65}, "cells=65: must be at most 64"),
        ({"tau": 0}, "tau=0: must be positive and finite"),
        ({"fill": "black"}, "fill='black': must be mean or blur"),
    ],
)
def test_windows_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(WronglungError, match=message):
        occlusion(Encoder(), **arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda images, sentences: None, "scores are NoneType, not numbers"),
        (lambda images, sentences: ["high"] * len(images), "scores are list, not numbers"),
        (
            lambda images, sentences: [1.0],
            r"scores of shape \(1,\) for image film-0 \('left'\); 10 images need \(10,\)",
        ),
        (lambda images, sentences: [float("nan")] * len(images), "all finite"),
    ],
)
def test_what_is_no_score_is_refused(given: Any, message: str) -> None:
    with pytest.raises(WronglungError, match=message):
        occlusion(given, cells=4).align([film()], ["left"])


class Mute(Aligner):
    """Has no global similarity."""

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return Alignment(torch.zeros(len(images), 1, 1), [])


class MuteUntilPrepared(Mute):
    def prepare(self, dataset: Dataset) -> None:
        """Nothing to learn."""


class Joint(Encoder):
    """An encoder whose similarity needs both sides: its features have no vector of their own."""

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        return [Features({"tiles": one.tensors["global"]}, one.geometry) for one in super().encode_images(images)]

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        named = [Features({"global": one.tensors["tiles"]}, one.geometry) for one in images]
        return super().align_features(named, sentences)


def test_a_scorer_must_score() -> None:
    with pytest.raises(WronglungError, match="model 'tiny': has no global similarity, which occlusion needs"):
        occlusion(Mute())
    with pytest.raises(WronglungError, match="int is neither a model nor a function"):
        occlusion(3)


def test_a_model_that_sees_its_dataset_first_is_asked_afterwards() -> None:
    made = occlusion(MuteUntilPrepared())
    with pytest.raises(WronglungError, match="'tiny \\+ occlusion': the occluded model has no global similarity"):
        made.align([film()], ["left"])


def test_a_model_that_knows_its_own_images_only_is_asked_about_those() -> None:
    class Picky(Aligner):
        def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
            if any(one.id != "film-0" for one in images):
                raise KeyError(images[0].id)
            return super().align(images, sentences)

    made, free = occlusion(Picky(), cells=4), occlusion(Aligner(), cells=4)
    assert torch.equal(made.align([film()], ["left"]).saliency, free.align([film()], ["left"]).saliency)


def test_an_encoder_without_global_features_is_asked_for_each_pair() -> None:
    joint, dual = occlusion(Joint(), cells=4), occlusion(Encoder(), cells=4)
    assert isinstance(joint, PairedOcclusion)
    one, other = (model.align([film()], ["left"]).saliency for model in (joint, dual))
    assert (one - other).abs().max() < 1e-6


@given(cells=st.integers(1, 9), data=st.data())
@settings(max_examples=40, deadline=None)
def test_equal_drops_are_a_flat_map(cells: int, data: st.DataObject) -> None:
    windows = Windows(cells, data.draw(st.integers(1, cells)))
    saliency = windows.saliency(torch.full((windows.places**2,), 0.25))
    assert torch.equal(saliency, torch.full((cells, cells), 0.25, dtype=torch.float64))


class TestByName:
    """``--model occlusion --model-arg model=NAME``."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(
            "import torch\n"
            "from pathlib import Path\n"
            "from wronglung import Alignment, ModelCard\n"
            "class Scorer:\n"
            "    def __init__(self, weights: Path, device: str = 'cpu', factor: int = 1) -> None:\n"
            "        assert isinstance(weights, Path)\n"
            "        self.card = ModelCard(name=f'{device}-{factor}', saliency_method='-', map_kind='score')\n"
            "        self.factor = factor\n"
            "    def align(self, images, sentences):\n"
            "        values = [self.factor * sum(one.pixels.resize((1, 1)).tobytes()) for one in images]\n"
            "        return Alignment(torch.zeros(len(images), 1, 1), [], global_similarity=torch.tensor(values))\n"
        )
        return path

    def test_the_models_own_arguments_are_converted_and_passed_on(self, file: Path) -> None:
        given = {"model": f"{file}:Scorer", "arguments": '{"weights": "w.pt", "factor": "3"}', "cells": "4"}
        made = load(**check_arguments(load, given, ["model", "arguments", "cells"], "occlusion"))
        assert made.card.name == "cpu-3 + occlusion"
        assert made.align([film()], ["left"]).saliency.shape == (1, 4, 4)

    def test_wrong_arguments_are_named(self, file: Path) -> None:
        with pytest.raises(
            WronglungError, match="model 'occlusion': '.*Scorer': weights: is missing; weight: unknown key"
        ):
            load(f"{file}:Scorer", {"weight": "w.pt"})
        with pytest.raises(WronglungError, match="unknown model 'gloriaa'; did you mean gloria"):
            load("gloriaa")

    def test_the_card_keeps_the_settings_of_the_model_and_the_version_of_a_preset(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        preset = CATALOGUE["gloria-phantom-retrained"]._replace(version="2.1")
        monkeypatch.setitem(CATALOGUE, "preset", preset)
        inner = json.loads(str(load("preset").card.settings["inner"]))
        assert inner["preset"] == "preset 2.1"
        assert inner == dict(load_model("preset").card.settings)

    def test_a_shipped_model_by_its_name(self) -> None:
        made = load("gloria-phantom-retrained", cells=4)
        assert made.card.name == "gloria-phantom-retrained + occlusion"
        assert made.align([film()], ["There is opacity in the left lung."]).saliency.shape == (1, 4, 4)
