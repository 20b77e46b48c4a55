"""The model under test: asking it as the runner does, and comparing what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from ..protocol import Alignment, DualEncoder, Features, LoadedImage

Outcome = Literal["passed", "failed", "not shown"]

BATCH = 16
"""Pairs that :meth:`Subject.ask_all` puts into one call."""


class Verdict(NamedTuple):
    """What a test came to, and in ``detail`` what was seen."""

    outcome: Outcome
    detail: str


def passed(detail: str) -> Verdict:
    return Verdict("passed", detail)


def failed(detail: str) -> Verdict:
    return Verdict("failed", detail)


def not_shown(detail: str) -> Verdict:
    """The model gives no occasion to tell."""
    return Verdict("not shown", detail)


def verdict(good: bool, detail: str) -> Verdict:
    return Verdict("passed" if good else "failed", detail)


@dataclass(frozen=True)
class Subject:
    """A model with the pairs that most tests use, and how to make it anew in another dtype, if that can be done.

    ``tolerance`` is the largest difference, relative to the largest value, that is still rounding.
    """

    model: Any
    images: Sequence[LoadedImage]
    sentences: Sequence[str]
    tolerance: float
    rebuild: Callable[[torch.dtype], Any] | None = None

    @property
    def is_dual(self) -> bool:
        return isinstance(self.model, DualEncoder)

    def ask(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Align pairs in one call, by features where the model has them."""
        return ask(self.model, images, sentences)

    def ask_all(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Align any number of pairs, at most :data:`BATCH` in a call; a dual encoder sees each item once.

        All maps must have one size. Everything is on the host.
        """
        spans = [slice(at, at + BATCH) for at in range(0, len(images), BATCH)]
        if not self.is_dual:
            return concatenate([self.ask(images[span], sentences[span]) for span in spans])
        with torch.no_grad():
            seen = _each_once(self.model.encode_images, images, id)
            read = _each_once(self.model.encode_sentences, sentences, str)
            return concatenate([self.model.align_features(seen[span], read[span]) for span in spans])


def ask(model: Any, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
    """Align pairs in one call without gradients, as the runner does."""
    with torch.no_grad():
        if isinstance(model, DualEncoder):
            return model.align_features(model.encode_images(images), model.encode_sentences(sentences))
        result: Alignment = model.align(images, sentences)
        return result


def _each_once(
    encode: Callable[[Sequence[Any]], Sequence[Features]], items: Sequence[Any], key: Callable[[Any], Hashable]
) -> list[Features]:
    distinct = list({key(item): item for item in items}.values())
    encoded: dict[Hashable, Features] = {}
    for at in range(0, len(distinct), BATCH):
        batch = distinct[at : at + BATCH]
        encoded.update(zip(map(key, batch), encode(batch), strict=True))
    return [encoded[key(item)] for item in items]


_TENSORS = ("saliency", "local_similarity", "global_similarity", "no_attention_weight")


def tensors(alignment: Alignment) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that an alignment has, by field."""
    for field in _TENSORS:
        tensor = getattr(alignment, field)
        if tensor is not None:
            yield field, tensor


def compare(one: Alignment, other: Alignment, tolerance: float, what: str) -> Verdict:
    """Hold two answers to the same pairs against each other."""
    worst, where = 0.0, "saliency"
    mine, theirs = dict(tensors(one)), dict(tensors(other))
    if mine.keys() != theirs.keys():
        return failed(f"{' and '.join(sorted(mine.keys() ^ theirs.keys()))} given once only: {what}")
    for field, a in mine.items():
        b = theirs[field]
        if a.shape != b.shape:
            return failed(f"{field} has shape {tuple(a.shape)} and {tuple(b.shape)}: {what}")
        off = relative_difference(a, b)
        if off > worst:
            worst, where = off, field
    if list(one.geometry) != list(other.geometry):
        return failed(f"another geometry: {what}")
    return verdict(worst <= tolerance, f"largest relative difference {worst:.1e} ({where}): {what}")


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest absolute difference over the largest absolute value; 0 for equal tensors, infinite with NaN in either."""
    a, b = one.detach().cpu().double(), other.detach().cpu().double()
    off = (a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()).clamp_min(1e-30)
    return float(off.nan_to_num(torch.inf))


def _each(alignments: Sequence[Alignment], change: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> dict[str, Any]:
    return {
        field: None
        if getattr(alignments[0], field) is None
        else change([getattr(one, field).detach().cpu() for one in alignments])
        for field in _TENSORS
    }


def concatenate(parts: Sequence[Alignment]) -> Alignment:
    """Answers to several calls as one, on the host."""
    geometry = [one for part in parts for one in part.geometry]
    return Alignment(geometry=geometry, **_each(parts, lambda all_parts: torch.cat(list(all_parts))))


def pick(alignment: Alignment, rows: Sequence[int]) -> Alignment:
    """Some pairs of an answer, on the host."""
    at = torch.tensor(rows)
    return Alignment(geometry=[alignment.geometry[row] for row in rows], **_each([alignment], lambda one: one[0][at]))
