"""What is saved by keeping features and maps: runs of a GLoRIA of the released size, anew, from the feature cache, from stored maps.

    python benchmarks/reuse.py FOLDER [--films 16] [--rounds 3] [--tiny]

First the feature cache alone: packs of 16 films of 19 × 19 × 768 float32 are written, looked up and read, and a folder of 1,000 packs
of 64 films is opened. Then, in each round, the suite `wrong-lung` on films of 7.5 megapixels: without a cache, with an empty one,
with a full one, and `rescore` of the maps. All give the same figures. Printed are medians of CPU seconds and of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate
from workload import MEGAPIXELS_7_5, RELEASED, TINY, films, write_gloria

from wronglung import Features, Geometry, ModelCard, Results, evaluate, load_model
from wronglung.benchmark.feature_store import FeatureStore
from wronglung.benchmark.rescoring import rescore

SUITE = "wrong-lung"
CARD = ModelCard(name="benchmark", saliency_method="none", map_kind="score", checkpoint="none")


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds, wall seconds, and what came of it."""
    gc.collect()
    wall, start = time.perf_counter(), time.process_time()
    value = call()
    return time.process_time() - start, time.perf_counter() - wall, value


def digest(*what: int) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def throughput(folder: Path, packs: int, of: int) -> list[tuple[str, str]]:
    def film(number: int) -> Features:
        generator = torch.Generator().manual_seed(number)
        return Features(
            {"regions": torch.rand(19, 19, 768, generator=generator), "global": torch.rand(768, generator=generator)},
            Geometry.squash(2544, 3056, 299, 299),
        )

    batches = [{digest(pack, at): (film(pack * of + at), (2544, 3056)) for at in range(of)} for pack in range(packs)]
    mib = sum(one.nbytes for batch in batches for one, _ in batch.values()) / 2**20
    store = FeatureStore.open(folder, CARD, None)
    write, wrote, _ = timed(lambda: [store.put_images(batch) for batch in batches])
    again = FeatureStore.open(folder, CARD, None)
    reads = [timed(lambda: all(again.image(key) is not None for batch in batches for key in batch)) for _ in range(5)]
    assert all(found for _, _, found in reads)
    read, took = median(cpu for cpu, _, _ in reads), median(wall for _, wall, _ in reads)
    on_disk = sum(one.stat().st_size for one in folder.rglob("*.safetensors")) / 2**20
    count = packs * of
    return [
        (f"write, {packs} packs of {of} films", f"{write / count * 1e3:.2f} ms of CPU a film, {mib / wrote:.0f} MiB/s"),
        ("read and check", f"{read / count * 1e3:.2f} ms of CPU a film, {mib / took:.0f} MiB/s"),
        ("on disk", f"{on_disk / count * 1024:.0f} KiB a film, {(on_disk / mib - 1) * 100:.2f} % more than its values"),
    ]  # fmt: skip


def opening(folder: Path, packs: int, of: int) -> tuple[str, str]:
    store = FeatureStore.open(folder, CARD, None)
    geometry = Geometry.squash(2544, 3056, 299, 299)
    for pack in range(packs):
        # What the values are does not matter to the index.
        tensors = {"regions": torch.zeros(4), "global": torch.zeros(4)}
        store.put_images({digest(pack, at): (Features(tensors, geometry), (2544, 3056)) for at in range(of)})
    cpu, wall, _ = timed(lambda: FeatureStore.open(folder, CARD, None))
    return f"open {packs} packs of {of} films", f"{cpu:.2f} s of CPU, {wall:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small encoders and films: shows that the program works")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder.parent) as scratch:
        rows = throughput(Path(scratch, "throughput"), 2 if given.tiny else 20, 16)
        rows.append(opening(Path(scratch, "opening"), 10 if given.tiny else 1000, 64))
    print(tabulate(rows, tablefmt="plain") + "\n")  # noqa: T201

    data = films(given.folder, given.films, (400, 464) if given.tiny else MEGAPIXELS_7_5)
    arguments = write_gloria(
        given.folder / ("tiny" if given.tiny else "released"), data, TINY if given.tiny else RELEASED
    )
    model = load_model("gloria", device="cpu", **arguments)
    runs, cache = given.folder / "run", given.folder / "features"
    # What happens once: loading, compiling.
    evaluate(model, data, SUITE, limit=2, workers=1)
    seconds: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        shutil.rmtree(cache, ignore_errors=True)

        def run(feature_cache: Path | None = None, save_maps: bool = False) -> Results:
            return evaluate(model, data, SUITE, workers=1, feature_cache=feature_cache, save_maps=save_maps)

        done = {
            "without a cache": timed(run),
            "with an empty cache": timed(lambda: run(cache)),
            "with a full cache": timed(lambda: run(cache, save_maps=True)),
        }
        runs.mkdir(exist_ok=True)
        done["with a full cache"][2].save(runs)
        done["from stored maps"] = timed(lambda: rescore(runs, data))
        figures = [one.run.scores for _, _, one in done.values()]
        assert all(one == figures[0] for one in figures), "all ways give the same figures"
        assert done["with a full cache"][2].run.manifest.encoded_images == 0
        for name, (cpu, _, _) in done.items():
            seconds.setdefault(name, []).append(cpu)
    count = len(data.instances)
    plain = seconds["without a cache"]
    table = [
        (name, median(all_) / count * 1e3, median(one / base for one, base in zip(all_, plain, strict=True)))
        for name, all_ in seconds.items()
    ]
    size = sum(one.stat().st_size for one in cache.rglob("*.safetensors")) / 2**20
    kept = (runs / "maps.safetensors").stat().st_size / 2**20
    print(f"{given.films} films, {count} instances, {SUITE}; the cache holds {size:.1f} MiB, the maps {kept:.1f} MiB\n")  # noqa: T201
    print(tabulate(table, headers=["run", "ms of CPU an instance", "ratio"], floatfmt=("", ".1f", ".3f")))  # noqa: T201


if __name__ == "__main__":
    main()
