"""BioViL and BioViL-T: the numbers of the authors' library from their published files, and what the harness needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from recipes import golden_arrays, golden_manifest, recipe_state
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from wronglung.adapters.biovil.adapter import load, read_image_encoder
from wronglung.adapters.biovil.network import ImageEncoder, TextEncoder
from wronglung.adapters.biovil.smoothing import gaussian
from wronglung.adapters.dual import DualModel
from wronglung.adapters.networks.bert import WordPieces, without_padding
from wronglung.adapters.networks.resnet import ResNetShape
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.frames import ScoringFrame
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import LoadedImage

IMAGE_FILES = {
    "biovil": "biovil_image_resnet50_proj_size_128.pt",
    "biovil_t": "biovil_t_image_model_proj_size_128.pt",
}
Arrays = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def reference(shared: Path) -> Path:
    return shared / "golden_encoders" / "biovil"


@pytest.fixture(scope="module")
def arrays(reference: Path) -> Arrays:
    return golden_arrays(reference)


@pytest.fixture(scope="module")
def prompts(reference: Path) -> list[str]:
    # The library strips the marks at the end.
    return [f"{prompt}!?." for prompt in golden_manifest(reference)["prompts"]]


@pytest.fixture(scope="module")
def films(reference: Path) -> list[LoadedImage]:
    names = [image["file"] for image in golden_manifest(reference)["images"]]
    return [LoadedImage(name, Image.open(reference / name)) for name in names]


@pytest.fixture(scope="module")
def folders(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both models in the published files, by recipe."""
    manifest = golden_manifest(reference)
    text = recipe_state(manifest["text_model"]["entries"])
    folders = {}
    for variant, file in IMAGE_FILES.items():
        folder = folders[variant] = tmp_path_factory.mktemp(variant)
        torch.save(recipe_state(manifest["image_models"][variant]["entries"]), folder / file)
        torch.save(text, folder / "pytorch_model.bin")
        settings = {"model_type": "cxr-bert", "architectures": ["CXRBertModel"], **manifest["text_model"]["config"]}
        (folder / "config.json").write_text(json.dumps(settings))
        (folder / "vocab.txt").write_bytes((reference / "vocab.txt").read_bytes())
    return folders


@pytest.fixture(scope="module", params=["biovil", "biovil_t"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(variant: str, folders: dict[str, Path]) -> DualModel:
    return load(str(folders[variant]), smoothing=0)


@pytest.fixture(scope="module")
def sides(model: DualModel, films: list[LoadedImage], prompts: list[str]) -> tuple[list[Any], list[Any]]:
    return model.encode_images(films), model.encode_sentences(prompts)


def close(value: torch.Tensor, golden: npt.NDArray[Any], tolerance: float = 1e-4) -> None:
    assert value.shape == golden.shape
    assert np.abs(value.numpy() - golden).max() < tolerance


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vectors, dim=-1)


def maps_of(model: DualModel, sides: tuple[list[Any], list[Any]]) -> torch.Tensor:
    """All images with all sentences: [images, sentences, rows, columns]."""
    images, sentences = sides
    return torch.stack([model.align_features([one] * len(sentences), sentences).saliency for one in images])


def test_sentences_become_the_published_ids(folders: dict[str, Path], arrays: Arrays, prompts: list[str]) -> None:
    pieces = WordPieces(folders["biovil"] / "vocab.txt", 47)
    for prompt, ids, mask in zip(prompts, arrays["input_ids"], arrays["attention_mask"], strict=True):
        assert pieces.ids(prompt.rstrip("!?."), 64) == ids[mask == 1].tolist()


def test_sentence_vectors(sides: tuple[list[Any], list[Any]], arrays: Arrays) -> None:
    vectors = torch.stack([one.tensors["global"] for one in sides[1]])
    close(vectors, arrays["text_emb_raw"], 1e-3)
    close(unit(vectors), arrays["text_emb_normalised"])


def test_pixels(model: DualModel, variant: str, films: list[LoadedImage], arrays: Arrays) -> None:
    pixels = torch.stack([model._network.pipeline(film.pixels)[0] for film in films])
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    close(pixels[:, 0, ::16, ::16], arrays[f"{variant}.pixels_channel0_every16"])


def test_image_vectors(sides: tuple[list[Any], list[Any]], variant: str, arrays: Arrays) -> None:
    patches, whole = (torch.stack([one.tensors[key] for one in sides[0]]) for key in ("patches", "global"))
    close(unit(patches), arrays[f"{variant}.patch_emb_normalised"])
    close(unit(whole), arrays[f"{variant}.global_emb_normalised"])
    torch.testing.assert_close(patches.mean(dim=(1, 2)), whole)


def test_maps(model: DualModel, sides: tuple[list[Any], list[Any]], variant: str, arrays: Arrays) -> None:
    maps = maps_of(model, sides)
    close(maps, arrays[f"{variant}.patch_similarity"])
    close(gaussian(maps, 1.5), arrays[f"{variant}.patch_similarity_smoothed"])


def test_maps_are_smoothed_as_the_authors_do(
    folders: dict[str, Path], sides: tuple[list[Any], list[Any]], variant: str, arrays: Arrays
) -> None:
    smooth = load(str(folders[variant]))
    close(maps_of(smooth, sides), arrays[f"{variant}.patch_similarity_smoothed"])
    assert smooth.card.settings["smoothing"] == 1.5
    assert "1.5 cells" in smooth.card.saliency_method


def test_global_similarities(
    model: DualModel, sides: tuple[list[Any], list[Any]], variant: str, arrays: Arrays
) -> None:
    close(model.global_similarity_matrix(*sides), arrays[f"{variant}.global_similarity"])


def test_an_ensemble_of_prompts_is_the_mean_of_their_vectors(
    sides: tuple[list[Any], list[Any]], variant: str, arrays: Arrays
) -> None:
    whole = torch.stack([one.tensors["global"] for one in sides[0]])
    mean = torch.stack([one.tensors["global"] for one in sides[1]]).mean(dim=0)
    close(unit(whole) @ unit(mean), arrays[f"{variant}.global_similarity_prompt_ensemble"])


def test_features_and_a_prior_image(
    model: DualModel, variant: str, films: list[LoadedImage], sides: tuple[list[Any], list[Any]], arrays: Arrays
) -> None:
    network: Any = model._network.module
    pixels = torch.stack([model._network.pipeline(film.pixels)[0] for film in films[:2]])
    with torch.no_grad():
        features = network.image.features(pixels)
        if variant == "biovil":
            close(features[:, :16].mean(dim=(2, 3)), arrays["biovil.backbone_mean_first16"][:2], 1e-3)
            with pytest.raises(ValueError, match="takes no prior image"):
                network.image.project(features[:1], features[1:2])
            return
        fused = network.image.encoder.fuse(features, None)
        close(fused[:, :16].mean(dim=(2, 3)), arrays["biovil_t.backbone_mean_first16"][:2], 1e-3)
        patches = network.image.project(features[:1], features[1:2])
        with pytest.raises(ValueError, match="14 × 14"):
            network.image.project(features[:1], features[1:2, :, 1:])
    text = unit(torch.stack([one.tensors["global"] for one in sides[1]]))
    close(torch.einsum("brcd,td->trc", unit(patches), text), arrays["biovil_t.with_prior.patch_similarity"])
    close(text @ unit(patches.mean(dim=(1, 2)))[0], arrays["biovil_t.with_prior.global_similarity"])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_scoring_puts_the_map_where_the_authors_display_it(
    mode: Any, variant: str, sides: tuple[list[Any], list[Any]], arrays: Arrays
) -> None:
    maps = torch.from_numpy(arrays[f"{variant}.patch_similarity_smoothed"])
    for index, image in enumerate(sides[0]):
        width, height = image.geometry.image_width, image.geometry.image_height
        displayed = f"{variant}.fullres_{mode}_{index}"
        top, left, bottom, right = (int(edge) for edge in arrays[f"{displayed}_valid_box_y0x0y1x1"])
        # Their square has a whole number of the image's pixels and starts at one; ours is exact.
        assert np.abs(np.array(image.geometry.visible_window) - (left, top, right, bottom)).max() <= 1
        square = Geometry(width, height, right - left, bottom - top, 1.0, 1.0, -left, -top)
        pixels = ScoringFrame(square, "image", width, height).sample(maps[index, index % 4], mode)
        expected = arrays[f"{displayed}_every7"]
        np.testing.assert_allclose(pixels[3::7, 3::7], np.nan_to_num(expected, nan=-np.inf), atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.5, 1.5, 2.0]), st.integers(0, 99))
def test_smoothing_is_that_of_scipy(rows: int, columns: int, sigma: float, seed: int) -> None:
    maps = np.random.default_rng(seed).standard_normal((2, rows, columns))
    ours = gaussian(torch.from_numpy(maps), sigma).numpy()
    np.testing.assert_allclose(ours, gaussian_filter(maps, (0, sigma, sigma), mode="reflect"), atol=1e-12)


@given(st.lists(st.integers(1, 6), max_size=9))
def test_rows_of_ids_are_encoded_in_order_and_without_padding(lengths: list[int]) -> None:
    rows = [list(range(start, start + length)) for start, length in enumerate(lengths)]
    sums = without_padding(rows, lambda ids: ids.sum(dim=1, keepdim=True))
    assert [int(one) for one in sums] == [sum(row) for row in rows]


# Small models, made here.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a folder with a small model; ``change`` edits the tensors of a file before it is written."""
    from transformers import BertConfig

    def write(
        temporal: bool = False, dimensions: int = 16, **change: Callable[[dict[str, torch.Tensor]], object]
    ) -> Path:
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp("tiny")
        image = ImageEncoder(ResNetShape((1, 1, 1, 1), bottleneck=True, width=4), 16, (32, 2) if temporal else None)
        image.train()
        with torch.no_grad():
            image.project(image.features(torch.rand(4, 3, 448, 448)))
        words = "left right lung lower is the in no opacity effusion there zone pneumothorax cardiac silhouette normal"
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split(), "##s"]
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=24,
        )  # fmt: skip
        text = TextEncoder(config, 24, dimensions)
        states = {"image": image.state_dict(), "text": {**text.state_dict(), "cls.predictions.bias": torch.zeros(3)}}
        states["image"]["encoder.encoder.fc.weight"] = torch.zeros(4, 4)
        for part, edit in change.items():
            edit(states[part])
        torch.save(states["image"], folder / IMAGE_FILES["biovil_t" if temporal else "biovil"])
        torch.save(states["text"], folder / "pytorch_model.bin")
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (folder / "config.json").write_text(json.dumps({"hidden_size": 32, "num_attention_heads": 2}))
        return folder

    return write


@pytest.fixture(scope="module")
def folder(tiny: Callable[..., Path]) -> Path:
    return tiny()


def test_keeps_the_protocol(tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # A smaller frame, so that it does not take long.
    monkeypatch.setattr("wronglung.adapters.biovil.adapter.RESIZE", 256)
    monkeypatch.setattr("wronglung.adapters.biovil.adapter.TEMPORAL_CROP", 224)
    assert [check for check in check_adapter(load(str(tiny(temporal=True)))) if check.outcome == "failed"] == []


def test_gradcam_is_that_of_the_whole_network(folder: Path) -> None:
    """Channels weighed by the mean gradient of the cosine, taken through the network in one piece."""
    model = load(str(folder), "gradcam")
    film = LoadedImage("film", Image.effect_noise((60, 90), 60))
    network: Any = model._network.module
    alignment = model.align([film], ["opacity in the left lung"])
    features = network.image.features(model._network.pipeline(film.pixels)[0][None]).requires_grad_()
    text = model.encode_sentences(["opacity in the left lung"])[0].tensors["global"]
    cosine = functional.cosine_similarity(network.image.project(features).mean(dim=(1, 2)), text[None])
    (gradient,) = torch.autograd.grad(cosine.sum(), features)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()
    torch.testing.assert_close(alignment.saliency, expected.detach())
    assert alignment.local_similarity is None
    torch.testing.assert_close(alignment.global_similarity, cosine.detach())
    other = LoadedImage("other", Image.effect_noise((70, 50), 60))
    both = model.align([other, film], ["no effusion", "opacity in the left lung"])
    assert torch.equal(both.saliency[1:], alignment.saliency)


def test_the_card_says_what_was_run(folder: Path) -> None:
    card = load(str(folder)).card
    assert card.name == "biovil + similarity"
    assert card.signed
    assert card.pretraining_sources == ("MIMIC-CXR",)
    assert card.settings["prior"] is False
    assert "480" in card.preprocessing
    assert load(str(folder), "gradcam", name="mine").card.name == "mine + gradcam"
    assert load(str(folder), smoothing=0).card.checkpoint == card.checkpoint


def test_the_file_tells_biovil_from_biovil_t(tiny: Callable[..., Path]) -> None:
    card = load(str(tiny(temporal=True))).card
    assert card.name == "biovil-t + similarity"
    assert "448" in card.preprocessing


def test_runs_in_bfloat16(folder: Path) -> None:
    film = LoadedImage("film", Image.effect_noise((90, 60), 60))
    whole = load(str(folder)).align([film], ["no effusion"])
    half = load(str(folder), dtype=torch.bfloat16).align([film], ["no effusion"])
    assert half.saliency.dtype == torch.float32
    assert (whole.saliency - half.saliency).abs().max() < 0.05
    with pytest.raises(WronglungError, match="float32"):
        load(str(folder), "gradcam", dtype=torch.bfloat16)


def test_long_sentences_are_cut(folder: Path) -> None:
    model = load(str(folder))
    long, longer = ("no opacity in the left lung " * times for times in (10, 20))
    first, second = model.encode_sentences([long, longer])
    assert torch.equal(first.tensors["global"], second.tensors["global"])


def test_smoke(folder: Path, covid_lungs: Path) -> None:
    result = evaluate(load(str(folder)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
    assert result


def test_what_can_be_wrong_is_said(tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(*arguments: Any, **options: Any) -> str:
        with pytest.raises(WronglungError) as caught:
            load(*arguments, **options)
        return str(caught.value)

    good = str(tiny())
    assert "unknown saliency method 'attention'; it has similarity, gradcam" in message(good, "attention")
    assert "smoothing=-1" in message(good, smoothing=-1)
    assert "tau=0" in message(good, tau=0)
    assert "no such folder" in message(str(tmp_path / "nowhere"))
    assert "holds no config.json" in message(str(tmp_path))

    key = "encoder.encoder.layer3.0.conv2.weight"
    assert f"has no '{key}'" in message(str(tiny(image=lambda state: state.pop(key))))
    assert "unknown 'more'" in message(str(tiny(image=lambda state: state.update(more=torch.zeros(1)))))
    wrong = str(tiny(image=lambda state: state.update({key: torch.zeros(4, 4, 1, 1)})))
    assert f"'{key}' has shape (4, 4, 1, 1)" in message(wrong)
    assert "has no ResNet" in message(str(tiny(image=lambda state: state.clear() or state.update(a=torch.zeros(1)))))
    head = "cls_projection_head.dense_to_output.weight"
    assert f"has no '{head}'" in message(str(tiny(text=lambda state: state.pop(head))))
    assert "has 16 dimensions, pytorch_model.bin 12" in message(str(tiny(dimensions=12)))

    folder = tiny()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    assert "has 4 pieces, but the checkpoint has vectors for 22" in message(str(folder))
    folder = tiny()
    (folder / "config.json").write_text('{"hidden_size": 64}')
    assert "hidden_size is 64" in message(str(folder))

    folder = tiny()
    (folder / IMAGE_FILES["biovil_t"]).write_bytes(b"")
    assert "keep the one that the text files belong to" in message(str(folder))

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "weights=FOLDER" in message("microsoft/BiomedVLP-BioViL-T")


def test_image_files_are_read_without_a_text_tower(tiny: Callable[..., Path]) -> None:
    encoder = read_image_encoder(tiny(temporal=True) / IMAGE_FILES["biovil_t"])
    assert encoder.temporal
    assert encoder.dimensions == 16
