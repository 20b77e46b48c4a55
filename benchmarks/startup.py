"""How long do the command line and the import take, against Python alone and against the import of torch?

    python benchmarks/startup.py [--rounds 7]

Each line is a process of its own; the lines take turns. Printed are medians of wall time and of CPU in seconds, and the median of
the CPU over that of `python -c pass` of the same round.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

from wronglung.benchmark.datasets.sketch import write_sketch


def taken(command: list[str]) -> tuple[float, float]:
    """Seconds of wall time and of CPU of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_sketch(Path(folder), patients=12)
        one = ["--dataset", "jsonl", "--data-root", str(data), "--limit", "1", "--suite", "smoke", "--overwrite"]
        tool = ["-m", "wronglung"]
        commands = {
            "python -c pass": ["-c", "pass"],
            "wronglung --help": [*tool, "--help"],
            "wronglung list models": [*tool, "list", "models"],
            "import wronglung": ["-c", "import wronglung"],
            "import torch": ["-c", "import torch"],
            "import torch, pandas, pyarrow": ["-c", "import torch, pandas, pyarrow"],
            "wronglung run, oracle, 1 instance": [*tool, "run", "--model", "oracle", *one, "--out", f"{folder}/oracle"],
            "wronglung run, gloria-phantom-masking, 1 instance": [
                *tool, "run", "--model", "gloria-phantom-masking", *one, "--out", f"{folder}/gloria",
            ],
        }  # fmt: skip
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for at in range(given.rounds + 1):
            for name, command in commands.items():
                times = taken([sys.executable, *command])
                # The first round fills the caches of files.
                if at:
                    seconds[name].append(times)
    bare = [cpu for _, cpu in seconds["python -c pass"]]
    rows = [
        [
            name,
            median(wall for wall, _ in times),
            median(cpu for _, cpu in times),
            median(cpu / least for (_, cpu), least in zip(times, bare, strict=True)),
        ]
        for name, times in seconds.items()
    ]
    heads = ["process", "wall s", "CPU s", "ratio"]
    print(tabulate(rows, heads, floatfmt=("", ".2f", ".2f", ".1f"), tablefmt="github"))  # noqa: T201


if __name__ == "__main__":
    main()
