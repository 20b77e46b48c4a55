"""What a file holds for pairs of an image and a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ...benchmark.errors import WronglungError
from ...benchmark.instances import Dataset
from ...benchmark.protocol import LoadedImage

Entry = TypeVar("Entry")

Pair = tuple[str, str]
"""An image's id and :func:`sentence_digest` of a sentence."""


def sentence_digest(sentence: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a sentence in UTF-8, as runs name the maps that they keep."""
    return hashlib.sha256(sentence.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass
class PairTable(Generic[Entry]):
    """Entries by pair, from ``source``, which messages name."""

    source: Path
    entries: Mapping[Pair, Entry]
    _about_dataset: str = field(default="", init=False)

    def prepare(self, dataset: Dataset) -> None:
        """Hold the pairs against a dataset: raises :class:`WronglungError` where they share no image.

        Sentences that a suite makes up are known only when it asks for them.
        """
        own = {(one.image_id, sentence_digest(one.sentence)) for one in dataset.instances}
        images = {image for image, _ in self.entries}
        if not any(image in images for image, _ in own):
            raise WronglungError(
                f"{self.source}: has none of the images of dataset {dataset.name!r}, whose ids are such as "
                f"{dataset.instances[0].image_id!r}; here they are such as {min(images)!r}"
            )
        missing = len(own - self.entries.keys())
        self._about_dataset = f"; of the {len(own)} pairs of dataset {dataset.name!r} itself, {missing} are missing"

    def look_up(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> list[Entry]:
        """The entries of pairs. Raises :class:`WronglungError` naming the first that is missing, and saying how many are."""
        pairs = [(image.id, sentence_digest(sentence)) for image, sentence in zip(images, sentences, strict=True)]
        missing = [at for at, pair in enumerate(pairs) if pair not in self.entries]
        if missing:
            first = missing[0]
            raise WronglungError(
                f"{self.source}: nothing for image {images[first].id!r} and the sentence {sentences[first]!r}, and "
                f"{len(missing) - 1} more missing of the {len(pairs)} pairs asked for at once{self._about_dataset}; "
                "`wronglung data pairs --dataset D --suite S --out pairs.jsonl` lists all pairs that a suite asks for"
            )
        return [self.entries[pair] for pair in pairs]


def similarities(values: Sequence[float | None]) -> torch.Tensor | None:
    """Similarities of a batch, float64 [batch], or None where there are none."""
    known = [value for value in values if value is not None]
    return torch.tensor(known, dtype=torch.float64) if known else None


def check_all_or_none(values: Mapping[str, float | None], what: str, source: Path) -> None:
    """Raise :class:`WronglungError` where some entries, by the place that messages name, have a similarity and others do not."""
    lacking = [place for place, value in values.items() if value is None]
    if lacking and len(lacking) < len(values):
        raise WronglungError(
            f"{source}: {lacking[0]} has no {what}, and others have one; give it for all pairs or for none"
        )
