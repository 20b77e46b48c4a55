"""Files that were made to do harm, through every door that reads a stranger's file.

What single readers refuse is tested beside them (pickles in ``test_gloria_checkpoint``, ``test_convert`` and ``test_dataset_refcoco``; paths in
``test_dataset_rules`` and ``test_dataset_huggingface``; bombs in ``test_decoding`` and ``test_dataset_tables``; markup in ``test_report`` and
``test_compare_render``). Here a user runs a command, and the command must end well.
"""

from __future__ import annotations

import builtins
import csv
import io
import json
import os
import pickle
import resource
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzzing.checkpoints import tiny, write_gloria
from fuzzing.command_line import run
from fuzzing.guard import watched
from PIL import Image
from split_films import with_splits

from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import load_run

RUN = Path(__file__).parent / "data" / "results" / "now"

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command that must be refused, and return its message; it writes below the test's folder only, and to the place
    for temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def refuse(*arguments: object) -> str:
        with watched(tmp_path, temporary), pytest.raises(WronglungError) as caught:
            run(*arguments)
        return str(caught.value)

    return refuse


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A run of one's own, to be damaged."""
    return Path(shutil.copytree(RUN, tmp_path / "own"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    raw = json.loads((folder / "results.json").read_text())
    change(raw)
    (folder / "results.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture
def films(sketch_file: Path, tmp_path: Path) -> Path:
    """The generated films with splits."""
    shutil.copytree(sketch_file.parent, tmp_path / "films")
    return with_splits(sketch_file, tmp_path / "films" / "split.jsonl")


def training(films: Path, folder: Path) -> list[object]:
    changes = ["epochs=1", "batch_size=4", "image.width=4", "validation_instances=0"]
    return [
        "train", "--variant", "retrained", "--dataset", "jsonl", "--data-root", films, "--device", "cpu", "--quiet",
        "--out", folder / "trained", *(one for change in changes for one in ("--set", change)),
    ]  # fmt: skip


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class TestPickles:
    @pytest.fixture
    def marker(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "executed"
        yield path
        assert not path.exists(), "the file's code was run"

    @pytest.fixture(params=["zip", "legacy", "in the place of a weight"])
    def checkpoint(self, request: pytest.FixtureRequest, marker: Path, tmp_path: Path) -> Path:
        attacks = [Calls(os.system, f"touch {marker}"), Calls(builtins.exec, f"open({str(marker)!r}, 'w')")]
        content: Any = attacks
        if request.param == "in the place of a weight":
            content = {"state_dict": {**tiny(), "no_attn_vec": attacks[0]}, "more": attacks}
        torch.save(content, tmp_path / "hostile.ckpt", _use_new_zipfile_serialization=request.param != "legacy")
        return tmp_path / "hostile.ckpt"

    def test_as_a_model(self, checkpoint: Path, sketch_file: Path, tmp_path: Path, refused: Refused) -> None:
        out = tmp_path / "run"
        message = refused(
            "run", "--model", "gloria", "--model-arg", f"checkpoint={checkpoint}", "--dataset", "jsonl", "--data-root", sketch_file,
            "--suite", "smoke", "--out", out,
        )  # fmt: skip
        assert "hostile.ckpt" in message
        assert not (out / "results.json").exists()

    def test_to_be_converted(self, checkpoint: Path, tmp_path: Path, refused: Refused) -> None:
        assert "hostile.ckpt" in refused("convert-checkpoint", checkpoint, tmp_path / "out.safetensors")
        assert not list(tmp_path.glob("out.*"))

    def test_to_start_training_from(self, checkpoint: Path, films: Path, tmp_path: Path, refused: Refused) -> None:
        assert "hostile.ckpt" in refused(*training(films, tmp_path), "--set", f"init={checkpoint}")

    def test_as_a_state_to_go_on_from(self, checkpoint: Path, films: Path, tmp_path: Path, refused: Refused) -> None:
        (tmp_path / "trained").mkdir()
        shutil.copy(checkpoint, tmp_path / "trained" / "state.pt")
        assert "state.pt: is damaged" in refused(*training(films, tmp_path), "--resume")


YAML = {
    "a tag that makes an object": "a: !!python/object/apply:os.system ['touch executed']",
    "a tag that imports": "a: !!python/name:os.system",
    "a bomb of aliases": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "a bomb of merges": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}",
    "a key given twice": "name: a\nname: b",
    "a huge number": "name: " + "9" * 5000,
    "a number in sixties": "name: " + ":".join(["59"] * 3000),
    "itself": "&a {b: *a}",
    "depth": "a: " + "[" * 3000 + "]" * 3000,
    "more depth": "[" * 60_000,
    "a lone surrogate": 'name: "\\ud800"',
    "a control character": "name: a\x1b[2J",
    "length": "a: b\n" + "# more\n" * 100_000,
    "not UTF-8": "name: \udcff",
    "no mapping": "- 1",
}
YAML_DOORS: dict[str, tuple[object, ...]] = {
    "suite": (
        "run", "--model", "uniform", "--dataset", "phantom", "--data-arg", "patients=3", "--out", "OUT", "--suite", "FILE",
    ),
    "columns": ("leaderboard", RUN, "--columns", "FILE"),
    "gates": ("compare", RUN, RUN, "--gate", "FILE"),
    "training": ("train", "--variant", "retrained", "--show-config", "--config", "FILE"),
    "definition": ("show", "FILE"),
}  # fmt: skip


@pytest.mark.parametrize("door", YAML_DOORS)
def test_yaml_that_is_more_than_values_is_refused(door: str, tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "hostile.yaml"
    for what, text in YAML.items():
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        named = {"FILE": file, "OUT": tmp_path / "out"}
        message = refused(*(named.get(str(one), one) for one in YAML_DOORS[door]))
        assert "hostile.yaml" in message, what
    assert not (tmp_path / "executed").exists()


class TestPaths:
    OUTSIDE = ("../secret.png", "/etc/hostname", "..\\secret.png", "a/../../secret.png", "secret\0.png")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        Image.new("L", (40, 40)).save(tmp_path / "secret.png")
        (tmp_path / "data").mkdir()
        return tmp_path / "data"

    @pytest.mark.parametrize("path", OUTSIDE)
    def test_images_of_a_dataset_lie_below_its_root(self, path: str, place: Path, refused: Refused) -> None:
        row = {"id": "a", "image": path, "sentence": "The lung.", "boxes": [{"name": "a", "box": [0, 0, 9, 9]}]}
        (place / "set.jsonl").write_text(json.dumps(row) + "\n")
        message = refused("data", "inspect", "--dataset", "jsonl", "--data-root", place / "set.jsonl")
        assert "not-found" in message or "outside" in message or "no usable instance" in message

    @pytest.mark.parametrize("path", OUTSIDE)
    def test_maps_lie_below_their_index(
        self, path: str, place: Path, sketch_file: Path, tmp_path: Path, refused: Refused
    ) -> None:
        with (place / "index.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["image_id", "sentence", "file"], ["p000", "Text.", path]])
        (place / "model.json").write_text('{"name": "a", "method": "b"}')
        message = refused(
            "run", "--model", "precomputed", "--model-arg", f"maps={place}", "--dataset", "jsonl", "--data-root", sketch_file,
            "--suite", "smoke", "--out", tmp_path / "run",
        )  # fmt: skip
        assert "leads out of the folder" in message or "cannot be read" in message

    def test_names_out_of_runs_are_no_file_names(self, own: Path, tmp_path: Path) -> None:
        """Of a model, a dataset, a suite's task and a subset: whatever a run calls them, the report chooses its own files."""
        rewrite(
            own,
            lambda raw: (
                raw["model"].update(name="../../escaped", role="model"),
                raw["dataset"].update(name="/escaped"),
            ),
        )
        with watched(tmp_path):
            run("report", own, "--out", tmp_path / "deep" / "report")
            run(
                "leaderboard", own, "--format", "huggingface", "--dataset-id", "a/b", "--out", tmp_path / "deep" / "hub"
            )
        assert {one.name for one in tmp_path.iterdir()} == {"own", "deep"}
        assert {one.name for one in (tmp_path / "deep").iterdir()} == {"report", "hub"}
        assert not [one for one in (tmp_path / "deep" / "report").rglob("*") if "escaped" in one.name]


MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"&{{ 7 * 7 }}|\n| --- |\n`x` [a](javascript:alert(1)) \\input{x} $x$ % # _"


@pytest.mark.parametrize("fmt", ["markdown", "latex", "csv", "html", "parquet", "huggingface"])
def test_markup_in_names_stays_text_in_tables(fmt: str, own: Path, tmp_path: Path) -> None:
    rewrite(
        own,
        lambda raw: (
            raw["model"].update(name=MARKUP, role="model", settings={MARKUP: MARKUP}),
            raw["dataset"].update(name=MARKUP),
        ),
    )
    out = tmp_path / "board"
    run(
        "leaderboard",
        own,
        RUN,
        "--format",
        fmt,
        "--out",
        out,
        *(["--dataset-id", "a/b"] if fmt == "huggingface" else []),
    )
    written = "".join(one.read_text(errors="replace") for one in [out, *out.rglob("*")] if one.is_file())
    if fmt == "html":
        assert "<script>alert" not in written
        assert "<img" not in written
    elif fmt == "latex":
        assert "\\input" not in written
    elif fmt == "markdown":
        assert "<script>" not in written
        assert "<img" not in written
        tables = [block.splitlines() for block in written.split("\n\n") if block.startswith("|")]
        for table in tables:
            assert len({len(line.replace("\\|", "").split("|")) for line in table}) == 1, table


def test_markup_in_names_stays_text_on_pages(own: Path, tmp_path: Path) -> None:
    rewrite(
        own,
        lambda raw: (
            raw["model"].update(name=MARKUP, role="model", settings={MARKUP: MARKUP}),
            raw["dataset"].update(name=MARKUP),
        ),
    )
    run("report", own, RUN, "--out", tmp_path / "report", "--title", MARKUP)
    for page in (tmp_path / "report").rglob("*"):
        if page.suffix in (".html", ".js") and page.parent.name != "assets":
            assert "<script>alert" not in page.read_text()
            assert "<img src=x" not in page.read_text()


@pytest.mark.parametrize("verb", ["leaderboard RUN", "compare RUN RUN", "paper localization RUN"])
def test_escapes_in_names_do_not_reach_the_terminal(verb: str, own: Path) -> None:
    escape = "\x1b]0;owned\x07\x1b[2J\r\u202e\u0085model"
    rewrite(own, lambda raw: (raw["model"].update(name=escape), raw["dataset"].update(name=escape)))
    printed = run(*(own if one == "RUN" else one for one in verb.split()))
    assert not set("\x1b\x07\r\x85\u202e") & set(printed)


def test_escapes_in_file_names_do_not_reach_the_terminal(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    assert "\x1b" not in refused("leaderboard", folder)


class TestBombs:
    def test_a_picture_of_a_billion_pixels(self, tmp_path: Path, refused: Refused) -> None:
        """Sixty kilobytes of zeros."""
        Image.new("1", (32_000, 32_000)).save(tmp_path / "bomb.png")
        row = {"id": "a", "image": "bomb.png", "sentence": "The lung.", "boxes": [{"name": "a", "box": [0, 0, 9, 9]}]}
        (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
        refused("data", "inspect", "--dataset", "jsonl", "--data-root", tmp_path / "set.jsonl")

    def test_a_table_of_a_billion_rows(self, own: Path, refused: Refused) -> None:
        """Runs of equal values are a few bytes long."""
        frame = pq.read_table(own / "instances.parquet").slice(0, 1).to_pandas()
        rows = 20_000_000
        columns = {
            name: pa.array(np.zeros(rows, dtype=np.int8)) for name in ("instance_id", "cluster", "task", "changed")
        }
        assert set(columns) <= set(frame)
        pq.write_table(pa.table(columns), own / "instances.parquet", compression="zstd", row_group_size=rows)
        assert (own / "instances.parquet").stat().st_size < 400_000
        assert "claims 20,000,000 rows" in refused("compare", own, RUN)

    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize(
        "instructions",
        [
            # What is called by a name of a megabyte, which torch looks at again and again before it says that it knows none such.
            b"\x80\x02ctorch\n" + 1_000_000 * b"x" + b"\n.",
            # A thing of another package, to be remembered as number two billion.
            b"\x80\x02cother\nThing\nr\xff\xff\xff\x7f.",
        ],
        ids=["name", "number"],
    )
    def test_a_pickle(self, instructions: bytes, packed: bool, tmp_path: Path, films: Path, refused: Refused) -> None:
        path = tmp_path / "hostile.ckpt"
        torch.save({}, path, _use_new_zipfile_serialization=packed)
        if packed:
            with zipfile.ZipFile(path) as archive:
                records = {one.filename: archive.read(one) for one in archive.infolist()}
            with zipfile.ZipFile(path, "w") as archive:
                for name, record in records.items():
                    archive.writestr(name, instructions if name.endswith("/data.pkl") else record)
        else:
            path.write_bytes(path.read_bytes().replace(pickle.dumps({}, 2), instructions, 1))
            assert instructions in path.read_bytes()
        message = refused("convert-checkpoint", path, tmp_path / "out.safetensors")
        assert "hostile.ckpt" in message
        assert len(message) < 1000
        (tmp_path / "trained").mkdir()
        shutil.copy(path, tmp_path / "trained" / "state.pt")
        message = refused(*training(films, tmp_path), "--resume")
        assert "state.pt: is damaged" in message
        assert len(message) < 1000

    def test_results_nested_without_end(self, own: Path, refused: Refused) -> None:
        (own / "results.json").write_text('{"model": ' * 100_000)
        assert "cannot be read as JSON" in refused("leaderboard", own)
        (own / "results.json").write_text("[" * 100_000 + "]" * 100_000)
        assert "cannot be read as JSON" in refused("leaderboard", own)

    def test_results_of_two_hundred_megabytes(self, own: Path, refused: Refused) -> None:
        text = (own / "results.json").read_text()
        with (own / "results.json").open("w") as stream:
            stream.write(text.rstrip().removesuffix("}") + ', "padding": "')
            for _ in range(200):
                stream.write("x" * 1_000_000)
            stream.write('"}')
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        assert "is larger than" in refused("leaderboard", own)
        assert time.process_time() - started < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024

    def test_a_metric_of_a_thousand_letters(self, own: Path, refused: Refused) -> None:
        rewrite(own, lambda raw: raw["suite"]["metrics"].append(1000 * "x"))
        message = refused("leaderboard", own)
        assert "results.json" in message
        assert "at most 100 characters" in message

    def test_a_number_of_a_million_digits(self, own: Path, refused: Refused) -> None:
        text = (own / "results.json").read_text()
        (own / "results.json").write_text(text.replace('"threads": ', '"threads": ' + "9" * 1_000_000, 1))
        assert "results.json" in refused("leaderboard", own)

    def test_a_map_that_claims_a_terabyte(self, tmp_path: Path, sketch_file: Path, refused: Refused) -> None:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "<f4", "fortran_order": False, "shape": (500_000, 500_000)}
        )
        (tmp_path / "map.npy").write_bytes(head.getvalue())
        (tmp_path / "index.csv").write_text("image_id,sentence,file\np000,Text.,map.npy\n")
        message = refused(
            "run", "--model", "precomputed", "--model-arg", f"maps={tmp_path}", "--model-arg", "name=a", "--model-arg", "method=b",
            "--dataset", "jsonl", "--data-root", sketch_file, "--suite", "smoke", "--out", tmp_path / "run",
        )  # fmt: skip
        assert "map.npy" in message


@pytest.fixture(params=["pipe", "device", "loop"])
def odd(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Put something in the place of a file that is no regular file."""

    def replace(path: Path) -> Path:
        path.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            path.symlink_to(path.name)
        return path

    return replace


class TestWhatIsNoFile:
    """Nothing waits for a pipe that nobody writes to, and nothing reads a device until memory ends."""

    @pytest.mark.parametrize(
        "verb", ["leaderboard RUN", "compare RUN RUN", "paper localization RUN", "report RUN --out OUT"]
    )
    def test_results(self, verb: str, odd: Callable[[Path], Path], own: Path, tmp_path: Path, refused: Refused) -> None:
        odd(own / "results.json")
        named = {"RUN": own, "OUT": tmp_path / "out"}
        assert "own" in refused(*(named.get(one, one) for one in verb.split()))

    def test_instances(self, odd: Callable[[Path], Path], own: Path, refused: Refused) -> None:
        odd(own / "instances.parquet")
        assert "instances.parquet" in refused("compare", own, RUN)

    def test_baselines(self, odd: Callable[[Path], Path], tmp_path: Path, refused: Refused) -> None:
        assert "base.parquet" in refused("compare", odd(tmp_path / "base.parquet"), RUN)

    @pytest.mark.parametrize("door", YAML_DOORS)
    def test_yaml(self, door: str, odd: Callable[[Path], Path], tmp_path: Path, refused: Refused) -> None:
        named = {"FILE": odd(tmp_path / "odd.yaml"), "OUT": tmp_path / "out"}
        assert "odd.yaml" in refused(*(named.get(str(one), one) for one in YAML_DOORS[door]))

    @pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
    def test_checkpoints(
        self, suffix: str, odd: Callable[[Path], Path], tmp_path: Path, sketch_file: Path, refused: Refused
    ) -> None:
        file = odd(tmp_path / f"odd.{suffix}")
        assert "odd" in refused("convert-checkpoint", file, tmp_path / "out.safetensors")
        message = refused(
            "run", "--model", "gloria", "--model-arg", f"checkpoint={file}", "--dataset", "jsonl", "--data-root", sketch_file,
            "--suite", "smoke", "--out", tmp_path / "run",
        )  # fmt: skip
        assert "odd" in message

    @pytest.mark.parametrize("name", ["index.csv", "index.parquet", "model.json", "map.npy"])
    def test_maps(
        self, name: str, odd: Callable[[Path], Path], tmp_path: Path, sketch_file: Path, refused: Refused
    ) -> None:
        maps = tmp_path / "maps"
        maps.mkdir()
        np.save(maps / "map.npy", np.ones((2, 2), dtype=np.float32))
        frame = pd.DataFrame([{"image_id": "p000", "sentence": "Text.", "file": "map.npy"}])
        if name == "index.parquet":
            frame.to_parquet(maps / name)
        else:
            frame.to_csv(maps / "index.csv", index=False)
        (maps / "model.json").write_text('{"name": "a", "method": "b"}')
        odd(maps / name)
        message = refused(
            "run", "--model", "precomputed", "--model-arg", f"maps={maps}", "--dataset", "jsonl", "--data-root", sketch_file,
            "--suite", "smoke", "--out", tmp_path / "run",
        )  # fmt: skip
        assert str(maps) in message

    def test_boxes(self, odd: Callable[[Path], Path], tmp_path: Path, sketch_file: Path, refused: Refused) -> None:
        message = refused(
            "run", "--model", "box-file", "--model-arg", f"file={odd(tmp_path / 'odd.jsonl')}", "--dataset", "jsonl",
            "--data-root", sketch_file, "--suite", "smoke", "--out", tmp_path / "run",
        )  # fmt: skip
        assert "odd.jsonl" in message

    def test_datasets(self, odd: Callable[[Path], Path], tmp_path: Path, refused: Refused) -> None:
        assert "odd.jsonl" in refused(
            "data", "inspect", "--dataset", "jsonl", "--data-root", odd(tmp_path / "odd.jsonl")
        )


def test_a_run_behind_a_link_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(RUN, target_is_directory=True)
    assert load_run(tmp_path / "link").model["name"] == "oracle"


def test_what_is_hostile_here_is_read_where_it_is_not(tmp_path: Path, sketch_file: Path) -> None:
    """The same doors, with files that mean well."""
    write_gloria(tmp_path)
    printed = run(
        "run", "--model", "gloria", "--model-arg", f"checkpoint={tmp_path / 'own.safetensors'}", "--dataset", "jsonl", "--data-root",
        sketch_file, "--suite", "smoke", "--limit", "3", "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert "gloria" in printed
