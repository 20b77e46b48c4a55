"""Ask one model everything that is to be asked about a chunk of images: each image and each sentence is encoded once."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from .batching import BatchSize, FeatureCache, in_batches, is_out_of_memory
from .errors import WronglungError
from .films import Film, Given
from .geometry import Geometry
from .plan import ImagePlan, by_sentence
from .protocol import AdapterError, Alignment, DualEncoder, Features, Preprocessed, check_alignment
from .rows import Aligned, Candidates, ImageAnswers

if TYPE_CHECKING:
    from .feature_store import FeatureStore

SENTENCES_PER_IMAGE = 8
"""How many times more sentences than images are encoded in a batch: a sentence is that much smaller at least, and an
adapter that groups sentences by length needs many to choose from."""
SENTENCE_CACHE = 1 << 30
"""Bytes of sentence features kept; with less than all sentences in it, some are encoded again."""


@dataclass
class Stages:
    """Wall time by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)


Pair = tuple[int, str]


class Runner:
    """Asks a model.

    ``candidates`` are the sentences for exhaustive selection: their global similarity with every image costs a dual
    encoder one matrix product (``global_candidates``); their local one an alignment each (``local_candidates``).
    ``store``, if it is set, keeps features from run to run. ``counts`` ("images", "sentences": how many were encoded; "pairs": how many were
    aligned), ``stages`` and ``batch`` say what happened.
    """

    def __init__(
        self,
        model: Any,
        *,
        batch_size: int,
        candidates: Candidates | None = None,
        local_candidates: bool = False,
        global_candidates: bool = False,
    ) -> None:
        self.model = model
        self.batch = BatchSize(batch_size)
        self._sentence_batch = BatchSize(batch_size * SENTENCES_PER_IMAGE)
        self.stages = Stages()
        self.counts: Counter[str] = Counter()
        self._dual = isinstance(model, DualEncoder)
        self._candidates = candidates
        self._local_candidates = local_candidates and candidates is not None
        self._global_candidates = global_candidates and candidates is not None and self._dual
        self._candidate_features: list[Features] | None = None
        self._sentences = FeatureCache(SENTENCE_CACHE)
        self.store: FeatureStore | None = None

    def drain(self) -> tuple[dict[str, float], Counter[str]]:
        """The seconds by stage and the counts since the last call."""
        spent = self.stages.seconds, self.counts
        self.stages.seconds, self.counts = {}, Counter()
        return spent

    def ask(self, films: Sequence[tuple[ImagePlan, Film]], reader: int = 0) -> list[ImageAnswers]:
        """What the model says of each image; ``reader`` is its number among those that the images were read for.

        Raises :class:`AdapterError` when the model breaks the protocol or fails.
        """
        if not films:
            return []
        images = [film for _, film in films]
        given = [film.given[reader] for film in images]
        for one in given:
            if isinstance(one, WronglungError):
                raise one
        asked = [by_sentence(plan.questions) for plan, _ in films]
        pairs = [(at, sentence) for at, sentences in enumerate(asked) for sentence in sentences]
        names = [f"instance {asked[at][sentence][0].instance.id} ({sentence!r})" for at, sentence in pairs]
        features = self._encode_images(images, given) if self._dual else []
        align = self._aligner(given, features, {sentence for _, sentence in pairs})
        aligned: list[dict[str, Aligned]] = [{} for _ in images]
        for start, stop, alignment in self._aligned(align, images, pairs, names):
            for (at, sentence), answer in zip(pairs[start:stop], _on_host(alignment), strict=True):
                where = _of_original(answer.geometry, images[at])
                aligned[at][sentence] = Aligned(
                    answer.saliency, where, answer.local_similarity, answer.global_similarity, answer.no_attention_weight
                )  # fmt: skip
        exhaustive = self._exhaustive(films, given, features)
        return [
            ImageAnswers(plan.questions, answers, accuracies)
            for (plan, _), answers, accuracies in zip(films, aligned, exhaustive, strict=True)
        ]

    def _aligner(
        self, given: Sequence[Any], features: Sequence[Features], sentences: Iterable[str]
    ) -> Callable[[Sequence[Pair]], Any]:
        """A function that aligns pairs of (index of an image, sentence)."""
        if not self._dual:
            return lambda pairs: self.model.align([given[at] for at, _ in pairs], [one for _, one in pairs])
        encoded = self.encode_sentences(sentences)
        return lambda pairs: self.model.align_features(
            [features[at] for at, _ in pairs], [encoded[one] for _, one in pairs]
        )

    def _aligned(
        self,
        align: Callable[[Sequence[Pair]], Any],
        images: Sequence[Film],
        pairs: Sequence[Pair],
        names: Sequence[str],
    ) -> Iterator[tuple[int, int, Alignment]]:
        """Checked alignments batch by batch, on the host."""
        call = self._guarded(lambda start, stop: _fetched(align(pairs[start:stop])), names)
        batches = in_batches(call, len(pairs), self.batch)
        while True:
            with self.stages.time("alignment"):
                one = next(batches, None)
                if one is None:
                    return
                start, stop, alignment = one
                sizes = [images[at].shown for at, _ in pairs[start:stop]]
                check_alignment(alignment, self.model.card, sizes, names[start:stop])
                self.counts["pairs"] += stop - start
            yield start, stop, alignment

    def _encode_images(self, images: Sequence[Film], given: Sequence[Given]) -> list[Features]:
        """Features of each image: those that are known already, and the others encoded."""
        todo = [at for at, one in enumerate(given) if not isinstance(one, Features)]
        prepared = bool(todo) and isinstance(given[todo[0]], Preprocessed)
        method = "encode_preprocessed" if prepared else "encode_images"
        names = [f"image {images[at].ref.id}" for at in todo]
        with self.stages.time("image encoding"):
            encoded = self._encoded(method, [given[at] for at in todo], names, self.batch)
        self.counts["images"] += len(todo)
        if self.store is not None and todo:
            with self.stages.time("storing features"):
                self.store.put_images(
                    {images[at].digest: (one, images[at].shown) for at, one in zip(todo, encoded, strict=True)}
                )
        features = dict(zip(todo, encoded, strict=True))
        return [one if isinstance(one, Features) else features[at] for at, one in enumerate(given)]

    def encode_sentences(self, sentences: Iterable[str]) -> dict[str, Features]:
        """Features by sentence, from the cache or the store, or encoded in batches of similar length."""
        # In a fixed order, so that what the cache drops does not depend on that of a set.
        sentences = sorted(set(sentences))
        found = {sentence: known for sentence in sentences if (known := self._sentences.get(sentence))}
        if self.store is not None:
            stored = {one: known for one in sentences if one not in found and (known := self.store.sentence(one))}
            for sentence, one in stored.items():
                self._sentences.put(sentence, one)
            found |= stored
        missing = sorted((one for one in sentences if one not in found), key=lambda one: (len(one), one))
        with self.stages.time("sentence encoding"):
            names = [f"sentence {one!r}" for one in missing]
            features = self._encoded("encode_sentences", missing, names, self._sentence_batch)
        for sentence, one in zip(missing, features, strict=True):
            self._sentences.put(sentence, one)
            found[sentence] = one
        self.counts["sentences"] += len(missing)
        if self.store is not None and missing:
            with self.stages.time("storing features"):
                self.store.put_sentences({one: found[one] for one in missing})
        return found

    def _encoded(self, method: str, items: Sequence[Any], names: Sequence[str], batch: BatchSize) -> list[Features]:
        encode = self._guarded(lambda start, stop: getattr(self.model, method)(items[start:stop]), names)
        encoded: list[Features] = []
        for start, stop, features in in_batches(encode, len(items), batch):
            if not _are_features(features, stop - start):
                raise AdapterError(
                    f"model {self.model.card.name!r}: {method} must return one wronglung.Features per item; "
                    f"{stop - start} were asked for"
                )
            encoded.extend(features)
        return encoded

    def _guarded(self, call: Callable[[int, int], Any], names: Sequence[str]) -> Callable[[int, int], Any]:
        """The call without gradients, and with an adapter's exceptions as messages that say where it failed."""

        def guarded(start: int, stop: int) -> Any:
            try:
                with torch.no_grad():
                    return call(start, stop)
            except WronglungError:
                raise
            except (Exception, SystemExit) as error:
                if is_out_of_memory(error):
                    raise
                others = f" and {stop - start - 1} more in the batch" if stop - start > 1 else ""
                raise AdapterError(
                    f"model {self.model.card.name!r} failed for {names[start]}{others}: {type(error).__name__}: {error}"
                ) from error

        return guarded

    def _exhaustive(
        self, films: Sequence[tuple[ImagePlan, Film]], given: Sequence[Any], features: Sequence[Features]
    ) -> list[dict[str, dict[str, float]]]:
        """Selection accuracies over all candidates, by image, instance id and metric."""
        found: list[dict[str, dict[str, float]]] = [{} for _ in films]
        candidates = self._candidates
        if candidates is None:
            return found
        similarities: list[dict[str, npt.NDArray[np.float64]]] = [{} for _ in films]
        if self._candidate_features is None:
            self._candidate_features = self._global_features(candidates.sentences)
        if self._candidate_features:
            for at, row in enumerate(self._global_similarities(features, self._candidate_features)):
                similarities[at]["global"] = row
        if self._local_candidates:
            for at, (_, film) in enumerate(films):
                local = self._local_similarities(film, given[at], features[at : at + 1], candidates.sentences)
                if local is not None:
                    similarities[at]["local"] = local
        with self.stages.time("selection"):
            for at, (plan, _) in enumerate(films):
                for identity, instance in {one.instance.id: one.instance for one in plan.questions}.items():
                    found[at][identity] = {
                        f"selection_accuracy_{kind}_exhaustive": candidates.accuracy(instance, values)
                        for kind, values in similarities[at].items()
                    }
        return found

    def _global_features(self, candidates: Sequence[str]) -> list[Features]:
        """What is kept of every candidate sentence: its tensor named "global"."""
        if not self._global_candidates:
            return []
        kept: list[Features] = []
        for start in range(0, len(candidates), _BLOCK):
            block = candidates[start : start + _BLOCK]
            encoded = self.encode_sentences(block)
            for sentence in block:
                tensors = encoded[sentence].tensors
                if "global" not in tensors:
                    return []
                kept.append(Features({"global": tensors["global"].clone()}))
        return kept

    def _global_similarities(
        self, images: Sequence[Features], candidates: Sequence[Features]
    ) -> npt.NDArray[np.float64]:
        who = f"model {self.model.card.name!r}"
        if not all("global" in image.tensors for image in images):
            raise AdapterError(
                f'{who}: sentences have a feature "global" and images have none; give it to both or neither'
            )
        kept = [Features({"global": image.tensors["global"]}, image.geometry) for image in images]
        names = ["the global similarities of a batch of images"] * len(candidates)
        call = self._guarded(
            lambda start, stop: self.model.global_similarity_matrix(kept, candidates[start:stop]), names
        )
        blocks = []
        with self.stages.time("selection"):
            for start, stop, matrix in in_batches(call, len(candidates), BatchSize(_BLOCK)):
                shape = (len(kept), stop - start)
                if not isinstance(matrix, torch.Tensor) or matrix.shape != shape or not torch.isfinite(matrix).all():
                    raise AdapterError(f"{who}: global_similarity_matrix must return a finite tensor of shape {shape}")
                blocks.append(matrix.cpu().double().numpy())
        return np.concatenate(blocks, axis=1)

    def _local_similarities(
        self, film: Film, given: Any, features: Sequence[Features], candidates: Sequence[str]
    ) -> npt.NDArray[np.float64] | None:
        values = []
        for start in range(0, len(candidates), _BLOCK):
            block = candidates[start : start + _BLOCK]
            names = [f"image {film.ref.id} ({sentence!r})" for sentence in block]
            align = self._aligner([given], features, block)
            for _, _, alignment in self._aligned(align, [film], [(0, one) for one in block], names):
                if alignment.local_similarity is None:
                    return None
                values.append(alignment.local_similarity.double().numpy())
        return np.concatenate(values)


_BLOCK = 1024


def _are_features(items: Any, count: int) -> bool:
    return isinstance(items, Sequence) and len(items) == count and all(isinstance(one, Features) for one in items)


def _fetched(alignment: Any) -> Any:
    """An alignment with its tensors on the host, in one transfer each; anything else as it is, for the check to name."""
    if not isinstance(alignment, Alignment):
        return alignment

    def on_host(tensor: Any) -> Any:
        return tensor.detach().cpu() if isinstance(tensor, torch.Tensor) else tensor

    return Alignment(
        on_host(alignment.saliency),
        alignment.geometry,
        on_host(alignment.local_similarity),
        on_host(alignment.global_similarity),
        on_host(alignment.no_attention_weight),
    )


def _on_host(alignment: Alignment) -> Iterator[Aligned]:
    """The answers of a checked alignment, which own their maps: a model may use its buffer again."""
    maps = alignment.saliency.float().numpy()
    count = len(maps)
    fields = [
        [math.nan] * count if one is None else one.tolist()
        for one in (alignment.local_similarity, alignment.global_similarity, alignment.no_attention_weight)
    ]
    for at, (local, overall, weight) in enumerate(zip(*fields, strict=True)):
        yield Aligned(maps[at].copy(), alignment.geometry[at], local, overall, weight)


def _of_original(geometry: Geometry, film: Film) -> Geometry:
    """The geometry that was stated for an image's pixels, for the image in original pixels."""
    return geometry.of_original(film.ref.width, film.ref.height, film.factor) if film.factor > 1 else geometry
