"""The command line end to end: what it prints, what it writes, and how it says no."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from wronglung.benchmark.cli import main
from wronglung.benchmark.results import INSTANCES, MAPS, PAIRS, RESULTS, SKIPPED, load_run


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


def wronglung(*arguments: str | Path, code: int = 0) -> Done:
    """Run a command in this process, and expect an exit code."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["wronglung", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def refused(*arguments: str | Path, code: int = 2) -> str:
    """The one line that a refusal prints."""
    done = wronglung(*arguments, code=code)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def run_folder(sketch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "oracle"
    wronglung("run", "-m", "oracle", "-d", "jsonl", "--data-root", sketch_file, "-o", out, "--save-maps")
    return out


class TestRun:
    def test_writes_the_four_files_whole(self, run_folder: Path) -> None:
        assert sorted(path.name for path in run_folder.iterdir()) == sorted((RESULTS, INSTANCES, SKIPPED, MAPS, PAIRS))
        run = load_run(run_folder)
        assert run.status == "complete"
        assert run.model["name"] == "oracle"
        assert run.dataset.n_instances == 36
        assert run.manifest.command[:3] == ["wronglung", "run", "-m"]
        assert {"decoding", "alignment", "scoring", "summary", "total"} <= run.manifest.seconds.keys()
        assert len(pd.read_parquet(run_folder / INSTANCES)) == 36 * 7

    def test_files_are_readable_by_others(self, run_folder: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        for path in run_folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask

    def test_prints_a_table_and_json(self, sketch_file: Path, tmp_path: Path) -> None:
        common = ("run", "-m", "uniform", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke")
        table = wronglung(*common, "-o", tmp_path / "a")
        assert "| uniform |" in table.stdout
        assert "36 instances, 12 patients" in table.stdout
        assert "note: 12 patients; intervals are unreliable under 50" in table.stderr
        printed = json.loads(wronglung(*common, "-o", tmp_path / "b", "--json", "-q").stdout)
        assert printed["scores"] == json.loads((tmp_path / "a" / RESULTS).read_text())["scores"]

    def test_a_limit_is_recorded_and_said(self, sketch_file: Path, tmp_path: Path) -> None:
        done = wronglung(
            "run", "-m", "uniform", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "-o", tmp_path, "--limit", "5"
        )  # fmt: skip
        assert "note: partial run, the first 5 instances only" in done.stderr
        assert load_run(tmp_path).dataset.limit == 5

    def test_takes_a_model_from_a_file_with_arguments(self, sketch_file: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "import torch\n"
            "from wronglung import Alignment, Geometry, ModelCard\n"
            "class Mine:\n"
            "    def __init__(self, size: int = 4):\n"
            "        self.size = size\n"
            "        self.card = ModelCard(name=f'mine-{size}', saliency_method='ones', map_kind='score')\n"
            "    def align(self, images, sentences):\n"
            "        geometry = [Geometry.squash(*one.pixels.size, 64, 64) for one in images]\n"
            "        return Alignment(torch.ones(len(images), self.size, self.size), geometry)\n"
        )
        common = ("-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "-m", f"{tmp_path / 'mine.py'}:Mine")
        wronglung("run", *common, "-o", tmp_path / "run", "--model-arg", "size=3")
        assert load_run(tmp_path / "run").model["name"] == "mine-3"
        assert "size: Input should be a valid integer" in refused(
            "run", *common, "-o", tmp_path / "no", "--model-arg", "size=big"
        )
        assert "colour: unknown key (arguments: size)" in refused(
            "run", *common, "-o", tmp_path / "no", "--model-arg", "colour=red"
        )
        checked = wronglung("check", f"{tmp_path / 'mine.py'}:Mine")
        assert "ok     deterministic" in checked.stdout

    def test_environment_variables_stand_for_flags(
        self, sketch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"SUITE": "smoke", "MODEL": "uniform", "SEED": "7"}.items():
            monkeypatch.setenv(f"WRONGLUNG_RUN_{name}", value)
        wronglung("run", "-d", "jsonl", "--data-root", sketch_file, "-o", tmp_path)
        assert (load_run(tmp_path).suite["name"], load_run(tmp_path).manifest.seed) == ("smoke", 7)


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["-m", "unifrom"], "unknown model 'unifrom'; did you mean uniform"),
            (["-d", "jsonll"], "unknown dataset 'jsonll'; did you mean jsonl?"),
            (["-s", "wrong-lun"], "unknown suite 'wrong-lun'"),
            (["--data-root", "/nowhere/at/all"], "/nowhere/at/all does not exist"),
            (["-m", "nowhere.py:Model"], "no file nowhere.py"),
            (["--model-arg", "size"], "write it as KEY=VALUE"),
            (["--batch-size", "many"], "must be a number of at least 1, or auto"),
            (["--batch-size", "0"], "must be a number of at least 1, or auto"),
            (["--device", "warp"], "device 'warp' cannot be used here"),
            (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
            (["--dtype", "float8"], "unknown dtype 'float8'"),
        ],
    )
    def test_bad_flags(self, flags: list[str], message: str, sketch_file: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        given = {"-m": "uniform", "-d": "jsonl", "--data-root": str(sketch_file), "-s": "smoke", "-o": str(out)}
        given |= dict(zip(flags[::2], flags[1::2], strict=True))
        assert message in refused("run", *(part for pair in given.items() for part in pair))
        assert not out.exists() or not list(out.iterdir())

    def test_usage_errors_exit_with_two(self) -> None:
        assert "No such option" in wronglung("run", "--modell", "x", code=2).stderr
        assert "Missing option" in wronglung("run", "-m", "uniform", code=2).stderr

    def test_a_finished_run_is_not_replaced_unasked(self, run_folder: Path, sketch_file: Path) -> None:
        before = (run_folder / RESULTS).read_bytes()
        common = ("run", "-m", "uniform", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "-o", run_folder)
        assert "holds a run already" in refused(*common)
        assert (run_folder / RESULTS).read_bytes() == before

    def test_an_overwritten_run_leaves_nothing_behind(self, sketch_file: Path, tmp_path: Path) -> None:
        common = ("run", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "-o", tmp_path, "-q")
        wronglung(*common, "-m", "uniform", "--save-maps")
        wronglung(*common, "-m", "random", "--overwrite")
        assert load_run(tmp_path).model["name"] == "random"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted((RESULTS, INSTANCES, SKIPPED))

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_folder(self, sketch_file: Path, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        common = ("run", "-m", "uniform", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke")
        assert "cannot be written" in refused(*common, "-o", tmp_path)

    def test_a_folder_that_cannot_be_made_or_is_no_folder(self, sketch_file: Path, tmp_path: Path) -> None:
        common = ("run", "-m", "uniform", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke")
        (tmp_path / "file").write_text("")
        assert "cannot be created" in refused(*common, "-o", tmp_path / "file" / "run")
        assert "cannot be written" in refused(*common, "-o", "/proc/self")

    @pytest.mark.skipif(sys.platform == "win32", reason="needs file-size limits")
    def test_a_full_disk_leaves_what_is_finished_and_no_results(self, sketch_file: Path, tmp_path: Path) -> None:
        # A file-size limit stands for a full disk: writes beyond it fail, as they do without space.
        out = tmp_path / "run"
        command = (
            f"ulimit -f 8; trap '' XFSZ; exec '{sys.executable}' -m wronglung run -m uniform -d jsonl "
            f"--data-root '{sketch_file}' -o '{out}' -q"
        )
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 2, done.stderr
        assert "cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
        assert sorted(path.name for path in out.iterdir()) in ([], ["parts", "progress.json"])
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]

    def test_an_adapter_that_fails_is_named(self, sketch_file: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text(
            "from wronglung import ModelCard\n"
            "class Bad:\n"
            "    card = ModelCard(name='bad', saliency_method='none', map_kind='score')\n"
            "    def align(self, images, sentences):\n"
            "        return 1 / 0\n"
            "def broken(): raise RuntimeError('no weights\\nat all')\n"
            "def leaving(): raise SystemExit(0)\n"
            "thing = 3\n"
        )
        common = ("run", "-d", "jsonl", "--data-root", sketch_file, "-s", "smoke", "-o", tmp_path / "out")
        assert "model 'bad' failed for instance p000-" in refused(*common, "-m", f"{tmp_path / 'bad.py'}:Bad")
        assert "is not a class or function" in refused(*common, "-m", f"{tmp_path / 'bad.py'}:thing")
        assert "defines no 'Missing'" in refused(*common, "-m", f"{tmp_path / 'bad.py'}:Missing")
        assert "cannot be made: SystemExit: 0" in refused(*common, "-m", f"{tmp_path / 'bad.py'}:leaving")
        assert "cannot be made: RuntimeError: no weights at all" in refused(
            *common, "-m", f"{tmp_path / 'bad.py'}:broken"
        )
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_empty_dataset(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jsonl").write_text("")
        message = refused("data", "inspect", "-d", "jsonl", "--data-root", tmp_path / "empty.jsonl")
        assert "holds no usable instance" in message


class TestLists:
    def test_list_names_everything(self) -> None:
        tables = json.loads(wronglung("list", "--json").stdout)
        assert {"models", "datasets", "suites", "tasks", "perturbations", "subsets", "metrics"} <= tables.keys()
        assert {"name": "uniform", "origin": "wronglung"}.items() <= tables["models"][0].items()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("wrong-lung", "upsampling: bilinear"),
            ("swap_left_right", "expected: decrease"),
            ("mdrb", "= 0.1"),
            ("auroc", "higher is better"),
            ("entropy", "never ranked on"),
            ("gloria", "checkpoint"),
            ("jsonl", "dataset jsonl"),
        ],
    )
    def test_show_explains_a_name(self, name: str, text: str) -> None:
        assert text in wronglung("show", name).stdout

    def test_show_refuses_an_unknown_name(self) -> None:
        assert "nothing is called 'frobnicate'" in refused("show", "frobnicate")

    def test_nothing_in_a_message_drives_the_terminal(self) -> None:
        assert "?[31mgone: does not exist" in refused("leaderboard", "\x1b[31mgone")


class TestCheck:
    @pytest.mark.parametrize("model", ["random", "oracle"])
    def test_shipped_models_pass(self, model: str) -> None:
        checks = json.loads(wronglung("check", model, "--json").stdout)
        assert len(checks) >= 5
        assert all(one["outcome"] != "failed" for one in checks)

    def test_a_name_may_carry_its_first_argument(self) -> None:
        assert "ok     shapes" in wronglung("check", "center-prior:0.3").stdout
        assert "width" in wronglung("show", "center-prior:0.3").stdout

    def test_a_bad_adapter_fails_with_one(self, tmp_path: Path) -> None:
        (tmp_path / "noisy.py").write_text(
            "import torch\n"
            "from wronglung import Alignment, Geometry, ModelCard\n"
            "class Noisy:\n"
            "    card = ModelCard(name='noisy', saliency_method='dice', map_kind='distribution')\n"
            "    def align(self, images, sentences):\n"
            "        geometry = [Geometry.squash(*one.pixels.size, 64, 64) for one in images]\n"
            "        return Alignment(torch.rand(len(images), 4, 4), geometry)\n"
        )
        done = wronglung("check", f"{tmp_path / 'noisy.py'}:Noisy", code=1)
        assert "FAILED deterministic" in done.stdout
        assert "FAILED map kind" in done.stdout
        assert "ok     shapes" in done.stdout

    def test_a_geometry_that_is_not_true_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "crop.py").write_text(
            "import numpy as np, torch\n"
            "from wronglung import Alignment, Geometry, ModelCard\n"
            "class Crop:\n"
            "    card = ModelCard(name='crop', saliency_method='contrast', map_kind='score')\n"
            "    def __init__(self, honest: bool):\n"
            "        self.honest = honest\n"
            "    def align(self, images, sentences):\n"
            "        maps, where = [], []\n"
            "        for image in images:\n"
            "            width, height = image.pixels.size\n"
            "            side = min(width, height)\n"
            "            left, top, scale = (width - side) // 2, (height - side) // 2, 224 / side\n"
            "            square = image.pixels.convert('L').crop((left, top, left + side, top + side)).resize((28, 28))\n"
            "            maps.append(torch.from_numpy(np.abs(np.asarray(square, dtype=np.float32) - 100)))\n"
            "            true = Geometry(width, height, 224, 224, scale, scale, -left * scale, -top * scale)\n"
            "            where.append(true if self.honest else Geometry.squash(width, height, 224, 224))\n"
            "        return Alignment(torch.stack(maps), where)\n"
        )
        name = f"{tmp_path / 'crop.py'}:Crop"
        wronglung("check", name, "--model-arg", "honest=yes")
        done = wronglung("check", name, "--model-arg", "honest=no", code=1)
        assert "FAILED geometry against a moving patch: the stated geometry explains" in done.stdout


class TestData:
    def test_inspect_counts_and_draws(self, sketch_file: Path, tmp_path: Path) -> None:
        arguments = ("data", "inspect", "-d", "jsonl", "--data-root", sketch_file)
        summary = json.loads(wronglung(*arguments, "--json").stdout)
        assert summary["dataset"]["instances"] == 36
        assert summary["instances by subset"]["all"] == 36
        assert summary["instances by finding"]["pneumothorax (no)"] == 12
        done = wronglung(*arguments, "--overlays", tmp_path / "drawn", "--count", "4", "--ledger")
        assert "written: 4 pictures" in done.stderr
        assert len(list((tmp_path / "drawn").glob("*.png"))) == 4

    def test_inspect_shows_the_ledger(self, sketch_file: Path, tmp_path: Path) -> None:
        shutil.copytree(sketch_file.parent, tmp_path / "data")
        (tmp_path / "data" / "images" / "p003.png").unlink()
        done = wronglung("data", "inspect", "-d", "jsonl", "--data-root", tmp_path / "data", "--ledger")
        assert "image_missing" in done.stdout
        assert "p003.png" in done.stdout


class TestLeaderboard:
    def test_prints_runs_and_published_rows(self, run_folder: Path) -> None:
        text = wronglung("leaderboard", run_folder, "--published", "--subset", "one_lung").stdout
        assert "| oracle " in text
        assert "GLoRIA †" in text
        assert "not rerun" in text
        assert "· all ·" not in text

    def test_writes_latex_and_csv(self, run_folder: Path, tmp_path: Path) -> None:
        for fmt, mark in (("latex", "\\toprule"), ("csv", "original.auroc.low")):
            wronglung("leaderboard", run_folder.parent, "-f", fmt, "-o", tmp_path / fmt)
            assert mark in (tmp_path / fmt).read_text()

    def test_refuses_what_is_no_run(self, tmp_path: Path) -> None:
        assert "nothing to show" in refused("leaderboard")
        assert "no run here" in refused("leaderboard", tmp_path)
        assert "does not exist" in refused("leaderboard", tmp_path / "gone")
        (tmp_path / RESULTS).write_text('{"schema_version": 2}')
        assert "schema version 2" in refused("leaderboard", tmp_path)
        (tmp_path / RESULTS).write_text("{]")
        assert "cannot be read as JSON" in refused("leaderboard", tmp_path)
        (tmp_path / RESULTS).write_text('{"schema_version": 1}')
        assert "is not a run of wronglung: status" in refused("leaderboard", tmp_path)
        for text in ("[" * 100_000, '{"status": "\\ud800"}', '{"status": NaN}', '{"status": 1e999}'):
            (tmp_path / RESULTS).write_text(text)
            assert "cannot be read as JSON" in refused("leaderboard", tmp_path)

    def test_refuses_a_run_that_was_tampered_with(self, run_folder: Path, tmp_path: Path) -> None:
        whole = json.loads((run_folder / RESULTS).read_text())
        for key, value in (("model", {}), ("suite", {}), ("scores", [])):
            (tmp_path / RESULTS).write_text(json.dumps({**whole, key: value}))
            assert "is not a run of wronglung" in refused("leaderboard", tmp_path)

    def test_writes_through_links_and_to_regular_files_only(self, run_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "real.md").write_text("old")
        (tmp_path / "link.md").symlink_to(tmp_path / "real.md")
        wronglung("leaderboard", run_folder, "-o", tmp_path / "link.md")
        assert (tmp_path / "link.md").is_symlink()
        assert "oracle" in (tmp_path / "real.md").read_text()
        assert "is not a regular file" in refused("leaderboard", run_folder, "-o", tmp_path)


def test_runs_as_a_module_in_a_process_of_its_own(sketch_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wronglung", "run", "-m", "uniform", "-d", "jsonl", "-s", "smoke"]
    done = subprocess.run(
        [*command, "--data-root", str(sketch_file), "-o", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_run(tmp_path / "run").manifest.command[:2] == ["wronglung", "run"]


def test_demo_on_data_of_ones_own_runs_floors_and_ceilings(sketch_file: Path, tmp_path: Path) -> None:
    done = wronglung("demo", "-o", tmp_path, "-s", "smoke", "-q", "-d", "jsonl", "--data-root", sketch_file)
    order = [line.split("|")[1].strip() for line in done.stdout.split("###")[2].splitlines() if "| " in line][1:7]
    assert order[0] == "oracle"
    assert order[-1] == "mirrored-oracle"
    assert {"leaderboard.md", "leaderboard.tex", "leaderboard.csv", "oracle"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_demo_generates_films_and_says_what_it_does(tmp_path: Path) -> None:
    few = ("--data-arg", "patients=30", "-s", "smoke", "-m", "oracle", "-m", "mirrored-oracle")
    done = wronglung("demo", "-o", tmp_path, *few)
    assert "### phantom · smoke" in done.stdout
    assert "[2/2] mirrored-oracle: " in done.stderr
    assert load_run(tmp_path / "mirrored-oracle").dataset.name == "phantom"
    assert "give --dataset with --data-root" in refused("demo", "-o", tmp_path, "--data-root", tmp_path)
