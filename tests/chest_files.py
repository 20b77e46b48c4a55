"""Small text and image towers, as the authors of chest encoders publish them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

WORDS = "left right lung lower upper zone is the in no opacity effusion there cardiac silhouette normal clear"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), "##s", "pneumo", "##thorax"]
HIDDEN = 32


def write_bert(folder: Path) -> Path:
    """The folder, with the vocabulary and configuration of :func:`bert`."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "config.json").write_text(json.dumps({"hidden_size": HIDDEN, "num_attention_heads": 1}))
    return folder


def bert(layers: int = 3) -> nn.Module:
    """A random BERT, its pooler included."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=HIDDEN, num_hidden_layers=layers, num_attention_heads=1,
        intermediate_size=48, max_position_embeddings=300,
    )  # fmt: skip
    model: nn.Module = BertModel(config)
    return model.train(False)


def swin() -> nn.Module:
    """A random Swin transformer for 224 pixels, of four stages."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(embed_dim=8, depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 2], window_size=7, mlp_ratio=2.0)
    model: nn.Module = SwinModel(config)
    return model.train(False)


def published_swin(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a Swin transformer under the names of published files."""
    state = {}
    for key, tensor in model.state_dict().items():
        for own, published in (
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
            ("attention.q_proj", "attention.self.query"),
            ("attention.k_proj", "attention.self.key"),
            ("attention.v_proj", "attention.self.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("attention.relative_position_bias.", "attention.self."),
        ):
            key = key.replace(own, published)
        state[key] = tensor
        if key.endswith("bias_table"):
            state[key.replace("bias_table", "index")] = torch.zeros(49, 49, dtype=torch.int64)
    return state


def resnet() -> nn.Module:
    """torchvision's ResNet of one block a stage, with statistics of some noise and without a classifier."""
    torchvision = pytest.importorskip("torchvision.models.resnet")
    model: nn.Module = torchvision.ResNet(torchvision.BasicBlock, [1, 1, 1, 1])
    model.fc = nn.Identity()
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))
    return model.eval()


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}
