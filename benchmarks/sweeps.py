"""What does a second model of a sweep cost, beside one that is evaluated anyway?

    python benchmarks/sweeps.py FOLDER [--films 16] [--rounds 3]

evaluates two GLoRIAs under ``wrong-lung`` apart, and in one pass over the images: the small ones that come with the package on
films of 128 × 128 pixels and of 7.5 megapixels, and two of the released size (random weights) on the latter. Printed are
milliseconds of CPU an instance, medians of interleaved rounds, for one model alone and for the second of two, and their ratio.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate
from workload import MEGAPIXELS_7_5, films, write_gloria

from wronglung import load_model
from wronglung.benchmark.evaluation import Job, Settings, evaluate_all
from wronglung.benchmark.instances import Dataset

SMALL = ("gloria-phantom-retrained", "gloria-phantom-masking")


def milliseconds(models: Sequence[Any], data: Dataset) -> float:
    """Of CPU, an instance."""
    gc.collect()
    start = time.process_time()
    outcomes = evaluate_all([Job(model) for model in models], data, "wrong-lung", Settings(workers=1))
    spent = time.process_time() - start
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return 1000 * spent / len(data.instances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    small, large = (films(given.folder, given.films, size) for size in ((128, 128), MEGAPIXELS_7_5))
    released = write_gloria(given.folder / "released", large)
    shipped = [load_model(name, device="cpu") for name in SMALL]
    full = [load_model("gloria", device="cpu", **released) for _ in range(2)]
    rows = []
    for name, data, models in (
        ("small, films of 128 × 128", small, shipped),
        ("small, films of 7.5 MP", large, shipped),
        ("released size, films of 7.5 MP", large, full),
    ):
        milliseconds(models, data)  # what happens once: compiling
        alone, both = zip(
            *((milliseconds(models[:1], data), milliseconds(models, data)) for _ in range(given.rounds)), strict=True
        )
        first, second = median(alone), median(two - one for one, two in zip(alone, both, strict=True))
        rows.append((name, f"{first:.1f}", f"{second:.1f}", f"{second / first:.2f}"))
    headers = ("GLoRIA", "ms of CPU an instance, alone", "as the second of two", "ratio")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))  # noqa: T201


if __name__ == "__main__":
    main()
