"""GradCAM, Chefer's relevance and rollout against their equations written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from wronglung.adapters.saliency.gradient import chefer, gradcam, gradcam_tokens, rollout

Run = Callable[[torch.Tensor], tuple[torch.Tensor, Sequence[torch.Tensor]]]

GRID = (2, 3)
PREFIX = 2
seeds = st.integers(0, 2**16)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def transformer(seed: int, blocks: int = 3, width: int = 4, heads: int = 2) -> Run:
    """Attention blocks whose image vector is the first token."""
    weights = normal(seed, blocks, 3, heads, width, width)

    def run(tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        attentions = []
        for block in weights:
            q, k, v = (tokens[:, None] @ one for one in block)
            attentions.append((q @ k.mT).softmax(dim=-1))
            tokens = tokens + (attentions[-1] @ v).sum(dim=1)
        return tokens[:, 0], attentions

    return run


@given(seeds)
def test_gradcam_of_a_linear_head_has_a_closed_form(seed: int) -> None:
    activations, text, head = normal(seed, 2, 5, *GRID).requires_grad_(), normal(seed + 1, 2, 4), normal(seed + 2, 5, 4)
    found = gradcam(activations, lambda a: a.mean(dim=(2, 3)) @ head, text)
    for one, sentence, it in zip(activations.detach(), text, found, strict=True):
        vector, unit = one.mean(dim=(1, 2)) @ head, functional.normalize(sentence, dim=0)
        gradient = (unit - (unit @ vector) * vector / vector.norm() ** 2) / vector.norm()
        weights = head @ gradient / one[0].numel()
        assert torch.allclose(it, (weights[:, None, None] * one).sum(dim=0).relu())


@given(seeds)
def test_gradcam_of_tokens_is_that_of_their_map(seed: int) -> None:
    tokens, text, head = normal(seed, 2, PREFIX + 6, 5).requires_grad_(), normal(seed + 1, 2, 4), normal(seed + 2, 5, 4)

    def vector(patches: torch.Tensor) -> torch.Tensor:
        return patches.square().sum(dim=1) @ head

    feature_map = tokens.detach()[:, PREFIX:].mT.reshape(2, 5, *GRID).requires_grad_()
    expected = gradcam(feature_map, lambda a: vector(a.flatten(2).mT), text)
    assert torch.allclose(gradcam_tokens(tokens, PREFIX, GRID, lambda x: vector(x[:, PREFIX:]), text), expected)


@given(seeds)
def test_chefer_multiplies_what_each_block_adds(seed: int) -> None:
    run, tokens, text = transformer(seed), normal(seed + 1, 1, PREFIX + 6, 4).requires_grad_(), normal(seed + 2, 1, 4)
    found = chefer(tokens, run, PREFIX, GRID, text)

    vectors, attentions = run(tokens)
    gradients = torch.autograd.grad(functional.cosine_similarity(vectors, text)[0], attentions)
    relevance = torch.eye(PREFIX + 6, dtype=torch.float64)
    for attention, gradient in zip(attentions, gradients, strict=True):
        added = sum((attention[0, head] * gradient[0, head]).clamp(min=0) for head in range(2)) / 2
        relevance = (torch.eye(PREFIX + 6) + added) @ relevance
    assert torch.allclose(found, relevance[0, PREFIX:].reshape(1, *GRID))
    assert (found >= 0).all()


@given(seeds)
def test_rollout_multiplies_half_attentions(seed: int) -> None:
    _, attentions = transformer(seed)(normal(seed + 1, 2, PREFIX + 6, 4))
    first, second, third = (0.5 * one.mean(dim=1) + 0.5 * torch.eye(PREFIX + 6) for one in attentions)
    found = rollout(attentions, PREFIX, GRID)
    assert torch.allclose(found, (third @ second @ first)[:, 0, PREFIX:].reshape(2, *GRID))
    # Each row is a distribution over all tokens, of which the map has the patches.
    assert (found >= 0).all()
    assert (found.sum(dim=(1, 2)) < 1).all()


def test_chefer_and_rollout_find_the_patch_that_the_class_token_reads() -> None:
    tokens = torch.eye(7)[None].repeat(1, 1, 1).requires_grad_()
    at = 5

    def run(entering: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        attention = torch.eye(7).repeat(1, 1, 1, 1)
        attention[..., 0, :] = torch.eye(7)[at] * 0.9 + 0.1 / 7
        attention = attention + 0 * entering.sum()
        return (attention[:, 0] @ entering)[:, 0], [attention]

    text = torch.eye(7)[at][None]
    relevance, flow = chefer(tokens, run, 1, GRID, text), rollout([run(tokens)[1][0].detach()], 1, GRID)
    assert int(relevance.flatten().argmax()) == int(flow.flatten().argmax()) == at - 1


@pytest.mark.parametrize("method", ["gradcam", "gradcam_tokens", "chefer"])
def test_a_map_does_not_depend_on_the_rest_of_the_batch(method: str) -> None:
    run, head, text = transformer(0), normal(1, 4, 4), normal(2, 3, 4)
    tokens = normal(3, 3, PREFIX + 6, 4)

    def maps(of: slice) -> torch.Tensor:
        entering = tokens[of].clone()
        if method == "gradcam":
            feature_map = entering[:, PREFIX:].mT.reshape(-1, 4, *GRID).requires_grad_()
            return gradcam(feature_map, lambda a: a.square().mean(dim=(2, 3)) @ head, text[of])
        entering.requires_grad_()
        if method == "gradcam_tokens":
            return gradcam_tokens(entering, PREFIX, GRID, lambda x: run(x)[0], text[of])
        return chefer(entering, run, PREFIX, GRID, text[of])

    together = maps(slice(None))
    assert together.shape == (3, *GRID)
    for item in range(3):
        assert torch.allclose(together[item], maps(slice(item, item + 1))[0])
