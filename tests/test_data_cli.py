"""``wronglung data``: detect, validate, convert, fingerprint. (inspect and phantom are tested with what they show and write.)"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzzing.datasets import READERS
from PIL import Image

from wronglung.benchmark.cli import main
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.detect import detect
from wronglung.benchmark.datasets.imagenome_tree import write_tree
from wronglung.benchmark.errors import WronglungError


class Data:
    """Runs ``wronglung data ...``; afterwards ``code``, ``out`` and ``err`` say what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> Data:
        self._monkeypatch.setattr(sys, "argv", ["wronglung", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        self.code = stop.value.code or 0
        self.out, self.err = self._capsys.readouterr()
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Data:
    return Data(monkeypatch, capsys)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Generated films of twelve patients as Chest ImaGenome and MIMIC-CXR-JPG."""
    write_tree(load_dataset("phantom", patients=12, split="all"), tmp_path / "data", image_format="png")
    return tmp_path / "data"


def test_detect_names_the_collections_and_the_command(tree: Path, data: Data) -> None:
    data("detect", tree.parent)
    assert data.code == 0
    for name, split in (("imagenome-gold", None), ("imagenome-silver", "train")):
        (command,) = [line for line in data.out.splitlines() if f"--dataset {name} " in line]
        root = shlex.split(command)[-1]
        assert load_dataset(name, root, split=split).instances
    found = data("detect", tree, "--json").json
    assert {one["dataset"] for one in found} == {"imagenome-gold", "imagenome-silver"}
    assert all(one["complete"] for one in found)


def test_detect_says_what_is_missing(tree: Path) -> None:
    films = tree / "mimic-cxr-jpg"
    films.rename(tree.parent / "elsewhere")
    graphs = next(tree.glob("chest-imagenome*")) / "1.0.0/silver_dataset/scene_graph"
    graphs.with_suffix(".zip").write_bytes(b"PK")
    graphs.rename(tree.parent / "graphs")
    found = {one.dataset: one for one in detect(tree)}
    assert set(found) == {"imagenome-gold", "imagenome-silver"}
    assert not found["imagenome-gold"].complete
    assert "--data-arg images=" in found["imagenome-gold"].notes[0]
    assert "scene_graph.zip is not unpacked" in found["imagenome-silver"].notes[1]


def test_detect_knows_films_without_annotations(tree: Path) -> None:
    next(tree.glob("chest-imagenome*")).rename(tree.parent / "elsewhere")
    (one,) = detect(tree)
    assert (one.dataset, one.what) == (None, "films of MIMIC-CXR-JPG")


def test_detect_tells_formats_apart(tmp_path: Path, sketch_file: Path) -> None:
    assert [one.dataset for one in detect(sketch_file)] == ["jsonl"]
    assert [(one.dataset, one.root) for one in detect(sketch_file.parent)] == [("jsonl", sketch_file.parent)]
    (tmp_path / "other.jsonl").write_text('{"text": "not an instance"}\n')
    (tmp_path / "other.json").write_text('{"text": "not COCO"}\n')
    (tmp_path / "train.csv").write_text("a,b\n")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert detect(tmp_path) == []
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "A dog."}],
        "categories": [],
    }
    (tmp_path / "set.json").write_text(json.dumps(coco))
    assert [one.dataset for one in detect(tmp_path)] == ["coco"]


def test_detect_of_nothing_exits_with_1_and_of_no_place_with_2(tmp_path: Path, data: Data) -> None:
    assert data("detect", tmp_path).code == 1
    assert "nothing known in" in data.err
    assert data("detect", tmp_path, "--json").code == 1
    assert data.json == []
    assert data("detect", tmp_path / "none").code == 2
    assert "does not exist" in data.err
    with pytest.raises(WronglungError, match="does not exist"):
        detect(tmp_path / "none")


def test_validate_decodes_every_image_and_sums_up_by_reason(tree: Path, tmp_path: Path, data: Data) -> None:
    gold = load_dataset("imagenome-gold", tree)
    films = list(dict.fromkeys(one.image.path for one in gold.instances))
    films[0].write_bytes(films[0].read_bytes()[:-300])
    films[1].unlink()
    lost = sum(one.image.path == films[0] for one in gold.instances)
    gone = sum(one.image.path == films[1] for one in gold.instances)
    ledger = tmp_path / "ledger.jsonl"
    given = ("validate", "--dataset", "imagenome-gold", "--data-root", tree)
    summary = data(*given, "--ledger", ledger, "--json", "--workers", "3").json
    assert data.code == 0
    assert summary["images"] == {"decoded": len(films) - 2, "cannot be decoded": 1}
    usable = len(gold.instances) - lost - gone
    assert summary["instances"] == {"usable": usable, "on images that cannot be decoded": lost}
    assert set(summary["left out"]) == {"image_missing", "image_unreadable"}
    assert summary["left out"]["image_unreadable"].startswith(f"1, first {films[0].stem}: ")
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [one["reason"] for one in entries] == ["image_missing", "image_unreadable"]
    assert "image_missing" in data(*given).out


def test_validate_of_nothing_usable_exits_with_1(tree: Path, data: Data) -> None:
    for film in tree.rglob("*.png"):
        film.write_bytes(film.read_bytes()[:60])
    assert data("validate", "--dataset", "imagenome-gold", "--data-root", tree).code == 1
    assert "usable" in data.out
    for film in tree.rglob("*.png"):
        film.unlink()
    next(tree.glob("mimic*/**/p10")).mkdir(exist_ok=True)
    assert data("validate", "--dataset", "imagenome-gold", "--data-root", tree).code == 1
    assert "image_missing" in data.out
    assert not data.err


def test_validate_of_a_damaged_table_names_it(tree: Path, data: Data) -> None:
    table = next(tree.rglob("gold_object_attribute_with_coordinates.txt"))
    table.write_text("a\tb\n1\t2\n")
    assert data("validate", "--dataset", "imagenome-gold", "--data-root", tree).code == 2
    assert data.err.startswith(f"wronglung: {table}: no column ")


@pytest.mark.parametrize("images", ["reference", "png", "jpg"])
def test_convert_writes_what_the_printed_options_read(tree: Path, tmp_path: Path, data: Data, images: str) -> None:
    out = tmp_path / "con verted"
    given = ("--dataset", "imagenome-gold", "--data-root", tree)
    data("convert", *given, "--out", out, "--images", images)
    assert data.code == 0
    printed = shlex.split(data.out)
    own = data("fingerprint", *given, "--json").json
    again = data("fingerprint", *printed, "--json").json
    assert (own["ids"], own["annotations"]) == (again["ids"], again["annotations"])
    assert data("convert", *given, "--out", out).code == 2
    assert "is not empty; give a new folder" in data.err


def test_convert_to_a_hugging_face_dataset(tree: Path, tmp_path: Path, data: Data) -> None:
    pytest.importorskip("wronglung.benchmark.datasets.huggingface_writer")
    given = ("--dataset", "imagenome-gold", "--data-root", tree)
    data("convert", *given, "--out", tmp_path / "out", "--to", "huggingface")
    assert data.code == 0
    printed = shlex.split(data.out)
    own = data("fingerprint", *given, "--json").json
    assert data("fingerprint", *printed, "--json").json["annotations"] == own["annotations"]


def test_fingerprints_tell_ids_annotations_and_images_apart(tree: Path, data: Data) -> None:
    given = ("fingerprint", "--dataset", "imagenome-gold", "--data-root", tree, "--images", "--json")
    first = data(*given).json
    table = next(tree.rglob("gold_object_attribute_with_coordinates.txt"))
    text = table.read_text()
    table.write_text(text.replace("lung", "LUNG"))
    second = data(*given).json
    assert (second["ids"], second["images"]) == (first["ids"], first["images"])
    assert second["annotations"] != first["annotations"]
    table.write_text(text)
    film = next(tree.rglob("*.png"))
    Image.new("L", Image.open(film).size, 7).save(film)
    third = data(*given).json
    assert (third["ids"], third["annotations"]) == (first["ids"], first["annotations"])
    assert third["images"] != first["images"] or film.stem not in {
        one.image_id for one in load_dataset("imagenome-gold", tree).instances
    }
    plain = data("fingerprint", "--dataset", "phantom:32", "--data-arg", "patients=4")
    assert [line.split("\t")[0] for line in plain.out.splitlines()] == ["dataset", "instances", "ids", "annotations"]


def test_a_run_records_the_printed_fingerprints(tree: Path, tmp_path: Path, data: Data) -> None:
    from wronglung import evaluate, load_model

    printed = data("fingerprint", "--dataset", "imagenome-gold", "--data-root", tree, "--images", "--json").json
    run = evaluate(load_model("uniform"), load_dataset("imagenome-gold", tree), "smoke").run.dataset
    assert (run.ids_fingerprint, run.fingerprint, run.images_fingerprint) == (
        printed["ids"], printed["annotations"], printed["images"],
    )  # fmt: skip


@pytest.mark.parametrize("tree_name", sorted({tree for tree, _ in READERS.values()}))
def test_what_detect_prints_reads_every_collection(tmp_path: Path, tree_name: str) -> None:
    """From the folder above, from the folder, and from the file that told."""
    (tmp_path / "data").mkdir()
    given = importlib.import_module(f"trees.{tree_name}").write(tmp_path / "data")
    readers = {reader for reader, (tree, _) in READERS.items() if tree == tree_name}
    found = detect(tmp_path)
    assert {one.dataset for one in found} == readers
    for one in [*found, *(inner for outer in found for inner in detect(outer.evidence))]:
        assert one.complete, one
        assert one.dataset in readers
        options = dict(zip(one.options[::2], one.options[1::2], strict=True))
        key, _, value = options.get("--data-arg", "").partition("=")
        split = options.get("--split", "all" if one.dataset == "imagenome-silver" else None)
        assert load_dataset(one.dataset or "", one.root, split=split, **({key: value} if key else {})).instances
    assert {one.dataset for one in detect(given)} <= readers


@pytest.mark.parametrize(
    "tree_name", sorted({tree for tree, _ in READERS.values()} - {"jsonl", "coco", "huggingface", "imagenome"})
)
def test_detect_says_that_the_images_are_missing(tmp_path: Path, tree_name: str) -> None:
    (tmp_path / "data").mkdir()
    importlib.import_module(f"trees.{tree_name}").write(tmp_path / "data")
    for file in tmp_path.rglob("*"):
        if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".dcm", ".dicom"):
            file.unlink()
    for one in detect(tmp_path):
        assert not one.complete
        assert any("--data-arg images=" in note for note in one.notes)


def test_runs_are_no_datasets(tmp_path: Path, sketch_file: Path) -> None:
    from wronglung import evaluate, load_model

    (tmp_path / "run").mkdir()
    evaluate(load_model("uniform"), load_dataset("jsonl", sketch_file), "smoke").save(tmp_path / "run")
    assert detect(tmp_path) == []


def test_nothing_outside_of_the_folder_is_read_by_the_way(tree: Path, tmp_path: Path, data: Data) -> None:
    (tmp_path / "empty").mkdir()
    assert data("inspect", "--dataset", "imagenome-gold", "--data-root", tmp_path / "empty").code == 2
    assert "no Chest ImaGenome found" in data.err


def test_a_ledger_replaces_no_file(tree: Path, data: Data) -> None:
    table = next(tree.rglob("gold_object_attribute_with_coordinates.txt"))
    before = table.read_bytes()
    given = ("--dataset", "imagenome-gold", "--data-root", tree, "--ledger", table)
    assert data("validate", *given).code == 2
    assert "exists; give a new file" in data.err
    assert table.read_bytes() == before


def test_convert_leaves_out_what_cannot_be_decoded_and_a_failure_leaves_nothing(
    tree: Path, tmp_path: Path, data: Data
) -> None:
    gold = load_dataset("imagenome-gold", tree)
    film = gold.instances[0].image.path
    film.write_bytes(film.read_bytes()[:-300])
    given = (
        "convert",
        "--dataset",
        "imagenome-gold",
        "--data-root",
        tree,
        "--images",
        "png",
        "--out",
        tmp_path / "out",
    )
    assert data(*given).code == 0
    assert "note: 1 images left out, they cannot be decoded; first " in data.err
    again = load_dataset("jsonl", tmp_path / "out")
    assert len(again.instances) == sum(one.image.path != film for one in gold.instances)
    for one in gold.instances:
        one.image.path.write_bytes(b"")
    assert data(*given[:-1], tmp_path / "none").code == 2
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").iterdir())


def test_images_that_are_linked_within_the_root_are_referred_to(tmp_path: Path, data: Data) -> None:
    for folder in ("set/images", "set/store"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("L", (40, 30)).save(tmp_path / "set/store/abc.png")
    (tmp_path / "set/images/a.png").symlink_to("../store/abc.png")
    line = {"id": "a", "image": "images/a.png", "sentence": "A.", "boxes": [{"name": "", "box": [1, 1, 9, 9]}]}
    (tmp_path / "set/set.jsonl").write_text(json.dumps(line))
    data("convert", "--dataset", "jsonl", "--data-root", tmp_path / "set", "--out", tmp_path / "out")
    assert data("fingerprint", *shlex.split(data.out)).code == 0
