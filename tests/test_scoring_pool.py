"""Scoring in other processes: the same rows, and a clear end when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_bad_days import command, content
from test_cli import refused, wronglung

from wronglung.adapters.gloria.training.config import load_config
from wronglung.adapters.gloria.training.run import train
from wronglung.adapters.gloria.training.trainer import Trainer
from wronglung.benchmark import one_run
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.scoring_pool import default_scoring_workers, scorer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

MODEL = '''
import multiprocessing, os, signal
import numpy as np
import torch
from wronglung import Alignment, Geometry, ModelCard

class Model:
    """Looks at brightness; at its 33rd image, the processes that score may be killed."""

    def __init__(self):
        self.card = ModelCard(name="bright", saliency_method="brightness", map_kind="score")
        self.seen = set()

    def align(self, images, sentences):
        self.seen.update(image.id for image in images)
        if len(self.seen) > 32 and "KILL_SCORERS" in os.environ:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
        maps = [np.asarray(one.pixels.convert("L").resize((8, 8)), dtype=np.float32) for one in images]
        geometry = [Geometry.squash(*one.pixels.size, 64, 64) for one in images]
        return Alignment(torch.from_numpy(np.stack(maps)), geometry)
'''


def test_rows_are_the_same_and_a_dead_process_ends_the_run_and_nothing_that_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_run, "PART_IMAGES", 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_sketch(tmp_path / "data", patients=48)
    (tmp_path / "model.py").write_text(MODEL)
    # What lies beside a model never takes the place of Python's own modules.
    (tmp_path / "copy.py").write_text("raise ImportError('not this one')")
    wronglung(*command(tmp_path, tmp_path / "whole"))
    whole = content(tmp_path / "whole")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setenv("KILL_SCORERS", "1")
        said = refused(*command(tmp_path, out, "--scoring-workers", "1"))
    assert "a process that scores maps has died" in said
    assert "--resume goes on" in said
    assert not multiprocessing.active_children()
    # In time for how many chunks it died is chance; with none finished, nothing is left.
    resumed = ("--resume", "--scoring-workers", "1")
    wronglung(*command(tmp_path, out, *resumed))
    assert content(out) == whole


def test_an_interrupt_while_they_start_is_not_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C goes to all processes of a terminal; the first import of torch takes seconds."""
    with scorer(1) as score:
        waiting = score(None, None)  # type: ignore[arg-type]
        (child,) = multiprocessing.active_children()
        assert child.pid is not None
        for _ in range(10):
            os.kill(child.pid, signal.SIGINT)
            time.sleep(0.02)
        # It lives, and says what is wrong with the question.
        with pytest.raises(AttributeError):
            waiting()
    assert capfd.readouterr().err == ""
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_how_many_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [default_scoring_workers(*one) for one in ((10, False), (10_000, False), (10_000, True))] == [0, 8, 0]
    for local, workers in (("4", 4), ("many", 8), ("0", 8)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        assert default_scoring_workers(10_000, False) == workers


@pytest.mark.parametrize(
    "death",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        ConnectionResetError(104, "reset"),
        EOFError(),
    ],
)
def test_a_dead_decoder_ends_training_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: Exception
) -> None:
    """However torch notices it: by the child's signal, or while it reads from it."""

    def dies(*_: Any) -> Any:
        raise death

    monkeypatch.setattr(Trainer, "epochs", dies)
    data = load_dataset("jsonl", write_sketch(tmp_path / "data", patients=12))
    with pytest.raises(
        WronglungError, match="a process that decodes films has died .*--resume goes on from the last saved"
    ):
        train(load_config("retrained", changes=("batch_size=8", "image.width=4")), data, data, tmp_path / "run")
