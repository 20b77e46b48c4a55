"""Mass, and on which side of the image it lies."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.benchmark.frames import scoring_frame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Box
from wronglung.benchmark.measures import halves
from wronglung.benchmark.metrics.distribution import as_distribution
from wronglung.benchmark.metrics.laterality import Halves, side
from wronglung.benchmark.metrics.mass import PixelMass

Floats: TypeAlias = npt.NDArray[np.float64]
Rule = Literal["sum", "clip", "softmax"]
RULES: list[Rule] = ["sum", "clip", "softmax"]


def whole(width: int, height: int) -> Halves:
    """The halves of an image that fills the grid."""
    return Halves.of((0, 0, width, height), width, height)


def columns(width: int, height: int, *lit: int) -> Floats:
    pixels = np.zeros((height, width))
    pixels[:, list(lit)] = 1
    return pixels


class TestMass:
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.floats(-2, 2, width=32), min_size=12, max_size=12),
        st.lists(st.booleans(), min_size=12, max_size=12),
        st.sampled_from(RULES),
        st.sampled_from([0.1, 1.0, 7.0]),
    )
    def test_pixels_have_the_mass_that_regions_would(
        self, values: list[float], inside: list[bool], rule: Rule, temperature: float
    ) -> None:
        pixels, mask = np.reshape(values, (3, 4)), np.reshape(inside, (3, 4))
        expected = as_distribution(torch.from_numpy(pixels).float()[None], rule, temperature).numpy().reshape(3, 4)
        mass = PixelMass.of(pixels, rule, temperature)
        assert mass.inside(np.flatnonzero(mask)) == pytest.approx((expected * mask).sum(), nan_ok=True)
        balance = expected[:, 2:].sum() - expected[:, :2].sum()
        assert mass.balance(whole(4, 3)) == pytest.approx(balance, abs=1e-12, nan_ok=True)

    @pytest.mark.parametrize("rule", RULES)
    def test_pixels_that_the_model_never_saw_have_none(self, rule: Rule) -> None:
        pixels = np.random.default_rng(0).random((4, 6))
        cropped = pixels.copy()
        cropped[:, :2] = -math.inf
        mask = np.zeros((4, 6), np.bool_)
        mask[1:3, 1:4] = True
        seen = PixelMass.of(pixels[:, 2:], rule).inside(np.flatnonzero(mask[:, 2:]))
        assert PixelMass.of(cropped, rule).inside(np.flatnonzero(mask)) == pytest.approx(seen)
        assert math.isnan(PixelMass.of(np.full((4, 6), -math.inf), rule).balance(whole(6, 4)))

    @pytest.mark.parametrize(
        ("rule", "pixels"), [("sum", np.zeros((2, 2))), ("clip", -np.ones((2, 2))), ("sum", np.array([[-1.0, 2.0]]))]
    )
    def test_a_map_without_mass_lies_nowhere(self, rule: Rule, pixels: Floats) -> None:
        mass = PixelMass.of(pixels, rule)
        assert math.isnan(mass.inside(np.arange(pixels.size)))
        assert math.isnan(mass.balance(whole(2, len(pixels))))

    def test_rounding_takes_no_share_beyond_the_whole(self) -> None:
        for seed in range(50):
            pixels = np.random.default_rng(seed).random((7, 11))
            assert PixelMass.of(pixels, "sum").inside(np.arange(77)) <= 1
            assert abs(PixelMass.of(columns(11, 7, 0) * pixels, "sum").balance(whole(11, 7))) <= 1


class TestBalance:
    @pytest.mark.parametrize("width", [8, 9, 225])
    def test_it_goes_from_one_side_to_the_other(self, width: int) -> None:
        def balance(*lit: int) -> float:
            return PixelMass.of(columns(width, 5, *lit), "sum").balance(whole(width, 5))

        assert balance(0) == -1
        assert balance(width - 1) == 1
        assert balance(0, width - 1) == 0
        assert balance(0, 1, width - 1) == pytest.approx(-1 / 3)
        if width % 2:
            assert balance(width // 2) == 0  # a column in the middle is in both halves

    @pytest.mark.parametrize("size", [(8, 8), (9, 5), (224, 224), (200, 224)])
    def test_a_constant_map_takes_no_side(self, size: tuple[int, int]) -> None:
        assert PixelMass.of(np.ones(size), "sum").balance(whole(size[1], size[0])) == pytest.approx(0, abs=1e-15)

    def test_a_mirrored_map_changes_its_sign(self) -> None:
        pixels = np.random.default_rng(1).random((20, 31))
        straight, mirrored = (PixelMass.of(one, "sum").balance(whole(31, 20)) for one in (pixels, pixels[:, ::-1]))
        assert straight == pytest.approx(-mirrored)

    def test_mass_on_padding_is_in_neither_half(self) -> None:
        """An image of 4 × 2 pixels in a frame of 6 × 4, with a column and a row of padding around it."""
        padded = Halves.of((1, 1, 5, 3), 6, 4)
        pixels = np.zeros((4, 6))
        pixels[1, 1], pixels[0, 4], pixels[1, 5] = 1, 1, 2
        assert PixelMass.of(pixels, "sum").balance(padded) == -1 / 4
        assert PixelMass.of(np.ones((4, 6)), "sum").balance(padded) == 0


class TestSide:
    def test_a_mask_has_the_side_where_it_lies(self) -> None:
        mask = np.zeros((10, 40), np.bool_)
        assert side(mask, whole(40, 10)) == 0
        mask[2:5, 3:15] = True
        assert side(mask, whole(40, 10)) == -1
        assert side(mask[:, ::-1], whole(40, 10)) == 1
        assert side(mask | mask[:, ::-1], whole(40, 10)) == 0
        assert side(np.ones((10, 40), np.bool_), whole(40, 10)) == 0

    @pytest.mark.parametrize(("across", "expected"), [(0, -1), (1, -1), (2, 0)])
    def test_a_twentieth_may_lie_across_the_middle(self, across: int, expected: int) -> None:
        mask = np.zeros((1, 60), np.bool_)
        mask[0, 30 - (20 - across) : 30 + across] = True
        assert side(mask, whole(60, 1)) == expected
        assert side(mask[:, ::-1], whole(60, 1)) == -expected


class TestFrames:
    """The midline is that of the image, wherever the scoring grid puts it."""

    box = Box("", 0, 0, 90, 100)  # a little less than the left half of an image of 200 × 100

    @pytest.mark.parametrize("frame", ["model", "image"])
    @pytest.mark.parametrize(
        "geometry",
        [
            Geometry.squash(200, 100, 64, 64),
            Geometry(200, 100, 64, 64, 0.32, 0.32, 0, 16),  # padded above and below
            Geometry(200, 100, 64, 64, 0.64, 0.64, -20, 0),  # the left and right ends cropped, not evenly
            Geometry(200, 100, 64, 64, 0.2, 0.2, 20, 10),  # padded all round, not evenly
        ],
        ids=["squashed", "padded", "cropped", "off centre"],
    )
    def test_the_left_box_is_on_the_left(self, geometry: Geometry, frame: Literal["model", "image"]) -> None:
        grid = scoring_frame(geometry, frame, 100)
        mask = grid.mask([self.box])
        assert side(mask, halves(grid)) == -1
        assert PixelMass.of(mask.astype(np.float64), "sum").balance(halves(grid)) == pytest.approx(-1)
        mirrored = grid.mask([Box("", 110, 0, 200, 100)])
        assert side(mirrored, halves(grid)) == 1

    def test_halves_are_disjoint_and_cover_the_image(self) -> None:
        grid = scoring_frame(Geometry(200, 100, 64, 48, 0.21, 0.33, 7.3, -2.9), "model")
        one = halves(grid)
        assert one.left.sum() == pytest.approx(100 * 0.21)
        assert one.right.sum() == pytest.approx(100 * 0.21)
        assert one.rows.sum() == pytest.approx(100 * 0.33 - 2.9)
        assert (one.left + one.right).max() <= 1 + 1e-12
