"""The conformance checks: what is right passes, and each check finds the one thing that it is for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wronglung import load_model
from wronglung.benchmark.check import RULES, Rule, check_adapter
from wronglung.benchmark.conformance import material, moving_patch
from wronglung.benchmark.conformance.subject import Subject, Verdict
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed

pytestmark = pytest.mark.usefixtures("one_thread")

GEOMETRY = "geometry against a moving patch"


def rule(name: str) -> Rule:
    return next(one for one in RULES if one.name == name)


def subject(model: Any, rebuild: Callable[[torch.dtype], Any] | None = None) -> Subject:
    return Subject(
        model, [image for image, _ in material.sketches()], list(material.SENTENCES), tolerance=1e-4, rebuild=rebuild
    )


def tried(name: str, model: Any, rebuild: Callable[[torch.dtype], Any] | None = None) -> Verdict:
    return rule(name).test(subject(model, rebuild))


class Dual:
    """A right dual encoder: patches are mean grey levels and their gradient; words are hashed to vectors.

    Broken adapters below differ from it in one thing.
    """

    CELLS = 14

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.card = ModelCard(
            name="dual", saliency_method="cosine", map_kind="score", mass="softmax", temperature=0.1,
            preprocessing="grey, squashed to 14 × 14", checkpoint="0" * 64,
        )  # fmt: skip
        self.dtype = dtype
        self.weight = torch.linspace(-1, 1, 12).reshape(3, 4).to(dtype)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        return [self.encode(image) for image in images]

    def encode(self, image: LoadedImage) -> Features:
        levels = torch.from_numpy(self.levels(image.pixels))
        patches = torch.stack([levels, levels**2, levels * 0 + 0.5], dim=-1).to(self.dtype) @ self.weight
        return Features({"patches": patches.float(), "global": patches.float().mean((0, 1))}, self.geometry(image))

    def levels(self, pixels: Image.Image) -> np.ndarray[Any, Any]:
        grey = pixels.convert("L").resize((self.CELLS, self.CELLS), Image.Resampling.BOX)
        return np.asarray(grey, dtype=np.float32) / 255

    def geometry(self, image: LoadedImage) -> Geometry:
        return Geometry.squash(*image.pixels.size, 224, 224)

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        return [Features({"global": self.words(sentence)}) for sentence in sentences]

    def words(self, sentence: str) -> torch.Tensor:
        vectors = [torch.tensor([len(word), ord(word[0]) % 7, word.count("e"), 1.0]) for word in sentence.split()]
        return torch.stack(vectors).mean(0)

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        texts = torch.stack([one.tensors["global"] for one in sentences])
        patches = torch.stack([one.tensors["patches"] for one in images])
        pooled = torch.stack([one.tensors["global"] for one in images])
        return Alignment(
            saliency=torch.cosine_similarity(patches, texts[:, None, None], dim=-1),
            geometry=[one.geometry for one in images if one.geometry is not None],
            global_similarity=torch.cosine_similarity(pooled, texts, dim=-1),
        )

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        left, right = (torch.stack([one.tensors["global"] for one in items]) for items in (images, sentences))
        return torch.cosine_similarity(left[:, None], right[None], dim=-1)


class Paired:
    """``Dual`` without features, whose answers go through ``change``."""

    def __init__(self, change: Callable[[Alignment], Alignment] = lambda one: one, **card: Any) -> None:
        self.inner = Dual()
        self.card = self.inner.card.model_copy(update=card)
        self.change = change

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.change(self.inner.align(images, sentences))


def test_what_is_right_passes_every_check() -> None:
    outcomes = {one.name: one.outcome for one in check_adapter(Dual(), rebuild=Dual)}
    assert outcomes.pop("polarity") == outcomes.pop("preprocessing apart") == "not shown"
    assert set(outcomes.values()) == {"passed"}


def test_each_check_says_why_it_matters_and_how_to_mend_it() -> None:
    assert len({one.name for one in RULES}) == len(RULES)
    for one in RULES:
        assert one.reason
        assert one.fix
        assert "\n" not in one.reason + one.fix


class TestAnswers:
    name = "shapes, finite values"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda one: replace(one, saliency=one.saliency[0]), "has shape"),
            (lambda one: replace(one, saliency=(one.saliency * 9).long()), "must be a floating-point"),
            (lambda one: replace(one, saliency=one.saliency.log()), "not finite"),
            (lambda one: replace(one, global_similarity=one.global_similarity[:-1]), "global_similarity has shape"),
            (lambda one: replace(one, geometry=one.geometry[::-1]), "the geometry for image check-0"),
            (lambda one: None, "returned NoneType"),
        ],
    )
    def test_an_answer_of_another_form_fails_and_nothing_else_is_asked(
        self, change: Callable[[Alignment], Any], message: str
    ) -> None:
        first, *others = check_adapter(Paired(change))
        assert first.outcome == "failed"
        assert message in first.detail
        assert {one.outcome for one in others} == {"not shown"}

    def test_similarities_must_be_floating(self) -> None:
        model = Paired(lambda one: replace(one, global_similarity=torch.ones(len(one.saliency), dtype=torch.int64)))
        assert tried(self.name, model) == ("failed", "not floating point: global_similarity (torch.int64)")

    @pytest.mark.parametrize(
        ("change", "card"),
        [
            (lambda one: one, {"map_kind": "distribution"}),
            (lambda one: replace(one, saliency=one.saliency.abs()), {"map_kind": "distribution"}),
            (lambda one: one, {"mass": "sum"}),
            (lambda one: replace(one, saliency=-one.saliency.abs()), {"mass": "clip"}),
            (lambda one: one, {"temperature": 0.0}),
        ],
        ids=["negative", "mass above one", "no sum", "nothing left", "temperature"],
    )
    def test_maps_are_of_the_declared_kind(self, change: Callable[[Alignment], Alignment], card: Any) -> None:
        assert tried("map kind", Paired(change, **card)).outcome == "failed"

    def test_the_card_says_what_the_model_is(self) -> None:
        assert tried("card", Paired(saliency_method=" ")) == ("failed", "empty: saliency_method")
        model = Paired(preprocessing="", checkpoint=None)
        model.network = torch.nn.Linear(2, 2)  # type: ignore[attr-defined]
        assert tried("card", model) == (
            "not shown",
            "the card does not say: preprocessing, checkpoint (the model has weights)",
        )


class Noisy(Dual):
    """Draws, from a generator that nobody can see."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def words(self, sentence: str) -> torch.Tensor:
        return super().words(sentence) + float(self.rng.normal())


class Dropout(Dual):
    """Forgot eval()."""

    def words(self, sentence: str) -> torch.Tensor:
        return torch.nn.functional.dropout(super().words(sentence), 0.5, training=True)


class Reseeding(Dual):
    def words(self, sentence: str) -> torch.Tensor:
        torch.manual_seed(0)
        return super().words(sentence) + torch.rand(4)


class Centred(Dual):
    """Takes the mean of the batch out."""

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        one = super().align_features(images, sentences)
        return replace(one, saliency=one.saliency - one.saliency.mean(0))


class Remembering(Dual):
    """The first sentence of a call colours the others."""

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        first, *rest = super().encode_sentences(sentences)
        return [first, *(Features({"global": one.tensors["global"] + first.tensors["global"]}) for one in rest)]


class Padded(Dual):
    """Averages over padding, as long as the longest sentence of the call."""

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        longest = max(len(sentence.split()) for sentence in sentences)
        padded = [" ".join([one, *["pad"] * (longest - len(one.split()))]) for one in sentences]
        return super().encode_sentences(padded)


class TwoPaths(Dual):
    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        one = super().align(images, sentences)
        return replace(one, saliency=one.saliency * 2)


class DotProducts(Dual):
    """A matrix of another similarity than the pairs'."""

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        left, right = (torch.stack([one.tensors["global"] for one in items]) for items in (images, sentences))
        return left @ right.T


class Turned(Dual):
    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        return super().global_similarity_matrix(images, sentences).T


class Attached(Dual):
    """Features that hold a graph."""

    def words(self, sentence: str) -> torch.Tensor:
        return super().words(sentence).requires_grad_()


class Views(Dual):
    """Features that keep their whole batch alive."""

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        items = super().encode_images(images)
        stacked = torch.stack([one.tensors["patches"] for one in items])
        return [
            Features({**one.tensors, "patches": row}, one.geometry) for one, row in zip(items, stacked, strict=True)
        ]


class Placeless(Dual):
    def encode(self, image: LoadedImage) -> Features:
        return replace(super().encode(image), geometry=None)


class Normalising(Dual):
    """Changes the features that it is given."""

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        for one in images:
            one.tensors["patches"].mul_(0.5).add_(0.1)
        return super().align_features(images, sentences)


class Buffered(Dual):
    """Writes every image's features into one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = torch.zeros(8, 14, 14, 4)

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        items = super().encode_images(images)
        for row, one in enumerate(items):
            self.buffer[row] = one.tensors["patches"]
        return [Features({**one.tensors, "patches": self.buffer[row]}, one.geometry) for row, one in enumerate(items)]


class Painting(Dual):
    def encode(self, image: LoadedImage) -> Features:
        image.pixels.putpixel((0, 0), 255)
        return super().encode(image)


class Popping(Paired):
    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        one = super().align(images, sentences)
        if isinstance(sentences, list):
            sentences.sort()
        return one


class Backward(Dual):
    """A gradient method that leaves gradients behind."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        with torch.enable_grad():
            one = super().align_features(images, sentences)
            (one.saliency * self.scale).sum().backward()  # type: ignore[no-untyped-call]
        return one


class Graph(Dual):
    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        with torch.enable_grad():
            one = super().align_features(images, sentences)
            return replace(one, saliency=one.saliency * torch.ones((), requires_grad=True))


class Hoarding(Dual):
    """Keeps every answer; ``what`` says in which form."""

    def __init__(self, what: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.what = what
        self.log: list[Any] = []

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        one = super().align_features(images, sentences)
        self.log.append(self.what(one.saliency))
        return one


class Caching(Dual):
    """Keeps what it has seen, once: no leak."""

    def __init__(self) -> None:
        super().__init__()
        self.encode_once = lru_cache(super().encode)

    def encode(self, image: LoadedImage) -> Features:
        return self.encode_once(replace_with_key(image))


class Keyed(LoadedImage):
    def __hash__(self) -> int:
        return hash(self.pixels.tobytes())


def replace_with_key(image: LoadedImage) -> LoadedImage:
    return Keyed(image.id, image.pixels)


BROKEN = [
    ("deterministic", Noisy),
    ("deterministic", Dropout),
    ("random state", Dropout),
    ("random state", Reseeding),
    ("batch invariance", Centred),
    ("order invariance", Remembering),
    ("padding", Padded),
    ("paired path equals dual path", TwoPaths),
    ("similarity matrix equals pairs", DotProducts),
    ("similarity matrix equals pairs", Turned),
    ("features", Attached),
    ("features", Views),
    ("features", Placeless),
    ("features can be reused", Normalising),
    ("features can be reused", Buffered),
    ("inputs untouched", Painting),
    ("inputs untouched", Popping),
    ("gradients", Backward),
    ("gradients", Graph),
    ("memory", lambda: Hoarding(lambda maps: maps.clone())),
    ("memory", lambda: Hoarding(lambda maps: maps.numpy().copy())),
]


@pytest.mark.parametrize(
    ("name", "make"), BROKEN, ids=[f"{name}-{getattr(make, '__name__', 'model')}" for name, make in BROKEN]
)
def test_what_is_broken_in_one_thing_fails_there(name: str, make: Callable[[], Any]) -> None:
    verdict = tried(name, make())
    assert verdict.outcome == "failed", verdict
    assert tried(name, Dual()).outcome == "passed"


def test_a_cache_is_no_leak() -> None:
    assert tried("memory", Caching()).outcome == "passed"


def test_what_raises_has_failed_with_its_message() -> None:
    class Refusing(Dual):
        def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
            if len(images) == 1:
                raise WronglungError("not one alone")
            return super().encode_images(images)

    batch = next(one for one in check_adapter(Refusing()) if one.name == "batch invariance")
    assert (batch.outcome, batch.detail) == ("failed", "not one alone")


class Prepared(Dual):
    """Prepares images apart: their grey levels."""

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        return Preprocessed(torch.from_numpy(self.levels(image.pixels).copy()), self.geometry(image))

    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> list[Features]:
        encoded = []
        for image in images:
            patches = torch.stack([image.pixels, image.pixels**2, image.pixels * 0 + 0.5], dim=-1) @ self.weight
            encoded.append(Features({"patches": patches, "global": patches.mean((0, 1))}, image.geometry))
        return encoded


class TestPreprocessingApart:
    name = "preprocessing apart"

    def test_the_same_features_from_threads_pass(self) -> None:
        assert tried(self.name, Prepared()).outcome == "passed"

    def test_other_pixels_are_found(self) -> None:
        class Squared(Prepared):
            def preprocess(self, image: LoadedImage) -> Preprocessed:
                one = super().preprocess(image)
                return Preprocessed(one.pixels**2, one.geometry)

        assert "by encode_images" in tried(self.name, Squared()).detail
        assert tried(self.name, Squared()).outcome == "failed"

    def test_a_buffer_that_threads_share_is_found(self) -> None:
        class Sharing(Prepared):
            def __init__(self) -> None:
                super().__init__()
                self.turns: dict[int, int] = {}

            def preprocess(self, image: LoadedImage) -> Preprocessed:
                one = super().preprocess(image)
                # As a race would have it: the work of one thread shows in that of the others.
                self.turns[threading.get_ident()] = 1
                return Preprocessed(one.pixels + len(self.turns) - 1, one.geometry)

        verdict = tried(self.name, Sharing())
        assert (verdict.outcome, verdict.detail) == ("failed", "4 threads at once give other pixels than one")

    def test_anything_else_than_prepared_pixels_is_found(self) -> None:
        class Bare(Prepared):
            def preprocess(self, image: LoadedImage) -> Any:
                return super().preprocess(image).pixels

        assert "a wronglung.Preprocessed with a tensor is needed" in tried(self.name, Bare()).detail


class TestHalfPrecision:
    name = "half precision"

    def test_is_compared_where_the_model_can_be_made_anew(self) -> None:
        assert tried(self.name, Dual(), Dual).outcome == "passed"
        assert tried(self.name, Dual()) == ("not shown", "the model's factory takes no dtype")

    def test_a_model_may_refuse(self) -> None:
        def rebuild(dtype: torch.dtype) -> Any:
            raise WronglungError(f"needs float32, not {dtype}")

        assert tried(self.name, Dual(), rebuild).outcome == "not shown"

    @pytest.mark.parametrize("change", [torch.log, torch.neg, torch.zeros_like])
    def test_maps_must_stay_finite_and_related(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        broken = Paired(lambda one: replace(one, saliency=change(one.saliency)))
        assert tried(self.name, Dual(), lambda dtype: broken).outcome == "failed"


class TestInputs:
    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
    def test_a_mode_without_an_answer_is_found(self, mode: str) -> None:
        class Picky(Dual):
            def encode(self, image: LoadedImage) -> Features:
                if image.pixels.mode == mode:
                    raise ValueError("what is this?")
                return super().encode(image)

        with pytest.raises(WronglungError, match=f"a film of mode {mode}, .*: ValueError: what is this"):
            tried("film modes", Picky())

    def test_a_shape_that_the_geometry_gets_wrong_is_found(self) -> None:
        class Thin(Dual):
            def geometry(self, image: LoadedImage) -> Geometry:
                width, height = image.pixels.size
                return Geometry.squash(max(width, 100), height, 224, 224)

        with pytest.raises(WronglungError, match="the geometry for a film of mode L, 80 × 240"):
            tried("film shapes", Thin())

    @pytest.mark.parametrize("words", [1, 600])
    def test_a_length_that_the_model_cannot_take_is_found(self, words: int) -> None:
        class Short(Dual):
            def words(self, sentence: str) -> torch.Tensor:
                if len(sentence.split()) in (words, words - 1, words + 1):
                    raise IndexError("out of range")
                return super().words(sentence)

        with pytest.raises(WronglungError, match="IndexError: out of range"):
            tried("sentence lengths", Short())

    def test_the_long_sentence_has_600_words(self) -> None:
        lengths = []

        class Counting(Dual):
            def words(self, sentence: str) -> torch.Tensor:
                lengths.append(len(sentence.split()))
                return super().words(sentence)

        tried("sentence lengths", Counting())
        assert lengths == [600, 1]

    def test_blindness_is_told_and_is_no_failure(self) -> None:
        assert tried("text sensitivity", load_model("text-blind")).outcome == "not shown"
        assert tried("image sensitivity", load_model("random")).outcome == "not shown"
        assert tried("text sensitivity", Dual()).outcome == "passed"
        assert tried("image sensitivity", Dual()).outcome == "passed"

    @pytest.mark.parametrize("name", ["text sensitivity", "image sensitivity"])
    def test_maps_that_are_not_finite_fail(self, name: str) -> None:
        assert tried(name, Paired(lambda one: replace(one, saliency=one.saliency * torch.nan))).outcome == "failed"


def framed(resize: str, image: LoadedImage, side: int = 224) -> tuple[Image.Image, Geometry]:
    """The film in a square frame as ``resize`` says, and the true geometry; by Pillow's own operations, not by it."""
    grey = image.pixels.convert("L")
    width, height = grey.size
    if resize == "squash":
        return grey.resize((side, side)), Geometry.squash(width, height, side, side)
    long, short = max(width, height), min(width, height)
    box = short if resize == "crop" else long
    left, top = (0, 0) if resize == "corner" else ((width - box) // 2, (height - box) // 2)
    scale = side / box
    square = grey.crop((left, top, left + box, top + box)).resize((side, side))
    return square, Geometry(width, height, side, side, scale, scale, -left * scale, -top * scale)


class Contrast:
    """Local contrast on a grid; framed one way, and stated another."""

    def __init__(
        self,
        truly: str = "squash",
        stated: str | None = None,
        cells: int = 14,
        change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda one: one,
    ) -> None:
        self.card = ModelCard(name="contrast", saliency_method="contrast", map_kind="score", mass="softmax")
        self.truly, self.stated, self.cells, self.change = truly, stated or truly, cells, change

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        maps, where = [], []
        for image in images:
            square, _ = framed(self.truly, image)
            levels = Image.fromarray(np.abs(np.asarray(square, dtype=np.float32) - 100))
            cells = np.asarray(levels.resize((self.cells, self.cells), Image.Resampling.BOX))
            maps.append(torch.from_numpy(self.change(cells).copy()))
            where.append(framed(self.stated, image)[1])
        return Alignment(torch.stack(maps), where)


RESIZES = ("squash", "crop", "pad", "corner")


class TestGeometry:
    @pytest.mark.parametrize("cells", [5, 8, 28, 64])
    @pytest.mark.parametrize("resize", RESIZES)
    def test_a_true_geometry_passes_on_every_grid(self, resize: str, cells: int) -> None:
        verdict = tried(GEOMETRY, Contrast(resize, cells=cells))
        assert verdict.outcome == "passed", verdict

    @pytest.mark.parametrize("cells", [7, 28])
    @pytest.mark.parametrize(
        ("truly", "stated", "named"),
        [
            ("crop", "squash", "a centre crop"),
            ("squash", "crop", "a plain resize"),
            ("pad", "squash", "padding around"),
            ("squash", "pad", "a plain resize"),
            ("crop", "pad", "a centre crop"),
            ("pad", "crop", "padding around"),
            ("corner", "pad", "padding at the right"),
            ("pad", "corner", "padding around"),
        ],
    )
    def test_one_resize_stated_as_another_fails_and_is_named(
        self, truly: str, stated: str, named: str, cells: int
    ) -> None:
        verdict = tried(GEOMETRY, Contrast(truly, stated, cells))
        assert verdict.outcome == "failed", verdict
        assert named in verdict.detail

    @pytest.mark.parametrize("cells", [5, 14])
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda one: one.T, "rows and columns exchanged"),
            (lambda one: one[:, ::-1], "mirrored left to right"),
            (lambda one: one[::-1], "upside down"),
            (lambda one: one[::-1, ::-1], "turned by half"),
        ],
    )
    def test_maps_that_lie_otherwise_fail_and_are_named(
        self, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], named: str, cells: int
    ) -> None:
        verdict = tried(GEOMETRY, Contrast(cells=cells, change=change))
        assert verdict.outcome == "failed", verdict
        assert named in verdict.detail

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize(("cells", "by"), [(8, 2), (14, 2), (28, 4), (64, 8)])
    def test_shifts_of_more_than_a_cell_fail(self, cells: int, by: int, axis: int) -> None:
        verdict = tried(GEOMETRY, Contrast(cells=cells, change=lambda one: np.roll(one, by, axis)))
        assert verdict.outcome == "failed", verdict

    @pytest.mark.parametrize(("cells", "by"), [(7, 0), (28, 1), (64, 1)])
    def test_shifts_that_a_grid_cannot_tell_pass(self, cells: int, by: int) -> None:
        assert tried(GEOMETRY, Contrast(cells=cells, change=lambda one: np.roll(one, by, 1))).outcome == "passed"

    def test_what_the_pixels_do_not_move_shows_nothing(self) -> None:
        assert tried(GEOMETRY, load_model("uniform")) == ("not shown", "the map does not depend on the pixels")

    def test_what_moves_anywhere_shows_nothing(self) -> None:
        scattered = np.random.default_rng(0).permutation(14 * 14)
        verdict = tried(GEOMETRY, Contrast(change=lambda one: one.flatten()[scattered].reshape(14, 14)))
        assert verdict.outcome == "not shown"
        assert "nor elsewhere in step with it" in verdict.detail

    @settings(max_examples=20, deadline=None)
    @given(
        st.tuples(st.integers(3, 9), st.integers(3, 40), st.integers(3, 40)),
        st.floats(0.1, 10),
        st.floats(-5, 5),
        st.integers(0, 100),
    )
    def test_correlation_ignores_what_is_the_same_everywhere_or_always(
        self, shape: tuple[int, int, int], scale: float, offset: float, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        one, other = rng.random(shape), rng.random(shape)
        moved = scale * one + offset + rng.random((shape[0], 1, 1)) + rng.random((1, *shape[1:]))
        centred = [moving_patch._centred(pictures) for pictures in (one, moved, other)]
        assert moving_patch._cosine(centred[1], centred[2]) == pytest.approx(
            moving_patch._cosine(centred[0], centred[2]), abs=1e-9
        )
        assert moving_patch._cosine(centred[0], centred[1]) == pytest.approx(1)


class TestFixture:
    def run(self, folder: Path, body: str) -> subprocess.CompletedProcess[str]:
        (folder / "mine.py").write_text(
            "import numpy as np, torch\n"
            "from wronglung import Alignment, Geometry, ModelCard\n"
            "class Mine:\n"
            "    card = ModelCard(name='mine', saliency_method='grey', map_kind='score', mass='softmax')\n"
            "    def __init__(self, noise: bool = False):\n"
            "        self.noise = noise\n"
            "    def align(self, images, sentences):\n"
            "        geometry = [Geometry.squash(*one.pixels.size, 64, 64) for one in images]\n"
            "        grey = [np.asarray(one.pixels.convert('L').resize((8, 8)), dtype=np.float32) for one in images]\n"
            "        maps = torch.from_numpy(np.stack(grey))\n"
            "        return Alignment(maps + torch.rand(maps.shape) if self.noise else maps, geometry)\n"
        )
        (folder / "test_mine.py").write_text(body)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "wronglung.benchmark.pytest_plugin", str(folder)]
        # An installed plug-in is loaded by its entry point, and only once.
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=alone)

    def test_it_passes_what_is_right_and_fails_readably_what_is_not(self, tmp_path: Path) -> None:
        done = self.run(
            tmp_path,
            "from mine import Mine\n"
            "def test_right(wronglung_check):\n"
            "    checks = wronglung_check(Mine())\n"
            "    assert {one.outcome for one in checks} == {'passed', 'not shown'}\n"
            "def test_wrong(wronglung_check):\n"
            "    wronglung_check('mine.py:Mine', noise='yes')\n",
        )
        assert "1 failed, 1 passed" in done.stdout
        assert "deterministic: largest relative difference" in done.stdout
        assert "  why: a figure that cannot be repeated cannot be compared" in done.stdout
        assert "  fix: put networks into eval()" in done.stdout

    def test_importing_the_plug_in_is_cheap(self) -> None:
        code = (
            "import sys, wronglung.benchmark.pytest_plugin\n"
            "print({'torch', 'numpy', 'PIL', 'transformers', 'pandas', 'scipy', 'pydantic'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"
