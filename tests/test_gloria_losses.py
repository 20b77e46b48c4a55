"""GLoRIA's training losses: the original's numbers, naive loops over pairs, exact gradients, and what must hold always."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from wronglung.adapters.gloria.attention import TEMPERATURE_ATTENTION, mean_over_words, slot_mask, word_similarity
from wronglung.adapters.gloria.training import pairs
from wronglung.adapters.gloria.training.losses import (
    Aggregate,
    LossTerms,
    LossWeights,
    divergence_loss,
    entropy_loss,
    global_loss,
    local_logits,
    local_loss,
    no_attention_loss,
    segmentation_loss,
    training_losses,
)
from wronglung.adapters.gloria.training.pairs import compare_pairs, pair_attention

pytestmark = pytest.mark.usefixtures("one_thread")

Array = np.ndarray[Any, Any]

BATCHES = ("batch1", "batch2")
VECTOR = {"without_no_attn_vec": False, "with_no_attn_vec": True}


class Golden:
    """The original's embeddings and losses."""

    def __init__(self, folder: Path) -> None:
        self.forward = dict(np.load(folder / "forward.npz"))
        self.similarity = dict(np.load(folder / "similarity.npz"))
        self.attention = dict(np.load(folder / "attention.npz"))
        self.no_attention = dict(np.load(folder / "noattn.npz"))
        self.losses = json.loads((folder / "losses.json").read_text())
        sentences = json.loads((folder / "preprocess.json").read_text())["sentences"]
        self.slots = [one["cap_len_local_loss"] for one in sentences]
        self.image_of = [one["image"] for one in sentences]
        bits = np.unpackbits(np.load(folder / "preprocess.npz")["seg_packed"], axis=1)
        self.labels = torch.tensor(bits.reshape(-1, 224, 224).astype(bool))

    def operands(self, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Regions of the 6 images, words of the 16 sentences, and the slots that the loss counts."""
        regions = torch.tensor(self.forward["img_emb_l"], dtype=dtype).flatten(2).transpose(1, 2)
        words = torch.tensor(self.forward["text_emb_l"], dtype=dtype).transpose(1, 2)
        return regions, words, slot_mask([(0, n) for n in self.slots], words.shape[1])

    def vector(self, wanted: bool) -> torch.Tensor | None:
        return torch.tensor(self.no_attention["no_attn_vec"]) if wanted else None

    def terms(self, batch: str, vector: bool, weights: LossWeights, aggregate: Aggregate, double: bool) -> LossTerms:
        dtype = torch.float64 if double else torch.float32
        chosen = self.losses["shared_by_both_repositories"][batch]["sentence_indices"]
        images = [self.image_of[sentence] for sentence in chosen]
        regions, words, counted = self.operands(dtype)
        return training_losses(
            as_grid(regions[images], 19, 19),
            words[chosen],
            counted[chosen],
            torch.tensor(self.forward["img_emb_g"], dtype=dtype)[images],
            torch.tensor(self.forward["text_emb_g"], dtype=dtype)[chosen],
            weights,
            no_region=self.vector(vector),
            aggregate=aggregate,
            labels=self.labels[chosen],
        )


@pytest.fixture(scope="module")
def original(golden: Path) -> Golden:
    return Golden(golden)


def as_grid(regions: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """[images, regions, D] as [images, rows, columns, D]."""
    return regions.reshape(len(regions), rows, columns, -1)


def numbers(terms: LossTerms) -> dict[str, float]:
    return {name: term.item() for name, term in terms.present().items()}


class TestOriginal:
    def test_similarities_and_maps_of_all_pairs(self, original: Golden) -> None:
        regions, words, counted = original.operands()
        cosines, maps = compared(regions, words, counted)
        for aggregate, key in (("sum", "local_sum_logits"), ("mean", "local_mean_logits")):
            logits = local_logits(cosines, counted, aggregate)  # type: ignore[arg-type]
            np.testing.assert_allclose(logits, original.similarity[key], rtol=0, atol=1e-4)
        expected = original.attention["attn_mean_all"].reshape(6, 16, 361)
        np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=0)

    def test_similarities_and_maps_with_the_no_attention_vector(self, original: Golden) -> None:
        regions, words, counted = original.operands()
        cosines, maps = compared(regions, words, counted, original.vector(True))
        expected = original.no_attention
        np.testing.assert_allclose(local_logits(cosines, counted), expected["na_local_sum_logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(maps[:, :, 1:], expected["na_attn_mean_all"].reshape(6, 16, 361), rtol=1e-5, atol=0)
        weights = maps[original.image_of, range(16), 0]
        np.testing.assert_allclose(weights, expected["na_weight_matched"], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("vector", [False, True])
    def test_attention_of_each_word(self, original: Golden, vector: bool) -> None:
        regions, words, counted = original.operands()
        attention = pair_attention(regions, words, counted, no_region=original.vector(vector))
        for sentence, (image, n) in enumerate(zip(original.image_of, original.slots, strict=True)):
            ours = attention[image, sentence, :n, 1 if vector else 0 :].reshape(n, 19, 19)
            arrays, key = (original.no_attention, "na_attn_words") if vector else (original.attention, "attn_words")
            np.testing.assert_allclose(ours, arrays[f"{key}_{sentence:02}"], rtol=1e-5, atol=0)

    @pytest.mark.parametrize("batch", BATCHES)
    @pytest.mark.parametrize("double", [False, True])
    def test_both_repositories(self, original: Golden, batch: str, double: bool) -> None:
        expected = original.losses["shared_float64" if double else "shared_by_both_repositories"][batch]
        terms = original.terms(batch, False, LossWeights(), "sum", double)
        assert numbers(terms) == pytest.approx(
            {
                "local_image_to_text": expected["local_loss0"],
                "local_text_to_image": expected["local_loss1"],
                "global_image_to_text": expected["global_loss0"],
                "global_text_to_image": expected["global_loss1"],
            },
            rel=0,
            abs=1e-4,
        )
        assert float(terms.total) == pytest.approx(expected["total"], rel=0, abs=1e-4)

    @pytest.mark.parametrize("batch", BATCHES)
    @pytest.mark.parametrize("double", [False, True])
    def test_the_mean_over_words(self, original: Golden, batch: str, double: bool) -> None:
        expected = original.losses["shared_float64" if double else "shared_by_both_repositories"][batch]
        terms = numbers(original.terms(batch, False, LossWeights(overall=0), "mean", double))
        assert terms == pytest.approx(
            {
                "local_image_to_text": expected["local_loss0_mean_agg"],
                "local_text_to_image": expected["local_loss1_mean_agg"],
            },
            rel=0,
            abs=1e-4,
        )

    @pytest.mark.parametrize("batch", BATCHES)
    @pytest.mark.parametrize("vector", VECTOR)
    @pytest.mark.parametrize("factors", ["1_1_1", "05_025_01"])
    @pytest.mark.parametrize("double", [False, True])
    def test_the_extra_losses(self, original: Golden, batch: str, vector: str, factors: str, double: bool) -> None:
        case = original.losses["fork_only_float64" if double else "fork_only"][f"{batch}/{vector}"]
        expected = case[f"weights_{factors}"]
        no_attention, divergence, entropy = (1.0, 1.0, 1.0) if factors == "1_1_1" else (0.5, 0.25, 0.1)
        with_vector = VECTOR[vector]
        weights = LossWeights(no_attention=no_attention if with_vector else 0.0, divergence=divergence, entropy=entropy)
        terms = original.terms(batch, with_vector, weights, "sum", double)
        ours = numbers(terms)
        assert ours["local_image_to_text"] == pytest.approx(expected["local_loss0"], rel=0, abs=1e-4)
        assert ours["local_text_to_image"] == pytest.approx(expected["local_loss1"], rel=0, abs=1e-4)
        assert ours["divergence"] == pytest.approx(expected["kl_loss"], rel=1e-3, abs=1e-6)
        assert ours["entropy"] / entropy == pytest.approx(expected["entropy_loss"], rel=0, abs=1e-4), (
            "the original does not multiply it by its weight"
        )
        if with_vector:
            assert ours["no_attention"] == pytest.approx(expected["no_attn_loss"], rel=0, abs=1e-4)
        else:
            assert expected["no_attn_loss"] == "-inf"
        plain = original.terms(batch, with_vector, LossWeights(), "sum", double)
        assert float(plain.total) == pytest.approx(case["total_local_plus_global_only"], rel=0, abs=1e-4)

    @pytest.mark.parametrize("vector", VECTOR)
    @pytest.mark.parametrize("double", [False, True])
    def test_the_segmentation_loss(self, original: Golden, vector: str, double: bool) -> None:
        expected = original.losses["fork_only_float64" if double else "fork_only"][f"batch1/{vector}"]
        terms = original.terms("batch1", VECTOR[vector], LossWeights(0, 0, segmentation=1), "sum", double)
        assert float(terms.total) == pytest.approx(expected["segmentation_loss"], rel=0, abs=1e-4)

    @pytest.mark.parametrize("vector", VECTOR)
    def test_a_sentence_without_a_label_is_left_out_where_the_original_gives_infinity(
        self, original: Golden, vector: str
    ) -> None:
        assert original.losses["fork_only"][f"batch2/{vector}"]["segmentation_loss"] == "inf"
        stored = original.no_attention["na_attn_mean_all"] if VECTOR[vector] else original.attention["attn_mean_all"]
        losses = []
        for sentence in original.losses["shared_by_both_repositories"]["batch2"]["sentence_indices"]:
            label = original.labels[sentence].numpy()
            if label.any():
                at = np.arange(224) * 19 // 224
                large = stored[original.image_of[sentence], sentence].astype(float)[np.ix_(at, at)]
                losses.append(-math.log(large[label].sum() / large.sum()))
        assert len(losses) == 3
        terms = original.terms("batch2", VECTOR[vector], LossWeights(0, 0, segmentation=1), "sum", double=False)
        assert float(terms.total) == pytest.approx(np.mean(losses), rel=0, abs=1e-4)


def softmax(values: Array, axis: int) -> Array:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def naive(regions: Array, words: Array, temp1: float) -> tuple[Array, Array]:
    """Cosines [words] and map [regions] of one image and the counted words of one sentence."""
    attention = softmax(temp1 * softmax(words @ regions.T, axis=0), axis=1)
    cosines = []
    for word, weights in zip(words, attention, strict=True):
        context = weights @ regions
        cosines.append(word @ context / max(math.sqrt((word @ word) * (context @ context)), 1e-8))
    return np.array(cosines), attention.mean(axis=0)


def cross_entropies(logits: Array) -> tuple[float, float]:
    size = range(len(logits))
    rows = [-math.log(softmax(logits[k], axis=0)[k]) for k in size]
    columns = [-math.log(softmax(logits[:, k], axis=0)[k]) for k in size]
    return float(np.mean(rows)), float(np.mean(columns))


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """A batch in float64: ragged lengths, single words, sentences of one word repeated, holes between counted slots."""
    size, rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    width, dimensions = draw(st.integers(1, 6)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    words = scale * torch.randn(size, width, dimensions, generator=generator, dtype=torch.float64)
    counted = torch.rand(size, width, generator=generator) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    counted[~counted.any(dim=1), 0] = True
    if draw(st.booleans()):
        words[0] = words[0, 0].clone()
    vector = torch.randn(dimensions, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    return {
        "regions": torch.randn(size, rows, columns, dimensions, generator=generator, dtype=torch.float64),
        "words": words,
        "counted": counted,
        "images": torch.randn(size, dimensions, generator=generator, dtype=torch.float64),
        "sentences": torch.randn(size, dimensions, generator=generator, dtype=torch.float64),
        "temp1": draw(st.sampled_from([1.0, 4.0, 9.0])),
        "no_region": vector,
        "aggregate": draw(st.sampled_from(["sum", "mean"])),
        "labels": torch.rand(size, 9, 7, generator=generator) < draw(st.sampled_from([0.0, 0.02, 0.5])),
    }


def everything(vector: bool) -> LossWeights:
    return LossWeights(1, 1, no_attention=float(vector), divergence=1, entropy=1, segmentation=1)


class TestNaiveLoops:
    @given(batches())
    @settings(max_examples=60, deadline=None)
    def test_every_loss(self, batch: dict[str, Any]) -> None:
        size, rows, columns, _ = batch["regions"].shape
        vector = batch["no_region"]
        logits = np.zeros((size, size))
        maps: list[list[Array]] = []
        for image in range(size):
            regions = batch["regions"][image].flatten(0, 1).numpy()
            if vector is not None:
                regions = np.vstack([vector.numpy(), regions])
            maps.append([])
            for sentence in range(size):
                words = batch["words"][sentence][batch["counted"][sentence]].numpy()
                cosines, sentence_map = naive(regions, words, batch["temp1"])
                powers = np.exp(5 * cosines)
                pooled = powers.sum() if batch["aggregate"] == "sum" else powers.mean()
                logits[image, sentence] = 10 * math.log(pooled)
                maps[image].append(sentence_map)
        expected = dict(zip(("local_image_to_text", "local_text_to_image"), cross_entropies(logits), strict=True))
        unit = [
            v / np.linalg.norm(v, axis=1, keepdims=True) for v in (batch["images"].numpy(), batch["sentences"].numpy())
        ]
        overall = cross_entropies(10 * unit[0] @ unit[1].T)
        expected |= dict(zip(("global_image_to_text", "global_text_to_image"), overall, strict=True))
        if vector is not None:
            expected["no_attention"] = float(np.mean([math.log(maps[k][k][0]) for k in range(size)]))
        divergences = []
        for k in range(size):
            for m in set(range(size)) - {k}:
                p, q = maps[k][k], maps[k][m]
                divergences.append((np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))) / 2)
        expected["divergence"] = -float(np.mean(divergences)) if divergences else 0.0
        expected["entropy"] = float(np.mean([-np.sum(p * np.log(p)) for row in maps for p in row]))
        segmentations = []
        for k, label in enumerate(batch["labels"].numpy()):
            if label.any():
                grid = maps[k][k][0 if vector is None else 1 :].reshape(rows, columns)
                large = grid[np.ix_(np.arange(9) * rows // 9, np.arange(7) * columns // 7)]
                segmentations.append(-math.log(large[label].sum() / large.sum()))
        expected["segmentation"] = float(np.mean(segmentations)) if segmentations else 0.0

        terms = training_losses(**batch, weights=everything(vector is not None))
        assert numbers(terms) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert float(terms.total) == pytest.approx(sum(expected.values()), rel=1e-9, abs=1e-9)

    @given(batches(), st.floats(0, 3), st.floats(0, 3), st.floats(0, 3))
    @settings(max_examples=15, deadline=None)
    def test_weights_scale_the_terms_and_0_leaves_them_out(
        self, batch: dict[str, Any], local: float, divergence: float, entropy: float
    ) -> None:
        whole = numbers(training_losses(**batch, weights=everything(batch["no_region"] is not None)))
        some = numbers(training_losses(**batch, weights=LossWeights(local, 0, 0, divergence, entropy, 0)))
        factors = {
            "local_image_to_text": local,
            "local_text_to_image": local,
            "divergence": divergence,
            "entropy": entropy,
        }
        assert some == pytest.approx({name: by * whole[name] for name, by in factors.items() if by}, rel=1e-12)


def compared(
    regions: torch.Tensor, words: torch.Tensor, counted: torch.Tensor, vector: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and maps of all pairs."""
    cosines, maps = compare_pairs(regions, words, counted, TEMPERATURE_ATTENTION, vector)
    assert maps is not None
    return cosines, maps


def tables(
    regions: torch.Tensor, words: torch.Tensor, counted: torch.Tensor, vector: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from whole word-region tables: the gradients are autograd's."""
    attention = pair_attention(regions, words, counted, TEMPERATURE_ATTENTION, vector)
    if vector is not None:
        regions = torch.cat([vector.expand(len(regions), 1, -1), regions], dim=1)
    cosines = word_similarity(words, regions[:, None], attention)
    return cosines.masked_fill(~counted, 0), mean_over_words(attention, counted)


def draw(
    images: int, sentences: int, slots: int, regions: int, dimensions: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Regions, words, counted slots of all lengths, and a no-attention vector."""
    generator = torch.Generator().manual_seed(images * slots + regions)
    counted = torch.arange(slots) < torch.randint(1, slots + 1, (sentences, 1), generator=generator)
    return (
        torch.randn(images, regions, dimensions, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(sentences, slots, dimensions, generator=generator, dtype=torch.float64).to(dtype),
        counted,
        torch.randn(dimensions, generator=generator, dtype=torch.float64).to(dtype),
    )


# Steps of a sentence each or one of all, with the tables kept or made again.
plans = pytest.mark.parametrize(("step", "kept"), [(1, 0), (1, 2**20), (10, 0), (1000, 0), (1000, 2**20)])


class TestGradients:
    @plans
    def test_numerically(self, monkeypatch: pytest.MonkeyPatch, step: int, kept: int) -> None:
        monkeypatch.setattr(pairs, "_STEP_WORDS_CPU", step)
        monkeypatch.setattr(pairs, "_KEPT", kept)
        regions, words, counted, vector = draw(2, 3, 3, 4, 3)

        inputs = tuple(one.requires_grad_() for one in (regions, words, vector))
        assert torch.autograd.gradcheck(lambda r, w, v: compared(r, w, counted, v), inputs)

    @pytest.mark.parametrize("aggregate", ["sum", "mean"])
    def test_of_all_losses_together_numerically(self, aggregate: Aggregate) -> None:
        regions, words, counted, vector = draw(3, 3, 3, 4, 3)
        overall = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        labels = torch.zeros(3, 6, 6, dtype=torch.bool)
        labels[:2, 1:3, 2:] = True

        def total(*inputs: torch.Tensor) -> torch.Tensor:
            regions, words, vector, images, sentences = inputs
            return training_losses(
                as_grid(regions, 2, 2),
                words,
                counted,
                images,
                sentences,
                everything(True),
                no_region=vector,
                aggregate=aggregate,
                labels=labels,
            ).total

        inputs = [one.requires_grad_() for one in (regions, words, vector, overall[0], overall[1])]
        assert torch.autograd.gradcheck(total, inputs)

    @plans
    @pytest.mark.parametrize("with_vector", [False, True])
    @pytest.mark.parametrize("shape", [(5, 7, 9, 12, 8), (3, 2, 4, 20, 3), (1, 1, 1, 2, 2)])
    def test_are_those_of_whole_tables(
        self, monkeypatch: pytest.MonkeyPatch, step: int, kept: int, with_vector: bool, shape: tuple[int, ...]
    ) -> None:
        monkeypatch.setattr(pairs, "_STEP_WORDS_CPU", step)
        monkeypatch.setattr(pairs, "_KEPT", kept)
        regions, words, counted, vector = draw(*shape)  # type: ignore[arg-type]
        inputs = [regions.requires_grad_(), words.requires_grad_()]
        no_region = vector.requires_grad_() if with_vector else None
        results, gradients = [], []
        for function in (tables, compared):
            cosines, maps = function(regions, words, counted, no_region)
            loss = (cosines * torch.sin(torch.arange(cosines.numel())).view_as(cosines)).sum()
            loss = loss + (maps * torch.cos(torch.arange(maps.numel())).view_as(maps)).sum()
            results.append((cosines, maps))
            gradients.append(torch.autograd.grad(loss, [*inputs, no_region] if no_region is not None else inputs))
        torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("part", ["cosines", "maps", "cosines without maps"])
    def test_of_maps_alone_and_of_cosines_alone(self, part: str) -> None:
        regions, words, counted, _ = draw(4, 5, 6, 9, 5)
        inputs = [regions.requires_grad_(), words.requires_grad_()]
        expected = tables(regions, words, counted)[1 if part == "maps" else 0]
        ours = compare_pairs(regions, words, counted, maps=part != "cosines without maps")
        output = ours.maps if part == "maps" else ours.cosines
        assert output is not None
        gradients = [torch.autograd.grad(one.square().sum(), inputs) for one in (expected, output)]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)

    def test_in_float32_are_near_those_in_float64(self) -> None:
        gradients = []
        for dtype in (torch.float64, torch.float32):
            regions, words, counted, _ = draw(12, 12, 16, 64, 64, dtype)
            inputs = [regions.requires_grad_(), (0.3 * words).requires_grad_()]
            cosines, maps = compared(inputs[0], inputs[1], counted)
            loss = sum(local_loss(local_logits(cosines, counted))) + entropy_loss(maps) + divergence_loss(maps)
            gradients.append([one.double() for one in torch.autograd.grad(loss, inputs)])
        for exact, ours in zip(*gradients, strict=True):
            assert float((exact - ours).abs().max()) < 1e-5 * float(exact.abs().max())

    def test_are_finite_for_vectors_of_zeros_and_for_large_ones(self) -> None:
        regions, words, counted, _ = draw(3, 3, 4, 6, 5, torch.float32)
        regions[0], words[1] = 0, 0
        for factor in (1, 1e4):
            inputs = [(factor * regions).requires_grad_(), (factor * words).requires_grad_()]
            cosines, maps = compared(inputs[0], inputs[1], counted)
            loss = sum(local_loss(local_logits(cosines, counted))) + entropy_loss(maps)
            assert bool(torch.isfinite(loss))
            for gradient in torch.autograd.grad(loss, inputs):
                assert bool(torch.isfinite(gradient).all())

    def test_slots_that_are_not_counted_get_none(self) -> None:
        regions, words, counted, _ = draw(4, 5, 6, 9, 5)
        words.requires_grad_()
        cosines, maps = compared(regions, words, counted)
        (gradient,) = torch.autograd.grad(cosines.sum() + maps.square().sum(), words)
        assert not gradient[~counted].any()
        assert gradient[counted].any(dim=1).all()


class TestAlways:
    @given(batches(), st.integers(1, 30))
    @settings(max_examples=25, deadline=None)
    def test_more_empty_slots_change_nothing(self, batch: dict[str, Any], padding: int) -> None:
        weights = everything(batch["no_region"] is not None)
        before = numbers(training_losses(**batch, weights=weights))
        size, _, dimensions = batch["words"].shape
        words = torch.cat([batch["words"], 9 * torch.randn(size, padding, dimensions, dtype=torch.float64)], dim=1)
        counted = functional.pad(batch["counted"], (0, padding))
        after = numbers(training_losses(**(batch | {"words": words, "counted": counted}), weights=weights))
        assert after == pytest.approx(before, rel=1e-12, abs=1e-12)

    def test_permuting_the_batch_permutes_the_pairs(self) -> None:
        regions, words, counted, _ = draw(6, 8, 7, 20, 12)
        cosines, maps = compared(regions, words, counted)
        images, sentences = torch.randperm(6), torch.randperm(8)
        other_cosines, other_maps = compare_pairs(regions[images], words[sentences], counted[sentences])
        torch.testing.assert_close(other_cosines, cosines[images][:, sentences], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other_maps, maps[images][:, sentences], rtol=1e-12, atol=1e-12)

    @given(batches(), st.randoms(use_true_random=False))
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_the_pairs_does_not_matter(self, batch: dict[str, Any], random: Any) -> None:
        weights = everything(batch["no_region"] is not None)
        order = random.sample(range(len(batch["words"])), len(batch["words"]))
        per_pair = ("regions", "words", "counted", "images", "sentences", "labels")
        shuffled = batch | {name: batch[name][order] for name in per_pair}
        before, after = (numbers(training_losses(**one, weights=weights)) for one in (batch, shuffled))
        assert after == pytest.approx(before, rel=1e-11, abs=1e-11)

    def test_the_same_batch_gives_the_same_bits(self) -> None:
        runs = []
        for _ in range(2):
            regions, words, counted, vector = draw(8, 8, 9, 30, 16, torch.float32)
            inputs = [one.requires_grad_() for one in (regions, words, vector)]
            cosines, maps = compared(regions, words, counted, vector)
            loss = sum(local_loss(local_logits(cosines, counted))) + divergence_loss(maps)
            runs.append([loss, *torch.autograd.grad(loss, inputs)])
        for one, other in zip(*runs, strict=True):
            assert torch.equal(one, other)

    def test_a_table_too_large_to_keep_gives_the_same_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gradients = []
        for kept in (0, 2**24):
            monkeypatch.setattr(pairs, "_KEPT", kept)
            regions, words, counted, _ = draw(8, 8, 9, 30, 16, torch.float32)
            inputs = [regions.requires_grad_(), words.requires_grad_()]
            cosines, _ = compared(regions, words, counted)
            gradients.append(torch.autograd.grad(cosines.square().sum(), inputs))
        assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))

    def test_sentences_of_one_word_have_uniform_maps(self) -> None:
        regions, words, _, _ = draw(3, 4, 5, 10, 6, torch.float32)
        maps = compare_pairs(regions, words, slot_mask([(0, 1)] * 4, 5)).maps
        torch.testing.assert_close(maps, torch.full((3, 4, 10), 0.1))

    def test_a_sentence_of_nothing_is_refused(self) -> None:
        regions, words, counted, _ = draw(3, 4, 5, 10, 6)
        counted[2] = False
        with pytest.raises(ValueError, match="no counted word"):
            compare_pairs(regions, words, counted)

    def test_large_tables_are_not_kept_for_the_gradients(self, monkeypatch: pytest.MonkeyPatch) -> None:
        regions, words, counted, _ = draw(16, 16, 9, 16, 4, torch.float32)
        kept = []
        for limit in (2**24, 0):
            monkeypatch.setattr(pairs, "_KEPT", limit)
            sizes: list[int] = []

            def record(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
                sizes.append(tensor.numel())
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
                compare_pairs(regions.requires_grad_(), words.requires_grad_(), counted)
            kept.append(sum(sizes))
        table = 16 * int(counted.sum()) * 16
        assert kept[0] - kept[1] >= 2 * table
        assert kept[1] < table / 2


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_changes_nothing_but_the_input(self, dtype: torch.dtype) -> None:
        regions, words, counted, vector = draw(6, 6, 7, 16, 12, torch.float32)
        overall = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(3))
        # More pixels a region than bfloat16 can count.
        labels = torch.rand(6, 128, 128, generator=torch.Generator().manual_seed(4)) < 0.4
        results = []
        for mixed in (False, True):
            half = [one.detach().to(dtype) for one in (regions, words, vector, *overall)]
            inputs = [(one if mixed else one.float()).requires_grad_() for one in half]
            with torch.autocast("cpu", dtype=dtype, enabled=mixed):
                terms = training_losses(
                    as_grid(inputs[0], 4, 4),
                    inputs[1],
                    counted,
                    inputs[3],
                    inputs[4],
                    everything(True),
                    no_region=inputs[2],
                    labels=labels,
                )
            gradients = torch.autograd.grad(terms.total, inputs)
            assert all(term.dtype == torch.float32 for term in terms.present().values())
            results.append((numbers(terms), [one.to(dtype) for one in gradients]))
        (exact, exact_gradients), (ours, our_gradients) = results
        assert ours == pytest.approx(exact, rel=1e-6, abs=1e-6)
        torch.testing.assert_close(our_gradients, exact_gradients)

    def test_the_gradients_do_not_feel_autocast(self) -> None:
        regions, words, counted, vector = draw(6, 6, 7, 16, 12, torch.float32)
        inputs = [one.requires_grad_() for one in (regions, words, vector)]
        gradients = []
        for mixed in (False, True):
            cosines, maps = compared(regions, words, counted, vector)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                gradients.append(torch.autograd.grad([cosines, maps], inputs, [cosines.cos(), maps.cos()]))
        assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_gives_what_the_cpu_gives(self) -> None:
        gradients = []
        for device in ("cpu", "cuda"):
            regions, words, counted, vector = (one.to(device) for one in draw(6, 7, 8, 16, 12))
            inputs = [one.requires_grad_() for one in (regions, words, vector)]
            cosines, maps = compared(regions, words, counted, vector)
            loss = local_logits(cosines, counted).square().mean() + divergence_loss(maps[:, :6])
            gradients.append([loss.detach().cpu(), *(one.cpu() for one in torch.autograd.grad(loss, inputs))])
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-11)


class TestLosses:
    def test_contrast_rewards_the_own_pair(self) -> None:
        good, bad = torch.full((2, 5, 5), -20.0)
        good.fill_diagonal_(20)
        assert float(sum(local_loss(good))) < 1e-6
        assert [float(one) for one in local_loss(bad)] == pytest.approx([math.log(5)] * 2)

    def test_contrast_tells_the_directions_apart(self) -> None:
        logits = torch.tensor([[0.0, 50.0], [0.0, 50.0]])
        to_text, to_image = (float(one) for one in local_loss(logits))
        assert to_text == pytest.approx(25, rel=1e-5), "image 0 chooses the wrong sentence"
        assert to_image == pytest.approx(math.log(2)), "each sentence likes both images"

    def test_the_global_loss_ignores_lengths(self) -> None:
        images, sentences = torch.randn(2, 4, 8)
        before, after = global_loss(images, sentences), global_loss(7 * images, sentences / 3)
        torch.testing.assert_close(after, before)

    def test_entropy_is_largest_for_uniform_maps(self) -> None:
        uniform = torch.full((2, 2, 10), 0.1)
        peaked = torch.full((2, 2, 10), 0.01)
        peaked[..., 3] = 0.91
        assert float(entropy_loss(uniform)) == pytest.approx(math.log(10))
        assert float(entropy_loss(peaked)) < 1

    def test_divergence_is_0_for_sentences_that_look_at_the_same_place(self) -> None:
        maps = torch.rand(4, 1, 10).softmax(dim=2).expand(4, 4, 10)
        assert float(divergence_loss(maps)) == 0
        other = torch.rand(4, 4, 10).softmax(dim=2)
        assert float(divergence_loss(other)) < 0

    def test_a_batch_of_one_has_no_divergence(self) -> None:
        assert float(divergence_loss(torch.rand(1, 1, 10).softmax(dim=2))) == 0

    def test_the_no_attention_loss_looks_at_matched_pairs_only(self) -> None:
        maps = torch.full((3, 3, 5), 0.2)
        maps[:, :, 0] = 0.7
        maps[range(3), range(3), 0] = 0.1
        assert float(no_attention_loss(maps)) == pytest.approx(math.log(0.1))

    @given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31))
    @settings(max_examples=40, deadline=None)
    def test_segmentation_at_any_size(self, rows: int, columns: int, height: int, width: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        maps = random.uniform(0.1, 1, (3, rows, columns))
        labels = random.uniform(size=(3, height, width)) < 0.3
        labels[0, height // 2, width // 2] = True
        expected = []
        for one, label in zip(maps, labels, strict=True):
            if label.any():
                large = one[np.ix_(np.arange(height) * rows // height, np.arange(width) * columns // width)]
                expected.append(-math.log(large[label].sum() / large.sum()))
        loss = float(segmentation_loss(torch.tensor(maps), torch.tensor(labels)))
        assert loss == pytest.approx(np.mean(expected), rel=1e-9, abs=1e-12)

    def test_without_any_label_segmentation_is_0_and_pulls_nowhere(self) -> None:
        maps = torch.rand(2, 4, 4).requires_grad_()
        loss = segmentation_loss(maps, torch.zeros(2, 8, 8, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(loss, maps)
        assert loss.item() == 0
        assert not gradient.any()

    def test_an_empty_label_does_not_disturb_the_others(self) -> None:
        maps, labels = torch.rand(3, 4, 4), torch.rand(3, 8, 8) < 0.5
        labels[1] = False
        whole = segmentation_loss(maps.requires_grad_(), labels)
        torch.testing.assert_close(whole, segmentation_loss(maps[[0, 2]], labels[[0, 2]]))
        (gradient,) = torch.autograd.grad(whole, maps)
        assert bool(torch.isfinite(gradient).all())
        assert not gradient[1].any()

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (LossWeights(no_attention=1), "no-attention vector"),
            (LossWeights(segmentation=1), "label masks"),
        ],
    )
    def test_a_loss_that_lacks_its_input_is_refused(self, weights: LossWeights, message: str) -> None:
        regions, words, counted, _ = draw(2, 2, 3, 4, 3)
        overall = torch.rand(2, 3, dtype=torch.float64)
        with pytest.raises(ValueError, match=message):
            training_losses(as_grid(regions, 2, 2), words, counted, overall, overall, weights)

    def test_without_any_loss_there_is_no_total(self) -> None:
        regions, words, counted, _ = draw(2, 2, 3, 4, 3)
        overall = torch.rand(2, 3, dtype=torch.float64)
        terms = training_losses(as_grid(regions, 2, 2), words, counted, overall, overall, LossWeights(0, 0))
        assert terms == LossTerms()
        with pytest.raises(ValueError, match="nothing to train on"):
            _ = terms.total


def test_a_training_step_costs_less_than_with_whole_tables() -> None:
    regions, words, counted, _ = draw(32, 32, 16, 64, 64, torch.float32)
    inputs = [regions.requires_grad_(), words.requires_grad_()]

    def seconds(function: Any) -> float:
        best = math.inf
        for _ in range(5):
            before = time.process_time()
            cosines, maps = function(regions, words, counted)
            loss = sum(local_loss(local_logits(cosines, counted))) + entropy_loss(maps)
            torch.autograd.grad(loss, inputs)
            best = min(best, time.process_time() - before)
        return best

    assert seconds(compared) < seconds(tables) / 1.5
