"""A folder of maps as a model: whatever made them, they are scored as they are, and nothing wrong goes unnoticed."""

from __future__ import annotations

import csv
import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from wronglung import Dataset, evaluate, load_model, load_suite
from wronglung.adapters.precomputed.adapter import Description, PrecomputedMaps, load
from wronglung.adapters.precomputed.map_files import MapFiles, MapRef
from wronglung.adapters.saliency.regrid import regrid
from wronglung.benchmark.arguments import check_arguments
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.pairs import pairs
from wronglung.benchmark.protocol import LoadedImage, check_alignment

SENTENCE = "There is opacity, in the left lung."
NAMED: dict[str, Any] = {"name": "mine", "method": "GradCAM"}
RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)


def digest(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()


def film(name: str = "film", width: int = 40, height: int = 30) -> LoadedImage:
    return LoadedImage(name, Image.new("L", (width, height)))


def write_index(folder: Path, *rows: dict[str, Any]) -> Path:
    """``index.csv`` with the columns of all rows."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder


def row(file: str = "map.npy", **cells: Any) -> dict[str, Any]:
    return {"image_id": "film", "sentence": SENTENCE, "file": file, **cells}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One map of one pair."""
    np.save(tmp_path / "map.npy", RAMP)
    return write_index(tmp_path, row())


def only_map(folder: Path, **arguments: Any) -> np.ndarray:
    return load(folder, **NAMED, **arguments).align([film()], [SENTENCE]).saliency[0].numpy()


class TestAgainstTheModelThatMadeTheMaps:
    """Maps of a shipped model, written to files, have the scores of that model."""

    @pytest.fixture
    def original(self) -> Any:
        return load_model("oracle")

    @pytest.fixture
    def written(self, original: Any, sketch: Dataset, tmp_path: Path) -> Path:
        original.prepare(sketch)
        images = {one.image_id: LoadedImage(one.image_id, one.image.load()) for one in sketch.instances}
        rows = []
        for number, (image, sentence) in enumerate(pairs(load_suite("smoke"), sketch)):
            np.save(tmp_path / f"{number}.npy", original.align([images[image]], [sentence]).saliency[0].numpy())
            rows.append({"image_id": image, "sentence": sentence, "file": f"{number}.npy"})
        (tmp_path / "model.json").write_text(
            json.dumps({"name": "copy", "method": "copied", "map_kind": "distribution"})
        )
        return write_index(tmp_path, *rows)

    def test_scores_are_equal(self, original: Any, written: Path, sketch: Dataset) -> None:
        expected = evaluate(original, sketch, "smoke", workers=1).instances
        results = evaluate(load(written), sketch, "smoke", workers=1)
        pd.testing.assert_frame_equal(results.instances, expected)
        assert results.run.model["name"] == "copy + copied"

    def test_the_batch_changes_nothing(self, written: Path, sketch: Dataset) -> None:
        one, other = (evaluate(load(written), sketch, "smoke", batch_size=size, workers=1) for size in (1, 7))
        pd.testing.assert_frame_equal(one.instances, other.instances)

    def test_a_missing_pair_is_named_with_how_many_are_missing(self, written: Path, sketch: Dataset) -> None:
        table = pd.read_csv(written / "index.csv")
        own = sketch.instances[0]
        lost = (table["image_id"] == own.image_id) & (table["sentence"] == own.sentence)
        table[~lost].to_csv(written / "index.csv", index=False)
        message = f"nothing for image '{own.image_id}' and the sentence '{own.sentence}'.*pairs of dataset '.*' itself, 1 are missing"
        with pytest.raises(WronglungError, match=message):
            evaluate(load(written), sketch, "smoke", workers=1)

    def test_other_image_ids_are_seen_before_the_run(self, written: Path, sketch: Dataset) -> None:
        table = pd.read_csv(written / "index.csv")
        table["image_id"] += ".png"
        table.to_csv(written / "index.csv", index=False)
        with pytest.raises(
            WronglungError, match="has none of the images of dataset .*; here they are such as '.*.png'"
        ):
            evaluate(load(written), sketch, "smoke", workers=1)


class TestKindsOfFiles:
    @pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int32", "bool", ">f4"])
    def test_numpy(self, folder: Path, dtype: str) -> None:
        values = RAMP.astype(dtype)
        np.save(folder / "map.npy", np.asfortranarray(values))
        saliency = only_map(folder)
        assert saliency.dtype == np.float32
        assert np.array_equal(saliency, values.astype(np.float32))

    @pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535), ("bool", 1)])
    def test_png(self, tmp_path: Path, dtype: str, largest: int) -> None:
        levels = (np.array([[0, 0.2, 1.0], [1.0, 0.4, 0]]) * largest).round().astype(dtype)
        Image.fromarray(levels).save(tmp_path / "map.png")
        assert np.allclose(only_map(write_index(tmp_path, row("map.png"))), levels / largest, atol=1e-7)

    def test_safetensors_of_many_maps(self, tmp_path: Path) -> None:
        by_pair, by_name = torch.tensor(RAMP), torch.tensor(RAMP + 1)
        save_file({f"film/{digest(SENTENCE)[:16]}": by_pair, "other": by_name.bfloat16()}, tmp_path / "all.safetensors")
        write_index(tmp_path, row("all.safetensors"), row("all.safetensors", sentence="Clear.", key="other"))
        saliency = load(tmp_path, **NAMED).align([film(), film()], [SENTENCE, "Clear."]).saliency
        assert torch.equal(saliency, torch.stack([by_pair, by_name]))

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("shape", [(3, 2), (3, 2, 1), (3, 2, 1, 1)])
    def test_nifti_holds_x_then_y(self, tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.Nifti1Image(np.ascontiguousarray(RAMP.T).reshape(shape), np.eye(4))
        nibabel.save(image, tmp_path / f"map{suffix}")
        assert np.array_equal(only_map(write_index(tmp_path, row(f"map{suffix}"))), RAMP)

    @pytest.mark.parametrize(
        ("axes", "stored"),
        [
            ("down-right", RAMP),
            ("down-left", RAMP[:, ::-1]),
            ("up-right", RAMP[::-1]),
            ("up-left", RAMP[::-1, ::-1]),
            ("right-down", RAMP.T),
            ("left-down", RAMP[:, ::-1].T),
            ("right-up", RAMP[::-1].T),
            ("left-up", RAMP[::-1, ::-1].T),
        ],
    )
    def test_nifti_of_other_orientations(self, tmp_path: Path, axes: Any, stored: np.ndarray) -> None:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), np.eye(4)), tmp_path / "map.nii")
        assert np.array_equal(only_map(write_index(tmp_path, row("map.nii")), nifti_axes=axes), RAMP)

    def test_nifti_without_nibabel_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "map.nii").write_bytes(b"")
        monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
        with pytest.raises(
            WronglungError, match=r"map.nii: NIfTI files need nibabel; pip install 'wronglung\[nifti\]'"
        ):
            only_map(write_index(tmp_path, row("map.nii")))


class TestIndex:
    def test_a_digest_stands_for_a_sentence(self, folder: Path) -> None:
        for sha in (digest(SENTENCE), digest(SENTENCE)[:16].upper()):
            write_index(folder, {"image_id": "film", "sentence_sha256": sha, "file": "map.npy"})
            assert np.array_equal(only_map(folder), RAMP)

    def test_parquet(self, folder: Path) -> None:
        pd.read_csv(folder / "index.csv").assign(local_similarity=0.25).to_parquet(folder / "index.parquet")
        with pytest.raises(WronglungError, match="has index.csv and index.parquet; remove one"):
            only_map(folder)
        (folder / "index.csv").unlink()
        alignment = load(folder, **NAMED).align([film()], [SENTENCE])
        assert np.array_equal(alignment.saliency[0], RAMP)
        assert alignment.local_similarity is not None
        assert alignment.local_similarity.tolist() == [0.25]

    def test_similarities(self, folder: Path) -> None:
        write_index(
            folder,
            row(local_similarity="0.5", global_similarity="-3e-1"),
            row(sentence="Clear.", local_similarity="1", global_similarity="0"),
        )
        alignment = load(folder, **NAMED).align([film(), film()], ["Clear.", SENTENCE])
        assert alignment.local_similarity is not None
        assert alignment.global_similarity is not None
        assert alignment.local_similarity.tolist() == [1, 0.5]
        assert alignment.global_similarity.tolist() == [0, -0.3]
        check_alignment(alignment, load(folder, **NAMED).card, [(40, 30)] * 2, ["one", "other"])

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([row(weight=1)], "row 2: weight: unknown key"),
            ([{"image_id": "film", "file": "map.npy"}], "needs `sentence` or `sentence_sha256`, one of them"),
            ([row(sentence_sha256="0" * 16)], "needs `sentence` or `sentence_sha256`, one of them"),
            ([row(), row(sentence="", sentence_sha256="xyz")], "row 3: sentence_sha256: String should match"),
            ([row(image_id="")], "row 2: image_id: is missing"),
            ([row(""), row()], "row 2: file: is missing"),
            ([row(), row()], "row 3: lists the pair of row 2 again"),
            ([row(local_similarity="high")], "local_similarity: Input should be a valid number"),
            ([row(local_similarity="nan")], "local_similarity: Input should be a finite number"),
            ([row(local_similarity="1"), row(sentence="Clear.")], "row 3 has no local_similarity, and others have one"),
            ([row("../map.npy")], r"row 2: '\.\./map.npy' leads out of the folder"),
            ([row("/etc/map.npy")], "leads out of the folder"),
            ([row("C:\\map.npy")], "leads out of the folder"),
            ([row("a\\..\\..\\map.npy")], "leads out of the folder"),
            ([row("none.npy")], "none.npy, row 2: no such file"),
            ([row("map.txt")], "is no map file; known are .npy, .safetensors"),
        ],
    )
    def test_what_is_wrong_is_named(self, folder: Path, rows: list[dict[str, Any]], message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            load(write_index(folder, *rows), **NAMED)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "lists no map"),
            (b"image_id,sentence,file\n", "lists no map"),
            (b"image_id,sentence,file\nfilm,Clear.\n", "row 2: has not as many cells"),
            (b"image_id,sentence,file\nfilm,Clear.,map.npy,more\n", "row 2: has not as many cells"),
            (b'image_id,sentence,file\nfilm,"Clear.,map.npy\n', "cannot be read"),
            (b"\xff\xfe\x00", "cannot be read"),
        ],
    )
    def test_a_damaged_index(self, folder: Path, content: bytes, message: str) -> None:
        (folder / "index.csv").write_bytes(content)
        with pytest.raises(WronglungError, match=f"index.csv: {message}"):
            load(folder, **NAMED)

    def test_a_damaged_parquet_index(self, folder: Path) -> None:
        (folder / "index.csv").rename(folder / "index.parquet")
        with pytest.raises(WronglungError, match=r"index.parquet: cannot be read"):
            load(folder, **NAMED)

    def test_no_index(self, tmp_path: Path) -> None:
        with pytest.raises(
            WronglungError, match="no index; a folder of maps needs index.csv, index.parquet or maps.safetensors"
        ):
            load(tmp_path / "nowhere", **NAMED)


class TestDamagedMaps:
    @pytest.mark.parametrize(
        ("write", "message"),
        [
            (lambda path: np.save(path, np.zeros((2, 3, 4))), r"has shape \(2, 3, 4\); a map is \[rows, columns\]"),
            (lambda path: np.save(path, np.zeros(4)), r"has shape \(4,\)"),
            (lambda path: np.save(path, np.zeros((0, 3))), r"has shape \(0, 3\)"),
            (lambda path: np.save(path, np.zeros((2, 2), dtype=complex)), "does not hold real numbers"),
            (lambda path: np.save(path, np.array([[{}]]), allow_pickle=True), "cannot be read: ValueError"),
            (lambda path: np.save(path, np.array([["a"]])), "does not hold real numbers"),
            (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "cannot be read"),
            (lambda path: path.write_bytes(b""), "cannot be read"),
            (lambda path: path.write_bytes(_claims_to_be_huge()), "cannot be read"),
        ],
    )
    def test_numpy(self, folder: Path, write: Callable[[Path], object], message: str) -> None:
        write(folder / "map.npy")
        with pytest.raises(WronglungError, match=f"map.npy, row 2: .*{message}"):
            load(folder, **NAMED)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_values_that_are_not_finite(self, folder: Path, value: float) -> None:
        np.save(folder / "map.npy", np.array([[0, value]]))
        model = load(folder, **NAMED)
        with pytest.raises(WronglungError, match="map.npy, row 2: holds NaN, infinity or a number beyond float32"):
            model.align([film()], [SENTENCE])

    @pytest.mark.parametrize("mode", ["RGB", "P", "LA"])
    def test_png_in_colour(self, tmp_path: Path, mode: str) -> None:
        Image.new(mode, (3, 2)).save(tmp_path / "map.png")
        with pytest.raises(WronglungError, match=f"map.png, row 2: .*is of mode {mode}; save it as grey"):
            load(write_index(tmp_path, row("map.png")), **NAMED)

    def test_another_format_that_is_called_png(self, tmp_path: Path) -> None:
        Image.new("L", (3, 2)).save(tmp_path / "map.png", format="TIFF")
        with pytest.raises(WronglungError, match="map.png, row 2: cannot be read"):
            load(write_index(tmp_path, row("map.png")), **NAMED)

    def test_safetensors(self, tmp_path: Path) -> None:
        save_file({"other": torch.zeros(2, 2)}, tmp_path / "all.safetensors")
        message = rf"all.safetensors \(film/{digest(SENTENCE)[:16]}\), row 2: holds no tensor of that name"
        with pytest.raises(WronglungError, match=message):
            load(write_index(tmp_path, row("all.safetensors")), **NAMED)
        (tmp_path / "all.safetensors").write_bytes(b"\xff" * 20)
        with pytest.raises(WronglungError, match="all.safetensors .* cannot be read: SafetensorError"):
            load(tmp_path, **NAMED)

    def test_nifti(self, tmp_path: Path) -> None:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(np.zeros((3, 2, 4), np.float32), np.eye(4)), tmp_path / "map.nii")
        with pytest.raises(WronglungError, match=r"map.nii, row 2: has shape \(.*\); a map is"):
            load(write_index(tmp_path, row("map.nii")), **NAMED)
        (tmp_path / "map.nii").write_bytes(b"\0" * 400)
        with pytest.raises(WronglungError, match="map.nii, row 2: cannot be read"):
            load(tmp_path, **NAMED)

    def test_a_map_that_claims_too_many_cells_is_not_read(self, tmp_path: Path) -> None:
        nibabel = pytest.importorskip("nibabel")
        header = nibabel.Nifti1Image(np.zeros((2, 2), np.uint8), np.eye(4)).header
        header["dim"][1:3] = 32767
        (tmp_path / "map.nii").write_bytes(header.binaryblock + b"\0" * 8)
        with pytest.raises(WronglungError, match="more than 16777216 cells"):
            load(write_index(tmp_path, row("map.nii")), **NAMED)


def _claims_to_be_huge() -> bytes:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64


class TestSizes:
    @pytest.fixture
    def two_sizes(self, folder: Path) -> Path:
        np.save(folder / "other.npy", np.arange(20.0).reshape(5, 4) / 190)
        return write_index(folder, row(), row("other.npy", sentence="Clear."))

    def test_different_sizes_need_a_grid(self, two_sizes: Path) -> None:
        message = (
            r"2 sizes, such as map.npy \(row 2\) with 2 × 3 and other.npy \(row 3\) with 5 × 4 cells; give grid=224"
        )
        with pytest.raises(WronglungError, match=message):
            load(two_sizes, **NAMED)

    def test_maps_on_a_grid(self, two_sizes: Path) -> None:
        saliency = load(two_sizes, **NAMED, grid=4).align([film(), film()], [SENTENCE, "Clear."]).saliency
        assert torch.equal(saliency[0], regrid(torch.tensor(RAMP), 4))
        assert saliency.shape == (2, 4, 4)

    def test_a_distribution_keeps_its_sum(self, two_sizes: Path) -> None:
        np.save(two_sizes / "map.npy", RAMP / 30)
        model = load(two_sizes, **NAMED, map_kind="distribution", grid=4)
        saliency = model.align([film(), film()], [SENTENCE, "Clear."]).saliency
        assert saliency.sum((1, 2)).tolist() == pytest.approx([0.5, 1.0], abs=1e-6)
        assert model.card.mass == "sum"

    @pytest.mark.parametrize("values", [[[0.5, -0.1]], [[0.8, 0.3]]])
    def test_what_is_no_distribution_is_refused(self, folder: Path, values: Any) -> None:
        np.save(folder / "map.npy", np.array(values))
        with pytest.raises(
            WronglungError, match=r"map.npy \(row 2\): has a least value .* a distribution is at least 0"
        ):
            only_map(folder, map_kind="distribution")

    @given(
        rows=st.integers(1, 12), columns=st.integers(1, 12), side=st.integers(1, 12), value=st.floats(-5, 5, width=32)
    )
    @settings(max_examples=40, deadline=None)
    def test_a_flat_map_stays_flat_on_any_grid(self, rows: int, columns: int, side: int, value: float) -> None:
        brought = regrid(torch.full((rows, columns), value), side)
        assert brought.shape == (side, side)
        assert torch.allclose(brought, torch.full((side, side), value), atol=1e-5)

    @given(side=st.integers(1, 6), factor=st.integers(1, 5))
    @settings(max_examples=30, deadline=None)
    def test_a_ramp_keeps_its_direction(self, side: int, factor: int) -> None:
        ramp = torch.arange(side * factor, dtype=torch.float32).repeat(3, 1)
        brought = regrid(ramp, side)
        assert torch.allclose(brought[0], brought[-1])
        assert bool((brought[0].diff() > 0).all())


class TestCardAndFrame:
    def test_model_json_speaks_and_arguments_override_it(self, folder: Path) -> None:
        said = {"name": "mine", "method": "GradCAM", "temperature": 0.5, "pretraining_sources": ["CheXpert"]}
        (folder / "model.json").write_text(json.dumps(said))
        card = load(folder, method="Chefer", preprocessing="512 pixels").card
        assert (card.name, card.saliency_method, card.temperature) == ("mine + Chefer", "Chefer", 0.5)
        assert card.settings["method"] == "Chefer"
        assert card.pretraining_sources == ("CheXpert",)
        assert card.preprocessing == "512 pixels; maps cover: whole image"
        assert (card.map_kind, card.mass) == ("score", "clip")

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({}, "name: is missing; method: is missing"),
            ({**NAMED, "nmae": "x"}, "nmae: unknown key"),
            ({**NAMED, "map_kind": "heat"}, "map_kind: Input should be 'distribution' or 'score'"),
            ({**NAMED, "temperature": 0}, "temperature: Input should be greater than 0"),
            ({**NAMED, "side": 4097}, "side: Input should be less than or equal to 4096"),
            ({**NAMED, "frame": "pad", "resize": 4097}, "resize: Input should be less than or equal to 4096"),
            ({**NAMED, "grid": 4097}, "grid: Input should be less than or equal to 4096"),
            ({**NAMED, "resize": 256}, "resize: goes with frame crop or pad"),
            ({**NAMED, "frame": "crop", "resize": 200}, "resize: is smaller than the side 224"),
        ],
    )
    def test_a_description_that_is_not_valid(self, folder: Path, said: dict[str, Any], message: str) -> None:
        (folder / "model.json").write_text(json.dumps(said))
        with pytest.raises(WronglungError, match=f"model.json and the model's arguments: {message}"):
            load(folder)

    @pytest.mark.parametrize("content", ["", "[]", "[" * 100_000])
    def test_a_damaged_description(self, folder: Path, content: str) -> None:
        (folder / "model.json").write_text(content)
        with pytest.raises(WronglungError, match="model.json: (cannot be read as JSON|is not a JSON object)"):
            load(folder)

    def test_the_checkpoint_is_that_of_the_pairs_and_of_what_the_files_hold(self, folder: Path) -> None:
        first = load(folder, **NAMED).card.checkpoint
        assert load(folder, name="other", method="x").card.checkpoint == first
        (folder / "map.npy").rename(folder / "renamed.npy")
        assert load(write_index(folder, row("renamed.npy")), **NAMED).card.checkpoint == first
        write_index(folder, row())
        np.save(folder / "map.npy", RAMP[::-1].copy())
        assert (folder / "map.npy").stat().st_size == (folder / "renamed.npy").stat().st_size
        second = load(folder, **NAMED).card.checkpoint
        write_index(folder, row(sentence="Clear."))
        third = load(folder, **NAMED).card.checkpoint
        assert len({first, second, third}) == 3

    @pytest.mark.parametrize(
        ("said", "size", "expected"),
        [
            ({}, (400, 200), Geometry.squash(400, 200, 224, 224)),
            ({"frame": "image", "side": 96}, (400, 200), Geometry.squash(400, 200, 96, 96)),
            ({"frame": "crop", "side": 100}, (400, 200), Geometry(400, 200, 100, 100, 0.5, 0.5, -50, 0)),
            ({"frame": "crop", "side": 80, "resize": 100}, (200, 400), Geometry(200, 400, 80, 80, 0.5, 0.5, -10, -60)),
            ({"frame": "pad", "side": 100}, (400, 200), Geometry(400, 200, 100, 100, 0.25, 0.25, 0, 25)),
            ({"frame": "pad", "side": 80, "resize": 100}, (200, 400), Geometry(200, 400, 80, 80, 0.25, 0.25, 15, -10)),
        ],
    )
    def test_what_a_map_covers(self, folder: Path, said: Any, size: tuple[int, int], expected: Geometry) -> None:
        alignment = load(folder, **NAMED, **said).align([film("film", *size)], [SENTENCE])
        assert alignment.geometry == [expected]

    @given(
        width=st.integers(1, 4000),
        height=st.integers(1, 4000),
        frame=st.sampled_from(["image", "crop", "pad"]),
        side=st.integers(1, 600),
    )
    @settings(max_examples=60, deadline=None)
    def test_the_middle_of_the_image_is_the_middle_of_the_frame(
        self, width: int, height: int, frame: Any, side: int
    ) -> None:
        one = Description(name="a", method="b", frame=frame, side=side).geometry(width, height)
        assert width / 2 * one.scale_x + one.offset_x == pytest.approx(side / 2)
        assert height / 2 * one.scale_y + one.offset_y == pytest.approx(side / 2)
        left, top, right, bottom = one.visible_window
        if frame == "crop":
            assert (right - left, bottom - top) == pytest.approx((min(width, height),) * 2)
        else:
            assert (left, top, right, bottom) == pytest.approx((0, 0, width, height))

    def test_an_image_that_was_reduced_while_it_was_decoded(self, folder: Path) -> None:
        model = load(folder, **NAMED, frame="crop", side=100)
        reduced = LoadedImage("film", Image.new("L", (201, 101)), (402, 201))
        (geometry,) = model.align([reduced], [SENTENCE]).geometry
        (whole,) = model.align([film("film", 402, 201)], [SENTENCE]).geometry
        assert geometry.of_original(402, 201, 2) == whole


class TestRunFolders:
    """What ``wronglung run --save-maps`` wrote can be scored again."""

    @pytest.fixture
    def run(self, sketch: Dataset, tmp_path: Path) -> Path:
        evaluate(load_model("oracle"), sketch, "smoke", save_maps=True, workers=1).save(tmp_path)
        return tmp_path

    def test_scores_are_those_of_the_run(self, run: Path, sketch: Dataset) -> None:
        model = load(run, frame="image")
        assert isinstance(model, PrecomputedMaps)
        assert (model.card.name, model.card.map_kind) == ("oracle", "distribution")
        again = evaluate(model, sketch, "smoke", workers=1).instances
        pd.testing.assert_frame_equal(again, pd.read_parquet(run / "instances.parquet"), check_dtype=False)

    @pytest.mark.parametrize("at_least", [None, 32])
    def test_a_model_that_pads_is_scored_again_on_reduced_images_too(
        self, sketch: Dataset, tmp_path: Path, at_least: int | None
    ) -> None:
        original = load_model("gloria-phantom-retrained")
        common: dict[str, Any] = {"limit": 6, "workers": 1, "decode_at_least": at_least}
        evaluate(original, sketch, "smoke", save_maps=True, **common).save(tmp_path)
        again = evaluate(load(tmp_path), sketch, "smoke", **common).instances
        before = pd.read_parquet(tmp_path / "instances.parquet")
        similarities = [column for column in before if "selection" in str(column)]
        pd.testing.assert_frame_equal(
            again.drop(columns=similarities), before.drop(columns=similarities), check_dtype=False
        )

    def test_without_stored_geometry_it_must_be_said(self, run: Path) -> None:
        save_file(load_file(run / "maps.safetensors"), run / "maps.safetensors")
        assert load(run, frame="image", name="mine", method="boxes").card.name == "mine + boxes"
        with pytest.raises(
            WronglungError, match="kept no geometry with its maps; say what they cover: frame=image, crop"
        ):
            load(run)

    def test_the_geometry_that_was_stored_with_the_maps(self, tmp_path: Path) -> None:
        numbers = [40, 30, 100, 100, 2.5, 2.5, 0.0, 12.5]
        maps = {f"a/film/{digest(SENTENCE)[:16]}": torch.tensor(RAMP)}
        save_file(maps, tmp_path / "maps.safetensors", {"geometry": json.dumps({"a/film": numbers})})
        model = load(tmp_path, **NAMED)
        alignment = model.align([film("a/film")], [SENTENCE])
        assert alignment.geometry == [Geometry(40, 30, 100, 100, 2.5, 2.5, 0.0, 12.5)]
        assert np.array_equal(alignment.saliency[0], RAMP)
        assert model.card.preprocessing == "maps cover: as the run stored it"
        assert load(tmp_path, **NAMED, frame="image").align([film("a/film")], [SENTENCE]).geometry[0].offset_y == 0

    @pytest.mark.parametrize("stored", ["", "[]", '{"a": 3}', '{"a": [1, 2]}', '{"a": [0, 1, 1, 1, 1, 1]}'])
    def test_damaged_geometry(self, tmp_path: Path, stored: str) -> None:
        maps = {f"film/{digest(SENTENCE)[:16]}": torch.tensor(RAMP)}
        save_file(maps, tmp_path / "maps.safetensors", {"geometry": stored})
        with pytest.raises(WronglungError, match=r"maps.safetensors: its geometry cannot be read"):
            load(tmp_path, **NAMED)

    def test_other_names_in_the_file_of_maps(self, tmp_path: Path) -> None:
        save_file({"film": torch.tensor(RAMP)}, tmp_path / "maps.safetensors")
        with pytest.raises(
            WronglungError, match="tensor 'film' is not named IMAGE ID/SENTENCE DIGEST; add an index.csv"
        ):
            load(tmp_path, **NAMED)


def test_maps_of_many_tensors_are_read_one_at_a_time(tmp_path: Path) -> None:
    save_file({str(number): torch.full((2, 2), float(number)) for number in range(50)}, tmp_path / "all.safetensors")
    files = MapFiles(tmp_path)
    for number in (3, 49, 0):
        ref = MapRef("all.safetensors", str(number), "row")
        assert files.shape(ref) == (2, 2)
        assert files.read(ref).tolist() == [[number] * 2] * 2


def test_arguments_as_a_command_line_gives_them(folder: Path) -> None:
    given = {
        "maps": str(folder),
        "name": "mine",
        "method": "GradCAM",
        "temperature": "0.5",
        "frame": "crop",
        "grid": "4",
    }
    model = load(**check_arguments(load, given, list(inspect.signature(load).parameters), "model"))
    assert model.card.temperature == 0.5
    assert model.align([film()], [SENTENCE]).saliency.shape == (1, 4, 4)
