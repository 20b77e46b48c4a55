"""How do time and memory of a whole run grow with the dataset?

    python benchmarks/scale.py FOLDER [--films 3000 12000 48000] [--models uniform oracle gloria-phantom-retrained]

writes trees in the format of the Chest ImaGenome silver set into the folder (once; phantom's films of 64 × 64 pixels, some three
sentences each) and evaluates each model on each of them under ``wrong-lung`` with ``wronglung run``, every run in a fresh
process. A run of ten films comes first: what the program and the model take by themselves. Printed are wall time, CPU time of
all processes, CPU time an instance beyond that of the ten films, the peak of resident memory (of the main process, and of all
together, as sampled), the same beyond that of the ten films, and the exponents with which the time and the memory beyond grow
from one size to the next: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from opening import write

BASE = 10
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """Of one run: instances, seconds, and MiB."""

    instances: int
    wall: float
    cpu: float
    main: float
    all: float


def measured(tree: Path, model: str, out: Path, options: list[str]) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "wronglung", "run", "--model", model, "--dataset", "imagenome-silver", "--data-root", str(tree),
            "--split", "train", "--out", str(out), "--device", "cpu", "--quiet", *options,
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    together, status, usage = 0, 0, None
    while usage is None:
        together = max(together, resident(process.pid))
        time.sleep(0.2)
        pid, status, told = os.wait4(process.pid, os.WNOHANG)
        usage = told if pid else None
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, process.args))}: ended with {process.returncode}")  # type: ignore[arg-type]
    results = json.loads((out / "results.json").read_text())
    return Cost(
        results["dataset"]["n_instances"],
        time.perf_counter() - started,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        max(together / MIB, usage.ru_maxrss / 1024),
    )


def resident(root: int) -> int:
    """Bytes in which a process and its descendants are resident; what they share counts once for each."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)], sizes[int(folder.name)] = int(fields[1]), int(fields[21])
    family = {root}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(sizes.get(one, 0) for one in family) * os.sysconf("SC_PAGE_SIZE")


def exponent(more: float, less: float, ratio: float) -> str:
    return f"{math.log(more / less) / math.log(ratio):.2f}" if more > 0 and less > 0 else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, nargs="+", default=[3_000, 12_000, 48_000])
    parser.add_argument("--models", nargs="+", default=["uniform", "oracle", "gloria-phantom-retrained"])
    parser.add_argument("--scoring-workers", default="0")
    given = parser.parse_args()
    options = ["--scoring-workers", given.scoring_workers]
    titles = (
        "model", "films", "instances", "wall s", "CPU s", "CPU ms an instance", "exponent", "MiB", "MiB beyond", "exponent",
        "MiB, all processes",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)  # noqa: T201
    for model in given.models:
        base = before = None
        for films in (BASE, *sorted(given.films)):
            tree = given.folder / f"silver-{films}"
            if not tree.exists():
                write(tree, films)
            cost = measured(tree, model, given.folder / "runs" / f"{model}-{films}", options)
            base, before, last = base or cost, cost, before
            cpu, memory = cost.cpu - base.cpu, cost.main - base.main
            row = [model, films, cost.instances, f"{cost.wall:.0f}", f"{cost.cpu:.0f}"]
            row += ["" if last is None else f"{1000 * cpu / cost.instances:.1f}", ""]
            row += [f"{cost.main:.0f}", f"{memory:.0f}", "", f"{cost.all:.0f}"]
            if last not in (None, base):
                ratio = cost.instances / last.instances
                row[6] = exponent(cpu, last.cpu - base.cpu, ratio)
                row[9] = exponent(memory, last.main - base.main, ratio)
            print(f"| {' | '.join(map(str, row))} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
