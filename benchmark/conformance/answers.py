"""Is an answer what the protocol says: shapes, types, finite values, the kind of map that the card declares?"""

from __future__ import annotations

import torch

from ..metrics.distribution import as_distribution
from ..protocol import check_alignment
from .subject import Subject, Verdict, failed, not_shown, passed, tensors, verdict

MASS_ROUNDING = 1e-3
"""By how much the mass of a distribution may exceed 1."""


def well_formed(subject: Subject) -> Verdict:
    """Shapes, a floating type, finite values, and one geometry per image that is of that image's size."""
    result = subject.ask(subject.images, subject.sentences)
    names = [
        f"image {image.id} ({sentence!r})" for image, sentence in zip(subject.images, subject.sentences, strict=True)
    ]
    # The kind of map has a test of its own.
    card = subject.model.card.model_copy(update={"map_kind": "score"})
    check_alignment(result, card, [image.pixels.size for image in subject.images], names)
    integers = [f"{field} ({tensor.dtype})" for field, tensor in tensors(result) if not tensor.is_floating_point()]
    if integers:
        return failed(f"not floating point: {', '.join(integers)}")
    rows, columns = result.saliency.shape[1:]
    kind = str(result.saliency.dtype).removeprefix("torch.")
    return passed(f"{rows} × {columns} cells, {kind}, finite, a geometry for each image")


def map_kind(subject: Subject) -> Verdict:
    """Maps are what ``map_kind`` says, and become distributions by the card's ``mass``."""
    card = subject.model.card
    maps = subject.ask(subject.images, subject.sentences).saliency.cpu().double()
    if card.map_kind == "distribution":
        lowest, total = float(maps.min()), float(maps.flatten(1).sum(1).max())
        seen = f"lowest value {lowest:.3g}, largest mass {total:.6f}"
        return verdict(
            lowest >= 0 and total <= 1 + MASS_ROUNDING, f"{seen}; a distribution is non-negative, of mass at most 1"
        )
    if not card.temperature > 0:
        return failed(f"temperature={card.temperature}: must be positive")
    shares = as_distribution(maps, card.mass, card.temperature)
    undefined = int(shares.isnan().any(1).sum())
    return verdict(
        undefined == 0,
        f'scores; mass="{card.mass}" makes a distribution of {len(maps) - undefined} of {len(maps)} maps',
    )


def card(subject: Subject) -> Verdict:
    """What readers of a result file need to know of the model."""
    stated = subject.model.card
    lacking = [field for field in ("name", "saliency_method") if not getattr(stated, field).strip()]
    if lacking:
        return failed(f"empty: {', '.join(lacking)}")
    silent = [] if stated.preprocessing else ["preprocessing"]
    if stated.checkpoint is None and _has_weights(subject.model):
        silent.append("checkpoint (the model has weights)")
    if silent:
        return not_shown(f"the card does not say: {', '.join(silent)}")
    return passed(f"{stated.name}: {stated.saliency_method}")


def _has_weights(model: object) -> bool:
    """Whether a network or a parameter is an attribute of the model."""
    held = (model, *vars(model).values()) if hasattr(model, "__dict__") else (model,)
    return any(isinstance(one, (torch.nn.Module, torch.nn.Parameter)) for one in held)
