"""A comparison as text: readable, complete, and never taken for markup."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planting import lower, plant

from wronglung import evaluate, load_dataset, load_model
from wronglung.benchmark.cells import Cell, cells_of
from wronglung.leaderboard.compare import Comparison, compare
from wronglung.leaderboard.compare_render import escape, render

HOSTILE = "a|b `c` <script>alert(1)</script> *d* [e](f) & _g_\nh\x00\x1b[31m"


@pytest.fixture(scope="module")
def comparison(sketch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The oracle against itself with a lower AUROC on one lung: 12 patients."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "base").mkdir()
    evaluate(load_model("oracle"), load_dataset("jsonl", sketch_file), "smoke").save(folder / "base")
    return compare(folder / "base", plant(folder / "base", folder / "worse", lower("auroc", 0.2, subset="one_lung")))


@pytest.fixture
def hostile(comparison: Comparison) -> Comparison:
    """The same, with names that are markup."""
    run = comparison.candidate.model_copy(update={"model": {**comparison.candidate.model, "name": HOSTILE}})
    first = comparison.gates[0]
    cell = Cell("original", HOSTILE, "auroc")
    gate = replace(first, gate=replace(first.gate, cell=cell), change=replace(first.change, cell=cell), reason=HOSTILE)
    return replace(comparison, candidate=run, gates=(gate, *comparison.gates[1:]), notes=(HOSTILE,))


class TestMarkdown:
    def test_failed_gates_come_first_and_the_summary_is_one_line(self, comparison: Comparison) -> None:
        lines = render(comparison, "markdown").splitlines()
        n = {outcome: sum(one.outcome == outcome for one in comparison.gates) for outcome in ("failed", "passed")}
        assert lines[0].startswith(f"### FAILED: of {len(comparison.gates)} gates, {n['failed']} failed, ")
        assert lines[2] == "oracle against oracle on sketch · smoke 1.0 · 36 instances, 12 patients"
        outcomes = [line.split("|")[1].strip() for line in lines[6 : 6 + len(comparison.gates)]]
        assert outcomes == sorted(outcomes, key=["FAILED", "inconclusive", "passed"].index)
        assert "Note: 12 patients; intervals are unreliable under 50." in lines

    def test_every_row_has_the_cells_of_its_table(self, hostile: Comparison) -> None:
        text = render(hostile, "markdown", everything=True)
        tables = [block for block in text.split("\n\n") if block.startswith("|")]
        assert len(tables) >= 2
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1

    def test_no_name_is_markup(self, hostile: Comparison) -> None:
        text = render(hostile, "markdown", everything=True)
        assert "<script" not in text
        assert "\x1b" not in text
        assert "`" not in text
        assert "[e]" not in text
        assert escape(HOSTILE).replace("\x00", "") in text.replace("\x00", "")
        assert escape("average_precision@original") == "average_precision@original"

    def test_all_cells_are_in_it_on_request(self, comparison: Comparison) -> None:
        text = render(comparison, "markdown", everything=True)
        rows = [line for line in text.splitlines() if line.startswith("|") and "@" in line]
        assert len(rows) == len(cells_of(comparison.base))
        assert text.count("<details>") == text.count("</details>") == 1


class TestJson:
    def test_has_every_cell_and_gate(self, comparison: Comparison) -> None:
        document = json.loads(render(comparison, "json"))
        assert document["schema_version"] == 1
        assert document["outcome"] == "failed"
        assert len(document["cells"]) == len(cells_of(comparison.base))
        assert [one["outcome"] for one in document["gates"]] == [one.outcome for one in comparison.gates]
        assert document["gates"][0]["margin"] == comparison.gates[0].margin
        assert document["base"]["model"] == "oracle"
        figures = [value for one in document["cells"] for value in one.values() if isinstance(value, float)]
        assert all(math.isfinite(value) for value in figures)

    def test_names_come_back_as_they_are(self, hostile: Comparison) -> None:
        assert json.loads(render(hostile, "json"))["candidate"]["model"] == HOSTILE


class TestJunit:
    def test_a_gate_is_a_test_case(self, comparison: Comparison) -> None:
        suite = ElementTree.fromstring(render(comparison, "junit"))
        assert suite.tag == "testsuite"
        assert len(suite.findall("testcase")) == int(suite.get("tests", "")) == len(comparison.gates)
        failed = [one for one in comparison.gates if one.fails]
        assert len(suite.findall("testcase/failure")) == int(suite.get("failures", "")) == len(failed) > 0

    def test_what_is_inconclusive_is_skipped_unless_it_fails(self, comparison: Comparison) -> None:
        judged = comparison.gates[0]
        for fails, kind in ((False, "skipped"), (True, "failure")):
            one = replace(judged, outcome="inconclusive", reason="cannot tell", fails=fails)
            suite = ElementTree.fromstring(render(replace(comparison, gates=(one,)), "junit"))
            told = suite.find(f"testcase/{kind}")
            assert told is not None
            assert told.get("message") == "inconclusive: cannot tell"

    def test_any_name_is_well_formed(self, hostile: Comparison) -> None:
        suite = ElementTree.fromstring(render(hostile, "junit"))
        names = [one.get("value") for one in suite.findall("properties/property")]
        assert names == ["oracle", HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")]
