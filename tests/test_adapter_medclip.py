"""MedCLIP: published files give what the authors' formulas say, and each position its share of the image's vector."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chest_files import HIDDEN, bert, prefixed, published_swin, resnet, swin, write_bert
from PIL import Image
from torch import nn
from torch.nn import functional

from wronglung.adapters.medclip import load
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.protocol import LoadedImage

DIMENSIONS = 12
SENTENCE = "There is no pneumothorax in the left lung"


class Released(nn.Module):
    """The authors' model, less what it downloads."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.vision_model, self.text_model = nn.Module(), nn.Module()
        if kind == "resnet":
            self.vision_model.model = resnet()
            self.vision_model.model.fc = nn.Linear(512, DIMENSIONS, bias=False)
        else:
            self.vision_model.model = swin()
            self.vision_model.projection_head = nn.Linear(64, DIMENSIONS, bias=False)
        self.text_model.model = bert()
        self.text_model.projection_head = nn.Linear(HIDDEN, DIMENSIONS, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.7))
        self.kind = kind

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        vision: Any = self.vision_model
        if self.kind == "resnet":
            return torch.as_tensor(vision.model(pixels))
        return torch.as_tensor(vision.projection_head(vision.model(pixels).pooler_output))

    def text(self, ids: torch.Tensor) -> torch.Tensor:
        text: Any = self.text_model
        states = text.model(input_ids=ids, output_hidden_states=True).hidden_states
        stacked = torch.stack([states[1], states[2], states[-1]])
        return torch.as_tensor(text.projection_head(stacked.permute(1, 0, 2, 3).mean(2).mean(1)))

    def published(self) -> dict[str, torch.Tensor]:
        state = self.state_dict()
        state["text_model.model.embeddings.position_ids"] = torch.arange(300)[None]
        if self.kind == "vit":
            vision: Any = self.vision_model
            state = {key: tensor for key, tensor in state.items() if not key.startswith("vision_model.model.")}
            state |= prefixed("vision_model.model.", published_swin(vision.model))
        return state


@pytest.fixture(scope="module", params=["resnet", "vit"])
def released(request: pytest.FixtureRequest) -> Released:
    torch.manual_seed(3)
    return Released(request.param).eval()


@pytest.fixture(scope="module")
def folder(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bert(tmp_path_factory.mktemp("medclip"))
    torch.save(released.published(), folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def film() -> LoadedImage:
    return LoadedImage("film", Image.effect_noise((300, 260), 80))


def test_vectors_are_the_authors(released: Released, folder: Path, film: LoadedImage) -> None:
    model = load(str(folder), bert=str(folder))
    pixels = model._network.pipeline(film.pixels)[0][None]
    (image,), (sentence,) = model.encode_images([film]), model.encode_sentences([SENTENCE])
    with torch.no_grad():
        ids = torch.tensor([model_ids(folder, SENTENCE)])
        torch.testing.assert_close(image.tensors["global"], released.image(pixels)[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(sentence.tensors["global"], released.text(ids)[0], atol=1e-5, rtol=1e-4)


def model_ids(folder: Path, sentence: str) -> list[int]:
    """By hand: lower-cased words, of which "pneumothorax" is two pieces."""
    rows = {piece: row for row, piece in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    pieces = sentence.lower().replace("pneumothorax", "pneumo ##thorax").split()
    return [rows[piece] for piece in ("[CLS]", *pieces, "[SEP]")]


def test_positions_have_the_images_vector_as_their_mean(folder: Path, film: LoadedImage) -> None:
    (image,) = load(str(folder), bert=str(folder)).encode_images([film])
    assert image.tensors["patches"].shape == (7, 7, DIMENSIONS)
    torch.testing.assert_close(image.tensors["patches"].mean(dim=(0, 1)), image.tensors["global"], atol=1e-5, rtol=1e-4)


def test_gradcam_of_a_linear_map_is_its_gradient(folder: Path, film: LoadedImage) -> None:
    """The cosine's gradient is the same at each position: GradCAM is the activations along it."""
    model = load(str(folder), str(folder), "gradcam")
    alignment = model.align([film], [SENTENCE])
    features = model.encode_images([film])[0].tensors["activations"][None].requires_grad_()
    projection = next(one for one in model._network.module.modules() if getattr(one, "out_features", 0) == DIMENSIONS)
    text = model.encode_sentences([SENTENCE])[0].tensors["global"]
    cosine = functional.cosine_similarity(projection(features.mean(dim=(2, 3))), text[None])
    (gradient,) = torch.autograd.grad(cosine.sum(), features)
    assert torch.allclose(gradient, gradient[..., :1, :1].expand_as(gradient))
    torch.testing.assert_close(alignment.saliency, (gradient * features).sum(dim=1).relu().detach())


def test_padding_takes_no_part(folder: Path) -> None:
    model = load(str(folder), bert=str(folder))
    alone, beside = model.encode_sentences(["clear"])[0], model.encode_sentences(["clear", SENTENCE])[0]
    assert torch.equal(alone.tensors["global"], beside.tensors["global"])
    long, longer = model.encode_sentences(["no opacity " * 60, "no opacity " * 90])
    assert torch.equal(long.tensors["global"], longer.tensors["global"])


@pytest.mark.parametrize("inside", ["pytorch_model.bin", "medclip-vit/pytorch_model.bin"])
def test_the_published_zip_file_is_read(inside: str, folder: Path, film: LoadedImage, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "medclip.zip", "w") as archive:
        archive.write(folder / "pytorch_model.bin", inside)
    packed, plain = (load(str(path), bert=str(folder)) for path in (tmp_path / "medclip.zip", folder))
    assert torch.equal(packed.align([film], [SENTENCE]).saliency, plain.align([film], [SENTENCE]).saliency)


def test_messages_about_a_zip_file_name_it_and_its_member(released: Released, folder: Path, tmp_path: Path) -> None:
    path, inside = tmp_path / "medclip.zip", "medclip-vit/pytorch_model.bin"

    def message(content: bytes, damage: Callable[[bytes], bytes] = lambda packed: packed) -> str:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(inside, content)
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(WronglungError) as caught:
            load(str(path), bert=str(folder))
        return str(caught.value)

    def scrambled(packed: bytes) -> bytes:
        return packed[:100] + b"\xff" * 100 + packed[200:]

    state = released.published()
    state.pop("text_model.projection_head.weight")
    torch.save(state, tmp_path / "lacking.bin")
    content = (tmp_path / "lacking.bin").read_bytes()
    assert message(content).startswith(f"checkpoint {path}, {inside}: has no matrix")
    bomb = bytes(10**6)
    assert message(bomb) == (
        f"checkpoint {path}: {inside} cannot be unpacked "
        "(it says it is more than 20 times as long as packed, which weights are not)"
    )
    assert message(content, scrambled).startswith(f"checkpoint {path}: {inside} cannot be unpacked (Error -3")
    assert "cannot be unpacked" in message(content, lambda packed: packed.replace(b"PK\x01\x02", b"PK\x01\x03"))


def test_runs_in_bfloat16(folder: Path, film: LoadedImage) -> None:
    whole, half = (load(str(folder), str(folder), dtype=one) for one in (torch.float32, torch.bfloat16))
    expected, alignment = whole.align([film], [SENTENCE]).saliency, half.align([film], [SENTENCE]).saliency
    assert alignment.dtype == torch.float32
    assert (alignment - expected).abs().max() < 0.05


def test_the_card_says_what_was_run(released: Released, folder: Path) -> None:
    card = load(str(folder / "pytorch_model.bin"), bert=str(folder)).card
    assert card.name == f"medclip-{released.kind} + similarity"
    assert card.pretraining_sources == ("MIMIC-CXR", "CheXpert")
    assert "0.5862785803043838" in card.preprocessing


@pytest.mark.parametrize("released", ["vit"], indirect=True)
def test_keeps_the_protocol(folder: Path) -> None:
    failed = [check for check in check_adapter(load(str(folder), bert=str(folder))) if check.outcome == "failed"]
    assert failed == []


def test_smoke(folder: Path, covid_lungs: Path) -> None:
    assert evaluate(load(str(folder), bert=str(folder)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=4)


def test_transformers_reads_the_published_names_of_a_swin_alike(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import SwinModel

    from wronglung.adapters.networks.swin import renamed, swin_model

    torch.manual_seed(4)
    original: Any = swin()
    published = published_swin(original)
    assert "encoder.layers.3.blocks.1.attention.self.query.weight" in published
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    original.config.save_pretrained(tmp_path)
    theirs = SwinModel.from_pretrained(tmp_path).state_dict()
    ours = swin_model(prefixed("a.", published), "a.", tmp_path)
    state = renamed(prefixed("a.", published), "a.", ours)
    assert {key.removeprefix("a.") for key in state if "index" not in key} == set(theirs)
    assert all(torch.equal(state[f"a.{key}"], tensor) for key, tensor in theirs.items())
    assert ours.config.num_heads == [1, 1, 2, 2]
    assert ours.config.depths == [1, 1, 1, 2]


def test_what_can_be_wrong_is_said(released: Released, folder: Path, tmp_path: Path) -> None:
    def message(weights: Path, **options: Any) -> str:
        with pytest.raises(WronglungError) as caught:
            load(str(weights), **{"bert": str(folder), **options})
        return str(caught.value)

    def changed(edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
        state = released.published()
        edit(state)
        torch.save(state, tmp_path / "changed.bin")
        return tmp_path / "changed.bin"

    assert "unknown saliency method 'value'" in message(folder, method="value")
    assert "get the zip file" in message(tmp_path)
    assert "no such file or folder" in message(tmp_path / "nothing")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    assert "other.zip" in message(tmp_path / "other.zip")
    key = "text_model.projection_head.weight"
    assert f"has no matrix '{key}'" in message(changed(lambda state: state.pop(key)))
    key = "text_model.model.encoder.layer.1.output.dense.bias"
    assert f"has no '{key}'" in message(changed(lambda state: state.pop(key)))
    assert f"'{key}' has shape (3,)" in message(changed(lambda state: state.update({key: torch.zeros(3)})))
    assert "unknown 'more'" in message(changed(lambda state: state.update(more=torch.zeros(1))))
    stem = "vision_model.model.conv1.weight" if released.kind == "resnet" else "vision_model.model.encoder.layers.0."
    assert "has no" in message(changed(lambda state: [state.pop(one) for one in list(state) if one.startswith(stem)]))
