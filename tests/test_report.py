"""The report as files: what is in them, what is not, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_runs import HOSTILE, hostile, save_run
from safetensors.torch import load_file, save_file
from test_cli import refused, wronglung

from wronglung import Dataset, load_dataset, load_suite
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import ImageRef
from wronglung.benchmark.results import INSTANCES, MAPS, RESULTS, Score
from wronglung.leaderboard.report import build, figures, write_report
from wronglung.leaderboard.report.gallery import ADDED, LONG_SIDE, REMOVED, difference, small_film
from wronglung.leaderboard.report.groups import load
from wronglung.leaderboard.report.maps import Quantised, SavedMaps, packed, quantise


@pytest.fixture(scope="module")
def data(sketch_file: Path) -> Dataset:
    return hostile(load_dataset("jsonl", sketch_file))


@pytest.fixture(scope="module")
def runs(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [
        save_run(root / "a", "oracle", data),
        save_run(root / "b", "random", data, name=f"mine {HOSTILE}"),
        save_run(root / "c", "uniform", data, maps=False),
    ]


@pytest.fixture(scope="module")
def aggregate(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, tmp_path_factory.mktemp("aggregate") / "report", published=True).parent


@pytest.fixture(scope="module")
def full(runs: list[Path], data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, tmp_path_factory.mktemp("full") / "report", dataset=data).parent


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def piece(folder: Path, name: str) -> object:
    """What a piece of data hands to the browser."""
    text = (folder / "data" / f"{name}.js").read_text(encoding="ascii")
    start = f'wronglung.receive("{name}",'
    assert text.startswith(start)
    return json.loads(text[len(start) : -len(");\n")])


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class TestFigures:
    def test_a_report_has_a_page_per_model_and_a_leaderboard(self, aggregate: Path) -> None:
        pages = sorted(path.name for path in aggregate.glob("*.html"))
        assert pages == ["index.html", "model-01.html", "model-02.html", "model-03.html"]
        index = (aggregate / "index.html").read_text()
        assert all(f'href="{page}"' in index for page in pages[1:])

    def test_without_data_no_text_or_identifier_of_the_dataset_is_in_it(self, aggregate: Path, data: Dataset) -> None:
        names = {one.image.id for one in data.instances}
        for one in data.instances:
            names |= {one.id, one.sentence, str(one.patient_id), str(one.study_id), one.image.path.name}
        for file, text in content(aggregate).items():
            assert b"qzx" not in text, file
            assert not [name for name in names if name.encode() in text], file
        assert not (aggregate / "films").exists()
        assert not (aggregate / "gallery.html").exists()

    def test_the_search_above_would_find_them(self, full: Path, data: Dataset) -> None:
        found = b"".join(content(full).values())
        assert all(f"sentence-{at}-qzx".encode() in found for at in range(len(data.instances)))
        assert b"patient-qzx" not in found

    def test_figures_of_the_browser_are_those_of_the_runs(self, aggregate: Path, runs: list[Path]) -> None:
        board, cells = piece(aggregate, "g1-board"), piece(aggregate, "g1-s0")
        assert isinstance(board, dict)
        assert isinstance(cells, list)
        group = load(runs)[0]
        assert [one["label"] for one in board["models"]][:3] == [one.label for one in group.entries]
        for entry, rows in zip(group.entries, cells, strict=False):
            for task, row in zip(group.tasks, rows, strict=True):
                for metric, cell in zip(group.metrics, row, strict=True):
                    score = entry.scores.get((task["name"], group.subsets[0], metric))
                    assert (cell is None) == (score is None)
                    if score is not None:
                        known = (score.value, score.ci_low, score.ci_high, score.delta)
                        assert cell[:4] == [None if one is None else pytest.approx(one, abs=1e-5) for one in known]

    def test_published_rows_are_marked_as_such(self, aggregate: Path) -> None:
        board = piece(aggregate, "g1-board")
        assert isinstance(board, dict)
        assert next(one["label"] for one in board["models"] if one["published"]) == "GLoRIA"
        assert "not rerun" in (aggregate / "index.html").read_text()

    def test_runs_that_cannot_be_compared_have_a_section_each(
        self, runs: list[Path], sketch: Dataset, tmp_path: Path
    ) -> None:
        other = save_run(tmp_path / "other", "uniform", sketch)
        index = write_report([*runs, other], tmp_path / "report").read_text()
        assert index.count('<section class="group"') == 2
        assert "Not comparable with the runs above: dataset:" in index

    def test_a_run_that_lacks_tasks_is_marked_and_not_ranked(
        self, runs: list[Path], data: Dataset, tmp_path: Path
    ) -> None:
        short = save_run(tmp_path / "short", "text-blind", data, name="short")
        results = json.loads((short / RESULTS).read_text())
        results["model"]["role"] = "model"
        results["suite"]["tasks"] = [one for one in results["suite"]["tasks"] if one["name"] != "swap_left_right"]
        results["scores"] = [one for one in results["scores"] if one["task"] != "swap_left_right"]
        (short / RESULTS).write_text(json.dumps(results))
        group = load([*runs, short])[0]
        entry = next(one for one in group.entries if one.label == "short")
        assert entry.missing == ("swap_left_right",)
        assert entry.rank == ""
        index = write_report([*runs, short], tmp_path / "report").read_text()
        assert "short is incomplete: it has no swap_left_right." in index

    def test_a_section_names_all_versions_and_a_models_page_its_own(self, runs: list[Path], tmp_path: Path) -> None:
        results = json.loads((runs[0] / RESULTS).read_text())
        own = results["suite"]["version"]
        results["suite"]["version"] = "1.100"
        (tmp_path / RESULTS).write_text(json.dumps(results))
        index = write_report([runs[0], tmp_path], tmp_path / "report")
        assert f"under smoke {own}, 1.100<" in index.read_text()
        pages = [(index.parent / f"model-0{number}.html").read_text() for number in (1, 2)]
        assert [f"under smoke {own}," in pages[0], "under smoke 1.100," in pages[1]] == [True, True]

    def test_incomplete_is_what_the_leaderboard_calls_so(self, runs: list[Path], data: Dataset, tmp_path: Path) -> None:
        found = []
        for name in ("entropy", "precision@30"):
            found.append(
                save_run(tmp_path / name, "text-blind", data, name=f"no {name}", suite="wrong-lung", maps=False)
            )
            results = json.loads((found[-1] / RESULTS).read_text())
            results["model"]["role"] = "model"
            results["suite"]["metrics"].remove(name)
            results["scores"] = [one for one in results["scores"] if one["metric"] != name]
            (found[-1] / RESULTS).write_text(json.dumps(results))
        entries = {one.label: one for group in load(found) for one in group.entries}
        assert entries["no entropy"].missing == ("entropy",)
        assert entries["no precision@30"].missing == ()

    def test_a_run_without_the_subset_that_is_shown_first_shows_another(self, runs: list[Path], tmp_path: Path) -> None:
        results = json.loads((runs[0] / RESULTS).read_text())
        results["scores"] = [one for one in results["scores"] if one["subset"] == "all"]
        (tmp_path / RESULTS).write_text(json.dumps(results))
        assert "Overview on all" in write_report([tmp_path], tmp_path / "report").read_text()

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"name": ["a"]}, "no name that is text"), ({"settings": ["a"]}, "settings are no mapping")],
    )
    def test_a_damaged_card_is_refused(
        self, runs: list[Path], tmp_path: Path, change: dict[str, object], message: str
    ) -> None:
        results = json.loads((runs[0] / RESULTS).read_text())
        results["model"] |= change
        (tmp_path / RESULTS).write_text(json.dumps(results))
        with pytest.raises(WronglungError, match=message):
            write_report([tmp_path], tmp_path / "report")

    def test_a_lone_results_file_is_enough(self, runs: list[Path], tmp_path: Path) -> None:
        alone = tmp_path / "alone.json"
        alone.write_bytes((runs[0] / RESULTS).read_bytes())
        assert "oracle" in write_report([alone], tmp_path / "report").read_text()

    @pytest.mark.parametrize("name", ["\u2028", "{{ site }}", "<b>", ""])
    def test_any_name_of_a_model_can_be_written(self, runs: list[Path], tmp_path: Path, name: str) -> None:
        results = json.loads((runs[0] / RESULTS).read_text())
        results["model"]["name"] = name
        (tmp_path / RESULTS).write_text(json.dumps(results))
        page = write_report([tmp_path], tmp_path / "report", title="half a \udcff pair").parent / "model-01.html"
        assert "<b>" not in page.read_text(encoding="utf-8")


class TestBytes:
    def test_do_not_depend_on_the_order_of_runs(
        self, runs: list[Path], data: Dataset, full: Path, tmp_path: Path
    ) -> None:
        again = write_report(runs[::-1], tmp_path / "report", dataset=data).parent
        assert content(again) == content(full)

    def test_of_films_name_them_and_no_path_of_the_data_does(self, full: Path, data: Dataset) -> None:
        films = sorted(path.name for path in (full / "films").iterdir())
        assert len(films) == len({one.image_id for one in data.instances})
        assert all(re.fullmatch(r"[0-9a-f]{32}\.(png|jpg)", name) for name in films)

    @given(
        st.recursive(
            st.none() | st.integers(-9, 9) | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
        )
    )
    def test_of_data_hold_nothing_that_could_end_a_script(self, value: object) -> None:
        text = build.script("name", value)
        assert text.isascii()
        assert not {"<", ">", "&"} & {*text}
        assert json.loads(text.removeprefix('wronglung.receive("name",').removesuffix(");\n")) == value

    def test_of_pages_hold_no_markup_from_data(self, full: Path) -> None:
        for page in full.glob("*.html"):
            seen = Tags()
            seen.feed(page.read_text(encoding="utf-8"))
            for tag, attributes in seen.found:
                assert tag != "img"
                assert not [name for name in attributes if name.startswith("on") or name == "style"]
                if tag == "script":
                    assert attributes.keys() == {"src", "defer"}
                    assert re.fullmatch(r"(assets|data)/[a-z0-9-]+\.js", str(attributes["src"]))
            assert "films </script><script>window.ran=1</script>" in "".join(seen.texts)
            assert "{{ 7 * 7 }}{% raw %}" in "".join(seen.texts)


class TestPlace:
    def test_what_is_no_report_is_never_replaced(self, runs: list[Path], tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        for overwrite in (False, True):
            with pytest.raises(WronglungError, match="holds something that is not a report"):
                write_report(runs, tmp_path, overwrite=overwrite)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        with pytest.raises(WronglungError, match="is a file"):
            write_report(runs, tmp_path / "notes.txt", overwrite=True)

    def test_a_report_is_replaced_when_asked_and_whole(self, runs: list[Path], tmp_path: Path) -> None:
        out = tmp_path / "report"
        out.mkdir()
        write_report(runs, out)
        with pytest.raises(WronglungError, match="holds a report already; choose another --out, or --overwrite it"):
            write_report(runs, out)
        write_report(runs[:1], out, overwrite=True)
        assert sorted(path.name for path in out.glob("model-*")) == ["model-01.html"]
        (out / "notes.txt").write_text("mine")
        with pytest.raises(WronglungError, match="holds 'notes.txt', which is not of the report"):
            write_report(runs, out, overwrite=True)

    def test_a_failure_leaves_the_earlier_report_and_nothing_else(
        self, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = write_report(runs, tmp_path / "report").parent
        before = content(tmp_path)

        def full_disk(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(build, "mark", full_disk)
        with pytest.raises(WronglungError, match="cannot be written: No space left on device"):
            write_report(runs[:1], out, overwrite=True)
        assert content(tmp_path) == before


class TestData:
    def test_are_those_of_the_runs_or_refused(
        self, runs: list[Path], data: Dataset, sketch: Dataset, tmp_path: Path
    ) -> None:
        with pytest.raises(WronglungError, match="was made with other data"):
            write_report(runs, tmp_path / "report", dataset=sketch)
        other = tuple(replace(one, sentence=one.sentence.lower()) for one in data.instances)
        with pytest.raises(WronglungError, match="was made with other data"):
            write_report(runs, tmp_path / "report", dataset=replace(data, instances=other))
        assert not list(tmp_path.iterdir())

    def test_need_a_run_with_maps(self, runs: list[Path], data: Dataset, full: Path, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match="no run has maps.*--save-maps"):
            write_report(runs[2:], tmp_path / "report", dataset=data)
        assert "Without maps, and so not here: uniform." in (full / "gallery.html").read_text()

    def test_whose_films_have_changed_are_refused(self, runs: list[Path], data: Dataset, tmp_path: Path) -> None:
        first = data.instances[0].image
        black = tmp_path / "black.png"
        Image.new("L", (first.width, first.height)).save(black)
        changed = replace(first, path=black)
        instances = tuple(replace(one, image=changed) if one.image == first else one for one in data.instances)
        with pytest.raises(WronglungError, match="image files have changed since the run"):
            write_report(runs, tmp_path / "report", dataset=replace(data, instances=instances))
        black.write_bytes(b"no film")
        with pytest.raises(WronglungError, match="black.png: cannot be decoded"):
            write_report(runs, tmp_path / "report", dataset=replace(data, instances=instances))

    def test_whose_sentences_are_asked_otherwise_now_are_refused(
        self, runs: list[Path], data: Dataset, tmp_path: Path
    ) -> None:
        import pandas as pd

        folder = tmp_path / "run"
        folder.mkdir()
        for name in (RESULTS, MAPS):
            (folder / name).write_bytes((runs[0] / name).read_bytes())
        frame = pd.read_parquet(runs[0] / INSTANCES)
        frame.loc[frame["task"] == "random_sentences", "sentence_sha256"] = "0" * 16
        frame.to_parquet(folder / INSTANCES)
        with pytest.raises(WronglungError, match="'random_sentences': the run put another sentence to the model"):
            write_report([folder], tmp_path / "report", dataset=data)

    def test_may_be_cut_to_the_first_instances(self, runs: list[Path], data: Dataset, tmp_path: Path) -> None:
        folder = write_report(runs, tmp_path / "report", dataset=data, most=5).parent
        instances = piece(folder, "g1-instances")
        assert isinstance(instances, list)
        assert [one["id"] for one in instances] == [one.id for one in data.instances[:5]]
        assert "The first 5 of 36 instances are here." in (folder / "gallery.html").read_text()

    def test_a_model_that_was_not_swapped_has_no_map_there(
        self, data: Dataset, runs: list[Path], tmp_path: Path
    ) -> None:
        suite = load_suite("smoke")
        tasks = tuple(one for one in suite.tasks if one.name != "swap_left_right")
        short = save_run(
            tmp_path / "short", "uniform", data, suite=suite.model_copy(update={"tasks": tasks}), name="short"
        )
        folder = write_report([runs[0], short], tmp_path / "report", dataset=data).parent
        gallery = piece(folder, "g1-gallery")
        assert isinstance(gallery, dict)
        name = next(one["data"] for one in gallery["models"] if one["label"] == "short")
        values, maps = piece(folder, f"{name}-values"), piece(folder, f"{name}-maps000")
        assert isinstance(values, dict)
        assert isinstance(maps, dict)
        assert gallery["tasks"][1] == "swap_left_right"
        assert {swapped for _, swapped, _ in values["values"]} == {None}
        assert [one is None for one in maps["maps"][:6]] == [False, True, False] * 2

    def test_damaged_maps_are_named(self, runs: list[Path], data: Dataset, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        for name in (RESULTS, INSTANCES):
            (folder / name).write_bytes((runs[0] / name).read_bytes())
        maps = load_file(runs[0] / MAPS)
        for write, message in (
            (lambda: (folder / MAPS).write_bytes(b"{}"), "cannot be read as maps of a run"),
            (lambda: save_file(maps, folder / MAPS), "does not say where its maps lie.*--save-maps"),
            (lambda: save_file(maps, folder / MAPS, {"geometry": "[]"}), "cannot be read as maps of a run"),
            (lambda: save_file(maps, folder / MAPS, {"geometry": "[" * 100_000}), "cannot be read as maps of a run"),
            (lambda: save_file(maps, folder / MAPS, {"geometry": "{}"}), "has no map of image"),
        ):
            write()
            with pytest.raises(WronglungError, match=message):
                write_report([folder], tmp_path / "report", dataset=data)
        assert not (tmp_path / "report").exists()

    @pytest.mark.parametrize(("temperature", "message"), [("hot", "cannot be read as maps"), (0, "must be positive")])
    def test_a_temperature_that_is_none_is_refused(
        self, runs: list[Path], data: Dataset, tmp_path: Path, temperature: object, message: str
    ) -> None:
        for name in (RESULTS, INSTANCES, MAPS):
            (tmp_path / name).write_bytes((runs[0] / name).read_bytes())
        results = json.loads((tmp_path / RESULTS).read_text())
        results["model"] |= {"mass": "softmax", "temperature": temperature}
        (tmp_path / RESULTS).write_text(json.dumps(results))
        with pytest.raises(WronglungError, match=message):
            write_report([tmp_path], tmp_path / "report", dataset=data)

    def test_instances_without_what_was_asked_are_refused(
        self, runs: list[Path], data: Dataset, tmp_path: Path
    ) -> None:
        for name in (RESULTS, MAPS):
            (tmp_path / name).write_bytes((runs[0] / name).read_bytes())
        table = pd.read_parquet(runs[0] / INSTANCES).drop(columns="sentence_sha256")
        table.to_parquet(tmp_path / INSTANCES)
        with pytest.raises(WronglungError, match="is not of a run of wronglung.*sentence_sha256"):
            write_report([tmp_path], tmp_path / "report", dataset=data)


class TestMaps:
    @given(st.lists(st.lists(st.floats(0, 1e6), min_size=6, max_size=6), min_size=1, max_size=4))
    def test_are_within_half_a_step_of_an_even_spreads_share(self, rows: list[list[float]]) -> None:
        mass = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2, 3)
        for one, found in zip(mass.numpy(), quantise(mass), strict=True):
            if one.max() == 0:
                assert found is None
                continue
            assert found is not None
            assert (found.rows, found.columns) == (2, 3)
            seen = np.frombuffer(found.cells, dtype=np.uint8).reshape(2, 3) / 255 * found.peak
            np.testing.assert_allclose(seen, one * 6, atol=one.max() * 6 * (0.5 / 255 + 1e-4))

    def test_without_mass_are_none(self) -> None:
        assert quantise(torch.tensor([[[0.0, 0.0]], [[torch.nan, 1.0]]])) == [None, None]

    def test_are_packed_one_behind_the_other(self) -> None:
        maps = [Quantised(1, 2, 2.0, b"\x01\xff"), None, Quantised(2, 1, 1.5, b"\x02\x03")]
        found = packed(maps)
        assert found["maps"] == [[1, 2, 2.0], None, [2, 1, 1.5]]
        assert zlib.decompress(base64.b64decode(found["cells"])) == b"\x01\xff\x02\x03"

    def test_are_in_order_of_the_change_under_the_swap(self, full: Path, data: Dataset) -> None:
        values = piece(full, "g1-m01-values")
        assert isinstance(values, dict)
        changes = [swapped - true for true, swapped, _ in values["values"]]
        by_place = sorted(range(len(changes)), key=lambda at: values["places"][at])
        assert [changes[at] for at in by_place] == sorted(changes)
        assert sorted(values["places"]) == list(range(len(data.instances)))

    def test_of_a_run_without_any_are_none(self, tmp_path: Path) -> None:
        assert SavedMaps.open(tmp_path, {}) is None
        save_file({}, tmp_path / MAPS, {"geometry": "{}"})
        assert SavedMaps.open(tmp_path, {}) is None


words = st.lists(st.sampled_from(["left", "right", "lung", "Left", ",", "", "upper-left", "<b>"])).map(" ".join)


class TestDifference:
    def test_marks_the_words_that_changed(self) -> None:
        found = difference("Opacity in the left lung.", "Opacity in the right lung.")
        assert found == [(0, "Opacity in the "), (REMOVED, "left"), (ADDED, "right"), (0, " lung.")]

    @given(words, words)
    def test_holds_both_sentences(self, before: str, after: str) -> None:
        parts = difference(before, after)
        assert "".join(text for kind, text in parts if kind != ADDED) == before
        assert "".join(text for kind, text in parts if kind != REMOVED) == after


@pytest.mark.parametrize(("mode", "size"), [("L", (900, 300)), ("RGB", (10, 700)), ("L", (64, 64)), ("P", (400, 400))])
def test_films_are_small_and_not_enlarged(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    file = tmp_path / "film.png"
    Image.new(mode, size, 7).save(file)
    data, suffix = small_film(ImageRef("film", file, *size), file.read_bytes())
    (tmp_path / f"small{suffix}").write_bytes(data)
    with Image.open(tmp_path / f"small{suffix}") as small:
        assert max(small.size) == min(max(size), LONG_SIDE)
        assert small.format == {".png": "PNG", ".jpg": "JPEG"}[suffix]


class TestWords:
    @pytest.mark.parametrize(
        ("interval", "expected", "said"),
        [
            ((-0.12, -0.14, -0.10), "decrease", ("fell", "as it should")),
            ((0.12, 0.10, 0.14), "decrease", ("rose", "although it should fall")),
            ((0.0, -0.01, 0.01), "decrease", ("did not move", "although it should fall")),
            ((0.0, -0.01, 0.01), "unchanged", ("did not move", "as it should")),
            ((-0.12, -0.14, -0.10), "unchanged", ("fell", "although it should not move")),
            ((-0.02, -0.04, 0.0), "decrease", ("open", "")),
            ((-0.12, -0.14, -0.10), "report", ("fell", "")),
        ],
    )
    def test_say_what_the_interval_says(
        self, runs: list[Path], interval: tuple[float, float, float], expected: str, said: tuple[str, str]
    ) -> None:
        assert figures.change(self.score(runs, *interval), expected) == said

    def test_are_none_without_an_interval_and_say_so_where_nothing_changed(self, runs: list[Path]) -> None:
        assert figures.change(self.score(runs, -0.1, None, None), "decrease") is None
        unchanged = self.score(runs, 0.0, 0.0, 0.0).model_copy(update={"n_changed": 0})
        assert figures.change(unchanged, "decrease") == ("not tested", "the perturbation changes no instance here")

    @staticmethod
    def score(runs: list[Path], delta: float, low: float | None, high: float | None) -> Score:
        entry = load(runs)[0].entries[0]
        one = next(
            one for key, one in entry.scores.items() if key[::2] == ("swap_left_right", "auroc") and one.n_changed
        )
        return one.model_copy(update={"delta": delta, "delta_ci_low": low, "delta_ci_high": high})

    def test_figures_have_a_real_minus_and_no_sign_at_zero(self) -> None:
        percent = figures.unit("auroc")
        assert percent.text(-0.1234) == "−12.3"
        assert percent.text(0.1234, signed=True) == "+12.3"
        assert percent.text(-0.0001, signed=True) == "0.0"
        assert percent.text(None) == "–"
        assert figures.unit("entropy").text(4.1589) == "4.159"
        assert figures.unit("of another package").text(0.5) == "0.500"


class TestCommand:
    def test_prints_the_pages_path(self, sketch: Dataset, sketch_file: Path, tmp_path: Path) -> None:
        run = save_run(tmp_path / "runs" / "oracle", "oracle", sketch)
        out = tmp_path / "report"
        done = wronglung(
            "report",
            run.parent,
            "-o",
            out,
            "--title",
            "Ours",
            "--include-data",
            "-d",
            "jsonl",
            "--data-root",
            sketch_file,
        )
        assert done.stdout.strip() == str(out / "index.html")
        assert "<h1>Ours</h1>" in (out / "index.html").read_text()
        assert (out / "gallery.html").exists()

    def test_says_what_is_wrong_in_one_line(self, runs: list[Path], sketch_file: Path, tmp_path: Path) -> None:
        common: tuple[str | Path, ...] = ("report", *runs, "-o", tmp_path / "report")
        assert "needs --dataset" in refused(*common, "--include-data")
        assert "add --include-data" in refused(*common, "-d", "jsonl", "--data-root", sketch_file)
        assert "add --include-data" in refused(*common, "--max-instances", "3")
        assert "was made with other data" in refused(
            *common, "--include-data", "-d", "jsonl", "--data-root", sketch_file
        )
        assert "no run here" in refused("report", tmp_path, "-o", tmp_path / "report")
        assert not (tmp_path / "report").exists()

    def test_the_demo_ends_with_the_pages_path(self, sketch_file: Path, tmp_path: Path) -> None:
        data = ("-d", "jsonl", "--data-root", sketch_file)
        done = wronglung("demo", "-o", tmp_path, "-s", "smoke", "-q", "-m", "oracle", *data)
        assert done.stdout.splitlines()[-1] == str(tmp_path / "report" / "index.html")
        # Films of one's own are not put on a page unasked.
        assert not (tmp_path / "report" / "films").exists()
