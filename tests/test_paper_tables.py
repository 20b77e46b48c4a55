"""The paper's tables: its figures exactly as printed, and runs in the same layout."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.cli import main
from wronglung.benchmark.results import RESULTS, RunResults, Score
from wronglung.leaderboard.board import PUBLISHED_NAMES, published_figures
from wronglung.leaderboard.paper.layouts import Layouts, find_layout, load_layouts
from wronglung.leaderboard.paper.members import Figure, Member, sections
from wronglung.leaderboard.paper.render import render
from wronglung.leaderboard.paper.tables import Entry, Table, tables

PUBLISHED = Path(__file__).parents[1] / "leaderboard" / "published" / "wrong_lung_2022.csv"
TABLES = [name for name, layout in load_layouts().layouts.items() if layout.kind != "figure"]
FIGURES = [name for name, layout in load_layouts().layouts.items() if layout.kind == "figure"]


@pytest.fixture(scope="module")
def floors(sketch_file: Path) -> list[RunResults]:
    """A ceiling and a floor on the generated dataset."""
    data = load_dataset("jsonl", sketch_file)
    return [evaluate(load_model(name), data, "wrong-lung").run for name in ("oracle", "uniform")]


@pytest.fixture(scope="module")
def runs(floors: list[RunResults]) -> list[RunResults]:
    """The same, with two models that have the ceiling's and the floor's figures."""
    return [*floors, renamed(floors[0], "Reader"), renamed(floors[1], "Gazer")]


def renamed(run: RunResults, name: str, **changes: Any) -> RunResults:
    return run.model_copy(update={"model": {**run.model, "name": name, "role": "model"}, **changes}, deep=True)


def made(
    name: str, runs: Sequence[RunResults] = (), published: bool = False, models: Sequence[str] = ()
) -> list[Table]:
    return tables(find_layout(name), sections(runs, published=published, models=models))


def score(run: RunResults, task: str, subset: str, metric: str) -> Score:
    return next(one for one in run.scores if (one.task, one.subset, one.metric) == (task, subset, metric))


def lines(text: str, label: str) -> list[list[str]]:
    """The cells of the rows of a Markdown table that begin with a label."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row[1:] for row in rows if row[0] == label]


class TestPublished:
    def test_every_figure_is_in_one_place_as_printed(self) -> None:
        expected = {}
        for row in csv.DictReader(PUBLISHED.read_text().splitlines()):
            task = row["sentences"] if row["perturbation"] == "none" else row["perturbation"]
            metric = row["metric"].removesuffix("_x100").removesuffix("_nats").replace("attention_entropy", "entropy")
            expected[PUBLISHED_NAMES[row["model"]], task, row["subset"], metric] = row["value"]
        found = []
        for name in (*TABLES, *FIGURES):
            for row in csv.DictReader(render(made(name, published=True), "csv").splitlines()):
                assert row["section"] == "Chest ImaGenome gold"
                assert row["source"] == "as published, not rerun"
                if name != "subset-sizes":
                    found.append(((row["model"], row["task"], row["subset"], row["metric"]), row["value"]))
        assert len(expected) == 1312
        assert len(found) == len(expected)
        assert dict(found) == expected

    @pytest.mark.parametrize("name", [one for one in TABLES if one not in ("correlations", "subset-sizes")])
    def test_tables_for_readers_hold_the_same_text(self, name: str) -> None:
        (table,) = made(name, published=True)
        shown = render([table], "markdown")
        for row in table.rows:
            printed = [entry.figure.printed for entry in row.entries if entry is not None and entry.figure is not None]
            assert [printed] == lines(shown, row.label)
            assert f"{row.label} & {' & '.join(map(str, printed))} \\\\".replace("†", r"$\dagger$") in render(
                [table], "latex"
            )

    def test_the_first_row(self) -> None:
        text = render(made("localization", published=True), "markdown")
        assert lines(text, "GLoRIA †") == [["69.07", "51.68", "69.51", "48.29", "65.48", "38.67", "65.03", "36.96"]]
        assert "not rerun: Chest ImaGenome gold, 2,496 instances." in text

    def test_the_numbers_are_those_of_the_leaderboard(self) -> None:
        names = {name: model for model, name in PUBLISHED_NAMES.items()}
        figures, seen = published_figures(), 0
        for name in (*TABLES, *FIGURES):
            if name in ("correlations", "subset-sizes"):
                continue
            for entry in (entry for table in made(name, published=True) for entry in table.entries()):
                metric, delta = entry.metric.removeprefix("delta_"), entry.metric.startswith("delta_")
                value = figures[names[entry.member.model], entry.task, entry.subset, metric, delta]
                assert entry.numbers()[0] == pytest.approx(value * entry.times)
                seen += 1
        assert seen == len(figures)

    def test_correlations_are_a_lower_triangle_a_model(self) -> None:
        found = made("correlations", published=True)
        assert len(found) == 4  # the paper has none for random sentences
        first = found[0]
        assert first.title == "Pearson correlations over instances: GLoRIA †, Chest ImaGenome gold"
        assert [sum(entry is not None for entry in row.entries) for row in first.rows] == [1, 2, 3, 4, 5, 6, 7]
        text = render([first], "markdown")
        assert lines(text, "entropy") == [["-0.275", "0.220", "", "", "", "", ""]]
        assert "entropy & $-$0.275 & 0.220 &  &  &  &  &  \\\\" in render([first], "latex")

    def test_sizes(self) -> None:
        text = render(made("subset-sizes", published=True), "markdown")
        assert lines(text, "Chest ImaGenome gold †") == [["2496", "748", "285", "252"]]


class TestRuns:
    @pytest.mark.parametrize(
        ("name", "task", "metric", "times", "digits"),
        [
            ("localization", "original", "average_precision", 100, 2),
            ("precision", "original", "precision@30", 100, 2),
            ("iou", "original", "iou@10", 100, 2),
            ("synthetic-localization", "synthetic", "auroc", 100, 2),
            ("synthetic-precision", "synthetic", "precision@5", 100, 2),
            ("synthetic-iou", "synthetic", "iou@30", 100, 2),
            ("entropy", "original", "entropy", 1, 3),
            ("random-attention-kl", "random_sentences", "random_attention_kl", 100, 2),
        ],
    )
    def test_are_printed_as_the_paper_prints(
        self, runs: list[RunResults], name: str, task: str, metric: str, times: int, digits: int
    ) -> None:
        (table,) = made(name, runs)
        row = next(row for row in table.rows if row.label == "Reader")
        entries = [entry for entry in row.entries if entry is not None and entry.metric == metric]
        assert [entry.subset for entry in entries] == ["all", "abnormal", "one_lung", "mdrb"]
        for entry in entries:
            cell = score(runs[0], task, entry.subset, metric)
            assert entry.text() == ("–" if cell.value is None else f"{cell.value * times:.{digits}f}")
        assert entries[0].text() != "–"

    def test_csv_has_every_digit_and_the_interval(self, runs: list[RunResults]) -> None:
        rows = [*csv.DictReader(render(made("localization", runs), "csv").splitlines())]
        row = next(one for one in rows if (one["model"], one["subset"], one["metric"]) == ("Reader", "all", "auroc"))
        cell = score(runs[0], "original", "all", "auroc")
        assert cell.value is not None
        assert cell.ci_low is not None
        assert cell.ci_high is not None
        assert float(row["value"]) == pytest.approx(cell.value * 100, rel=1e-11)
        assert float(row["low"]) == pytest.approx(cell.ci_low * 100, rel=1e-11)
        assert float(row["high"]) == pytest.approx(cell.ci_high * 100, rel=1e-11)

    def test_a_figures_data_are_the_deltas(self, runs: list[RunResults]) -> None:
        rows = [*csv.DictReader(render(made("swap-left-right", runs), "csv").splitlines())]
        row = next(one for one in rows if one["model"] == "Reader" and one["metric"] == "delta_auroc")
        cell = score(runs[0], "swap_left_right", "all", "auroc")
        assert cell.delta is not None
        assert cell.delta < -0.1
        assert float(row["value"]) == pytest.approx(cell.delta * 100, rel=1e-11)
        assert len(rows) == len(runs) * 4 * 8

    def test_intervals_on_request(self, runs: list[RunResults]) -> None:
        cell = score(runs[0], "original", "all", "auroc")
        assert cell.value is not None
        assert cell.ci_low is not None
        assert cell.ci_high is not None
        expected = f"{cell.value * 100:.2f} [{cell.ci_low * 100:.2f}, {cell.ci_high * 100:.2f}]"
        plain, full = (render(made("localization", runs), "markdown", intervals=one) for one in (False, True))
        assert lines(full, "Reader")[0][0] == expected
        assert "In brackets, 95 % intervals" in full
        assert "[" not in plain

    def test_floors_and_ceilings_then_published_rows_come_last(self, runs: list[RunResults]) -> None:
        (table,) = made("localization", runs, published=True)
        assert [row.label for row in table.rows][:5] == ["Gazer", "Reader", "oracle", "uniform", "GLoRIA †"]
        text = render([table], "markdown")
        assert text.index("Reader") < text.index("*Floors and ceilings*") < text.index("oracle")
        assert text.index("uniform") < text.index("*As published*") < text.index("GLoRIA †")
        assert render([table], "latex").count("\\midrule") == 3

    @pytest.mark.parametrize("fmt", ["markdown", "latex", "csv"])
    @pytest.mark.parametrize("name", [*TABLES[:1], "correlations", "subset-sizes"])
    def test_the_order_of_runs_is_nothing(
        self, runs: list[RunResults], name: str, fmt: Literal["markdown", "latex", "csv"]
    ) -> None:
        other = runs[0].model_copy(update={"manifest": runs[0].manifest.model_copy(update={"seed": 7})})
        several = [*runs, other]
        assert render(made(name, several, True), fmt) == render(made(name, several[::-1], True), fmt)

    def test_runs_that_cannot_be_compared_have_tables_of_their_own(self, runs: list[RunResults]) -> None:
        other = renamed(runs[0], "Reader", manifest=runs[0].manifest.model_copy(update={"seed": 7}))
        found = made("localization", [*runs, other], published=True)
        assert [table.title.rpartition(", ")[2] for table in found] == ["seed 0", "seed 7"]
        assert [sum(row.label == "Reader" for row in table.rows) for table in found] == [1, 1]
        text = render(found, "csv")
        assert text.count("Reader") == 2 * 8
        assert text.count("GLoRIA retrained, masking") == 8, "the paper's rows are written once"
        sizes = render(made("subset-sizes", [*runs, other], published=True), "markdown")
        assert sizes.count("seed ") == 2
        assert len(lines(sizes, "Chest ImaGenome gold †")) == 1
        assert len(made("correlations", [other, *runs], published=True)) == 5 + 4

    def test_what_a_run_lacks_is_a_dash(self, runs: list[RunResults]) -> None:
        kept = [one for one in runs[0].scores if one.task != "synthetic" and one.metric != "average_precision"]
        partial = renamed(runs[0], "Partial", scores=kept, correlations=[])
        text = render(made("localization", [*runs, partial]), "markdown")
        assert lines(text, "Partial")[0][1::2] == ["–"] * 4
        assert lines(text, "Partial")[0][0] == lines(text, "Reader")[0][0]
        assert lines(render(made("synthetic-iou", [*runs, partial]), "markdown"), "Partial") == [["–"] * 12]
        assert "Partial & -- & -- & " in render(made("synthetic-iou", [*runs, partial]), "latex")
        matrix = next(table for table in made("correlations", [*runs, partial]) if "Partial" in table.title)
        assert {entry.text() for entry in matrix.entries()} == {"–"}
        rows = [*csv.DictReader(render(made("synthetic-iou", [partial, *runs]), "csv").splitlines())]
        assert {row["value"] for row in rows if row["model"] == "Partial"} == {""}

    def test_two_runs_of_one_name_are_told_apart(self, runs: list[RunResults]) -> None:
        twins = [
            renamed(runs[at], "Reader").model_copy(
                update={"model": {**runs[at].model, "name": "Reader", "role": "model", "settings": {"method": method}}}
            )
            for at, method in ((0, "value"), (1, "naive"))
        ]
        (table,) = made("localization", twins)
        assert [re.sub(", preprocessing.*|, whole.*", "", row.label).rstrip(")") for row in table.rows] == [
            "Reader (method=naive",
            "Reader (method=value",
        ]

    def test_chosen_models_come_in_the_order_asked_for(self, runs: list[RunResults]) -> None:
        names = ["uniform", "Reader", "Gazer", "retrained-masking", "gloria"]
        (table,) = made("localization", runs, published=True, models=names)
        assert [row.label for row in table.rows] == [
            "Reader", "Gazer", "uniform", "GLoRIA retrained, masking †", "GLoRIA †",
        ]  # fmt: skip


class TestLatex:
    @pytest.mark.parametrize("name", TABLES)
    def test_every_line_has_all_columns(self, runs: list[RunResults], name: str) -> None:
        text = render(made(name, runs, published=True), "latex", intervals=True)
        assert text.count("{") == text.count("}")
        for body in re.findall(r"\\begin\{tabular\}(.+?)\\end\{tabular\}", text, re.DOTALL):
            columns = len(re.match(r"\{(l?r+)\}", body)[1])  # type: ignore[index]
            for line in (line for line in body.splitlines() if line.endswith("\\\\")):
                spans = sum(int(one) - 1 for one in re.findall(r"\\multicolumn\{(\d+)\}", line))
                assert line.count(" & ") + 1 + spans == columns, line

    def test_headings_span_their_subset(self, runs: list[RunResults]) -> None:
        text = render(made("precision", runs), "latex")
        assert r" & \multicolumn{3}{c}{all} & \multicolumn{3}{c}{abnormal} & " in text
        assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7} \cmidrule(lr){8-10} \cmidrule(lr){11-13}" in text
        assert "cmidrule" not in render(made("entropy", runs), "latex")

    def test_names_are_escaped(self, runs: list[RunResults]) -> None:
        odd = renamed(runs[0], "50 % of_a & b\n| <i>")
        assert "50 \\% of\\_a \\& b " in render(made("localization", [odd]), "latex")
        (row,) = [line for line in render(made("localization", [odd]), "markdown").splitlines() if "50 %" in line]
        assert row.replace("\\|", "").count("|") == 10
        assert "<i>" not in row


class TestEntries:
    @given(st.floats(-2, 2), st.integers(0, 4), st.sampled_from([1, 100]))
    def test_round_and_never_print_a_negative_zero(self, value: float, digits: int, times: Literal[1, 100]) -> None:
        text = entry(Figure(value), times, digits).text()
        assert abs(float(text) - value * times) <= 0.5 * 10**-digits + 1e-9
        assert not (text.startswith("-") and float(text) == 0)
        assert len(text.partition(".")[2]) == digits

    @pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
    def test_what_is_no_number_is_a_dash(self, value: float | None) -> None:
        assert entry(Figure(value), 100, 2).text() == "–"

    def test_keep_the_papers_digits(self) -> None:
        assert entry(Figure(printed="-0.00"), 100, 3).text() == "-0.00"


def entry(figure: Figure, times: int, digits: int) -> Entry:
    return Entry(Member("model", "model", "somewhere", {}, {}), "original", "all", "auroc", figure, times, digits)


class TestLayouts:
    def test_a_layout_of_an_unknown_metric_is_refused(self) -> None:
        raw = load_layouts().model_dump()
        raw["layouts"]["iou"]["metrics"] = ["iou@7"]
        with pytest.raises(ValueError, match="metric 'iou@7' is not among the metrics"):
            Layouts.model_validate(raw)

    def test_a_table_without_metrics_is_refused(self) -> None:
        raw = load_layouts().model_dump()
        raw["layouts"]["iou"]["metrics"] = []
        with pytest.raises(ValueError, match="tables and figures have metrics"):
            Layouts.model_validate(raw)

    def test_an_unknown_key_is_refused(self) -> None:
        raw = load_layouts().model_dump()
        raw["layouts"]["iou"]["colour"] = "red"
        with pytest.raises(ValueError, match="colour"):
            Layouts.model_validate(raw)


@pytest.fixture(scope="module")
def folder(runs: list[RunResults], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs on disk."""
    out = tmp_path_factory.mktemp("runs")
    for run in runs:
        (out / run.model["name"]).mkdir()
        (out / run.model["name"] / RESULTS).write_text(run.model_dump_json())
    return out


def paper(*arguments: str | Path, code: int = 0) -> str:
    """What ``wronglung paper`` prints: to standard output, or the one line of a refusal."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["wronglung", "paper", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code, err.getvalue()
    if code:
        assert out.getvalue() == ""
        assert len(err.getvalue().strip().splitlines()) == 1
        return err.getvalue()
    return out.getvalue()


class TestCommand:
    def test_lists_what_there_is(self) -> None:
        listed = paper("list")
        assert [line.split()[0] for line in listed.splitlines()] == [*TABLES, *FIGURES]

    def test_prints_published_figures_runs_or_both(self, folder: Path) -> None:
        assert "69.07" in paper("localization", "--published")
        alone, both = paper("localization", folder), paper("localization", folder, "--published")
        assert "Reader" in alone
        assert "†" not in alone
        assert "Reader" in both
        assert "GLoRIA †" in both

    def test_writes_what_the_name_of_the_file_says(self, folder: Path, tmp_path: Path) -> None:
        for suffix, start in ((".md", "### "), (".tex", "% needs"), (".csv", "section,"), (".txt", "### ")):
            out = tmp_path / f"table{suffix}"
            assert paper("iou", folder, "--out", out) == ""
            assert out.read_text().startswith(start)
        paper("iou", folder, "--out", tmp_path / "table.md", "--format", "latex")
        assert (tmp_path / "table.md").read_text().startswith("% needs")

    def test_a_figures_data_can_be_printed(self, folder: Path) -> None:
        assert "delta_iou@30" in paper("swap-left-right", folder, "--format", "csv")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("localisation", "--published"), "no table or figure 'localisation' in the paper; known: localization, "),
            (("localization",), "nothing to show; give folders of runs, or --published"),
            (
                ("localization", "--published", "-f", "svg"),
                "localization is a table: give --format markdown, latex or csv",
            ),
            (("swap-left-right", "--published"), "swap-left-right is a figure: give --format svg, png or csv"),
            (("swap-left-right", "--published", "-f", "svg"), "with --out, such as swap-left-right.svg"),
            (("localization", "--published", "-m", "clip"), "no model 'clip' here; there are: GLoRIA, "),
            (("correlations", "--published", "-m", "retrained-randsent"), "nothing to show: no model here has pearson"),
            (("localization", "missing"), "missing: does not exist"),
        ],
    )
    def test_says_no_in_one_line(self, arguments: tuple[str, ...], said: str) -> None:
        assert said in paper(*arguments, code=2)

    def test_says_what_no_run_has(self, folder: Path, runs: list[RunResults], tmp_path: Path) -> None:
        kept = [one for one in runs[0].scores if one.task == "original"]
        (tmp_path / RESULTS).write_text(runs[0].model_copy(update={"scores": kept}).model_dump_json())
        assert "has auroc, average_precision under the task 'synthetic'" in paper(
            "synthetic-localization", tmp_path, code=2
        )


def test_a_title_names_all_versions_of_the_suite(runs: list[RunResults]) -> None:
    later = runs[0].model_copy(update={"suite": {**runs[0].suite, "version": "1.100"}})
    [section] = sections([later, *runs])
    assert section.title.endswith(f"wrong-lung {runs[0].suite['version']}, 1.100")
