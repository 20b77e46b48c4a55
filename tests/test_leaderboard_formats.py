"""How a leaderboard is printed and written: for readers, for programs, and for the Hugging Face Hub."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from leaderboard_runs import made, noise

from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import RunResults
from wronglung.leaderboard.board import Section, board
from wronglung.leaderboard.huggingface import Source, write_metadata
from wronglung.leaderboard.render import Format, render
from wronglung.leaderboard.tabular import tidy

HOSTILE = "a|b_%&#$~^\\ <script>alert(1)</script> **x** [y](javascript:1) {{ 7 * 7 }}\n\n# h"


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    """Two models that tie, a third, one that is incomplete, and bounds."""
    return board(
        [
            made("first", noise(0)),
            made("second", noise(1) - 0.001, values={"average_precision": 0.7}),
            made("third", noise(2) - 0.2),
            made("few", 0.9, tasks=["original"]),
            made("top", 0.95, role="ceiling"),
            made("bottom", 0.5, role="floor"),
        ],
        published=True,
    )


def row(text: str, model: str) -> list[str]:
    line = next(one for one in text.splitlines() if one.startswith((f"| {model} ", f"{model} ")))
    return [cell.strip() for cell in re.split(r"(?<!\\)[|&]", line.strip("|").removesuffix("\\\\"))]


class TestMarkdown:
    def test_shows_percent_signed_deltas_and_intervals(self) -> None:
        text = render(board([made("a", 0.5)], subsets=["all"]), "markdown")
        assert row(text, "a")[:2] == ["a", "50.0 [50.0, 50.0]"]
        assert "−10.00 [−10.00, −10.00]" in text

    def test_intervals_are_brackets_plus_minus_or_none(self) -> None:
        one = board([made("a", noise(0))], subsets=["all"])
        figure = one[0].lines[0].figures["original.auroc"]
        assert figure is not None
        assert figure.low is not None
        assert figure.high is not None
        value, low, high = (100 * figure.value, 100 * figure.low, 100 * figure.high)
        assert row(render(one, "markdown"), "a")[1] == f"{value:.1f} [{low:.1f}, {high:.1f}]"
        text = render(one, "markdown", intervals="plus-minus")
        assert row(text, "a")[1] == f"{value:.1f} ± {(high - low) / 2:.1f}"
        assert "half the width of the 95 % interval" in text
        text = render(one, "markdown", intervals="none")
        assert row(text, "a")[1] == f"{value:.1f}"
        assert "95 %" not in text

    def test_ranks_say_who_ties_who_is_incomplete_and_what_bounds(self, sections: list[Section]) -> None:
        text = render(sections, "markdown")
        said = {name: row(text, name)[1] for name in ("top", "first", "second", "third", "few", "bottom", "GLoRIA †")}
        tied = [name for name in ("first", "second") if said[name].endswith("≈")]
        assert len(tied) == 1
        assert {said["first"].removesuffix(" ≈"), said["second"].removesuffix(" ≈")} == {"1–2"}
        assert said["third"] == "3"
        assert (said["top"], said["few"], said["bottom"]) == ("ceiling", "incomplete", "floor")
        assert said["GLoRIA †"] == "published"
        assert "≈: not distinguishable from the first" in text
        assert "n = 40 instances of which all ranked models have a value" in text

    def test_ranks_by_value_say_so(self) -> None:
        runs = [made("a", noise(0)).run, made("b", noise(1)).run]
        assert "by value: the values of single instances are not at hand" in render(board(runs), "markdown")

    def test_every_row_has_as_many_cells_as_its_heading(self, sections: list[Section]) -> None:
        for table in re.findall(r"(?:^\|.*\n?)+", render(sections, "markdown"), re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


class TestLatex:
    def test_is_balanced_and_plain(self, sections: list[Section]) -> None:
        text = render(sections, "latex")
        assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 2 * 3
        assert text.count("\\begin{table*}") == text.count("\\end{table*}") == 2
        assert text.count("\\toprule") == text.count("\\bottomrule") == 2 * 3
        assert text.isascii()
        unescaped = re.sub(r"\\.", "", text)
        assert unescaped.count("{") == unescaped.count("}")
        widths = {line.count("&") for line in text.splitlines() if line.endswith("\\\\") and "&" in line}
        # With the column of ranks, and the deltas under two perturbations.
        assert widths == {7, 2}

    def test_the_best_and_what_ties_with_it_is_bold(self, sections: list[Section]) -> None:
        text = render(sections, "latex", intervals="none")
        bold = {
            name: [cell.startswith("\\textbf{") for cell in row(text, name)] for name in ("first", "second", "third")
        }
        assert (bold["first"][2], bold["second"][2], bold["third"][2]) == (True, True, False)
        assert (bold["first"][3], bold["second"][3], bold["third"][3]) == (False, True, False)
        assert "textbf" not in "".join(row(text, "top") + row(text, "bottom") + row(text, "few"))
        assert "Bold: the best of the ranked models" in text

    def test_rules_part_models_from_the_rest(self, sections: list[Section]) -> None:
        first = render(sections, "latex").split("\\end{tabular}")[0].splitlines()
        names = [line.split(" &")[0] if "&" in line else line for line in first]
        at = [index for index, name in enumerate(names) if name == "\\midrule"]
        assert [names[index - 1] for index in at[1:]][1:] == ["third", "few", "bottom"]

    def test_plus_minus_is_a_command(self, sections: list[Section]) -> None:
        assert " $\\pm$ " in render(sections, "latex", intervals="plus-minus")


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


class TestHtml:
    def test_is_one_page_that_asks_for_nothing(self, sections: list[Section]) -> None:
        page = _Page(render(sections, "html"))
        assert page.tags.count("table") == 2 * 3
        assert page.tags.count("h1") == 1
        assert not {"script", "link", "img", "iframe"} & {*page.tags}
        assert not {"src", "href", "onclick", "onload"} & {*page.attributes}

    def test_says_what_markdown_says(self, sections: list[Section]) -> None:
        page = _Page(render(sections, "html"))
        for cell in row(render(sections, "markdown"), "third"):
            assert cell in page.words

    def test_the_best_is_strong(self, sections: list[Section]) -> None:
        text = render(sections, "html", intervals="none")
        assert re.search(r'<th scope="row">second</th><td>.*?</td><td><strong>', text)
        assert re.search(r'<th scope="row">third</th><td>3</td><td>\d', text)


class TestHostileNames:
    @pytest.fixture
    def run(self) -> RunResults:
        run = made(HOSTILE).run
        run.dataset.name = HOSTILE
        return run

    def test_cannot_break_markdown(self, run: RunResults) -> None:
        text = render(board([run, made("b").run]), "markdown")
        assert "<script" not in text
        assert "a\\|b\\_%&#\\$\\~^\\\\ &lt;script&gt;" in text
        assert "\\[y\\](javascript:1)" in text
        assert "\\*\\*x\\*\\*" in text
        assert "\n# h" not in text

    def test_cannot_break_latex(self, run: RunResults) -> None:
        text = render(board([run]), "latex")
        assert (
            "a\\textbar{}b\\_\\%\\&\\#\\$\\textasciitilde{}\\textasciicircum{}\\textbackslash{} \\textless{}script"
            in text
        )
        assert "\\{\\{ 7 * 7 \\}\\} \\# h" in text

    def test_cannot_swallow_the_end_of_a_row(self) -> None:
        text = render(board([made("[1ex] x").run, made("*").run]), "latex")
        assert "\n{}[1ex] x & " in text
        assert "\n{}* & " in text

    def test_cannot_become_html(self, run: RunResults) -> None:
        text = render(board([run, made("few", tasks=["original"]).run]), "html")
        assert "script" not in _Page(text).tags
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "{{ 7 * 7 }}" in text

    def test_come_back_from_csv_in_one_line(self, run: RunResults) -> None:
        rows = list(csv.DictReader(io.StringIO(render(board([run]), "csv"))))
        assert {one["model"] for one in rows} == {" ".join(HOSTILE.split())}

    @pytest.mark.parametrize("fmt", ["markdown", "latex", "csv", "html"])
    def test_cannot_command_a_terminal(self, fmt: Literal["markdown", "latex", "csv", "html"]) -> None:
        run = made("red \x1b[31m\x07\x00 \u202e" + "x" * 10_000).run
        run.dataset.name = "data \x1bc"
        text = render(board([run]), fmt)
        assert all(one.isprintable() or one == "\n" for one in text)
        assert "red " in text
        assert "x" * 200 not in text

    def test_are_no_emphasis_and_no_formula(self) -> None:
        text = render(board([made("_x_ snake_case ~~y~~ $z$").run]), "markdown")
        assert "\\_x\\_ snake_case \\~\\~y\\~\\~ \\$z\\$" in text


class TestTables:
    def test_csv_holds_unrounded_fractions(self, sections: list[Section]) -> None:
        rows = list(csv.DictReader(io.StringIO(render(sections, "csv"))))
        assert {one["source"] for one in rows} == {"run", "as published, not rerun"}
        one = next(one for one in rows if one["model"] == "third" and one["subset"] == "one_lung")
        figure = next(line for line in sections[1].lines if line.model == "third").figures["original.auroc"]
        assert figure is not None
        assert float(one["original.auroc"]) == figure.value
        assert float(one["original.auroc.low"]) == figure.low
        assert (one["rank_best"], one["rank_worst"], one["role"], one["misses"]) == ("3", "3", "model", "")
        few = next(one for one in rows if one["model"] == "few")
        assert (few["rank_best"], few["misses"]) == ("", "swap_left_right random_sentences")
        assert few["swap_left_right.delta_auroc"] == ""

    def test_the_tidy_table_has_a_row_per_model_and_cell(self, sections: list[Section]) -> None:
        frame = tidy(sections)
        assert len(frame) == sum(len(section.lines) * len(section.columns) for section in sections)
        assert not frame.duplicated(["subset", "model", "task", "metric", "delta"]).any()
        chosen = frame[(frame["model"] == "second") & (frame["subset"] == "all") & (frame["metric"] == "auroc")]
        one = chosen[chosen["task"] == "original"].iloc[0]
        figure = next(line for line in sections[0].lines if line.model == "second").figures["original.auroc"]
        assert figure is not None
        assert (one["value"], one["low"], one["high"], one["n"]) == figure
        assert (one["n"], one["rank_best"], one["rank_worst"], one["best"]) == (120, 1, 2, True)
        delta = chosen[chosen["delta"] & (chosen["task"] == "swap_left_right")].iloc[0]
        assert delta["value"] == pytest.approx(-0.1)
        assert delta.isna()["n"]
        published = frame[frame["source"] != "run"]
        assert published["rank_best"].isna().all()
        assert {*published["dataset"]} == {"Chest ImaGenome gold"}
        assert set(frame.loc[frame["model"] == "few", "misses"]) == {"swap_left_right random_sentences"}

    def test_types_are_those_said_even_without_rows(self, sections: list[Section]) -> None:
        assert tidy([]).dtypes.equals(tidy(sections).dtypes)


@pytest.mark.parametrize("fmt", ["markdown", "latex", "html", "csv"])
def test_an_empty_subset_is_no_empty_table(fmt: Format) -> None:
    run = made("a", patients=12, each=1).run
    for score in run.scores:
        if score.subset == "one_lung":
            score.value = score.delta = score.ci_low = score.ci_high = score.delta_ci_low = score.delta_ci_high = None
            score.n_instances = 0
    text = render(board([run], subsets=["one_lung"]), fmt)
    assert "begin{tabular}" not in text
    assert "|" not in text
    assert "<table" not in text


class TestHuggingFace:
    SOURCE = Source("me/data", "c" * 40, "2024-05-31", "https://example.org/runs", "our runs")

    def test_both_files_hold_every_figure_of_a_model(self, sections: list[Section], tmp_path: Path) -> None:
        written = write_metadata(sections, self.SOURCE, tmp_path)
        names = [line.model for line in sections[0].lines if line.role == "model" and not line.published]
        assert sorted(names) == ["few", "first", "second", "third"]
        assert [str(one.relative_to(tmp_path)) for one in written] == [
            f"{model}/{file}" for model in names for file in (".eval_results/smoke.yaml", "model-index.yaml")
        ]
        entries = yaml.safe_load((tmp_path / "third" / ".eval_results" / "smoke.yaml").read_text())
        assert entries[0]["dataset"] == {"id": "me/data", "task_id": "all.original.auroc", "revision": "c" * 40}
        assert entries[0]["date"] == "2024-05-31"
        assert entries[0]["source"] == {"url": "https://example.org/runs", "name": "our runs"}
        assert "made · smoke 1.0 · all · 120 instances, 40 patients; 95 % interval 0." in entries[0]["notes"]
        index = yaml.safe_load((tmp_path / "third" / "model-index.yaml").read_text())["model-index"]
        name, results = model_index_to_eval_results(index)
        assert name == "third"
        values = {(one.dataset_config, one.metric_type): one.metric_value for one in results}
        for section in sections:
            line = next(one for one in section.lines if one.model == "third")
            for column in section.columns:
                figure = line.figures[column.key]
                assert figure is not None
                task_id = f"{section.subset}.{column.key}"
                assert [one["value"] for one in entries if one["dataset"]["task_id"] == task_id] == [figure.value]
                metric = f"delta_{column.metric}" if column.delta else column.metric
                assert values[f"{section.subset}.{column.task}", metric] == figure.value

    def test_the_hubs_own_reader_takes_them(self, sections: list[Section], tmp_path: Path) -> None:
        parse = getattr(huggingface_hub, "parse_eval_result_entries", None)
        if parse is None:
            from huggingface_hub import __version__

            pytest.skip(f"huggingface_hub {__version__} does not read .eval_results")
        write_metadata(sections, self.SOURCE, tmp_path)
        raw = yaml.safe_load((tmp_path / "first" / ".eval_results" / "smoke.yaml").read_text())
        entries = parse(raw)
        assert len(entries) == len(raw)
        assert {one.source_name for one in entries} == {"our runs"}
        assert {one.dataset_revision for one in entries} == {"c" * 40}

    def test_what_is_not_said_is_left_out(self, sections: list[Section], tmp_path: Path) -> None:
        write_metadata(sections, Source("me/data"), tmp_path)
        [entry, *_] = yaml.safe_load((tmp_path / "few" / ".eval_results" / "smoke.yaml").read_text())
        assert entry.keys() == {"dataset", "value", "notes"}
        assert entry["dataset"].keys() == {"id", "task_id"}

    def test_names_make_folders_of_their_own_and_stay_inside(self, tmp_path: Path) -> None:
        runs = [made(name) for name in ("../../up", "a/b", "a_b", "A_b", "..", "ü")]
        written = write_metadata(board(runs), Source("me/data"), tmp_path / "out")
        folders = {one.relative_to(tmp_path / "out").parts[0] for one in written}
        assert folders == {"up", "A_b", "a_b-2", "a_b-3", "model", "model-2"}
        assert {one.name for one in tmp_path.iterdir()} == {"out"}

    def test_one_dataset_and_one_suite_at_a_time(self, tmp_path: Path) -> None:
        sections = board([made("a"), made("b", version="2.0")])
        with pytest.raises(WronglungError, match="give runs of one: smoke 1.0 on made, smoke 2.0 on made"):
            write_metadata(sections, Source("me/data"), tmp_path)
        with pytest.raises(WronglungError, match="only floors, ceilings or published figures"):
            write_metadata(board([made("a", role="floor")], published=True), Source("me/data"), tmp_path)


def test_figures_that_round_to_zero_have_no_sign() -> None:
    text = render(board([made("a", np.full(120, 0.5), values={"entropy": -0.0001})], subsets=["all"]), "markdown")
    assert "0.000 [0.000, 0.000]" in text
    assert "−0.000" not in text
