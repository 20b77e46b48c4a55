"""Word-region attention and similarities: the original's numbers from its own embeddings, and what must hold always."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.adapters.gloria.attention import (
    LOCAL_SIMILARITIES,
    TEMPERATURE_ATTENTION,
    LocalSimilarity,
    Slots,
    Tokens,
    global_similarity,
    global_similarity_matrix,
    local_similarity,
    mean_over_words,
    saliency_slots,
    slot_mask,
    word_region_attention,
    word_similarity,
)
from wronglung.adapters.gloria.text import Counts

pytestmark = pytest.mark.usefixtures("one_thread")

# How the arrays of golden/similarity.npz are called here.
GOLDEN_NAMES: dict[LocalSimilarity, str] = {
    "fork-eval": "local_max_fork_caplens",
    "official-eval": "local_max_official_caplens",
    "max-words": "local_max_words",
    "max-words-sep": "local_max_words_plus_sep",
    "loss-sum": "local_sum_logits",
    "loss-mean": "local_mean_logits",
    "official-retriever": "retriever_local",
}


class Golden:
    """The original's embeddings, and what our attention makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        forward = np.load(folder / "forward.npz")
        self.regions = torch.tensor(forward["img_emb_l"]).flatten(2).transpose(1, 2)
        self.words = torch.tensor(forward["text_emb_l"]).transpose(1, 2)
        self.images_global = torch.tensor(forward["img_emb_g"])
        self.sentences_global = torch.tensor(forward["text_emb_g"])
        sentences = json.loads((folder / "preprocess.json").read_text())["sentences"]
        self.image_of = [one["image"] for one in sentences]
        self.counts = [
            Counts(
                one["n_words_including_cls_sep"] - 2,
                one["cap_len_local_loss"],
                one["cap_len_fork_collate"],
                one["cap_len_official_process_text"],
            )
            for one in sentences
        ]

    @cached_property
    def attention(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(np.load(self.folder / "attention.npz"))

    @cached_property
    def similarity(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(np.load(self.folder / "similarity.npz"))

    @cached_property
    def no_attention(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(np.load(self.folder / "noattn.npz"))

    def attend(
        self, image: int, sentence: int, slots: Slots, no_region: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Words, regions, attention and counted slots of one pair."""
        words, regions = self.words[sentence][None], self.regions[image][None]
        if no_region is not None:
            regions = torch.cat([no_region[None, None], regions], dim=1)
        counted = slot_mask([slots], words.shape[1])
        attention = word_region_attention(words @ regions.transpose(1, 2), counted, TEMPERATURE_ATTENTION)
        return words, regions, attention, counted

    def local(self, image: int, sentence: int, method: LocalSimilarity, no_region: torch.Tensor | None = None) -> float:
        slots = LOCAL_SIMILARITIES[method].slots(self.counts[sentence])
        words, regions, attention, counted = self.attend(image, sentence, slots, no_region)
        return float(local_similarity(word_similarity(words, regions, attention), counted, method))


@pytest.fixture(scope="module")
def original(golden: Path) -> Golden:
    return Golden(golden)


def close(ours: Any, expected: Any) -> None:
    """Equal to 1e-5 of each value (attention), which is nowhere near 0."""
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=1e-5, atol=0)


class TestOriginal:
    def test_attention_and_contexts_of_each_word(self, original: Golden) -> None:
        for sentence, image in enumerate(original.image_of):
            slots = saliency_slots("cls+words", original.counts[sentence])
            _, regions, attention, _ = original.attend(image, sentence, slots)
            close(attention[0, : slots[1]].reshape(-1, 19, 19), original.attention[f"attn_words_{sentence:02}"])
            contexts = (attention @ regions)[0, : slots[1]]
            np.testing.assert_allclose(contexts, original.attention[f"wctx_{sentence:02}"], rtol=0, atol=1e-5)

    def test_attention_of_sentences_about_other_images(self, original: Golden) -> None:
        for image, sentence in [(0, 3), (2, 9), (5, 0), (3, 4), (1, 12)]:
            slots = saliency_slots("cls+words", original.counts[sentence])
            attention = original.attend(image, sentence, slots)[2]
            expected = original.attention[f"attn_unmatched_{image}_{sentence}"]
            close(attention[0, : slots[1]].reshape(-1, 19, 19), expected)

    def test_attention_with_a_true_mask_token(self, original: Golden) -> None:
        words = torch.tensor(original.attention["mask_case_text_emb_l"]).T[None]
        regions = original.regions[1][None]
        attention = word_region_attention(words @ regions.transpose(1, 2), slot_mask([(0, 5)], 97), 4.0)
        close(attention[0, :5].reshape(5, 19, 19), original.attention["mask_case_attn_words"])

    def test_maps_of_all_pairs(self, original: Golden) -> None:
        for image in range(6):
            for sentence in range(16):
                slots = saliency_slots("cls+words", original.counts[sentence])
                _, _, attention, counted = original.attend(image, sentence, slots)
                sentence_map = mean_over_words(attention, counted)[0].reshape(19, 19)
                close(sentence_map, original.attention["attn_mean_all"][image, sentence])
                if image == original.image_of[sentence]:
                    close(sentence_map, original.attention["attn_mean_matched"][sentence])

    def test_the_no_attention_vector(self, original: Golden) -> None:
        expected = original.no_attention
        vector = torch.tensor(expected["no_attn_vec"])
        for sentence in range(16):
            slots = saliency_slots("cls+words", original.counts[sentence])
            for image in range(6):
                _, regions, attention, counted = original.attend(image, sentence, slots, vector)
                sentence_map = mean_over_words(attention, counted)[0]
                close(sentence_map[1:].reshape(19, 19), expected["na_attn_mean_all"][image, sentence])
                if image != original.image_of[sentence]:
                    continue
                per_word = attention[0, : slots[1]]
                close(per_word[:, 1:].reshape(-1, 19, 19), expected[f"na_attn_words_{sentence:02}"])
                contexts = (attention @ regions)[0, : slots[1]]
                np.testing.assert_allclose(contexts, expected[f"na_wctx_{sentence:02}"], rtol=0, atol=1e-5)
                close(sentence_map[1:].reshape(19, 19), expected["na_attn_mean_matched"][sentence])
                # The original takes 1 minus a float32 sum, which costs it the digits behind the seventh.
                np.testing.assert_allclose(sentence_map[0], expected["na_weight_matched"][sentence], rtol=0, atol=5e-7)

    @pytest.mark.parametrize("method", get_args(LocalSimilarity))
    def test_local_similarities(self, original: Golden, method: LocalSimilarity) -> None:
        expected = original.similarity[GOLDEN_NAMES[method]]
        undefined = np.isnan(expected)
        too_long = [count.characters > 96 for count in original.counts]
        assert (undefined == (np.array(too_long) if method == "official-eval" else False)).all()
        for image, sentence in np.argwhere(~undefined):
            value = original.local(int(image), int(sentence), method)
            if np.isneginf(expected[image, sentence]):
                assert method == "official-retriever"
                assert value == -50, "the least that one word can give, in the place of minus infinity"
            else:
                assert value == pytest.approx(expected[image, sentence], rel=1e-5, abs=1e-5)

    @pytest.mark.parametrize("method", ["fork-eval", "max-words-sep", "loss-sum"])
    def test_local_similarities_with_the_no_attention_vector(self, original: Golden, method: LocalSimilarity) -> None:
        expected = original.no_attention
        vector = torch.tensor(expected["no_attn_vec"])
        for image, sentence in np.ndindex(6, 16):
            value = original.local(image, sentence, method, vector)
            assert value == pytest.approx(expected[f"na_{GOLDEN_NAMES[method]}"][image, sentence], rel=1e-5, abs=1e-5)

    def test_global_similarities(self, original: Golden) -> None:
        expected = original.similarity["global_cosine"]
        matrix = global_similarity_matrix(original.images_global, original.sentences_global)
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-6)
        pairs = global_similarity(original.images_global[original.image_of], original.sentences_global)
        np.testing.assert_allclose(pairs, expected[original.image_of, range(16)], rtol=0, atol=1e-6)

    def test_the_official_sum_of_both_similarities(self, original: Golden) -> None:
        cosines = global_similarity_matrix(original.images_global, original.sentences_global)
        for image, sentence in np.ndindex(6, 16):
            both = (original.local(image, sentence, "max-words-sep") + float(cosines[image, sentence])) / 2
            assert both == pytest.approx(original.similarity["both_average"][image, sentence], rel=1e-5, abs=1e-5)


pairs = st.tuples(st.integers(1, 9), st.integers(2, 30), st.integers(1, 12), st.integers(0, 2**31), st.floats(0.1, 30))


def draw(n_words: int, n_regions: int, dimensions: int, seed: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        scale * torch.randn(1, n_words, dimensions, generator=generator),
        torch.randn(1, n_regions, dimensions, generator=generator),
    )


class TestAlways:
    @given(pairs)
    @settings(max_examples=50, deadline=None)
    def test_maps_are_distributions_of_limited_contrast(self, pair: tuple[int, int, int, int, float]) -> None:
        words, regions = draw(*pair)
        everything = torch.ones(words.shape[:2], dtype=torch.bool)
        attention = word_region_attention(words @ regions.transpose(1, 2), everything, 4.0)
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(words.shape[:2]))
        assert float((attention.amax(dim=2) / attention.amin(dim=2)).max()) <= math.exp(4) * (1 + 1e-5)
        torch.testing.assert_close(mean_over_words(attention, everything), attention.mean(dim=1))

    @given(pairs, st.integers(1, 40))
    @settings(max_examples=50, deadline=None)
    def test_slots_that_are_not_counted_change_nothing(
        self, pair: tuple[int, int, int, int, float], padding: int
    ) -> None:
        words, regions = draw(*pair)
        n_words = words.shape[1]
        padded = torch.cat([words, torch.randn(1, padding, words.shape[2])], dim=1)
        for method in get_args(LocalSimilarity):
            results = []
            for slots in (words, padded):
                counted = slot_mask([(0, n_words)], slots.shape[1])
                attention = word_region_attention(slots @ regions.transpose(1, 2), counted, 4.0)
                cosines = word_similarity(slots, regions, attention)
                results.append((mean_over_words(attention, counted), local_similarity(cosines, counted, method)))
            torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)

    @given(pairs)
    @settings(max_examples=30, deadline=None)
    def test_one_word_alone_has_an_exactly_uniform_map(self, pair: tuple[int, int, int, int, float]) -> None:
        words, regions = draw(*pair)
        counted = slot_mask([(0, 1)], words.shape[1])
        attention = word_region_attention(words @ regions.transpose(1, 2), counted, 4.0)
        assert len(set(mean_over_words(attention, counted)[0].tolist())) == 1

    def test_a_word_depends_on_the_other_words(self) -> None:
        words, regions = draw(3, 20, 8, 1, 1.0)
        logits = words @ regions.transpose(1, 2)
        alone, beside = (word_region_attention(logits, slot_mask([(0, n)], 3), 4.0)[0, 0] for n in (2, 3))
        assert not torch.allclose(alone, beside, rtol=1e-3)

    @pytest.mark.parametrize("method", get_args(LocalSimilarity))
    def test_without_a_counted_word_a_similarity_is_the_least_possible(self, method: LocalSimilarity) -> None:
        nothing = torch.zeros(1, 3, dtype=torch.bool)
        least = local_similarity(torch.full((1, 3), torch.nan), nothing, method)
        opposite = local_similarity(torch.full((1, 3), -1.0), slot_mask([(0, 1)], 3), method)
        torch.testing.assert_close(least, opposite)

    def test_a_longer_sentence_gains_by_the_sum_and_not_by_the_mean(self) -> None:
        cosines = torch.full((2, 8), 0.3)
        counted = slot_mask([(0, 2), (0, 8)], 8)
        short, long = local_similarity(cosines, counted, "loss-sum")
        assert float(long - short) == pytest.approx(10 * math.log(4), rel=1e-5)
        torch.testing.assert_close(*local_similarity(cosines, counted, "loss-mean"))

    @pytest.mark.parametrize(
        ("tokens", "counts", "slots"),
        [
            ("cls+words", Counts(words=3, loss_slots=4, collate_slots=6, characters=20), (0, 4)),
            ("words", Counts(words=3, loss_slots=4, collate_slots=6, characters=20), (1, 4)),
            ("cls+words", Counts(words=3, loss_slots=3, collate_slots=3, characters=20), (0, 3)),  # an [UNK]
            ("words", Counts(words=3, loss_slots=3, collate_slots=3, characters=20), (1, 4)),
            ("cls+words", Counts(words=0, loss_slots=1, collate_slots=1, characters=7), (0, 1)),
            ("words", Counts(words=0, loss_slots=1, collate_slots=1, characters=7), (1, 2)),
        ],
    )
    def test_which_slots_make_a_map(self, tokens: Tokens, counts: Counts, slots: Slots) -> None:
        assert saliency_slots(tokens, counts) == slots
