"""The demo: readings by rule, pictures that show what was scored where it lies, files, and the models that ship."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wronglung import Dataset, evaluate, load_dataset, load_model, load_suite
from wronglung.adapters import CATALOGUE
from wronglung.adapters.gloria.shipped import PREFIX, VARIANTS, load_shipped
from wronglung.adapters.gloria.training.config import load_config
from wronglung.adapters.gloria.training.run import train
from wronglung.adapters.gloria.training.ship import main, ship
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.instances import Box, ImageRef, Instance
from wronglung.benchmark.plan import Plan
from wronglung.benchmark.results import RunResults, load_run
from wronglung.benchmark.rows import digest
from wronglung.leaderboard import demo
from wronglung.leaderboard.examples import TASKS, Example, Heat, choose, heats
from wronglung.leaderboard.heatmaps import PANEL, Row, density, sheet, tinted, with_boxes
from wronglung.leaderboard.reading import read

STORY = ("retrained", "masking", "random-sentences")
FOLDER = Path(__file__).parent.parent / "adapters" / "gloria" / "phantom"


@pytest.fixture(scope="module")
def phantom() -> Dataset:
    return load_dataset("phantom", patients=100)


@pytest.fixture(scope="module")
def oracle_run(phantom: Dataset) -> RunResults:
    return evaluate(load_model("oracle"), phantom, "smoke").run


def with_figures(run: RunResults, **figures: tuple[float, float, float]) -> RunResults:
    """The run with other values and intervals on one lung: of its AUROC, its change under a swap, entropy and so on."""
    places = {
        "auroc": ("original", "auroc", ""),
        "swap": ("swap_left_right", "auroc", "delta_"),
        "entropy": ("original", "entropy", ""),
        "kl": ("random_sentences", "random_attention_kl", ""),
        "local": ("random_sentences", "selection_accuracy_local", ""),
    }
    changed = run.model_copy(deep=True)
    for name, (value, low, high) in figures.items():
        task, metric, prefix = places[name]
        cell = next(one for one in changed.scores if (one.task, one.subset, one.metric) == (task, "one_lung", metric))
        setattr(cell, prefix.rstrip("_") or "value", value)
        setattr(cell, f"{prefix}ci_low", low)
        setattr(cell, f"{prefix}ci_high", high)
    return changed


class TestReadings:
    @pytest.mark.parametrize(
        ("interval", "verdict"),
        [
            ((-0.004, -0.009, 0.001), "ignores"),
            ((0.0, -0.02, 0.02), "ignores"),
            ((-0.015, -0.0201, -0.01), "open"),
            ((0.0, -0.05, 0.05), "open"),
            ((-0.12, -0.14, -0.0201), "moves"),
            ((0.12, 0.0201, 0.14), "prefers the other side"),
            ((0.03, 0.01, 0.05), "open"),
        ],
    )
    def test_the_interval_of_the_swap_decides(
        self, oracle_run: RunResults, interval: tuple[float, float, float], verdict: str
    ) -> None:
        assert read(with_figures(oracle_run, swap=interval)).verdict == verdict

    def test_says_the_figures_with_their_intervals(self, oracle_run: RunResults) -> None:
        run = with_figures(oracle_run, auroc=(0.886, 0.87, 0.9), swap=(-0.004, -0.009, 0.0004))
        assert read(run).text == (
            "oracle localizes (AUROC 88.6 [87.0, 90.0]) and ignores left and right: "
            "Δ −0.4 points [−0.9, 0.0] on one lung when they are swapped"
        )

    @pytest.mark.parametrize(
        ("interval", "words"),
        [
            ((0.6, 0.51, 0.7), "localizes ("),
            ((0.5, 0.45, 0.55), "does not localize ("),
            ((0.4, 0.3, 0.49), "is below chance ("),
        ],
    )
    def test_localizes_when_the_interval_lies_above_chance(
        self, oracle_run: RunResults, interval: tuple[float, float, float], words: str
    ) -> None:
        assert f"oracle {words}" in read(with_figures(oracle_run, auroc=interval)).text

    def test_a_flat_map_has_almost_the_greatest_entropy_and_does_not_change(self, oracle_run: RunResults) -> None:
        most = float(np.log(64))
        flat = {"entropy": (0.995 * most,) * 3, "kl": (0.004,) * 3, "local": (0.51, 0.46, 0.56)}
        reading = read(with_figures(oracle_run, **flat), regions=64)
        assert reading.verdict == "flat"
        assert "entropy 99.5 % of its maximum, KL 0.004" in reading.text
        assert "local selection accuracy 51.0 % [46.0, 56.0]" in reading.text
        for other in ({"entropy": (0.98 * most,) * 3}, {"kl": (0.02,) * 3}):
            assert read(with_figures(oracle_run, **{**flat, **other}), regions=64).verdict != "flat"
        # More regions have a greater maximum.
        assert read(with_figures(oracle_run, **flat), regions=80).verdict != "flat"
        assert read(with_figures(oracle_run, **flat)).verdict != "flat"

    def test_without_an_interval_nothing_is_said(self) -> None:
        few = load_dataset("phantom", patients=20)
        assert read(evaluate(load_model("oracle"), few, "smoke").run).verdict == "unknown"

    def test_a_run_without_the_swap_is_not_said_to_lack_patients(self, oracle_run: RunResults) -> None:
        scores = [one for one in oracle_run.scores if one.task != "swap_left_right"]
        assert "was not asked" in read(oracle_run.model_copy(update={"scores": scores})).text


class TestExamples:
    def test_are_one_lung_findings_of_different_patients_and_change(self, phantom: Dataset) -> None:
        plan = Plan(load_suite("wrong-lung"), phantom)
        chosen = choose(plan, 5)
        subsets = plan.subsets()
        assert len({one.instance.patient_id for one in chosen}) == 5
        for one in chosen:
            assert all(one.instance.id in (subsets[name] or ()) for name in ("one_lung", "abnormal"))
            assert one.sentences["original"] == one.instance.sentence
            assert one.sentences["swap_left_right"].lower() != one.instance.sentence.lower()
        assert choose(plan, 2) == chosen[:2]

    def test_show_the_sentences_and_maps_that_were_scored(self, phantom: Dataset) -> None:
        model = load_model("oracle")
        chosen = choose(Plan(load_suite("smoke"), phantom), 3)
        results = evaluate(model, phantom, "smoke", save_maps=True)
        assert results.maps is not None
        rows = results.instances.set_index(["instance_id", "task"])
        for one, maps in zip(chosen, heats(model, phantom, chosen), strict=True):
            for task in TASKS:
                sentence = digest(one.sentences[task])
                assert rows.loc[(one.instance.id, task), "sentence_sha256"] == sentence
                saved = results.maps[f"{one.instance.image_id}/{sentence}"].double()
                torch.testing.assert_close(maps[task].mass, saved / saved.sum())

    def test_are_none_where_the_suite_does_not_swap(self, phantom: Dataset) -> None:
        suite = load_suite("smoke")
        asked = suite.model_copy(update={"tasks": [one for one in suite.tasks if one.name == "original"]})
        assert choose(Plan(asked, phantom), 3) == []


class GreyFilm(ImageRef):
    def load(self, *, at_least: int | None = None) -> Image.Image:
        return Image.new("L", (self.width, self.height), 90)


def example(width: int = 88, height: int = 88) -> Example:
    boxes = (Box("left lung", 44, 22, 66, 66),)
    image = GreyFilm("film", Path("film.png"), width, height)
    instance = Instance("one", image, "Opacity in the left lung.", boxes)
    return Example(instance, dict(zip(TASKS, ("Left.", "Right.", "Heart."), strict=True)))


def heat(cells: list[list[float]], width: int = 88, height: int = 88) -> Heat:
    mass = torch.tensor(cells, dtype=torch.float64)
    return Heat(mass / mass.sum(), Geometry.squash(width, height, 64, 64))


EVEN = [[1.0, 1.0], [1.0, 1.0]]


class TestPictures:
    def test_boxes_lie_on_the_outermost_pixels_that_they_hold(self) -> None:
        film = Image.new("RGB", (176, 176))
        drawn = np.asarray(with_boxes(film, example().instance.boxes, original_width=88)).max(axis=2) > 0
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        # Twice as large: the box is [88, 132] × [44, 132] in edge coordinates.
        assert (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1) == (88, 132, 44, 132)
        assert not drawn[50:126, 94:126].any()
        assert not np.asarray(film).any()

    def test_density_is_one_where_a_map_is_even_and_lies_where_the_map_does(self) -> None:
        np.testing.assert_allclose(density(heat(EVEN), 176, 176), 1)
        corner = density(heat([[1.0, 0.0], [0.0, 0.0]]), 176, 176)
        assert corner[0, 0] == pytest.approx(4)
        assert corner[-1, 0] == corner[0, -1] == 0

    def test_what_the_model_never_saw_is_not_tinted(self) -> None:
        beside = Heat(torch.full((2, 2), 0.25, dtype=torch.float64), Geometry(88, 88, 44, 88, 1.0, 1.0))
        values = density(beside, 176, 176)
        np.testing.assert_allclose(values[:, :88], 1)
        assert not values[:, 88:].any()

    def test_films_of_any_shape_fit(self) -> None:
        for width, height in ((300, 88), (57, 999), (1, 7)):
            one = example(width, height)
            maps = dict.fromkeys(TASKS, heat(EVEN, width, height))
            assert sheet(one, [Row("m", maps, {})]).mode == "RGB"

    def test_an_even_spread_leaves_the_film_as_it_is_and_more_reddens_it(self) -> None:
        film = Image.new("RGB", (3, 1), (90, 90, 90))
        pixels = np.asarray(tinted(film, np.array([[0.5, 1.0, 4.0]]))).astype(int)[0]
        assert pixels[0].tolist() == pixels[1].tolist() == [90, 90, 90]
        assert pixels[2][0] > pixels[2][1] + 100

    def test_columns_are_the_tasks_in_order_and_rows_the_models(self) -> None:
        lit = heat([[1.0, 0.0], [0.0, 0.0]])
        width = PANEL + 10
        for at, task in enumerate(TASKS):
            maps = {one: lit if one == task else heat(EVEN) for one in TASKS}
            even = dict.fromkeys(TASKS, heat(EVEN))
            plain = np.asarray(sheet(example(), [Row("a", even, {}), Row("b", even, {})])).astype(int)
            changed = np.asarray(sheet(example(), [Row("a", even, {}), Row("b", maps, {})])).astype(int)
            differs = (plain != changed).any(axis=2)
            columns, rows = np.flatnonzero(differs.any(0)), np.flatnonzero(differs.any(1))
            assert 10 + (at + 1) * width == columns[0]
            assert columns[-1] < 10 + (at + 2) * width
            assert rows[0] > plain.shape[0] // 2


class TestDemo:
    def test_writes_tables_readings_and_pictures(
        self, phantom: Dataset, tmp_path: Path, tiny_bert: Path, tiny_weights: dict[str, torch.Tensor]
    ) -> None:
        safe = tmp_path / "gloria.pt"
        torch.save(tiny_weights, safe)
        named = tmp_path / "mine.py"
        named.write_text(
            "from wronglung import load_model\n"
            f"def mine(): return load_model('gloria', checkpoint={str(safe)!r}, bert={str(tiny_bert)!r}, name='mine')\n"
        )
        said: list[str] = []
        names = ["uniform", "oracle", f"{named}:mine"]
        out = tmp_path / "out"
        out.mkdir()
        results, _, readings, page = demo.run(names, phantom, "smoke", out, pictures=2, say=said.append)
        assert [one.run.model["name"] for one in results] == ["uniform", "oracle", "mine"]
        assert [one.model for one in readings] == ["mine"]
        assert (out / "readings.txt").read_text() == f"{readings[0].text}.\n"
        assert readings[0].text in (out / "leaderboard.md").read_text()
        assert {path.suffix for path in out.glob("leaderboard.*")} == {".md", ".tex", ".csv"}
        pictures = sorted((out / "heatmaps").glob("*.png"))
        assert len(pictures) == 2
        assert all(Image.open(one).width > 4 * PANEL for one in pictures)
        assert said[-2].startswith(f"[3/3] {named}:mine: ")
        assert said[-1] == "report ..."
        # Data that were not generated are not passed on unasked: the runs keep no maps, the report holds figures only.
        assert page == out / "report" / "index.html"
        assert "Figures only" in page.read_text()
        assert not (out / "oracle" / "maps.safetensors").exists()

    def test_runs_everything_that_ships(self) -> None:
        assert demo.models() == (*demo.BOUNDS, *(f"{PREFIX}{variant}" for variant in VARIANTS))
        assert set(demo.models()) <= set(CATALOGUE)


class TestShipped:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_loads_by_its_name_and_has_a_card(self, variant: str, phantom: Dataset) -> None:
        model = load_model(f"{PREFIX}{variant}")
        assert model.card.name == f"{PREFIX}{variant}"
        assert "phantom" in model.card.pretraining_sources
        assert model.card.settings["no_attention_vector"] == (variant == "no-attention")
        card = json.loads((FOLDER / f"{variant}.json").read_text())
        assert card["variant"] == variant
        values = evaluate(model, phantom, "smoke", limit=4).instances["entropy"]
        assert ((values > 0) & (values <= np.log(65))).all()

    def test_are_small(self) -> None:
        assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 6_000_000

    def test_were_trained_on_the_films_of_today(self) -> None:
        today = load_dataset("phantom", split="train").fingerprint
        for variant in VARIANTS:
            card = json.loads((FOLDER / f"{variant}.json").read_text())
            assert card["data"]["training_fingerprint"] == today, variant

    def test_tell_the_papers_story(self) -> None:
        films = load_dataset("phantom", patients=800)
        runs = {name: evaluate(load_model(f"{PREFIX}{name}"), films, "smoke").run for name in STORY}

        def figure(name: str, task: str, metric: str, field: str = "value") -> float:
            cells = {(one.task, one.subset, one.metric): one for one in runs[name].scores}
            return float(getattr(cells[task, "one_lung", metric], field))

        swap = {name: figure(name, "swap_left_right", "auroc", "delta") for name in STORY}
        assert figure("retrained", "original", "auroc") > 0.75
        assert abs(swap["retrained"]) < 0.02
        assert swap["masking"] < -0.06
        assert abs(swap["random-sentences"]) < 0.01
        assert figure("random-sentences", "original", "entropy") > 0.99 * np.log(64)
        assert figure("random-sentences", "random_sentences", "random_attention_kl") < 0.02

    def test_a_missing_checkpoint_is_named_with_what_makes_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wronglung.adapters.gloria.shipped.FOLDER", "gone")
        with pytest.raises(WronglungError, match="'gloria-phantom-masking'.*gone/masking.*make checkpoints"):
            load_shipped("masking")

    def test_a_run_ships_as_half_precision_with_its_card(self, tmp_path: Path) -> None:
        data = load_dataset("phantom", patients=30, split="train")
        config = load_config("retrained", "small", None, ["epochs=1", "image.width=4", "validation_instances=0"])
        train(config, data, data, tmp_path / "run")
        target = ship(tmp_path / "run", tmp_path / "shipped")
        assert target == tmp_path / "shipped" / "retrained.safetensors"
        assert target.stat().st_size < 0.6 * (tmp_path / "run" / "best.safetensors").stat().st_size
        card = json.loads(target.with_suffix(".json").read_text())
        assert card["shipped"]["dtype"] == "float16"
        assert card["data"]["training_fingerprint"] == data.fingerprint
        full, half = (load_model("gloria", checkpoint=path) for path in (tmp_path / "run" / "best.safetensors", target))
        few = replace(data, instances=data.instances[:20])
        a, b = (evaluate(one, few, "smoke").instances["auroc"] for one in (full, half))
        np.testing.assert_allclose(a, b, atol=0.02)
        assert card["shipped"]["sha256"] == load_model("gloria", checkpoint=target).card.checkpoint

    def test_what_is_no_run_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(tmp_path), str(tmp_path / "to")]) == 2
        assert "holds no finished training run" in capsys.readouterr().err
        assert not (tmp_path / "to").exists()


def test_films_that_cannot_be_decoded_are_not_pictured(phantom: Dataset, tmp_path: Path) -> None:
    first, *others = choose(Plan(load_suite("smoke"), phantom), 3)
    gone = ImageRef(first.instance.image_id, tmp_path / "gone.png", 64, 64)
    broken = tuple(
        replace(one, image=gone) if one.image_id == gone.id else one
        for one in sorted(phantom.instances, key=lambda one: one.image_id != gone.id)
    )
    copy = tmp_path / "copy.py"
    copy.write_text("from wronglung.adapters.floors import uniform as mine\n")
    demo.run([f"{copy}:mine"], replace(phantom, instances=broken), "smoke", tmp_path, pictures=3)
    drawn = {path.stem for path in (tmp_path / "heatmaps").glob("*.png")}
    assert len(drawn) == len(others)


def test_the_report_shows_what_the_models_look_at_when_asked(phantom: Dataset, tmp_path: Path) -> None:
    results, _, _, page = demo.run(["uniform", "oracle"], phantom, "smoke", tmp_path, include_data=True)
    assert all(one.maps is None for one in results)
    assert (page.parent / "gallery.html").exists()
    assert phantom.instances[0].sentence in (page.parent / "data" / "g1-instances.js").read_text()


def test_a_folder_of_the_reports_name_that_is_none_is_refused_before_any_model_runs(
    phantom: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("mine")
    with pytest.raises(WronglungError, match="holds something that is not a report"):
        demo.run(["uniform"], phantom, "smoke", tmp_path)
    assert not (tmp_path / "uniform").exists()


def test_the_demo_folder_is_made_of_runs(phantom: Dataset, tmp_path: Path) -> None:
    demo.run(["uniform"], phantom, "smoke", tmp_path)
    assert load_run(tmp_path / "uniform").model["name"] == "uniform"
    assert not (tmp_path / "heatmaps").exists()
    assert not (tmp_path / "readings.txt").exists()


def test_the_gallery_shows_the_models_and_not_the_bounds(phantom: Dataset, tmp_path: Path) -> None:
    demo.run(["oracle", f"{PREFIX}retrained"], phantom, "smoke", tmp_path, pictures=0, include_data=True)
    assert (tmp_path / f"{PREFIX}retrained" / "maps.safetensors").exists()
    assert not (tmp_path / "oracle" / "maps.safetensors").exists()
    assert "oracle" in (tmp_path / "report" / "gallery.html").read_text()
