"""Grounding DINO: the library's own boxes and scores, painted; the original's preprocessing; weights as published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from published import film, write_published
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection
from transformers.image_transforms import center_to_corners_format

from wronglung import evaluate, load_dataset
from wronglung.adapters.grounding_dino import CLS, SEP, STOP, GroundingDino, ShortestWithin, load, phrase
from wronglung.adapters.preprocessing.canvas import Canvas
from wronglung.adapters.saliency.boxes import raster_max
from wronglung.benchmark.check import check_adapter
from wronglung.benchmark.conformance.material import SENTENCES
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.protocol import LoadedImage

SIZES: dict[str, Any] = {
    "model_type": "grounding-dino",
    "backbone_config": {
        "model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4],
        "window_size": 4, "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "bert", "vocab_size": 1100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 64,
    },
    "num_queries": 20, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 32, "max_text_len": 24, "num_feature_levels": 3,
}  # fmt: skip
PROCESSOR = {"image_processor_type": "GroundingDinoImageProcessor", "size": {"shortest_edge": 64, "longest_edge": 112}}


def bert_tokenizer() -> Tokenizer:
    """Whole words; special pieces and punctuation have the ids of BERT's uncased vocabulary."""
    known = {"[PAD]": 0, "[UNK]": 100, "[CLS]": CLS, "[SEP]": SEP, ".": STOP, "?": 1029, ",": 1010}
    words = sorted(set(re.findall(r"\w+", " ".join(SENTENCES).lower())))
    tokenizer = Tokenizer(models.WordLevel(known | dict(zip(words, range(200, 1000), strict=False)), "[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in the files of ``IDEA-Research/grounding-dino-tiny``."""
    torch.manual_seed(0)
    detector = GroundingDinoForObjectDetection(GroundingDinoConfig.from_dict(dict(SIZES)))
    # As drawn, they would move no box.
    torch.nn.init.normal_(detector.get_parameter("bbox_embed.0.layers.2.weight"), std=0.5)
    path = tmp_path_factory.mktemp("models") / "grounding-dino-small"
    write_published(path, {}, {}, tokenizer=bert_tokenizer(), processor=PROCESSOR)
    detector.save_pretrained(path)
    (path / "config.json").write_text(json.dumps(SIZES))
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> GroundingDino:
    return load(str(folder), grid=64)


@pytest.fixture(scope="module")
def image() -> LoadedImage:
    return film("film", 40, 90)


class TestAgainstTheLibrary:
    def test_scores_and_boxes(self, folder: Path, model: GroundingDino, image: LoadedImage) -> None:
        """What the library reports above a threshold of 0, painted one by one."""
        library: Any = GroundingDinoForObjectDetection
        detector = library.from_pretrained(folder, attn_implementation="eager").eval()
        pixels, _ = model._pipeline(image.pixels)
        ids = torch.tensor([bert_tokenizer().encode("no pneumothorax in the left lung.").ids])
        with torch.no_grad():
            out = detector(pixel_values=pixels[None], input_ids=ids)
        scores: torch.Tensor = out.logits[0].sigmoid().amax(dim=-1)
        boxes: Any = center_to_corners_format(out.pred_boxes[0])
        answer = model.align([image], ["No pneumothorax in the left lung"])
        assert torch.allclose(answer.saliency[0], raster_max(boxes * 64, scores, 64, 64), rtol=0, atol=1e-5)
        assert answer.global_similarity is not None
        assert float(answer.global_similarity) == pytest.approx(float(scores.max()), abs=1e-5)
        assert float(scores.max() - scores.min()) > 0.01

    @pytest.mark.parametrize("size", [(40, 90), (90, 40), (333, 301), (64, 100), (50, 50), (31, 200)])
    def test_pixels(self, model: GroundingDino, size: tuple[int, int]) -> None:
        """The library's processor on Pillow, as the original."""
        library = pytest.importorskip("transformers.models.grounding_dino.image_processing_pil_grounding_dino")
        processor = library.GroundingDinoImageProcessorPil(size=PROCESSOR["size"])
        pixels = film("film", *size).pixels
        expected = processor(pixels.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        found, geometry = model._pipeline(pixels)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=0, atol=1e-4)
        assert geometry.visible_window == pytest.approx((0, 0, *pixels.size))

    @given(st.integers(8, 400), st.integers(8, 400), st.integers(4, 60), st.integers(60, 120))
    def test_sizes(self, height: int, width: int, shortest: int, longest: int) -> None:
        from transformers.image_transforms import get_size_with_aspect_ratio

        expected = get_size_with_aspect_ratio((height, width), shortest, longest)
        canvas = Canvas(torch.zeros(1, height, width, dtype=torch.uint8))
        if min(expected) < 1:
            with pytest.raises(ValueError, match="too thin"):
                ShortestWithin(shortest, longest)(canvas)
        else:
            resized = ShortestWithin(shortest, longest)(canvas)
            assert (resized.height, resized.width) == expected


class TestSentences:
    @pytest.mark.parametrize(
        ("sentence", "read"),
        [("Clear lungs", "clear lungs."), ("Clear lungs. ", "clear lungs."), ("No change?", "no change?."), ("", ".")],
    )
    def test_are_lower_case_and_end_with_a_full_stop(self, sentence: str, read: str) -> None:
        assert phrase(sentence) == read

    def test_are_cut_before_the_full_stop(self, model: GroundingDino) -> None:
        ids = model._ids("lung " * 40)[0].tolist()
        assert len(ids) == SIZES["max_text_len"]
        assert (ids[0], *ids[-2:]) == (CLS, STOP, SEP)

    def test_change_the_map(self, model: GroundingDino, image: LoadedImage) -> None:
        one, other = model.align([image] * 2, SENTENCES[:2]).saliency
        assert not torch.equal(one, other)


class TestProtocol:
    def test_nothing_depends_on_the_batch(self, model: GroundingDino, image: LoadedImage) -> None:
        images = [image, film("tall", 90, 40)]
        together = model.align(images, SENTENCES[:2])
        for at in range(2):
            assert torch.equal(model.align(images[at:][:1], SENTENCES[at:][:1]).saliency[0], together.saliency[at])

    def test_is_kept(self, model: GroundingDino) -> None:
        assert [one for one in check_adapter(model) if one.outcome == "failed"] == []

    def test_runs_a_suite(self, model: GroundingDino, covid_lungs: Path) -> None:
        results = evaluate(model, load_dataset("covid-lungs", covid_lungs), "smoke", limit=8)
        assert results.run.model["name"] == "grounding-dino-small + boxes"

    def test_card(self, model: GroundingDino) -> None:
        card = model.card
        assert (card.map_kind, card.signed, card.comparable) == ("score", False, True)
        assert card.settings == {"grid": 64, "threshold": 0.0, "dtype": "float32"}
        assert card.preprocessing.startswith(
            "RGB; shortest side to 64, longest to at most 112, bilinear (Pillow); mean 0.485"
        )


class TestWeights:
    @pytest.fixture
    def copy(self, folder: Path, tmp_path: Path) -> Path:
        """A copy whose files may be changed."""
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path

    def test_names_are_those_of_the_published_files(self, folder: Path) -> None:
        names = load_file(folder / "model.safetensors")
        block = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0.attention"
        assert f"{block}.self.query.weight" in names
        assert "model.text_backbone.embeddings.word_embeddings.weight" in names

    def test_a_torch_file_with_shared_tensors_and_old_buffers(self, copy: Path, model: GroundingDino) -> None:
        """The box heads of all layers are one; old versions wrote each, and index tables besides."""
        weights = load_file(copy / "model.safetensors")
        head = {key: one for key, one in weights.items() if key.startswith("bbox_embed.0.")}
        for prefix in ("bbox_embed.1.", "model.decoder.bbox_embed.0.", "model.decoder.bbox_embed.1."):
            weights |= {prefix + key.removeprefix("bbox_embed.0."): one for key, one in head.items()}
        block = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0.attention"
        weights[f"{block}.self.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
        weights["model.text_backbone.embeddings.position_ids"] = torch.arange(64)[None]
        (copy / "model.safetensors").unlink()
        torch.save(weights, copy / "pytorch_model.bin")
        films, sentences = [film("film", 40, 90)], SENTENCES[:1]
        assert torch.equal(
            load(str(copy), grid=64).align(films, sentences).saliency, model.align(films, sentences).saliency
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model.level_embed": None}, "model.safetensors: has no 'model.level_embed' for"),
            ({"model.other": torch.zeros(1)}, "has an unknown 'model.other' for"),
            ({"model.level_embed": torch.zeros(5)}, r"'model.level_embed' has shape \(5,\), .* needs \(3, 32\)"),
        ],
    )
    def test_that_do_not_fit(self, copy: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
        from safetensors.torch import save_file

        weights = {**load_file(copy / "model.safetensors"), **change}
        save_file({key: one for key, one in weights.items() if one is not None}, copy / "model.safetensors")
        with pytest.raises(WronglungError, match=message):
            load(str(copy))

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_a_missing_file(self, copy: Path, name: str) -> None:
        (copy / name).unlink()
        with pytest.raises(WronglungError, match=name):
            load(str(copy))

    def test_another_model(self, copy: Path) -> None:
        (copy / "config.json").write_text('{"model_type": "detr"}')
        with pytest.raises(WronglungError, match=r"model_type is 'detr'"):
            load(str(copy))

    def test_a_configuration_that_makes_no_model(self, copy: Path) -> None:
        (copy / "config.json").write_text(json.dumps({**SIZES, "d_model": "wide"}))
        with pytest.raises(WronglungError, match=r"config.json: makes no GroundingDinoForObjectDetection"):
            load(str(copy))

    def test_a_processor_with_another_size(self, copy: Path) -> None:
        (copy / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 8, "width": 8}}))
        with pytest.raises(WronglungError, match=r"preprocessor_config.json: size.shortest_edge"):
            load(str(copy))

    def test_a_tokenizer_of_another_bert(self, copy: Path) -> None:
        tokenizer = json.loads((copy / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"] |= {".": 1013}
        (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises(WronglungError, match=r"makes \[101, 1013, 102\] of a full stop"):
            load(str(copy))


def test_an_image_that_is_too_thin(model: GroundingDino) -> None:
    with pytest.raises(WronglungError, match="image thin: .*too thin"):
        model.align([LoadedImage("thin", Image.fromarray(np.zeros((1, 900), dtype=np.uint8)))], ["Clear."])
