"""The cost of the metric engine, as ratios of CPU time measured side by side in one thread.

The workload is one instance of the benchmark: four 19 × 19 maps (of the true, a swapped, a random and a synthetic
sentence) brought to 224 × 224 pixels, and six evaluations, since the true sentence's map is also scored against
shuffled and random boxes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import average_precision_score, roc_auc_score

from wronglung.benchmark.frames import scoring_frame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.metrics.distribution import as_distribution, entropy, symmetric_kl
from wronglung.benchmark.metrics.ranking import rank, score

BoolArray = npt.NDArray[np.bool_]

EVALUATIONS = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0)]
"""Which map is scored against which mask."""
PERCENTS = (5, 10, 20, 30)
FRAME = scoring_frame(Geometry.squash(224, 224, 224, 224), "model")
ROUNDS = 9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def workload(seed: int) -> tuple[torch.Tensor, list[BoolArray]]:
    """Four smooth attention maps and three masks of 1 to 4 boxes."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, 21, 21))
    logits = np.sum([noise[:, i : i + 19, j : j + 19] for i in range(3) for j in range(3)], axis=0) / 3
    masks = []
    for _ in range(3):
        mask = np.zeros((224, 224), np.bool_)
        for _ in range(rng.integers(1, 5)):
            height, width = rng.integers(20, 110, 2)
            y, x = rng.integers(0, 224 - height), rng.integers(0, 224 - width)
            mask[y : y + height, x : x + width] = True
        masks.append(mask.ravel())
    return torch.softmax(torch.from_numpy(logits).float().flatten(1), dim=1).reshape(4, 19, 19), masks


def engine(maps: torch.Tensor, masks: list[BoolArray]) -> list[dict[str, float]]:
    p = as_distribution(maps)
    spread, moved = entropy(p).tolist(), symmetric_kl(p[:1].expand_as(p), p).tolist()
    results = []
    for at, saliency in enumerate(maps):
        ranking = rank(FRAME.sample(saliency, "bilinear").flatten())
        results += [
            score(ranking, masks[against]) | {"entropy": spread[at], "kl": moved[at]}
            for scored, against in EVALUATIONS
            if scored == at
        ]
    return results


def scikit_learn(maps: torch.Tensor, masks: list[BoolArray]) -> list[dict[str, float]]:
    """Every evaluation on its own, as research code does it."""
    results = []
    for at, against in EVALUATIONS:
        pixels = F.interpolate(maps[at][None, None], size=(224, 224), mode="bilinear").flatten().numpy()
        mask = masks[against]
        result = {
            "auroc": float(roc_auc_score(mask, pixels)),
            "average_precision": float(average_precision_score(mask, pixels)),
        }
        for p in PERCENTS:
            below = len(pixels) - len(pixels) * p // 100
            top = pixels > np.partition(pixels, below - 1)[below - 1]
            hits = (top & mask).sum()
            result[f"precision@{p}"] = hits / top.sum()
            result[f"recall@{p}"] = hits / mask.sum()
            result[f"iou@{p}"] = hits / (top | mask).sum()
        base, other = maps[0].double().flatten().numpy(), maps[at].double().flatten().numpy()
        result["entropy"] = float(scipy_entropy(other))
        result["kl"] = float(scipy_entropy(base, other) + scipy_entropy(other, base)) / 2
        results.append(result)
    return results


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def median_ratio(slow: Callable[[int], object], fast: Callable[[int], object]) -> float:
    """The median over interleaved rounds of slow CPU time over fast."""
    slow(0), fast(0)
    return statistics.median(
        cpu_seconds(lambda seed=seed: slow(seed)) / cpu_seconds(lambda seed=seed: fast(seed))  # type: ignore[misc]
        for seed in range(1, ROUNDS + 1)
    )


def test_both_sides_compute_the_same_figures() -> None:
    for mine, theirs in zip(engine(*workload(0)), scikit_learn(*workload(0)), strict=True):
        # The interpolations differ in the last bits, which reorders near ties.
        assert {name: mine[name] for name in theirs} == pytest.approx(theirs, abs=2e-4)


def test_the_engine_is_many_times_faster_than_scikit_learn_per_evaluation() -> None:
    loads = [workload(seed) for seed in range(ROUNDS + 1)]
    ratio = median_ratio(lambda seed: scikit_learn(*loads[seed]), lambda seed: engine(*loads[seed]))
    assert ratio >= 15, f"{ratio:.1f} times faster"


def test_another_mask_costs_a_fraction_of_the_first() -> None:
    loads = [workload(seed) for seed in range(ROUNDS + 1)]
    rankings = [rank(FRAME.sample(maps[0], "bilinear").flatten()) for maps, _ in loads]

    def first(seed: int) -> None:
        maps, masks = loads[seed]
        score(rank(FRAME.sample(maps[0], "bilinear").flatten()), masks[0])

    ratio = median_ratio(first, lambda seed: score(rankings[seed], loads[seed][1][1]))
    assert ratio >= 2.5, f"the first mask costs {ratio:.1f} times as much"
