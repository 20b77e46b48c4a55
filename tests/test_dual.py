"""A dual encoder with a saliency method is an alignment model, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from wronglung.adapters.dual import (
    Dense,
    DualModel,
    DualNetwork,
    Gradient,
    TextBlind,
    chosen_method,
    dual_card,
    seen_cells,
)
from wronglung.adapters.preprocessing.pixels import clip
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import DualEncoder, LoadedImage, check_model

SIDE, GRID, SIZE = 32, 4, 6


class Patches(nn.Module):
    """Patches of 8 × 8 pixels, projected; the image's vector is their mean."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.projection = nn.Conv2d(3, SIZE, SIDE // GRID, SIDE // GRID, bias=False)
        self.projection.weight.data.copy_(torch.randn(self.projection.weight.shape, generator=draw))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches: torch.Tensor = self.projection(pixels).permute(0, 2, 3, 1)
        return patches, patches.mean(dim=(1, 2))


def letters(sentences: Sequence[str]) -> torch.Tensor:
    """A vector by the letters of a sentence."""
    return torch.stack(
        [torch.tensor([ord(one) % 7 - 3.0 for one in f"{sentence:{SIZE}}"[:SIZE]]) for sentence in sentences]
    )


@pytest.fixture
def network() -> DualNetwork:
    module = Patches()

    def relevance(activations: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        score = torch.nn.functional.cosine_similarity(activations.mean(dim=(1, 2)), text).sum()
        (gradient,) = torch.autograd.grad(score, activations)
        return (activations * gradient).sum(dim=-1).relu()

    return DualNetwork(
        module,
        clip(SIDE, resize_mode="longest"),
        letters,
        {
            "cosine": Dense("cosine of patches", module),
            "gradient": Gradient("gradient of the cosine", module, relevance),
            "norm": TextBlind("length of patches", lambda pixels: (module(pixels)[0].norm(dim=-1), module(pixels)[1])),
        },
    )


@pytest.fixture
def make(network: DualNetwork) -> Callable[..., DualModel]:
    def make(method: str, dtype: torch.dtype = torch.float32, tau: float = 0.07) -> DualModel:
        card = dual_card(
            network, method, name="tiny", checkpoint="0" * 64, tau=tau, similarity="max", tokens="", dtype=dtype
        )
        return DualModel(network, method, card, similarity="max", tau=tau, dtype=dtype)

    return make


def images(count: int = 3) -> list[LoadedImage]:
    draw = np.random.default_rng(0)
    sizes = [(40, 40), (60, 30), (20, 80)]
    return [
        LoadedImage(str(at), Image.fromarray(draw.integers(0, 256, (height, width), dtype=np.uint8)))
        for at, (width, height) in enumerate(sizes[:count])
    ]


SENTENCES = ["left lung", "right", "heart"]
METHODS = ("cosine", "gradient", "norm")


@pytest.mark.parametrize("method", METHODS)
def test_it_keeps_the_protocol(make: Callable[..., DualModel], method: str) -> None:
    model = make(method)
    check_model(model)
    assert isinstance(model, DualEncoder)
    with torch.no_grad():
        both = model.align(images(), SENTENCES)
        alone = [model.align([image], [sentence]) for image, sentence in zip(images(), SENTENCES, strict=True)]
    assert both.saliency.shape == (3, GRID, GRID)
    assert torch.equal(both.saliency, torch.cat([one.saliency for one in alone]))
    assert both.global_similarity is not None
    matrix = model.global_similarity_matrix(model.encode_images(images()), model.encode_sentences(SENTENCES))
    torch.testing.assert_close(matrix.diagonal(), both.global_similarity)
    assert not both.saliency.requires_grad
    assert (both.local_similarity is None) == (method != "cosine")


def test_cards_say_what_kind_of_map_it_is(make: Callable[..., DualModel]) -> None:
    cards = {method: make(method).card for method in METHODS}
    assert [card.signed for card in cards.values()] == [True, False, False]
    assert [card.comparable for card in cards.values()] == [True, False, False]
    assert [card.mass for card in cards.values()] == ["softmax", "sum", "sum"]
    assert cards["cosine"].temperature == 0.07
    assert len({card.saliency_method for card in cards.values()}) == 3
    assert cards["cosine"].settings == {
        "method": "cosine", "tau": 0.07, "local_similarity": "max", "dtype": "float32",
    }  # fmt: skip


def test_padding_is_left_out_of_the_local_similarity(make: Callable[..., DualModel]) -> None:
    """A wide image lies in the middle two of four rows; the best cell is sought there."""
    model, wide = make("cosine"), images()[1:2]
    (saliency,) = model.align(wide, SENTENCES[:1]).saliency
    local = model.align(wide, SENTENCES[:1]).local_similarity
    assert local is not None
    assert float(local) == pytest.approx(float(saliency[1:3].max()))


def test_gradients_want_full_precision(make: Callable[..., DualModel]) -> None:
    with pytest.raises(WronglungError, match="saliency method 'gradient' takes gradients, for which it needs float32"):
        make("gradient", torch.bfloat16)


def test_half_precision_is_near(make: Callable[..., DualModel]) -> None:
    """Encoded in bfloat16, compared in float32."""
    exact = make("cosine").align(images(), SENTENCES)
    near = make("cosine", torch.bfloat16)
    rough = near.align(images(), SENTENCES)
    assert rough.saliency.dtype == torch.float32
    torch.testing.assert_close(rough.saliency, exact.saliency, atol=0.05, rtol=0)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(make: Callable[..., DualModel], tau: float) -> None:
    with pytest.raises(WronglungError, match="must be positive and finite"):
        make("cosine", tau=tau)


def test_methods_are_chosen_by_name(network: DualNetwork) -> None:
    assert chosen_method(network, None, "tiny") == "cosine"
    assert chosen_method(network, "norm", "tiny") == "norm"
    with pytest.raises(WronglungError, match="tiny: unknown saliency method 'gem'; it has cosine, gradient, norm"):
        chosen_method(network, "gem", "tiny")


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    offset=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_seen_cells_are_those_with_a_visible_pixel(
    size: tuple[int, int], offset: tuple[int, int], grid: tuple[int, int]
) -> None:
    geometry = Geometry(*size, 56, 56, 1.0, 1.0, *offset)
    seen = seen_cells(geometry, *grid)
    frame = np.zeros((56, 56), dtype=bool)
    rows, columns = np.arange(56) - offset[1], np.arange(56) - offset[0]
    frame[np.ix_((rows >= 0) & (rows < size[1]), (columns >= 0) & (columns < size[0]))] = True
    for row, column in np.ndindex(*grid):
        # All pixels that a cell touches: an edge inside a pixel makes the cell touch it.
        top, bottom = row * 56 // grid[0], -(-(row + 1) * 56 // grid[0])
        left, right = column * 56 // grid[1], -(-(column + 1) * 56 // grid[1])
        if bool(seen[row, column]) and frame.any():
            assert frame[top:bottom, left:right].any()
    if frame.any() and grid == (1, 1):
        assert bool(seen.all())
    if not frame.any():
        assert bool(seen.all())
