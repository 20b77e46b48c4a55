"""MGCA: checkpoints as its authors share them give the formulas of its training."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chest_files import HIDDEN, VOCABULARY, bert, prefixed, resnet, write_bert
from PIL import Image
from torch import nn
from torch.nn import functional

from wronglung.adapters.mgca.adapter import load
from wronglung.adapters.mgca.network import enlarged
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.evaluation import evaluate
from wronglung.benchmark.protocol import LoadedImage

D = 8
WIDTH = 64
SENTENCE = "There is no pneumothorax, 2. in the left lungs."
WORDS = ["there", "is", "no", "pneumothorax", "in", "the", "left", "lungs"]
PIECES = ["[CLS]", "there", "is", "no", "pneumo", "##thorax", "in", "the", "left", "lung", "##s", "[SEP]"]


def local_head(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, 24, 1), nn.BatchNorm1d(24), nn.ReLU(), nn.Conv1d(24, D, 1), nn.BatchNorm1d(D, affine=False)
    )


def global_head(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, D), nn.BatchNorm1d(D, affine=False)
    )


class Released(nn.Module):
    """The authors' model, less what it downloads."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        image, text = nn.Module(), nn.Module()
        if kind == "resnet":
            image.model = resnet()
        else:
            timm: Any = pytest.importorskip("timm.models.vision_transformer")
            image.model = timm.VisionTransformer(224, 32, embed_dim=WIDTH, depth=2, num_heads=1, num_classes=0)
        self.widths = (256, 512) if kind == "resnet" else (WIDTH, WIDTH)
        text.model = bert(2)
        for side, (local, whole) in ((image, self.widths), (text, (HIDDEN, HIDDEN))):
            side.local_embed, side.global_embed = nn.Module(), nn.Module()
            side.local_embed.head, side.global_embed.head = local_head(local), global_head(whole)
        self.img_encoder_q, self.text_encoder_q = image, text
        self.prototype_layer = nn.Linear(D, 5, bias=False)
        self.train()
        for side, (local, whole) in ((image, self.widths), (text, (HIDDEN, HIDDEN))):
            heads: Any = side
            heads.local_embed.head(torch.randn(16, local, 3))
            heads.global_embed.head(torch.randn(16, whole))
        self.eval()

    def image(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of patches [P, D], and the image's [D]."""
        side: Any = self.img_encoder_q
        if self.kind == "resnet":
            net = side.model
            x = net.maxpool(net.relu(net.bn1(net.conv1(enlarged(pixels)))))
            third = net.layer3(net.layer2(net.layer1(x)))
            patches, whole = third.flatten(2), net.layer4(third).mean(dim=(2, 3))
        else:
            tokens = side.model.forward_features(pixels)
            patches, whole = tokens[:, 1:].transpose(1, 2), tokens[:, 0]
        local = side.local_embed.head(patches)[0].T
        return functional.normalize(local, dim=-1), side.global_embed.head(whole)[0]

    def text(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of words, and the vector of :data:`SENTENCE`."""
        side: Any = self.text_encoder_q
        ids = torch.tensor([[VOCABULARY.index(piece) for piece in PIECES]])
        model = side.model
        embeddings = model.embeddings
        # No token types, and the position of each piece is 0.
        summed = embeddings.word_embeddings(ids) + embeddings.position_embeddings(torch.zeros_like(ids))
        state = embeddings.LayerNorm(summed)
        for layer in model.encoder.layer:
            out = layer(state)
            state = out[0] if isinstance(out, tuple) else out
        rows: list[torch.Tensor] = []
        for piece, row in zip(PIECES, state[0], strict=True):
            if piece.startswith("##"):
                rows[-1] = rows[-1] + row
            else:
                rows.append(row)
        words = side.local_embed.head(torch.stack(rows[1:-1])[:, :, None])[..., 0]
        assert len(words) == len(WORDS)
        return functional.normalize(words, dim=-1), side.global_embed.head(rows[0][None])[0]

    def published(self) -> dict[str, torch.Tensor]:
        state = dict(self.state_dict())
        text = "text_encoder_q.model."
        state = {key: tensor for key, tensor in state.items() if "pooler" not in key and "token_type" not in key}
        state[f"{text}embeddings.position_ids"] = torch.arange(300)[None]
        cross = {key: tensor for key, tensor in state.items() if key.startswith(f"{text}encoder.layer.0.attention.")}
        state |= {key.replace(".attention.", ".crossattention.", 1): tensor for key, tensor in cross.items()}
        state |= prefixed("patch_local_atten_layer.", dict(nn.MultiheadAttention(D, 1).state_dict()))
        return state


@pytest.fixture(scope="module", params=["resnet", "vit"])
def released(request: pytest.FixtureRequest) -> Released:
    torch.manual_seed(5)
    return Released(request.param).eval()


@pytest.fixture(scope="module")
def checkpoint(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Lightning writes it, with what it keeps beside the tensors."""
    folder = write_bert(tmp_path_factory.mktemp("mgca"))
    content = {"epoch": 3, "state_dict": released.published(), "hyper_parameters": argparse.Namespace(emb_dim=D)}
    torch.save(content, folder / "vit_base.ckpt")
    return folder / "vit_base.ckpt"


@pytest.fixture(scope="module")
def film() -> LoadedImage:
    return LoadedImage("film", Image.effect_noise((300, 260), 80))


def test_words_attend_as_in_training(released: Released, checkpoint: Path, film: LoadedImage) -> None:
    model = load(str(checkpoint), bert=str(checkpoint.parent))
    alignment = model.align([film], [SENTENCE])
    with torch.no_grad():
        patches, image = released.image(model._network.pipeline(film.pixels)[0][None])
        words, sentence = released.text()
        attention = torch.softmax(words @ patches.T / 0.1, dim=-1)
        context = functional.normalize(attention @ patches, dim=-1)
    assert alignment.local_similarity is not None
    assert alignment.global_similarity is not None
    torch.testing.assert_close(alignment.saliency[0].flatten(), attention.mean(dim=0), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(
        alignment.local_similarity[0], (words * context).sum(dim=-1).mean(), atol=1e-5, rtol=1e-4
    )
    cosine = functional.cosine_similarity(image, sentence, dim=0)
    torch.testing.assert_close(alignment.global_similarity[0], cosine, atol=1e-5, rtol=1e-4)
    assert alignment.saliency.shape[1:] == ((19, 19) if released.kind == "resnet" else (7, 7))


def test_the_sentence_may_be_asked_for_instead(released: Released, checkpoint: Path, film: LoadedImage) -> None:
    model = load(str(checkpoint), str(checkpoint.parent), "sentence")
    alignment = model.align([film], [SENTENCE])
    with torch.no_grad():
        patches, _ = released.image(model._network.pipeline(film.pixels)[0][None])
        cosines = patches @ functional.normalize(released.text()[1], dim=0)
    torch.testing.assert_close(alignment.saliency[0].flatten(), cosines, atol=1e-5, rtol=1e-4)
    assert model.card.signed
    assert model.card.temperature == 0.1


def test_the_card_says_what_was_run(checkpoint: Path) -> None:
    card = load(str(checkpoint.parent), bert=str(checkpoint.parent)).card
    assert card.name == "mgca + words"
    assert card.map_kind == "distribution"
    assert "without [CLS] and [SEP]" in card.tokens
    assert "local_similarity" not in card.settings
    assert card.settings["tau"] == 0.1
    assert "OpenCV" in card.preprocessing


def test_runs_in_bfloat16(checkpoint: Path, film: LoadedImage) -> None:
    whole, half = (load(str(checkpoint), str(checkpoint.parent), dtype=one) for one in (torch.float32, torch.bfloat16))
    expected, alignment = whole.align([film], [SENTENCE]).saliency, half.align([film], [SENTENCE]).saliency
    assert alignment.dtype == torch.float32
    assert (alignment - expected).abs().max() < 0.3 * expected.max()


def test_a_sentence_of_one_word_or_none_has_a_map(checkpoint: Path, film: LoadedImage) -> None:
    model = load(str(checkpoint), bert=str(checkpoint.parent))
    one, word, none = model.encode_sentences(["Clear.", "clear", "..."])
    assert torch.equal(one.tensors["words"], word.tensors["words"])
    assert one.tensors["words"].shape == none.tensors["words"].shape == (1, D)
    assert torch.isfinite(model.align([film], ["..."]).saliency).all()


def gradcam_of(released: Released, pixels: torch.Tensor) -> torch.Tensor:
    """By autograd through the authors' model, in one piece."""
    side: Any = released.img_encoder_q
    kept: list[torch.Tensor] = []
    vit = released.kind == "vit"
    hook = (
        side.model.blocks[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        if vit
        else side.model.layer4.register_forward_hook(lambda _, __, output: kept.append(output))
    )
    with hook:
        image = released.image(pixels)[1]
    cosine = functional.cosine_similarity(image, released.text()[1].detach(), dim=0)
    (gradient,) = torch.autograd.grad(cosine, kept[0])
    if vit:
        weights = gradient[:, 1:].mean(dim=1, keepdim=True)
        return (weights * kept[0][:, 1:]).sum(dim=2).relu().reshape(7, 7).detach()
    return (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu()[0].detach()


def test_gradcam_and_convirt(released: Released, checkpoint: Path, film: LoadedImage, tmp_path: Path) -> None:
    model = load(str(checkpoint), str(checkpoint.parent), "gradcam")
    alignment = model.align([film], [SENTENCE])
    expected = gradcam_of(released, model._network.pipeline(film.pixels)[0][None])
    torch.testing.assert_close(alignment.saliency[0], expected, atol=1e-6, rtol=1e-3)
    state = {key.replace("coder_q.", "coder."): tensor for key, tensor in released.published().items()}
    torch.save({"state_dict": state}, tmp_path / "convirt.ckpt")
    convirt = load(str(tmp_path / "convirt.ckpt"), bert=str(checkpoint.parent))
    assert convirt.card.name == "convirt + gradcam"
    assert torch.equal(convirt.align([film], [SENTENCE]).saliency, alignment.saliency)
    with pytest.raises(WronglungError, match="unknown saliency method 'words'; it has gradcam"):
        load(str(tmp_path / "convirt.ckpt"), str(checkpoint.parent), "words")


@pytest.mark.parametrize("released", ["vit"], indirect=True)
def test_keeps_the_protocol(checkpoint: Path) -> None:
    checks = check_adapter(load(str(checkpoint), bert=str(checkpoint.parent)))
    assert [check for check in checks if check.outcome == "failed"] == []


def test_smoke(released: Released, checkpoint: Path, covid_lungs: Path) -> None:
    model = load(str(checkpoint), bert=str(checkpoint.parent))
    assert evaluate(model, load_dataset("covid-lungs", covid_lungs), "smoke", limit=4)


def test_what_can_be_wrong_is_said(released: Released, checkpoint: Path, tmp_path: Path) -> None:
    def message(weights: Path, **options: Any) -> str:
        with pytest.raises(WronglungError) as caught:
            load(str(weights), **{"bert": str(checkpoint.parent), **options})
        return str(caught.value)

    def changed(edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
        state = released.published()
        edit(state)
        torch.save({"state_dict": state}, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    assert "unknown saliency method 'value'; it has words, sentence, gradcam" in message(checkpoint, method="value")
    assert "tau=-1" in message(checkpoint, tau=-1)
    assert "MGCA's README" in message(tmp_path)
    key = "text_encoder_q.local_embed.head.4.running_mean"
    assert f"has no '{key}'" in message(changed(lambda state: state.pop(key)))
    key = "img_encoder_q.global_embed.head.3.weight"
    assert f"'{key}'" in message(changed(lambda state: state.pop(key)))
    key = "text_encoder_q.model.embeddings.word_embeddings.weight"
    assert f"has no '{key}'" in message(changed(lambda state: state.pop(key)))
    assert "unknown 'more'" in message(changed(lambda state: state.update(more=torch.zeros(1))))
    key = (
        "img_encoder_q.model.conv1.weight"
        if released.kind == "resnet"
        else "img_encoder_q.model.patch_embed.proj.weight"
    )
    assert "img_encoder_q.model." in message(changed(lambda state: state.pop(key)))
