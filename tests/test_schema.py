"""Tasks and suites as YAML: what is accepted, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from wronglung import load_suite
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.metrics.catalogue import METRICS
from wronglung.benchmark.registry import SUBSETS
from wronglung.tasks.schema import Call, bind, list_definitions, load_task

MINIMAL = """
name: mine
version: "1.0"
description: A suite.
tasks: [original]
subsets: [all]
metrics: [auroc]
"""


def suite_file(folder: Path, text: str) -> str:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("row", list_definitions("suite"), ids=lambda row: row.name)
def test_built_in_suites_load(row: object) -> None:
    suite = load_suite(row.name)  # type: ignore[attr-defined]
    assert suite.name == row.name  # type: ignore[attr-defined]


def test_built_in_tasks_are_those_of_the_paper() -> None:
    names = [row.name for row in list_definitions("task")]
    assert names == sorted(
        [
            "original",
            "swap_left_right",
            "shuffle_boxes",
            "random_sentences",
            "random_boxes",
            "synthetic",
            "swap_conditions",
        ]
    )
    assert all(load_task(name).name == name for name in names)


def test_the_released_suite_names_where_it_differs() -> None:
    exact, released = load_suite("wrong-lung"), load_suite("wrong-lung-released")
    assert [task.name for task in exact.tasks] == [task.name for task in released.tasks]
    assert exact.metrics[: len(released.metrics)] == released.metrics  # the paper's come first
    assert released.protocol.upsampling == "nearest"
    assert released.protocol.box_edges == "inclusive"
    assert released.protocol.definitions == "released"
    swap = next(task for task in released.tasks if task.name == "swap_left_right")
    assert swap.perturbation == Call.model_validate({"name": "swap_left_right", "match": "substring"})


def test_every_metric_of_the_protocol_is_in_the_catalogue() -> None:
    assert set(load_suite("wrong-lung").metrics) < set(METRICS)


def test_a_suite_may_define_and_point_to_tasks(tmp_path: Path) -> None:
    (tmp_path / "swap.yaml").write_text(
        'name: my_swap\nversion: "1.0"\ntitle: My swap\nsentences: original\nexpected: decrease\n'
        "perturbation: {name: swap_left_right, match: substring}\n"
    )
    suite = load_suite(suite_file(tmp_path, MINIMAL.replace("[original]", "[original, swap.yaml]")))
    assert [task.name for task in suite.tasks] == ["original", "my_swap"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metrics: [auroc]", "metrics: [auroc]\ncolour: red"), "colour: unknown key"),
        (("metrics: [auroc]", "metrics: [auroc]\nprotocol: {frame: sideways}"), "protocol.frame: Input should be"),
        (("metrics: [auroc]", "metrics: [auroc]\nprotocol: {zoom: 2}"), "protocol.zoom: unknown key"),
        (("metrics: [auroc]", "metrics: [aurocc]"), "metric 'aurocc'; did you mean auroc"),
        (("metrics: [auroc]", "metrics: [auroc, auroc]"), "metric 'auroc' is listed twice"),
        (("metrics: [auroc]", "metrics: []"), "metrics: Tuple should have at least 1 item"),
        (
            ("metrics: [auroc]", "metrics: [random_attention_kl]"),
            "metric 'random_attention_kl' needs the task 'random_sentences'",
        ),
        (('version: "1.0"', "version: 1.0"), "version: Input should be a valid string"),
        (("[original]", "[orginal]"), r"tasks.0: unknown task 'orginal'; known: original"),
        (("[original]", "[swap_left_right]"), "task 'swap_left_right' needs an unperturbed task of the same sentences"),
        (("[all]", "[everything]"), "unknown subset 'everything'; known: all"),
        (("[all]", "[{name: abnormal, label: strange}]"), "subset 'abnormal': label: Input should be 'any'"),
        (("[all]", "[{name: mdrb, share: 7}]"), "subset 'mdrb': share: Input should be less than or equal to 1"),
        (("[all]", "[{name: abnormal, tag: any}]"), "subset 'abnormal': tag: unknown key"),
        (("name: mine", "name: mine\nname: yours"), "is not YAML: key 'name' is given twice"),
        (("name: mine", "- mine"), "is not YAML"),
        (("name: mine", "name: !!python/object/apply:os.system ['true']"), "is not YAML"),
    ],
)
def test_mistakes_are_named_by_file_and_key(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = suite_file(tmp_path, MINIMAL.replace(*change))
    with pytest.raises(WronglungError, match=message) as raised:
        load_suite(path)
    assert str(raised.value).startswith(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "\x00"])
def test_what_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(WronglungError, match="must be a mapping|is not YAML"):
        load_suite(suite_file(tmp_path, text))


def test_unknown_suites_and_missing_files() -> None:
    with pytest.raises(WronglungError, match="unknown suite 'wrong-lun'; known: smoke, wrong-lung"):
        load_suite("wrong-lun")
    with pytest.raises(WronglungError, match="no file nowhere.yaml"):
        load_suite("nowhere.yaml")


def test_parameters_are_typed() -> None:
    bind(SUBSETS, Call.model_validate({"name": "mdrb", "share": 0.2}), "here")
    with pytest.raises(WronglungError, match="^here: subset 'mdrb': share: Input should be a valid number"):
        bind(SUBSETS, Call.model_validate({"name": "mdrb", "share": "a lot"}), "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: !!int ''", "is not YAML"),
        ("name: !!float ''", "is not YAML"),
        ("name: !!bool x", "is not YAML"),
        ("name: !!timestamp x", "is not YAML"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", "merge keys"),
        ("a: 1\na: 2\n", "key 'a' is given twice"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("x: " + "y" * 70_000, "longer than"),
        ("[" * 5000, "is not YAML|must be a mapping"),
        ("- a", "must be a mapping of keys to values, not list"),
    ],
)
def test_hostile_or_damaged_yaml_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(text)
    with pytest.raises(WronglungError, match=message) as caught:
        load_suite(str(file))
    assert str(file) in str(caught.value)
