"""Shared fixtures."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.instances import Dataset

# Processes that a test starts ask no hub; this one could not, see `no_network`.
os.environ["HF_HUB_OFFLINE"] = "1"
# Small tensors on few cores: more threads only wait for each other.
torch.set_num_threads(1)

# A busy machine is no failure.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Nothing in the tests may reach further than this machine."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def is_here(host: Any) -> bool:
        if host in (None, "", "localhost", socket.gethostname()):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not is_here(address[0]):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    def resolve_here(host: Any, *arguments: Any, **named: Any) -> Any:
        if not is_here(host.decode() if isinstance(host, bytes) else host):
            raise AssertionError(f"a test reached for the network: {host}")
        return resolve(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket, "getaddrinfo", resolve_here)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data not found: {SHARED} does not exist")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Numbers computed with the original GLoRIA implementations."""
    return shared / "golden"


@pytest.fixture(scope="session")
def covid_lungs(shared: Path) -> Path:
    """The reduced copy of the covid-lungs dataset."""
    return shared / "data" / "covid-lungs"


@pytest.fixture(scope="session")
def golden_weights(golden: Path) -> dict[str, torch.Tensor]:
    """The made-up weights behind the golden numbers, by their names in a released checkpoint."""
    import numpy as np

    weights = {}
    for key, entry in json.loads((golden / "weights_recipe.json").read_text())["tensors"].items():
        if entry["dtype"] == "int64":
            weights[key] = torch.zeros(entry["shape"], dtype=torch.int64)
            continue
        draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(entry["shape"])
        values = entry["shift"] + entry["scale"] * draw
        weights[key] = torch.tensor(abs(values) if entry["abs"] else values, dtype=torch.float32)
    return weights


@pytest.fixture(scope="session")
def golden_checkpoint(golden_weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GLoRIA checkpoint as released, with the golden weights and without a no-attention vector.

    Its BERT's vocabulary and configuration are the folder ``golden / "bert"``.
    """
    path = tmp_path_factory.mktemp("golden") / "gloria.ckpt"
    state = {key: tensor for key, tensor in golden_weights.items() if key != "gloria.no_attn_vec"}
    state["gloria.text_encoder.model.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"epoch": 1, "state_dict": state, "hyper_parameters": {}, "optimizer_states": []}, path)
    return path


@pytest.fixture(scope="session")
def sketch_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated dataset in the neutral format: 12 patients, 36 instances."""
    return write_sketch(tmp_path_factory.mktemp("sketch"), patients=12)


@pytest.fixture
def sketch(sketch_file: Path) -> Dataset:
    """The generated dataset, read."""
    return load_dataset("jsonl", sketch_file)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the vocabulary and configuration of a BERT of 16 dimensions."""
    folder = tmp_path_factory.mktemp("bert")
    special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
    words = "left\nright\nlung\nbase\nopacity\nclear\nis\nthe\nin\nno\neffusion\npneumo\n##thorax\n##s\n"
    (folder / "vocab.txt").write_text(special + words)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 16, "num_attention_heads": 2}))
    return folder


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, torch.Tensor]:
    """Random weights of a GLoRIA with 16 dimensions for ``tiny_bert``, by their names in the network."""
    from transformers import BertConfig

    from wronglung.adapters.gloria.network import GloriaNetwork
    from wronglung.adapters.networks.resnet import ResNetShape

    torch.manual_seed(0)
    bert = BertConfig(vocab_size=19, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24)
    network = GloriaNetwork(ResNetShape((1, 1, 1, 1), bottleneck=False), 16, bert, no_attention=True)
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread: for small work on a shared machine, more would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
