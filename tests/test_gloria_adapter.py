"""GLoRIA through its public door: the original's numbers from a checkpoint, images and sentences, and the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import cross_entropy

from wronglung.adapters.encoding import stacked
from wronglung.adapters.files.state_dicts import file_digest
from wronglung.adapters.gloria.adapter import Gloria, load, padded
from wronglung.adapters.gloria.attention import LocalSimilarity, Tokens
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import load_model
from wronglung.benchmark.protocol import (
    Alignment,
    AlignmentModel,
    DualEncoder,
    Features,
    LoadedImage,
    check_alignment,
    check_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Array = np.ndarray[Any, Any]
Make = Callable[..., Gloria]

SENTENCES = [
    "The left lung is clear.",
    "Opacity in the right base; no pneumothorax.",
    "No effusion.",
    "Left left left lungs, the opacity is in the base in the right lung: no effusion, no pneumothorax in the left lung.",
    "Clear.",
    "The zzz lung",
]


def noise_image(name: str, height: int, width: int) -> LoadedImage:
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width), dtype=np.uint8)
    return LoadedImage(name, Image.fromarray(pixels))


IMAGES = [noise_image("a", 300, 260), noise_image("b", 120, 200), noise_image("c", 256, 256)]


@pytest.fixture(scope="module")
def tiny(tiny_weights: dict[str, torch.Tensor], tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Loads a small GLoRIA of random weights; ``no_attention`` says whether it has the vector."""
    folder = tmp_path_factory.mktemp("tiny")
    without = {key: tensor for key, tensor in tiny_weights.items() if key != "no_attn_vec"}
    torch.save({"state_dict": tiny_weights}, folder / "with.ckpt")
    torch.save({"state_dict": without}, folder / "without.ckpt")

    def make(no_attention: bool = False, **arguments: Any) -> Gloria:
        path = folder / ("with.ckpt" if no_attention else "without.ckpt")
        return load(path, **{"bert": str(tiny_bert), **arguments})

    return make


class Golden:
    """The golden images and sentences, and all their pairs."""

    def __init__(self, folder: Path) -> None:
        pixels, inputs = np.load(folder / "images.npz"), json.loads((folder / "inputs.json").read_text())
        self.bert = str(folder / "bert")
        self.images = [LoadedImage(str(i), Image.fromarray(pixels[f"image_{i}"])) for i in range(6)]
        self.sentences = [one["text"] for one in inputs["sentences"]]
        self.image_of = [one["image"] for one in inputs["sentences"]]
        self.attention = dict(np.load(folder / "attention.npz"))
        self.similarity = dict(np.load(folder / "similarity.npz"))
        self.no_attention = dict(np.load(folder / "noattn.npz"))

    def align_all(self, model: Gloria) -> Alignment:
        """All 6 × 16 pairs, image by image."""
        images, sentences = model.encode_images(self.images), model.encode_sentences(self.sentences)
        return model.align_features([one for one in images for _ in sentences], sentences * len(images))


@pytest.fixture(scope="module")
def original(golden: Path) -> Golden:
    return Golden(golden)


@pytest.fixture(scope="module")
def golden_no_attention_checkpoint(
    golden_weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("golden") / "no_attention.ckpt"
    torch.save({"state_dict": golden_weights}, path)
    return path


@pytest.fixture(scope="module")
def double(original: Golden, golden_checkpoint: Path) -> tuple[list[Features], list[Features]]:
    """Features of all images and sentences in float64; they do not depend on the options for aligning."""
    model = load(golden_checkpoint, original.bert, dtype=torch.float64)
    return model.encode_images(original.images), model.encode_sentences(original.sentences)


def close(ours: torch.Tensor | None, expected: Array, *, of_largest: float = 2e-5) -> None:
    """Equal to a part of the largest value."""
    assert ours is not None
    values = ours.numpy().reshape(expected.shape)
    np.testing.assert_allclose(values, expected, rtol=0, atol=of_largest * float(np.abs(expected).max()))


def close_maps(ours: torch.Tensor, expected: Array) -> None:
    """Equal within float32 rounding.

    The golden maps, of a float32 run, are themselves up to 3.7e-5 of a cell's value away from a float64 run; other
    numbers of threads alone move them by 2.2e-5.
    """
    close(ours, expected)
    np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=1.2e-4, atol=0)


class TestOriginal:
    def test_maps_and_similarities(self, original: Golden, golden_checkpoint: Path) -> None:
        model = load(golden_checkpoint, original.bert)
        alignment = original.align_all(model)
        assert alignment.saliency.dtype == torch.float32
        close_maps(alignment.saliency, original.attention["attn_mean_all"])
        close(alignment.local_similarity, original.similarity["local_max_fork_caplens"])
        close(alignment.global_similarity, original.similarity["global_cosine"])
        assert alignment.no_attention_weight is None

        paired = model.align([original.images[index] for index in original.image_of], original.sentences)
        close_maps(paired.saliency, original.attention["attn_mean_matched"])
        images, sentences = model.encode_images(original.images), model.encode_sentences(original.sentences)
        close(model.global_similarity_matrix(images, sentences), original.similarity["global_cosine"])

    def test_maps_and_similarities_with_the_no_attention_vector(
        self, original: Golden, golden_no_attention_checkpoint: Path
    ) -> None:
        model = load(golden_no_attention_checkpoint, original.bert)
        alignment = original.align_all(model)
        expected = original.no_attention
        close_maps(alignment.saliency, expected["na_attn_mean_all"])
        close(alignment.local_similarity, expected["na_local_max_fork_caplens"])
        assert alignment.no_attention_weight is not None
        own = alignment.no_attention_weight.reshape(6, 16)[original.image_of, range(16)]
        # The original takes 1 minus a float32 sum: good to about 2e-7.
        np.testing.assert_allclose(own, expected["na_weight_matched"], rtol=0, atol=5e-7)

    @pytest.mark.parametrize("batch", ["batch1", "batch2"])
    def test_in_double_precision_there_is_no_difference_at_all(
        self,
        original: Golden,
        double: tuple[list[Features], list[Features]],
        golden_checkpoint: Path,
        golden_no_attention_checkpoint: Path,
        golden: Path,
        batch: str,
    ) -> None:
        """The original's float64 losses and entropies, which maps and similarities of 4 × 4 pairs go into."""
        losses = json.loads((golden / "losses.json").read_text())
        chosen = losses["shared_float64"][batch]["sentence_indices"]
        images = [double[0][original.image_of[index]] for index in chosen for _ in chosen]
        sentences = [double[1][index] for index in chosen] * 4

        def align(checkpoint: Path, **options: Any) -> Alignment:
            model = load(checkpoint, original.bert, dtype=torch.float64, **options)
            return model.align_features(images, sentences)

        def cross_entropies(scores: torch.Tensor | None) -> list[float]:
            assert scores is not None
            table, own = scores.reshape(4, 4), torch.arange(4)
            return [float(cross_entropy(table, own)), float(cross_entropy(table.T, own))]

        expected = losses["shared_float64"][batch]
        by_sum = align(golden_checkpoint, local_similarity="loss-sum")
        assert by_sum.saliency.dtype == torch.float64
        assert cross_entropies(by_sum.local_similarity) == pytest.approx(
            [expected["local_loss0"], expected["local_loss1"]], rel=1e-12
        )
        assert by_sum.global_similarity is not None
        assert cross_entropies(10 * by_sum.global_similarity) == pytest.approx(
            [expected["global_loss0"], expected["global_loss1"]], rel=1e-12
        )
        by_mean = align(golden_checkpoint, local_similarity="loss-mean")
        assert cross_entropies(by_mean.local_similarity) == pytest.approx(
            # The original's logarithm of the number of words is a float32 even here.
            [expected["local_loss0_mean_agg"], expected["local_loss1_mean_agg"]],
            rel=1e-6,
        )
        for checkpoint, name in [
            (golden_checkpoint, "without_no_attn_vec"),
            (golden_no_attention_checkpoint, "with_no_attn_vec"),
        ]:
            alignment = align(checkpoint)
            mass = alignment.saliency.flatten(1)
            if alignment.no_attention_weight is not None:
                mass = torch.cat([alignment.no_attention_weight[:, None], mass], dim=1)
            entropy = float(torch.special.entr(mass).sum(dim=1).mean())
            recorded = losses["fork_only_float64"][f"{batch}/{name}"]["weights_1_1_1"]["entropy_loss"]
            assert entropy == pytest.approx(recorded, rel=1e-12)

    @pytest.mark.parametrize(
        ("method", "name"),
        [
            ("max-words", "local_max_words"),
            ("max-words-sep", "local_max_words_plus_sep"),
            ("loss-sum", "local_sum_logits"),
            ("loss-mean", "local_mean_logits"),
        ],
    )
    def test_other_local_similarities(
        self, original: Golden, golden_checkpoint: Path, method: LocalSimilarity, name: str
    ) -> None:
        model = load(golden_checkpoint, original.bert, local_similarity=method)
        close(original.align_all(model).local_similarity, original.similarity[name])

    def test_embeddings(self, original: Golden, golden_checkpoint: Path, golden: Path) -> None:
        model, expected = load(golden_checkpoint, original.bert), np.load(golden / "forward.npz")
        for index, image in enumerate(model.encode_images(original.images)):
            np.testing.assert_allclose(
                image.tensors["regions"], expected["img_emb_l"][index].transpose(1, 2, 0), rtol=0, atol=2e-5
            )
            np.testing.assert_allclose(image.tensors["global"], expected["img_emb_g"][index], rtol=0, atol=1e-4)
        for index, sentence in enumerate(model.encode_sentences(original.sentences)):
            words = sentence.tensors["words"]
            np.testing.assert_allclose(words, expected["text_emb_l"][index].T[: len(words)], rtol=0, atol=1e-4)
            np.testing.assert_allclose(sentence.tensors["global"], expected["text_emb_g"][index], rtol=0, atol=1e-4)


class TestProtocol:
    def test_it_is_both_kinds_of_model(self, tiny: Make) -> None:
        model = tiny()
        check_model(model)
        assert isinstance(model, DualEncoder)
        assert isinstance(model, AlignmentModel)

    @pytest.mark.parametrize("no_attention", [False, True])
    @pytest.mark.parametrize("tokens", get_args(Tokens))
    @pytest.mark.parametrize("method", get_args(LocalSimilarity))
    def test_alignments_pass_the_check_for_every_option(
        self, tiny: Make, no_attention: bool, tokens: Tokens, method: LocalSimilarity
    ) -> None:
        model = tiny(no_attention, tokens=tokens, local_similarity=method)
        sentences = [one for one in SENTENCES if len(one) <= 96]
        images = [IMAGES[index % 3] for index in range(len(sentences))]
        alignment = model.align(images, sentences)
        check_alignment(alignment, model.card, [one.pixels.size for one in images], sentences)
        total = alignment.saliency.sum(dim=(1, 2))
        assert (alignment.no_attention_weight is not None) == no_attention
        if alignment.no_attention_weight is not None:
            total = total + alignment.no_attention_weight
        torch.testing.assert_close(total, torch.ones(len(images)))

    def test_it_is_made_by_name_with_arguments_as_text(
        self, tiny_weights: dict[str, torch.Tensor], tiny_bert: Path, tmp_path: Path
    ) -> None:
        torch.save(tiny_weights, tmp_path / "weights.pt")
        given = {"checkpoint": str(tmp_path / "weights.pt"), "bert": str(tiny_bert)}
        model = load_model("gloria", **given, temp1="5", tokens="words", device="cpu", dtype="bfloat16")
        settings = model.card.settings
        assert (settings["temp1"], settings["tokens"], settings["dtype"]) == (5.0, "words", "bfloat16")
        with pytest.raises(WronglungError, match="tokens: .*'cls\\+words' or 'words'"):
            load_model("gloria", **given, tokens="all")

    @pytest.mark.parametrize("no_attention", [False, True])
    def test_the_harness_own_check_is_passed(self, tiny: Make, no_attention: bool) -> None:
        failed = [one for one in check_adapter(tiny(no_attention)) if one.outcome == "failed"]
        assert not failed

    def test_paired_and_dual_paths_are_the_same(self, tiny: Make) -> None:
        model = tiny()
        paired = model.align(IMAGES, SENTENCES[:3])
        dual = model.align_features(model.encode_images(IMAGES), model.encode_sentences(SENTENCES[:3]))
        assert torch.equal(paired.saliency, dual.saliency)
        assert paired.geometry == dual.geometry

    def test_global_similarities_of_pairs_are_the_matrix_diagonal(self, tiny: Make) -> None:
        model = tiny()
        images, sentences = model.encode_images(IMAGES), model.encode_sentences(SENTENCES[:3])
        matrix = model.global_similarity_matrix(images, sentences[:2])
        assert matrix.shape == (3, 2)
        pairs = model.align_features(images[:2], sentences[:2]).global_similarity
        torch.testing.assert_close(pairs, matrix.diagonal(), rtol=1e-5, atol=1e-6)

    def test_features_hold_no_more_memory_than_they_show(self, tiny: Make) -> None:
        model = tiny()
        sentences = model.encode_sentences(SENTENCES)
        assert [len(one.tensors["words"]) for one in sentences] == [7, 9, 4, 24, 2, 5]
        for one in [*model.encode_images(IMAGES), *sentences]:
            assert one.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in one.tensors.values())
            assert not any(tensor.requires_grad for tensor in one.tensors.values())

    def test_empty_requests(self, tiny: Make) -> None:
        model = tiny()
        assert model.encode_images([]) == []
        assert model.encode_sentences([]) == []

    def test_features_of_a_sentence_in_the_place_of_an_image_are_refused(self, tiny: Make) -> None:
        model = tiny()
        (image,) = model.encode_images(IMAGES[:1])
        with pytest.raises(ValueError, match="in the place of an image"):
            model.align_features([Features(image.tensors)], model.encode_sentences(SENTENCES[:1]))

    def test_an_image_gives_the_same_bits_in_any_batch(self, tiny: Make) -> None:
        model = tiny()
        together = model.encode_images(IMAGES)
        for image, among_others in zip(IMAGES, together, strict=True):
            (alone,) = model.encode_images([image])
            assert alone.geometry == among_others.geometry
            assert all(torch.equal(alone.tensors[key], tensor) for key, tensor in among_others.tensors.items())

    def test_a_pair_does_not_depend_on_the_others_in_its_batch(self, tiny: Make) -> None:
        model = tiny(no_attention=True)
        images = [IMAGES[index % 3] for index in range(len(SENTENCES))]
        together = model.align(images, SENTENCES)
        for index, (image, sentence) in enumerate(zip(images, SENTENCES, strict=True)):
            alone = model.align([image], [sentence])
            for field in ("saliency", "local_similarity", "global_similarity", "no_attention_weight"):
                torch.testing.assert_close(
                    getattr(together, field)[index],
                    getattr(alone, field)[0],
                    rtol=1e-5,
                    atol=1e-6 if "sim" in field else 0,
                )


class TestCard:
    def test_says_what_was_done(self, tiny: Make, tiny_bert: Path, tmp_path: Path, tiny_weights: Any) -> None:
        torch.save(tiny_weights, tmp_path / "weights.pt")
        card = load(
            tmp_path / "weights.pt",
            str(tiny_bert),
            name="mine",
            tokens="words",
            intensity="minmax",
            trained_on="CheXpert, MIMIC-CXR",
        ).card
        assert card.name == "mine"
        assert card.map_kind == "distribution"
        assert card.tokens == "words"
        assert card.checkpoint == file_digest(tmp_path / "weights.pt")
        assert "minmax" in card.preprocessing
        assert card.pretraining_sources == ("CheXpert", "MIMIC-CXR")
        assert card.settings == {
            "tokens": "words",
            "pieces": "sum",
            "intensity": "minmax",
            "local_similarity": "fork-eval",
            "temp1": 4.0,
            "cleaning": "released",
            "dtype": "float32",
            "vocabulary": file_digest(tiny_bert / "vocab.txt"),
            "no_attention_vector": True,
        }

    def test_claims_no_training_data_that_nobody_stated(self, tiny: Make) -> None:
        assert tiny().card.pretraining_sources == ()


class TestOptions:
    def test_words_leave_out_the_class_token_and_keep_unknown_words(self, tiny: Make) -> None:
        released, words = (tiny(tokens=tokens) for tokens in get_args(Tokens))
        (sentence,) = released.encode_sentences(["The zzz lung"])
        (image,) = released.encode_images(IMAGES[:1])
        vectors, regions = sentence.tensors["words"], image.tensors["regions"].flatten(0, 1)
        for model, rows in ((released, slice(0, 3)), (words, slice(1, 4))):  # [CLS] the [UNK]; the [UNK] lung
            attention = ((vectors[rows] @ regions.T).softmax(dim=0) * 4).softmax(dim=1).mean(dim=0)
            saliency = model.align_features([image], [sentence]).saliency
            torch.testing.assert_close(saliency.flatten(), attention, rtol=1e-5, atol=0)

    def test_a_word_of_one_piece_is_the_same_by_sum_and_by_mean(self, tiny: Make) -> None:
        sums, means = (tiny(pieces=pieces).encode_sentences(["No pneumothorax"])[0] for pieces in ("sum", "mean"))
        torch.testing.assert_close(sums.tensors["words"][1], means.tensors["words"][1])
        torch.testing.assert_close(sums.tensors["words"][2], 2 * means.tensors["words"][2])

    def test_minmax_changes_only_images_that_do_not_span_the_range(self, tiny: Make) -> None:
        full = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
        for pixels, same in ((full, True), (full // 2, False)):
            image = [LoadedImage("x", Image.fromarray(pixels))]
            as_is, minmax = (
                tiny(intensity=how).encode_images(image)[0].tensors["global"] for how in ("as-is", "minmax")
            )
            assert torch.allclose(as_is, minmax, atol=1e-3) == same

    def test_temperature_zero_in_the_limit_flattens(self, tiny: Make) -> None:
        flat = tiny(temp1=1e-9).align(IMAGES[:1], SENTENCES[:1]).saliency
        torch.testing.assert_close(flat, torch.full((1, 19, 19), 1 / 361))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_lower_precision_gives_float32_maps_close_by(self, tiny: Make, dtype: torch.dtype) -> None:
        exact, rough = (tiny(dtype=one).align(IMAGES, SENTENCES[:3]) for one in (torch.float32, dtype))
        assert rough.saliency.dtype == torch.float32
        assert not torch.equal(rough.saliency, exact.saliency)
        torch.testing.assert_close(rough.saliency, exact.saliency, rtol=0.1, atol=0)


class TestEmptyCaptions:
    @pytest.mark.parametrize("tokens", get_args(Tokens))
    @pytest.mark.parametrize("no_attention", [False, True])
    def test_the_map_is_exactly_uniform(self, tiny: Make, tokens: Tokens, no_attention: bool) -> None:
        model = tiny(no_attention, tokens=tokens)
        saliency = model.align([IMAGES[0]] * 3, ["Clear.", "", SENTENCES[3]]).saliency
        for empty in saliency[:2]:
            assert len(set(empty.flatten().tolist())) == 1
            assert float(empty[0, 0]) == pytest.approx(1 / (362 if no_attention else 361))
        assert len(set(saliency[2].flatten().tolist())) > 1


class TestRefusals:
    def test_a_text_too_long_for_a_similarity_of_characters(self, tiny: Make) -> None:
        with pytest.raises(WronglungError, match=r"official-eval.*not defined above 96.*'Left left left"):
            tiny(local_similarity="official-eval").encode_sentences(SENTENCES)

    @pytest.mark.parametrize(
        ("pixels", "problem"),
        [(np.zeros((9, 9), np.float32), "no 8-bit reading"), (np.zeros((1, 600), np.uint8), "too thin")],
    )
    def test_an_image_that_cannot_be_used(self, tiny: Make, pixels: Array, problem: str) -> None:
        with pytest.raises(WronglungError, match=f"image film 7: .*{problem}"):
            tiny().encode_images([IMAGES[0], LoadedImage("film 7", Image.fromarray(pixels))])

    def test_the_vocabulary_of_another_bert(self, tiny: Make, tmp_path: Path) -> None:
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
        with pytest.raises(
            WronglungError, match=r"has 4 pieces, but the checkpoint .* has vectors for 19.*bert=FOLDER"
        ):
            tiny(bert=str(tmp_path))

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
    def test_a_temperature_that_is_none(self, tiny: Make, temperature: float) -> None:
        with pytest.raises(WronglungError, match="must be positive and finite"):
            tiny(temp1=temperature)


class TestAsOnAGpu:
    """What is done otherwise on a GPU, done on the CPU."""

    @pytest.fixture
    def model(self, tiny: Make) -> Gloria:
        model = tiny(no_attention=True)
        model._on_cpu = False
        return model

    def test_sentences_are_padded_and_images_encoded_together(self, tiny: Make, model: Gloria) -> None:
        usual = tiny(no_attention=True)
        for one, other in zip(model.encode_sentences(SENTENCES), usual.encode_sentences(SENTENCES), strict=True):
            assert torch.equal(one.tensors["counts"], other.tensors["counts"])
            torch.testing.assert_close(one.tensors["words"], other.tensors["words"], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(one.tensors["global"], other.tensors["global"], rtol=1e-5, atol=1e-6)
        padded_maps, maps = (each.align(IMAGES, SENTENCES[:3]).saliency for each in (model, usual))
        torch.testing.assert_close(padded_maps, maps, rtol=1e-5, atol=1e-7)

    def test_rows_that_occur_twice_are_stacked_twice(self) -> None:
        rows = [torch.full((2, 3), float(at)) for at in range(3)]
        given = [rows[2], rows[0], rows[2], rows[1]]
        assert torch.equal(stacked(given, torch.device("cpu")), torch.stack(given))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 3))
def test_words_are_padded_with_zeros(places: list[int], more: int) -> None:
    words = [torch.randn(length, 5) for length in (1, 3, 2, 6, 4)]
    rows = [words[at] for at in places]
    expected = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    expected = torch.nn.functional.pad(expected, (0, 0, 0, more))
    assert torch.equal(padded(rows, expected.shape[1], torch.device("cpu")), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_maps_as_the_cpu(original: Golden, golden_checkpoint: Path) -> None:
    on_gpu = original.align_all(load(golden_checkpoint, original.bert, device="cuda"))
    close_maps(on_gpu.saliency.cpu(), original.attention["attn_mean_all"])


class TestGradcam:
    def test_is_the_gradient_of_the_global_similarity(self, tiny: Make) -> None:
        """The global vector is linear in the mean of the last stage: channel weights follow without automatic gradients."""
        model = tiny(method="gradcam")
        images, sentences = model.encode_images(IMAGES), model.encode_sentences(SENTENCES[:3])
        maps = model.align_features(images, sentences).saliency
        matrix = model._network.img_encoder.global_embedder.weight
        for image, sentence, found in zip(images, sentences, maps, strict=True):
            stage, v, t = image.tensors["last_stage"], image.tensors["global"], sentence.tensors["global"]
            v_hat, t_hat = v / v.norm(), t / t.norm()
            slope = (t_hat - (v_hat @ t_hat) * v_hat) / v.norm() @ matrix / stage[0].numel()
            expected = torch.einsum("c,chw->hw", slope, stage).relu()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
            assert float(expected.max()) > 0

    def test_is_another_model_with_the_same_similarities(self, tiny: Make) -> None:
        gradient, attention = tiny(no_attention=True, method="gradcam"), tiny(no_attention=True)
        pairs = IMAGES, SENTENCES[:3]
        one, other = gradient.align(*pairs), attention.align(*pairs)
        assert one.no_attention_weight is None
        assert one.global_similarity is not None
        assert other.global_similarity is not None
        assert torch.equal(one.global_similarity, other.global_similarity)
        alone = [gradient.align([image], [sentence]).saliency for image, sentence in zip(*pairs, strict=True)]
        assert torch.equal(one.saliency, torch.cat(alone))
        card = gradient.card
        assert (card.name, card.map_kind, card.signed, card.settings["method"]) == (
            "gloria + gradcam", "score", False, "gradcam",
        )  # fmt: skip
        assert card.saliency_method != attention.card.saliency_method
        check_model(gradient)

    def test_wants_float32(self, tiny: Make) -> None:
        with pytest.raises(WronglungError, match="'gradcam' takes gradients, for which it needs float32"):
            tiny(method="gradcam", dtype=torch.bfloat16)
