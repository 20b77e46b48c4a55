"""Several models in one go: which, into which folders, and that none of them can tell that it was not alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_cli import Done, wronglung

from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import ImageRef, Instance
from wronglung.benchmark.plan import Plan
from wronglung.benchmark.results import INSTANCES, RESULTS, SKIPPED
from wronglung.benchmark.sweep import Entry, entries_of, read_sweep

FLOORS = ("oracle", "center-prior", "random")

MODELS = '''
from pathlib import Path

import torch

from wronglung import Alignment, Geometry, ModelCard

HERE = Path(__file__).parent
CARD = {"saliency_method": "column of the sentence's length", "map_kind": "score", "mass": "softmax"}


class Steady:
    card = ModelCard(name="steady", **CARD)

    def align(self, images, sentences):
        saliency = torch.zeros(len(images), 4, 4)
        for at, sentence in enumerate(sentences):
            saliency[at, :, len(sentence) % 4] = 1
        return Alignment(saliency, [Geometry.squash(*image.pixels.size, 32, 32) for image in images])


class Stumbling(Steady):
    """Fails at the fifth image, as long as there is a file named trouble beside it, with the exception that it names."""

    card = ModelCard(name="stumbling", **CARD)
    seen = ()

    def align(self, images, sentences):
        trouble = HERE / "trouble"
        self.seen = {*self.seen, *(image.id for image in images)}
        if trouble.exists() and len(self.seen) >= 5:
            raise {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt}[trouble.read_text()]("a bad day")
        return super().align(images, sentences)


class Shapeless(Steady):
    card = ModelCard(name="shapeless", **CARD)

    def align(self, images, sentences):
        return Alignment(torch.zeros(3), [])


class Unprepared(Steady):
    card = ModelCard(name="unprepared", **CARD)

    def prepare(self, dataset):
        dataset.boxes_of_all_anatomy


class Unloadable:
    def __init__(self):
        raise RuntimeError("no weights here")


class Cardless:
    pass
'''


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A file of models, good and bad."""
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    return file


def sweep(data: Path, out: Path, *arguments: str | Path, code: int = 0) -> Done:
    given = ("--dataset", "jsonl", "--data-root", data, "--suite", "smoke", "--batch-size", "2", "--quiet")
    return wronglung("run", *given, "--out", out, *arguments, code=code)


def named(*models: str | Path) -> list[str | Path]:
    return [word for one in models for word in ("--model", one)]


def content(run: Path) -> list[Any]:
    """All that a run's files say, but for when and how it was made."""
    results = json.loads((run / RESULTS).read_text())
    results.pop("manifest")
    return [results, (run / INSTANCES).read_bytes(), (run / SKIPPED).read_bytes()]


def folders(out: Path) -> list[str]:
    return sorted(one.name for one in out.iterdir() if (one / RESULTS).exists())


def test_each_run_is_the_one_of_its_model_alone(sketch_file: Path, tmp_path: Path) -> None:
    sweep(sketch_file, tmp_path / "all", *named(*FLOORS))
    for one in FLOORS:
        sweep(sketch_file, tmp_path / "alone" / one, *named(one))
        assert content(tmp_path / "all" / one) == content(tmp_path / "alone" / one)
    assert sorted(one.name for one in (tmp_path / "all" / "oracle").iterdir()) == [INSTANCES, RESULTS, SKIPPED]


def test_images_are_read_and_questions_made_once_for_all(
    sketch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, asked = Counter[str](), Counter[str]()
    read, decoded, ask = ImageRef.read, ImageRef.decoded, Plan._ask

    def counted_read(self: ImageRef) -> bytes:
        files["read " + self.id] += 1
        return read(self)

    def counted_decoded(self: ImageRef, data: bytes, **named: Any) -> Any:
        files["decoded " + self.id] += 1
        return decoded(self, data, **named)

    def counted_ask(self: Plan, instance: Instance) -> Any:
        asked[instance.id] += 1
        return ask(self, instance)

    monkeypatch.setattr(ImageRef, "read", counted_read)
    monkeypatch.setattr(ImageRef, "decoded", counted_decoded)
    monkeypatch.setattr(Plan, "_ask", counted_ask)
    sweep(sketch_file, tmp_path / "together", *named(*FLOORS))
    assert len(asked) == 36
    assert {*files.values(), *asked.values()} == {1}
    sweep(sketch_file, tmp_path / "two-by-two", *named(*FLOORS), "--at-once", "2")
    assert {*files.values(), *asked.values()} == {3}


@pytest.mark.parametrize("trouble", ["ValueError", "KeyboardInterrupt"])
def test_what_is_missing_after_a_bad_day_is_evaluated_when_resumed(
    trouble: str, models: Path, sketch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model's failure stops that model alone, an interrupt all of them; what is finished stays finished."""
    monkeypatch.setattr("wronglung.benchmark.evaluation.CHUNK", 2)
    steady, stumbling = f"{models}:Steady", f"{models}:Stumbling"
    whole, out = tmp_path / "whole", tmp_path / "out"
    sweep(sketch_file, whole, *named("oracle", stumbling, steady))
    expected = {one: content(whole / one) for one in folders(whole)}
    (models.parent / "trouble").write_text(trouble)
    failed = trouble == "ValueError"
    arguments = [*named("oracle", stumbling, steady), "--at-once", "2"]
    done = sweep(sketch_file, out, *arguments, code=2 if failed else 130)
    if failed:
        assert done.stderr.count("\n") == 1
        assert "1 of 3 models failed" in done.stderr
        assert "models.py_Stumbling" in done.stderr
        assert "a bad day" in done.stderr
        assert folders(out) == ["models.py_Steady", "oracle"]
        assert "oracle" in done.stdout
    else:
        assert "--resume" in done.stderr
        assert folders(out) == []
    progress = json.loads((out / "models.py_Stumbling" / "progress.json").read_text())
    assert progress["status"] == ("failed" if failed else "interrupted")
    assert (progress["images_done"], progress["images"]) == (4, 12)
    before = {one: (out / one / RESULTS).stat().st_mtime_ns for one in folders(out)}
    assert "holds" in sweep(sketch_file, out, *arguments, code=2).stderr
    (models.parent / "trouble").unlink()
    sweep(sketch_file, out, *arguments, "--resume")
    assert {one: content(out / one) for one in folders(out)} == expected
    assert {one: (out / one / RESULTS).stat().st_mtime_ns for one in before} == before


def test_models_that_cannot_be_used_leave_the_others_unharmed(models: Path, sketch_file: Path, tmp_path: Path) -> None:
    bad = {
        f"{models}:Unloadable": "no weights here",
        f"{models}:Cardless": "card",
        f"{models}:Shapeless": "shape",
        f"{models}:Unprepared": "model 'unprepared' failed to prepare for dataset 'sketch': AttributeError: ",
        "nonesuch": "unknown model",
    }
    out = tmp_path / "out"
    done = sweep(sketch_file, out, *named("oracle", *bad, "random"), code=2)
    assert folders(out) == ["oracle", "random"]
    assert done.stderr.count("\n") == 1
    assert "5 of 7 models failed" in done.stderr
    for message in bad.values():
        assert message in done.stderr
    assert "oracle" in wronglung("leaderboard", out).stdout


def test_a_sweep_of_bad_models_alone_fails(models: Path, sketch_file: Path, tmp_path: Path) -> None:
    done = sweep(sketch_file, tmp_path / "out", *named(f"{models}:Unloadable", f"{models}:Cardless"), code=2)
    assert "2 of 2 models failed" in done.stderr
    assert done.stdout == ""


def test_a_job_of_an_array_does_one_model(sketch_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (2, 0):
        sweep(sketch_file, out, *named(*FLOORS), "--only", str(number), "--resume")
    assert folders(out) == ["oracle", "random"]
    stamp = (out / "oracle" / RESULTS).stat().st_mtime_ns
    sweep(sketch_file, out, *named(*FLOORS), "--resume")
    assert folders(out) == sorted(FLOORS)
    assert (out / "oracle" / RESULTS).stat().st_mtime_ns == stamp
    assert "numbers 0 to 2" in sweep(sketch_file, out, *named(*FLOORS), "--only", "3", code=2).stderr


def test_json_of_several_runs_is_a_list(sketch_file: Path, tmp_path: Path) -> None:
    runs = json.loads(sweep(sketch_file, tmp_path / "out", *named(*FLOORS[:2]), "--json").stdout)
    assert [one["model"]["role"] for one in runs] == ["ceiling", "floor"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model NAME"),
        (["--model", "oracle", "--sweep", "sweep.yaml"], "--model NAME"),
        (["--model", "oracle", "--model", "random", "--model-arg", "seed=1"], "sweep file"),
        (["--model", "oracle", "--model", "random", "--tracker", "tensorboard"], "--only"),
        (["--model", "oracle", "--model", "oracle"], "'oracle'"),
        (["--sweep", "missing.yaml"], "missing.yaml"),
    ],
)
def test_refused_before_anything_is_made(arguments: list[str], message: str, sketch_file: Path, tmp_path: Path) -> None:
    done = sweep(sketch_file, tmp_path / "out", *arguments, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_processes_share_the_images_of_every_model(models: Path, sketch_file: Path, tmp_path: Path) -> None:
    arguments = named("oracle", f"{models}:Shapeless", f"{models}:Steady")
    sweep(sketch_file, tmp_path / "one", *arguments, code=2)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "wronglung", "run",
            "--dataset", "jsonl", "--data-root", str(sketch_file), "--suite", "smoke", "--batch-size", "2", "--quiet",
            "--out", str(tmp_path / "two"), *map(str, arguments),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("1 of 3 models failed") == 1
    assert len(folders(tmp_path / "one")) == 2
    assert folders(tmp_path / "two") == folders(tmp_path / "one")
    for one in folders(tmp_path / "one"):
        assert content(tmp_path / "two" / one) == content(tmp_path / "one" / one)


def written(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text)
    return file


def test_a_sweep_file_says_models_arguments_and_folders(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
models:
  - oracle
  - {model: gloria, name: epoch 10, arguments: {checkpoint: e10.ckpt, no_attention: true, seed: 3}}
  - {model: open-clip, each: {method: [gradcam, value]}, arguments: {model: ViT-B-16/openai}}
  - {model: gloria, each: {checkpoint: 1}}
""",
    )
    assert read_sweep(file) == [
        Entry("oracle", "oracle"),
        Entry("gloria", "epoch_10", {"checkpoint": "e10.ckpt", "no_attention": "true", "seed": "3"}),
        Entry("open-clip", "open-clip-gradcam", {"model": "ViT-B-16/openai", "method": "gradcam"}),
        Entry("open-clip", "open-clip-value", {"model": "ViT-B-16/openai", "method": "value"}),
        Entry("gloria", "gloria-1", {"checkpoint": "1"}),
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("train/*/best.pt", ["gloria-a", "gloria-b"]),
        ("train/*/*.pt", ["gloria-a_best", "gloria-b_best", "gloria-b_last"]),
        ("train/[b]/*.pt", ["gloria-b_best", "gloria-b_last"]),
        ("train/b/????.pt", ["gloria-best", "gloria-last"]),
        ("**/last.pt", ["gloria-train_b"]),
    ],
)
def test_a_pattern_is_a_run_for_each_file_named_after_what_differs(
    pattern: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/best", "b/best", "b/last"):
        (tmp_path / "train" / f"{name}.pt").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / f"{name}.pt").touch()
    file = written(tmp_path, f"models: [{{model: gloria, each: {{checkpoint: '{pattern}'}}}}]")
    found = read_sweep(file)
    assert [one.folder for one in found] == expected
    assert all(Path(one.arguments["checkpoint"]).exists() for one in found)
    file.write_text(file.read_text().replace(pattern, str(tmp_path / pattern)))
    assert [one.folder for one in read_sweep(file)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []", "models"),
        ("models: oracle", "models"),
        ("models: [{model: ''}]", "model"),
        ("models: [{model: oracle, argument: {}}]", "argument"),
        ("models: [{model: gloria, each: {a: 1, b: 2}}]", "each"),
        ("models: [{model: gloria, each: {a: 'none/*.pt'}}]", "no file matches 'none/*.pt'"),
        ("models: [{model: gloria, arguments: {a: 1}, each: {a: 2}}]", "leave one of them out"),
        ("models: [oracle, {model: random, name: Oracle}]", "'oracle'"),
        ("models: [{model: gloria, each: {a: [x/y, x_y]}}]", "'gloria-x_y'"),
        ("models: [!!python/object/apply:os.system [ls]]", "YAML"),
        ("- oracle", "mapping"),
    ],
)
def test_what_is_no_sweep_is_refused_with_the_file(text: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(WronglungError) as refused:
        read_sweep(file)
    assert message in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/passwd", "..", "a/../../b", "", "x" * 500, "."])
def test_folders_stay_below_the_one_given(name: str) -> None:
    (entry,) = entries_of([name])
    assert entry.folder not in ("", ".", "..")
    assert "/" not in entry.folder
    assert len(entry.folder) <= 100
