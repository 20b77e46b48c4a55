"""Features on disk: bit for bit, whole or not at all, and never anybody else's."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wronglung import Dataset, Features, Geometry, ModelCard, evaluate, load_model
from wronglung.benchmark import feature_store
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.feature_store import KEY, FeatureStore

CARD = ModelCard(
    name="fake", saliency_method="hash", map_kind="score", checkpoint="c0ffee", settings={"dtype": "float32"}
)
TYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
SIZE = (2544, 3056)


def opened(folder: Path, card: ModelCard = CARD, at_least: int | None = None) -> FeatureStore:
    return FeatureStore.open(folder, card, at_least)


def name(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()


def made(number: int, side: int = 3) -> Features:
    generator = torch.Generator().manual_seed(number)
    tensors = {"regions": torch.rand(side, side, 4, generator=generator), "global": torch.rand(4, generator=generator)}
    return Features(tensors, Geometry.squash(*SIZE, 224, 224))


def same(one: Features | None, other: Features) -> bool:
    """Equal to the last bit, NaN payloads and the sign of zero included."""
    return (
        one is not None
        and one.geometry == other.geometry
        and list(one.tensors) == list(other.tensors)
        and all(
            (a.dtype, a.shape) == (b.dtype, b.shape)
            and torch.equal(a.reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))
            for a, b in zip(one.tensors.values(), other.tensors.values(), strict=True)
        )
    )


def packs(folder: Path, kind: str = "images") -> list[Path]:
    return sorted(folder.glob(f"*/{kind}-*.safetensors"))


@st.composite
def tensor(draw: st.DrawFn) -> torch.Tensor:
    """Any bits, in any type, in any order in memory."""
    dtype = draw(st.sampled_from(TYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = torch.Size(shape).numel()
    width = torch.empty(0, dtype=dtype).element_size()
    raw = bytearray(draw(st.binary(min_size=count * width, max_size=count * width)))
    values = torch.frombuffer(raw, dtype=torch.uint8).clone() if raw else torch.empty(0, dtype=torch.uint8)
    if dtype is torch.bool:
        return (values % 2 == 1).reshape(shape)
    return values.view(dtype).reshape(shape).transpose(0, -1) if shape else values.view(dtype).reshape(())


lengths, scales = st.integers(1, 20_000), st.floats(1e-6, 1e6)
geometries = st.builds(Geometry, lengths, lengths, lengths, lengths, scales, scales, st.floats(-1e6, 1e6), scales)
features = st.builds(
    Features, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), tensor(), max_size=3),
    st.none() | geometries,
)  # fmt: skip


class TestRoundTrip:
    @settings(max_examples=40)
    @given(images=st.dictionaries(st.integers(0, 99), st.tuples(features, st.tuples(lengths, lengths)), max_size=4))
    def test_of_images_is_exact(self, images: dict[int, tuple[Features, tuple[int, int]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = opened(Path(folder))
            writer.put_images({name(number): one for number, one in images.items()})
            for store in (writer, opened(Path(folder))):
                for number, (one, size) in images.items():
                    found = store.image(name(number))
                    assert found is not None
                    assert found[1] == size
                    assert same(found[0], one)
                assert store.warnings == []

    @settings(max_examples=20)
    @given(sentences=st.dictionaries(st.text(), features, max_size=4))
    def test_of_sentences_is_exact(self, sentences: dict[str, Features]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            opened(Path(folder)).put_sentences(sentences)
            store = opened(Path(folder))
            assert all(same(store.sentence(text), one) for text, one in sentences.items())

    def test_rows_of_a_batch_take_their_own_place_only(self, tmp_path: Path) -> None:
        batch = torch.rand(8, 1000)
        opened(tmp_path).put_images({name(at): (Features({"grid": batch[at]}), SIZE) for at in range(2)})
        assert packs(tmp_path)[0].stat().st_size < 2 * 4000 + 1000
        assert same(opened(tmp_path).image(name(1))[0], Features({"grid": batch[1]}))  # type: ignore[index]

    def test_what_was_read_does_not_depend_on_the_file(self, tmp_path: Path) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        found = opened(tmp_path).image(name(0))
        packs(tmp_path)[0].write_bytes(b"")
        assert found is not None
        assert same(found[0], made(0))

    def test_no_text_is_stored(self, tmp_path: Path) -> None:
        opened(tmp_path).put_sentences({"Mrs Example has an effusion.": made(0)})
        for file in tmp_path.rglob("*"):
            assert "Example" not in file.name
            assert file.is_dir() or b"Example" not in file.read_bytes()

    def test_nothing_is_known_of_others(self, tmp_path: Path) -> None:
        store = opened(tmp_path)
        store.put_images({name(0): (made(0), SIZE)})
        store.put_sentences({})
        assert store.image(name(1)) is None
        assert store.sentence("") is None
        assert store.sentence(name(0)) is None


class TestKey:
    @pytest.mark.parametrize(
        "change",
        [
            {"checkpoint": "other"},
            {"preprocessing": "crop"},
            {"saliency_method": "gradcam"},
            {"settings": {"dtype": "bfloat16"}},
        ],
    )
    def test_features_of_another_model_are_not_found(self, tmp_path: Path, change: dict[str, Any]) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        assert opened(tmp_path, CARD.model_copy(update=change)).image(name(0)) is None
        assert opened(tmp_path).image(name(0)) is not None

    def test_nor_those_of_reduced_films_or_another_device(self, tmp_path: Path) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        assert opened(tmp_path, at_least=512).image(name(0)) is None
        assert FeatureStore.open(tmp_path, CARD, None, {"device": "cuda"}).image(name(0)) is None

    def test_the_name_on_the_leaderboard_does_not_count(self, tmp_path: Path) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        assert opened(tmp_path, CARD.model_copy(update={"name": "renamed"})).image(name(0)) is not None

    def test_it_can_be_read(self, tmp_path: Path) -> None:
        opened(tmp_path, at_least=512)
        (file,) = tmp_path.glob(f"*/{KEY}")
        key = json.loads(file.read_text())
        assert (key["checkpoint"], key["settings"], key["decode_at_least"]) == ("c0ffee", {"dtype": "float32"}, 512)
        assert key["packages"]["torch"] == version("torch")

    def test_a_model_without_a_checkpoint_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match="model 'fake': its card has no checkpoint digest"):
            opened(tmp_path, CARD.model_copy(update={"checkpoint": None}))
        assert list(tmp_path.iterdir()) == []


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def flip(file: Path) -> None:
    """One bit of the last value."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeros(file: Path) -> None:
    """What a machine that lost power may leave."""
    file.write_bytes(bytes(file.stat().st_size))


def huge_header(file: Path) -> None:
    file.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def pickled(file: Path) -> None:
    torch.save({"a": torch.ones(1)}, file)


def foreign(file: Path) -> None:
    save_file({"a": torch.ones(1)}, file)


def retold(file: Path, change: dict[str, Any] | str) -> None:
    """Say something else of every item than what is there."""
    with safe_open(file, framework="pt") as stream:
        metadata, keys = stream.metadata(), stream.keys()
        tensors = {key: stream.get_tensor(key).clone() for key in keys}
    items = json.loads(metadata["wronglung-features"])
    text = change if isinstance(change, str) else json.dumps({key: item | change for key, item in items.items()})
    save_file(tensors, file, {"wronglung-features": text})


class TestDamage:
    @pytest.mark.parametrize("harm", [cut, flip, empty, zeros, huge_header, pickled, foreign])
    def test_is_named_and_passed_over(self, tmp_path: Path, harm: Any) -> None:
        writer = opened(tmp_path)
        writer.put_images({name(0): (made(0), SIZE)})
        (bad,) = packs(tmp_path)
        writer.put_images({name(1): (made(1), SIZE)})
        harm(bad)
        for store in (opened(tmp_path), writer):
            assert store.image(name(0)) is None
            assert store.image(name(0)) is None
            assert store.image(name(1)) is not None
            (warning,) = store.warnings
            assert f"{bad}: is damaged" in warning
            assert "computed again" in warning

    @pytest.mark.parametrize(
        "change",
        [
            {"geometry": [0] * 8},
            {"geometry": [10, 10, 10, 10, 0.0, 1.0, 0.0, 0.0]},
            {"geometry": [10**400, 10, 10, 10, 1.0, 1.0, 0.0, 0.0]},
            {"size": [0, 4]},
            {"size": "large"},
            {"tensors": ["regions", "../../secret"]},
            {"tensors": None},
            {"crc32": 0},
            "[" * 100_000,
            "[]",
            '{"a": NaN}',
        ],
    )
    def test_so_is_a_header_that_lies(self, tmp_path: Path, change: dict[str, Any] | str) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        (bad,) = packs(tmp_path)
        retold(bad, change)
        store = opened(tmp_path)
        assert store.image(name(0)) is None
        assert [str(bad) in warning for warning in store.warnings] == [True]

    def test_what_is_made_again_takes_its_place(self, tmp_path: Path) -> None:
        items = {name(at): (made(at), SIZE) for at in range(3)}
        opened(tmp_path).put_images(items)
        flip(packs(tmp_path)[0])
        store = opened(tmp_path)
        missing = {key: item for key, item in items.items() if store.image(key) is None}
        assert len(missing) == 1, "of three items one is damaged"
        store.put_images(missing)
        again = opened(tmp_path)
        assert all(same(again.image(key)[0], one) for key, (one, _) in items.items())  # type: ignore[index]
        assert again.warnings == []

    def test_a_pack_that_goes_away_is_missed_and_no_more(self, tmp_path: Path) -> None:
        store = opened(tmp_path)
        store.put_images({name(0): (made(0), SIZE)})
        packs(tmp_path)[0].unlink()
        assert store.image(name(0)) is None
        assert len(store.warnings) == 1

    def test_what_is_no_pack_is_left_alone(self, tmp_path: Path) -> None:
        opened(tmp_path).put_images({name(0): (made(0), SIZE)})
        (own,) = packs(tmp_path)
        # Left by a write that was killed, a folder, and a pipe that would be waited for.
        shutil.copy(own, own.parent / f".{own.name}.x1")
        (own.parent / "images-folder.safetensors").mkdir()
        os.mkfifo(own.parent / "images-pipe.safetensors")
        store = opened(tmp_path)
        assert store.image(name(0)) is not None
        assert store.warnings == []


class TestDisk:
    def test_a_full_disk_is_one_message_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = opened(tmp_path)

        def full(tensors: object, path: Path, metadata: object) -> None:
            path.write_bytes(b"half")
            raise SafetensorError(f"I/O error: No space left on device (os error {errno.ENOSPC})")

        monkeypatch.setattr(feature_store, "save_file", full)
        with pytest.raises(WronglungError, match=f"{tmp_path}.*cannot be written: .*No space left"):
            store.put_images({name(0): (made(0), SIZE)})
        assert [path.name for path in tmp_path.glob("*/*")] == [KEY]
        assert store.image(name(0)) is None

    def test_a_folder_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(WronglungError, match="file: cannot hold a feature cache"):
            opened(tmp_path / "file")

    def test_a_type_that_the_format_lacks_is_refused(self, tmp_path: Path) -> None:
        one = Features({"wave": torch.zeros(2, dtype=torch.complex128)})
        with pytest.raises(WronglungError, match=r"features of the type torch\.complex128 cannot be kept"):
            opened(tmp_path).put_sentences({"a": one})


def write_some(folder: Path, first: int, together: Any) -> None:
    store = opened(folder)
    together.wait(timeout=300)
    for start in range(first, first + 12, 4):
        store.put_images({name(at): (made(at), SIZE) for at in range(start, start + 4)})


class TestSharing:
    def test_two_processes_write_at_once(self, tmp_path: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        together = spawn.Barrier(2)
        other = spawn.Process(target=write_some, args=(tmp_path, 8, together))
        other.start()
        # The last four of this process are the first four of the other.
        write_some(tmp_path, 0, together)
        other.join()
        assert other.exitcode == 0
        store = opened(tmp_path)
        assert all(same(store.image(name(at))[0], made(at)) for at in range(20))  # type: ignore[index]
        assert len(packs(tmp_path)) == 5, "what both wrote is there once"
        assert store.warnings == []

    def test_threads_read_at_once(self, tmp_path: Path) -> None:
        store = opened(tmp_path)
        store.put_images({name(at): (made(at), SIZE) for at in range(8)})
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda at: store.image(name(at % 8)), range(200)))
        assert all(one is not None and same(one[0], made(at % 8)) for at, one in enumerate(found))


class Counted:
    """A model that counts what it encodes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.card = model.card
        self.images: list[str] = []
        self.sentences: list[str] = []

    def encode_images(self, images: Sequence[Any]) -> Any:
        self.images += [one.id for one in images]
        return self._model.encode_images(images)

    def encode_sentences(self, sentences: Sequence[str]) -> Any:
        self.sentences += sentences
        return self._model.encode_sentences(sentences)

    def align_features(self, images: Any, sentences: Any) -> Any:
        return self._model.align_features(images, sentences)

    def global_similarity_matrix(self, images: Any, sentences: Any) -> Any:
        return self._model.global_similarity_matrix(images, sentences)


def test_a_second_run_with_another_suite_encodes_only_new_sentences(sketch: Dataset, tmp_path: Path) -> None:
    loaded = load_model("gloria-phantom-retrained", device="cpu")

    def run(suite: str, cache: Path | None) -> tuple[Counted, Any]:
        model = Counted(loaded)
        return model, evaluate(model, sketch, suite, limit=6, feature_cache=cache)

    first, cold = run("smoke", tmp_path)
    again, warm = run("smoke", tmp_path)
    other, _ = run("wrong-lung", tmp_path)
    assert len(first.images) == len({one.image_id for one in sketch.instances[:6]})
    assert (again.images, again.sentences) == ([], [])
    assert other.images == []
    assert set(other.sentences).isdisjoint(first.sentences)
    _, without = run("smoke", None)
    for one in (cold, warm):
        assert one.instances.equals(without.instances)
        assert one.run.scores == without.run.scores
