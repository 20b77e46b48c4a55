"""Ask the model everything a plan holds: each image decoded and encoded once, each map ranked once.

The work is ordered by image and done in chunks of images, so that memory is bounded by the chunk, not by the dataset.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from .batching import BatchSize, FeatureCache, in_batches, is_out_of_memory
from .errors import WronglungError
from .geometry import Geometry
from .instances import Skipped
from .plan import ImagePlan, Plan, Question
from .protocol import AdapterError, Alignment, DualEncoder, Features, LoadedImage, check_alignment
from .scoring import ScoredMap, Wanted, score_map

CHUNK = 16
"""Images in work at a time; as many as fit a batch, if that is larger."""
SENTENCES_PER_IMAGE = 8
"""How many times more sentences than images are encoded in a batch: a sentence is that much smaller at least, and an
adapter that groups sentences by length needs many to choose from."""
SENTENCE_CACHE = 2 << 30
"""Bytes of sentence features kept; with less than all sentences in it, some are encoded again."""


@dataclass
class Stages:
    """Wall time by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """The stage "scoring", on one thread.

        It is made of many small operations, for which more threads wait for each other most of the time: on two cores
        it took fifty times as long.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with self.time("scoring"):
                yield
        finally:
            torch.set_num_threads(threads)


@dataclass
class Counts:
    """How much work the model did."""

    images: int = 0
    sentences: int = 0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model returned for one (image, sentence) pair; similarities are NaN where it has none."""

    map: ScoredMap
    local_similarity: float
    global_similarity: float


@dataclass(frozen=True)
class ImageAnswers:
    """Everything the model said about one image.

    ``candidates`` maps "local" and "global" to the image's similarity with every candidate sentence (float64, in the
    order given to the runner), where they were asked for and the model has them.
    """

    plan: ImagePlan
    by_sentence: Mapping[str, Answer]
    candidates: Mapping[str, npt.NDArray[np.float64]]


Pair = tuple[int, str]
_Decoding = tuple[ImagePlan, Future[tuple[LoadedImage, str]]]


class Runner:
    """Runs a plan on a model.

    ``candidates`` are the sentences for exhaustive selection: their global similarity with every image costs a dual
    encoder one matrix product (``global_candidates``); their local one an alignment each (``local_candidates``).
    ``workers`` threads decode images ahead of the model; ``decode_at_least`` lets them reduce JPEG files
    (:func:`.decoding.decode`). Afterwards ``counts``, ``stages``, ``batch``, ``skipped``, ``image_digests`` (SHA-256 of each
    image's file), ``maps`` and their ``geometries`` (by image id, for original pixels) say what happened.
    """

    def __init__(
        self,
        model: Any,
        plan: Plan,
        *,
        batch_size: int,
        candidates: Sequence[str] = (),
        local_candidates: bool = False,
        global_candidates: bool = False,
        keep_maps: bool = False,
        progress: bool = False,
        workers: int = 2,
        decode_at_least: int | None = None,
    ) -> None:
        self.model = model
        self.plan = plan
        self._wanted = Wanted.by(plan.suite)
        self.batch = BatchSize(batch_size)
        self._sentence_batch = BatchSize(batch_size * SENTENCES_PER_IMAGE)
        self.stages = Stages()
        self.counts = Counts()
        self.skipped: list[Skipped] = []
        self.image_digests: dict[str, str] = {}
        self.maps: dict[tuple[str, str], torch.Tensor] | None = {} if keep_maps else None
        self.geometries: dict[str, Geometry] = {}
        self._candidates = candidates
        self._local_candidates = local_candidates
        self._dual = isinstance(model, DualEncoder)
        self._global_candidates = global_candidates and self._dual
        self._progress = progress
        self._workers = workers
        self._decode_at_least = decode_at_least
        self._sentences = FeatureCache(SENTENCE_CACHE)

    def answers(self) -> Iterator[ImageAnswers]:
        """The model's answers, image by image in dataset order; images that cannot be decoded go to ``skipped``.

        Raises :class:`AdapterError` when the model breaks the protocol or fails.
        """
        candidate_features = self._global_features()
        plans = self.plan.images()
        total = len({instance.image_id for instance in self.plan.instances})
        with (
            ThreadPoolExecutor(max_workers=self._workers) as pool,
            tqdm(total=total, unit="image", disable=not self._progress, leave=False) as bar,
        ):
            images = max(CHUNK, self.batch.size)
            ahead = self._decode(pool, plans, images)
            while ahead:
                chunk, ahead = ahead, self._decode(pool, plans, images)
                readable = self._readable(chunk)
                if readable:
                    yield from self._ask(readable, candidate_features)
                bar.update(len(chunk))

    def _decode(self, pool: ThreadPoolExecutor, plans: Iterator[ImagePlan], count: int) -> list[_Decoding]:
        """Start to decode the next chunk of images."""
        return [(plan, pool.submit(_load, plan, self._decode_at_least)) for plan in islice(plans, count)]

    def _readable(self, chunk: Sequence[_Decoding]) -> list[tuple[ImagePlan, LoadedImage]]:
        readable = []
        for plan, future in chunk:
            try:
                with self.stages.time("decoding"):
                    image, self.image_digests[plan.image.id] = future.result()
                readable.append((plan, image))
            except OSError as error:
                self.skipped.append(Skipped("image_unreadable", plan.image.id, str(error)))
        return readable

    def _ask(
        self, readable: Sequence[tuple[ImagePlan, LoadedImage]], candidate_features: Sequence[Features]
    ) -> Iterator[ImageAnswers]:
        images = [image for _, image in readable]
        asked = [plan.by_sentence() for plan, _ in readable]
        pairs = [(at, sentence) for at, by_sentence in enumerate(asked) for sentence in by_sentence]
        names = [f"instance {asked[at][sentence][0].instance.id} ({sentence!r})" for at, sentence in pairs]
        features = self._encode_images(images) if self._dual else []
        self.counts.images += len(images)
        align = self._aligner(images, features, {sentence for _, sentence in pairs})
        answers: list[dict[str, Answer]] = [{} for _ in images]
        for start, stop, alignment in self._aligned(align, images, pairs, names):
            with self.stages.scoring():
                for row, (at, sentence) in enumerate(pairs[start:stop]):
                    questions = asked[at][sentence]
                    answers[at][sentence] = self._scored(alignment, row, images[at], questions)
                    if self.maps is not None:
                        saliency = alignment.saliency[row].detach().float().cpu().clone()
                        self.maps[images[at].id, digest(sentence)] = saliency
                        self.geometries[images[at].id] = _of_original(alignment.geometry[row], images[at])
        candidates: list[dict[str, npt.NDArray[np.float64]]] = [{} for _ in images]
        if candidate_features:
            for at, row in enumerate(self._global_similarities(features, candidate_features)):
                candidates[at]["global"] = row
        if self._local_candidates:
            for at, image in enumerate(images):
                local = self._local_similarities(image, features[at : at + 1])
                if local is not None:
                    candidates[at]["local"] = local
        for (plan, _), by_sentence, similarities in zip(readable, answers, candidates, strict=True):
            yield ImageAnswers(plan, by_sentence, similarities)

    def _aligner(
        self, images: Sequence[LoadedImage], features: Sequence[Features], sentences: Iterable[str]
    ) -> Callable[[Sequence[Pair]], Any]:
        """A function that aligns pairs of (index of an image, sentence)."""
        if not self._dual:
            return lambda pairs: self.model.align([images[at] for at, _ in pairs], [one for _, one in pairs])
        by_sentence = self.encode_sentences(sentences)
        return lambda pairs: self.model.align_features(
            [features[at] for at, _ in pairs], [by_sentence[one] for _, one in pairs]
        )

    def _aligned(
        self,
        align: Callable[[Sequence[Pair]], Any],
        images: Sequence[LoadedImage],
        pairs: Sequence[Pair],
        names: Sequence[str],
    ) -> Iterator[tuple[int, int, Alignment]]:
        """Checked alignments batch by batch."""
        call = self._guarded(lambda start, stop: align(pairs[start:stop]), names)
        batches = in_batches(call, len(pairs), self.batch)
        while True:
            with self.stages.time("alignment"):
                one = next(batches, None)
            if one is None:
                return
            start, stop, alignment = one
            sizes = [images[at].pixels.size for at, _ in pairs[start:stop]]
            check_alignment(alignment, self.model.card, sizes, names[start:stop])
            self.counts.pairs += stop - start
            yield start, stop, alignment

    def _encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        names = [f"image {image.id}" for image in images]
        with self.stages.time("image encoding"):
            return self._encoded("encode_images", images, names, self.batch)

    def encode_sentences(self, sentences: Iterable[str]) -> dict[str, Features]:
        """Features by sentence, from the cache or encoded in batches of similar length."""
        # In a fixed order, so that what the cache drops does not depend on that of a set.
        sentences = sorted(set(sentences))
        found = {sentence: known for sentence in sentences if (known := self._sentences.get(sentence))}
        missing = sorted((one for one in sentences if one not in found), key=lambda one: (len(one), one))
        with self.stages.time("sentence encoding"):
            names = [f"sentence {one!r}" for one in missing]
            features = self._encoded("encode_sentences", missing, names, self._sentence_batch)
        for sentence, one in zip(missing, features, strict=True):
            self._sentences.put(sentence, one)
            found[sentence] = one
        self.counts.sentences += len(missing)
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

    def _scored(self, alignment: Alignment, row: int, image: LoadedImage, questions: Sequence[Question]) -> Answer:
        geometry = _of_original(alignment.geometry[row], image)
        weight = alignment.no_attention_weight
        scored = score_map(
            alignment.saliency[row],
            geometry,
            self.model.card,
            self.plan.suite.protocol,
            None if weight is None else float(weight[row]),
            dict.fromkeys(one.trial.boxes for one in questions if one.trial is not None),
            keep_mass="random_attention_kl" in self.plan.suite.metrics,
            wanted=self._wanted,
        )
        return Answer(scored, _item(alignment.local_similarity, row), _item(alignment.global_similarity, row))

    def _global_features(self) -> list[Features]:
        """What is kept of every candidate sentence: its tensor named "global"."""
        if not self._global_candidates:
            return []
        kept: list[Features] = []
        for start in range(0, len(self._candidates), _BLOCK):
            block = self._candidates[start : start + _BLOCK]
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

    def _local_similarities(self, image: LoadedImage, features: Sequence[Features]) -> npt.NDArray[np.float64] | None:
        values = []
        for start in range(0, len(self._candidates), _BLOCK):
            block = self._candidates[start : start + _BLOCK]
            names = [f"image {image.id} ({sentence!r})" for sentence in block]
            align = self._aligner([image], features, block)
            for _, _, alignment in self._aligned(align, [image], [(0, one) for one in block], names):
                if alignment.local_similarity is None:
                    return None
                values.append(alignment.local_similarity.cpu().double().numpy())
        return np.concatenate(values)


_BLOCK = 1024


def _are_features(items: Any, count: int) -> bool:
    return isinstance(items, Sequence) and len(items) == count and all(isinstance(one, Features) for one in items)


def digest(sentence: str) -> str:
    """The identity of a sentence in result files, which do not hold report text."""
    return hashlib.sha256(sentence.encode()).hexdigest()[:16]


def _load(plan: ImagePlan, at_least: int | None) -> tuple[LoadedImage, str]:
    """The decoded image, and the SHA-256 of its file."""
    ref = plan.image
    data = ref.read()
    pixels = ref.decoded(data, at_least=at_least)
    return LoadedImage(ref.id, pixels, (ref.width, ref.height)), hashlib.sha256(data).hexdigest()


def _of_original(geometry: Geometry, image: LoadedImage) -> Geometry:
    """The geometry that was stated for an image's pixels, for the image in original pixels."""
    return geometry.of_original(*image.size, image.factor) if image.factor > 1 else geometry


def _item(values: torch.Tensor | None, row: int) -> float:
    return math.nan if values is None else float(values[row])
