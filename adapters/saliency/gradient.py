"""Maps from gradients and attention matrices: GradCAM, Chefer's relevance and attention rollout.

The score whose gradient is taken is the cosine of an image's and a sentence's vector. Tokens are [batch, prefix + P, C]:
``prefix`` extra tokens, the class token first, and then the P = rows · columns patches of ``grid``, row by row. In a batch,
each item's map is its own: scores are summed, and no item's score depends on another's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

Pooled = Callable[[torch.Tensor], torch.Tensor]
Grid = tuple[int, int]


def gradcam(activations: torch.Tensor, pooled: Pooled, text: torch.Tensor) -> torch.Tensor:
    """GradCAM (Selvaraju et al. 2017, equations 1 and 2) on a feature map: [batch, rows, columns] of at least 0.

    A channel weighs as much as the spatial mean of the gradient; the map is relu(Σ weight · activation). ``activations``
    [batch, C, rows, columns] require gradients; ``pooled`` makes image vectors [batch, D] of them; ``text`` [batch, D].
    """
    gradient = _gradients(pooled(activations), text, [activations])[0]
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activations.detach()).sum(dim=1).relu()


def gradcam_tokens(tokens: torch.Tensor, prefix: int, grid: Grid, pooled: Pooled, text: torch.Tensor) -> torch.Tensor:
    """GradCAM on the patches of a transformer, as :func:`gradcam`; the extra tokens count neither in the mean nor the map.

    The ``tokens`` must still influence the image vector: those that enter the last block, not those that leave it.
    """
    gradient = _gradients(pooled(tokens), text, [tokens])[0]
    weights = gradient[:, prefix:].mean(dim=1, keepdim=True)
    return (weights * tokens.detach()[:, prefix:]).sum(dim=2).relu().reshape(-1, *grid)


def chefer(
    tokens: torch.Tensor,
    run: Callable[[torch.Tensor], tuple[torch.Tensor, Sequence[torch.Tensor]]],
    prefix: int,
    grid: Grid,
    text: torch.Tensor,
) -> torch.Tensor:
    """Relevance of each patch to the class token: [batch, rows, columns] of at least 0.

    Chefer, Gur and Wolf 2021, equations 5 and 6: R starts as the identity, and each block adds (mean over heads of
    relu(A ⊙ ∂score/∂A)) · R. ``run`` carries ``tokens``, which require gradients, through the blocks and returns the image
    vectors [batch, D] and each block's attention A [batch, heads, N, N], of which the vectors must have been computed.
    """
    vectors, attentions = run(tokens)
    relevance = torch.eye(tokens.shape[1], dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1, -1)
    for attention, gradient in zip(attentions, _gradients(vectors, text, attentions), strict=True):
        relevance = relevance + (attention.detach() * gradient).relu().mean(dim=1) @ relevance
    return relevance[:, 0, prefix:].reshape(-1, *grid)


def rollout(attentions: Sequence[torch.Tensor], prefix: int, grid: Grid) -> torch.Tensor:
    """How much of each patch reaches the class token, whatever the sentence: [batch, rows, columns] of at least 0.

    Abnar and Zuidema 2020, equation 1: the product over blocks of ½A + ½I, with A [batch, heads, N, N] averaged over heads.
    """
    flow = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    identity = flow
    for attention in attentions:
        flow = (0.5 * attention.mean(dim=1) + 0.5 * identity) @ flow
    return flow[:, 0, prefix:].reshape(-1, *grid)


def _gradients(vectors: torch.Tensor, text: torch.Tensor, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    score = functional.cosine_similarity(vectors, text, dim=-1).sum()
    return torch.autograd.grad(score, list(inputs))
