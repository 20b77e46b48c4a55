"""How long does it take, and how much memory, to open a dataset of the size of the Chest ImaGenome silver test split?

    python benchmarks/opening.py FOLDER [--films 48000]

writes a tree in the published format into the folder (once; films of 64 × 64 pixels, since only their headers are read), and
opens it in a fresh process three times. Printed are seconds of wall time and of CPU, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

OPEN = """
import json, resource, sys, time
from wronglung.benchmark.datasets import load_dataset
before = resource.getrusage(resource.RUSAGE_SELF)
start = time.perf_counter()
data = load_dataset("imagenome-silver", sys.argv[1], split="train")
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "wall s": round(seconds, 2),
    "cpu s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
    "peak MiB": after.ru_maxrss // 1024,
    "films": len({one.image_id for one in data.instances}),
    "instances": len(data.instances),
    "annotation rows": sum(len(one.findings) for one in data.instances),
    "fingerprint": data.fingerprint[:12],
}))
"""


def write(folder: Path, films: int) -> None:
    """A silver set in which all films are of one split, as the reader takes a split at a time."""
    from wronglung.benchmark.datasets.imagenome_tree import write_tree
    from wronglung.benchmark.datasets.phantom import read

    patients = next(n for n in count(films // 2, films // 8) if _films(read(patients=n, split="all")) >= films)
    data = read(patients=patients, split="all")
    chosen = set(list(dict.fromkeys(one.image_id for one in data.instances))[:films])
    instances = tuple(replace(one, split="train") for one in data.instances if one.image_id in chosen)
    write_tree(replace(data, instances=instances), folder)


def _films(data: object) -> int:
    return len({one.image_id for one in data.instances})  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=48_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    tree = given.folder / f"silver-{given.films}"
    if not tree.exists():
        write(tree, given.films)
    for _ in range(given.repeats):
        done = subprocess.run([sys.executable, "-c", OPEN, str(tree)], capture_output=True, text=True, check=True)
        print(json.dumps(json.loads(done.stdout)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
