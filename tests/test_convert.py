"""Checkpoints with foreign objects become safetensors and a JSON card, and none of the objects is made."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from wronglung.adapters.files.convert import convert
from wronglung.adapters.files.inert_pickle import DTYPES
from wronglung.adapters.files.state_dicts import file_digest, read_state_dict
from wronglung.benchmark.cli import app
from wronglung.benchmark.errors import WronglungError


class Calls:
    """Pickles as a call of ``os.mkdir``."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    """A file as a training framework leaves it: weights among settings, an optimizer, and an object that acts."""
    base = torch.arange(6.0)
    content = {
        "epoch": 3,
        "state_dict": {"model.a": base[:4].reshape(2, 2), "model.b": base, "queue": torch.ones(1)},
        "hyper_parameters": {"lr": 0.1, "args": argparse.Namespace(lr=1), "layers": (1, 2), "best": float("inf")},
        "optimizer_states": [{"state": {0: torch.ones(3)}}],
        "callbacks": Calls(tmp_path / "marker"),
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_tensors_and_plain_values_are_kept_and_the_rest_is_named(lightning: Path, tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(lightning, weights_only=True)
    card = convert(lightning, tmp_path / "out" / "model.safetensors")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {key: tensor.tolist() for key, tensor in weights.items()} == {
        "model.a": [[0.0, 1.0], [2.0, 3.0]],
        "model.b": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "queue": [1.0],
    }
    said = json.loads(card.read_text())
    assert said["source"] == {
        "file": "last.ckpt", "sha256": file_digest(lightning), "bytes": lightning.stat().st_size,
    }  # fmt: skip
    assert (said["tensors"], said["numbers"]) == (3, 11)
    assert said["values"]["epoch"] == 3
    assert said["values"]["hyper_parameters"] == {"lr": 0.1, "layers": [1, 2], "best": "inf"}
    assert {(one["at"], one["what"]) for one in said["left_out"]} == {
        ("hyper_parameters.args", "argparse.Namespace"),
        ("callbacks", "posix.mkdir"),
    }
    assert not (tmp_path / "marker").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "model.safetensors"]
    assert read_state_dict(tmp_path / "out" / "model.safetensors").keys() == weights.keys()


def test_the_object_of_these_tests_acts_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Calls(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_a_prefix_is_stripped_and_what_lacks_it_is_named(lightning: Path, tmp_path: Path) -> None:
    card = convert(lightning, tmp_path / "model.safetensors", strip="model.")
    assert load_file(tmp_path / "model.safetensors").keys() == {"a", "b"}
    assert {"at": "queue", "what": "tensor"} in json.loads(card.read_text())["left_out"]


def test_safetensors_and_plain_files_are_taken_too(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(2)}, tmp_path / "plain.safetensors")
    torch.save({"module.a": torch.ones(2)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("plain.safetensors", "old.bin"):
        card = convert(tmp_path / name, tmp_path / "out.safetensors", strip="module.", overwrite=True)
        assert load_file(tmp_path / "out.safetensors").keys() == {"a"}
        assert json.loads(card.read_text())["values"] == {}


def test_collections_that_hold_themselves_end(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.extend([loop] * 50)
    torch.save({"state_dict": {"a": torch.ones(1)}, "loop": loop}, tmp_path / "loop.ckpt")
    card = convert(tmp_path / "loop.ckpt", tmp_path / "out.safetensors")
    assert card.stat().st_size < 50_000_000


def test_values_that_are_hard_to_write_do_not_stop_it(tmp_path: Path) -> None:
    huge = 10**5000
    content = {"\ud800": "\ud800", "huge": huge, huge: 1, (1, (huge,)): 2, 3: 4, "state_dict": {"a": torch.ones(1)}}
    torch.save(content, tmp_path / "hard.ckpt")
    said = json.loads(convert(tmp_path / "hard.ckpt", tmp_path / "out.safetensors").read_text())
    assert said["values"] == {"\ud800": "\ud800", "3": 4}
    assert said["left_out"] == [{"at": "huge", "what": "int"}, {"at": "", "what": "int"}, {"at": "", "what": "tuple"}]


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str))
def test_every_dtype_that_is_read_is_written(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.tensor([0, 1, 1]).to(dtype)
    torch.save({"state_dict": {"a": tensor}, "args": argparse.Namespace()}, tmp_path / "model.ckpt")
    convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors")
    written = load_file(tmp_path / "out.safetensors")["a"]
    assert written.dtype == dtype
    assert written.tolist() == tensor.tolist()


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_what_is_no_plain_tensor_is_refused_by_name_and_nothing_is_written(tmp_path: Path) -> None:
    for tensor in (torch.zeros(2, dtype=torch.complex128), torch.eye(2).to_sparse(), torch.zeros(2, device="meta")):
        torch.save({"state_dict": {"a": torch.ones(1), "b": tensor}}, tmp_path / "model.ckpt")
        with pytest.raises(WronglungError, match=r"model\.ckpt: 'b' is a tensor of a kind that is not read"):
            convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_safetensors_cannot_hold_are_refused(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1), name: torch.ones(1)}}, tmp_path / "model.ckpt")
    with pytest.raises(WronglungError, match=r"model\.ckpt: '(__metadata__|\\ud800)' cannot be the name of a tensor"):
        convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_refusals_are_one_line_and_write_nothing(lightning: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for out, strip, message in (
        ("model.bin", "", r"model\.bin: give a name that ends in \.safetensors"),
        ("model.safetensors", "gloria.", r"no tensor's name begins with 'gloria\.'; the first is 'model\.a'"),
    ):
        with pytest.raises(WronglungError, match=message):
            convert(lightning, tmp_path / out, strip=strip)
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(WronglungError, match="holds no state dict"):
        convert(tmp_path / "list.ckpt", tmp_path / "model.safetensors")
    (tmp_path / "list.ckpt").unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_the_verb(lightning: Path, tmp_path: Path) -> None:
    arguments = ["convert-checkpoint", str(lightning), str(tmp_path / "m.safetensors"), "--strip", "model."]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / "m.safetensors"), str(tmp_path / "m.json")]
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, WronglungError)
    assert "exists; choose another name, or --overwrite" in str(again.exception)
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
