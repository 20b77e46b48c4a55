"""OWL-ViT and OWLv2: the library's own scores and boxes, painted; long sentences in parts; nothing depends on the
batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from recipes import golden_arrays, golden_manifest, recipe_state
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import Owlv2Config, Owlv2ForObjectDetection, OwlViTConfig, OwlViTForObjectDetection

from wronglung import evaluate, load_dataset
from wronglung.adapters.owl_vit import cells, load, logits, parts, query
from wronglung.adapters.saliency.boxes import raster_max
from wronglung.adapters.saliency.detection import corners
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.conformance.material import SENTENCES
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.protocol import LoadedImage

SIDE = 48
LONG = "There is lung opacity in both upper lung zones, more in the left than in the right lung, which is new."
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 16,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
    "patch_size": 8,
}  # fmt: skip


def write_vocabulary(folder: Path) -> int:
    """Byte pairs as CLIP publishes them; returns their number."""
    learned = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(vocab_size=600, end_of_word_suffix="</w>", show_progress=False)
    learned.train_from_iterator([one.lower() for one in (*SENTENCES, LONG)], trainer)
    model = json.loads(learned.to_str())["model"]
    alphabet = sorted(ByteLevel.alphabet())
    pieces = dict.fromkeys([*alphabet, *(f"{one}</w>" for one in alphabet), *model["vocab"]])
    pieces |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    (folder / "vocab.json").write_text(json.dumps({piece: at for at, piece in enumerate(pieces)}))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return len(pieces)


def write_model(folder: Path, kind: str, vision: Mapping[str, Any] = VISION) -> Path:
    """A small model with random weights, in the files of ``google/owlvit-base-patch32`` or its successor."""
    folder.mkdir()
    size = write_vocabulary(folder)
    text = {**TEXT, "vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1}
    sizes: dict[str, Any] = {"text_config": text, "vision_config": dict(vision), "projection_dim": 32}
    torch.manual_seed(0)
    model = (
        OwlViTForObjectDetection(OwlViTConfig.from_dict(sizes))
        if kind == "OwlViT"
        else Owlv2ForObjectDetection(Owlv2Config.from_dict(sizes))
    )
    for name, weights in model.named_parameters():
        # As drawn, scores would be 0, one half or 1, and boxes points or the whole frame.
        if name.startswith("class_head.logit"):
            weights.data.fill_(4 if name.endswith("scale.bias") else 0)
        elif name == "box_head.dense2.weight":
            weights.data.mul_(0.02)
    save_file({key: one.contiguous() for key, one in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**sizes, "model_type": kind.lower()}))
    processor = {"image_processor_type": f"{kind}ImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def owlvit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "owlvit", "OwlViT")


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "owlv2", "Owlv2")


def film(width: int = 60, height: int = 40) -> LoadedImage:
    levels = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    return LoadedImage("film", Image.fromarray(levels))


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, npt.NDArray[Any]]:
    return golden_arrays(shared / "golden_encoders" / "hf_owlvit")


@pytest.fixture(scope="module")
def detected(shared: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [images, cells, queries] and boxes [images, cells, 4]."""
    manifest = golden_manifest(shared / "golden_encoders" / "hf_owlvit")
    detector = OwlViTForObjectDetection(OwlViTConfig.from_dict(manifest["config"]))
    detector.load_state_dict(recipe_state(manifest["entries"]))
    detector.train(False)
    with torch.no_grad():
        vectors, boxes = cells(detector, torch.from_numpy(arrays["pixel_values"]))
        unpadded = [torch.from_numpy(ids[ids > 0])[None] for ids in arrays["input_ids"]]
        queries = torch.cat([query(detector, ids) for ids in unpadded])
    return torch.stack([logits(one, queries) for one in vectors]), boxes


class TestAgainstTheOriginal:
    """Reference numbers of transformers' class with weights by recipe."""

    def test_logits(self, detected: Any, arrays: Any) -> None:
        assert np.allclose(detected[0], arrays["logits"], rtol=0, atol=1e-4)

    def test_boxes(self, detected: Any, arrays: Any) -> None:
        assert np.allclose(detected[1], arrays["pred_boxes_cxcywh"], rtol=0, atol=1e-4)

    def test_score_grid(self, detected: Any, arrays: Any) -> None:
        grid = detected[0].sigmoid().mT.unflatten(-1, (8, 8))
        assert np.allclose(grid, arrays["score_grid"], rtol=0, atol=1e-4)

    def test_largest_score(self, detected: Any, arrays: Any) -> None:
        assert np.allclose(detected[0].sigmoid().amax(dim=1), arrays["image_score_max"], rtol=0, atol=1e-4)

    def test_painted_boxes(self, detected: Any, arrays: Any) -> None:
        height, width = arrays["raster_max"].shape[2:]
        boxes = corners(detected[1]) * torch.tensor([width, height, width, height])
        assert np.allclose(boxes, arrays["boxes_xyxy_target"], rtol=0, atol=1e-3)
        for image in range(2):
            for sentence in range(3):
                scores = detected[0][image, :, sentence].sigmoid()
                painted = raster_max(boxes[image], scores, height, width, 0.5)
                assert np.allclose(painted, arrays["raster_max"][image, sentence], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
class TestAgainstTheLibrary:
    """A folder as published, through the whole path, against the library's own class on it."""

    @pytest.fixture
    def folder(self, kind: str, request: pytest.FixtureRequest) -> Path:
        path: Path = request.getfixturevalue(kind)
        return path

    @pytest.fixture
    def expected(self, folder: Path, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [cells] and boxes [cells, 4] in shares of the frame, for the film and the first sentence."""
        library: Any = OwlViTForObjectDetection if kind == "owlvit" else Owlv2ForObjectDetection
        model = load(str(folder))
        detector = library.from_pretrained(folder).eval()
        pixels, _ = model._pipeline(film().pixels)
        with torch.no_grad():
            out = detector(input_ids=model._ids(SENTENCES[3]), pixel_values=pixels[None])
        return out.logits[0, :, 0].sigmoid(), corners(out.pred_boxes[0])

    def test_boxes(self, folder: Path, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
        scores, boxes = expected
        answer = load(str(folder), grid=64).align([film()], [SENTENCES[3]])
        assert torch.allclose(answer.saliency[0], raster_max(boxes * 64, scores, 64, 64), rtol=0, atol=1e-5)
        assert answer.global_similarity is not None
        assert float(answer.global_similarity) == pytest.approx(float(scores.max()), abs=1e-5)
        assert float(scores.max() - scores.min()) > 0.05

    def test_score_grid(self, folder: Path, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
        answer = load(str(folder), method="score-grid").align([film()], [SENTENCES[3]])
        assert torch.allclose(answer.saliency[0], expected[0].reshape(6, 6), rtol=0, atol=1e-5)

    def test_threshold(self, folder: Path, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
        answer = load(str(folder), threshold=0.99999).align([film()], [SENTENCES[3]])
        assert float(expected[0].max()) < 0.99999
        assert not answer.saliency.any()

    def test_keeps_the_protocol(self, folder: Path, kind: str) -> None:
        checks = check_adapter(load(str(folder)), rebuild=lambda dtype: load(str(folder), dtype=dtype))
        assert [one for one in checks if one.outcome == "failed"] == []

    def test_runs_a_suite(self, folder: Path, kind: str, covid_lungs: Path) -> None:
        results = evaluate(load(str(folder)), load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert results.run.model["name"] == f"{kind} + boxes"


class TestGeometry:
    def test_owlvit_squashes(self, owlvit: Path) -> None:
        (image,) = load(str(owlvit)).encode_images([film(60, 40)])
        assert image.geometry is not None
        assert image.geometry.visible_window == (0, 0, 60, 40)
        assert (image.geometry.scale_x, image.geometry.scale_y) == (SIDE / 60, SIDE / 40)

    def test_owlv2_pads_below_and_to_the_right(self, owlv2: Path) -> None:
        (image,) = load(str(owlv2)).encode_images([film(60, 40)])
        assert image.geometry is not None
        assert (image.geometry.scale_x, image.geometry.scale_y) == (SIDE / 60, SIDE / 60)
        assert (image.geometry.offset_x, image.geometry.offset_y) == (0, 0)


class TestLongSentences:
    @pytest.fixture
    def end(self, owlvit: Path) -> dict[str, torch.Tensor]:
        """By how long sentences are treated, maps of one and of another end."""
        ends = [LONG, LONG.replace("which is new", "which is normal")]
        return {long: load(str(owlvit), long=long).align([film()] * 2, ends).saliency for long in ("split", "cut")}

    def test_split_reads_to_the_end(self, end: Mapping[str, torch.Tensor]) -> None:
        assert not torch.equal(*end["split"])

    def test_cut_does_not(self, end: Mapping[str, torch.Tensor]) -> None:
        assert torch.equal(*end["cut"])

    def test_a_box_has_the_largest_score_of_the_parts(self, owlvit: Path) -> None:
        model = load(str(owlvit), method="score-grid")
        found = model._parts(LONG)
        assert found == [
            "There is lung opacity in both upper lung zones,",
            "more in the left than in the right lung, which is new.",
        ]
        separate = model.align([film()] * len(found), found)
        whole = model.align([film()], [LONG])
        assert torch.allclose(whole.saliency[0], separate.saliency.amax(dim=0), rtol=0, atol=1e-6)

    def test_a_word_beyond_the_limit_is_cut(self, owlvit: Path) -> None:
        assert torch.isfinite(load(str(owlvit)).align([film()], ["x1y2" * 20]).saliency).all()

    def test_the_end_token_is_kept(self, owlvit: Path) -> None:
        model = load(str(owlvit), long="cut")
        ids = model._ids(LONG)
        assert ids.shape == (1, 16)
        assert ids[0, -1] == ids.max()

    @given(st.lists(st.sampled_from(["a", "lung,", "opacity", "left.", "zone;", "consolidation"])), st.integers(1, 30))
    def test_parts_are_the_words_in_order(self, words: list[str], limit: int) -> None:
        sentence = " ".join(words)
        found = parts(sentence, lambda text: len(text) <= limit)
        assert " ".join(found) == sentence
        assert all(len(one) <= limit or " " not in one for one in found)
        for one, following in pairwise(found):
            fitted = f"{one} {following.split()[0]}"
            assert len(fitted) > limit or one[-1] in ",;."

    def test_a_sentence_that_fits_is_left_alone(self) -> None:
        assert parts("  No,  change. ", lambda text: True) == ["  No,  change. "]


class TestBatches:
    def test_nothing_depends_on_the_batch(self, owlvit: Path) -> None:
        model = load(str(owlvit))
        images = [film(60, 40), film(30, 90)]
        together = model.align(images, SENTENCES[:2])
        for at in range(2):
            alone = model.align(images[at : at + 1], SENTENCES[at : at + 1])
            assert torch.equal(alone.saliency[0], together.saliency[at])


class TestCard:
    def test_says_what_was_chosen(self, owlvit: Path) -> None:
        card = load(str(owlvit), method="score-grid", name="mine", long="cut").card
        assert (card.name, card.signed, card.comparable, card.map_kind) == ("mine + score-grid", False, True, "score")
        assert card.settings == {"method": "score-grid", "long": "cut", "dtype": "float32"}
        assert card.checkpoint
        assert f"squashed to {SIDE} × {SIDE}" in card.preprocessing

    def test_two_methods_are_two_models(self, owlvit: Path) -> None:
        assert load(str(owlvit)).card.name == "owlvit + boxes"
        assert load(str(owlvit), method="score-grid").card.name == "owlvit + score-grid"


class TestRefusals:
    @pytest.fixture
    def folder(self, owlvit: Path, tmp_path: Path) -> Path:
        """A copy whose files may be changed."""
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in owlvit.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        return copy

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"method": "gradcam"}, "unknown saliency method 'gradcam'; it has boxes, score-grid"),
            ({"long": "fold"}, "long='fold': must be split or cut"),
            ({"grid": 0}, "grid=0: must be at least 1"),
            ({"threshold": 1.0}, "threshold=1.0: must be at least 0 and less than 1"),
        ],
    )
    def test_arguments(self, owlvit: Path, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            load(str(owlvit), **arguments)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json"])
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(WronglungError, match=name):
            load(str(folder))

    def test_another_model(self, folder: Path) -> None:
        (folder / "config.json").write_text('{"model_type": "clip"}')
        with pytest.raises(WronglungError, match="'clip'; this adapter reads 'owlvit' and 'owlv2'"):
            load(str(folder))

    def test_another_image_size(self, folder: Path) -> None:
        processor = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "size": {"height": 32, "width": 32}}))
        with pytest.raises(WronglungError, match="preprocessor_config.json: .* 48 × 48"):
            load(str(folder))

    def test_a_tokenizer_whose_end_is_not_its_largest_id(self, folder: Path) -> None:
        vocabulary = json.loads((folder / "vocab.json").read_text())
        start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
        swapped = {**vocabulary, "<|startoftext|>": end, "<|endoftext|>": start}
        (folder / "vocab.json").write_text(json.dumps(swapped))
        with pytest.raises(WronglungError, match="does not end sentences with its largest id"):
            load(str(folder))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"class_head.dense0.bias": None}, "has no 'class_head.dense0.bias'"),
            ({"class_head.dense9.bias": torch.zeros(1)}, "unknown 'class_head.dense9.bias'"),
            (
                {"class_head.dense0.bias": torch.zeros(3)},
                r"'class_head.dense0.bias' has shape \(3,\), .* needs \(32,\)",
            ),
        ],
    )
    def test_weights_that_do_not_fit(self, folder: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
        from safetensors.torch import load_file

        weights = {**load_file(folder / "model.safetensors"), **change}
        save_file({key: one for key, one in weights.items() if one is not None}, folder / "model.safetensors")
        with pytest.raises(WronglungError, match=message):
            load(str(folder))

    def test_an_image_without_an_8_bit_reading(self, owlvit: Path) -> None:
        with pytest.raises(WronglungError, match="image film: "):
            load(str(owlvit)).encode_images([LoadedImage("film", Image.new("F", (20, 20)))])


def test_weights_as_the_hub_first_had_them(owlvit: Path, tmp_path: Path) -> None:
    """A torch file with the position ids that old versions wrote."""
    from safetensors.torch import load_file

    for path in owlvit.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(owlvit / "model.safetensors")
    weights["owlvit.text_model.embeddings.position_ids"] = torch.arange(16)[None]
    torch.save(weights, tmp_path / "pytorch_model.bin")
    ours, theirs = (load(str(folder)).align([film()], [LONG]).saliency for folder in (tmp_path, owlvit))
    assert torch.equal(ours, theirs)
