"""The file that says which columns a leaderboard has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from leaderboard_runs import made

from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.metrics.catalogue import METRICS
from wronglung.leaderboard.board import board
from wronglung.leaderboard.columns import Layout, RankingSpec, check_layout, load_layout
from wronglung.leaderboard.render import render
from wronglung.leaderboard.tabular import tidy


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "columns.yaml").write_text(text)
        return tmp_path / "columns.yaml"

    return write


AP_FIRST = """
ranking: {metric: average_precision, subsets: [all]}
subsets: [one_lung, all]
intervals: none
blocks:
  - title: Model
    columns:
      - {metric: average_precision, label: Precision, percent: false, decimals: 4}
      - {metric: auroc}
  - title: Swapped
    columns: [{metric: auroc, task: swap_left_right, delta: true, label: sides}]
"""


class TestTheDefault:
    def test_holds_all_headline_measures_and_the_swap_gain(self) -> None:
        shown = {one.metric for block in load_layout().blocks for one in block.columns}
        assert {name for name, metric in METRICS.items() if metric.headline} | {"laterality_swap_gain"} <= shown

    def test_names_known_metrics_and_tasks_only(self) -> None:
        check_layout(load_layout(), [], Path("columns.yaml"))

    def test_has_at_most_six_columns_in_a_block(self) -> None:
        metrics = [name for name in METRICS if not name.startswith(("precision", "recall", "f1", "iou"))]
        perturbations = ["original", "swap_left_right", "shuffle_boxes", "random_sentences", "random_boxes"]
        [section, _] = board([made("a", suite="wrong-lung", tasks=perturbations, metrics=metrics)])
        blocks = {one.block: [two for two in section.columns if two.block == one.block] for one in section.columns}
        assert list(blocks) == ["Model", "Headline", "ΔAUROC", "ΔAP", "Δ left and right swapped"]
        assert max(map(len, blocks.values())) == 6


class TestAFileOfOnesOwn:
    def test_chooses_columns_labels_digits_order_and_the_ranking(self, file: Callable[[str], Path]) -> None:
        layout = load_layout(file(AP_FIRST))
        runs = [made("a", 0.9, values={"average_precision": 0.2}), made("b", 0.8, values={"average_precision": 0.4})]
        sections = board(runs, layout=layout)
        assert [section.subset for section in sections] == ["one_lung", "all"]
        assert [line.model for line in sections[0].lines] == ["b", "a"]
        text = render(sections[:1], "markdown", intervals=layout.intervals)
        assert "| Model   |   Rank |   Precision |   auroc |" in text
        assert "| b       |      1 |      0.4000 |    80.0 |" in text
        assert "| Swapped   |   sides |" in text
        assert "Ranks by Precision on all" in text

    def test_a_star_is_every_perturbation_in_the_suites_order(self) -> None:
        layout = Layout.model_validate(
            {"blocks": [{"title": "Δ", "columns": [{"metric": "auroc", "task": "*", "delta": True}]}]}
        )
        section = board([made("a")], layout=layout)[0]
        assert [column.label for column in section.columns] == ["swap left right", "random sentences"]

    def test_metrics_of_other_packages_come_on_request(self) -> None:
        run = made("a").run
        run.suite["metrics"].append("theirs")
        run.scores += [
            one.model_copy(update={"metric": "theirs", "value": 7.0}) for one in run.scores if one.metric == "auroc"
        ]
        section = board([run])[0]
        assert [one.key for one in section.columns if one.metric == "theirs" and not one.delta] == ["original.theirs"]
        assert [one.block for one in section.columns if one.metric == "theirs" and one.delta] == ["Δtheirs"] * 2
        assert "7.000" in render([section], "markdown")
        plain = load_layout().model_copy(update={"other_metrics": False})
        assert "theirs" not in render(board([run], layout=plain), "markdown")

    def test_a_cell_stands_in_one_column(self) -> None:
        twice = {
            "title": "Model",
            "columns": [{"metric": "auroc", "label": "one"}, {"metric": "auroc", "label": "two"}],
        }
        section = board([made("a")], layout=Layout.model_validate({"blocks": [twice]}))[0]
        assert [column.label for column in section.columns] == ["one"]

    def test_nothing_is_ranked_by_a_diagnostic(self) -> None:
        layout = load_layout().model_copy(
            update={"ranking": load_layout().ranking.model_copy(update={"metric": "entropy"})}
        )
        with pytest.raises(WronglungError, match="cannot be ranked by entropy: it is a diagnostic"):
            board([made("a")], layout=layout)


class TestTheDocumentation:
    PAGE = (Path(__file__).parent.parent / "docs" / "leaderboard.md").read_text(encoding="utf-8")

    def test_shows_a_file_that_is_read(self, file: Callable[[str], Path]) -> None:
        [text] = re.findall(r"```yaml\n(.*?)```", self.PAGE, re.DOTALL)
        layout = load_layout(file(text))
        check_layout(layout, [made("a").run], Path("columns.yaml"))
        assert layout.ranking == RankingSpec() == load_layout().ranking

    def test_names_the_columns_of_the_tidy_table(self) -> None:
        table = self.PAGE.split("The parquet file's columns:")[1].split("## Rules")[0]
        firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        assert re.findall(r"`(\w+)`", "".join(firsts)) == list(tidy(board([made("a")])).columns)


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("blocks: []", "blocks: Tuple should have at least 1 item"),
            ("blocks: [{title: a, columns: [{metric: auroc, color: red}]}]", r"blocks.0.columns.0.color: unknown key"),
            ("blocks: [{title: a, columns: [{task: original}]}]", r"blocks.0.columns.0.metric: is missing"),
            ("blocks: [{title: a, columns: [{metric: auroc}]}]\nintervals: stars", "intervals: Input should be"),
            ("blocks: [{title: a, columns: [{metric: auroc, decimals: 99}]}]", "decimals: Input should be less"),
            ("ranking: {}", "blocks: is missing"),
            ("- auroc", "must be a mapping"),
            ("blocks: !!python/object:os.system {}", "is not YAML"),
        ],
    )
    def test_name_the_file_and_the_key(self, file: Callable[[str], Path], text: str, message: str) -> None:
        with pytest.raises(WronglungError, match=rf"columns.yaml: .*{message}"):
            load_layout(file(text))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("metric: auroc}", "metric: auroqc}"), r"blocks.0.columns.1.metric: unknown metric 'auroqc'"),
            (("task: swap_left_right", "task: swap"), r"blocks.1.columns.0.task: unknown task 'swap'"),
            (("{metric: average_precision, subsets", "{metric: ap, subsets"), r"ranking.metric: unknown metric 'ap'"),
            (("subsets: [all]", "subsets: [al]"), r"ranking.subsets: no run has one of these; there are all, one_lung"),
            (("[one_lung, all]", "[one_lungs]"), r"subsets: no run has a subset 'one_lungs'; there are all, one_lung"),
        ],
    )
    def test_what_nobody_has_is_a_mistake(
        self, file: Callable[[str], Path], change: tuple[str, str], message: str
    ) -> None:
        path = file(AP_FIRST.replace(*change))
        with pytest.raises(WronglungError, match=rf"columns.yaml: {message}"):
            check_layout(load_layout(path), [made("a").run], path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match="none.yaml: cannot be read"):
            load_layout(tmp_path / "none.yaml")
