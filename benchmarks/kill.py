"""Does a run that was killed anywhere, and gone on with, end with the bytes of one that nothing happened to?

    python benchmarks/kill.py [--times 30] [--seed 0] [--only NAME]

For each kind of run: once undisturbed, then ``--times`` times killed (SIGKILL, the main process alone) at a random moment of its
duration, up to twice more while it goes on with ``--resume``, and finished with ``--resume``. The moments fall on everything, from
the reading of the command line to the last file; what is imported before is so once for all, as each run is a process forked from
one that has imported everything and done nothing. Printed are the kills by what they fell on, and, of the runs, how many ended with the same
bytes, how many left another process that was still alive 30 seconds after a kill, and how many could not be gone on with.
Works on Linux.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tabulate import tabulate

from wronglung.benchmark.cli import main as main_of_wronglung
from wronglung.benchmark.datasets.sketch import write_sketch

Content = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of run: its command without --out, what of its folder must not differ, and what there was when it was killed."""

    name: str
    command: tuple[str, ...]
    content: Callable[[Path], Content]
    stage: Callable[[Path], str]


def of_run(folder: Path) -> Content:
    """All files of a run; of results.json what does not tell of time and effort."""
    results = json.loads((folder / "results.json").read_text())
    for key in ("seconds", "peak_memory_mb", "command", "encoded_images", "encoded_sentences", "aligned_pairs"):
        results["manifest"].pop(key)
    found: Content = {one.name: one.read_bytes() for one in folder.iterdir() if one.name != "results.json"}
    return found | {"results": results}


def of_training(folder: Path) -> Content:
    """All files of a training run but its state, without the seconds in the log and the card."""
    with (folder / "log.csv").open() as stream:
        log = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
    card = json.loads((folder / "card.json").read_text())
    curve = [{key: value for key, value in row.items() if key != "seconds"} for row in card.pop("curve")]
    card.pop("command")
    own = ("log.csv", "card.json", "state.pt")
    found: Content = {one.name: one.read_bytes() for one in folder.iterdir() if one.name not in own}
    return found | {"log": log, "card": card, "curve": curve}


def stage_of_run(folder: Path) -> str:
    if not (folder / "parts" / "identity.json").exists():
        return "done" if (folder / "results.json").exists() else "start"
    if (folder / "results.json").exists() or (folder / "instances.parquet").exists():
        return "last files"
    told = json.loads((folder / "progress.json").read_text()) if (folder / "progress.json").exists() else {}
    return "merging" if told and told["images_done"] == told["images"] else "images"


def stage_of_training(folder: Path) -> str:
    return "epochs" if (folder / "state.pt").exists() else "start"


def kinds(folder: Path) -> list[Kind]:
    """The runs to kill; their data go into the folder."""
    data = write_sketch(folder / "run", patients=160)
    run = (
        "run", "-d", "jsonl", "--data-root", str(data), "-q", "--save-maps",
    )  # fmt: skip
    split = write_sketch(folder / "training", patients=60)
    lines = [json.loads(line) for line in split.read_text().splitlines()]
    for line in lines:
        line["split"] = "train" if line["patient_id"] < "p048" else "valid"
    split.write_text("".join(json.dumps(line) + "\n" for line in lines))
    changes = ("epochs=8", "patience=8", "batch_size=8", "image.width=4", "validation_instances=0", "save_every=2")
    train = (
        "train", "--variant", "retrained", "-d", "jsonl", "--data-root", str(split), "--device", "cpu", "-q",
        *(word for one in (*changes, "workers=1") for word in ("--set", one)),
    )  # fmt: skip
    return [
        Kind("floor", (*run, "-m", "random"), of_run, stage_of_run),
        Kind("gloria", (*run, "-m", "gloria-phantom-retrained", "-s", "smoke"), of_run, stage_of_run),
        Kind(
            "gloria, 2 scoring workers",
            (*run, "-m", "gloria-phantom-retrained", "-s", "smoke", "--scoring-workers", "2"), of_run, stage_of_run,
        ),
        Kind("training", train, of_training, stage_of_training),
    ]  # fmt: skip


CONTEXT = multiprocessing.get_context("forkserver")


def run(arguments: Sequence[str], said: str) -> None:
    """A command in this process, in a session of its own."""
    os.setsid()
    # As in a process that was started by itself.
    multiprocessing.set_start_method("fork", force=True)
    sys.argv = ["wronglung", *arguments]
    with Path(said).open("w") as stream, redirect_stderr(stream), redirect_stdout(stream):
        main_of_wronglung()


def start(kind: Kind, out: Path, *more: str) -> ForkServerProcess:
    arguments = [*kind.command, "--out", str(out), *more]
    started = CONTEXT.Process(target=run, args=(arguments, str(out.parent / "said")))
    started.start()
    return started


def finish(running: ForkServerProcess, folder: Path) -> tuple[bool, str]:
    """Whether a run ended well, and what it said."""
    running.join(600)
    return running.exitcode == 0, (folder / "said").read_text().strip()


def alive(session: int) -> list[str]:
    """Names of the processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, own = rest.split()[:4]
        if int(own) == session and state not in "ZX":
            found.append(name.partition("(")[2])
    return found


def killed(kind: Kind, out: Path, moment: float, *more: str) -> tuple[str, bool]:
    """Start a run and kill it after so many seconds; returns what it was at, and whether a process of it lives on."""
    running = start(kind, out, *more)
    running.join(moment)
    running.kill()
    running.join()
    finished = running.exitcode == 0
    assert running.pid is not None
    stage = "done" if finished else kind.stage(out)
    deadline = time.monotonic() + 30
    while alive(running.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return stage, bool(alive(running.pid))


def disturb(kind: Kind, folder: Path, times: int, draw: random.Random) -> list[object]:
    """A row of the table."""
    shutil.rmtree(folder / "whole", ignore_errors=True)
    finish(start(kind, folder / "whole"), folder)
    shutil.rmtree(folder / "whole")
    began = time.monotonic()
    well, said = finish(start(kind, folder / "whole"), folder)
    if not well:
        raise SystemExit(f"{kind.name}: {said}")
    seconds, expected = time.monotonic() - began, kind.content(folder / "whole")
    stages: Counter[str] = Counter()
    same = orphans = refused = 0
    for number in range(times):
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        more: Sequence[str] = ()
        for _ in range(draw.choice((1, 1, 2, 3))):
            stage, left = killed(kind, out, draw.uniform(0, seconds), *more)
            stages[stage] += 1
            orphans += left
            more = ("--resume",)
        well, said = finish(start(kind, out, *more), folder)
        if not well:
            refused += 1
            print(f"{kind.name}, {number}: {said}", file=sys.stderr)  # noqa: T201
            continue
        found = kind.content(out)
        differs = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        if differs:
            print(f"{kind.name}, {number}: other {', '.join(differs)}", file=sys.stderr)  # noqa: T201
        same += not differs
    fell = ", ".join(f"{stage} {count}" for stage, count in sorted(stages.items()))
    return [kind.name, round(seconds, 1), sum(stages.values()), fell, f"{same} of {times}", orphans, refused]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="One kind of run.")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(["wronglung.benchmark.evaluation", "wronglung.adapters.gloria.adapter", "__main__"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            disturb(kind, folder, given.times, random.Random(given.seed))
            for kind in kinds(folder)
            if given.only in (None, kind.name)
        ]
    columns = ("run", "seconds", "kills", "fell on", "same bytes", "left alive", "not resumed")
    print(tabulate(rows, columns, tablefmt="github"))  # noqa: T201


if __name__ == "__main__":
    main()
