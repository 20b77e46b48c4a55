"""What stays behind after an answer: features that can be kept, inputs as they were, no gradients, no memory."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..protocol import Features
from . import material
from .subject import Subject, Verdict, compare, failed, not_shown, passed, pick, verdict

CALLS = 7
"""Calls between two looks at memory."""
STRETCHES = 3


def features(subject: Subject) -> Verdict:
    """Features are plain tensors that hold no graph and no batch, and say where the image lies."""
    if not subject.is_dual:
        return not_shown("the model has no features")
    with torch.no_grad():
        images = subject.model.encode_images(subject.images)
        sentences = subject.model.encode_sentences(subject.sentences)
    for what, items in (("image", images), ("sentence", sentences)):
        if len(items) != len(subject.images) or not all(isinstance(one, Features) for one in items):
            return failed(
                f"{len(items)} items for {len(subject.images)} {what}s; one wronglung.Features each is needed"
            )
        for item in items:
            if (item.geometry is None) != (what == "sentence"):
                return failed(f"features of {what}s {'lack' if what == 'image' else 'have'} a geometry")
            for name, tensor in item.tensors.items():
                if not isinstance(tensor, torch.Tensor):
                    return failed(f"{what} feature {name!r} is {type(tensor).__name__}, not a tensor")
                if tensor.requires_grad:
                    return failed(f"{what} feature {name!r} requires a gradient")
                held = tensor.untyped_storage().nbytes()
                if held > 2 * tensor.nbytes and held > 1024:
                    return failed(
                        f"{what} feature {name!r} of {tensor.nbytes} bytes keeps {held} alive: it is a view of a batch"
                    )
    kept = sum(one.nbytes for one in images) // len(images), sum(one.nbytes for one in sentences) // len(sentences)
    return passed(f"{kept[0]:,} bytes an image and {kept[1]:,} a sentence are kept")


def reuse(subject: Subject) -> Verdict:
    """Features give the same answer again, after other items were encoded, and as copies on the host."""
    if not subject.is_dual:
        return not_shown("the model has no features")
    model = subject.model
    with torch.no_grad():
        images, sentences = model.encode_images(subject.images), model.encode_sentences(subject.sentences)
        copies = [[_on_host(one) for one in items] for items in (images, sentences)]
        rows = range(len(images))
        first = pick(model.align_features(images, sentences), rows)
        model.encode_images(subject.images[::-1])
        model.encode_sentences(subject.sentences[::-1])
        model.align_features(images[::-1], sentences)
        again = pick(model.align_features(images, sentences), rows)
        copied = pick(model.align_features(*copies), rows)
    same = compare(first, again, 0.0, "features used again after other work")
    return same if same.outcome == "failed" else compare(first, copied, subject.tolerance, "features and their copies")


def inputs_untouched(subject: Subject) -> Verdict:
    """Images and sentences are as they were given."""
    # Films that nothing was asked about yet: a change that is made once would not show on the subject's own.
    images, sentences = [film for film, _ in material.sketches()], list(subject.sentences)
    given = list(images), list(sentences)
    before = [(image.pixels.mode, image.pixels.size, image.pixels.tobytes()) for image in images]
    subject.ask(images, sentences)
    if (images, sentences) != given:
        return failed("the lists that were given have changed")
    after = [(image.pixels.mode, image.pixels.size, image.pixels.tobytes()) for image in images]
    return verdict(before == after, "pixels changed" if before != after else "pixels and sentences unchanged")


def gradients(subject: Subject) -> Verdict:
    """Nothing in an answer holds a graph, and no weight has collected a gradient."""
    before = {id(one) for one in _with_gradient()}
    result = subject.ask(subject.images, subject.sentences)
    graphs = [field for field in ("saliency", "local_similarity", "global_similarity") if _requires_grad(result, field)]
    if graphs:
        return failed(f"{' and '.join(graphs)} hold a graph")
    left = sum(id(one) not in before for one in _with_gradient())
    return verdict(left == 0, f"{left} weights have collected a gradient" if left else "no graph, no gradient kept")


def memory(subject: Subject) -> Verdict:
    """Repeated calls with the same pairs leave no more behind each time."""
    images, sentences = subject.images[:2], subject.sentences[:2]
    size = subject.ask(images, sentences).saliency.nbytes
    gc.collect()
    # Only what comes from here on is looked at; looking at everything takes seconds.
    gc.freeze()
    try:
        sizes = []
        for _ in range(STRETCHES):
            for _ in range(CALLS):
                subject.ask(images, sentences)
            sizes.append(_in_use(subject.model))
    finally:
        gc.unfreeze()
    # What a cache takes it takes once; a leak shows in every stretch after the first.
    each = min(later - earlier for earlier, later in pairwise(sizes)) / CALLS
    kept = f"{max(0.0, each):,.0f} bytes of tensors, arrays and images a call stay behind"
    return verdict(each < size / 2, f"{kept}, over {STRETCHES * CALLS} calls")


def _on_host(item: Features) -> Features:
    return Features({name: tensor.cpu().clone() for name, tensor in item.tensors.items()}, item.geometry)


def _requires_grad(result: object, field: str) -> bool:
    tensor = getattr(result, field)
    return tensor is not None and bool(tensor.requires_grad)


def _with_gradient() -> list[torch.Tensor]:
    return [one for one in _of_kinds(gc.get_objects(), (torch.Tensor,)) if one.is_leaf and one.grad is not None]


def _in_use(model: object) -> int:
    """Bytes of tensors, NumPy arrays and Pillow images that are held by what is not frozen, or by the model's attributes."""
    gc.collect()
    own = vars(model).values() if hasattr(model, "__dict__") else ()
    # Arrays of numbers are not known to the collector, but whoever holds them is.
    known = [*gc.get_objects(), *own]
    sizes: dict[int, int] = {}
    for one in _of_kinds([*known, *gc.get_referents(*known)], (torch.Tensor, np.ndarray, Image.Image)):
        if isinstance(one, np.ndarray):
            sizes[id(one)] = one.nbytes if one.base is None else 0
        elif isinstance(one, Image.Image):
            sizes[id(one)] = one.width * one.height
        elif one.layout == torch.strided and one.device.type == "cpu":
            sizes[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
    return sum(sizes.values()) + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)


def _of_kinds(objects: list[Any], kinds: tuple[type, ...]) -> list[Any]:
    """Those of some types. By type: isinstance would ask lazy modules for their class, which imports them."""
    wanted = {kind for kind in set(map(type, objects)) if issubclass(kind, kinds)}
    return [one for one in objects if type(one) in wanted]
