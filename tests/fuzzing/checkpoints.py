"""Checkpoints in every format, and the files beside them, through each door that reads one."""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from wronglung.adapters.files.state_dicts import read_state_dict
from wronglung.adapters.files.transformers_format import build, find, read_pipeline, read_tokenizer
from wronglung.adapters.gloria.adapter import load as load_gloria
from wronglung.adapters.gloria.design import Design, write_checkpoint
from wronglung.adapters.gloria.training import folder as training_folder
from wronglung.adapters.gloria.training.config import load_config
from wronglung.adapters.gloria.training.distributed import Processes
from wronglung.adapters.gloria.training.run import restore
from wronglung.adapters.gloria.training.trainer import Trainer
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError

from .command_line import run
from .guard import ContractError
from .target import Input, Target

VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nleft\nright\nlung\nopacity\nis\nthe\nin\nno\n##s\n"


def tiny() -> dict[str, torch.Tensor]:
    """The weights of a GLoRIA of 8 dimensions, by their names in the network."""
    from transformers import BertConfig

    from wronglung.adapters.gloria.network import GloriaNetwork
    from wronglung.adapters.networks.resnet import ResNetShape

    torch.manual_seed(0)
    size = VOCABULARY.count(b"\n")
    bert = BertConfig(
        vocab_size=size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=97,
    )
    network = GloriaNetwork(ResNetShape((1, 1, 1, 1), False, 4, "small"), 8, bert, True, 64)
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def write_gloria(folder: Path) -> Path:
    weights = tiny()
    design = Design(longer_side=64, crop=64, inner=64, stem="small", heads=2, trained_on=("phantom",))
    write_checkpoint(folder / "own.safetensors", weights, design, VOCABULARY)
    return folder


def write_torch(folder: Path) -> Path:
    """The same tensors as torch writes them today, as Lightning does, and as torch did until 1.5."""
    weights = {f"gloria.{key}": tensor for key, tensor in list(tiny().items())[:6]}
    torch.save(
        {"state_dict": weights, "hyper_parameters": argparse.Namespace(a=1), "epoch": 3}, folder / "lightning.ckpt"
    )
    torch.save(weights, folder / "plain.pt")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "tensors.safetensors")
    return folder


def _gloria(given: Input) -> None:
    load_gloria(given.root / "own.safetensors")


def _every_file(given: Input) -> None:
    refused = None
    for file in sorted(given.root.iterdir()):
        try:
            for tensor in read_state_dict(file).values():
                if tensor.is_floating_point():
                    tensor.float().sum().item()
        except WronglungError as error:
            refused = error
    if refused is not None:
        raise refused


def _convert(given: Input) -> None:
    """Neither file is left where one cannot be written."""
    files = sorted(given.root.iterdir())
    read, refused = 0, None
    for at, file in enumerate(files):
        out = given.out / f"{at}.safetensors"
        try:
            run("convert-checkpoint", file, out)
        except WronglungError as error:
            refused = error
            if out.exists() or out.with_suffix(".json").exists():
                raise ContractError("refused, and left half of a conversion") from error
            continue
        read += 1
        load_file(out)
        json.loads(out.with_suffix(".json").read_text())
    if refused is not None:
        for file in given.out.iterdir():
            file.unlink()
        raise refused


@cache
def _training() -> tuple[Trainer, dict[str, Any]]:
    """A small training, and what its state says it is of."""
    config = load_config("retrained", changes=["epochs=1", "batch_size=4", "image.width=4", "validation_instances=0"])
    with tempfile.TemporaryDirectory() as name:
        films = load_dataset("jsonl", write_sketch(Path(name), patients=8))
        trainer = Trainer(config, films, films, Processes(0, 1, torch.device("cpu")))
    return trainer, {"config": config.model_dump(mode="json"), "processes": 1}


def write_state(folder: Path) -> Path:
    """The state after an epoch."""
    trainer, identity = _training()
    list(trainer.epochs())
    training_folder.write_state(folder, {**trainer.dump(), "identity": identity})
    return folder


def _state(given: Input) -> None:
    restore(_training()[0], given.root, _training()[1])


def write_transformers(folder: Path) -> Path:
    """A CLIP of two layers as the transformers library publishes it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    layers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**layers, "vocab_size": 10, "max_position_embeddings": 8, "projection_dim": 8},
        vision_config={**layers, "image_size": 32, "patch_size": 16, "projection_dim": 8},
        projection_dim=8,
    )
    config.save_pretrained(folder)
    save_file(
        {key: one.contiguous() for key, one in CLIPModel(config).state_dict().items()}, folder / "model.safetensors"
    )
    words = {word: at for at, word in enumerate(["<unk>", "<start>", "<end>", "left", "right"])}
    Tokenizer(WordLevel(words, "<unk>")).save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3,
                "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 255,
                "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": True,
            }
        )
    )  # fmt: skip
    return folder


def _transformers(given: Input) -> None:
    from transformers import CLIPModel

    published = find(str(given.root), "clip", ["tokenizer.json"])
    model: Any = build(published, CLIPModel)
    read_tokenizer(published, model.config.text_config.vocab_size)
    read_pipeline(published, "CLIPImageProcessor", model.config.vision_config)


TARGETS = [
    Target("gloria-checkpoint", write_gloria, _gloria),
    Target("torch-checkpoints", write_torch, _every_file),
    Target("convert-checkpoint", write_torch, _convert),
    Target("training-state", write_state, _state),
    Target("transformers-folder", write_transformers, _transformers),
]
