"""SigLIP in the transformers library's files: the reference numbers, the sentences, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from hypothesis import given
from hypothesis import strategies as st
from published import GoldenPixels, dual_model, film, off, word_tokenizer, write_published
from recipes import golden_arrays, golden_manifest, recipe_state
from transformers import SiglipConfig, SiglipModel

from wronglung.adapters.dual import DualNetwork
from wronglung.adapters.files.transformers_format import find
from wronglung.adapters.hf_siglip import canonical, load, read_network, saliency_methods, token_ids
from wronglung.adapters.saliency.cosine import LocalSimilarity
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.geometry import Geometry

pytestmark = pytest.mark.usefixtures("one_thread")

Arrays = Mapping[str, npt.NDArray[Any]]

PROCESSOR = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 56, "width": 56}, "resample": 2}
TOKENIZER = word_tokenizer(150, "$A </s>", {"<pad>": 0, "</s>": 1, "<unk>": 2}, "<unk>")
OWN = {"tokenizer_class": "SiglipTokenizer", "eos_token": "</s>", "pad_token": {"content": "</s>", "lstrip": True}}
GEMMA = {"tokenizer_class": "GemmaTokenizer", "eos_token": "</s>", "pad_token": "<pad>"}
SMALL = {
    "model_type": "siglip",
    "text_config": {
        "vocab_size": 150, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 12, "projection_size": 32,
    },
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
        "patch_size": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden_encoders" / "hf_siglip"


@pytest.fixture(scope="module")
def arrays(golden: Path) -> Arrays:
    return golden_arrays(golden)


@pytest.fixture(scope="module")
def sentences(arrays: Arrays) -> list[str]:
    return [" ".join(f"w{one}" for one in row if one != 1) for row in arrays["input_ids"].tolist()]


@pytest.fixture(scope="module")
def pixels(arrays: Arrays) -> GoldenPixels:
    return GoldenPixels(arrays["pixel_values"])


@pytest.fixture(scope="module")
def network(golden: Path, pixels: GoldenPixels, tmp_path_factory: pytest.TempPathFactory) -> DualNetwork:
    """The reference model, read from the files that the SigLIPs have."""
    manifest = golden_manifest(golden)
    folder = write_published(
        tmp_path_factory.mktemp("golden"),
        {"model_type": "siglip", **manifest["config"]},
        recipe_state(manifest["entries"]),
        tokenizer=TOKENIZER,
        tokenizer_config=OWN,
        processor=PROCESSOR,
    )
    return replace(read_network(find(str(folder), "siglip", [])), pipeline=pixels)  # type: ignore[arg-type]


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig.from_dict(SMALL))
    return {key: torch.randn_like(one) * one.std(correction=0).clamp(0.02) for key, one in model.state_dict().items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SigLIP2 of random weights."""
    return write_published(
        tmp_path_factory.mktemp("hub") / "small-siglip",
        SMALL,
        small_state(),
        tokenizer=TOKENIZER,
        tokenizer_config=GEMMA,
        processor=PROCESSOR,
    )


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """The small SigLIP's folder, to be changed."""
    return Path(shutil.copytree(small, tmp_path / "copy"))


class TestReferenceNumbers:
    def test_vectors_and_global_similarity(
        self, network: DualNetwork, arrays: Arrays, sentences: list[str], pixels: GoldenPixels
    ) -> None:
        model = dual_model(network, "value")
        images, texts = model.encode_images(pixels.images), model.encode_sentences(sentences)
        assert off(torch.stack([one.tensors["global"] for one in images]), arrays["image_features"]) < 1e-3
        assert off(torch.stack([one.tensors["global"] for one in texts]), arrays["text_features"]) < 1e-3
        similarity = model.global_similarity_matrix(images, texts)
        assert off(similarity, arrays["global_similarity"]) < 1e-4
        scale, bias = (network.module.get_parameter(name) for name in ("logit_scale", "logit_bias"))
        logits = similarity * scale.exp() + bias
        assert off(logits, arrays["logits_per_image"]) < 1e-4
        assert off(logits.sigmoid(), arrays["probability"]) < 1e-4

    @pytest.mark.parametrize(("method", "prefix"), [("naive", "naive"), ("value", "map_head_value")])
    def test_dense_methods(
        self,
        method: str,
        prefix: str,
        network: DualNetwork,
        arrays: Arrays,
        sentences: list[str],
        pixels: GoldenPixels,
    ) -> None:
        model = dual_model(network, method, tau=0.1)
        images = model.encode_images(pixels.images)
        patches = torch.stack([one.tensors["patches"] for one in images])
        assert off(patches.flatten(1, 2), arrays[f"{prefix}.patch_features"]) < 1e-3
        pairs = [(image, text) for image in images for text in model.encode_sentences(sentences)]
        for similarity, name in {
            "max": "local_max",
            "mean": "local_mean",
            "logsumexp": "local_lse_tau0.1",
            "attention": "local_attn_tau0.1",
        }.items():
            kind = next(one for one in get_args(LocalSimilarity) if one == similarity)
            answer = dual_model(network, method, 0.1, kind).align_features(*zip(*pairs, strict=True))
            assert answer.local_similarity is not None
            assert off(answer.local_similarity.reshape(3, 4), arrays[f"{prefix}.{name}"]) < 1e-4
        maps = answer.saliency.reshape(3, 4, 7, 7)
        assert off(maps, arrays[f"{prefix}.similarity"]) < 1e-4
        mass = (maps.flatten(2) / model.card.temperature).softmax(2).reshape(3, 4, 7, 7)
        assert off(mass, arrays[f"{prefix}.attention_tau0.1"]) < 1e-4

    def test_probe_attention(self, network: DualNetwork, arrays: Arrays, pixels: GoldenPixels) -> None:
        model = dual_model(network, "probe-attention")
        answer = model.align(pixels.images, ["w3", "w4", "w5 w6"])
        assert off(answer.saliency, arrays["map_head_attention"].mean(1)) < 1e-4


class TestSaliency:
    @pytest.mark.parametrize("method", ["value", "naive", "gradcam", "probe-attention"])
    def test_every_method_answers_alike_alone_and_in_a_batch(self, method: str, small: Path) -> None:
        model = load(str(small), method)
        images, sentences = [film("a", 80, 64), film("b", 64, 90)], ["w3 w4", "w5"]
        together = model.align(images, sentences)
        assert together.saliency.shape == (2, 7, 7)
        assert torch.equal(together.saliency[1:], model.align(images[1:], sentences[1:]).saliency)
        assert model.card.name == f"small-siglip + {method}"

    def test_probe_attention_does_not_read_the_sentence(self, small: Path) -> None:
        answer = load(str(small), "probe-attention").align([film("a", 80, 64)] * 2, ["w3 w4", "w5"])
        assert torch.equal(*answer.saliency)
        assert torch.allclose(answer.saliency.flatten(1).sum(1), torch.ones(2))

    def test_equal_patches_have_the_image_vector_as_their_value(self, small: Path) -> None:
        """What the head returns for a patch alone is what it returns for an image of that patch."""
        model = SiglipModel(SiglipConfig.from_dict(SMALL))
        model.load_state_dict(small_state())
        with torch.no_grad():
            model.vision_model.embeddings.position_embedding.weight.zero_()
            method = saliency_methods(model, (7, 7))["value"]
            patches, vectors = method.encode(torch.randn(1, 3, 8, 8).repeat(1, 1, 7, 7))
        assert torch.allclose(patches, vectors[:, None, None].expand_as(patches), atol=1e-5)

    def test_other_image_size_in_patches_that_do_not_fill_it(self, small: Path) -> None:
        answer = load(str(small), image_size=68).align([film("a", 136, 68)], ["w3"])
        assert answer.saliency.shape == (1, 8, 8)
        assert answer.geometry[0] == Geometry(68, 136, 64, 64, 1.0, 0.5)

    def test_square_pads_in_place_of_squashing(self, small: Path) -> None:
        geometry = load(str(small), square=True).align([film("a", 112, 56)], ["w3"]).geometry[0]
        assert geometry == Geometry(56, 112, 56, 56, 0.5, 0.5, 14.0, 0.0)
        assert load(str(small)).align([film("a", 112, 56)], ["w3"]).geometry[0] == Geometry.squash(56, 112, 56, 56)


class TestSentences:
    def same(self, folder: Path, one: str, other: str) -> bool:
        vectors = [item.tensors["global"] for item in load(str(folder)).encode_sentences([one, other])]
        return torch.equal(*vectors)

    def test_are_in_lower_case(self, small: Path) -> None:
        assert self.same(small, "W3 w4", "w3 W4")

    def test_siglip_drops_punctuation_and_siglip2_keeps_it(self, small: Path, copy: Path) -> None:
        assert not self.same(small, "w3, w4.", "w3 w4")
        (copy / "tokenizer_config.json").write_text(json.dumps(OWN))
        assert self.same(copy, "w3, w4.", "w3 w4")

    def test_are_cut_at_the_towers_length(self, small: Path) -> None:
        assert self.same(small, " ".join(["w3"] * 11), " ".join(["w3"] * 11 + ["w9"] * 30))
        assert not self.same(small, " ".join(["w3"] * 10), " ".join(["w3"] * 11))

    def test_end_and_padding_do_not_hang_on_what_the_tokenizers_file_adds(self, small: Path, copy: Path) -> None:
        word_tokenizer(150, "<pad> $A", {"<pad>": 0, "</s>": 1, "<unk>": 2}, "<unk>").save(str(copy / "tokenizer.json"))
        one, other = (token_ids(find(str(folder), "siglip", []), 6, 150)("w3 w4") for folder in (small, copy))
        assert one == other == [3, 4, 1, 0, 0, 0]

    @given(st.text())
    def test_canonical_form_is_stable(self, text: str) -> None:
        once = canonical(text)
        assert canonical(once) == once
        assert once == once.strip()
        assert "." not in once

    def test_sentencepiece_serves_in_place_of_the_tokenizers_file(self, copy: Path, tmp_path: Path) -> None:
        sentencepiece = pytest.importorskip("sentencepiece")
        pytest.importorskip("google.protobuf")
        words = ["the lung is clear", "opacity in the left lung", "no effusion is seen"] * 20
        (tmp_path / "corpus.txt").write_text("\n".join(words))
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "corpus.txt"), model_prefix=str(copy / "spiece"), vocab_size=40, pad_id=0, eos_id=1,
            unk_id=2, bos_id=-1, hard_vocab_limit=False,
        )  # fmt: skip
        (copy / "tokenizer.json").unlink()
        (copy / "tokenizer_config.json").write_text(json.dumps({**OWN, "pad_token": "</s>", "eos_token": "</s>"}))
        assert self.same(copy, "The lung is clear.", "the lung is clear")
        assert not self.same(copy, "the lung is clear", "the left lung is clear")
        assert self.same(copy, "the lung " * 20, "the lung " * 30)

    @pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
    def test_without_sentencepiece_it_says_what_to_install(self, copy: Path) -> None:
        (copy / "tokenizer.json").rename(copy / "spiece.model")
        with pytest.raises(
            WronglungError, match="spiece.model: needs two packages .pip install sentencepiece protobuf."
        ):
            load(str(copy))


class TestRefusals:
    def test_a_gated_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> str:
            raise GatedRepoError("gated", response=Mock())

        monkeypatch.setattr("wronglung.adapters.files.hub._in_reach", lambda: True)
        monkeypatch.setattr("wronglung.adapters.files.hub.hf_hub_download", refuse)
        with pytest.raises(
            WronglungError, match="weights=nobody/gated: access is granted on request: accept the terms"
        ):
            load("nobody/gated")

    def test_naflex(self, copy: Path) -> None:
        (copy / "config.json").write_text(json.dumps({**SMALL, "model_type": "siglip2"}))
        with pytest.raises(WronglungError, match="'siglip2'; NaFlex models, .* google/siglip2-base-patch16-256"):
            load(str(copy))

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    def test_missing_file(self, file: str, copy: Path) -> None:
        (copy / file).unlink()
        with pytest.raises(WronglungError, match=f"the folder holds no .*{file}"):
            load(str(copy))

    def test_missing_and_unknown_keys_and_shapes(self, copy: Path) -> None:
        state, key = small_state(), "vision_model.head.probe"
        for spoilt, message in [
            ({name: one for name, one in state.items() if name != key}, f"has no '{key}' for the SiglipModel"),
            ({**state, "queue": torch.zeros(2)}, "has an unknown 'queue' for the SiglipModel"),
            (
                {**state, key: torch.zeros(1, 3)},
                r"has shape \(1, 3\), the SiglipModel of config.json needs \(1, 1, 32\)",
            ),
        ]:
            write_published(copy, SMALL, spoilt)
            with pytest.raises(WronglungError, match=message):
                load(str(copy))

    def test_unknown_method(self, small: Path) -> None:
        with pytest.raises(
            WronglungError, match="unknown saliency method 'chefer'; it has value, naive, gradcam, probe"
        ):
            load(str(small), "chefer")

    def test_padding_that_the_tokenizer_does_not_have(self, copy: Path) -> None:
        (copy / "tokenizer_config.json").write_text(json.dumps({**GEMMA, "pad_token": "[PAD]"}))
        with pytest.raises(WronglungError, match=r"pad_token is '\[PAD\]', which tokenizer.json does not have"):
            load(str(copy))


class TestInTheBenchmark:
    def test_keeps_the_protocol(self, small: Path) -> None:
        assert [one for one in check_adapter(load(str(small), "gradcam")) if one.outcome == "failed"] == []

    def test_runs_on_films(self, small: Path, covid_lungs: Path) -> None:
        results = evaluate(load(str(small)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert np.isfinite(results.instances["auroc"]).any()
