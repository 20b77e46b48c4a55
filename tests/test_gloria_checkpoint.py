"""Reading GLoRIA checkpoints: every format, nothing executed, and one clear message for what does not fit."""

from __future__ import annotations

import argparse
import builtins
import enum
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from wronglung.adapters.files.inert_pickle import Inert, InertFile, StoredTensor
from wronglung.adapters.files.state_dicts import file_digest, read_state_dict
from wronglung.adapters.gloria.checkpoint import architecture, build_network, read_weights
from wronglung.adapters.gloria.text import find_bert
from wronglung.benchmark.errors import WronglungError

Weights = dict[str, torch.Tensor]
Write = Callable[[Weights, Path], None]


def released(weights: Weights, path: Path) -> None:
    named = OrderedDict((f"gloria.{key}", tensor) for key, tensor in weights.items())
    named["gloria.text_encoder.model.embeddings.position_ids"] = torch.arange(512)[None]
    named["gloria.text_encoder.model.pooler.dense.weight"] = torch.zeros(16, 16)
    torch.save({"epoch": 3, "state_dict": named, "hyper_parameters": {"temp1": 4.0}}, path)


FORMATS: dict[str, Write] = {
    "released": released,
    "wrapped twice": lambda weights, path: torch.save(
        {"state_dict": {f"model.gloria.{key}": tensor for key, tensor in weights.items()}}, path
    ),
    "state dict": torch.save,
    "old torch": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "safetensors": safetensors.torch.save_file,
    "half precision": lambda weights, path: torch.save(
        {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}, path
    ),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_network(write: Write, tiny_weights: Weights, tiny_bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(tiny_weights, path)
    network = build_network(read_weights(path), find_bert(str(tiny_bert)), path)
    half = write is FORMATS["half precision"]
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, tiny_weights[key], rtol=1e-3 if half else 0, atol=1e-3 if half else 0)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_architecture_is_read_from_the_tensors(tiny_weights: Weights) -> None:
    shape = architecture(tiny_weights, Path("x"))
    assert (shape.blocks, shape.bottleneck, shape.width) == ((1, 1, 1, 1), False, 64)
    assert shape.dimensions == 16
    assert shape.no_attention
    assert not architecture({k: v for k, v in tiny_weights.items() if k != "no_attn_vec"}, Path("x")).no_attention


@pytest.mark.parametrize("beside", [{}, {"object": argparse.Namespace(a=1)}], ids=["plain", "foreign objects"])
def test_the_first_container_that_holds_a_mapping_is_taken(beside: dict[str, Any], tmp_path: Path) -> None:
    content = {"state_dict": None, "model_state_dict": "none", "model": {"a": torch.ones(1)}}
    torch.save({**content, **beside}, tmp_path / "file")
    assert read_state_dict(tmp_path / "file") == {"a": torch.ones(1)}
    weights = {"model": torch.ones(1), "head": torch.zeros(1)}
    torch.save(weights, tmp_path / "file")
    assert read_state_dict(tmp_path / "file") == weights


def test_the_digest_is_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestUntrustedFiles:
    """Objects of other classes are in released files, too; none of them is ever made."""

    @pytest.fixture
    def marker(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "executed"
        yield path
        assert not path.exists(), "the file's code was run"

    @pytest.fixture
    def foreign_objects(self) -> Iterator[dict[str, Any]]:
        """What a pickle may hold of classes that cannot be imported when it is read."""
        module = types.ModuleType("gone_configuration")

        def define(name: str, bases: tuple[type, ...], body: dict[str, Any] | None = None) -> Any:
            made = types.new_class(name, bases, exec_body=lambda namespace: namespace.update(body or {}))
            made.__module__ = module.__name__
            setattr(module, name, made)
            return made

        plain = define("Config", ())()
        plain.temp1 = plain.itself = plain
        mapping = define("DictConfig", (dict,))(a=1)
        mapping.flags = {"readonly": True}
        Level = enum.Enum("Level", {"LOW": 1}, module=module.__name__)  # noqa: N806
        vars(module)["Level"] = Level
        slotted = define("Slotted", (), {"__slots__": ("value",)})()
        slotted.value = 3
        sys.modules[module.__name__] = module
        yield {
            "plain": plain,
            "mapping": mapping,
            "sequence": define("ListConfig", (list,))([1, plain]),
            "group": define("Group", (set,))({1}),
            "level": Level.__members__["LOW"],
            "slotted": slotted,
            "class": type(plain),
            "namespace": argparse.Namespace(a=1),
            "path": Path("x"),
            "numpy": np.float64(1.5),
            "array": np.arange(3),
            "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0),
            "module": torch.nn.Linear(2, 2),
            "dtype": torch.float32,
        }
        sys.modules.pop(module.__name__, None)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_weights_beside_objects_of_unknown_classes(
        self, foreign_objects: dict[str, Any], tiny_weights: Weights, tmp_path: Path, protocol: int
    ) -> None:
        path = tmp_path / "lightning.ckpt"
        torch.save(
            {"hyper_parameters": foreign_objects, "state_dict": tiny_weights, "callbacks": {Path: foreign_objects}},
            path,
            pickle_protocol=protocol,
        )
        del sys.modules["gone_configuration"]
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
        weights = read_weights(path)
        assert weights.keys() == tiny_weights.keys()
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, tiny_weights[key], rtol=0, atol=0)

    class Calls:
        """Pickles as a call."""

        def __init__(self, function: Any, *arguments: Any) -> None:
            self.call = function, arguments

        def __reduce__(self) -> Any:
            return self.call

    def attacks(self, marker: Path) -> list[Any]:
        code = f"open({str(marker)!r}, 'w')"
        return [
            self.Calls(os.system, f"touch {marker}"),
            self.Calls(builtins.exec, code),
            self.Calls(builtins.eval, code),
            self.Calls(os.mkdir, str(marker)),
        ]

    def test_the_attacks_of_these_tests_work_on_pickle(self, marker: Path) -> None:
        for attack in self.attacks(marker):
            pickle.loads(pickle.dumps(attack))
            assert marker.exists()
            marker.rmdir() if marker.is_dir() else marker.unlink()

    def test_a_hostile_file_gives_its_weights_and_runs_nothing(
        self, marker: Path, tiny_weights: Weights, tmp_path: Path
    ) -> None:
        path = tmp_path / "hostile.ckpt"
        torch.save({"state_dict": tiny_weights, "hyper_parameters": self.attacks(marker)}, path)
        assert read_weights(path).keys() == tiny_weights.keys()

    def test_a_hostile_object_in_the_place_of_a_weight_is_refused(
        self, marker: Path, tiny_weights: Weights, tmp_path: Path
    ) -> None:
        for attack in self.attacks(marker):
            path = tmp_path / "hostile.ckpt"
            torch.save({"state_dict": {**tiny_weights, "no_attn_vec": attack}}, path)
            with pytest.raises(
                WronglungError, match=r"hostile\.ckpt: 'no_attn_vec' is an object of an unknown class, not a tensor"
            ):
                read_weights(path)

    def test_a_hostile_file_that_is_all_attack_is_refused(self, marker: Path, tmp_path: Path) -> None:
        for attack in self.attacks(marker):
            path = tmp_path / "hostile.ckpt"
            torch.save(attack, path)
            with pytest.raises(WronglungError, match="holds no state dict"):
                read_weights(path)
            path.write_bytes(pickle.dumps(attack, protocol=2))
            with pytest.raises(WronglungError, match="is not unpickled"):
                read_weights(path)


def pack(path: Path) -> None:
    """Write a zip file anew with its records compressed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


class TestInertFile:
    def test_tensors_of_all_kinds_are_read_as_torch_reads_them(self, tmp_path: Path) -> None:
        base = torch.arange(24.0).reshape(4, 6)
        tensors = {
            "view": base[1:3, ::2],
            "transposed": base.T,
            "shared": base,
            "scalar": torch.tensor(3.5),
            "empty": torch.empty(0, 3),
            "parameter": torch.nn.Parameter(base[:2].clone()),
            "bfloat16": base.bfloat16(),
            "half": base.half(),
            "double": base.double(),
            "int64": torch.arange(3),
            "int32": torch.arange(3, dtype=torch.int32),
            "uint8": torch.arange(3, dtype=torch.uint8),
            "bool": torch.tensor([True, False]),
            "uint16": torch.arange(6).to(torch.uint16)[1::2],
            "float8": base.to(torch.float8_e5m2)[1],
        }
        torch.save(tensors, tmp_path / "file")
        file = InertFile(tmp_path / "file")
        for key, tensor in tensors.items():
            read = file.load_tensor(file.content[key])
            assert read.dtype == tensor.dtype
            assert read.is_contiguous()
            assert torch.equal(read.double(), tensor.double())
        file.close()

    def test_unknown_objects_stay_inert_whatever_is_done_to_them(self, tmp_path: Path) -> None:
        torch.save({"object": argparse.Namespace(a=1)}, tmp_path / "file")
        thing = InertFile(tmp_path / "file").content["object"]
        assert isinstance(thing, Inert)
        assert thing.origin == "argparse.Namespace"
        assert isinstance(thing(1, b=2), Inert)
        assert vars(thing) == {}

    def rewrite(self, path: Path, record: str, content: bytes) -> None:
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in records.items():
                archive.writestr(name, content if name.endswith(record) else data)

    def test_a_record_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        torch.save({"a": torch.arange(5.0)}, path)
        self.rewrite(path, "/data/0", b"\0" * 16)
        file = InertFile(path)
        with pytest.raises(ValueError, match="holds 4 numbers, not 5"):
            file.load_tensor(file.content["a"])

    def test_a_tensor_that_reaches_beyond_its_record_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        torch.save({"a": torch.arange(5.0)}, path)
        file = InertFile(path)
        stored = file.content["a"]
        with pytest.raises(ValueError, match="out of bounds"):
            file.load_tensor(StoredTensor(stored.storage, 2, (5,), (1,)))

    def test_numbers_that_are_repeated_are_refused(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "file")
        file = InertFile(tmp_path / "file")
        with pytest.raises(ValueError, match="repeats the 1 numbers of its record"):
            file.load_tensor(file.content["a"])

    def test_a_compressed_record_is_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        torch.save({"a": torch.zeros(5)}, path)
        pack(path)
        file = InertFile(path)
        with pytest.raises(ValueError, match="record 0 is compressed"):
            file.load_tensor(file.content["a"])

    @pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x02}q\x00(X\xff", b"garbage"])
    def test_a_damaged_pickle_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file"
        torch.save({"a": torch.zeros(1)}, path)
        self.rewrite(path, "/data.pkl", content)
        with pytest.raises(ValueError, match=r".+"):
            InertFile(path).content["a"]

    def test_big_endian_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        torch.save({"a": torch.zeros(1)}, path)
        self.rewrite(path, "/byteorder", b"big")
        with pytest.raises(ValueError, match="big-endian"):
            InertFile(path)


class TestMessages:
    """Each names the file, the key and what to do."""

    @pytest.fixture
    def refusal(self, tiny_bert: Path, tmp_path: Path) -> Callable[[Any], str]:
        def of(content: Any) -> str:
            path = tmp_path / "model.ckpt"
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                torch.save(content, path)
            with pytest.raises(WronglungError) as caught:
                build_network(read_weights(path), find_bert(str(tiny_bert)), path)
            message = str(caught.value)
            assert message.startswith(f"checkpoint {path}: ")
            assert "\n" not in message
            return message

        return of

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match=r"nowhere\.ckpt: no such file; give .* checkpoint=PATH"):
            read_weights(tmp_path / "nowhere.ckpt")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"<html>", bytes(100)])
    def test_another_format(self, refusal: Callable[[Any], str], content: bytes) -> None:
        assert "is neither a torch file nor safetensors" in refusal(content)

    @pytest.mark.parametrize("name", ["released", "safetensors"])
    @pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
    def test_a_truncated_file(
        self, refusal: Callable[[Any], str], tiny_weights: Weights, tmp_path: Path, name: str, part: float
    ) -> None:
        FORMATS[name](tiny_weights, tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
        assert "damaged or truncated" in refusal(whole[: int(len(whole) * part)])

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match="is a folder; give the file in it"):
            read_state_dict(tmp_path)

    def test_a_compressed_archive(self, refusal: Callable[[Any], str], tmp_path: Path) -> None:
        torch.save({"a": torch.rand(300)}, tmp_path / "packed")
        pack(tmp_path / "packed")
        assert "data.pkl in it is compressed" in refusal((tmp_path / "packed").read_bytes())

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
    def test_an_old_file_gets_no_advice_to_unpickle_it(self, refusal: Callable[[Any], str]) -> None:
        assert "weights_only" not in refusal(pickle.dumps(argparse.Namespace(a=1)))

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("beside", [{}, {"object": argparse.Namespace(a=1)}], ids=["plain", "foreign objects"])
    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda: torch.zeros(2, dtype=torch.complex64), "'b' is a tensor of a kind that is not read: sparse"),
            (lambda: torch.eye(3).to_sparse(), "'b' is a tensor of a kind that is not read"),
            (
                lambda: torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.quint8),
                "'b' is a tensor of a kind that is",
            ),
            (lambda: torch.zeros(2, device="meta"), "'b' is a tensor of a kind that is not read"),
            (lambda: torch.zeros(1).expand(10**6, 10**6), "'b'"),
        ],
        ids=["complex", "sparse", "quantised", "meta", "repeated"],
    )
    def test_a_tensor_that_is_not_plain(
        self, refusal: Callable[[Any], str], make: Callable[[], torch.Tensor], problem: str, beside: dict[str, Any]
    ) -> None:
        assert problem in refusal({"state_dict": {"a": torch.zeros(1), "b": make()}, **beside})

    @pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x80\x04"])
    def test_a_safetensors_file_may_begin_as_others_do(self, start: bytes, tmp_path: Path) -> None:
        """It begins with the length of its header."""
        length = int.from_bytes(start, "little")
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path = tmp_path / "a.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + np.float32(2).tobytes())
        assert read_state_dict(path) == {"a": torch.tensor([2.0])}

    def test_a_tensor_of_safetensors_that_is_not_plain(self, refusal: Callable[[Any], str]) -> None:
        content = safetensors.torch.save({"b": torch.zeros(2, dtype=torch.complex64)})
        assert "'b' is a tensor of a kind that is not read" in refusal(content)

    def test_a_truncated_old_file(self, refusal: Callable[[Any], str], tiny_weights: Weights, tmp_path: Path) -> None:
        FORMATS["old torch"](tiny_weights, tmp_path / "whole")
        assert "is damaged" in refusal((tmp_path / "whole").read_bytes()[:1000])

    @pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, torch.zeros(2)])
    def test_no_state_dict(self, refusal: Callable[[Any], str], content: Any) -> None:
        assert "holds no state dict" in refusal(content)

    def test_something_else_than_tensors(self, refusal: Callable[[Any], str]) -> None:
        assert "'epoch' is int, not a tensor" in refusal({"epoch": 3, "weights": torch.zeros(1)})
        assert "'state_dict' is int, not a tensor" in refusal({"state_dict": 3})

    def test_another_model(self, refusal: Callable[[Any], str]) -> None:
        assert "has no 'img_encoder.global_embedder.weight'; is it a GLoRIA" in refusal({"a": torch.zeros(1)})

    def test_a_missing_key(self, refusal: Callable[[Any], str], tiny_weights: Weights) -> None:
        weights = dict(tiny_weights)
        del weights["img_encoder.model.layer3.0.bn1.running_var"]
        del weights["img_encoder.local_embedder.weight"]
        message = refusal(weights)
        assert "has no 'img_encoder.local_embedder.weight' (and 1 more) for a GLoRIA with a ResNet-10" in message

    def test_an_unknown_key(self, refusal: Callable[[Any], str], tiny_weights: Weights) -> None:
        message = refusal({**tiny_weights, "img_encoder.model.fc.weight": torch.zeros(3)})
        assert "has an unknown 'img_encoder.model.fc.weight' for a GLoRIA" in message

    def test_a_missing_and_an_unknown_key(self, refusal: Callable[[Any], str], tiny_weights: Weights) -> None:
        weights = {**tiny_weights, "one": torch.zeros(1), "two": torch.zeros(1)}
        del weights["img_encoder.local_embedder.weight"]
        message = refusal(weights)
        assert (
            "has no 'img_encoder.local_embedder.weight' and has an unknown 'one' (and 1 more) for a GLoRIA" in message
        )

    def test_two_keys_for_one(self, refusal: Callable[[Any], str], tiny_weights: Weights) -> None:
        message = refusal({**tiny_weights, "gloria.no_attn_vec": torch.zeros(16)})
        assert "'gloria.no_attn_vec' and another key both stand for 'no_attn_vec'" in message

    @pytest.mark.parametrize(
        ("key", "shape", "part"),
        [
            (
                "img_encoder.local_embedder.weight",
                (16, 255, 1, 1),
                "has shape (16, 255, 1, 1), a GLoRIA with a ResNet-10 and BERT",
            ),
            ("no_attn_vec", (8,), "has shape (8,)"),
            ("img_encoder.global_embedder.weight", (), "has shape ()"),
            ("img_encoder.global_embedder.weight", (8, 512), "16 dimensions, 'img_encoder.global_embedder.weight' 8"),
            ("text_encoder.model.embeddings.position_embeddings.weight", (64, 16), "64 positions; captions need 97"),
        ],
    )
    def test_a_tensor_of_another_shape(
        self, refusal: Callable[[Any], str], tiny_weights: Weights, key: str, shape: tuple[int, ...], part: str
    ) -> None:
        message = refusal({**tiny_weights, key: torch.zeros(shape)})
        assert repr(key) in message
        assert part in message


class TestBertConfiguration:
    @pytest.fixture
    def build(self, tiny_weights: Weights, tiny_bert: Path, tmp_path: Path) -> Callable[[str | None], Any]:
        def with_config(config: str | None) -> Any:
            (tmp_path / "vocab.txt").write_bytes((tiny_bert / "vocab.txt").read_bytes())
            if config is not None:
                (tmp_path / "config.json").write_text(config)
            return build_network(tiny_weights, find_bert(str(tmp_path)), Path("model.ckpt")).text_encoder.model.config

        return with_config

    def test_heads_come_from_the_file_and_sizes_from_the_checkpoint(self, build: Callable[[str | None], Any]) -> None:
        config = build('{"num_attention_heads": 4, "hidden_act": "relu", "layer_norm_eps": 1e-6, "model_type": "x"}')
        assert (config.num_attention_heads, config.hidden_act, config.layer_norm_eps) == (4, "relu", 1e-6)
        assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (16, 4, 19)

    def test_without_a_file_there_is_a_head_per_64_dimensions(self, build: Callable[[str | None], Any]) -> None:
        config = build(None)
        assert (config.num_attention_heads, config.hidden_act, config.layer_norm_eps) == (1, "gelu", 1e-12)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ('{"hidden_size": 768}', r"config\.json: hidden_size is 768, but the checkpoint model\.ckpt has 16"),
            ('{"num_hidden_layers": 12}', r"config\.json: num_hidden_layers is 12"),
            ('{"num_attention_heads": 3}', r"3 attention heads do not divide 16 dimensions"),
            ('{"num_attention_heads": 0}', r"config\.json: num_attention_heads: "),
            ('{"hidden_act": "os.system"}', r"config\.json: hidden_act: "),
            ("[1]", r"config\.json: "),
            ("nonsense", r"config\.json: .*JSON"),
        ],
    )
    def test_a_configuration_that_does_not_fit(
        self, build: Callable[[str | None], Any], config: str, message: str
    ) -> None:
        with pytest.raises(WronglungError, match=message):
            build(config)
