"""Entropy and divergence of saliency maps as distributions over regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wronglung.benchmark.metrics.distribution import EPSILON, as_distribution, entropy, symmetric_kl

MAPS = st.integers(0, 2**32 - 1).map(
    lambda seed: torch.from_numpy(np.random.default_rng(seed).random((4, 5, 3)) + 1e-3)
)


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_map_is_divided_by_its_sum() -> None:
    p = as_distribution(torch.tensor([[[1.0, 2.0], [1.0, 0.0]]]))
    assert p.dtype == torch.float64
    assert p.tolist() == [[0.25, 0.5, 0.25, 0.0]]


def test_negative_values_are_clipped_where_the_card_says_so() -> None:
    assert as_distribution(torch.tensor([[[1.0, -2.0, 3.0]]]), "clip").tolist() == [[0.25, 0, 0.75]]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
def test_softmax_over_the_temperature(temperature: float) -> None:
    logits = [0.5, -1.0, 2.0]
    weights = [math.exp(value / temperature) for value in logits]
    p = as_distribution(torch.tensor([[logits]]), "softmax", temperature)
    assert p[0].tolist() == pytest.approx([weight / sum(weights) for weight in weights])


def test_softmax_of_huge_values_stays_finite() -> None:
    assert as_distribution(torch.tensor([[[1e30, -1e30]]]), "softmax", 0.01).tolist() == [[1, 0]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        as_distribution(torch.ones(1, 2, 2), "softmax", temperature)


def test_a_map_without_mass_is_undefined_and_leaves_its_neighbours_alone() -> None:
    p = as_distribution(torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]]))
    assert p.isnan().tolist() == [[True, True], [False, False]]
    assert as_distribution(torch.tensor([[[-1.0, -2.0]]]), "clip").isnan().all()
    assert entropy(p).isnan().tolist() == [True, False]
    assert symmetric_kl(p, p).isnan().tolist() == [True, False]


def test_a_negative_value_makes_a_map_that_is_divided_by_its_sum_undefined() -> None:
    assert as_distribution(torch.tensor([[[3.0, -1.0]]]), "sum").isnan().all()


@pytest.mark.parametrize("mass", ["sum", "clip", "softmax"])
def test_a_map_gives_the_same_bytes_alone_and_in_a_batch(mass: str) -> None:
    maps = torch.rand(7, 200, 190, generator=torch.Generator().manual_seed(1))
    p = as_distribution(maps, mass)  # type: ignore[arg-type]
    for at in range(len(maps)):
        alone = as_distribution(maps[at : at + 1], mass)  # type: ignore[arg-type]
        assert torch.equal(alone, p[at : at + 1])
        assert torch.equal(entropy(alone), entropy(p)[at : at + 1])
        assert torch.equal(symmetric_kl(alone, p[:1]), symmetric_kl(p, p[:1].expand_as(p))[at : at + 1])


@given(MAPS)
def test_entropy_is_scipys(maps: torch.Tensor) -> None:
    p = as_distribution(maps)
    assert entropy(p).tolist() == pytest.approx([stats.entropy(row) for row in p.numpy()])


def test_the_uniform_map_has_the_highest_entropy_and_a_single_region_none() -> None:
    single = torch.zeros(1, 19, 19)
    single[0, 3, 4] = 5
    assert entropy(as_distribution(torch.full((1, 19, 19), 0.1))).item() == pytest.approx(math.log(361))
    assert entropy(as_distribution(single)).item() == 0


@given(MAPS, st.floats(0, 1))
def test_the_no_attention_weight_is_one_more_region(maps: torch.Tensor, weight: float) -> None:
    p = as_distribution(maps) * (1 - weight)
    expected = [stats.entropy([weight, *row]) for row in p.tolist()]
    assert entropy(p, torch.full((4,), weight)).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_weight_that_is_rounding_noise_does_not_count() -> None:
    p = rows([0.5, 0.5])
    assert entropy(p, torch.tensor([-1.2e-7])).item() == entropy(p).item()


@given(MAPS, MAPS)
def test_symmetric_kl_is_half_of_scipys_both_directions(one: torch.Tensor, other: torch.Tensor) -> None:
    p, q = as_distribution(one), as_distribution(other)
    expected = [(stats.entropy(a, b) + stats.entropy(b, a)) / 2 for a, b in zip(p.numpy(), q.numpy(), strict=True)]
    assert symmetric_kl(p, q).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert torch.equal(symmetric_kl(p, q), symmetric_kl(q, p))
    assert bool((symmetric_kl(p, q) >= 0).all())
    assert symmetric_kl(p, p).tolist() == [0] * 4


def test_disjoint_maps_are_finitely_far_apart_unless_taken_as_they_are() -> None:
    p, q = rows([1.0, 0.0, 0.0]), rows([0.0, 1.0, 0.0])
    assert symmetric_kl(p, q).item() == pytest.approx(-math.log(EPSILON))
    assert symmetric_kl(p, q, floor=None).item() == math.inf
    assert symmetric_kl(p, p, floor=None).item() == 0


def test_without_a_floor_maps_are_not_renormalised() -> None:
    p, q = rows([0.2, 0.3]), rows([0.4, 0.1])
    expected = ((0.2 - 0.4) * math.log(0.2 / 0.4) + (0.3 - 0.1) * math.log(0.3 / 0.1)) / 2
    assert symmetric_kl(p, q, floor=None).item() == pytest.approx(expected)
    assert symmetric_kl(p, q).item() != pytest.approx(expected)
