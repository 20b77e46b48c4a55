"""Metrics of other packages: found by name, given a map and a mask, held to what they promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wronglung import Dataset, evaluate, load_model, load_suite
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.metrics.catalogue import METRICS, find_metric
from wronglung.benchmark.registry import METRICS as REGISTRY
from wronglung.benchmark.scoring import Wanted
from wronglung.tasks.schema import SuiteSpec

Own = Callable[[Any], SuiteSpec]

MODULE = """
from wronglung.benchmark.metrics.catalogue import Metric

def metric(function, name="own"):
    return Metric(name, "a summary", True, (0.0, 1.0), "here", function)

"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Install a package with a metric ``own``, of the given source, and give a suite that asks for it."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"metric_of_{tmp_path.name}"

    def install(source: str) -> SuiteSpec:
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[wronglung.metrics]\nown = {name}:OWN\n")
        (tmp_path / f"{name}.py").write_text(MODULE + source)
        (tmp_path / "suite.yaml").write_text(
            'name: mine\nversion: "1.0"\ndescription: Mine.\ntasks: [original, swap_left_right]\n'
            "subsets: [all]\nmetrics: [auroc, own]\ncorrelations: [auroc, own]\n"
        )
        return load_suite(str(tmp_path / "suite.yaml"))

    find_metric.cache_clear()
    yield install
    find_metric.cache_clear()


def test_a_metric_gets_map_and_mask_and_its_figures_are_summarised(own: Own, sketch: Dataset) -> None:
    suite = own(
        "def mean_inside(saliency, mask):\n"
        "    assert saliency.dtype == 'float32' and mask.dtype == bool and saliency.shape == mask.shape == (224, 224)\n"
        "    assert not saliency.flags.writeable and not mask.flags.writeable\n"
        "    return (saliency > 0)[mask].mean()\n"
        "OWN = metric(mean_inside)\n"
    )
    assert [metric.name for metric in Wanted.by(suite).own] == ["own"]
    results = evaluate(load_model("oracle"), sketch, suite)
    cells = {(one.task, one.metric): one for one in results.run.scores}
    inside, swapped = cells["original", "own"], cells["swap_left_right", "own"]
    assert inside.value is not None
    assert swapped.delta is not None
    assert inside.value > 0.95
    assert inside.higher_is_better is True
    assert swapped.delta < -0.3
    assert [(one.a, one.b) for one in results.run.correlations] == [("auroc", "own")]


def test_nan_is_undefined(own: Own, sketch: Dataset) -> None:
    results = evaluate(load_model("uniform"), sketch, own("OWN = metric(lambda saliency, mask: float('nan'))"))
    cell = next(one for one in results.run.scores if one.metric == "own")
    assert (cell.value, cell.n_undefined) == (None, cell.n_instances)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lambda saliency, mask: 2", "metric 'own' gave 2.0; it must be finite and lie in \\[0.0, 1.0\\]"),
        ("lambda saliency, mask: float('inf')", "metric 'own' gave inf"),
        ("lambda saliency, mask: None", "metric 'own' failed: TypeError"),
        ("lambda saliency, mask: saliency.sort()", "metric 'own' failed: ValueError: .*read-only"),
    ],
)
def test_what_is_no_figure_is_refused(own: Own, sketch: Dataset, function: str, message: str) -> None:
    suite = own(f"OWN = metric({function})")
    with pytest.raises(WronglungError, match=message):
        evaluate(load_model("uniform"), sketch, suite)


@pytest.mark.parametrize(
    "source", ["OWN = lambda saliency, mask: 1.0", "OWN = metric(None)", "OWN = metric(min, name='other')"]
)
def test_what_is_no_metric_is_refused_with_the_suite(own: Own, source: str) -> None:
    with pytest.raises(
        WronglungError, match="suite.yaml: metric 'own': its entry point must hold a .*Metric of this name"
    ):
        own(source)


def test_a_suite_with_an_unknown_metric_is_refused_with_near_names(own: Own) -> None:
    with pytest.raises(WronglungError, match="unknown metric 'aurocc'; did you mean auroc"):
        find_metric("aurocc")


def test_it_is_listed_with_its_package(own: Own) -> None:
    own("OWN = metric(lambda saliency, mask: 1.0)")
    assert ("own", "theirs") in {(row.name, row.origin) for row in REGISTRY.listed()}


@pytest.mark.parametrize("name", METRICS)
def test_built_in_metrics_are_found_by_name_and_bring_no_function(name: str) -> None:
    assert find_metric(name) is METRICS[name]
    assert METRICS[name].function is None
