"""open_clip's models: the library's own numbers from published files, and what the harness needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from PIL import Image
from recipes import draw, golden_arrays, golden_manifest, recipe_state
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional

from wronglung.adapters.dual import DualModel
from wronglung.adapters.open_clip.adapter import load
from wronglung.adapters.open_clip.build import build_tokenizer
from wronglung.adapters.saliency.cosine import LocalSimilarity
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import LoadedImage

open_clip = pytest.importorskip("open_clip")

Arrays = Mapping[str, npt.NDArray[Any]]
State = dict[str, torch.Tensor]

TOWERS = ("open_clip_vit", "open_clip_rn", "open_clip_timm_hf")
DENSE = {
    "open_clip_vit": {
        "naive": "naive",
        "value": "value_only",
        "value-residual-ffn": "value_residual_ffn",
        "vv": "vv_surgery",
        "gem": "gem",
    },
    "open_clip_rn": {"value": "dense_value", "value-pos": "dense_value_pos"},
    "open_clip_timm_hf": {"naive": "naive", "value": "value_only", "value-residual-ffn": "value_residual_ffn"},
}
OTHER = {
    "open_clip_vit": {"gradcam": "gradcam_tokens", "chefer": "chefer_relevance", "rollout": "attention_rollout"},
    "open_clip_rn": {"gradcam": "gradcam_layer4"},
}
LOCAL: dict[LocalSimilarity, str] = {"attention": "local_attn", "logsumexp": "local_lse"}

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 48}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 64, "patch_size": None}
TEXT = {"context_length": 32, "width": 16, "heads": 2, "layers": 1}


class Given:
    """In place of preprocessing: images are named after their place in a stack of pixels."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, Geometry]:
        height, width = self.pixels.shape[2:]
        return self.pixels[image.width - 1], Geometry.squash(*image.size, width, height)

    levels = __call__

    def finished(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def images(self) -> list[LoadedImage]:
        return [LoadedImage(str(index), Image.new("L", (index + 1, 1))) for index in range(len(self.pixels))]


class Golden:
    """One folder of reference numbers, and the same weights as a model that was published with open_clip."""

    def __init__(self, reference: Path, folder: Path) -> None:
        self.manifest = golden_manifest(reference)
        self.arrays = golden_arrays(reference)
        self.state = recipe_state(self.manifest["entries"])
        self.sentences: list[str] = self.manifest.get("prompts", [])
        config = self.manifest["config"]
        pixels = torch.from_numpy(draw(self.manifest["input_key"], (2, 3, 224, 224))).float()
        if "bert_config" in self.manifest:
            # A word for each id, and then sentences of the reference's ids.
            self.sentences = [
                " ".join(f"w{one}" for one in row if one > 4) for row in self.arrays["input_ids"].tolist()
            ]
            config["text_cfg"] |= {"context_length": 16, "hf_tokenizer_name": str(folder), "hf_model_name": str(folder)}
            bert = {"model_type": "bert", **self.manifest["bert_config"]}
            (folder / "config.json").write_text(json.dumps(bert))
            words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{one}" for one in range(5, bert["vocab_size"]))]
            (folder / "vocab.txt").write_text("\n".join(words))
        else:
            pixels = torch.from_numpy(self.arrays["pixel_values"])
        self.given = Given(pixels)
        publish(folder, config, self.state, "open_clip_pytorch_model.bin")
        self.folder = folder

    def load(self, method: str, **arguments: Any) -> DualModel:
        """Through the public door, but for the preprocessing: the reference begins with pixels."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("wronglung.adapters.open_clip.adapter.read_pipeline", lambda *_: self.given)
            return load(str(self.folder), method=method, **arguments)


def publish(folder: Path, config: Mapping[str, Any], state: State, file: str, **preprocess: Any) -> None:
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    if file.endswith(".safetensors"):
        safetensors.torch.save_file(state, folder / file)
    else:
        torch.save(state, folder / file)


def close(found: torch.Tensor | None, expected: npt.NDArray[Any], tolerance: float = 1e-4) -> bool:
    assert found is not None
    assert found.shape == expected.shape
    return bool(np.abs(found.numpy() - expected).max() <= tolerance)


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Golden]:
    made: dict[str, Golden] = {}

    def get(name: str) -> Golden:
        if name not in made:
            made[name] = Golden(shared / "golden_encoders" / name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def pairs(model: DualModel, reference: Golden) -> tuple[list[Any], list[Any]]:
    """Features of all images with all sentences, images first."""
    images, sentences = model.encode_images(reference.given.images()), model.encode_sentences(reference.sentences)
    return [image for image in images for _ in sentences], [one for _ in images for one in sentences]


@pytest.mark.usefixtures("one_thread")
class TestNumbersOfTheLibrary:
    @pytest.mark.parametrize("tower", TOWERS)
    def test_vectors_of_images_and_sentences(self, tower: str, golden: Callable[[str], Golden]) -> None:
        reference = golden(tower)
        arrays, model = reference.arrays, reference.load("value")
        images = model.encode_images(reference.given.images())
        sentences = model.encode_sentences(reference.sentences)
        assert close(torch.stack([one.tensors["global"] for one in images]), arrays["image_features"], 1e-3)
        assert close(torch.stack([one.tensors["global"] for one in sentences]), arrays["text_features"], 1e-3)
        similarity = model.global_similarity_matrix(images, sentences)
        assert close(similarity, arrays["global_similarity"])
        if "logits_per_image" in arrays:
            assert close(reference.state["logit_scale"].exp() * similarity, arrays["logits_per_image"])

    @pytest.mark.parametrize(("tower", "method"), [(tower, method) for tower in TOWERS for method in DENSE[tower]])
    def test_dense_maps(self, tower: str, method: str, golden: Callable[[str], Golden]) -> None:
        reference, key = golden(tower), DENSE[tower][method]
        arrays = reference.arrays
        surgery = {"depth": 3} if tower == "open_clip_vit" else {}
        model = reference.load(method, **surgery)
        images, sentences = pairs(model, reference)
        count = len(reference.sentences)
        patches = torch.stack([one.tensors["patches"].flatten(0, 1) for one in images[::count]])
        assert close(patches, arrays[f"{key}.patch_features"], 1e-3)

        similarity = arrays[f"{key}.similarity"]
        found = model.align_features(images, sentences)
        assert close(found.saliency.reshape(similarity.shape), similarity)
        assert close(found.global_similarity.reshape(-1, count), arrays["global_similarity"])  # type: ignore[union-attr]
        assert (model.card.map_kind, model.card.signed, model.card.mass) == ("score", True, "softmax")

    @pytest.mark.parametrize(("tower", "key"), [(tower, key) for tower in TOWERS for key in DENSE[tower].items()])
    def test_local_similarities(self, tower: str, key: tuple[str, str], golden: Callable[[str], Golden]) -> None:
        reference, (method, prefix) = golden(tower), key
        surgery = {"depth": 3} if tower == "open_clip_vit" else {}
        model = reference.load(method, **surgery)
        images, sentences = pairs(model, reference)
        for tau in reference.manifest["taus"]:
            for kind in ("attention", "logsumexp", "max", "mean"):
                scored = DualModel(
                    model._network, method, model.card.model_copy(update={"temperature": tau}), similarity=kind, tau=tau
                )
                found = scored.align_features(images, sentences)
                name = f"{LOCAL[kind]}_tau{tau}" if kind in LOCAL else f"local_{kind}"
                expected = reference.arrays[f"{prefix}.{name}"]
                assert close(found.local_similarity.reshape(expected.shape), expected)  # type: ignore[union-attr]
            attention = reference.arrays[f"{prefix}.attention_tau{tau}"]
            mass = (found.saliency.flatten(1) / tau).softmax(dim=1)
            assert close(mass.reshape(attention.shape), attention)

    @pytest.mark.parametrize(("tower", "method"), [(tower, method) for tower in OTHER for method in OTHER[tower]])
    def test_gradients_and_rollout(self, tower: str, method: str, golden: Callable[[str], Golden]) -> None:
        reference = golden(tower)
        expected = reference.arrays[OTHER[tower][method]]
        model = reference.load(method)
        found = model.align_features(*pairs(model, reference))
        maps = found.saliency.reshape(len(reference.given.pixels), len(reference.sentences), *expected.shape[-2:])
        assert close(maps if expected.ndim == 4 else maps[:, 0], expected)
        assert found.local_similarity is None
        assert (model.card.signed, model.card.comparable, model.card.mass) == (False, False, "sum")

    def test_layer4_is_what_gradcam_starts_at(self, golden: Callable[[str], Golden]) -> None:
        reference = golden("open_clip_rn")
        images = reference.load("gradcam").encode_images(reference.given.images())
        layer4 = torch.stack([one.tensors["activations"] for one in images])
        stride = reference.manifest["layer4_channel_stride"]
        assert close(layer4[:, ::stride], reference.arrays["layer4"], 1e-3)

    def test_ids_of_sentences(self, golden: Callable[[str], Golden]) -> None:
        reference = golden("open_clip_vit")
        tokenizer = open_clip.SimpleTokenizer(context_length=24)
        assert np.array_equal(tokenizer(reference.sentences).numpy(), reference.arrays["input_ids"])

    def test_pixels_are_those_of_the_reference(self, golden: Callable[[str], Golden]) -> None:
        reference = golden("open_clip_timm_hf")
        assert close(reference.given.pixels[:, :, ::16, ::16], reference.arrays["pixel_values_every16"], 1e-6)


def state_of(config: Mapping[str, Any], seed: int = 0) -> State:
    """Random weights of a native model, by their names."""
    torch.manual_seed(seed)
    # Draws of the initialisation are so small that maps would be flat.
    return {
        key: torch.randn_like(tensor) * 0.2 + tensor if tensor.ndim > 1 else tensor
        for key, tensor in open_clip.CLIP(**config).state_dict().items()
    }


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": True}


@pytest.fixture(scope="module")
def state(config: dict[str, Any]) -> State:
    return state_of(config)


@pytest.fixture(scope="module")
def folder(config: dict[str, Any], state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vision transformer, as published."""
    path = tmp_path_factory.mktemp("tiny-clip")
    publish(path, config, state, "open_clip_model.safetensors")
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    """The small models among open_clip's own: "tiny", and "tiny-rn" with a ResNet."""
    path = tmp_path_factory.mktemp("configs")
    (path / "tiny.json").write_text(json.dumps(config | {"quick_gelu": False}))
    (path / "tiny-rn.json").write_text(json.dumps(config | {"vision_cfg": RESNET}))
    siglip = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none", "image_size": 224}
    (path / "tiny-siglip.json").write_text(
        json.dumps(config | {"embed_dim": 192, "vision_cfg": siglip, "custom_text": True, "init_logit_bias": -10})
    )
    convolutions = {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    (path / "tiny-convnext.json").write_text(json.dumps(config | {"vision_cfg": convolutions}))
    relative = {"timm_model_name": "vit_relpos_small_patch16_224", "image_size": 224}
    (path / "tiny-relpos.json").write_text(json.dumps(config | {"vision_cfg": relative}))
    open_clip.add_model_config(path)


@pytest.fixture
def film() -> LoadedImage:
    return LoadedImage("film", Image.effect_noise((90, 60), 60))


@pytest.mark.usefixtures("one_thread", "library")
class TestWhereAModelComesFrom:
    @pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
    @pytest.mark.parametrize("prefix", ["", "local-dir:"])
    def test_a_folder(
        self, file: str, prefix: str, config: dict[str, Any], state: State, tmp_path: Path, film: LoadedImage
    ) -> None:
        publish(tmp_path, config, state, file, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize_mode="squash")
        model = load(f"{prefix}{tmp_path}")
        assert model.card.name == f"{tmp_path.name} + value"
        assert model.card.preprocessing == "RGB; squashed to 48 × 48, bicubic (Pillow); mean 0.5, deviation 0.5"
        found = model.align([film], ["no effusion"])
        assert found.saliency.shape == (1, 3, 3)
        assert found.geometry[0] == Geometry.squash(90, 60, 48, 48)

    def test_a_file_for_a_name(self, state: State, folder: Path, tmp_path: Path, film: LoadedImage) -> None:
        # As open_clip's own training writes it.
        training = {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
        torch.save(training, tmp_path / "epoch_3.pt")
        named = load("tiny", str(tmp_path / "epoch_3.pt"), quick_gelu=True)
        assert torch.equal(named.align([film], ["clear"]).saliency, load(str(folder)).align([film], ["clear"]).saliency)

    def test_a_tag_brings_its_preprocessing_and_quick_gelu(
        self, state: State, tmp_path: Path, film: LoadedImage, monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        torch.save(state, tmp_path / "weights.pt")
        known = {"hf_hub": "owner/tiny/", "mean": [0.5] * 3, "std": [0.5] * 3, "quick_gelu": True}
        monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: known if tag == "openai" else {})
        monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["openai"])
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        model = load("tiny/openai", str(tmp_path / "weights.pt"))
        assert model.card.settings["quick_gelu"] is True
        assert "mean 0.5, deviation 0.5" in model.card.preprocessing
        with pytest.raises(WronglungError, match="open_clip has no weights 'laion' of tiny; it has openai"):
            load("tiny/laion")
        # Without a file, from the local cache of the hub.
        with pytest.raises(WronglungError, match=r"weights=owner/tiny: open_clip_model\.safetensors"):
            load("tiny/openai")
        found = load("tiny/openai", str(folder)).align([film], ["clear"])
        assert torch.equal(found.saliency, model.align([film], ["clear"]).saliency)

    @pytest.mark.parametrize("tag", ["ViT-B-16/openai", "ViT-B-16/laion2b_s34b_b88k", "RN50/openai"])
    def test_published_tags_that_are_not_here(self, tag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(WronglungError, match=r"hf download .*open_clip_model\.safetensors .*weights=FOLDER"):
            load(tag)
        with pytest.raises(WronglungError, match=r"model=owner/name: open_clip_config\.json"):
            load("hf-hub:owner/name")

    def test_random_weights_are_said_and_the_same_each_time(self, film: LoadedImage) -> None:
        first, second = load("tiny", "random"), load("tiny", "random")
        assert first.card.name == "tiny (random weights) + value"
        assert first.card.checkpoint is None
        assert torch.equal(first.align([film], ["clear"]).saliency, second.align([film], ["clear"]).saliency)

    def test_a_folder_of_checkpoints_is_an_ensemble(self, config: dict[str, Any], tmp_path: Path) -> None:
        films = [LoadedImage(str(seed), Image.effect_noise((90, 60), 50 + seed)) for seed in range(2)]
        sentences = ["left opacity", "clear"]
        for seed in range(2):
            torch.save(state_of(config, seed), tmp_path / f"best_{seed}.pt")
        members = [load("tiny", str(tmp_path / f"best_{seed}.pt")).align(films, sentences) for seed in range(2)]
        whole = load("tiny", str(tmp_path))
        found = whole.align(films, sentences)
        assert torch.allclose(found.saliency, (members[0].saliency + members[1].saliency) / 2, atol=1e-6)
        assert whole.card.saliency_method.endswith("mean over 2 checkpoints")

    def test_chexzero_has_its_own_preprocessing(self, film: LoadedImage) -> None:
        model = load("tiny", "random", preprocess="chexzero")
        assert "mean 101.48761, deviation 83.43944; squashed to 48 × 48" in model.card.preprocessing
        # Padded to a square first.
        assert model.align([film], ["clear"]).geometry[0].offset_y == pytest.approx(8, abs=0.1)
        with pytest.raises(WronglungError, match="resize_mode: CheXzero"):
            load("tiny", "random", preprocess="chexzero", resize_mode="squash")


@pytest.mark.usefixtures("one_thread", "library")
class TestArguments:
    def test_another_image_size_interpolates_positions_as_the_library_does(
        self, config: dict[str, Any], state: State, folder: Path
    ) -> None:
        larger = open_clip.CLIP(**config | {"vision_cfg": VISION | {"image_size": 80}})
        theirs = {key: tensor.clone() for key, tensor in state.items()}
        open_clip.model.resize_pos_embed(theirs, larger)
        ours = load(str(folder), image_size=80)._network.module.state_dict()
        assert torch.allclose(ours["visual.positional_embedding"], theirs["visual.positional_embedding"], atol=1e-6)

    @pytest.mark.parametrize(
        ("model", "size", "grid"),
        [("tiny", 80, 5), ("tiny-rn", 96, 3), ("tiny-siglip", 64, 4), ("tiny-convnext", 96, 3)],
    )
    def test_another_image_size(self, model: str, size: int, grid: int, film: LoadedImage, tmp_path: Path) -> None:
        trained = load(model, "random")
        torch.save(trained._network.module.state_dict(), tmp_path / "weights.pt")
        larger = load(model, str(tmp_path / "weights.pt"), image_size=size)
        found = larger.align([film], ["clear"])
        assert found.saliency.shape == (1, grid, grid)
        assert (found.geometry[0].frame_width, found.geometry[0].frame_height) == (size, size)

    def test_resize_mode(self, folder: Path, film: LoadedImage) -> None:
        cropped = load(str(folder)).align([film], ["clear"]).geometry[0]
        padded = load(str(folder), resize_mode="longest").align([film], ["clear"]).geometry[0]
        assert cropped.visible_window != padded.visible_window == (0, 0, 90, 60)

    def test_the_method_and_its_options_are_part_of_the_name(self, folder: Path) -> None:
        def name(method: str, **options: int) -> str:
            return load(str(folder), method=method, **options).card.name.removeprefix(f"{folder.name} + ")  # type: ignore[arg-type]

        assert name("gradcam") == "gradcam"
        assert name("chefer") == "chefer"
        assert name("chefer", start_layer=1) == "chefer from block 1"
        assert name("vv", depth=1) == "vv of 1 blocks"
        card = load(str(folder), method="chefer", start_layer=1, trained_on="CXR, ROCO", name="mine").card
        assert (card.name, card.pretraining_sources, card.settings["start_layer"]) == (
            "mine + chefer from block 1",
            ("CXR", "ROCO"),
            1,
        )
        assert card.saliency_method == "relevance of patches to the class token (Chefer), blocks 1 to 1"

    def test_half_precision_is_near(self, folder: Path, film: LoadedImage) -> None:
        whole = load(str(folder)).align([film], ["clear"])
        half = load(str(folder), dtype=torch.bfloat16).align([film], ["clear"])
        assert half.saliency.dtype == torch.float32
        assert (whole.saliency - half.saliency).abs().max() < 0.05

    def test_long_sentences_are_cut(self, folder: Path) -> None:
        model = load(str(folder))
        long, longer = model.encode_sentences(["no opacity in the left lung " * times for times in (10, 20)])
        assert torch.equal(long.tensors["global"], longer.tensors["global"])


@pytest.mark.usefixtures("one_thread", "library")
class TestOtherTowers:
    def test_siglip_value_is_the_heads_answer_to_equal_patches(self) -> None:
        network = load("tiny-siglip", "random")._network
        module: Any = network.module
        assert list(network.methods) == ["value", "naive", "gradcam"]
        pixels = torch.zeros(1, 3, 224, 224)
        with torch.no_grad():
            # Without positions all patches of a flat image are the same.
            module.visual.trunk.pos_embed.zero_()
            patches, vectors = network.methods["value"].encode(pixels)
        assert torch.allclose(patches, vectors[:, None, None].expand_as(patches), atol=1e-5)

    @pytest.mark.parametrize("tower", ["tiny-siglip", "tiny-convnext", "tiny-rn", "tiny"])
    def test_all_methods_have_the_image_vector_of_the_library(self, tower: str, film: LoadedImage) -> None:
        network = load(tower, "random")._network
        module: Any = network.module
        pixels = network.pipeline(film.pixels)[0][None]
        with torch.no_grad():
            expected = module.encode_image(pixels)
            for method in network.methods.values():
                assert torch.allclose(method.encode(pixels)[1], expected, atol=1e-5)

    @pytest.mark.parametrize(("tower", "grid"), [("tiny-siglip", 14), ("tiny-convnext", 2), ("tiny-rn", 2)])
    def test_gradcam(self, tower: str, grid: int, film: LoadedImage) -> None:
        found = load(tower, "random", method="gradcam").align([film, film], ["clear", "opacity"]).saliency
        assert found.shape == (2, grid, grid)
        assert (found >= 0).all()

    def test_flipped_images_have_other_maps(self, folder: Path, film: LoadedImage) -> None:
        flipped = LoadedImage("flipped", film.pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        found = load(str(folder)).align([film, flipped], ["clear", "clear"]).saliency
        assert (found[0] - found[1]).abs().max() > 1e-3

    def test_class_tokens_attention_gathers_the_values(self, config: dict[str, Any], state: State) -> None:
        from wronglung.adapters.open_clip.towers import native_tower

        visual = open_clip.CLIP(**config).eval().visual
        visual.load_state_dict({key[7:]: one for key, one in state.items() if key.startswith("visual.")})
        tower, last = native_tower(visual), visual.transformer.resblocks[-1]
        with torch.no_grad():
            tokens = last.ln_1(visual._embeds(torch.randn(1, 3, 48, 48)))
            q, k, v = tower.blocks[-1].heads(tokens)
            gathered = functional.scaled_dot_product_attention(q, k, v)
            assert torch.allclose(tower.blocks[-1].project(gathered), last.attention(tokens), atol=1e-5)


@pytest.mark.usefixtures("one_thread", "library")
class TestMessages:
    def test_what_can_be_wrong_is_said(self, folder: Path, tmp_path: Path) -> None:
        def message(*arguments: Any, **options: Any) -> str:
            with pytest.raises(WronglungError) as caught:
                load(*arguments, **options)
            return str(caught.value)

        good = str(folder)
        assert "unknown saliency method 'cam'; it has value, naive, value-residual-ffn, vv, gem" in message(
            good, method="cam"
        )
        assert "start_layer=2: the tower has blocks 0 to 1" in message(good, start_layer=2)
        assert "depth=3: the tower has 2 blocks" in message(good, depth=3)
        assert "give image_size=48" in message(good, image_size=50)
        assert "tau=0" in message(good, tau=0)
        assert "preprocess=dicom: unknown" in message(good, preprocess="dicom")
        assert "needs its weights: weights=FILE" in message("tiny")
        assert "did you mean ViT-B-16" in message("ViT-B16")
        assert "hf-hub:owner/name" in message("laion/CLIP-ViT-B-16-laion2B-s34B-b88K")
        assert "no such file or folder" in message("tiny", str(tmp_path / "nowhere.pt"))
        assert "holds no open_clip_model.safetensors or" in message("tiny", str(tmp_path))
        assert "holds no open_clip_config.json" in message(str(tmp_path))
        assert "VisionTransformerRelPos is not supported" in message("tiny-relpos", "random")
        assert "float32" in message(good, method="gradcam", dtype=torch.bfloat16)

    def test_weights_that_do_not_fit(self, state: State, tmp_path: Path) -> None:
        path = tmp_path / "weights.pt"

        def message(changed: State) -> str:
            torch.save(changed, path)
            with pytest.raises(WronglungError) as caught:
                load("tiny", str(path))
            return str(caught.value)

        key = "visual.ln_post.weight"
        assert f"{path}: has no '{key}'" in message({name: one for name, one in state.items() if name != key})
        assert "unknown 'more'" in message(state | {"more": torch.zeros(1)})
        assert f"'{key}' has shape (3,), model tiny needs (32,)" in message(state | {key: torch.zeros(3)})
        assert "needs" in message(state | {"visual.positional_embedding": torch.zeros(7, 32)})
        assert "quick GELU; give quick_gelu=true" in message(state | {"input_resolution": torch.tensor(48)})

    def test_openais_numbers_and_old_buffers_are_left_out(self, state: State, tmp_path: Path) -> None:
        extra = {key: torch.tensor(1) for key in ("input_resolution", "context_length", "vocab_size")}
        torch.save(state | extra | {"text.transformer.embeddings.position_ids": torch.arange(9)}, tmp_path / "a.pt")
        assert load("tiny", str(tmp_path / "a.pt"), quick_gelu=True).card.settings["quick_gelu"] is True

    def test_configurations_that_cannot_be_read(self, config: dict[str, Any], state: State, tmp_path: Path) -> None:
        def message(content: Any, **preprocess: Any) -> str:
            publish(tmp_path, content, state, "open_clip_model.safetensors", **preprocess)
            with pytest.raises(WronglungError) as caught:
                load(str(tmp_path))
            return str(caught.value)

        assert "has no model_cfg with vision_cfg and text_cfg" in message({"embed_dim": 3})
        assert "cannot build its configuration" in message(config | {"more": 1})
        assert "text decoder" in message(config | {"multimodal_cfg": {}})
        assert "interpolation" in message(config, interpolation="random")
        code = config | {"text_cfg": TEXT | {"tokenizer_kwargs": {"trust_remote_code": True}}}
        assert "tokenizer_kwargs has trust_remote_code" in message(code)

    def test_text_towers_from_elsewhere(
        self, golden: Callable[[str], Golden], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        reference = golden("open_clip_timm_hf")
        own, text = tmp_path / "own", tmp_path / "text"
        own.mkdir()
        text.mkdir()
        config = reference.manifest["config"]
        hub = {"hf_model_name": "owner/bert", "hf_tokenizer_name": "owner/bert"}
        elsewhere = config | {"text_cfg": config["text_cfg"] | hub}
        publish(own, elsewhere, reference.state, "open_clip_model.safetensors")
        with pytest.raises(WronglungError, match=r"text=owner/bert: config\.json is not in the local cache"):
            load(str(own))
        (text / "config.json").write_text((reference.folder / "config.json").read_text())
        with pytest.raises(WronglungError, match=r"the folder holds no tokenizer\.json or vocab\.txt"):
            load(str(own), text=str(text))
        (text / "vocab.txt").write_text((reference.folder / "vocab.txt").read_text())
        model = load(str(own), text=str(text))
        assert torch.equal(
            model.encode_sentences(["w17 w44"])[0].tensors["global"],
            reference.load("value").encode_sentences(["w17 w44"])[0].tensors["global"],
        )
        (text / "vocab.txt").write_text((reference.folder / "vocab.txt").read_text() + "\none\nmore")
        with pytest.raises(WronglungError, match=r"the tokenizer has 122 ids, but the text tower .* knows 120"):
            load(str(own), text=str(text))
        (text / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}))
        with pytest.raises(WronglungError, match="code beside it is not run"):
            load(str(own), text=str(text))

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open_clip", None)
        with pytest.raises(WronglungError, match=r'pip install "wronglung\[open-clip\]"'):
            load("tiny", "random")


@pytest.mark.usefixtures("one_thread", "library")
class TestInTheBenchmark:
    @pytest.mark.parametrize("method", ["value", "gradcam"])
    def test_keeps_the_protocol(self, method: str, folder: Path) -> None:
        assert [one for one in check_adapter(load(str(folder), method=method)) if one.outcome == "failed"] == []

    def test_a_result_does_not_depend_on_the_batch(self, folder: Path) -> None:
        films = [LoadedImage(str(seed), Image.effect_noise((90, 60), 40 + seed)) for seed in range(3)]
        sentences = ["clear", "no effusion on the left", "opacity"]
        for method in ("value", "gem", "chefer"):
            model = load(str(folder), method=method)
            together = model.align(films, sentences)
            alone = model.align(films[1:2], sentences[1:2])
            assert torch.equal(together.saliency[1], alone.saliency[0])

    def test_runs_on_films(self, folder: Path, covid_lungs: Path) -> None:
        results = evaluate(load(str(folder)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert np.isfinite(results.instances["auroc"]).any()


def test_no_code_of_a_tokenizers_folder_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where a user would say yes."""
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Tokens: ...\n")
    Tokenizer(WordLevel({"lung": 0}, unk_token="lung")).save(str(tmp_path / "tokenizer.json"))
    auto_map = {"tokenizer_class": "Tokens", "auto_map": {"AutoTokenizer": ["evil.Tokens", "evil.Tokens"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(auto_map))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    config = {"text_cfg": {"context_length": 8}}
    with suppress(WronglungError):
        build_tokenizer(config, tmp_path, 6, "model x")
    assert not marker.exists()
    assert "run the custom code" not in capfd.readouterr().out
