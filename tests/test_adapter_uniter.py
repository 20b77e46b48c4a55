"""UNITER: the original's attentions and match, painted on the regions of a file; region files are read with
suspicion."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from published import film
from recipes import golden_arrays, golden_manifest, recipe_state
from safetensors.torch import save_file

from wronglung import evaluate, load_dataset
from wronglung.adapters.saliency.boxes import raster_max
from wronglung.adapters.uniter.adapter import (
    GRID,
    attention_of_cls,
    attention_of_words,
    load,
    log_odds,
    read_network,
    word_region_cosine,
)
from wronglung.adapters.uniter.network import Reading, UniterNetwork, places
from wronglung.adapters.uniter.region_files import RegionFiles
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.conformance import material
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Dataset

Arrays = Mapping[str, npt.NDArray[Any]]

SENTENCE = "w5 w6 w7"
"""In the vocabulary below, the golden numbers' first sentence."""


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, npt.NDArray[Any]]:
    return golden_arrays(shared / "golden_encoders" / "uniter")


@pytest.fixture(scope="module")
def files(shared: Path, arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``uniter-base.pt`` as published, a cased vocabulary, and regions as UNITER's own extraction has
    them."""
    folder = tmp_path_factory.mktemp("uniter")
    manifest = golden_manifest(shared / "golden_encoders" / "uniter")
    torch.save(recipe_state(manifest["entries"]), folder / "uniter-base.pt")
    (folder / "config.json").write_text(json.dumps(manifest["config"]))
    special = {
        0: "[PAD]",
        1: "[UNK]",
        2: "[CLS]",
        3: "[SEP]",
        4: "[MASK]",
        8: "Right",
        9: "right",
        10: "lung",
        11: "left",
    }
    (folder / "vocab.txt").write_text("\n".join(special.get(at, f"w{at}") for at in range(100)))
    regions = folder / "regions"
    regions.mkdir()
    for image, count in enumerate(arrays["num_regions"]):
        features, boxes = (arrays[name][image, :count] for name in ("region_features", "region_boxes7"))
        np.savez_compressed(regions / f"{image}.npz", features=features, norm_bb=boxes[:, :6], conf=np.ones(count))
    return folder


@pytest.fixture(scope="module")
def network(files: Path) -> UniterNetwork:
    return read_network(files / "uniter-base.pt", files / "config.json")


def arguments(files: Path, **others: Any) -> dict[str, Any]:
    return {
        "checkpoint": files / "uniter-base.pt",
        "vocabulary": files / "vocab.txt",
        "regions": files / "regions",
        "config": files / "config.json",
        **others,
    }


def write_regions(folder: Path, ids: Iterable[str]) -> Path:
    """Regions at random places, for images of any size."""
    folder.mkdir()
    for at, name in enumerate(ids):
        drawn = np.random.default_rng(at)
        corners = np.sort(drawn.uniform(0, 1, (4, 2, 2)), axis=1).reshape(4, 4)
        np.savez(folder / f"{name}.npz", features=drawn.standard_normal((4, 64)), norm_bb=corners)
    return folder


class TestAgainstTheOriginal:
    """Reference numbers of the authors' code with weights by recipe."""

    @staticmethod
    def readings(network: UniterNetwork, arrays: Arrays) -> Iterable[tuple[int, int, int, int, Reading]]:
        """(image, sentence, regions, tokens, reading) of all pairs."""
        for image, count in enumerate(arrays["num_regions"]):
            features = torch.from_numpy(arrays["region_features"][image, :count])
            boxes = torch.from_numpy(arrays["region_boxes7"][image, :count, :4])
            for sentence, padded in enumerate(arrays["input_ids"]):
                ids = torch.from_numpy(padded[padded > 0])
                yield image, sentence, count, len(ids), network(ids, features, boxes)

    def test_places(self, arrays: Arrays) -> None:
        given = torch.from_numpy(arrays["region_boxes7"][0, :5])
        assert torch.allclose(places(given[:, :4]), given, rtol=0, atol=1e-6)

    def test_match(self, network: UniterNetwork, arrays: Arrays) -> None:
        for image, sentence, _, _, reading in self.readings(network, arrays):
            assert np.allclose(reading.logits, arrays["itm_logits"][image, sentence], rtol=0, atol=1e-4)
            probability = float(log_odds(reading).sigmoid())
            assert probability == pytest.approx(float(arrays["itm_probability"][image, sentence]), abs=1e-4)

    @pytest.mark.parametrize(
        ("function", "name"),
        [(attention_of_words, "attention_words_to_region"), (attention_of_cls, "attention_cls_to_region")],
    )
    def test_attention(self, network: UniterNetwork, arrays: Arrays, function: Any, name: str) -> None:
        for image, sentence, count, length, reading in self.readings(network, arrays):
            for layer in range(3):
                expected = arrays[name][image, sentence, layer, :count]
                assert np.allclose(function(reading, length, layer), expected, rtol=0, atol=1e-4)

    def test_cosine(self, network: UniterNetwork, arrays: Arrays) -> None:
        for image, sentence, count, length, reading in self.readings(network, arrays):
            expected = arrays["word_region_cosine"][image, sentence, :count]
            assert np.allclose(word_region_cosine(reading, length, -1), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        ("method", "name"),
        [
            ("attention-words", "attention_words_to_region"),
            ("attention-cls", "attention_cls_to_region"),
            ("word-region-cosine", "word_region_cosine"),
        ],
    )
    def test_maps(self, files: Path, arrays: Arrays, method: Any, name: str) -> None:
        """From the published files to painted maps."""
        answer = load(**arguments(files, method=method)).align([film("0", 70, 90), film("1", 80, 60)], [SENTENCE] * 2)
        for image, count in enumerate(arrays["num_regions"]):
            expected = torch.from_numpy(arrays[name][image, 0, ..., :count])
            weights = expected[-1] if expected.ndim == 2 else (1 + expected) / 2
            boxes = torch.from_numpy(arrays["region_boxes7"][image, :count, :4])
            painted = raster_max(boxes * GRID, weights, GRID, GRID)
            assert torch.allclose(answer.saliency[image], painted, rtol=0, atol=1e-4)
        assert answer.global_similarity is not None
        assert np.allclose(answer.global_similarity.sigmoid(), arrays["itm_probability"][:, 0], rtol=0, atol=1e-4)

    def test_a_layer(self, files: Path, arrays: Arrays) -> None:
        first, again = (load(**arguments(files, layer=layer)) for layer in (0, -3))
        one, other = (model.align([film("0", 50, 50)], [SENTENCE]).saliency for model in (first, again))
        assert torch.equal(one, other)
        assert float(one.max()) == pytest.approx(float(arrays["attention_words_to_region"][0, 0, 0].max()), abs=1e-4)
        assert "layer 1 of 3" in first.card.saliency_method


class TestSentences:
    def test_keep_their_case(self, files: Path) -> None:
        model = load(**arguments(files))
        assert model._words.ids("Right right", 10) == [2, 8, 9, 3]

    def test_are_cut(self, files: Path) -> None:
        answer = load(**arguments(files)).align([film("0", 50, 50)] * 2, ["w5 " * 30, "w5 " * 70])
        assert torch.equal(*answer.saliency)

    @pytest.mark.parametrize("method", ["attention-words", "attention-cls", "word-region-cosine"])
    def test_without_words_have_a_map(self, files: Path, method: Any) -> None:
        answer = load(**arguments(files, method=method)).align([film("0", 50, 50)], [""])
        assert torch.isfinite(answer.saliency).all()
        assert answer.saliency.any()


class TestProtocol:
    def test_is_kept(self, files: Path, tmp_path: Path) -> None:
        ids = {instance.image_id for instance in material.dataset().instances} | {"film"}
        regions = write_regions(tmp_path / "regions", sorted(ids))
        words = sorted(
            {word for sentence in material.SENTENCES for word in sentence.replace(",", "").rstrip(".").split()}
        )
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *words]
        vocabulary += [f"w{at}" for at in range(len(vocabulary), 100)]
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
        model = load(**arguments(files, regions=regions, vocabulary=tmp_path / "vocab.txt"))
        # What the model looks at is a file: it follows no pixels.
        outcomes = {one.name: one for one in check_adapter(model)}
        assert [one for one in outcomes.values() if one.outcome == "failed"] == []

    def test_runs_a_suite(self, files: Path, tmp_path: Path, covid_lungs: Path) -> None:
        dataset = load_dataset("covid-lungs", covid_lungs)
        regions = write_regions(tmp_path / "regions", sorted({one.image_id for one in dataset.instances[:8]}))
        results = evaluate(load(**arguments(files, regions=regions)), dataset, "smoke", limit=8)
        assert results.run.model["name"] == "uniter-base + attention-words"

    def test_nothing_depends_on_the_batch(self, files: Path) -> None:
        model = load(**arguments(files))
        films, sentences = [film("0", 50, 50), film("1", 60, 40)], [SENTENCE, "w50"]
        together = model.align(films, sentences)
        for at in range(2):
            assert torch.equal(model.align(films[at:][:1], sentences[at:][:1]).saliency[0], together.saliency[at])

    def test_the_map_covers_the_whole_image(self, files: Path) -> None:
        (geometry,) = load(**arguments(files)).align([film("0", 50, 90)], [SENTENCE]).geometry
        assert geometry.visible_window == pytest.approx((0, 0, 90, 50))

    def test_regions_of_no_image_of_the_dataset(self, files: Path, covid_lungs: Path) -> None:
        with pytest.raises(WronglungError, match="none of the dataset's images, such as"):
            load(**arguments(files)).prepare(load_dataset("covid-lungs", covid_lungs))
        load(**arguments(files)).prepare(Dataset("empty", ()))


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"method": "gradcam"},
                "unknown saliency method 'gradcam'; it has attention-words, attention-cls, word-region",
            ),
            ({"layer": 3}, "layer=3: the network has layers 0 to 2"),
            ({"layer": -4}, "layer=-4"),
            ({"checkpoint": Path("nowhere.pt")}, "checkpoint nowhere.pt: no such file"),
            ({"vocabulary": Path("nowhere.txt")}, "vocabulary=nowhere.txt: no such file; .* BERT base cased"),
            ({"regions": Path("nowhere")}, "regions=nowhere: no such file or folder"),
        ],
    )
    def test_arguments(self, files: Path, given: dict[str, Any], message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            load(**arguments(files, **given))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"itm_output.bias": None}, "has no 'itm_output.bias' for UNITER with its image-text matching head"),
            ({"uniter.other": torch.zeros(1)}, "has an unknown 'uniter.other'"),
            ({"uniter.pooler.dense.bias": torch.zeros(3)}, r"'uniter.pooler.dense.bias' has shape \(3,\)"),
            ({"uniter.img_embeddings.img_linear.weight": None}, "is it the checkpoint of another model?"),
            ({"vqa_output.0.weight": torch.zeros(3)}, None),
        ],
    )
    def test_checkpoints(
        self, files: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str | None
    ) -> None:
        weights = {**torch.load(files / "uniter-base.pt", weights_only=True), **change}
        torch.save({key: one for key, one in weights.items() if one is not None}, tmp_path / "changed.pt")
        if message is None:
            read_network(tmp_path / "changed.pt", files / "config.json")
        else:
            with pytest.raises(WronglungError, match=message):
                read_network(tmp_path / "changed.pt", files / "config.json")

    def test_features_of_another_width(self, files: Path, tmp_path: Path) -> None:
        (tmp_path / "regions").mkdir()
        box = np.array([[0, 0, 1, 1]])
        np.savez(tmp_path / "regions" / "0.npz", features=np.zeros((1, 5)), norm_bb=box)
        model = load(**arguments(files, regions=tmp_path / "regions"))
        with pytest.raises(WronglungError, match="image 0: its region features have 5 columns; the network takes 64"):
            model.align([film("0", 50, 50)], [SENTENCE])


class TestRegionFiles:
    FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
    BOXES = np.array([[0, 0, 40, 20], [10, 5, 20, 30]], dtype=np.float64)

    def test_one_safetensors_file(self, tmp_path: Path) -> None:
        path = tmp_path / "regions.safetensors"
        features, boxes = torch.from_numpy(self.FEATURES).bfloat16(), torch.from_numpy(self.BOXES)
        save_file({"a/b.png/features": features, "a/b.png/boxes": boxes, "a/b.png/conf": torch.zeros(2)}, path)
        found = RegionFiles(path)
        assert "a/b.png" in found
        assert "b.png" not in found
        regions = found.read("a/b.png", (40, 50))
        assert torch.equal(regions.features, torch.from_numpy(self.FEATURES))
        assert torch.equal(regions.boxes, torch.tensor([[0, 0, 1, 0.4], [0.25, 0.1, 0.5, 0.6]]))
        assert len(found.digest) == 64

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        np.savez(tmp_path / "a" / "b.png.npz", features=self.FEATURES, boxes=self.BOXES)
        found = RegionFiles(tmp_path)
        assert torch.equal(found.read("a/b.png", (40, 50)).boxes[0], torch.tensor([0, 0, 1, 0.4]))
        before = found.digest
        np.savez(tmp_path / "c.npz", features=self.FEATURES, boxes=self.BOXES)
        assert RegionFiles(tmp_path).digest != before

    def test_a_pixel_beyond_the_image_is_clipped(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", features=self.FEATURES, boxes=self.BOXES)
        assert float(RegionFiles(tmp_path).read("x", (39, 30)).boxes.max()) == 1

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"boxes": BOXES}, "image x: has no features"),
            ({"features": FEATURES}, "image x: needs either boxes .* or norm_bb"),
            ({"features": FEATURES, "boxes": BOXES, "norm_bb": BOXES / 50}, "needs either boxes"),
            ({"features": FEATURES[0], "boxes": BOXES}, r"features has shape \(3,\)"),
            ({"features": FEATURES[:0], "boxes": BOXES[:0]}, r"features has shape \(0, 3\)"),
            ({"features": FEATURES[:1], "boxes": BOXES}, "1 features and 2 boxes"),
            ({"features": FEATURES * np.nan, "boxes": BOXES}, "features holds values that are not finite numbers"),
            ({"features": FEATURES.astype(str), "boxes": BOXES}, "features holds values that are not finite numbers"),
            ({"features": FEATURES, "boxes": BOXES[:, :3]}, r"boxes has shape \(2, 3\)"),
            (
                {"features": FEATURES, "boxes": np.hstack([BOXES, BOXES])},
                r"boxes has shape \(2, 8\); \(x1, y1, x2, y2\)",
            ),
            ({"features": FEATURES, "boxes": BOXES * 2}, "a box lies outside the image of 40 × 50 pixels"),
            ({"features": FEATURES, "boxes": BOXES - 5}, "a box lies outside the image"),
            ({"features": FEATURES, "boxes": BOXES[:, [2, 1, 0, 3]]}, "a box is empty"),
        ],
    )
    def test_arrays_that_make_no_regions(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(WronglungError, match=message):
            RegionFiles(tmp_path).read("x", (40, 50))

    def test_an_image_without_regions(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", features=self.FEATURES, boxes=self.BOXES)
        with pytest.raises(WronglungError, match="has no regions of image ../x"):
            RegionFiles(tmp_path).read("../x", (40, 50))

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", features=np.array([{}], dtype=object), boxes=self.BOXES)
        with pytest.raises(WronglungError, match=r"x.npz: cannot be read as npz"):
            RegionFiles(tmp_path).read("x", (40, 50))

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"plain text"])
    def test_damaged_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(WronglungError, match=r"x.npz: cannot be read as npz"):
            RegionFiles(tmp_path).read("x", (40, 50))
        with pytest.raises(WronglungError, match="is no safetensors file"):
            RegionFiles(tmp_path / "x.npz")

    def test_a_damaged_array(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "x.npz", features=np.random.default_rng(0).random((50, 4)), boxes=self.BOXES)
        content = (tmp_path / "x.npz").read_bytes()
        (tmp_path / "x.npz").write_bytes(content[:100] + b"\xff" * 100 + content[200:])
        with pytest.raises(WronglungError, match=r"x.npz: cannot be read as npz \(Error -3"):
            RegionFiles(tmp_path).read("x", (40, 50))

    def test_one_array_called_npz(self, tmp_path: Path) -> None:
        with (tmp_path / "x.npz").open("wb") as stream:
            np.save(stream, self.FEATURES)
        with pytest.raises(WronglungError, match=r"x.npz: cannot be read as npz \(File is not a zip file"):
            RegionFiles(tmp_path).read("x", (40, 50))

    def test_a_header_that_claims_more_than_there_is(self, tmp_path: Path) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)})
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("features.npy", header.getvalue() + bytes(80))
        with pytest.raises(WronglungError, match=r"x.npz: .*features.npy claims to be of shape \(10000000, 10000000\)"):
            RegionFiles(tmp_path).read("x", (40, 50))

    def test_a_folder_without_regions(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match=r"holds no <image id>.npz"):
            RegionFiles(tmp_path)

    def test_a_file_without_regions(self, tmp_path: Path) -> None:
        save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
        with pytest.raises(WronglungError, match="holds no tensor called <image id>/features"):
            RegionFiles(tmp_path / "x.safetensors")
