"""GLoRIA's encoders against the original's outputs, and its ResNets against an independent implementation."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, ResNetConfig, ResNetModel

from wronglung.adapters.gloria.checkpoint import build_network
from wronglung.adapters.gloria.network import GloriaNetwork, ImageEncoder, sentence_vectors, word_weights
from wronglung.adapters.gloria.text import Captions, caption, find_bert
from wronglung.adapters.networks.resnet import ResNet, ResNetShape, fold_batch_norms

pytestmark = pytest.mark.usefixtures("one_thread")

Module = TypeVar("Module", bound=nn.Module)

RESNET_18 = ResNetShape((2, 2, 2, 2), bottleneck=False)
RESNET_34 = ResNetShape((3, 4, 6, 3), bottleneck=False)
RESNET_50 = ResNetShape((3, 4, 6, 3), bottleneck=True)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def network(golden: Path, golden_weights: dict[str, torch.Tensor]) -> GloriaNetwork:
    weights = {key.removeprefix("gloria."): tensor for key, tensor in golden_weights.items()}
    return build_network(weights, find_bert(str(golden / "bert")), golden / "weights_recipe.json")


@pytest.fixture(scope="module")
def pixels(golden: Path) -> torch.Tensor:
    return torch.tensor(np.load(golden / "preprocess.npz")["img_norm"])[:, None]


def close(ours: torch.Tensor, expected: np.ndarray[Any, Any], atol: float = 1e-4) -> None:
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=atol)


class TestImages:
    def test_embeddings_and_every_stage_equal_the_originals(
        self, golden: Path, network: GloriaNetwork, pixels: torch.Tensor
    ) -> None:
        expected = np.load(golden / "forward.npz")
        resnet = network.img_encoder.model
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            getattr(resnet, name).register_forward_hook(
                # cloned, as what follows works in place
                lambda _module, _inputs, output, name=name: seen.update({name: output.clone()})
            )
            for name in ("conv1", "layer1", "layer2", "layer3", "layer4")
        ]
        local, overall = network.img_encoder(pixels)
        for hook in hooks:
            hook.remove()
        close(local, expected["img_emb_l"], atol=2e-5)
        close(overall, expected["img_emb_g"])
        for name, activation in seen.items():
            channels, side = activation.shape[1:3]
            step = max(1, side // 8)
            close(activation[:, :: channels // 16, ::step, ::step], expected[f"probe_{name}"])
            close(activation.mean(dim=(1, 2, 3)), expected[f"probe_mean_{name}"])

    def test_folded_batch_norms_change_nothing_but_rounding(
        self, golden: Path, network: GloriaNetwork, pixels: torch.Tensor
    ) -> None:
        folded = copy.deepcopy(network.img_encoder)
        fold_batch_norms(folded.model)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        local, overall = folded(pixels)
        expected = np.load(golden / "forward.npz")
        close(local, expected["img_emb_l"], atol=2e-5)
        close(overall, expected["img_emb_g"])

    @pytest.mark.parametrize("shape", [RESNET_18, RESNET_50], ids=lambda shape: shape.name)
    def test_folding_is_exact_in_double_precision(self, shape: ResNetShape) -> None:
        torch.manual_seed(0)
        encoder = lively(ImageEncoder(shape, 5)).double().eval()
        image = torch.rand(1, 1, 224, 224, dtype=torch.float64)
        before = encoder(image)
        fold_batch_norms(encoder.model)
        for folded, unfolded in zip(encoder(image), before, strict=True):
            torch.testing.assert_close(folded, unfolded, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize(
        ("shape", "parameters", "name"),
        [
            (RESNET_18, 11_689_512 - 513_000, "ResNet-18"),  # the published counts, less the classifier
            (RESNET_34, 21_797_672 - 513_000, "ResNet-34"),
            (RESNET_50, 25_557_032 - 2_049_000, "ResNet-50"),
        ],
    )
    def test_sizes(self, shape: ResNetShape, parameters: int, name: str) -> None:
        assert sum(parameter.numel() for parameter in ResNet(shape).parameters()) == parameters
        assert shape.name == name

    @pytest.mark.parametrize("shape", [RESNET_18, RESNET_34, RESNET_50], ids=lambda shape: shape.name)
    def test_resnets_equal_an_independent_implementation(self, shape: ResNetShape) -> None:
        torch.manual_seed(0)
        ours = lively(ResNet(shape)).eval()
        reference = ResNetModel(
            ResNetConfig(
                layer_type="bottleneck" if shape.bottleneck else "basic",
                depths=list(shape.blocks),
                hidden_sizes=list(shape.stage_channels),
            )
        )
        reference.train(False)
        reference.load_state_dict(in_transformers_names(ours), strict=True)
        image = torch.rand(1, 3, 75, 75)
        states = reference(image, output_hidden_states=True).hidden_states
        for own, other in zip(ours(image), states[-2:], strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def lively(module: Module) -> Module:
    """Batch norms as after training: their initial values would hide a mistake."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.weight.uniform_(0.5, 1.0)
            part.bias.normal_(0, 0.1)
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module


def in_transformers_names(resnet: ResNet) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, tensor in resnet.state_dict().items():
        stage, _, rest = key.partition(".")
        if not stage.startswith("layer"):
            part = "convolution" if stage == "conv1" else "normalization"
            renamed[f"embedder.embedder.{part}.{rest}"] = tensor
            continue
        block, part, rest = rest.split(".", 2)
        if part == "downsample":
            index, rest = rest.split(".", 1)
            place = f"shortcut.{'convolution' if index == '0' else 'normalization'}"
        else:
            place = f"layer.{int(part[-1]) - 1}.{'convolution' if part.startswith('conv') else 'normalization'}"
        renamed[f"encoder.stages.{int(stage[-1]) - 1}.layers.{block}.{place}.{rest}"] = tensor
    return renamed


class TestSentences:
    def test_pieces_words_and_sentences_equal_the_originals(self, golden: Path, network: GloriaNetwork) -> None:
        expected, inputs = np.load(golden / "forward.npz"), np.load(golden / "preprocess.npz")
        ids, mask = (torch.tensor(inputs[name].astype(np.int64)) for name in ("caption_ids", "attention_mask"))
        pieces = network.text_encoder(ids, mask)
        close(pieces, expected["token_sum4"])
        chosen = expected["hidden_states_sel_sentences"].astype(np.int64)
        states = network.text_encoder.model(ids[chosen], mask[chosen], output_hidden_states=True).hidden_states
        close(torch.stack(states), expected["hidden_states_sel"])

        sentences = [one["text"] for one in json.loads((golden / "inputs.json").read_text())["sentences"]]
        captions = Captions.read(golden / "bert" / "vocab.txt")(sentences)
        words = word_weights(captions, average=False) @ pieces
        slots = expected["text_emb_l"].transpose(0, 2, 1)
        close(words, slots[:, : words.shape[1]])
        assert not slots[:, words.shape[1] :].any()
        close(sentence_vectors(words), expected["text_emb_g"])

    def test_a_true_mask_token(self, golden: Path, network: GloriaNetwork) -> None:
        expected = np.load(golden / "attention.npz")
        ids = expected["mask_case_ids"].astype(np.int64)
        ids = torch.tensor(ids[ids > 0])[None]
        vocabulary = (golden / "bert" / "vocab.txt").read_text().splitlines()
        made = caption([vocabulary[one] for one in ids[0]], ids[0].tolist(), 0)
        words = word_weights([made], average=False) @ network.text_encoder(ids, torch.ones_like(ids))
        close(words[0].T, expected["mask_case_text_emb_l"][:, : made.n_words])
        close(sentence_vectors(words)[0], expected["mask_case_text_emb_g"])
        case = json.loads((golden / "losses.json").read_text())["mask_case"]
        assert made.counts.loss_slots == case["cap_len_local_loss"]

    def test_words_are_sums_or_means_of_their_pieces(self) -> None:
        made = caption(["[CLS]", "a", "##b", "c", "##d", "##e", "[SEP]"], range(7), 0)
        shorter = caption(["[CLS]", "a", "[SEP]"], range(3), 0)
        sums, means = (word_weights([made, shorter], average) for average in (False, True))
        pieces = torch.tensor([1.0, 2, 4, 3, 6, 9, 5])
        assert (sums[0] @ pieces).tolist() == [1, 6, 18, 5]
        torch.testing.assert_close(means[0] @ pieces, torch.tensor([1.0, 3, 6, 5]))
        assert (sums[1] @ pieces).tolist() == (means[1] @ pieces).tolist() == [1, 2, 4, 0]

    def test_padding_does_not_change_a_sentence(self) -> None:
        torch.manual_seed(0)
        config = BertConfig(vocab_size=30, hidden_size=64, num_hidden_layers=5, num_attention_heads=4)
        encoder = GloriaNetwork(ResNetShape((1, 1, 1, 1), False), 64, config, False).text_encoder.eval()
        ids = torch.randint(5, 30, (1, 9))
        padded = torch.cat([ids, torch.zeros(1, 88, dtype=torch.int64)], dim=1)
        torch.testing.assert_close(
            encoder(padded, (padded > 0).long())[:, :9], encoder(ids, torch.ones_like(ids)), rtol=1e-5, atol=1e-5
        )
