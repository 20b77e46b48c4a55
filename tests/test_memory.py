"""Memory of a run does not grow with the dataset: what is in work is a few chunks of images, whatever their number."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from wronglung import Alignment, Geometry, ModelCard
from wronglung.benchmark import evaluation, films
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.evaluation import Job, Settings, evaluate_all
from wronglung.benchmark.instances import Dataset
from wronglung.benchmark.protocol import LoadedImage
from wronglung.benchmark.results import StoredResults
from wronglung.benchmark.run_folder import claimed
from wronglung.tasks.schema import load_suite

SIDE = 128
CHUNK = 4


class Large:
    """Maps of 64 KiB, far more than the rows that they become."""

    card = ModelCard(name="large", saliency_method="a slope", map_kind="score", mass="softmax")

    def align(self, images: list[LoadedImage], sentences: list[str]) -> Alignment:
        slope = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
        where = [Geometry.squash(image.pixels.width, image.pixels.height, 32, 32) for image in images]
        return Alignment(torch.from_numpy(np.repeat(slope, len(images), axis=0)), where)


def evaluated(dataset: Dataset, folder: Path) -> None:
    with claimed(folder, resume=False, overwrite=False) as claim:
        (outcome,) = evaluate_all([Job(Large(), claim=claim)], dataset, load_suite("smoke"), Settings(workers=1))
        assert isinstance(outcome, StoredResults)
        outcome.save(folder)
        claim.clear()


@pytest.mark.usefixtures("one_thread")
def test_what_is_in_work_is_a_few_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CHUNK", CHUNK)
    monkeypatch.setattr(evaluation, "DEFAULT_BATCH", CHUNK)
    alive: weakref.WeakSet[LoadedImage] = weakref.WeakSet()
    most = 0

    class Watched(LoadedImage):
        def __post_init__(self) -> None:
            nonlocal most
            alive.add(self)
            most = max(most, len(alive))

        __hash__ = object.__hash__

    monkeypatch.setattr(films, "LoadedImage", Watched)
    few, many = (load_dataset("phantom", None, patients=patients) for patients in (20, 100))
    evaluated(few, tmp_path / "warm")
    peaks = []
    for data in (few, many):
        gc.collect()
        most = 0
        tracemalloc.start()
        evaluated(data, tmp_path / f"run-{len(data.instances)}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        # One chunk with the model, one that is read ahead, and the one that comes after it.
        assert most <= 3 * CHUNK
    images = [len({one.image_id for one in data.instances}) for data in (few, many)]
    assert images[1] > 3 * images[0]
    assert peaks[1] < 1.5 * peaks[0], peaks
