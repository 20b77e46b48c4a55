"""Damage every kind of file that a user or a stranger can hand in, at random, and see what becomes of it.

    PYTHONPATH=tests python tests/fuzz.py [--inputs 10000] [--target NAME] [--seed 0] [--list]

An input passes when it is read, or refused with one clear message. It fails where reading raises anything else, shows a
traceback, runs code, reaches for the network, writes elsewhere, leaves half of a result, takes more than five seconds of computing
or a gigabyte of memory. Each target is read in a process of its own; one that dies with it is a failure of its last input.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUCK = 60
"""Seconds after which an input that not even a signal ends takes its process with it."""
SHOWN = 5
"""Failures of a target after which it is given up."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="repeatable; by default all")
    parser.add_argument("--inputs", type=int, default=1000, help="for each target")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="after which a target ends, whatever is left"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--note", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.note is not None:
        return _one(given.target[0], given.seed, given.inputs, given.seconds, given.note)
    from fuzzing.all_targets import TARGETS

    if given.list:
        sys.stdout.write("\n".join(TARGETS) + "\n")
        return 0
    return max([_all_inputs(name, given.seed, given.inputs, given.seconds) for name in given.target or TARGETS])


def _all_inputs(name: str, first: int, inputs: int, seconds: float) -> int:
    """Run a target's inputs, each time anew behind one that its process died of."""
    started, done, refused, failures, end = time.monotonic(), 0, 0, 0, first + inputs
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        while first < end and failures < SHOWN:
            note.write_text("")
            command = [sys.executable, __file__, "--target", name, "--seed", str(first), "--inputs", str(end - first)]
            command += ["--seconds", str(seconds - (time.monotonic() - started))]
            code = subprocess.run([*command, "--note", str(note)], check=False).returncode
            seed, now_done, now_refused, now_failed = (
                int(one) for one in (note.read_text() or f"{first} 0 0 1").split()
            )
            done, refused, failures = done + now_done, refused + now_refused, failures + now_failed
            if code in (0, 1):
                break
            failures += bool(note.read_text())
            sys.stdout.write(f"{name}: seed {seed}: the process ended with {code}\n")
            first = seed + 1
    sys.stdout.write(
        f"{name}: {done} inputs, {done - refused - failures} read, {refused} refused, {failures} failures, "
        f"{time.monotonic() - started:.0f} s\n"
    )
    sys.stdout.flush()
    return int(failures > 0)


def _one(name: str, first: int, inputs: int, seconds: float, note: Path) -> int:
    from fuzzing.all_targets import TARGETS
    from fuzzing.target import Fuzzer

    os.environ["HF_HUB_OFFLINE"] = "1"
    failures, until = 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, note.open("w") as progress:
        fuzzer = Fuzzer(TARGETS[name], Path(folder))
        for seed in range(first, first + inputs):
            progress.seek(0)
            progress.write(f"{seed} {seed - first + 1} {fuzzer.outcomes['refused']} {failures}")
            progress.flush()
            faulthandler.dump_traceback_later(STUCK, exit=True)
            fault = fuzzer.once(seed)
            faulthandler.cancel_dump_traceback_later()
            if fault is not None:
                failures += 1
                sys.stdout.write(fault + "\n")
                sys.stdout.flush()
            if failures >= SHOWN or time.monotonic() > until:
                break
        progress.seek(0)
        progress.write(f"{seed} {seed - first + 1} {fuzzer.outcomes['refused']} {failures}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
