"""A model's files: in a folder, in the local cache, on the hub; and what is said when they are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

from wronglung.adapters.files import hub
from wronglung.adapters.files.hub import model_folder
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.registry import Entry

WANTED = ("config.json", ("model.safetensors", "pytorch_model.bin"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_in_reach", lambda: True)
    return tmp_path / "cache"


def snapshot(cache: Path, *names: str) -> Path:
    """A repository owner/name in the cache, laid out as the hub's library does."""
    repository = cache / "models--owner--name"
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in names:
        (folder / name).write_text("x")
    return folder


def refusing(error: Exception) -> Any:
    def download(*arguments: Any, **named: Any) -> str:
        raise error

    return download


def raised(kind: type[Exception]) -> Exception:
    """An error of the hub's library, which would want the response that it came with."""
    return kind.__new__(kind)


def test_a_folder_with_the_files_is_taken(tmp_path: Path) -> None:
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).touch()
    assert model_folder(str(tmp_path), WANTED, argument="weights") == tmp_path


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(WronglungError, match=r"the folder holds no model\.safetensors or pytorch_model\.bin"):
        model_folder(str(tmp_path), WANTED, argument="weights")


@pytest.mark.parametrize("source", ["nowhere/at/all", "./owner/name", "name", "/owner/name", "~owner/name"])
def test_what_is_neither_folder_nor_repository(source: str) -> None:
    message = rf"^weights={re.escape(source)}: no such folder; give a folder with config\.json, model\.safetensors or"
    with pytest.raises(WronglungError, match=message):
        model_folder(source, WANTED, argument="weights")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WronglungError, match="is a file, not a folder"):
        model_folder(str(tmp_path / "file"), WANTED, argument="weights")


def test_the_cache_is_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(cache, "config.json", "pytorch_model.bin")
    monkeypatch.setattr(hub, "hf_hub_download", refusing(AssertionError("asked the hub")))
    assert model_folder("owner/name", WANTED, argument="weights") == folder


def test_what_is_optional_may_be_out_of_reach(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(cache, "config.json", "pytorch_model.bin")
    monkeypatch.setattr(hub, "hf_hub_download", refusing(raised(LocalEntryNotFoundError)))
    assert model_folder("owner/name", WANTED, ["vocab.txt"], argument="weights") == folder


def test_all_files_are_of_one_snapshot(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are asked for by the commit of the configuration that the cache has."""
    snapshot(cache, "config.json")
    asked = []

    def download(source: str, name: str, revision: str | None) -> str:
        asked.append(revision)
        return str(cache / "models--owner--name" / "snapshots" / ("0" * 40) / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    model_folder("owner/name", WANTED, argument="weights")
    assert asked == ["0" * 40]


def test_what_the_cache_lacks_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(source: str, name: str, revision: str | None) -> str:
        asked.append(name)
        if name == "model.safetensors":
            raise raised(EntryNotFoundError)
        return str(cache / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert model_folder("owner/name", WANTED, ["vocab.txt"], argument="weights") == cache
    assert asked == ["config.json", "model.safetensors", "pytorch_model.bin", "vocab.txt"]


def test_a_repository_without_a_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", refusing(raised(EntryNotFoundError)))
    with pytest.raises(WronglungError, match=r"owner/name: the repository has no config\.json"):
        model_folder("owner/name", WANTED, argument="weights")


def test_without_a_network_the_message_says_what_to_fetch_and_where_to_put_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", refusing(raised(LocalEntryNotFoundError)))
    with pytest.raises(
        WronglungError,
        match=r"config\.json is not in the local cache.* `hf download owner/name --local-dir FOLDER` \(config\.json, "
        r"model\.safetensors or pytorch_model\.bin\), then give weights=FOLDER",
    ):
        model_folder("owner/name", WANTED, argument="weights")


def test_a_hub_that_cannot_be_found_is_not_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_in_reach", lambda: False)
    monkeypatch.setattr(hub, "hf_hub_download", refusing(AssertionError("asked the hub")))
    with pytest.raises(WronglungError, match="out of reach or switched off"):
        model_folder("owner/name", WANTED, argument="weights")


def test_what_no_repository_can_be_called(cache: Path) -> None:
    with pytest.raises(WronglungError, match=r"weights=a b/c: is no folder, and no name of a repository"):
        model_folder("a b/c", WANTED, argument="weights")


def test_a_gated_repository_says_how_to_get_access(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", refusing(raised(GatedRepoError)))
    with pytest.raises(WronglungError, match=r"access is granted on request: accept the terms .* `hf auth login`"):
        model_folder("owner/name", WANTED, argument="weights")


def test_the_list_knows_what_is_missing(cache: Path) -> None:
    entry = Entry("a:b", "", module=("no_such_module", "some-extra"), asks=("bert",), hub="owner/name")
    assert entry.missing() == 'pip install "wronglung[some-extra]", bert=..., weights of owner/name'
    snapshot(cache, "config.json")
    assert entry._replace(module=("json", "x"), asks=()).missing() == ""
