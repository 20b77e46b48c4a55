"""The conformance checks on networks: shipped ones, trained ones, and such of random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wronglung import load_model
from wronglung.benchmark.check import check_named
from wronglung.benchmark.conformance import material
from wronglung.benchmark.conformance.moving_patch import geometry
from wronglung.benchmark.conformance.polarity import polarity
from wronglung.benchmark.conformance.subject import Subject
from wronglung.benchmark.geometry import Geometry
from wronglung.benchmark.protocol import Alignment, LoadedImage, ModelCard

pytestmark = pytest.mark.usefixtures("one_thread")


def subject(model: Any) -> Subject:
    return Subject(model, [image for image, _ in material.sketches()], list(material.SENTENCES), tolerance=1e-4)


def random_vit(patch: int, layers: int, values: bool) -> Any:
    """A CLIP vision transformer of random weights: last tokens, or the values of the last block, against a vector."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4, image_size=112,
        patch_size=patch, projection_dim=24,
    )  # fmt: skip
    network: Any = CLIPVisionModelWithProjection(config)
    network.eval()
    text = torch.randn(24)

    class Vit:
        card = ModelCard(name="vit", saliency_method="cosine", map_kind="score", mass="softmax")

        def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
            maps, where = [], []
            for image in images:
                square = np.asarray(image.pixels.convert("L").resize((112, 112)))
                levels = torch.tensor(square, dtype=torch.float32) / 127.5 - 1
                vision = network.vision_model
                out = vision(levels.expand(1, 3, -1, -1), output_hidden_states=True)
                tokens = out.last_hidden_state
                if values:
                    last = vision.encoder.layers[-1]
                    value = last.self_attn.v_proj(last.layer_norm1(out.hidden_states[-2]))
                    tokens = last.self_attn.out_proj(value)
                patches = network.visual_projection(vision.post_layernorm(tokens[0, 1:]))
                side = 112 // patch
                maps.append(torch.cosine_similarity(patches, text, dim=-1).reshape(side, side))
                where.append(Geometry.squash(*image.pixels.size, 112, 112))
            return Alignment(torch.stack(maps), where)

    return Vit()


@pytest.mark.parametrize(("patch", "layers", "values"), [(16, 2, False), (16, 6, True), (28, 3, False)])
def test_transformers_of_random_weights_do_not_fail_the_geometry(patch: int, layers: int, values: bool) -> None:
    assert geometry(subject(random_vit(patch, layers, values))).outcome == "passed"


SHIPPED = ("uniform", "center-prior", "random", "text-blind", "oracle", "mirrored-oracle")
TRAINED = ("retrained", "abnormal", "masking", "no-attention", "word-masking")


@pytest.mark.parametrize("name", SHIPPED)
def test_floors_and_ceilings_fail_nothing(name: str) -> None:
    assert [one for one in check_named(name, device="cpu") if one.outcome == "failed"] == []


def variant(name: str) -> Any:
    return load_model(f"gloria-phantom-{name}", device="cpu")


def test_a_trained_network_passes_every_check() -> None:
    checks = check_named("gloria-phantom-retrained", device="cpu")
    assert {one.outcome for one in checks} == {"passed"}


@pytest.mark.parametrize("name", [*TRAINED, "random-sentences"])
def test_a_trained_network_shows_its_geometry_on_eight_by_eight_cells(name: str) -> None:
    assert geometry(subject(variant(name))).outcome == "passed"


def test_a_network_of_random_weights_fails_nothing(
    tiny_weights: dict[str, torch.Tensor], tiny_bert: Path, tmp_path: Path
) -> None:
    torch.save(tiny_weights, tmp_path / "tiny.pt")
    checks = check_named("gloria", device="cpu", checkpoint=str(tmp_path / "tiny.pt"), bert=str(tiny_bert))
    assert [one for one in checks if one.outcome == "failed"] == []


class TestPolarity:
    @pytest.mark.parametrize("name", TRAINED)
    def test_what_understands_the_films_is_judged(self, name: str) -> None:
        assert polarity(subject(variant(name))).outcome == "passed"

    def test_what_understands_nothing_is_not(self) -> None:
        verdict = polarity(subject(variant("random-sentences")))
        assert verdict.outcome == "not shown"
        assert "does not understand" in verdict.detail

    @pytest.mark.parametrize("name", ["retrained", "no-attention"])
    def test_a_negated_map_fails(self, name: str) -> None:
        model = variant(name)
        align = model.align_features
        model.align_features = lambda *pair: replace(one := align(*pair), saliency=one.saliency.amax() - one.saliency)
        verdict = polarity(subject(model))
        assert verdict.outcome == "failed"
        assert "avoids its boxes" in verdict.detail

    def test_a_model_without_similarities_shows_a_figure_only(self) -> None:
        model = load_model("mirrored-oracle")
        model.prepare(material.dataset())
        verdict = polarity(subject(model))
        assert verdict.outcome == "not shown"
        assert "AUROC 0.4" in verdict.detail

    def test_films_are_of_as_many_patients_with_sentences_of_their_own(self) -> None:
        instances = [instance for _, instance in material.findings()]
        assert len({one.patient_id for one in instances}) == len({one.sentence for one in instances}) == 24
