"""Tables of runs: what stands beside what, in which order, and what is never done."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from leaderboard_runs import made, noise
from PIL import Image

from wronglung import Dataset, evaluate, load_dataset, load_model
from wronglung.benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, ImageRef, Instance
from wronglung.benchmark.results import Results, RunResults
from wronglung.leaderboard.board import Section, board, published_figures
from wronglung.leaderboard.render import render


def names(section: Section) -> list[str]:
    return [line.model for line in section.lines]


def ranks(section: Section) -> dict[str, tuple[int, int] | None]:
    return {line.model: None if line.rank is None else line.rank[:2] for line in section.lines}


@pytest.fixture(scope="module")
def runs(sketch_file: Path) -> dict[str, RunResults]:
    dataset = load_dataset("jsonl", sketch_file)
    return {
        name: evaluate(load_model(name), dataset, "wrong-lung").run for name in ("uniform", "mirrored-oracle", "oracle")
    }


class TestFloorsAndCeilings:
    def test_stand_beside_the_models_without_a_rank(self, runs: dict[str, RunResults]) -> None:
        for section in board(list(runs.values())):
            assert names(section)[0] == "oracle"
            assert names(section)[-1] == "mirrored-oracle"
            assert [line.role for line in section.lines] == ["ceiling", "floor", "floor"]
            assert not any(line.rank for line in section.lines)

    def test_are_set_around_the_models(self) -> None:
        """A floor that beats a model shows by its figure, not by a rank."""
        runs = [
            made("floor", 0.9, role="floor"),
            made("model", 0.6),
            made("better", 0.8),
            made("ceiling", 0.5, role="ceiling"),
        ]
        section = board(runs)[0]
        assert names(section) == ["ceiling", "better", "model", "floor"]
        assert ranks(section) == {"ceiling": None, "better": (1, 1), "model": (2, 2), "floor": None}
        assert not any(line.best for line in section.lines if line.role != "model")

    def test_are_known_by_name_in_runs_whose_card_does_not_say(self) -> None:
        old = [made(name, 0.6, card={"role": None}).run for name in ("oracle", "uniform", "mine")]
        for run in old:
            del run.model["role"]
        assert {line.model: line.role for line in board(old)[0].lines} == {
            "oracle": "ceiling", "uniform": "floor", "mine": "model",
        }  # fmt: skip

    def test_a_role_that_is_none_makes_a_model(self) -> None:
        assert board([made("mine", card={"role": ["floor"]})])[0].lines[0].role == "model"


class TestWhatIsComparable:
    def test_other_data_seeds_and_limits_are_apart(self) -> None:
        one = made("a")
        others = [made("b", fingerprint="e" * 64), made("c", limit=10), made("d", images_fingerprint="e" * 64)]
        others.append(Results(made("e").run.model_copy(deep=True), one.instances))
        others[-1].run.manifest.seed = 1
        sections = [section for section in board([one, *others]) if section.subset == "all"]
        assert sorted(map(tuple, map(names, sections))) == [("a",), ("b",), ("c",), ("d",), ("e",)]
        assert any(section.dataset == "made (first 120 instances only)" for section in sections)

    def test_major_versions_are_never_mixed_and_minor_ones_are_both_named(self) -> None:
        sections = board([made("a"), made("b", version="1.2"), made("c", version="2.0"), made("d", version="1.10")])
        found = {section.suite: names(section) for section in sections if section.subset == "all"}
        assert found == {"smoke 1.0, 1.2, 1.10": ["a", "b", "d"], "smoke 2.0": ["c"]}

    def test_a_suite_of_the_same_name_that_asks_otherwise_is_apart(self) -> None:
        other = made("b").run.model_copy(deep=True)
        other.suite["protocol"]["upsampling"] = "nearest"
        task = made("c").run.model_copy(deep=True)
        task.suite["tasks"][1]["perturbation"] = {"name": "swap_left_right", "other": 1}
        assert len([one for one in board([made("a"), other, task]) if one.subset == "all"]) == 3

    def test_runs_without_a_task_in_common_are_apart(self) -> None:
        synthetic = made("b", suite="wrong-lung", tasks=["synthetic"], metrics=["auroc", "average_precision"])
        original = made("a", suite="wrong-lung", tasks=["original"], metrics=["auroc", "average_precision"])
        assert len([one for one in board([original, synthetic]) if one.subset == "all"]) == 2


class TestIncompleteModels:
    FEW = ("original", "random_sentences")

    def test_stand_below_without_a_rank_whatever_their_figures(self) -> None:
        section = board([made("a", 0.7), made("b", 0.6), made("best", 0.99, tasks=self.FEW)])[0]
        assert names(section) == ["a", "b", "best"]
        assert ranks(section) == {"a": (1, 1), "b": (2, 2), "best": None}
        assert section.lines[2].misses == ("swap_left_right",)
        assert section.lines[2].figures["swap_left_right.delta_auroc"] is None
        assert "best is incomplete and has no rank: it misses swap_left_right." in render([section], "markdown")

    def test_are_not_the_best_of_any_column(self) -> None:
        section = board([made("a", 0.7), made("b", 0.6), made("best", 0.99, tasks=self.FEW)])[0]
        best = {line.model: line.best for line in section.lines}
        assert "original.auroc" in best["a"]
        assert best["best"] == frozenset()

    def test_a_metric_that_others_have_counts(self) -> None:
        few = ["auroc", "average_precision", "entropy"]
        section = board([made("a"), made("b"), made("c", metrics=few), made("d", metrics=few)])[0]
        assert section.lines[2].misses == (
            "random_attention_kl",
            "selection_accuracy_local",
            "selection_accuracy_global",
        )
        assert ranks(section) == {"a": (1, 2), "b": (1, 2), "c": None, "d": None}

    def test_a_metric_that_no_column_shows_does_not(self) -> None:
        without = ("auroc", "average_precision", "entropy", "random_attention_kl", "selection_accuracy_local")
        every = (*without, "selection_accuracy_global")
        [section, _] = board([made("a", metrics=(*every, "iou@10")), made("b", metrics=every)])
        assert [line.misses for line in section.lines] == [(), ()]

    def test_an_undefined_figure_is_not_a_missing_one(self) -> None:
        section = board([made("a"), made("b", values={"selection_accuracy_local": float("nan")})])[0]
        assert [line.misses for line in section.lines] == [(), ()]
        assert all(line.rank for line in section.lines)

    def test_floors_can_be_incomplete_too(self) -> None:
        text = render(board([made("a"), made("low", 0.5, role="floor", tasks=self.FEW)]), "markdown")
        assert "low is incomplete" in text


class TestOrder:
    def test_is_by_the_ranking_cell_on_one_lung_in_every_subset(self) -> None:
        """On all instances ``b`` is the better one."""
        one_lung = [at % 3 == 0 for at in range(120)]
        a = noise(0) * [0.9 if inside else 0.5 for inside in one_lung]
        b = noise(0) * [0.5 if inside else 0.9 for inside in one_lung]
        sections = board([made("b", b), made("a", a)])
        assert [names(section) for section in sections] == [["a", "b"], ["a", "b"]]
        assert [section.subset for section in sections] == ["all", "one_lung"]
        assert sections[0].ranking is not None
        assert sections[0].ranking.subset == "one_lung"

    def test_does_not_depend_on_that_of_the_runs(self) -> None:
        runs = [
            made("a", noise(0)), made("a", noise(1)), made("b", noise(2), tasks=["original"]), made("c", noise(0)),
            made("c", noise(0), version="1.1"), made("d", 0.5, role="floor"), made("e", fingerprint="e" * 64),
        ]  # fmt: skip
        expected = board(runs)
        for order in itertools.islice(itertools.permutations(runs), 1, 5040, 720):
            assert board(order) == expected

    def test_models_without_a_value_come_after_those_with_a_rank(self) -> None:
        section = board([made("a", float("nan")), made("b", 0.4), made("c", 0.6)])[0]
        assert ranks(section) == {"c": (1, 1), "b": (2, 2), "a": None}

    def test_one_model_has_no_rank(self) -> None:
        section = board([made("a")])[0]
        assert ranks(section) == {"a": None}
        assert section.ranking is None
        assert "Rank" not in render([section], "markdown")

    def test_without_lungs_is_that_on_all(self, sketch: Dataset) -> None:
        hearts = dataclasses.replace(
            sketch, instances=tuple(one for one in sketch.instances if one.id.endswith("-2")), regions={}
        )
        ranked = [evaluate(load_model(name), hearts, "smoke").run for name in ("uniform", "oracle")]
        assert names(board(ranked)[0]) == ["oracle", "uniform"]

    def test_agreement_with_other_columns_is_kendalls(self) -> None:
        up, down = ([made(name, 0.5 + at / 10, values=v) for at, (name, v) in enumerate(pairs)] for pairs in (
            [("a", {"average_precision": 0.1}), ("b", {"average_precision": 0.2}), ("c", {"average_precision": 0.3})],
            [("a", {"average_precision": 0.3}), ("b", {"average_precision": 0.2}), ("c", {"average_precision": 0.1})],
        ))  # fmt: skip
        for runs, tau in ((up, 1), (down, -1)):
            ranking = board(runs, subsets=["one_lung"])[0].ranking
            assert ranking is not None
            assert ranking.agreement == {"AP": tau}


class TestFigures:
    def test_are_those_of_the_result_files(self, runs: dict[str, RunResults]) -> None:
        sections = {section.subset: section for section in board(list(runs.values()))}
        seen = 0
        for score in runs["oracle"].scores:
            line = next(one for one in sections[score.subset].lines if one.model == "oracle")
            for key, value, low in (
                (f"{score.task}.{score.metric}", score.value, score.ci_low),
                (f"{score.task}.delta_{score.metric}", score.delta, score.delta_ci_low),
            ):
                if key in line.figures:
                    seen += 1
                    figure = line.figures[key]
                    assert (None if figure is None else figure.value) == value
                    assert (None if figure is None else figure.low) == (None if value is None else low)
        assert seen > 4 * 12

    def test_columns_that_no_run_has_are_left_out(self) -> None:
        section = board([made("a", metrics=["auroc", "average_precision"])])[0]
        assert {column.metric for column in section.columns} == {"auroc", "average_precision"}
        nowhere = board([made("a", values={"entropy": float("nan")})])[0]
        assert "original.entropy" not in [column.key for column in nowhere.columns]

    def test_what_was_resampled_is_named(self) -> None:
        assert "120 instances, 40 images" in render(board([made("a", unit="images")]), "markdown")

    def test_two_settings_of_one_model_are_told_apart(self) -> None:
        pair = [made("a", card={"settings": {"width": width, "same": 1}}) for width in ("0.2", "0.3")]
        assert names(board(pair)[0]) == ["a (width=0.2)", "a (width=0.3)"]
        assert names(board([made("a"), made("a")])[0]) == ["a #1", "a #2"]

    def test_unknown_subsets_are_refused(self) -> None:
        with pytest.raises(WronglungError, match="no run has a subset 'two_lungs'"):
            board([made("a")], subsets=["two_lungs"])


class TestPublishedRows:
    def test_are_marked_and_kept_below(self) -> None:
        section = board([made("a"), made("low", 0.1, role="floor")], published=True)[0]
        assert [line.published for line in section.lines] == [False, False] + [True] * 5
        assert not any(line.rank or line.best for line in section.lines if line.published)
        text = render([section], "markdown")
        assert "| GLoRIA †" in text
        assert "as published (McInerney et al., EMNLP 2022), not rerun" in text

    def test_hold_the_papers_figures(self) -> None:
        figures = published_figures()
        # Table 2, Table 9 and Figure 4 of the paper.
        assert figures["gloria", "original", "all", "auroc", False] == pytest.approx(0.6907)
        assert figures["gloria", "random_sentences", "all", "random_attention_kl", False] == pytest.approx(0.0799)
        assert figures["gloria", "original", "all", "entropy", False] == pytest.approx(5.828)
        assert figures["gloria", "swap_left_right", "all", "auroc", True] == pytest.approx(-0.0008)
        models = {model for model, *_ in figures}
        assert models == {"gloria", "retrained", "retrained-abnormal", "retrained-masking", "retrained-randsent"}

    def test_alone_fill_every_cell(self) -> None:
        sections = board([], published=True)
        assert [section.subset for section in sections] == list(PUBLISHED_INSTANCES)
        for section in sections:
            assert len(section.lines) == 5
            assert all(figure is not None for line in section.lines for figure in line.figures.values())
            assert len(section.columns) == 6 + 2 * 5


def test_a_subset_that_the_dataset_cannot_say_is_not_applicable(tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    image = ImageRef("a", tmp_path / "a.png", 40, 40)
    boxes = (Box("dog", 1, 1, 20, 20),)
    data = Dataset("dogs", tuple(Instance(f"a{at}", image, text, boxes) for at, text in enumerate(("A dog.", "It."))))
    sections = board([evaluate(load_model("oracle"), data, "wrong-lung").run])
    assert {one.subset: one.applicable for one in sections} == {
        "all": True, "abnormal": False, "one_lung": False, "mdrb": True,
    }  # fmt: skip
    markdown = render(sections, "markdown")
    assert "· one_lung: not applicable, the dataset does not say\n\n###" in markdown
    assert "one\\_lung" not in render(sections, "latex")
    assert "· one_lung: not applicable, the dataset does not say</h2>\n</section>" in render(sections, "html")
    assert ",one_lung," in render(sections, "csv")
