"""Gates: how they are written, what they are on, and what is said of a change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.cells import Cell
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import RunResults
from wronglung.leaderboard.changes import Change
from wronglung.leaderboard.gates import Gate, GateRule, default_rules, fail_on_rule, read_gates, resolve
from wronglung.leaderboard.judgement import judge

METRICS = ["auroc", "iou@10", "entropy", "10"]


@pytest.fixture(scope="module")
def run(sketch_file: Path) -> RunResults:
    return evaluate(load_model("uniform"), load_dataset("jsonl", sketch_file), "smoke").run


class TestFailOn:
    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("auroc:-0.02", GateRule(metric="auroc", margin=0.02, better="higher")),
            ("auroc@synthetic:-0.02", GateRule(metric="auroc", task="synthetic", margin=0.02, better="higher")),
            ("auroc@a/b:−0.02", GateRule(metric="auroc", task="a", subset="b", margin=0.02, better="higher")),
            ("auroc/one_lung:-0.02", GateRule(metric="auroc", subset="one_lung", margin=0.02, better="higher")),
            ("auroc/*:-5%", GateRule(metric="auroc", subset="*", relative=0.05, better="higher")),
            ("iou@10:-1e-2", GateRule(metric="iou@10", margin=0.01, better="higher")),
            ("iou@10@original/all:-1", GateRule(metric="iou@10", margin=1, better="higher")),
            ("entropy:+0.5", GateRule(metric="entropy", margin=0.5, better="lower")),
            ("auroc:0", GateRule(metric="auroc", margin=0)),
            (
                "Δauroc@a/b:0.02",
                GateRule(metric="auroc", task="a", subset="b", delta=True, margin=0.02, better="lower"),
            ),
            ("delta:iou@10@a:0.02", GateRule(metric="iou@10", task="a", delta=True, margin=0.02, better="lower")),
        ],
    )
    def test_says_a_cell_and_a_change(self, text: str, rule: GateRule) -> None:
        assert fail_on_rule(text, METRICS) == rule

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("auroc", "write it as METRIC"),
            ("delta:auroc", "write it as METRIC"),
            ("", "write it as METRIC"),
            (":-0.02", "names no metric of the run"),
            ("iou:-0.02", "names no metric of the run; there are auroc, iou@10"),
            ("auroc@:-0.02", "the task is empty"),
            ("auroc@a/:-0.02", "the subset is empty"),
            ("auroc:", "not a number"),
            ("auroc:nan", "not a number"),
            ("auroc:-inf", "not a number"),
            ("auroc:two", "not a number"),
        ],
    )
    def test_refuses_anything_else(self, text: str, message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            fail_on_rule(text, METRICS)


class TestFile:
    def read(self, folder: Path, text: str) -> tuple[GateRule, ...]:
        (folder / "gates.yaml").write_text(text)
        return read_gates(folder / "gates.yaml")

    def test_lists_rules(self, tmp_path: Path) -> None:
        rules = self.read(
            tmp_path,
            "gates:\n"
            "  - {metric: auroc, subset: '*', margin: 0.01}\n"
            "  - {metric: auroc, task: swap_left_right, delta: true, at_most: -0.05, inconclusive: fail}\n",
        )
        assert rules[0] == GateRule(metric="auroc", subset="*", margin=0.01)
        assert (rules[1].task, rules[1].subset, rules[1].at_most) == ("swap_left_right", "all", -0.05)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gates: []", "gates.yaml: gates: is empty"),
            ("gates: auroc", "gates: Input should be a valid list"),
            ("[]", "must be a mapping"),
            ("gates: [{metric: auroc, margn: 0.1}]", "gates.0.margn: unknown key$"),
            ("gates: [{task: original}]", "gates.0.metric: is missing"),
            ("gates: [{metric: auroc, margin: -0.1}]", "gates.0.margin: .*greater than or equal to 0"),
            ("gates: [{metric: auroc, margin: .nan}]", "gates.0.margin: "),
            ("gates: [{metric: auroc, at_least: .inf}]", "gates.0.at_least: "),
            ("gates: [{metric: auroc, better: up}]", "gates.0.better: "),
            ("gates: [!!python/object/apply:os.system ['true']]", "is not YAML"),
        ],
    )
    def test_names_the_key_that_is_wrong(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            self.read(tmp_path, text)


class TestResolution:
    def test_by_default_values_and_deltas_that_should_fall_are_gated_on_every_subset(self, run: RunResults) -> None:
        gates = resolve(default_rules(run), run)
        cells = [one.cell for one in gates]
        for subset in ("all", "one_lung"):
            assert Cell("original", subset, "auroc") in cells
            assert Cell("original", subset, "average_precision") in cells
            assert Cell("swap_left_right", subset, "auroc", delta=True) in cells
        assert not [cell for cell in cells if cell.metric in ("entropy", "random_attention_kl")]
        assert all(one.margin is not None and one.margin > 0 for one in gates)
        assert {one.better for one in gates if not one.cell.delta} == {"higher"}
        # A smaller fall under a changed sentence means that the model reads the sentence less.
        assert {one.better for one in gates if one.cell.delta} == {"lower"}

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (GateRule(metric="auroc", task="gone"), "has no task 'gone' here; there are original, swap_left_right"),
            (GateRule(metric="auroc", subset="gone"), "has no subset 'gone' here; there are all, one_lung"),
            (GateRule(metric="gone", margin=1), "has no metric 'gone' here; there are auroc"),
            (GateRule(metric="auroc", delta=True), "gate Δauroc@original/all: has no delta"),
            (GateRule(metric="entropy"), "the metric has no margin of its own"),
            (GateRule(metric="entropy", margin=0.1), "which way is better is not known here"),
            (GateRule(metric="auroc", margin=0.1, better="lower"), "higher is better here, .* is negative"),
            (
                GateRule(metric="auroc", task="swap_left_right", delta=True, margin=0.1, better="higher"),
                "lower is better here, .* is positive",
            ),
            (GateRule(metric="auroc", margin=2), "a margin of 2 lets everything pass; .* 0.02 is two points"),
            (GateRule(metric="auroc", relative=5), "a change by 5 times the base lets everything pass; 0.05 is 5 %"),
            (GateRule(metric="auroc", at_least=80), "at_least must lie between 0 and 1, not 80"),
            (
                GateRule(metric="auroc", task="swap_left_right", delta=True, at_most=-5),
                "at_most must lie between -1 and 1, not -5",
            ),
        ],
    )
    def test_refuses_what_can_never_hold_or_fail(self, run: RunResults, rule: GateRule, message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            resolve([rule], run)

    def test_a_diagnostic_is_gated_where_the_gate_says_which_way(self, run: RunResults) -> None:
        (gate,) = resolve([GateRule(metric="entropy", margin=0.1, better="lower")], run)
        assert gate.better == "lower"
        (gate,) = resolve([GateRule(metric="entropy", margin=20, at_most=5, better="lower")], run)
        assert (gate.margin, gate.at_most) == (20, 5)
        (gate,) = resolve([GateRule(metric="entropy", at_most=5)], run)
        assert (gate.better, gate.margin) == (None, None)

    def test_of_a_margin_and_a_share_the_larger_holds(self) -> None:
        assert gate(margin=0.01, relative=0.05).margin_for(0.8) == pytest.approx(0.04)
        assert gate(margin=0.05, relative=0.05).margin_for(-0.8) == 0.05
        assert gate(margin=None, relative=0.05).margin_for(0.0) == 0.0
        assert gate(margin=None, better=None).margin_for(0.8) is None


def gate(**fields: object) -> Gate:
    usual: dict[str, object] = {
        "cell": Cell("original", "all", "auroc"), "better": "higher", "margin": 0.02, "relative": None,
        "at_least": None, "at_most": None, "inconclusive": "warn", "optional": False,
    }  # fmt: skip
    return Gate(**{**usual, **fields})  # type: ignore[arg-type]


def change(**fields: object) -> Change:
    usual: dict[str, object] = {
        "cell": Cell("original", "all", "auroc"), "base": 0.8, "candidate": 0.8, "difference": 0.0, "low": 0.0,
        "high": 0.0, "p": 1.0, "adjusted_p": 1.0, "detectable": 0.0, "margin": 0.02, "verdict": "equivalent",
        "n_paired": 100, "n_patients": 50, "n_lost": 0, "n_gained": 0,
    }  # fmt: skip
    return Change(**{**usual, **fields})  # type: ignore[arg-type]


class TestJudgement:
    @pytest.mark.parametrize(
        ("low", "high", "outcome"),
        [
            (0.0, 0.0, "passed"),
            (-0.02, 0.01, "passed"),
            (-0.02, -0.01, "passed"),  # worse, but by less than the margin
            (0.03, 0.05, "passed"),
            (-0.021, -0.001, "failed"),
            (-0.05, -0.03, "failed"),
            (-0.021, 0.0, "inconclusive"),
            (-0.1, 0.1, "inconclusive"),
        ],
    )
    def test_is_non_inferiority(self, low: float, high: float, outcome: str) -> None:
        assert judge(gate(), change(low=low, high=high)).outcome == outcome
        # The same the other way round, where lower is better.
        assert judge(gate(better="lower"), change(low=-high, high=-low)).outcome == outcome

    @given(
        ends=st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted),
        margins=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
        shift=st.floats(0, 1),
    )
    def test_a_wider_margin_or_a_better_candidate_is_never_judged_worse(
        self, ends: list[float], margins: list[float], shift: float
    ) -> None:
        order = ("failed", "inconclusive", "passed")

        def rank(margin: float, low: float, high: float) -> int:
            return order.index(judge(gate(margin=margin), change(low=low, high=high)).outcome)

        low, high = ends
        narrow, wide = margins
        assert rank(narrow, low, high) <= rank(wide, low, high)
        assert rank(narrow, low, high) <= rank(narrow, low + shift, high + shift)

    @pytest.mark.parametrize(
        ("fields", "outcome", "reason"),
        [
            ({"base": None, "candidate": None}, "inconclusive", "neither run has a value"),
            ({"candidate": None, "n_lost": 9}, "failed", "the candidate has no value"),
            ({"base": None, "n_gained": 9}, "inconclusive", "the base has no value"),
            ({"n_paired": 0, "n_lost": 9, "n_gained": 9}, "inconclusive", "no instance has a value in both runs"),
            ({"low": None, "high": None, "n_patients": 9}, "inconclusive", "no interval: 9 patients, 10 are needed"),
            ({"low": None, "high": None}, "inconclusive", "no interval: values are infinite"),
            ({"n_lost": 1}, "inconclusive", "no value any more for 1 of 101 instances"),
            ({"n_lost": 1, "low": -0.5, "high": -0.4}, "failed", "worse by more than the margin"),
        ],
    )
    def test_missing_values_never_pass(self, fields: dict[str, object], outcome: str, reason: str) -> None:
        judged = judge(gate(), change(**fields))
        assert (judged.outcome, judged.reason) == (outcome, reason)

    def test_limits_hold_beside_the_margin(self) -> None:
        assert judge(gate(at_least=0.81), change()).reason == "under its lower limit"
        assert judge(gate(at_most=0.79), change()).reason == "over its upper limit"
        assert judge(gate(at_least=0.8, at_most=0.8), change()).outcome == "passed"
        assert judge(gate(at_least=0.8, better=None, margin=None), change(base=None)).outcome == "passed"

    def test_inconclusive_fails_where_it_must_not_be(self) -> None:
        open_question = change(low=-0.1, high=0.1)
        assert not judge(gate(), open_question).fails
        assert judge(gate(inconclusive="fail"), open_question).fails
        assert judge(gate(), open_question, strict=True).fails
        assert not judge(gate(inconclusive="fail"), change(), strict=True).fails


class TestDocumentation:
    TEXT = (Path(__file__).parent.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
    GATES, WORKFLOW = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)

    def test_its_gate_file_is_one(self, tmp_path: Path) -> None:
        (tmp_path / "gates.yaml").write_text(self.GATES)
        rules = read_gates(tmp_path / "gates.yaml")
        assert [one.metric for one in rules] == ["auroc", "iou@10", "auroc"]
        for key in GateRule.model_fields:
            assert f"`{key}`" in self.TEXT

    def test_its_thresholds_are_read(self) -> None:
        for text in ("auroc@original/one_lung:-0.02", "auroc:-5%", "delta:auroc@swap_left_right/one_lung:0.02"):
            assert f"`{text}`" in self.TEXT
            fail_on_rule(text, METRICS)

    def test_its_workflow_gives_inputs_that_the_action_has(self) -> None:
        action = yaml.safe_load((Path(__file__).parent.parent / "action.yml").read_text(encoding="utf-8"))
        (step,) = (
            one
            for one in yaml.safe_load(self.WORKFLOW)["jobs"]["localization"]["steps"]
            if "with" in one and "base" in one["with"]
        )
        assert set(step["with"]) <= set(action["inputs"])
        assert {name for name, spec in action["inputs"].items() if spec.get("required")} <= set(step["with"])
