"""Training in two processes, on the CPU: started by torchrun, killed, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wronglung.adapters.gloria.adapter import load
from wronglung.adapters.gloria.training.config import load_config
from wronglung.adapters.gloria.training.distributed import processes
from wronglung.adapters.gloria.training.folder import read_state
from wronglung.adapters.gloria.training.run import train
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError

# Batches of 4 of 48 films in 2 processes: 6 of each an epoch, 3 steps of 2 batches.
CHANGES = (
    "epochs=20", "patience=20", "batch_size=4", "accumulate=2", "image.width=4", "validation_instances=0", "optimizer.warmup=2",
    "save_every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_sketch(tmp_path_factory.mktemp("data"), patients=60)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["split"] = "train" if line["patient_id"] < "p048" else "valid"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def command(sketch: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "-m", "wronglung", "train", "--variant", "no-attention", "--dataset", "jsonl", "--data-root", str(sketch),
        "--device", "cpu", "--out", str(out), *(word for one in CHANGES for word in ("--set", one)), *more,
    ]  # fmt: skip


def run(sketch: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(sketch, out, *more),
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def weights(out: Path) -> list[bytes]:
    return [(out / f"{name}.safetensors").read_bytes() for name in ("best", "last")]


@pytest.fixture(scope="module")
def whole(sketch: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(sketch, out)


def test_two_processes_make_one_run(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = whole
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / "best.safetensors")]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [f"epoch {n}" for n in range(1, 21)]
    card: dict[str, Any] = json.loads((out / "card.json").read_text())
    assert card["processes"] == 2
    assert card["epochs"] == 20
    load(out / "best.safetensors")


def test_killed_within_an_epoch_and_gone_on_with_it_ends_with_the_same_weights(
    whole: tuple[Path, subprocess.CompletedProcess[str]], sketch: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    victim = subprocess.Popen(
        command(sketch, out), env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (out / "state.pt").exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    # The launcher passes this on to its processes, which it ends at once; killed itself, it would leave them training.
    victim.send_signal(signal.SIGTERM)
    victim.wait(timeout=120)
    assert read_state(out)["progress"]["epoch"] < 20, "was not killed in time"
    done = run(sketch, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert weights(out) == weights(whole[0])


def test_another_number_of_processes_does_not_go_on_with_it(
    whole: tuple[Path, subprocess.CompletedProcess[str]], sketch: Path
) -> None:
    settings = load_config("no-attention", changes=CHANGES)
    training, validation = (load_dataset("jsonl", sketch, split=split) for split in ("train", "valid"))
    with pytest.raises(WronglungError, match="was started with another number of processes"):
        train(settings, training, validation, whole[0], resume=True)


def test_a_world_without_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    for value, message in (("2", "WORLD_SIZE=2, but no launcher is there"), ("two", "must be a number of processes")):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(WronglungError, match=message), processes("cpu"):
            pass


def test_several_processes_need_a_device_that_they_can_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WronglungError, match="can train on cpu or cuda"), processes("mps"):
        pass
