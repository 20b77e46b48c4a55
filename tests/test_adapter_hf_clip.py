"""CLIP in the transformers library's files: the reference numbers, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from published import GoldenPixels, dual_model, film, off, word_tokenizer, write_published
from recipes import golden_arrays, golden_manifest, recipe_state
from transformers import CLIPConfig, CLIPModel

from wronglung.adapters.dual import DualNetwork
from wronglung.adapters.files.state_dicts import file_digest
from wronglung.adapters.files.transformers_format import find
from wronglung.adapters.hf_clip import load, read_network
from wronglung.adapters.saliency.cosine import LocalSimilarity
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.geometry import Geometry

pytestmark = pytest.mark.usefixtures("one_thread")

Arrays = Mapping[str, npt.NDArray[Any]]

PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 56},
    "crop_size": {"height": 56, "width": 56},
}
SPECIAL = {"<|startoftext|>": 148, "<|endoftext|>": 149}
TOKENIZER = word_tokenizer(150, "<|startoftext|> $A <|endoftext|>", SPECIAL, "<|endoftext|>")
METHODS = ("value", "naive", "value-residual-ffn", "vv", "gem", "gradcam", "chefer", "rollout")
SMALL = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {
        "vocab_size": 150, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 20, "bos_token_id": 148, "eos_token_id": 149,
    },
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56,
        "patch_size": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden_encoders" / "hf_clip"


@pytest.fixture(scope="module")
def arrays(golden: Path) -> Arrays:
    return golden_arrays(golden)


@pytest.fixture(scope="module")
def sentences(arrays: Arrays) -> list[str]:
    return [" ".join(f"w{one}" for one in row if one < 148) for row in arrays["input_ids"].tolist()]


@pytest.fixture(scope="module")
def pixels(arrays: Arrays) -> GoldenPixels:
    return GoldenPixels(arrays["pixel_values"])


@pytest.fixture(scope="module")
def network(golden: Path, pixels: GoldenPixels, tmp_path_factory: pytest.TempPathFactory) -> DualNetwork:
    """The reference model, read from the files that PubMedCLIP has."""
    manifest = golden_manifest(golden)
    folder = write_published(
        tmp_path_factory.mktemp("golden"),
        {"model_type": "clip", **manifest["config"]},
        {
            **recipe_state(manifest["entries"]),
            # Old versions of the library wrote these.
            "text_model.embeddings.position_ids": torch.arange(20)[None],
            "vision_model.embeddings.position_ids": torch.arange(50)[None],
        },
        tokenizer=TOKENIZER,
        processor=PROCESSOR,
        pickled=True,
    )
    return replace(read_network(find(str(folder), "clip", [])), pipeline=pixels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small CLIP of random weights."""
    torch.manual_seed(0)
    state = CLIPModel(CLIPConfig.from_dict(SMALL)).state_dict()
    folder = tmp_path_factory.mktemp("hub") / "small-clip"
    return write_published(folder, SMALL, state, tokenizer=TOKENIZER, processor=PROCESSOR)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """The small CLIP's folder, to be spoilt."""
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
        scale = network.module.get_parameter("logit_scale").exp()
        assert off(similarity * scale, arrays["logits_per_image"]) < 1e-4

    @pytest.mark.parametrize(
        ("method", "prefix"),
        [("naive", "naive"), ("value", "value_only"), ("value-residual-ffn", "value_residual_ffn")],
    )
    def test_dense_methods(
        self,
        method: str,
        prefix: str,
        network: DualNetwork,
        arrays: Arrays,
        sentences: list[str],
        pixels: GoldenPixels,
    ) -> None:
        model = dual_model(network, method)
        images = model.encode_images(pixels.images)
        patches = torch.stack([one.tensors["patches"] for one in images])
        assert off(patches.flatten(1, 2), arrays[f"{prefix}.patch_features"]) < 1e-3
        pairs = [(image, text) for image in images for text in model.encode_sentences(sentences)]
        for similarity, name in {
            "max": "local_max",
            "mean": "local_mean",
            "logsumexp": "local_lse_tau0.07",
            "attention": "local_attn_tau0.07",
        }.items():
            kind = next(one for one in get_args(LocalSimilarity) if one == similarity)
            answer = dual_model(network, method, similarity=kind).align_features(*zip(*pairs, strict=True))
            assert answer.local_similarity is not None
            assert off(answer.local_similarity.reshape(3, 4), arrays[f"{prefix}.{name}"]) < 1e-4
        maps = answer.saliency.reshape(3, 4, 7, 7)
        assert off(maps, arrays[f"{prefix}.similarity"]) < 1e-4
        mass = (maps.flatten(2) / model.card.temperature).softmax(2).reshape(3, 4, 7, 7)
        assert off(mass, arrays[f"{prefix}.attention_tau0.07"]) < 1e-4

    def test_chefer(self, network: DualNetwork, arrays: Arrays, sentences: list[str], pixels: GoldenPixels) -> None:
        model = dual_model(network, "chefer")
        texts = model.encode_sentences(sentences)
        pairs = [(image, text) for image in model.encode_images(pixels.images) for text in texts]
        answer = model.align_features(*zip(*pairs, strict=True))
        assert (
            off(answer.saliency.reshape(3, 4, 7, 7), arrays["chefer_relevance"])
            < 1e-4 * arrays["chefer_relevance"].max()
        )


class TestLoading:
    def test_says_who_it_is(self, small: Path) -> None:
        card = load(str(small), trained_on="WIT, ROCO").card
        assert card.name == "small-clip + value"
        assert card.checkpoint == file_digest(small / "model.safetensors")
        assert card.pretraining_sources == ("WIT", "ROCO")
        assert (card.settings["method"], card.settings["tau"], card.temperature) == ("value", 0.07, 0.07)
        assert "shortest side to 56" in card.preprocessing

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_answers_alike_alone_and_in_a_batch(self, method: str, small: Path) -> None:
        model = load(str(small), method)
        images, sentences = [film("a", 80, 64), film("b", 64, 90)], ["w3 w4", "w5"]
        together = model.align(images, sentences)
        assert together.saliency.shape == (2, 7, 7)
        assert torch.equal(together.saliency[1:], model.align(images[1:], sentences[1:]).saliency)

    def test_the_methods_differ(self, small: Path) -> None:
        maps = [load(str(small), one).align([film("a", 80, 64)], ["w3 w4"]).saliency for one in METHODS]
        assert all(not torch.equal(one, other) for at, one in enumerate(maps) for other in maps[:at])

    def test_other_image_size(self, small: Path) -> None:
        """The library's own interpolation of positions."""
        network = read_network(find(str(small), "clip", []), image_size=80)
        pixels, _ = network.pipeline(film("a", 160, 120).pixels)
        with torch.no_grad():
            vectors = network.methods["naive"].encode(pixels[None])[1]
            features = CLIPModel.from_pretrained(small).get_image_features(pixels[None], interpolate_pos_encoding=True)
        assert torch.allclose(vectors, features.pooler_output, atol=1e-5)
        model = load(str(small), image_size=80)
        answer = model.align([film("a", 160, 120)], ["w3"])
        assert answer.saliency.shape == (1, 10, 10)
        assert (answer.geometry[0].frame_width, answer.geometry[0].frame_height) == (80, 80)

    def test_frame_ends_where_the_patches_end(self, small: Path) -> None:
        answer = load(str(small), image_size=60).align([film("a", 120, 120)], ["w3"])
        assert answer.saliency.shape == (1, 7, 7)
        assert answer.geometry[0] == Geometry(120, 120, 56, 56, 0.5, 0.5)

    def test_without_a_preprocessor_file_it_is_clips_own(self, copy: Path, small: Path) -> None:
        (copy / "preprocessor_config.json").unlink()
        assert load(str(copy)).card.preprocessing == load(str(small)).card.preprocessing

    def test_sentences_are_cut_at_the_towers_length(self, small: Path) -> None:
        model = load(str(small))
        long, longer = (" ".join(["w3"] * 18 + ["w9"] * more) for more in (0, 30))
        one, other, short = model.encode_sentences([long, longer, "w3"])
        assert torch.equal(one.tensors["global"], other.tensors["global"])
        assert not torch.equal(one.tensors["global"], short.tensors["global"])

    def test_byte_pair_files_serve_in_place_of_the_tokenizers_own(self, copy: Path) -> None:
        (copy / "tokenizer.json").unlink()
        letters = [*"abcdef", *(f"{one}</w>" for one in "abcdef")]
        words = {one: at for at, one in enumerate([*letters, "be</w>"])} | SPECIAL
        (copy / "vocab.json").write_text(json.dumps(words))
        with pytest.raises(WronglungError, match="the folder holds no merges.txt"):
            load(str(copy))
        (copy / "merges.txt").write_text("#version: 0.2\nb e</w>\n")
        model = load(str(copy))
        one, other, third = model.encode_sentences(["Be bad", "be  bad", "e bad"])
        assert torch.equal(one.tensors["global"], other.tensors["global"])
        assert not torch.equal(one.tensors["global"], third.tensors["global"])

    def test_configurations_from_before_the_end_token_was_right(self, copy: Path, small: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        config["text_config"]["eos_token_id"] = 2
        (copy / "config.json").write_text(json.dumps(config))
        old, new = (load(str(one)).encode_sentences(["w5 w6"])[0].tensors["global"] for one in (copy, small))
        assert torch.equal(old, new)


class TestRefusals:
    def test_missing_folder(self) -> None:
        with pytest.raises(WronglungError, match="weights=/no/such: no such folder; give a folder with config.json"):
            load("/no/such")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_missing_file(self, file: str, copy: Path) -> None:
        (copy / file).unlink()
        with pytest.raises(WronglungError, match=f"the folder holds no .*{file}"):
            load(str(copy))

    def test_hub_name_offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(WronglungError, match="hf download nobody/no-such-clip --local-dir FOLDER"):
            load("nobody/no-such-clip")

    def test_missing_and_unknown_keys_and_shapes(self, small: Path, tmp_path: Path) -> None:
        state = CLIPModel(CLIPConfig.from_dict(SMALL)).state_dict()
        key = "visual_projection.weight"
        for spoilt, message in [
            ({name: one for name, one in state.items() if name != key}, f"has no '{key}' for the CLIPModel"),
            ({**state, "queue": torch.zeros(2)}, "has an unknown 'queue' for the CLIPModel"),
            ({**state, key: torch.zeros(3, 32)}, r"has shape \(3, 32\), the CLIPModel of config.json needs \(16, 32\)"),
        ]:
            folder = write_published(tmp_path, SMALL, spoilt, tokenizer=TOKENIZER, processor=PROCESSOR)
            with pytest.raises(WronglungError, match=message):
                load(str(folder))

    def test_unknown_method(self, small: Path) -> None:
        with pytest.raises(WronglungError, match="unknown saliency method 'best'; it has value, naive"):
            load(str(small), "best")

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"start_layer": 3}, "start_layer=3: the tower has blocks 0 to 2"),
            ({"depth": 9}, "depth=9: the tower has 3 blocks"),
            ({"image_size": 4}, "image_size=4: smaller than a patch"),
            ({"method": "chefer", "dtype": torch.bfloat16}, "needs float32"),
        ],
    )
    def test_wrong_arguments(self, argument: dict[str, Any], message: str, small: Path) -> None:
        with pytest.raises(WronglungError, match=message):
            load(str(small), **argument)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model_type": "bert"}, "model_type is 'bert'; this adapter reads 'clip'"),
            (
                {"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}},
                "model_type is .mine.; its class is code of the repository .auto_map., which is",
            ),
            ({"vision_config": {"hidden_size": 30, "num_attention_heads": 4}}, "makes no CLIPModel"),
            ({"text_config": 5}, "makes no CLIPModel"),
        ],
    )
    def test_wrong_configuration(self, change: dict[str, Any], message: str, copy: Path) -> None:
        (copy / "config.json").write_text(json.dumps({**SMALL, **change}))
        with pytest.raises(WronglungError, match=f"config.json: {message}"):
            load(str(copy))

    def test_files_that_are_no_json(self, copy: Path) -> None:
        (copy / "config.json").write_text("[1]")
        with pytest.raises(WronglungError, match="config.json: holds no JSON object"):
            load(str(copy))
        (copy / "config.json").write_text("{")
        with pytest.raises(WronglungError, match="config.json: cannot be read as JSON"):
            load(str(copy))

    def test_preprocessing_of_another_size(self, copy: Path) -> None:
        processor = {**PROCESSOR, "crop_size": 48}
        (copy / "preprocessor_config.json").write_text(json.dumps(processor))
        with pytest.raises(WronglungError, match="does not make images of 56 × 56 pixels"):
            load(str(copy))

    def test_tokenizer_of_another_model(self, copy: Path) -> None:
        word_tokenizer(200, "$A", {"[UNK]": 0}, "[UNK]").save(str(copy / "tokenizer.json"))
        with pytest.raises(WronglungError, match="the tokenizer has ids up to 199, the model vectors for 150"):
            load(str(copy))
        word_tokenizer(150, "$A", {"[UNK]": 0}, "[UNK]").save(str(copy / "tokenizer.json"))
        with pytest.raises(WronglungError, match="does not end sentences with id 149"):
            load(str(copy))
        (copy / "tokenizer.json").write_text("{}")
        with pytest.raises(WronglungError, match="no tokenizer can be read"):
            load(str(copy))


class TestInTheBenchmark:
    def test_keeps_the_protocol(self, small: Path) -> None:
        assert [one for one in check_adapter(load(str(small))) if one.outcome == "failed"] == []

    def test_runs_on_films(self, small: Path, covid_lungs: Path) -> None:
        results = evaluate(load(str(small)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert np.isfinite(results.instances["auroc"]).any()
