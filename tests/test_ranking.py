"""Exact pixel-ranking metrics, held against scikit-learn and against loops over the pixels."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from wronglung.benchmark.frames import Interpolation, scoring_frame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.metrics import codes, compiled, ranking
from wronglung.benchmark.metrics.codes import MOST_MASKS
from wronglung.benchmark.metrics.ranking import Ties, rank, score

BoolArray = npt.NDArray[np.bool_]

PERCENTS = (5, 10, 20, 30)
KEYS = [
    "auroc",
    "average_precision",
    *(f"{measure}@{p}" for p in PERCENTS for measure in ("precision", "recall", "f1", "iou")),
    "average_precision_normalized",
    "relevance_rank_accuracy",
]
TIES: list[Ties] = ["exact", "released"]


def scored(pixels: torch.Tensor, mask: BoolArray | list[bool], ties: Ties = "exact") -> dict[str, float]:
    (scores,) = score(rank(pixels, [np.asarray(mask)]), ties)
    return scores


def naive(pixels: list[float], mask: list[bool], ties: Ties) -> dict[str, float]:
    """The definitions, one pixel at a time."""
    n, positives = len(pixels), sum(mask)
    if not positives:
        return dict.fromkeys(KEYS, math.nan)
    inside = [value for value, positive in zip(pixels, mask, strict=True) if positive]
    outside = [value for value, positive in zip(pixels, mask, strict=True) if not positive]
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside)
    scores = {"auroc": won / (positives * len(outside)) if outside else math.nan, "average_precision": 0.0}
    for threshold in set(inside):
        retrieved, hit = (sum(value >= threshold for value in values) for values in (pixels, inside))
        scores["average_precision"] += inside.count(threshold) / positives * hit / retrieved
    prevalence = positives / n
    scores["average_precision_normalized"] = (
        (scores["average_precision"] - prevalence) / (1 - prevalence) if outside else math.nan
    )

    def expected_in_top(k: int) -> float:
        boundary = sorted(pixels)[n - k]
        surely = sum(value > boundary for value in pixels)
        share = (k - surely) / pixels.count(boundary)
        return sum(value > boundary for value in inside) + share * inside.count(boundary)

    scores["relevance_rank_accuracy"] = expected_in_top(positives) / positives
    for p in PERCENTS:
        if ties == "exact":
            k = max(1, n * p // 100)
            tp = expected_in_top(k)
            size, tp_strict, size_strict = float(k), tp, float(k)
        else:
            k = int(n * p / 100)
            threshold = max(sorted(pixels)[: n - k])
            tp, size = sum(v >= threshold for v in inside), sum(v >= threshold for v in pixels)
            tp_strict, size_strict = sum(v > threshold for v in inside), sum(v > threshold for v in pixels)
        scores[f"precision@{p}"] = tp / size
        scores[f"recall@{p}"] = tp / positives
        scores[f"f1@{p}"] = 2 * tp / (size + positives)
        scores[f"iou@{p}"] = tp_strict / (size_strict + positives - tp_strict)
    return scores


def assert_same(actual: dict[str, float], expected: dict[str, float]) -> None:
    assert list(actual) == KEYS
    assert actual == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


def sklearn_areas(pixels: torch.Tensor, mask: BoolArray) -> tuple[float, float]:
    values = pixels.double().numpy()
    return float(roc_auc_score(mask, values)), float(average_precision_score(mask, values))


FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(0, 1, width=32),
    st.sampled_from([-math.inf, -0.0, 0.0, 1e-45, -1e-45, 3e-39, 3.4e38, -3.4e38]),
    st.integers(-2, 2).map(float),
)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    n = draw(st.integers(1, 60))
    pool = draw(st.lists(FLOATS, min_size=1, max_size=draw(st.sampled_from([1, 2, 5, 60]))))
    return (
        draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n)),
        draw(st.lists(st.booleans(), min_size=n, max_size=n)),
    )


@settings(max_examples=300, deadline=None)
@given(maps_and_masks(), st.sampled_from(TIES))
@example(([1.0], [True]), "exact")
@example(([1.0], [False]), "exact")
@example(([1.0], [True]), "released")
@example(([0.0, -0.0, 1e-45, -1e-45], [False, True, True, False]), "exact")
@example(([-math.inf] * 3 + [0.0], [True, False, False, True]), "released")
def test_every_metric_follows_its_definition(case: tuple[list[float], list[bool]], ties: Ties) -> None:
    pixels, mask = case
    rounded = torch.tensor(pixels, dtype=torch.float32)
    assert_same(scored(rounded, mask, ties), naive(rounded.tolist(), mask, ties))


def smooth_map(seed: int, cells: int = 19) -> torch.Tensor:
    """A softmax map of smooth noise, as word-region attention gives it."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(cells + 2, cells + 2))
    logits = np.sum([noise[i : i + cells, j : j + cells] for i in range(3) for j in range(3)], axis=0)
    return torch.from_numpy((np.exp(logits) / np.exp(logits).sum()).astype(np.float32))


def random_boxes(seed: int, size: int = 224) -> BoolArray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.bool_)
    for _ in range(rng.integers(1, 5)):
        height, width = rng.integers(size // 12, size // 2, 2)
        y, x = rng.integers(0, size - height), rng.integers(0, size - width)
        mask[y : y + height, x : x + width] = True
    return mask.ravel()


def pixels_of(saliency: torch.Tensor, mode: Interpolation) -> torch.Tensor:
    return scoring_frame(Geometry.squash(224, 224, 224, 224), "model").sample(saliency, mode).flatten()


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("seed", range(4))
def test_areas_equal_scikit_learns_on_attention_maps(mode: Interpolation, seed: int) -> None:
    pixels, mask = pixels_of(smooth_map(seed), mode), random_boxes(seed)
    result = scored(pixels, mask)
    assert (result["auroc"], result["average_precision"]) == pytest.approx(sklearn_areas(pixels, mask), abs=1e-12)


@cache
def full_size_maps() -> dict[str, torch.Tensor]:
    """Maps above the size from which PyTorch sorts integers by radix, and one below."""
    rng = np.random.default_rng(5)
    noise = torch.from_numpy(rng.normal(size=40_000).astype(np.float32))
    return {
        "positive": noise.abs(),
        "signed": noise,
        "negative": -noise.abs(),
        "float64, differing beyond float32": 1 + noise.double() * 1e-12,
        "float16": noise.half(),
        "bfloat16": noise.bfloat16(),
        "subnormal": torch.arange(40_000, dtype=torch.int32).view(torch.float32) * noise.sign(),
        "huge": noise * 5e37,
        "heavily tied": (noise * 2).round(),
        "two values": noise.sign(),
        "constant": torch.full_like(noise, 0.25),
        "zeros of both signs": torch.zeros_like(noise) * noise,
        "small": noise[:1000],
        "not contiguous": noise.reshape(200, 200).T.reshape(-1, 2)[:, 0],
    }


@pytest.mark.parametrize("name", full_size_maps())
def test_areas_equal_scikit_learns_on_any_kind_of_map(name: str) -> None:
    pixels = full_size_maps()[name]
    mask = np.random.default_rng(6).random(len(pixels)) < 0.2
    result = scored(pixels, mask)
    assert (result["auroc"], result["average_precision"]) == pytest.approx(sklearn_areas(pixels, mask), abs=1e-12)


@pytest.mark.parametrize("name", full_size_maps())
def test_it_is_known_how_many_pixels_exceed_a_value(name: str) -> None:
    pixels = full_size_maps()[name]
    values = pixels.double().numpy()
    ranking = rank(pixels)
    low, high = ranking.codes.range()
    assert (low, high) == (values.min(), values.max())
    thresholds = [low, *np.random.default_rng(0).choice(values, 20).tolist(), low / 2 + high / 2, high]
    if abs(high) < 1e30:
        thresholds += [low - 1, np.nextafter(low, -9), np.nextafter(high, 9e9), high + 1]
    expected = [len(values) - int((values > one).sum()) for one in thresholds]
    assert ranking.exceeding(thresholds).tolist() == expected


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", full_size_maps())
def test_top_pixels_are_counted_right_on_any_kind_of_map(name: str, ties: Ties) -> None:
    pixels = full_size_maps()[name]
    mask = np.random.default_rng(6).random(len(pixels)) < 0.2
    values, result = pixels.double().numpy(), scored(pixels, mask, ties)
    for p in PERCENTS:
        k = len(values) * p // 100
        if ties == "exact":
            boundary = np.sort(values)[-k]
            above, level = values > boundary, values == boundary
            tp = above[mask].sum() + (k - above.sum()) / level.sum() * level[mask].sum()
            expected = tp / k, tp / mask.sum(), 2 * tp / (k + mask.sum()), tp / (k + mask.sum() - tp)
        else:
            threshold = np.sort(values)[len(values) - k - 1]
            at_least, above = values >= threshold, values > threshold
            tp = (at_least & mask).sum()
            iou = (above & mask).sum() / (above | mask).sum()
            expected = tp / at_least.sum(), tp / mask.sum(), 2 * tp / (at_least.sum() + mask.sum()), iou
        actual = [result[f"{measure}@{p}"] for measure in ("precision", "recall", "f1", "iou")]
        assert actual == pytest.approx(expected, rel=1e-12)


def test_without_a_positive_pixel_everything_is_undefined() -> None:
    for ties in TIES:
        result = scored(torch.rand(50), [False] * 50, ties)
        assert list(result) == KEYS
        assert all(math.isnan(value) for value in result.values())


def test_without_a_negative_pixel_only_auroc_is_undefined() -> None:
    result = scored(torch.rand(100), [True] * 100)
    assert math.isnan(result.pop("auroc"))
    assert result["average_precision"] == 1
    assert (result["precision@10"], result["recall@10"], result["iou@10"]) == (1, 0.1, 0.1)


def test_a_constant_map_is_at_chance() -> None:
    mask = [True] * 30 + [False] * 70
    exact, released = (scored(torch.full((100,), 0.1), mask, ties) for ties in TIES)
    assert (exact["auroc"], exact["average_precision"]) == (0.5, 0.3)
    assert (exact["precision@10"], exact["recall@10"]) == pytest.approx((0.3, 0.1))
    # The released code takes every pixel for precision and recall, and none for IoU.
    assert (released["precision@10"], released["recall@10"], released["iou@10"]) == (0.3, 1, 0)


def test_pixels_never_seen_rank_last() -> None:
    pixels = torch.tensor([-math.inf, -5.0, -1.0, 3.0])
    assert scored(pixels, [True, False, False, False])["auroc"] == 0
    assert scored(pixels, [False, True, False, False])["auroc"] == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_shared_ties_are_the_mean_over_all_ways_to_break_them(levels: list[int], data: st.DataObject) -> None:
    n = len(levels)
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    k = max(1, n * 30 // 100)
    hits = [
        sum(mask[i] for i in sorted(range(n), key=lambda i: (levels[i], tie_break[i]))[n - k :])
        for tie_break in permutations(range(n))
    ]
    result = scored(torch.tensor(levels, dtype=torch.float32), mask)
    expected = sum(hits) / len(hits)
    assert result["precision@30"] == pytest.approx(expected / k)
    assert result["recall@30"] == pytest.approx(expected / sum(mask))
    assert result["f1@30"] == pytest.approx(2 * expected / (k + sum(mask)))


@settings(max_examples=50, deadline=None)
@given(maps_and_masks(), st.sampled_from(TIES), st.randoms(use_true_random=False))
def test_the_order_of_the_pixels_does_not_matter(
    case: tuple[list[float], list[bool]], ties: Ties, random: np.random.Generator
) -> None:
    pixels, mask = case
    places = list(range(len(pixels)))
    random.shuffle(places)
    moved = scored(torch.tensor([pixels[i] for i in places]), [mask[i] for i in places], ties)
    assert repr(moved) == repr(scored(torch.tensor(pixels), mask, ties))


def test_only_the_order_of_the_values_matters() -> None:
    pixels, mask = pixels_of(smooth_map(3), "bilinear"), random_boxes(3)
    expected = scored(pixels, mask)
    assert scored(pixels * 2, mask) == expected
    assert scored(pixels.double() - 1, mask) == expected
    assert scored(-pixels, mask)["auroc"] == pytest.approx(1 - expected["auroc"], abs=1e-15)


def test_a_mask_may_be_a_tensor_or_an_array() -> None:
    pixels, mask = pixels_of(smooth_map(1), "bilinear"), random_boxes(1)
    one, other = score(rank(pixels.numpy(), [torch.from_numpy(mask), mask]))
    assert one == other == scored(pixels, mask)


BY_SORT = {"numpy": codes._numpy_sort, "torch": codes._torch_sort}


@settings(max_examples=150, deadline=None)
@given(maps_and_masks(), st.integers(0, MOST_MASKS), st.booleans(), st.sampled_from(TIES))
def test_compiled_loops_give_the_same_bytes(
    case: tuple[list[float], list[bool]], count: int, double: bool, ties: Ties
) -> None:
    pixels, mask = case
    masks = [np.roll(mask, at) for at in range(count)]
    values = torch.tensor(pixels, dtype=torch.float64 if double else torch.float32)
    assert len({repr(score(rank_by(way, values, masks), ties)) for way in ways()}) == 1


@pytest.mark.parametrize("count", [0, 1, 9, MOST_MASKS])
@pytest.mark.parametrize("name", full_size_maps())
def test_compiled_loops_give_the_same_bytes_on_any_kind_of_map(name: str, count: int) -> None:
    pixels = full_size_maps()[name]
    rng = np.random.default_rng(0)
    masks = [rng.random(len(pixels)) < share for share in rng.random(count)]
    rankings = [rank_by(way, pixels, masks) for way in ways()]
    assert len({repr(score(one)) for one in rankings}) == 1
    for one in rankings:
        assert [len(hits.places) for hits in one.masks] == [mask.sum() for mask in masks]


def ways() -> list[str]:
    return [*BY_SORT, "compiled"] if compiled.load() is not None else [*BY_SORT]


def rank_by(way: str, pixels: torch.Tensor, masks: list[BoolArray]) -> ranking.Ranking:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "sort", BY_SORT.get(way))
        patch.setattr(ranking, "kernels", lambda maps: compiled.load() if way == "compiled" else None)
        return rank(pixels, masks)


def test_more_masks_than_keys_have_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at once, {MOST_MASKS}"):
        rank(torch.zeros(4), [np.zeros(4, np.bool_)] * (MOST_MASKS + 1))


class TestWhenToCompile:
    @pytest.fixture(autouse=True)
    def nothing_scored_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiled, "_maps", 0)
        monkeypatch.setattr(compiled, "load", lambda: compiled.Kernels(print, print, print))

    def test_a_short_run_does_not_pay_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiled, "_after", 3)
        given = [compiled.kernels(maps) is not None for maps in (0, 1, 1, 0, 1, 0)]
        assert given == [False] * 4 + [True] * 2

    @pytest.mark.parametrize(("value", "expected"), [("0", "None"), ("1", "compiled"), ("", "None")])
    def test_the_environment_decides(self, value: str, expected: str) -> None:
        code = (
            "from wronglung.benchmark.metrics import compiled; compiled.load = lambda: 'compiled';"
            "print(compiled.kernels(1)); import sys; assert 'numba' not in sys.modules"
        )
        environment = {**os.environ, "WRONGLUNG_COMPILED": value}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_without_numba_or_a_folder_to_keep_it_in_results_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled.load.__wrapped__() is None


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    pixels, mask = torch.rand(300_000, generator=torch.Generator().manual_seed(0)), np.arange(300_000) % 3 == 0
    results = []
    for count in (1, 2, 4):
        with threads(count):
            results.append(scored(pixels, mask))
    assert results[0] == results[1] == results[2]


def test_a_map_is_sorted_once_for_all_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts = 0

    def counted(sort: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal sorts
            sorts += 1
            return sort(*args, **kwargs)

        return wrapper

    for module, name in [(torch, "argsort"), (np, "argsort"), (np, "unique")]:
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    monkeypatch.setattr(ranking, "sort", counted(codes.sort))
    monkeypatch.setattr(ranking, "kernels", lambda maps: None)
    ranked = rank(pixels_of(smooth_map(0), "bilinear"), [random_boxes(seed) for seed in range(5)])
    for ties in TIES:
        score(ranked, ties)
    assert sorts == 1


def test_other_percentages_can_be_asked_for() -> None:
    (result,) = score(rank(torch.arange(1000.0), [np.arange(1000) >= 990]), percents=(1,))
    further = {"average_precision_normalized", "relevance_rank_accuracy"}
    assert set(result) == {"auroc", "average_precision", "precision@1", "recall@1", "f1@1", "iou@1", *further}
    assert set(result.values()) == {1.0}


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(2, 2), torch.zeros(0), torch.zeros(3, dtype=torch.int64)],
    ids=["two axes", "no pixel", "integers"],
)
def test_only_a_row_of_floating_point_pixels_is_ranked(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="floating point"):
        rank(pixels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_nan_is_refused(dtype: torch.dtype, sign: int) -> None:
    pixels = torch.tensor([1.0, math.copysign(math.nan, sign), math.inf, -math.inf], dtype=dtype)
    with pytest.raises(ValueError, match="NaN"):
        rank(pixels)
    assert len(rank(pixels[[0, 2, 3]]).keys) == 3


@pytest.mark.parametrize("mask", [np.zeros(3, np.bool_), np.zeros((2, 2), np.bool_), np.zeros(4, np.int64)])
def test_a_mask_of_another_shape_or_type_is_refused(mask: BoolArray) -> None:
    with pytest.raises(ValueError, match="mask must be bool"):
        rank(torch.zeros(4), [mask])


@pytest.mark.parametrize("percent", [0, 100, -5])
def test_percentages_outside_0_to_100_are_refused(percent: int) -> None:
    with pytest.raises(ValueError, match="percents"):
        score(rank(torch.zeros(4), [np.ones(4, np.bool_)]), percents=(percent,))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", full_size_maps())
def test_a_map_on_a_gpu_scores_the_same_to_the_last_bit(name: str, ties: Ties) -> None:
    pixels = full_size_maps()[name]
    mask = np.random.default_rng(6).random(len(pixels)) < 0.2
    (on_gpu,) = score(rank(pixels.cuda(), [torch.from_numpy(mask).cuda()]), ties)
    assert repr(on_gpu) == repr(scored(pixels, mask, ties))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sampling_on_a_gpu_gives_the_same_pixels(mode: Interpolation) -> None:
    saliency = smooth_map(2)
    assert torch.equal(pixels_of(saliency.cuda(), mode).cpu(), pixels_of(saliency, mode))
