"""BLIP for image-text matching: the reference numbers, the two similarities, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from published import GoldenPixels, film, off, word_tokenizer, write_published
from recipes import golden_arrays, golden_manifest, recipe_state
from transformers import BlipConfig, BlipForImageTextRetrieval

from wronglung.adapters.blip_itm import BlipItm, gradcam_per_token, load
from wronglung.adapters.files.state_dicts import file_digest
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.protocol import Alignment, AlignmentModel, DualEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

Arrays = Mapping[str, npt.NDArray[Any]]

PROCESSOR = {"image_processor_type": "BlipImageProcessor", "size": {"height": 48, "width": 48}, "resample": 3}
TOKENIZER = word_tokenizer(118, "[CLS] $A [SEP]", {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, "[UNK]")
SMALL = {
    "model_type": "blip",
    "image_text_hidden_size": 16,
    "text_config": {
        "vocab_size": 120, "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 40, "pad_token_id": 0,
        "bos_token_id": 118,
        "sep_token_id": 3, "eos_token_id": 3,
    },
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 48,
        "patch_size": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reference model in the files that BLIP has."""
    manifest = golden_manifest(shared / "golden_encoders" / "hf_blip_itm")
    return write_published(
        tmp_path_factory.mktemp("golden"),
        {"model_type": "blip", **manifest["config"]},
        {**recipe_state(manifest["entries"]), "text_encoder.embeddings.position_ids": torch.arange(20)[None]},
        tokenizer=TOKENIZER,
        processor=PROCESSOR,
    )


@pytest.fixture(scope="module")
def arrays(shared: Path) -> Arrays:
    return golden_arrays(shared / "golden_encoders" / "hf_blip_itm")


@pytest.fixture(scope="module")
def sentences(arrays: Arrays) -> list[str]:
    return [" ".join(f"w{one}" for one in row if one > 3) for row in arrays["input_ids"].tolist()]


@pytest.fixture(scope="module")
def lengths(arrays: Arrays) -> torch.Tensor:
    return torch.from_numpy((arrays["input_ids"] > 0).sum(1))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BLIP of random weights."""
    torch.manual_seed(0)
    state = BlipForImageTextRetrieval(BlipConfig.from_dict(SMALL)).state_dict()
    state = {key: one * 4 if "attention.self" in key else one for key, one in state.items()}
    folder = tmp_path_factory.mktemp("hub") / "small-blip"
    return write_published(folder, SMALL, state, tokenizer=TOKENIZER, processor=PROCESSOR)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """The small BLIP's folder, to be spoilt."""
    return Path(shutil.copytree(small, tmp_path / "copy"))


def all_pairs(model: BlipItm, pixels: GoldenPixels, sentences: list[str]) -> Alignment:
    """Each of the golden images with each sentence, the sentences running faster."""
    model.pipeline = pixels  # type: ignore[assignment]
    images, texts = model.encode_images(pixels.images), model.encode_sentences(sentences)
    pairs = [(image, text) for image in images for text in texts]
    return model.align_features(*zip(*pairs, strict=True))


class TestReferenceNumbers:
    def test_gradcam_and_matching(
        self, golden: Path, arrays: Arrays, sentences: list[str], lengths: torch.Tensor
    ) -> None:
        answer = all_pairs(load(str(golden), layer=2), GoldenPixels(arrays["pixel_values"]), sentences)
        # The reference divides by all six positions, padding included.
        maps = answer.saliency.reshape(2, 3, 6, 6) * (lengths / 6)[:, None, None]
        assert off(maps, arrays["gradcam"]) < 1e-4 * arrays["gradcam"].max()
        assert answer.global_similarity is not None
        assert off(answer.global_similarity.reshape(2, 3), arrays["itm_probability"]) < 1e-4
        assert answer.local_similarity is None

    def test_attention(self, golden: Path, arrays: Arrays, sentences: list[str]) -> None:
        model = load(str(golden), "attention", layer=2)
        answer = all_pairs(model, GoldenPixels(arrays["pixel_values"]), sentences)
        assert off(answer.saliency.reshape(2, 3, 6, 6), arrays["cross_attention"]) < 1e-4

    def test_contrastive_similarity(self, golden: Path, arrays: Arrays, sentences: list[str]) -> None:
        model = load(str(golden), global_similarity="itc")
        pixels = GoldenPixels(arrays["pixel_values"])
        answer = all_pairs(model, pixels, sentences)
        assert answer.global_similarity is not None
        assert off(answer.global_similarity.reshape(2, 3), arrays["itc_similarity"]) < 1e-4
        matrix = model.global_similarity_matrix(model.encode_images(pixels.images), model.encode_sentences(sentences))
        assert off(matrix, arrays["itc_similarity"]) < 1e-4

    def test_padded_batch_and_single_tokens(self, golden: Path, arrays: Arrays) -> None:
        model = load(str(golden), layer=2)
        ids = torch.from_numpy(arrays["input_ids"])
        logits = []
        for at, pixels in enumerate(torch.from_numpy(arrays["pixel_values"])):
            with torch.enable_grad():
                tokens = model.image_tokens(pixels[None]).expand(3, -1, -1)
                logit, attention = model.cross_attention(tokens, ids, ids > 0)
                relevance = gradcam_per_token(attention, logit[:, 1])[:, :, 1:] * (ids > 0)[:, :, None]
            logits.append(logit.detach())
            if at == 0:
                single = arrays["gradcam_per_token_image0"]
                assert off(relevance, single) < 1e-4 * single.max()
        assert off(torch.stack(logits), arrays["itm_logits"]) < 1e-4


class TestModel:
    def test_is_both_kinds_of_model(self, small: Path) -> None:
        model = load(str(small))
        assert isinstance(model, AlignmentModel)
        assert isinstance(model, DualEncoder)

    def test_says_who_it_is(self, small: Path) -> None:
        card = load(str(small), trained_on="COCO").card
        assert card.name == "small-blip + gradcam"
        assert card.checkpoint == file_digest(small / "model.safetensors")
        assert (card.map_kind, card.signed, card.comparable) == ("score", False, False)
        assert card.settings["layer"] == 2
        assert load(str(small), "attention").card.map_kind == "distribution"

    @pytest.mark.parametrize("method", ["gradcam", "attention"])
    def test_answers_alike_alone_and_beside_longer_sentences(self, method: Any, small: Path) -> None:
        model = load(str(small), method)
        images, sentences = [film("a", 80, 64), film("b", 64, 90)], ["w5 w6 w7 w8 w9", "w7"]
        together, alone = model.align(images, sentences), model.align(images[1:], sentences[1:])
        assert torch.equal(together.saliency[1:], alone.saliency)
        assert together.global_similarity is not None
        assert alone.global_similarity is not None
        assert torch.equal(together.global_similarity[1:], alone.global_similarity)

    def test_attention_of_patches_is_part_of_a_whole(self, small: Path) -> None:
        mass = load(str(small), "attention").align([film("a", 80, 64)], ["w5 w6"]).saliency.sum()
        assert 0 < float(mass) < 1

    def test_layers_differ(self, small: Path) -> None:
        first, last = (load(str(small), layer=one).align([film("a", 80, 64)], ["w5"]).saliency for one in (0, 2))
        assert not torch.equal(first, last)

    def test_global_vectors_are_kept_with_the_contrastive_similarity_alone(self, small: Path) -> None:
        for kind, keys in (("itm", {"ids"}), ("itc", {"ids", "global"})):
            model = load(str(small), global_similarity="itc" if kind == "itc" else "itm")
            assert set(model.encode_sentences(["w5"])[0].tensors) == keys

    def test_sentences_are_cut(self, small: Path) -> None:
        ids = load(str(small)).encode_sentences([" ".join(["w5"] * 50)])[0].tensors["ids"]
        assert ids.tolist() == [2, *[5] * 33, 3]

    def test_word_pieces_serve_in_place_of_the_tokenizers_own(self, copy: Path) -> None:
        (copy / "tokenizer.json").unlink()
        (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nleft\nlung\nclear\n")
        ids = load(str(copy)).encode_sentences(["Left lung, clear"])[0].tensors["ids"]
        assert ids.tolist() == [2, 5, 6, 1, 7, 3]


class TestRefusals:
    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"layer": 3}, "layer=3: the text encoder has blocks 0 to 2"),
            ({"layer": -1}, "layer=-1: the text encoder has blocks 0 to 2"),
            ({"dtype": torch.bfloat16}, "takes gradients, for which it needs float32"),
            ({"method": "best"}, "unknown saliency method 'best'; it has gradcam, attention"),
            ({"global_similarity": "best"}, "global_similarity='best'; it has itm, itc"),
        ],
    )
    def test_wrong_arguments(self, argument: dict[str, Any], message: str, small: Path) -> None:
        with pytest.raises(WronglungError, match=message):
            load(str(small), **argument)

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_missing_file(self, file: str, copy: Path) -> None:
        (copy / file).unlink()
        with pytest.raises(WronglungError, match=f"the folder holds no .*{file}"):
            load(str(copy))

    def test_missing_and_unknown_keys(self, copy: Path) -> None:
        state = BlipForImageTextRetrieval(BlipConfig.from_dict(SMALL)).state_dict()
        del state["itm_head.weight"]
        write_published(copy, SMALL, state)
        with pytest.raises(WronglungError, match="has no 'itm_head.weight' for the BlipForImageTextRetrieval"):
            load(str(copy))

    def test_other_models(self, copy: Path) -> None:
        (copy / "config.json").write_text(json.dumps({**SMALL, "model_type": "blip-2"}))
        with pytest.raises(WronglungError, match="model_type is 'blip-2'; this adapter reads 'blip'"):
            load(str(copy))


class TestInTheBenchmark:
    def test_keeps_the_protocol(self, small: Path) -> None:
        assert [one for one in check_adapter(load(str(small))) if one.outcome == "failed"] == []

    def test_runs_on_films(self, small: Path, covid_lungs: Path) -> None:
        model = load(str(small), global_similarity="itc")
        results = evaluate(model, load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert np.isfinite(results.instances["auroc"]).any()
