"""Maps and local similarities of dense encoders against plain loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wronglung.adapters.saliency.cosine import LocalSimilarity, cosine_map, local_similarity

Vectors = npt.NDArray[np.float64]


def cosine(a: Vectors, b: Vectors) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def plain(patches: Vectors, text: Vectors, kind: str, tau: float) -> float:
    """The definition, patch by patch, for one pair."""
    s = np.array([cosine(patch, text) for patch in patches])
    if kind == "max":
        return float(max(s))
    if kind == "mean":
        return math.fsum(s) / len(s)
    if kind == "logsumexp":
        return float(tau * (math.log(math.fsum(np.exp((s - max(s)) / tau))) + max(s) / tau - math.log(len(s))))
    weights = np.exp((s - max(s)) / tau)
    weights /= weights.sum()
    return cosine(sum(w * patch / np.linalg.norm(patch) for w, patch in zip(weights, patches, strict=True)), text)


KINDS: tuple[LocalSimilarity, ...] = ("attention", "max", "mean", "logsumexp")


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(2, 8)),
    tau=st.floats(0.01, 10),
)
def test_all_agree_with_the_definitions(seed: int, shape: tuple[int, int, int, int], tau: float) -> None:
    draw = np.random.default_rng(seed)
    patches, text = draw.standard_normal(shape), draw.standard_normal((shape[0], shape[3]))
    counted = draw.random(shape[:3]) < 0.6
    counted[:, 0, 0] = True
    tensors = torch.tensor(patches), torch.tensor(text)
    saliency = cosine_map(*tensors)
    for item in range(shape[0]):
        for row, column in np.ndindex(shape[1], shape[2]):
            assert saliency[item, row, column] == pytest.approx(cosine(patches[item, row, column], text[item]))
    for kind in KINDS:
        ours = local_similarity(*tensors, kind, tau, torch.tensor(counted))
        theirs = [plain(patches[item][counted[item]], text[item], kind, tau) for item in range(shape[0])]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@given(seed=st.integers(0, 10_000), tau=st.floats(0.01, 5))
def test_logsumexp_lies_between_mean_and_maximum(seed: int, tau: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    patches, text = torch.randn(2, 3, 3, 4, generator=draw).double(), torch.randn(2, 4, generator=draw).double()
    low, middle, high = (local_similarity(patches, text, kind, tau) for kind in ("mean", "logsumexp", "max"))
    assert bool((low <= middle + 1e-9).all())
    assert bool((middle <= high + 1e-9).all())


def test_vectors_without_length_give_no_nan() -> None:
    for kind in KINDS:
        assert torch.isfinite(local_similarity(torch.zeros(1, 2, 2, 3), torch.zeros(1, 3), kind, 0.07)).all()
