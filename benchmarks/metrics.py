"""W1: what do the metrics of maps cost, next to scikit-learn for each evaluation? Tables in Markdown.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--instances 40] [--growth]

An instance has four maps of 19 × 19 regions (of the true, a swapped, a random and a synthetic sentence), brought to
224 × 224 pixels, and six evaluations, as the true sentence's map is also scored against shuffled and random boxes: AUROC, average
precision, precision, recall and IoU of the top 5, 10, 20 and 30 %, entropy, and KL divergence from the true sentence's map.
scikit-learn does each evaluation on its own, as research code does. Times are CPU time in one thread; two instances are given
to every implementation in turn, and ratios are medians [quartiles] over these blocks.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import average_precision_score, roc_auc_score
from tabulate import tabulate

from wronglung.benchmark import frames
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.metrics import compiled, ranking
from wronglung.benchmark.metrics.codes import Codes, keys_of, sort
from wronglung.benchmark.metrics.distribution import divergences, entropies, masses

Maps = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Scores = list[dict[str, float]]

MASKS_OF_MAP = ((0, 1, 2), (0,), (0,), (0,))
"""Which masks each map is scored against."""
PERCENTS = (5, 10, 20, 30)
BLOCK = 2


class Instance(NamedTuple):
    """Four maps [4, 19, 19] and three masks [size · size]."""

    maps: Maps
    masks: list[Mask]
    size: int


def instance(seed: int, size: int = 224) -> Instance:
    """Smooth attention maps, and masks of 1 to 4 boxes."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, 21, 21))
    logits = np.sum([noise[:, i : i + 19, j : j + 19] for i in range(3) for j in range(3)], axis=0) / 3
    maps = torch.softmax(torch.from_numpy(logits).float().flatten(1), dim=1).reshape(4, 19, 19)
    masks = []
    for _ in range(3):
        mask = np.zeros((size, size), np.bool_)
        for _ in range(rng.integers(1, 5)):
            height, width = rng.integers(size // 11, size // 2, 2)
            y, x = rng.integers(0, size - height), rng.integers(0, size - width)
            mask[y : y + height, x : x + width] = True
        masks.append(mask.ravel())
    return Instance(maps.numpy(), masks, size)


def engine(given: Instance) -> Scores:
    """This package."""
    frame = frames.scoring_frame(Geometry.squash(given.size, given.size, given.size, given.size), "model")
    p = masses(given.maps.astype(np.float64).reshape(4, -1))
    spread, moved = entropies(p).tolist(), divergences(p[:1].repeat(4, 0), p).tolist()
    results: Scores = []
    for at, against in enumerate(MASKS_OF_MAP):
        pixels = frame.pixels(given.maps[at], "bilinear").reshape(-1)
        for scores in ranking.score(ranking.rank(pixels, [given.masks[one] for one in against])):
            results.append(scores | {"entropy": spread[at], "kl": moved[at]})
    return results


def scikit_learn(given: Instance, upsampled: bool = True) -> Scores:
    """Every evaluation on its own; ``upsampled`` by PyTorch, or by this package to compare the figures to the last digit."""
    frame = frames.scoring_frame(Geometry.squash(given.size, given.size, given.size, given.size), "model")
    results: Scores = []
    for at, against in enumerate(MASKS_OF_MAP):
        for mask in (given.masks[one] for one in against):
            if upsampled:
                one = torch.from_numpy(given.maps[at])[None, None]
                pixels = F.interpolate(one, size=(given.size, given.size), mode="bilinear").flatten().numpy()
            else:
                pixels = frame.pixels(given.maps[at], "bilinear").reshape(-1)
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
            base, other = (given.maps[one].astype(np.float64).reshape(-1) for one in (0, at))
            result["entropy"] = float(scipy_entropy(other))
            result["kl"] = float(scipy_entropy(base, other) + scipy_entropy(other, base)) / 2
            results.append(result)
    return results


@contextmanager
def loops(kernels: compiled.Kernels | None) -> Iterator[None]:
    """Score with the given compiled loops, or without."""
    before = compiled.kernels
    for module in (ranking, frames):
        setattr(module, "kernels", lambda maps=0: kernels)  # noqa: B010
    try:
        yield
    finally:
        for module in (ranking, frames):
            setattr(module, "kernels", before)  # noqa: B010


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def implementations() -> dict[str, Callable[[Instance], Scores]]:
    def with_loops(kernels: compiled.Kernels | None) -> Callable[[Instance], Scores]:
        def run(given: Instance) -> Scores:
            with loops(kernels):
                return engine(given)

        return run

    found = {"scikit-learn": scikit_learn, "wronglung": with_loops(None)}
    if (kernels := compiled.load()) is not None:
        found["wronglung, compiled"] = with_loops(kernels)
    return found


def interleaved(runs: dict[str, Callable[[Instance], object]], given: list[Instance]) -> dict[str, list[float]]:
    """CPU seconds an instance of each implementation, block by block."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(given[0])
    for first in range(0, len(given), BLOCK):
        block = given[first : first + BLOCK]
        for name, run in runs.items():
            seconds[name].append(sum(cpu_seconds(lambda run=run, one=one: run(one)) for one in block) / len(block))  # type: ignore[misc]
    return seconds


def sorting(given: Instance) -> None:
    """The floor: nothing but sorting the keys of four maps, which no exact method is without."""
    kernels = compiled.load()
    for keys, codes, masks in prepared(given):
        if kernels is None:
            sort(keys)
        else:
            kernels.radix_sort(keys.copy(), np.empty_like(keys), masks, codes.largest.bit_length())


_PREPARED: dict[int, list[tuple[npt.NDArray[np.uint32], Codes, int]]] = {}


def prepared(given: Instance) -> list[tuple[npt.NDArray[np.uint32], Codes, int]]:
    if id(given) not in _PREPARED:
        frame = frames.scoring_frame(Geometry.squash(given.size, given.size, given.size, given.size), "model")
        _PREPARED[id(given)] = []
        for at, against in enumerate(MASKS_OF_MAP):
            codes = Codes.of(frame.pixels(given.maps[at], "bilinear").reshape(-1))
            keys = keys_of(codes, [given.masks[one] for one in against])
            _PREPARED[id(given)].append((keys.astype(np.uint32, copy=False), codes, len(against)))
    return _PREPARED[id(given)]


def further_mask(given: list[Instance], kernels: compiled.Kernels | None) -> float:
    """What a second mask of a map costs, as a part of what the map costs with one."""

    def scored(masks: int) -> Callable[[Instance], object]:
        def run(one: Instance) -> object:
            frame = frames.scoring_frame(Geometry.squash(one.size, one.size, one.size, one.size), "model")
            return ranking.score(ranking.rank(frame.pixels(one.maps[0], "bilinear").reshape(-1), one.masks[:masks]))

        return run

    with loops(kernels):
        seconds = interleaved({"1": scored(1), "3": scored(3)}, given)
    return statistics.median((b - a) / 2 / a for a, b in zip(seconds["1"], seconds["3"], strict=True))


def peak_mib(run: Callable[[], object]) -> float:
    """The most memory that NumPy's arrays take at a time, MiB."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def largest_differences(given: list[Instance], run: Callable[[Instance], Scores]) -> dict[str, float]:
    worst: dict[str, float] = dict.fromkeys(("auroc", "average_precision", "entropy", "kl"), 0.0)
    for one in given:
        for mine, theirs in zip(run(one), scikit_learn(one, upsampled=False), strict=True):
            worst = {name: max(value, abs(mine[name] - theirs[name])) for name, value in worst.items()}
    return worst


def spread(ratios: list[float]) -> str:
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--growth", action="store_true", help="also by image size and by number of instances")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = [instance(seed) for seed in range(arguments.instances)]
    runs = implementations()
    start = time.perf_counter()
    print(f"compiled loops: {'none' if compiled.load() is None else 'at hand'}\n")  # noqa: T201
    seconds = interleaved({**runs, "sorting alone": sorting}, given)
    checked = given[: min(20, len(given))]
    table = []
    for name, values in seconds.items():
        against = [a / b for a, b in zip(seconds["scikit-learn"], values, strict=True)]
        floor = [b / a for a, b in zip(seconds["sorting alone"], values, strict=True)]
        row = [name, f"{1e3 * statistics.median(values):.2f}", spread(against), f"{statistics.median(floor):.2f}"]
        if name in runs:
            peak = peak_mib(lambda run=runs[name]: [run(one) for one in checked[:4]])  # type: ignore[misc]
            worst = largest_differences(checked, runs[name]) if name != "scikit-learn" else {}
            row += ["", f"{peak:.1f}", "; ".join(f"{value:.0e}" for value in worst.values())]
            if name != "scikit-learn":
                row[4] = f"{further_mask(given, compiled.load() if 'compiled' in name else None):.3f}"
        table.append(row)
    headers = [
        "",
        "ms an instance",
        "scikit-learn / this",
        "this / sorting",
        "a further mask / the first",
        "peak of arrays, MiB",
        "largest difference: AUROC; AP; entropy; KL",
    ]
    print(tabulate(table, headers, tablefmt="github", disable_numparse=True))  # noqa: T201
    if arguments.growth:
        growth(runs)
    print(f"\n{time.perf_counter() - start:.0f} s")  # noqa: T201


def growth(runs: dict[str, Callable[[Instance], Scores]]) -> None:
    fast = {name: run for name, run in runs.items() if name != "scikit-learn"}
    table = []
    for size in (112, 224, 448, 896):
        given = [instance(seed, size) for seed in range(8)]
        _PREPARED.clear()
        medians = {name: statistics.median(values) for name, values in interleaved(dict(fast), given).items()}
        table.append([f"{size} × {size}", *(f"{1e9 * value / 4 / size**2:.1f}" for value in medians.values())])
    print("\n" + tabulate(table, ["ns a pixel and map", *fast], tablefmt="github", disable_numparse=True))  # noqa: T201
    table = []
    for count in (50, 100, 200):
        given = [instance(seed) for seed in range(count)]
        totals = [cpu_seconds(lambda run=run: [run(one) for one in given]) for run in fast.values()]  # type: ignore[misc]  # noqa: B023
        table.append([str(count), *(f"{value:.2f}" for value in totals)])
    print("\n" + tabulate(table, ["instances: CPU seconds", *fast], tablefmt="github", disable_numparse=True))  # noqa: T201


if __name__ == "__main__":
    main()
