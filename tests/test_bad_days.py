"""What happens to a run on a bad day: killed, stopped, without room, without its folder; and how it goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from split_films import with_splits
from test_cli import refused, wronglung

from wronglung.benchmark import one_run
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.locking import locked
from wronglung.benchmark.run_folder import claimed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs signals, mounts and processes that are forked")

PATIENTS = 24
PART = 16
"""Images in a part here, as many as in a chunk: of 24, the second part has 8."""

MODEL = '''
import os, shutil, signal, subprocess
from pathlib import Path
import numpy as np
import torch
from wronglung import Alignment, Geometry, ModelCard

class Model:
    """Looks at brightness; at its 17th image, something happens."""

    def __init__(self):
        self.card = ModelCard(name="bright", saliency_method="brightness", map_kind="score")
        self.seen, self.happens = set(), os.environ.get("HAPPENS", "")

    def align(self, images, sentences):
        self.seen.update(image.id for image in images)
        if len(self.seen) > 16 and self.happens:
            happens, self.happens = self.happens, ""
            exec(happens)
        maps = []
        for image, sentence in zip(images, sentences):
            small = image.pixels.convert("L").resize((8, 8))
            maps.append(torch.from_numpy(np.asarray(small, dtype=np.float32)) + len(sentence))
        geometry = [Geometry.squash(*image.pixels.size, 64, 64) for image in images]
        return Alignment(torch.stack(maps), geometry)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and a model."""
    folder = tmp_path_factory.mktemp("bad")
    write_sketch(folder / "data", patients=PATIENTS)
    (folder / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "PART_IMAGES", PART)


def command(place: Path, out: Path, *more: str) -> list[str]:
    return [
        "run", "-m", f"{place / 'model.py'}:Model", "-d", "jsonl", "--data-root", str(place / "data"), "-s", "smoke",
        "--save-maps", "-q", "-o", str(out), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    """The content of a run that nothing happened to."""
    wronglung(*command(place, place / "whole"))
    return content(place / "whole")


def content(folder: Path) -> dict[str, Any]:
    """All files of a run; of results.json what does not tell of time and effort."""
    results = json.loads((folder / "results.json").read_text())
    for key in ("seconds", "peak_memory_mb", "command", "encoded_images", "encoded_sentences", "aligned_pairs"):
        results["manifest"].pop(key)
    files = {one.name: one.read_bytes() for one in folder.iterdir() if one.name != "results.json"}
    return {**files, "results": results}


def progress(folder: Path) -> tuple[str, int, int]:
    told = json.loads((folder / "progress.json").read_text())
    return told["status"], told["images_done"], told["images"]


Act = Callable[[], None]


def disturbed(arguments: list[str], out: str, log: str, at: int, every: bool, act: str) -> None:
    """In a process of its own: run, and at the ``at``-th operation on a file in the folder ``out`` (and, with ``every``, at all later
    ones) do ``act``; the exit code is the run's."""
    one_run.PART_IMAGES = PART
    # As in a process that was started by itself.
    multiprocessing.set_start_method("fork", force=True)
    count = 0
    acts: dict[str, Act] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
        "count": lambda: None,
    }

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(values[0]).startswith(out):
            count += 1
            if count == at or (every and count > at):
                acts[act]()

    from wronglung.benchmark.cli import main

    sys.addaudithook(hook)
    sys.argv = ["wronglung", *arguments]
    with open(log, "w") as stream, redirect_stdout(stream), redirect_stderr(stream):  # noqa: PTH123
        try:
            main()
        finally:
            if act == "count":
                print(f"operations: {count}", file=stream)


@pytest.fixture(scope="module")
def disturb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run a command line with something happening at a file operation; gives the exit code and what was printed.

    Each has a process of its own, forked from one that has imported everything and done nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "wronglung.benchmark.evaluation",
            "wronglung.benchmark.cli",
            "wronglung.adapters.gloria.training.run",
            "test_bad_days",
        ]
    )
    log = tmp_path_factory.mktemp("log") / "log"

    def start(arguments: list[str], out: Path, at: int, act: str, every: bool = False) -> tuple[int, str]:
        process = context.Process(target=disturbed, args=(arguments, str(out), str(log), at, every, act))
        process.start()
        process.join(120)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode, log.read_text()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield start


class TestStopped:
    def test_killed_at_any_file_operation_it_goes_on_to_the_same_bytes(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], disturb: Callable[..., tuple[int, str]]
    ) -> None:
        code, said = disturb(command(place, tmp_path / "count"), tmp_path / "count", 0, "count")
        assert code == 0, said
        operations = int(said.rpartition("operations: ")[2])
        assert operations > 60
        step = int(os.environ.get("WRONGLUNG_TEST_KILL_STEP", operations // 4))
        for at in range(1 + step // 2, operations + 1, step):
            out = tmp_path / str(at)
            code, said = disturb(command(place, out), out, at, "kill")
            assert code == -signal.SIGKILL, said
            # And once more while it goes on, as far as it gets.
            disturb(command(place, out, "--resume"), out, at // 2, "kill")
            wronglung(*command(place, out, "--resume"))
            assert content(out) == whole

    @pytest.mark.parametrize(("act", "code"), [("terminate", 143), ("interrupt", 130)])
    def test_stopped_politely_it_keeps_what_is_finished_and_says_so(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], disturb: Callable[..., tuple[int, str]],
        act: str, code: int,
    ) -> None:  # fmt: skip
        # Once while the first part is written, once with a signal at every operation from there on.
        for every in (False, True):
            out = tmp_path / str(every)
            found, said = disturb(command(place, out), out, 30, act, every)
            assert found == code or (every and found in (130, 143)), said
            assert "Traceback" not in said
            assert "internal error" not in said
            if not every:
                assert "wronglung: what is finished is kept; go on with --resume\n" in said
                assert progress(out) == ("interrupted", PART, PATIENTS)
                assert "holds an unfinished run (interrupted, at least 16 of 24" in refused(*command(place, out))
            assert not (out / "results.json").exists()
            wronglung(*command(place, out, "--resume"))
            assert content(out) == whole


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset to train on."""
    file = write_sketch(tmp_path_factory.mktemp("films"), patients=24)
    return with_splits(file, file)


def training(films: Path, out: Path, *more: str) -> list[str]:
    changes = ("epochs=3", "batch_size=4", "image.width=4", "validation_instances=0", "save_every=2", "workers=1")
    return [
        "train", "--variant", "retrained", "-d", "jsonl", "--data-root", str(films), "--device", "cpu", "-q", "-o", str(out),
        *(word for change in changes for word in ("--set", change)), *more,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, bytes]:
    return {name: (folder / f"{name}.safetensors").read_bytes() for name in ("best", "last")}


@pytest.fixture(scope="module")
def trained(
    films: Path, disturb: Callable[..., tuple[int, str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, bytes]]:
    """How many operations on files there are, and the weights, of training that nothing happens to."""
    out = tmp_path_factory.mktemp("trained") / "run"
    code, said = disturb(training(films, out), out, 0, "count")
    assert code == 0, said
    return int(said.rpartition("operations: ")[2]), weights(out)


class TestTrainingStopped:
    """As above; every training in a process of its own with one thread, as the number of threads decides on the weights."""

    def test_killed_at_any_file_operation_it_goes_on_to_the_same_weights(
        self,
        films: Path,
        tmp_path: Path,
        trained: tuple[int, dict[str, bytes]],
        disturb: Callable[..., tuple[int, str]],
    ) -> None:
        operations, expected = trained
        assert operations > 30
        step = int(os.environ.get("WRONGLUNG_TEST_KILL_STEP", operations // 3))
        for at in range(1 + step // 2, operations + 1, step):
            out = tmp_path / str(at)
            code, said = disturb(training(films, out), out, at, "kill")
            assert code == -signal.SIGKILL, said
            code, said = disturb(training(films, out, "--resume"), out, 0, "count")
            assert code == 0, said
            assert weights(out) == expected

    @pytest.mark.parametrize(
        ("act", "code", "word"), [("terminate", 143, "terminated"), ("interrupt", 130, "interrupted")]
    )
    def test_stopped_politely_it_says_so_and_goes_on(
        self, films: Path, tmp_path: Path, trained: tuple[int, dict[str, bytes]], disturb: Callable[..., tuple[int, str]],
        act: str, code: int, word: str,
    ) -> None:  # fmt: skip
        operations, expected = trained
        out = tmp_path / "run"
        found, said = disturb(training(films, out), out, operations // 2, act)
        assert found == code
        assert said == f"wronglung: what is saved is kept; go on with --resume\nwronglung: {word}\n"
        found, said = disturb(training(films, out, "--resume"), out, 0, "count")
        assert found == 0, said
        assert weights(out) == expected


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, in which a folder "run" may be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode != 0:
        pytest.skip("only root may mount")
    try:
        yield folder / "run"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(run: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", run.parent], check=True)


def happens(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What happens when the first part is done."""
    monkeypatch.setenv("HAPPENS", what)


class TestFolder:
    def test_no_room_for_a_part(
        self, place: Path, disk: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        happens(monkeypatch, f"subprocess.run('cat /dev/zero > {disk.parent}/rest', shell=True, stderr=-3)")
        said = refused(*command(place, disk))
        assert "cannot be written: " in said
        assert "o space left" in said
        assert not (disk / "results.json").exists()
        (disk.parent / "rest").unlink()
        happens(monkeypatch, "")
        wronglung(*command(place, disk, "--resume"))
        assert content(disk) == whole

    @pytest.mark.parametrize("name", ["maps.safetensors", "results.json"])
    def test_no_room_for_the_results(
        self, place: Path, disk: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        from wronglung.benchmark import results

        rest = disk.parent / "rest"
        write = results.write_whole

        def full(target: Path, fill: Callable[[Path], object], keep: bool = True) -> None:
            if target.name == name and not rest.exists():
                subprocess.run(f"cat /dev/zero > {rest}", shell=True, stderr=subprocess.DEVNULL)
            write(target, fill, keep)

        with monkeypatch.context() as patch:
            patch.setattr(results, "write_whole", full)
            said = refused(*command(place, disk))
        assert f"{name}: cannot be written: " in said
        assert "o space left" in said
        assert sorted(one.name for one in disk.iterdir()) == ["parts", "progress.json"]
        assert rest.stat().st_size
        rest.unlink()
        wronglung(*command(place, disk, "--resume"))
        assert content(disk) == whole

    def test_read_only_from_one_moment_on(
        self, place: Path, disk: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bind = f"mount --bind {disk} {disk} && mount -o remount,bind,ro {disk}"
        happens(monkeypatch, f"subprocess.run({bind!r}, shell=True, check=True)")
        assert "cannot be written: Read-only file system" in refused(*command(place, disk))
        assert "Read-only file system" in refused(*command(place, disk, "--resume"))
        subprocess.run(["umount", disk], check=True)
        happens(monkeypatch, "")
        wronglung(*command(place, disk, "--resume"))
        assert content(disk) == whole

    @pytest.mark.parametrize("instead", ["nothing", "file"])
    def test_gone_from_one_moment_on(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, instead: str
    ) -> None:
        out = tmp_path / "run"
        then = f"; Path({str(out)!r}).write_text('mine')" if instead == "file" else ""
        happens(monkeypatch, f"shutil.rmtree({str(out)!r}){then}")
        assert "cannot be written: No" in refused(*command(place, out))
        if instead == "file":
            assert out.read_text() == "mine"
            assert "cannot be created: File exists" in refused(*command(place, out, "--resume"))
            out.unlink()
        happens(monkeypatch, "")
        wronglung(*command(place, out, "--resume"))
        assert content(out) == whole

    def test_no_room_in_the_feature_cache(self, place: Path, disk: Path, tmp_path: Path) -> None:
        model = ("-m", "gloria-phantom-retrained", "--feature-cache", str(disk.parent / "cache"))
        arguments = [*command(place, tmp_path / "run")[3:], *model]
        remount(disk, "size=64k")
        said = refused("run", *arguments)
        assert "cache" in said
        assert "cannot be written: " in said
        remount(disk, "size=64m")
        wronglung("run", *arguments, "--resume")
        assert list((disk.parent / "cache").glob("*/images-*.safetensors"))

    def test_odd_names_links_and_a_model_that_changes_the_directory(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "Läufe und mehr").mkdir()
        (tmp_path / "link").symlink_to("Läufe und mehr")
        monkeypatch.chdir(tmp_path)
        happens(monkeypatch, "os.chdir('/')")
        wronglung(*command(place, Path("link/ρun 1")))
        assert content(tmp_path / "Läufe und mehr/ρun 1") == whole
        assert not Path("/link").exists()


class TestOneAtATime:
    def test_a_second_run_into_the_folder_is_refused_and_the_first_is_not_disturbed(
        self, place: Path, tmp_path: Path
    ) -> None:
        with claimed(tmp_path, resume=False, overwrite=False) as claim:
            claim.begin({}, 1)
            for flags in ((), ("--resume",), ("--overwrite",)):
                assert "another run is writing to this folder (process" in refused(*command(place, tmp_path, *flags))
            assert progress(tmp_path) == ("running", 0, 1)

    def test_nor_does_a_second_training(self, tmp_path: Path) -> None:
        common = ("train", "--variant", "retrained", "--data-arg", "patients=20", "-q", "-o", tmp_path)
        with locked(tmp_path, lambda: "the first"):
            for flags in ((), ("--resume",), ("--overwrite",)):
                assert "another process trains into this folder; wait for it" in refused(*common, *flags)


class TestClock:
    def test_nothing_depends_on_it(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 2e9

        def backwards() -> float:
            nonlocal now
            now -= 86_400
            return now

        monkeypatch.setattr(time, "time", backwards)
        monkeypatch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        try:
            wronglung(*command(place, tmp_path / "run"))
        finally:
            monkeypatch.undo()
            time.tzset()
        assert content(tmp_path / "run") == whole


class TestResume:
    def test_a_complete_run_stays_as_it_is(self, place: Path, whole: dict[str, Any]) -> None:
        def state() -> list[tuple[str, int]]:
            return sorted((one.name, one.stat().st_mtime_ns) for one in (place / "whole").iterdir())

        before = state()
        assert "| bright |" in wronglung(*command(place, place / "whole", "--resume")).stdout
        assert state() == before

    def test_another_run_does_not_go_on(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor does one whose suite's file has changed, nor one with another's part, nor one with a damaged part."""
        suite = tmp_path / "suite.yaml"
        suite.write_text(wronglung("show", "smoke").stdout.partition("\n\n")[2])
        out = tmp_path / "run"
        common = [*command(place, out), "-s", str(suite)]
        happens(monkeypatch, "raise KeyboardInterrupt")
        wronglung(*common, code=130)
        happens(monkeypatch, "")
        assert progress(out)[:2] == ("interrupted", PART)
        assert "another seed (0 then, 1 now)" in refused(*common, "--resume", "--seed", "1")
        suite.write_text(suite.read_text().replace("version: '", "version: '1"))
        assert "another suite.version (" in refused(*common, "--resume")
        suite.write_text(suite.read_text().replace("version: '1", "version: '"))
        (part,) = (out / "parts").glob("part-*.json")
        kept = part.read_text()
        told = json.loads(kept)
        part.write_text(json.dumps({**told, "run": "0" * 64}))
        assert "is a part of another run; remove part-000000000.*" in refused(*common, "--resume")
        part.write_text(kept)
        rows = part.with_suffix(".arrow")
        rows.write_bytes(rows.read_bytes()[:-100])
        assert "the part is damaged (part-000000000.arrow is not what was written)" in refused(*common, "--resume")
        for one in (out / "parts").glob("part-000000000.*"):
            one.unlink()
        wronglung(*common, "--resume")
        assert content(out) == whole

    def test_a_dataset_that_has_changed_since_is_another_and_back_again_the_same(
        self, place: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(place / "data", tmp_path / "data")
        arguments = [*command(place, tmp_path / "run"), "--data-root", str(tmp_path / "data")]
        happens(monkeypatch, "raise KeyboardInterrupt")
        wronglung(*arguments, code=130)
        happens(monkeypatch, "")
        gone = max((tmp_path / "data/images").iterdir())
        gone.rename(tmp_path / "kept")
        assert "another dataset (" in refused(*arguments, "--resume")
        (tmp_path / "kept").rename(gone)
        wronglung(*arguments, "--resume")
        assert content(tmp_path / "run") == whole
