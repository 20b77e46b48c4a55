"""Does an answer depend on nothing but its own image and sentence?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from ..protocol import Alignment, AlignmentModel, Features, LoadedImage, Preprocessed, Preprocessing
from .subject import Subject, Verdict, compare, concatenate, failed, not_shown, pick, relative_difference, verdict

THREADS, ROUNDS = 4, 6
"""How many threads prepare images at once, and how often each image comes up."""


def deterministic(subject: Subject) -> Verdict:
    """Asked again after other work and with other seeds, the answer has the same bits."""
    images, sentences = subject.images, subject.sentences
    first = _detached(subject, images, sentences)
    state = _random_state()
    try:
        _seed(1234)
        subject.ask(images[1:], sentences[:-1])
        _seed(4321)
        again = _detached(subject, images, sentences)
    finally:
        _restore(state)
    return compare(first, again, 0.0, "asked again, after other work and with other seeds")


def random_state(subject: Subject) -> Verdict:
    """The global generators are where they were."""
    before = _random_state()
    subject.ask(subject.images, subject.sentences)
    after = _random_state()
    drawn = [name for name in before if not _same(before[name], after[name])]
    return verdict(not drawn, f"draws from or seeds {' and '.join(drawn)}" if drawn else "global generators untouched")


def batch(subject: Subject) -> Verdict:
    """A pair alone and among others."""
    images, sentences = subject.images, subject.sentences
    singles = [subject.ask([image], [sentence]) for image, sentence in zip(images, sentences, strict=True)]
    return compare(subject.ask(images, sentences), concatenate(singles), subject.tolerance, "alone and in a batch")


def order(subject: Subject) -> Verdict:
    """Pairs in the other order."""
    images, sentences = subject.images, subject.sentences
    turned = subject.ask(images[::-1], sentences[::-1])
    back = pick(turned, range(len(images))[::-1])
    return compare(subject.ask(images, sentences), back, subject.tolerance, "in the other order")


def padding(subject: Subject) -> Verdict:
    """A short sentence alone, and beside one that is many times longer."""
    image, short = subject.images[0], min(subject.sentences, key=len)
    long = " ".join([*subject.sentences, *subject.sentences])
    beside = subject.ask([image, image], [short, long])
    alone = subject.ask([image], [short])
    return compare(pick(beside, [0]), alone, subject.tolerance, "a short sentence alone and beside a long one")


def paths(subject: Subject) -> Verdict:
    """``align``, and encoding followed by ``align_features``."""
    if not (subject.is_dual and isinstance(subject.model, AlignmentModel)):
        return not_shown("the model has one path only")
    with torch.no_grad():
        paired = subject.model.align(subject.images, subject.sentences)
    dual = subject.ask(subject.images, subject.sentences)
    return compare(paired, dual, subject.tolerance, "by align and by features")


def preprocessing(subject: Subject) -> Verdict:
    """``preprocess`` in threads followed by ``encode_preprocessed``, and ``encode_images``."""
    model = subject.model
    if not (subject.is_dual and isinstance(subject.model, Preprocessing)):
        return not_shown("the model does not prepare images apart")
    images = list(subject.images)
    alone = [model.preprocess(image) for image in images]
    for one in alone:
        if not isinstance(one, Preprocessed) or not isinstance(one.pixels, torch.Tensor):
            return failed(f"preprocess returned {type(one).__name__}; a wronglung.Preprocessed with a tensor is needed")
        if one.pixels.device.type != "cpu":
            return failed(f"preprocessed pixels are on {one.pixels.device}; they wait in the host's memory")
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(model.preprocess, images * ROUNDS))
    for one, other in zip(alone * ROUNDS, together, strict=True):
        if one.geometry != other.geometry or not torch.equal(one.pixels, other.pixels):
            return failed(f"{THREADS} threads at once give other pixels than one")
    with torch.no_grad():
        sentences = model.encode_sentences(subject.sentences)
        apart = pick(model.align_features(model.encode_preprocessed(alone), sentences), range(len(images)))
        whole = pick(model.align_features(model.encode_images(images), sentences), range(len(images)))
    return compare(apart, whole, subject.tolerance, f"prepared in {THREADS} threads and encoded, and by encode_images")


def similarity_matrix(subject: Subject) -> Verdict:
    """All global similarities at once, and pair by pair; from the tensors named "global" alone."""
    if not subject.is_dual:
        return not_shown("the model has no features")
    model = subject.model
    with torch.no_grad():
        images, sentences = model.encode_images(subject.images[:3]), model.encode_sentences(subject.sentences[:2])
        both = [*images, *sentences]
        if not any("global" in one.tensors for one in both):
            return not_shown('features have no tensor "global", so there is no exhaustive selection accuracy')
        if not all("global" in one.tensors for one in both):
            return failed('some features have a tensor "global" and others do not')
        kept = [Features({"global": one.tensors["global"]}, one.geometry) for one in both]
        matrix = model.global_similarity_matrix(kept[: len(images)], kept[len(images) :])
        if not isinstance(matrix, torch.Tensor) or matrix.shape != (3, 2):
            shape = tuple(matrix.shape) if isinstance(matrix, torch.Tensor) else type(matrix).__name__
            return failed(f"global_similarity_matrix gave {shape} for 3 images and 2 sentences; (3, 2) is needed")
        pairs = [(row, column) for row in range(3) for column in range(2)]
        single = model.align_features([images[row] for row, _ in pairs], [sentences[column] for _, column in pairs])
    if single.global_similarity is None:
        return failed("there is a global_similarity_matrix, but alignments have no global_similarity")
    off = relative_difference(matrix.flatten(), single.global_similarity)
    return verdict(off <= subject.tolerance, f"largest relative difference {off:.1e}: matrix and pairs")


def _detached(subject: Subject, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
    """An answer that later calls cannot write into."""
    return pick(subject.ask(images, sentences), range(len(images)))


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "torch's generator": torch.get_rng_state(),
        "NumPy's generator": np.random.get_state(),
        "Python's generator": random.getstate(),
    }
    if torch.cuda.is_available():
        state["CUDA's generator"] = torch.cuda.get_rng_state()
    return state


def _restore(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch's generator"])
    np.random.set_state(state["NumPy's generator"])
    random.setstate(state["Python's generator"])
    if "CUDA's generator" in state:
        torch.cuda.set_rng_state(state["CUDA's generator"])


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
