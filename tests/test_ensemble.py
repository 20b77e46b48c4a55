"""Several checkpoints as one encoder: means of cosines, by vectors side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import nn

from wronglung.adapters.dual import Dense, DualModel, DualNetwork, Gradient, TextBlind, dual_card
from wronglung.adapters.ensemble import ensemble
from wronglung.adapters.preprocessing.pixels import Pipeline, Squash
from wronglung.adapters.saliency.gradient import gradcam
from wronglung.benchmark.protocol import Alignment, LoadedImage

IMAGES = [LoadedImage(str(seed), Image.effect_noise((40, 30), 80 + seed)) for seed in range(2)]
SENTENCES = ["left", "right base"]


def member(seed: int) -> DualNetwork:
    """An encoder of random linear maps."""
    torch.manual_seed(seed)
    patch, letters = nn.Conv2d(3, 5, 4, 4), nn.Embedding(128, 5)

    def features(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = patch(pixels)
        return found, found.mean(dim=(2, 3))

    def dense(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found, pooled = features(pixels)
        return found.movedim(1, 3), pooled

    def blind(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found, pooled = features(pixels)
        return found.abs().sum(dim=1), pooled

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        return torch.stack([letters(torch.tensor(list(sentence.encode()))).mean(dim=0) for sentence in sentences])

    return DualNetwork(
        nn.ModuleList([patch, letters]),
        Pipeline((Squash(16, 16),)),
        encode_text,
        {
            "dense": Dense("dense", dense, lambda maps: maps + 1),
            "gradient": Gradient(
                "gradient", features, lambda x, text: gradcam(x, lambda a: a.square().mean(dim=(2, 3)), text)
            ),
            "blind": TextBlind("blind", blind),
        },
    )


def model(network: DualNetwork, method: str) -> DualModel:
    card = dual_card(
        network, method, name="m", checkpoint=None, tau=0.1, similarity="max", tokens="", dtype=torch.float32
    )
    return DualModel(network, method, card, similarity="max", tau=0.1)


@pytest.mark.parametrize("method", ["dense", "gradient", "blind"])
def test_maps_and_similarities_are_means(method: str) -> None:
    members = [member(seed) for seed in range(3)]
    alone = [model(one, method).align(IMAGES, SENTENCES) for one in members]
    whole = model(ensemble(members), method)
    together = whole.align(IMAGES, SENTENCES)

    def mean(of: list[torch.Tensor | None]) -> torch.Tensor:
        return torch.stack([one for one in of if one is not None]).mean(dim=0)

    assert torch.allclose(together.saliency, mean([one.saliency for one in alone]), atol=1e-6)
    assert together.global_similarity is not None
    assert torch.allclose(together.global_similarity, mean([one.global_similarity for one in alone]), atol=1e-6)
    assert together.geometry == alone[0].geometry
    assert whole.card.saliency_method == f"{method}; mean over 3 checkpoints"


def test_all_against_all_and_the_local_similarity_come_from_the_mean_cosines() -> None:
    whole = model(ensemble([member(0), member(1)]), "dense")
    images, sentences = whole.encode_images(IMAGES), whole.encode_sentences(SENTENCES)
    matrix = whole.global_similarity_matrix(images, sentences)
    found: Alignment = whole.align_features(images, sentences)
    assert found.global_similarity is not None
    assert found.local_similarity is not None
    assert torch.allclose(matrix.diagonal(), found.global_similarity, atol=1e-6)
    # The members' finish has added 1 to the maps, not to the cosines.
    assert torch.allclose(found.local_similarity, found.saliency.amax(dim=(1, 2)) - 1, atol=1e-6)


def test_one_member_is_itself() -> None:
    alone, whole = (model(one, "dense").align(IMAGES, SENTENCES) for one in (member(0), ensemble([member(0)])))
    assert torch.allclose(alone.saliency, whole.saliency, atol=1e-6)
