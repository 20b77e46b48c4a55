"""Which pairs of an image and a sentence a suite asks for, so that maps can be made outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from ..tasks.schema import SuiteSpec
from .instances import Dataset
from .plan import Plan, by_sentence


def pairs(suite: SuiteSpec, dataset: Dataset, seed: int = 0, limit: int | None = None) -> list[tuple[str, str]]:
    """All (image id, sentence) that a run with these arguments asks a model to align, sorted, each once.

    Sentences are exactly as the model gets them, changed ones included. A suite with the exhaustive local selection accuracy
    asks for every sentence on every image.
    """
    plan = Plan(suite, dataset, seed, limit)
    asked = {(one.image.id, sentence) for one in plan.images() for sentence in by_sentence(one.questions)}
    if "selection_accuracy_local_exhaustive" in suite.metrics:
        sentences = {one.sentence for one in dataset.instances}
        asked |= {(image, sentence) for image in {one.image_id for one in plan.instances} for sentence in sentences}
    return sorted(asked)


def as_lines(asked: Iterable[tuple[str, str]], dataset: Dataset) -> Iterator[str]:
    """Pairs as JSON objects, one a line: image id, path and size (original pixels), the sentence and its SHA-256."""
    images = {one.image_id: one.image for one in dataset.instances}
    for image_id, sentence in asked:
        image = images[image_id]
        line = {
            "image_id": image_id,
            "image": str(image.path.absolute()),
            "width": image.width,
            "height": image.height,
            "sentence": sentence,
            "sentence_sha256": hashlib.sha256(sentence.encode()).hexdigest(),
        }
        yield json.dumps(line) + "\n"
