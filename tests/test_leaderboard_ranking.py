"""Ranks, ties and agreement of models, against plain loops and known cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaderboard_runs import made, noise

from wronglung.benchmark.cells import Cell
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.results import Results
from wronglung.benchmark.statistics.resampling import resampled_means
from wronglung.leaderboard.grouping import Entry, groups
from wronglung.leaderboard.ranking import agreement, best, rank

AUROC = Cell("original", "all", "auroc")


def entries(*runs: Results, instances: bool = True) -> list[Entry]:
    [group] = groups(runs if instances else [one.run for one in runs])
    return group


def test_well_apart_models_have_one_rank_each() -> None:
    ranks = rank(entries(made("low", noise(1, centre=0.5)), made("high", noise(2, centre=0.9))), AUROC, True)
    assert {name: tuple(one) for name, one in ranks.by_label.items()} == {"high": (1, 1, False), "low": (2, 2, False)}
    assert (ranks.instances, ranks.clusters) == (120, 40)


def test_models_that_differ_by_chance_share_a_range_and_tie() -> None:
    ranks = rank(entries(*(made(f"m{seed}", noise(seed)) for seed in range(3))), AUROC, True)
    assert [one.tied for one in ranks.by_label.values()] == [False, True, True]
    assert all(one.best < one.worst for one in ranks.by_label.values())


def test_equal_models_tie_in_every_resample() -> None:
    ranks = rank(entries(made("a", noise(0)), made("b", noise(0)), made("c", noise(0) - 0.3)), AUROC, True)
    assert [tuple(one) for one in ranks.by_label.values()] == [(1, 2, False), (1, 2, True), (3, 3, False)]


def test_lower_can_be_better() -> None:
    ranks = rank(entries(made("low", noise(1, centre=0.3)), made("high", noise(2, centre=0.9))), AUROC, False)
    assert list(ranks.by_label) == ["low", "high"]


def test_models_are_compared_where_all_have_a_value() -> None:
    """A model that is undefined on the hard instances does not win by that."""
    easy_and_hard = np.where(np.arange(120) % 2, 0.9, 0.3)
    chooser = np.where(np.arange(120) % 2, 0.85, np.nan)
    ranks = rank(entries(made("all", easy_and_hard), made("chooser", chooser)), AUROC, True)
    assert list(ranks.by_label) == ["all", "chooser"]
    assert ranks.instances == 60


def test_without_instances_or_with_few_patients_ranks_are_by_value() -> None:
    models = [made("a", noise(0)), made("b", noise(0) + 0.001), made("c", noise(0))]
    for group in (
        entries(*models, instances=False),
        entries(*(made(one, noise(at, 9), patients=9, each=1) for at, one in enumerate("abc"))),
    ):
        ranks = rank(group, AUROC, True)
        assert (ranks.instances, ranks.clusters) == (None, None)
        assert not any(one.tied for one in ranks.by_label.values())
    ranks = rank(entries(*models, instances=False), AUROC, True)
    assert {name: tuple(one)[:2] for name, one in ranks.by_label.items()} == {"b": (1, 1), "a": (2, 3), "c": (2, 3)}


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    models=st.integers(2, 4),
    step=st.sampled_from([0.0, 0.01, 0.1]),
    coarse=st.booleans(),
)
def test_ranges_and_ties_are_those_of_a_plain_loop(seed: int, models: int, step: float, coarse: bool) -> None:
    values = [noise(seed + at, 60, centre=0.6 + step * at) for at in range(models)]
    if coarse:
        values = [np.round(one, 1) for one in values]
    group = entries(*(made(f"m{at}", one, patients=20) for at, one in enumerate(values)))
    ranks = rank(group, AUROC, True)
    clusters = np.array([f"p{at // 3:03}" for at in range(60)], dtype=object)
    means = resampled_means(np.stack(values, axis=1), clusters, 0)
    first = int(next(iter(ranks.by_label))[1:])
    assert values[first].mean() == pytest.approx(max(one.mean() for one in values), abs=1e-12)
    for at in range(models):
        others = np.delete(means, at, axis=1)
        seen = 1 + (others > means[:, [at]] + 1e-12).sum(1)
        last = 1 + (others >= means[:, [at]] - 1e-12).sum(1)
        found = ranks.by_label[f"m{at}"]
        # The range leaves out at most 2.5 % of the resamples on each side, and is no wider than it must be; rounding decides
        # where it is exactly so many.
        assert np.mean(seen < found.best) <= 0.025 <= np.mean(seen <= found.best)
        assert np.mean(last > found.worst) <= 0.025 <= np.mean(last >= found.worst)
        low, high = np.quantile(means[:, at] - means[:, first], (0.025, 0.975))
        assert found.tied == (at != first and low <= 0 <= high) or min(abs(low), abs(high)) < 1e-9


def test_the_best_of_a_cell_comes_with_what_cannot_be_told_from_it() -> None:
    group = entries(made("a", noise(0)), made("b", noise(1)), made("c", noise(2, centre=0.4)))
    assert best(group, {AUROC: True}) == {AUROC: {"a", "b"}}
    by_value = entries(made("a", noise(0)), made("b", noise(0)), made("c", noise(0) - 0.001), instances=False)
    assert best(by_value, {AUROC: True}) == {AUROC: {"a", "b"}}
    assert best(by_value, {AUROC: False}) == {AUROC: {"c"}}


def test_a_cell_that_one_model_has_says_nothing() -> None:
    nothing = np.full(120, np.nan)
    assert best(entries(made("a", noise(0)), made("b", nothing)), {AUROC: True}) == {}
    assert best([], {AUROC: True}) == {}


def test_instances_of_another_run_are_refused() -> None:
    one, other = made("a", noise(0)), made("b", noise(1))
    swapped = Results(one.run, other.instances)
    with pytest.raises(
        WronglungError, match="run of a: the values of its instances do not give the auroc of its summary"
    ):
        rank(entries(swapped, other), AUROC, True)
    renamed = Results(one.run, one.instances.assign(instance_id=one.instances["instance_id"] + "x"))
    with pytest.raises(WronglungError, match="its instances are not those of the other runs"):
        rank(entries(renamed, other), AUROC, True)
    without = Results(one.run, one.instances.drop(columns="auroc"))
    with pytest.raises(WronglungError, match="run of a: .* no column 'auroc'"):
        rank(entries(without, other), AUROC, True)


def test_agreement_is_kendalls_tau_of_models_that_have_both() -> None:
    assert agreement([1, 2, 3], [10, 20, 30]) == 1
    assert agreement([1, 2, 3], [30, 20, 10]) == -1
    assert agreement([1, 2, 3, 4], [10, None, 30, 20]) == pytest.approx(1 / 3)
    # A tie: two pairs in order, none against it, over the root of the pairs untied in each order.
    assert agreement([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / np.sqrt(2 * 3))
    assert agreement([1, 2], [1, 2]) is None
    assert agreement([1, 1, 1], [1, 2, 3]) is None
