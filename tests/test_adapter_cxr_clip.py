"""CXR-CLIP: checkpoints as its authors publish them give what their formulas say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chest_files import HIDDEN, VOCABULARY, bert, prefixed, published_swin, resnet, swin, write_bert
from PIL import Image
from torch import nn
from torch.nn import functional

from wronglung.adapters.cxr_clip import load
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.protocol import LoadedImage

D = 12
SENTENCE = "There is no pneumothorax in the left lung"
PIECES = ["[CLS]", "there", "is", "no", "pneumo", "##thorax", "in", "the", "left", "lung", "[SEP]"]


class Projection(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(inputs, D)


class Settings:
    """Stands for what a configuration library puts into checkpoints."""


class Released(nn.Module):
    """The authors' model, less what it downloads."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.image_encoder, self.text_encoder = nn.Module(), nn.Module()
        if kind == "resnet":
            self.image_encoder.resnet = resnet()
        else:
            self.image_encoder.image_encoder = swin()
        self.text_encoder.text_encoder = bert(2)
        self.image_projection = Projection(512 if kind == "resnet" else 64)
        self.text_projection = Projection(HIDDEN)
        self.logit_scale = nn.Parameter(torch.tensor(2.7))

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        encoder: Any = self.image_encoder
        if self.kind == "resnet":
            return torch.as_tensor(self.image_projection.projection(encoder.resnet(pixels)))
        return torch.as_tensor(self.image_projection.projection(encoder.image_encoder(pixels).last_hidden_state[:, 0]))

    def text(self) -> torch.Tensor:
        encoder: Any = self.text_encoder
        ids = torch.tensor([[VOCABULARY.index(piece) for piece in PIECES]])
        return torch.as_tensor(self.text_projection.projection(encoder.text_encoder(ids).last_hidden_state[:, -1]))

    def published(self) -> dict[str, torch.Tensor]:
        state = dict(self.state_dict())
        state["text_encoder.text_encoder.embeddings.position_ids"] = torch.arange(300)[None]
        if self.kind == "swin":
            place, encoder = "image_encoder.image_encoder.", self.image_encoder.get_submodule("image_encoder")
            state = {key: tensor for key, tensor in state.items() if not key.startswith(place)}
            state |= prefixed(place, published_swin(encoder))
        return state


@pytest.fixture(scope="module", params=["resnet", "swin"])
def released(request: pytest.FixtureRequest) -> Released:
    torch.manual_seed(7)
    return Released(request.param).eval()


@pytest.fixture(scope="module")
def folder(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bert(tmp_path_factory.mktemp("cxr_clip"))
    torch.save({"model": released.published(), "config": Settings(), "epoch": 9}, folder / "model-best.tar")
    return folder


@pytest.fixture(scope="module")
def film() -> LoadedImage:
    return LoadedImage("film", Image.effect_noise((300, 260), 80))


def test_vectors_are_the_authors(released: Released, folder: Path, film: LoadedImage) -> None:
    model = load(str(folder), bert=str(folder))
    (image,), (sentence,) = model.encode_images([film]), model.encode_sentences([SENTENCE])
    with torch.no_grad():
        expected = released.image(model._network.pipeline(film.pixels)[0][None])[0]
        torch.testing.assert_close(image.tensors["global"], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(sentence.tensors["global"], released.text()[0], atol=1e-5, rtol=1e-4)


def test_pixels_are_the_authors(released: Released, folder: Path, film: LoadedImage) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if released.kind == "resnet" else ([0.5] * 3, [0.5] * 3)
    theirs = transforms.Compose(
        [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    pixels, _ = load(str(folder), bert=str(folder))._network.pipeline(film.pixels)
    torch.testing.assert_close(pixels, theirs(film.pixels.convert("RGB")))


@pytest.mark.parametrize("released", ["resnet"], indirect=True)
def test_positions_have_the_images_vector_as_their_mean(folder: Path, film: LoadedImage) -> None:
    (image,) = load(str(folder), bert=str(folder)).encode_images([film])
    torch.testing.assert_close(image.tensors["patches"].mean(dim=(0, 1)), image.tensors["global"], atol=1e-5, rtol=1e-4)


def test_gradcam_is_that_of_the_whole_network(released: Released, folder: Path, film: LoadedImage) -> None:
    model = load(str(folder), str(folder), "gradcam")
    alignment = model.align([film], [SENTENCE])
    encoder: Any = released.image_encoder
    kept: list[torch.Tensor] = []
    if released.kind == "resnet":
        hook = encoder.resnet.layer4.register_forward_hook(lambda _, __, output: kept.append(output))
    else:
        last = encoder.image_encoder.encoder.layers[-1].blocks[-1]
        hook = last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with hook:
        image = released.image(model._network.pipeline(film.pixels)[0][None])
    cosine = functional.cosine_similarity(image, released.text().detach())
    (gradient,) = torch.autograd.grad(cosine.sum(), kept[0])
    positions = (2, 3) if released.kind == "resnet" else 1
    channels = 1 if released.kind == "resnet" else 2
    expected = (gradient.mean(dim=positions, keepdim=True) * kept[0]).sum(dim=channels).relu().reshape(1, 7, 7)
    torch.testing.assert_close(alignment.saliency, expected.detach(), atol=1e-6, rtol=1e-3)


def test_a_swin_transformer_has_no_dense_vectors(released: Released, folder: Path) -> None:
    card = load(str(folder), bert=str(folder)).card
    if released.kind == "resnet":
        assert card.name == "cxr-clip-resnet + similarity"
        return
    assert card.name == "cxr-clip-swin + gradcam"
    with pytest.raises(WronglungError, match="unknown saliency method 'similarity'; it has gradcam"):
        load(str(folder), str(folder), "similarity")


def test_the_card_says_what_was_run(folder: Path) -> None:
    card = load(str(folder), bert=str(folder), trained_on="MIMIC-CXR").card
    assert card.pretraining_sources == ("MIMIC-CXR",)
    assert "shortest side to 224, bilinear" in card.preprocessing
    assert "[SEP]" in card.tokens


@pytest.mark.parametrize("released", ["swin"], indirect=True)
def test_keeps_the_protocol(folder: Path) -> None:
    failed = [check for check in check_adapter(load(str(folder), bert=str(folder))) if check.outcome == "failed"]
    assert failed == []


def test_smoke(folder: Path, covid_lungs: Path) -> None:
    assert evaluate(load(str(folder), bert=str(folder)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=4)


def test_what_can_be_wrong_is_said(released: Released, folder: Path, tmp_path: Path) -> None:
    def message(weights: Path, **options: Any) -> str:
        with pytest.raises(WronglungError) as caught:
            load(str(weights), **{"bert": str(folder), **options})
        return str(caught.value)

    def changed(edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
        state = released.published()
        edit(state)
        torch.save({"model": state}, tmp_path / "changed.tar")
        return tmp_path / "changed.tar"

    assert "model-best.tar; get an archive" in message(tmp_path)
    key = "image_projection.projection.weight"
    assert f"has no matrix '{key}'" in message(changed(lambda state: state.pop(key)))
    key = "text_encoder.text_encoder.encoder.layer.1.output.dense.bias"
    assert f"has no '{key}'" in message(changed(lambda state: state.pop(key)))
    assert f"'{key}' has shape (3,)" in message(changed(lambda state: state.update({key: torch.zeros(3)})))
    key = "image_projection.fc.weight"
    assert f"unknown '{key}'" in message(changed(lambda state: state.update({key: torch.zeros(1)})))
    assert "no BERT vocabulary" in message(folder, bert=str(_bad_vocabulary(tmp_path)))


def _bad_vocabulary(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("one\ntwo\n")
    return folder
