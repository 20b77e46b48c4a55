"""Scoring in other processes: the same rows, and a clear end when one of them dies."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_bad_days import command, content
from test_cli import refused, wronglung

from wronglung.adapters.gloria.training import folder
from wronglung.adapters.gloria.training.config import load_config
from wronglung.adapters.gloria.training.run import train
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


def test_a_dead_decoder_ends_training_and_it_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("epochs=2", "batch_size=8", "image.width=4", "validation_instances=0", "save_every=1")
    data = load_dataset("jsonl", write_sketch(tmp_path / "data", patients=24))
    train(load_config("retrained", changes=changes), data, data, tmp_path / "whole")
    write, saved = folder.write_state, threading.Event()

    def then_kill(where: Path, state: dict[str, Any]) -> None:
        write(where, state)
        if not saved.is_set():
            saved.set()
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_state", then_kill)
        said = ""
        try:
            train(load_config("retrained", changes=[*changes, "workers=1"]), data, data, tmp_path / "run")
        except WronglungError as error:
            said = str(error)
    # Torch complains about the process, at whatever signal, as long as anybody holds the frames.
    gc.collect()
    assert "a process that decodes films has died (" in said
    assert "--resume goes on from the last saved state" in said
    train(load_config("retrained", changes=changes), data, data, tmp_path / "run", resume=True)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
