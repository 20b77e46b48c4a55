"""One run in several processes: the bytes of a single one, and nothing lost when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from test_bad_days import content
from test_cli import wronglung

from wronglung.benchmark import one_run
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.processes import ALONE, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

PATIENTS = 96
"""As many images: six chunks, two for each of three processes."""

MODEL = '''
import os, time
import numpy as np
import torch
from wronglung import Alignment, Geometry, ModelCard

class Model:
    """Looks at brightness; in one process it may take for ever, fail, or not be there."""

    def __init__(self, bad: str = ""):
        rank = os.environ.get("RANK", "0")
        if bad == "load" and rank == "1":
            raise RuntimeError("not here")
        self.fails = bad == "align" and rank == "1"
        self.card = ModelCard(name="bright", saliency_method="brightness", map_kind="score")
        self.slow, self.seen = os.environ.get("SLOW") == rank, set()

    def align(self, images, sentences):
        self.seen.update(image.id for image in images)
        if self.slow and len(self.seen) > 16:
            time.sleep(600)
        if self.fails:
            raise RuntimeError("no")
        maps = [np.asarray(one.pixels.convert("L").resize((8, 8)), dtype=np.float32) for one in images]
        geometry = [Geometry.squash(*one.pixels.size, 64, 64) for one in images]
        return Alignment(torch.from_numpy(np.stack(maps)), geometry)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_sketch(folder / "data", patients=PATIENTS)
    (folder / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    """The content of a run in one process."""
    wronglung(*arguments(place, place / "whole"))
    return content(place / "whole")


def arguments(place: Path, out: Path, *more: str) -> list[str]:
    return [
        "run", "-m", f"{place / 'model.py'}:Model", "-d", "jsonl", "--data-root", str(place / "data"), "-s", "smoke",
        "--save-maps", "-q", "-o", str(out), *more,
    ]  # fmt: skip


ACCELERATE = Path(sys.executable).parent / "accelerate"
LAUNCHERS = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        str(ACCELERATE), "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--main_process_port", "0",
    ],
}  # fmt: skip


@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_two_processes_make_the_bytes_of_one(place: Path, tmp_path: Path, whole: dict[str, Any], launcher: str) -> None:
    if launcher == "accelerate" and not ACCELERATE.exists():
        pytest.skip("accelerate is not installed")
    done = subprocess.run(
        [*LAUNCHERS[launcher], "-m", "wronglung", *arguments(place, tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("### sketch · smoke 1.0 · all ·") == 1, "one of them prints"
    assert content(tmp_path / "run") == whole


def ranked(rank: int, count: int, port: int, command: list[str], log: str) -> None:
    """In a process of its own: run as a launcher would have it."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    from wronglung.benchmark.cli import main

    sys.argv = ["wronglung", *command]
    with Path(f"{log}.{rank}").open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
        main()


class Ranks:
    """Processes of one run, forked from one that has imported everything: no launcher watches over them."""

    def __init__(self, count: int, command: list[str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["wronglung.benchmark.evaluation", "wronglung.benchmark.cli", "test_bad_days"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._log = log
        self.processes = [
            context.Process(target=ranked, args=(rank, count, port, command, str(log))) for rank in range(count)
        ]
        for one in self.processes:
            one.start()

    def codes(self) -> list[int | None]:
        """Their exit codes."""
        for one in self.processes:
            one.join(120)
        return [one.exitcode for one in self.processes]

    def said(self) -> list[str]:
        return [Path(f"{self._log}.{rank}").read_text() for rank in range(len(self.processes))]


def test_a_process_that_is_killed_takes_nobodys_work_along(
    place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of three is killed in its second chunk, and two go on."""
    out = tmp_path / "run"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with monkeypatch.context() as patch:
        patch.setenv("SLOW", "2")
        three = Ranks(3, arguments(place, out), tmp_path / "log")
        deadline = time.monotonic() + 120
        # The others finish all of theirs.
        while len(list((out / "parts").glob("part-*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        three.processes[2].kill()
        assert three.codes() == [2, 2, -signal.SIGKILL]
    for said in three.said()[:2]:
        assert said.count("\n") == 1
        assert "another process of this run has stopped or cannot be reached; what is finished is kept" in said
    assert not (out / "results.json").exists()
    # All of the others' share of 32 images each; the killed one's, if it had written it by then.
    assert re.search(r"failed, at least (64|80|96) of 96 images done", wronglung(*arguments(place, out), code=2).stderr)
    two = Ranks(2, arguments(place, out, "--resume"), tmp_path / "log")
    assert two.codes() == [0, 0]
    assert content(out) == whole
    assert two.said()[1] == ""


def test_what_one_process_cannot_do_none_does(
    place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fails in one process has failed, one that cannot be loaded in one is loaded in none; others go on."""
    sweep = tmp_path / "sweep.yaml"
    model = f"{place / 'model.py'}:Model"
    sweep.write_text(
        f"models:\n- {{model: '{model}', name: well}}\n- {{model: '{model}', name: fails, arguments: {{bad: align}}}}\n"
        f"- {{model: '{model}', name: missing, arguments: {{bad: load}}}}\n"
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [*arguments(place, tmp_path / "runs"), "--sweep", str(sweep)]
    two = Ranks(2, [command[0], *command[3:]], tmp_path / "log")
    assert two.codes() == [2, 0]
    said = two.said()[0]
    assert "2 of 3 models failed: " in said
    assert "fails: model 'bright' failed for instance " in said
    assert "missing: model " in said
    assert "cannot be made: RuntimeError: not here" in said
    assert content(tmp_path / "runs/well") == whole
    assert not (tmp_path / "runs/fails/results.json").exists()


def test_a_run_that_may_not_go_on_is_not_touched_by_any(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "PART_IMAGES", 16)
        patch.setattr(type(ALONE), "share", lambda self, items: items[::2])
        wronglung(*arguments(place, out), code=2)
    before = {one.name: one.read_bytes() for one in (out / "parts").iterdir()}
    two = Ranks(2, arguments(place, out, "--resume", "--seed", "1"), tmp_path / "log")
    assert two.codes() == [2, 2]
    for said in two.said():
        assert "another seed (0 then, 1 now)" in said
    assert {one.name: one.read_bytes() for one in (out / "parts").iterdir()} == before


def test_a_folder_that_the_others_do_not_share_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the main process says when it finds its own parts only."""
    monkeypatch.setattr(one_run, "PART_IMAGES", 16)
    monkeypatch.setattr(type(ALONE), "share", lambda self, items: items[::2])
    said = wronglung(*arguments(place, tmp_path / "run"), code=2).stderr
    assert "48 of 96 images are in no part" in said
    assert "must be on a file system that all processes share. --resume evaluates what is missing" in said
    monkeypatch.undo()
    wronglung(*arguments(place, tmp_path / "run", "--resume"))


def test_a_world_without_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    for value, message in (("2", "WORLD_SIZE=2, but no launcher is there"), ("two", "must be a number of processes")):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(WronglungError, match=message), processes():
            pass
