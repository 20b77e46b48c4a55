"""What the trainer learns from: films, and for each film the sentences it may be paired with.

Every draw is keyed by the seed and what it is for, so that a run that was stopped goes on exactly where it would have
been.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from ....benchmark.errors import WronglungError
from ....benchmark.geometry import boxes_to_mask
from ....benchmark.instances import Dataset, ImageRef, Instance
from ...preprocessing.greyscale import GreyImage, Intensity
from ..preprocessing import Frame, geometry, padded
from ..text import CLEANING, MASK, Cleaning
from .config import SentencesSection

Rng = np.random.Generator
Edit = Callable[[str, Rng], str]
"""Changes a sentence, for example masks words of it."""


def stream(seed: int, *purpose: str | int) -> Rng:
    """A random stream of its own for each seed and purpose."""
    words = [zlib.crc32(one.encode()) if isinstance(one, str) else one for one in purpose]
    return np.random.default_rng([seed, *words])


@dataclass(frozen=True)
class Film:
    """An image and its sentences, in the order of the dataset."""

    image: ImageRef
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Films:
    """The films of a dataset that have a sentence to learn from."""

    films: tuple[Film, ...]

    @classmethod
    def of(cls, dataset: Dataset, keep: str) -> Films:
        """``keep``: "all" sentences or those that affirm an "abnormal" finding.

        Raises :class:`WronglungError` where nothing is left, or only one patient's.
        """
        grouped: dict[str, list[Instance]] = {}
        for instance in dataset.instances:
            if keep == "all" or instance.is_abnormal:
                grouped.setdefault(instance.image_id, []).append(instance)
        if len({group[0].cluster for group in grouped.values()}) < 2:
            what = "sentence" if keep == "all" else "sentence that affirms an abnormal finding"
            raise WronglungError(f"dataset {dataset.name!r}: training needs a {what} of two patients at least")
        return cls(tuple(Film(group[0].image, tuple(group)) for group in grouped.values()))

    def __len__(self) -> int:
        return len(self.films)

    @property
    def sentences(self) -> Iterator[str]:
        return (instance.sentence for film in self.films for instance in film.instances)

    @cached_property
    def _of_cluster(self) -> Mapping[str, Sequence[int]]:
        """The numbers of each patient's films, in ascending order."""
        numbers: dict[str, list[int]] = {}
        for number, film in enumerate(self.films):
            numbers.setdefault(film.instances[0].cluster, []).append(number)
        return numbers

    def _stranger(self, film: int, rng: Rng) -> int:
        """A film of another patient, all equally likely."""
        own = self._of_cluster[self.films[film].instances[0].cluster]
        drawn = int(rng.integers(len(self) - len(own)))
        # The number among the others becomes a number among all: past each of the patient's own films.
        for number in own:
            drawn += number <= drawn
        return drawn

    def instance(self, film: int, pairing: str, rng: Rng) -> Instance:
        """A sentence for a film: one of its own, or with ``pairing`` "random" one of another patient's film."""
        if pairing == "random":
            film = self._stranger(film, rng)
        choices = self.films[film].instances
        return choices[rng.integers(len(choices))]


@dataclass(frozen=True)
class Batch:
    """Film i goes with sentence i."""

    films: tuple[int, ...]
    sentences: tuple[str, ...]


def batches(
    films: Films, sentences: SentencesSection, edit: Edit | None, size: int, seed: int, epoch: int, split: str
) -> list[Batch]:
    """All batches of an epoch: every film once, in random order, each with one sentence; the last, short one is left
    out unless it is the only one."""
    order = stream(seed, split, "order", epoch).permutation(len(films))
    size = min(size, len(films))
    made = []
    for start in range(0, len(order) - size + 1, size):
        members = [int(film) for film in order[start : start + size]]
        made.append(
            Batch(tuple(members), tuple(_sentence(films, one, sentences, edit, seed, epoch) for one in members))
        )
    return made


def _sentence(films: Films, film: int, sentences: SentencesSection, edit: Edit | None, seed: int, epoch: int) -> str:
    rng = stream(seed, "sentence", epoch, films.films[film].image.id)
    sentence = films.instance(film, sentences.pairing, rng).sentence
    return sentence if edit is None else edit(sentence, rng)


class Pixels(TorchDataset[torch.Tensor]):
    """The padded squares of films, uint8 [longer side, longer side], by number; a batch of numbers gives a stack."""

    def __init__(self, images: Sequence[ImageRef], frame: Frame, intensity: Intensity) -> None:
        self._images = images
        self._frame = frame
        self._intensity = intensity
        self._kept: torch.Tensor | None = None

    def keep(self, progress: bool) -> None:
        """Decode everything now and hold it in memory: longer side squared bytes a film."""
        side = self._frame.longer_side
        kept = torch.empty(len(self._images), side, side, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(self._decode, range(len(self._images)))
            for at, square in enumerate(tqdm(decoded, "films", len(self._images), disable=not progress, leave=False)):
                kept[at] = torch.from_numpy(square)
        self._kept = kept

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, at: int) -> torch.Tensor:
        return torch.from_numpy(self._decode(at)) if self._kept is None else self._kept[at]

    def __getitems__(self, numbers: list[int]) -> torch.Tensor:
        return torch.stack([self[at] for at in numbers]) if self._kept is None else self._kept[numbers]

    def _decode(self, at: int) -> GreyImage:
        image = self._images[at]
        try:
            return padded(image.load(), self._intensity, self._frame)
        except (OSError, ValueError) as error:
            raise WronglungError(f"image {image.id}: {error}; leave it out of the training data") from error

    def stacks(self, numbers: Sequence[Sequence[int]], workers: int) -> Iterator[torch.Tensor]:
        """One stack uint8 [batch, side, side] per list of numbers, decoded ahead by ``workers`` processes."""
        if self._kept is not None or workers == 0:
            return (self.__getitems__(list(batch)) for batch in numbers)
        return self._decoded_ahead([list(batch) for batch in numbers], workers)

    def _decoded_ahead(self, numbers: list[list[int]], workers: int) -> Iterator[torch.Tensor]:
        for stack in DataLoader(_Carried(self), batch_sampler=numbers, num_workers=workers, collate_fn=_same):
            if isinstance(stack, WronglungError):
                raise stack
            yield stack


@dataclass(frozen=True)
class _Carried(TorchDataset[torch.Tensor]):
    """Hands errors over as values: raised in a worker, they would come out wrapped in its traceback."""

    pixels: Pixels

    def __getitems__(self, numbers: list[int]) -> torch.Tensor | WronglungError:
        try:
            return self.pixels.__getitems__(numbers)
        except WronglungError as error:
            return error

    def __len__(self) -> int:
        return len(self.pixels)


def _same(stack: Any) -> Any:
    return stack


def box_mask(instance: Instance, frame: Frame) -> torch.Tensor:
    """The union of an instance's boxes in the padded square, bool [longer side, longer side]; pixel centres decide."""
    side = frame.longer_side
    # The whole square is a frame of its own: nothing is cropped from it.
    where = geometry(instance.image.width, instance.image.height, Frame(side, side, side))
    return torch.from_numpy(boxes_to_mask(where.to_frame(instance.boxes), side, side))


def supervised(films: Films, count: int, seed: int) -> list[tuple[int, Instance]]:
    """``count`` annotated (film number, instance) pairs for supervised attention, one a film, drawn from the seed."""
    order = stream(seed, "few-shot").permutation(len(films))[:count]
    return [(int(one), films.instance(int(one), "own", stream(seed, "few-shot", int(one)))) for one in order]


def vocabulary(sentences: Iterator[str], cleaning: Cleaning, min_count: int) -> bytes:
    """A ``vocab.txt`` of BERT's special pieces and the words that occur at least ``min_count`` times, in order of the
    alphabet."""
    counts = Counter(word for sentence in sentences for word in CLEANING[cleaning](sentence).split())
    words = sorted(word for word, count in counts.items() if count >= min_count and word != MASK)
    return "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", MASK, *words]).encode() + b"\n"
