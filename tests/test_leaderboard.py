"""Tables of runs: what stands beside what, in which order, and how it is printed."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from wronglung import Dataset, evaluate, load_model, load_suite
from wronglung.benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, ImageRef, Instance
from wronglung.benchmark.results import RunResults
from wronglung.leaderboard.board import board, published_figures
from wronglung.leaderboard.render import render


@pytest.fixture(scope="module")
def runs(sketch_file: Path) -> dict[str, RunResults]:
    from wronglung import load_dataset

    dataset = load_dataset("jsonl", sketch_file)
    names = ("uniform", "mirrored-oracle", "oracle", "text-blind")
    return {name: evaluate(load_model(name), dataset, "wrong-lung").run for name in names}


def test_lines_are_in_order_of_auroc_on_one_lung(runs: dict[str, RunResults]) -> None:
    for section in board(list(runs.values())):
        assert section.lines[0].model == "oracle"
        assert section.lines[-1].model == "mirrored-oracle"


def test_figures_are_those_of_the_result_files(runs: dict[str, RunResults]) -> None:
    sections = {section.subset: section for section in board(list(runs.values()))}
    for score in runs["oracle"].scores:
        line = next(one for one in sections[score.subset].lines if one.model == "oracle")
        for key, value, low in (
            (f"{score.task}.{score.metric}", score.value, score.ci_low),
            (f"{score.task}.delta_{score.metric}", score.delta, score.delta_ci_low),
        ):
            if key in line.figures:
                figure = line.figures[key]
                assert (None if figure is None else figure.value) == value
                assert (None if figure is None else figure.low) == (None if value is None else low)


def test_only_comparable_runs_share_a_section(runs: dict[str, RunResults], sketch: Dataset) -> None:
    limited = evaluate(load_model("uniform"), sketch, "wrong-lung", limit=10).run
    other_seed = evaluate(load_model("uniform"), sketch, "wrong-lung", seed=1).run
    other_suite = evaluate(load_model("uniform"), sketch, "smoke").run
    everything = [runs["oracle"], limited, other_seed, other_suite]
    assert len([one for one in board(everything) if one.subset == "all"]) == 4
    assert all(len(one.lines) == 1 for one in board(everything))
    assert "(first 10 instances only)" in render(board([limited]), "markdown")


def test_a_suite_of_the_same_name_that_asks_otherwise_is_not_comparable(
    runs: dict[str, RunResults], sketch: Dataset
) -> None:
    suite = load_suite("wrong-lung")
    other = suite.model_copy(update={"protocol": suite.protocol.model_copy(update={"upsampling": "nearest"})})
    run = evaluate(load_model("uniform"), sketch, other).run
    assert len([one for one in board([runs["oracle"], run]) if one.subset == "all"]) == 2


def test_without_lungs_the_order_is_that_on_all(sketch: Dataset) -> None:
    hearts = dataclasses.replace(
        sketch, instances=tuple(one for one in sketch.instances if one.id.endswith("-2")), regions={}
    )
    ranked = [evaluate(load_model(name), hearts, "smoke").run for name in ("uniform", "oracle")]
    assert [line.model for line in board(ranked)[0].lines] == ["oracle", "uniform"]


def test_what_was_resampled_is_named(sketch: Dataset) -> None:
    nameless = tuple(dataclasses.replace(one, patient_id=None, study_id=None) for one in sketch.instances)
    run = evaluate(load_model("uniform"), dataclasses.replace(sketch, instances=nameless), "smoke").run
    assert "36 instances, 12 images" in render(board([run]), "markdown")


def test_two_settings_of_one_model_are_told_apart(sketch: Dataset) -> None:
    pair = [evaluate(load_model("center-prior", width=width), sketch, "smoke").run for width in ("0.2", "0.3")]
    labels = {line.model for line in board(pair)[0].lines}
    assert labels == {"center-prior (width=0.2)", "center-prior (width=0.3)"}


def test_published_rows_are_marked_and_kept_below(runs: dict[str, RunResults]) -> None:
    section = board([runs["mirrored-oracle"]], published=True)[0]
    assert [line.published for line in section.lines] == [False] + [True] * 5
    text = render([section], "markdown")
    assert "GLoRIA †" in text
    assert "as published (McInerney et al., EMNLP 2022), not rerun" in text


def test_published_figures_are_the_papers() -> None:
    figures = published_figures()
    # Table 2, Table 9 and Figure 4 of the paper.
    assert figures["gloria", "original", "all", "auroc", False] == pytest.approx(0.6907)
    assert figures["gloria", "random_sentences", "all", "random_attention_kl", False] == pytest.approx(0.0799)
    assert figures["gloria", "original", "all", "entropy", False] == pytest.approx(5.828)
    assert figures["gloria", "swap_left_right", "all", "auroc", True] == pytest.approx(-0.0008)
    models = {model for model, *_ in figures}
    assert models == {"gloria", "retrained", "retrained-abnormal", "retrained-masking", "retrained-randsent"}


def test_published_alone_fills_every_cell() -> None:
    sections = board([], published=True)
    assert [section.subset for section in sections] == list(PUBLISHED_INSTANCES)
    for section in sections:
        assert len(section.lines) == 5
        assert all(figure is not None for line in section.lines for figure in line.figures.values())


def test_markdown_shows_percent_signed_deltas_and_intervals(runs: dict[str, RunResults]) -> None:
    text = render(board([runs["uniform"]], subsets=["all"]), "markdown")
    rows = [line for line in text.splitlines() if line.startswith("| uniform")]
    assert "50.0 [50.0, 50.0]" in rows[0]
    assert rows[1].split("|")[2].strip() == "0 [0, 0]"
    assert "[" not in "".join(
        line for line in render(board([runs["uniform"]]), "markdown", intervals=False).splitlines() if "uniform" in line
    )


def test_csv_holds_unrounded_fractions(runs: dict[str, RunResults]) -> None:
    rows = list(csv.DictReader(io.StringIO(render(board([runs["oracle"]], published=True), "csv"))))
    assert {row["source"] for row in rows} == {"run", "as published, not rerun"}
    oracle = next(row for row in rows if row["model"] == "oracle" and row["subset"] == "one_lung")
    score = next(
        one for one in runs["oracle"].scores if (one.task, one.subset, one.metric) == ("original", "one_lung", "auroc")
    )
    assert float(oracle["original.auroc"]) == score.value
    assert float(oracle["original.auroc.low"]) == score.ci_low


def test_latex_is_balanced_and_escaped(runs: dict[str, RunResults]) -> None:
    text = render(board([runs["oracle"]], published=True), "latex")
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 4 * 3
    assert text.count("\\toprule") == text.count("\\bottomrule")
    assert "one\\_lung" in text
    assert not {"Δ", "−", "†", "·", "–"} & set(text)
    widths = {line.count("&") for line in text.splitlines() if "\\\\" in line and "&" in line}
    assert widths == {5, 6}


def test_model_names_cannot_break_a_table(runs: dict[str, RunResults]) -> None:
    run = runs["uniform"].model_copy(update={"model": {**runs["uniform"].model, "name": "a|b_%&"}})
    assert "a\\|b_%&" in render(board([run]), "markdown")
    assert "a|b\\_\\%\\&" in render(board([run]), "latex")


def test_unknown_subsets_are_refused(runs: dict[str, RunResults]) -> None:
    with pytest.raises(WronglungError, match="no run has a subset 'two_lungs'"):
        board([runs["oracle"]], subsets=["two_lungs"])


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
    assert "### dogs · wrong-lung 1.0 · one_lung: not applicable, the dataset does not say\n\n###" in markdown
    assert render(sections, "latex").count("begin{table*}") == 2
    assert ",one_lung," in render(sections, "csv")
