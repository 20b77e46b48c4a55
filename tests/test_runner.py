"""What a run asks of a model, what it makes of the answers, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from wronglung import (
    Alignment,
    Dataset,
    Features,
    Geometry,
    ModelCard,
    evaluate,
    load_dataset,
    load_model,
    load_suite,
)
from wronglung.benchmark import scoring
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, ImageRef, Instance
from wronglung.benchmark.metrics import ranking
from wronglung.benchmark.protocol import AdapterError, LoadedImage
from wronglung.benchmark.results import INSTANCES
from wronglung.tasks.schema import Protocol, SuiteSpec

CARD = ModelCard(name="fake", saliency_method="hash", map_kind="distribution")
GRID = 6


def noise(*keys: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256("\0".join(keys).encode()).digest()[:8])
    return torch.from_numpy(np.random.default_rng(seed).random(GRID * GRID)).float()


class FakeDual:
    """A dual encoder whose maps depend on image and sentence, and which counts what it is asked for."""

    def __init__(self, card: ModelCard = CARD, no_attention: bool = False) -> None:
        self.card = card
        self.no_attention = no_attention
        self.images: Counter[str] = Counter()
        self.sentences: Counter[str] = Counter()
        self.pairs = 0
        self.largest_batch = 0

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        self.largest_batch = max(self.largest_batch, len(images))
        self.images.update(image.id for image in images)
        return [
            Features({"grid": noise(one.id), "global": noise(one.id)[:4]}, Geometry.squash(*one.pixels.size, 64, 64))
            for one in images
        ]

    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        self.sentences.update(sentences)
        return [Features({"words": noise(one), "global": noise(one)[:4]}) for one in sentences]

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        self.pairs += len(images)
        maps = [i.tensors["grid"] * s.tensors["words"] + 0.01 for i, s in zip(images, sentences, strict=True)]
        glob = [float(i.tensors["global"] @ s.tensors["global"]) for i, s in zip(images, sentences, strict=True)]
        saliency = torch.stack([one / one.sum() for one in maps]).view(-1, GRID, GRID)
        weight = torch.full((len(images),), 0.25) if self.no_attention else None
        return Alignment(
            saliency * (0.75 if self.no_attention else 1),
            [image.geometry for image in images if image.geometry is not None],
            local_similarity=torch.stack([one.max() for one in maps]),
            global_similarity=torch.tensor(glob),
            no_attention_weight=weight,
        )

    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        return torch.tensor([[float(i.tensors["global"] @ s.tensors["global"]) for s in sentences] for i in images])


class FakePaired:
    """The same model as a plain alignment model."""

    def __init__(self, change: Callable[[Alignment], Any] = lambda alignment: alignment) -> None:
        self.card = CARD
        self._dual = FakeDual()
        self._change = change

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Any:
        alignment = self._dual.align_features(self._dual.encode_images(images), self._dual.encode_sentences(sentences))
        return self._change(alignment)


def suite(**changes: Any) -> SuiteSpec:
    return load_suite("wrong-lung").model_copy(update=changes)


def parquet(frame: pd.DataFrame, folder: Path) -> bytes:
    path = folder / INSTANCES
    frame.to_parquet(path, index=False)
    return path.read_bytes()


def reordered(dataset: Dataset, seed: int = 0) -> Dataset:
    members = list(dataset.instances)
    random.Random(seed).shuffle(members)
    return dataclasses.replace(dataset, instances=tuple(members))


def cell(run: Any, task: str, metric: str, subset: str = "all") -> Any:
    found = [s for s in run.run.scores if (s.task, s.metric, s.subset) == (task, metric, subset)]
    assert len(found) == 1
    return found[0]


class TestEconomy:
    def test_each_image_and_each_sentence_is_encoded_once(self, sketch: Dataset) -> None:
        model = FakeDual()
        results = evaluate(model, sketch, "wrong-lung")
        assert set(model.images.values()) == {1}
        assert set(model.sentences.values()) == {1}
        assert len(model.images) == results.run.manifest.encoded_images == 12
        assert len(model.sentences) == results.run.manifest.encoded_sentences

    def test_each_distinct_pair_is_aligned_and_ranked_once(
        self, sketch: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ranked: list[Any] = []

        def counted(pixels: Any, masks: Any) -> ranking.Ranking:
            ranked.append(pixels)
            return ranking.rank(pixels, masks)

        monkeypatch.setattr(scoring, "rank", counted)
        model = FakeDual()
        results = evaluate(model, sketch, "wrong-lung")
        pairs = results.instances.groupby("image_id")["sentence_sha256"].nunique().sum()
        assert model.pairs == pairs == len(ranked) == results.run.manifest.aligned_pairs
        assert pairs < len(results.instances)

    def test_a_batch_may_hold_more_images_than_a_chunk(self, tmp_path: Path) -> None:
        dataset = load_dataset("jsonl", write_sketch(tmp_path, patients=40))
        model = FakeDual()
        evaluate(model, dataset, "smoke", batch_size=30)
        assert model.largest_batch == 30

    def test_exhaustive_selection_encodes_nothing_twice(self, sketch: Dataset) -> None:
        model = FakeDual()
        metrics = ("selection_accuracy_local_exhaustive", "selection_accuracy_global_exhaustive")
        evaluate(model, sketch, suite(metrics=metrics, correlations=()))
        assert set(model.images.values()) == set(model.sentences.values()) == {1}

    def test_memory_does_not_grow_with_the_maps_of_a_chunk(self, sketch: Dataset) -> None:
        """At most one ranking of a map is alive at a time."""
        alive, most = 0, 0

        class Counted(ranking.Ranking):
            def __init__(self, *fields: Any) -> None:
                nonlocal alive, most
                super().__init__(*fields)
                alive += 1
                most = max(most, alive)

            def __del__(self) -> None:
                nonlocal alive
                alive -= 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "Ranking", Counted)
            evaluate(FakeDual(), sketch, "wrong-lung")
        assert most in (1, 2)
        assert alive == 0

    def test_a_box_task_costs_no_alignment(self, sketch: Dataset) -> None:
        spec = suite()
        boxes = [task for task in spec.tasks if task.name not in ("shuffle_boxes", "random_boxes")]
        with_boxes, without = FakeDual(), FakeDual()
        evaluate(with_boxes, sketch, spec)
        evaluate(without, sketch, suite(tasks=tuple(boxes)))
        assert with_boxes.pairs == without.pairs


class TestSameBytes:
    @pytest.mark.parametrize("model", ["uniform", "center-prior", "random", "text-blind", "oracle", "mirrored-oracle"])
    def test_whatever_the_batch_size_and_the_order(self, model: str, sketch: Dataset, tmp_path: Path) -> None:
        one = evaluate(load_model(model), sketch, "wrong-lung", batch_size=1)
        other = evaluate(load_model(model), reordered(sketch), "wrong-lung", batch_size=64)
        assert parquet(one.instances, tmp_path) == parquet(other.instances, tmp_path)
        assert one.run.scores == other.run.scores
        assert one.run.correlations == other.run.correlations
        assert one.run.dataset.fingerprint == other.run.dataset.fingerprint

    def test_paired_path_equals_dual_path(self, sketch: Dataset) -> None:
        # Only the dual encoder has an exhaustive selection accuracy.
        spec = suite(metrics=tuple(m for m in load_suite("wrong-lung").metrics if "exhaustive" not in m))
        assert evaluate(FakeDual(), sketch, spec).run.scores == evaluate(FakePaired(), sketch, spec).run.scores

    def test_a_limited_run_has_the_values_of_the_full_run(self, sketch: Dataset) -> None:
        full = evaluate(FakeDual(), sketch, "wrong-lung")
        part = evaluate(FakeDual(), sketch, "wrong-lung", limit=7)
        ids = part.instances["instance_id"].unique().tolist()
        assert len(ids) == 7
        assert part.run.dataset.limit == 7
        expected = full.instances[full.instances["instance_id"].isin(ids)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.instances, expected, check_exact=True)

    def test_the_seed_changes_the_draws(self, sketch: Dataset) -> None:
        one, other = (evaluate(FakeDual(), sketch, "smoke", seed=seed) for seed in (0, 1))
        assert cell(one, "original", "auroc").value == cell(other, "original", "auroc").value
        assert cell(one, "random_sentences", "auroc").value != cell(other, "random_sentences", "auroc").value

    def test_a_model_may_reuse_its_output_buffer(self, sketch: Dataset) -> None:
        class Reusing(FakeDual):
            buffer = torch.empty(64, GRID, GRID)

            def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
                alignment = super().align_features(images, sentences)
                mine = self.buffer[: len(images)]
                mine.copy_(alignment.saliency)
                return dataclasses.replace(alignment, saliency=mine)

        for size in (1, 4, 64):
            reused = evaluate(Reusing(), sketch, "smoke", batch_size=size, save_maps=True)
            plain = evaluate(FakeDual(), sketch, "smoke", save_maps=True)
            pd.testing.assert_frame_equal(reused.instances, plain.instances, check_exact=True)
            assert reused.maps is not None
            assert plain.maps is not None
            assert all(torch.equal(reused.maps[key], plain.maps[key]) for key in plain.maps)


class TestOutOfMemory:
    def test_halves_the_batch_and_gives_the_same_rows(self, sketch: Dataset) -> None:
        class Tight(FakeDual):
            def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
                if len(images) > 3:
                    raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
                return super().align_features(images, sentences)

        roomy, tight = evaluate(FakeDual(), sketch, "wrong-lung"), evaluate(Tight(), sketch, "wrong-lung")
        pd.testing.assert_frame_equal(roomy.instances, tight.instances, check_exact=True)
        assert (roomy.run.manifest.batch_size, tight.run.manifest.batch_size) == (16, 2)

    def test_gives_up_on_a_batch_of_one(self, sketch: Dataset) -> None:
        class Full(FakeDual):
            def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
                raise MemoryError

        with pytest.raises(WronglungError, match="out of memory with a batch of one"):
            evaluate(Full(), sketch, "smoke")


class TestKnownValues:
    def test_what_ignores_the_text_does_not_move_with_it(self, sketch: Dataset) -> None:
        for name in ("uniform", "center-prior", "text-blind"):
            results = evaluate(load_model(name), sketch, "wrong-lung")
            for task in ("swap_left_right", "random_sentences", "swap_conditions"):
                for metric in ("auroc", "average_precision", "iou@10", "entropy"):
                    assert cell(results, task, metric).delta == 0
            assert cell(results, "random_sentences", "random_attention_kl").value == 0

    def test_uniform_is_at_chance(self, sketch: Dataset) -> None:
        results = evaluate(load_model("uniform"), sketch, "wrong-lung")
        assert cell(results, "original", "auroc").value == 0.5
        assert cell(results, "original", "entropy").value == pytest.approx(math.log(28 * 28), abs=1e-6)
        base = results.instances[results.instances["task"] == "original"]
        np.testing.assert_allclose(base["average_precision"], base["precision@10"], atol=1e-12)

    def test_the_oracle_is_at_its_ceiling_and_falls_when_sides_are_swapped(self, sketch: Dataset) -> None:
        results = evaluate(load_model("oracle"), sketch, "wrong-lung")
        assert cell(results, "original", "auroc", "one_lung").value > 0.99
        assert cell(results, "original", "average_precision", "one_lung").value > 0.95
        assert cell(results, "swap_left_right", "auroc", "one_lung").delta < -0.4

    def test_the_mirrored_oracle_is_the_oracle_on_swapped_sentences(self, sketch: Dataset) -> None:
        oracle = evaluate(load_model("oracle"), sketch, "wrong-lung")
        mirrored = evaluate(load_model("mirrored-oracle"), sketch, "wrong-lung")
        swapped = cell(oracle, "swap_left_right", "auroc", "one_lung")
        assert cell(mirrored, "original", "auroc", "one_lung").value == pytest.approx(swapped.value, abs=1e-12)
        assert swapped.value < 0.5

    def test_selection_accuracy_over_all_sentences_equals_the_naive_loop(self, sketch: Dataset) -> None:
        model = FakeDual()
        spec = suite(metrics=(*load_suite("wrong-lung").metrics, "selection_accuracy_local_exhaustive"))
        results = evaluate(model, sketch, spec)
        frame = results.instances[results.instances["task"] == "original"].set_index("instance_id")
        for one in sketch.instances:
            image = LoadedImage(one.image_id, one.image.load())
            strangers = [other for other in sketch.instances if other.patient_id != one.patient_id]
            asked = [one.sentence, *(other.sentence for other in strangers)]
            alignment = FakePaired().align([image] * len(asked), asked)
            for kind in ("local", "global"):
                own, *others = getattr(alignment, f"{kind}_similarity").tolist()
                expected = np.mean([1.0 if own > other else 0.5 if own == other else 0.0 for other in others])
                assert frame.loc[one.id, f"selection_accuracy_{kind}_exhaustive"] == pytest.approx(expected)

    def test_no_attention_weight_counts_as_a_region(self, sketch: Dataset) -> None:
        plain = evaluate(FakeDual(), sketch, "wrong-lung")
        opted = evaluate(FakeDual(no_attention=True), sketch, "wrong-lung")
        assert cell(plain, "original", "no_attention_weight").value is None
        assert cell(opted, "original", "no_attention_weight").value == 0.25
        mixing = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
        expected = 0.75 * cell(plain, "original", "entropy").value + mixing
        assert cell(opted, "original", "entropy").value == pytest.approx(expected, abs=1e-5)

    def test_draws_are_averaged_within_the_instance(self, sketch: Dataset) -> None:
        protocol = Protocol(draws=3)
        three = evaluate(FakeDual(), sketch, suite(protocol=protocol)).instances
        assert len(three) == len(evaluate(FakeDual(), sketch, "wrong-lung").instances)
        wins = three.loc[three["task"] == "random_sentences", "selection_accuracy_local"]
        assert set((wins * 6).round(6)) - {0.0, 6.0}
        assert set((wins * 6).round(6)) <= {float(sixth) for sixth in range(7)}

    def test_deltas_are_means_of_differences(self, sketch: Dataset) -> None:
        results = evaluate(FakeDual(), sketch, "wrong-lung")
        rows = results.instances
        base = rows[rows["task"] == "original"].set_index("instance_id")
        swap = rows[rows["task"] == "swap_left_right"].set_index("instance_id")
        difference = swap["auroc"] - base["auroc"]
        score = cell(results, "swap_left_right", "auroc")
        assert score.delta == pytest.approx(difference.mean(), abs=1e-12)
        assert score.delta_changed == pytest.approx(difference[swap["changed"]].mean(), abs=1e-12)
        assert score.n_changed == int(swap["changed"].sum()) < score.n_instances
        assert (difference[~swap["changed"]] == 0).all()
        assert score.delta_ci_low < score.delta < score.delta_ci_high


class TestUndefined:
    def test_boxes_outside_the_visible_window_have_no_value_but_a_reason(self, sketch: Dataset) -> None:
        class Blinkered(FakeDual):
            """Sees the top tenth of the film only."""

            def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
                encoded = super().encode_images(images)
                sizes = [image.pixels.size for image in images]
                return [
                    Features(one.tensors, Geometry(w, h, 64, 64, 64 / w, 640 / h))
                    for one, (w, h) in zip(encoded, sizes, strict=True)
                ]

        results = evaluate(Blinkered(), sketch, "smoke")
        assert set(results.instances["undefined"]) == {"boxes_outside_visible_window"}
        score = cell(results, "original", "auroc")
        assert score.value is None
        assert score.n_undefined == score.n_instances == len(sketch.instances)
        assert cell(results, "original", "entropy").value is not None

    def test_an_instance_without_findings_has_no_synthetic_sentence(self, sketch: Dataset) -> None:
        bare = dataclasses.replace(sketch.instances[0], findings=())
        dataset = dataclasses.replace(sketch, instances=(bare, *sketch.instances[1:]))
        results = evaluate(FakeDual(), dataset, "wrong-lung")
        rows = results.instances[results.instances["instance_id"] == bare.id].set_index("task")
        assert rows.loc[["synthetic", "swap_conditions"], "undefined"].tolist() == ["not_applicable"] * 2
        assert rows.loc["synthetic", ["auroc", "entropy"]].isna().all()
        assert cell(results, "synthetic", "auroc").n_undefined == 1

    def test_a_dataset_without_findings_says_that_abnormal_does_not_apply(self, sketch: Dataset) -> None:
        bare = tuple(dataclasses.replace(one, findings=()) for one in sketch.instances)
        results = evaluate(FakeDual(), dataclasses.replace(sketch, instances=bare), "wrong-lung")
        assert results.run.dataset.subsets["abnormal"] is None
        assert cell(results, "original", "auroc", "abnormal").value is None
        assert cell(results, "synthetic", "auroc").value is None

    def test_a_divergence_that_is_infinite_is_undefined(self, sketch: Dataset) -> None:
        results = evaluate(load_model("oracle"), sketch, "wrong-lung-released")
        rows = results.instances[results.instances["task"] == "random_sentences"]
        assert not np.isinf(rows["random_attention_kl"]).any()
        gone = rows["random_attention_kl"].isna()
        assert gone.any()
        assert set(rows.loc[gone, "undefined"]) == {"divergence_not_finite"}
        assert cell(results, "random_sentences", "random_attention_kl").n_undefined == gone.sum()

    def test_a_map_without_mass_has_no_entropy(self, sketch: Dataset) -> None:
        zero = FakePaired(lambda a: dataclasses.replace(a, saliency=torch.zeros_like(a.saliency)))
        results = evaluate(zero, sketch, "smoke")
        assert set(results.instances["undefined"]) == {"map_without_mass"}
        assert cell(results, "original", "auroc").value == 0.5
        assert cell(results, "original", "entropy").value is None

    def test_score_maps_have_an_entropy_in_the_released_suite_too(self, sketch: Dataset) -> None:
        model = FakePaired(lambda a: dataclasses.replace(a, saliency=a.saliency - 0.02))
        model.card = ModelCard(name="scores", saliency_method="x", map_kind="score", mass="softmax", temperature=0.1)
        value = cell(evaluate(model, sketch, "wrong-lung-released"), "original", "entropy").value
        assert 0 < value <= math.log(GRID * GRID)

    def test_lower_case_alone_is_no_change(self, sketch: Dataset) -> None:
        sides = sum("left" in one.sentence.lower() or "right" in one.sentence.lower() for one in sketch.instances)
        for name in ("wrong-lung", "wrong-lung-released"):
            assert cell(evaluate(FakeDual(), sketch, name), "swap_left_right", "auroc").n_changed == sides


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: dataclasses.replace(a, saliency=a.saliency.fill_(math.nan)), "not finite .* for instance p0"),
            (lambda a: dataclasses.replace(a, saliency=-a.saliency), "negative saliency .* for instance p0"),
            (lambda a: dataclasses.replace(a, saliency=a.saliency[:, 0]), r"has shape \(16, 6\); 16 pairs need"),
            (lambda a: dataclasses.replace(a, saliency=a.saliency[1:]), r"has shape \(15, 6, 6\)"),
            (lambda a: dataclasses.replace(a, saliency=a.saliency.int()), "floating-point"),
            (lambda a: dataclasses.replace(a, geometry=None), "no geometry for each pair"),
            (lambda a: dataclasses.replace(a, geometry=a.geometry[1:]), "no geometry for each pair"),
            (
                lambda a: dataclasses.replace(a, geometry=[Geometry.squash(5, 5, 64, 64)] * 16),
                "is that of an image of 5 × 5 pixels",
            ),
            (lambda a: dataclasses.replace(a, local_similarity=torch.zeros(2)), "local_similarity has shape"),
            (
                lambda a: dataclasses.replace(a, global_similarity=torch.full((16,), math.inf)),
                "global_similarity is not finite",
            ),
            (lambda a: dataclasses.replace(a, saliency=a.saliency / a.saliency.max() * 3e38), "has values beyond"),
            (
                lambda a: dataclasses.replace(a, no_attention_weight=torch.full((16,), 1.5)),
                r"no_attention_weight must lie in \[0, 1\]",
            ),
            (lambda a: a.saliency, "returned Tensor; return a wronglung.Alignment"),
            (lambda a: {"a": 0}["missing"], "failed for instance p0.* and 15 more in the batch: KeyError"),
        ],
    )
    def test_names_what_an_adapter_did_wrong(
        self, change: Callable[[Alignment], Any], message: str, sketch: Dataset
    ) -> None:
        with pytest.raises(AdapterError, match=f"^model 'fake'.*{message}"):
            evaluate(FakePaired(change), sketch, "smoke")

    def test_score_maps_may_be_negative(self, sketch: Dataset) -> None:
        model = FakePaired(lambda a: dataclasses.replace(a, saliency=a.saliency - 0.02))
        model.card = ModelCard(name="scores", saliency_method="x", map_kind="score", mass="softmax", temperature=0.1)
        shifted = evaluate(model, sketch, "smoke")
        plain = evaluate(FakePaired(), sketch, "smoke")
        assert cell(shifted, "original", "auroc").value == pytest.approx(
            cell(plain, "original", "auroc").value, abs=1e-4
        )
        assert cell(shifted, "original", "entropy").value > 0

    def test_features_must_match_the_items(self, sketch: Dataset) -> None:
        class Short(FakeDual):
            def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
                return super().encode_sentences(sentences)[1:]

        with pytest.raises(AdapterError, match="encode_sentences must return one wronglung.Features per item"):
            evaluate(Short(), sketch, "smoke")

    def test_global_similarities_are_checked(self, sketch: Dataset) -> None:
        class Numpy(FakeDual):
            def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> Any:
                return super().global_similarity_matrix(images, sentences).numpy()

        class Failing(FakeDual):
            def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> Any:
                raise ZeroDivisionError

        class Half(FakeDual):
            def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
                return [Features({"grid": one.tensors["grid"]}, one.geometry) for one in super().encode_images(images)]

        for model, message in (
            (Numpy(), "must return a finite tensor of shape"),
            (Failing(), "failed for the global similarities"),
        ):
            with pytest.raises(AdapterError, match=message):
                evaluate(model, sketch, "wrong-lung")
        with pytest.raises(AdapterError, match="give it to both or neither|KeyError"):
            evaluate(Half(), sketch, "wrong-lung")

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"limit": 0}, "limit must be"), ({"batch_size": -1}, "batch_size must be"), ({"seed": -1}, "seed must be")],
    )
    def test_options_out_of_range(self, options: dict[str, int], message: str, sketch: Dataset) -> None:
        with pytest.raises(WronglungError, match=f"{message} at least"):
            evaluate(FakeDual(), sketch, "smoke", **options)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("model", "message"), [(object(), "has no `card`"), (type("M", (), {"card": CARD})(), "is no alignment model")]
    )
    def test_refuses_what_is_no_model(self, model: object, message: str, sketch: Dataset) -> None:
        with pytest.raises(AdapterError, match=message):
            evaluate(model, sketch, "smoke")

    def test_an_image_that_cannot_be_decoded_is_skipped_and_reported(self, sketch: Dataset, tmp_path: Path) -> None:
        broken = sketch.instances[0].image_id
        cut = tmp_path / "cut.png"
        cut.write_bytes(sketch.instances[0].image.path.read_bytes()[:2000])
        members = tuple(
            dataclasses.replace(one, image=dataclasses.replace(one.image, path=cut)) if one.image_id == broken else one
            for one in sketch.instances
        )
        whole = evaluate(FakeDual(), sketch, "smoke")
        rest = evaluate(FakeDual(), dataclasses.replace(sketch, instances=members), "smoke")
        expected = whole.instances[whole.instances["image_id"] != broken].reset_index(drop=True)
        pd.testing.assert_frame_equal(rest.instances, expected, check_exact=True)
        assert rest.run.dataset.skipped == {"image_unreadable": 1}
        assert str(cut) in rest.skipped[0].detail

    def test_a_run_without_a_readable_image_is_refused(self, sketch: Dataset, tmp_path: Path) -> None:
        gone = tuple(
            dataclasses.replace(one, image=dataclasses.replace(one.image, path=tmp_path / "gone.png"))
            for one in sketch.instances
        )
        with pytest.raises(WronglungError, match="none of its images can be read.*gone.png"):
            evaluate(FakeDual(), dataclasses.replace(sketch, instances=gone), "smoke")

    def test_empty_dataset_and_doubled_ids_and_empty_subsets(self, sketch: Dataset) -> None:
        with pytest.raises(WronglungError, match="holds no instance"):
            evaluate(FakeDual(), dataclasses.replace(sketch, instances=()), "smoke")
        twice = dataclasses.replace(sketch, instances=(*sketch.instances, sketch.instances[3]))
        with pytest.raises(WronglungError, match="instance id 'p001-0' occurs more than once"):
            evaluate(FakeDual(), twice, "smoke")
        other = dataclasses.replace(sketch.instances[5].image, id=sketch.instances[0].image_id)
        mixed = (*sketch.instances[:5], dataclasses.replace(sketch.instances[5], image=other))
        with pytest.raises(WronglungError, match="two images have the id"):
            evaluate(FakeDual(), dataclasses.replace(sketch, instances=mixed), "smoke")
        hearts = tuple(one for one in sketch.instances if one.id.endswith("-2"))
        only = suite(subsets=tuple(s for s in load_suite("wrong-lung").subsets if s.name == "one_lung"))
        with pytest.raises(WronglungError, match="no instance belongs to any subset"):
            evaluate(FakeDual(), dataclasses.replace(sketch, instances=hearts), only)


def test_maps_are_kept_on_request(sketch: Dataset) -> None:
    results = evaluate(FakeDual(), sketch, "smoke", save_maps=True)
    assert results.maps is not None
    rows = results.instances
    assert set(results.maps) == set(rows["image_id"] + "/" + rows["sentence_sha256"])
    assert all(one.shape == (GRID, GRID) for one in results.maps.values())


def test_image_frame_ranks_unseen_pixels_last(sketch: Dataset) -> None:
    """A model that sees only the left half of the film cannot do better than chance on boxes in the right half."""

    class LeftHalf(FakeDual):
        def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
            encoded = super().encode_images(images)
            return [
                Features(one.tensors, Geometry(*image.pixels.size, 64, 64, 128 / image.pixels.width, 0.2))
                for one, image in zip(encoded, images, strict=True)
            ]

    results = evaluate(LeftHalf(), sketch, suite(protocol=Protocol(frame="image")))
    rows = results.instances[results.instances["task"] == "original"].set_index("instance_id")
    lefts = [one.id for one in sketch.instances if {box.name for box in one.boxes} == {"left lung"}]
    assert lefts
    assert set(rows.loc[lefts, "undefined"]) == {"contrast_not_defined"}
    assert (rows.loc[lefts, "auroc"] < 0.5).all()


def jpeg_dataset(folder: Path, size: tuple[int, int] = (801, 640)) -> Dataset:
    """Two JPEG films with a bright half, and a sentence on each half."""
    instances = []
    for number in range(2):
        film = Image.new("L", size, 40)
        film.paste(200, (0, 0, size[0] // 2, size[1]))
        film.save(folder / f"{number}.jpg", quality=95)
        image = ImageRef(f"i{number}", folder / f"{number}.jpg", *size)
        half = Box("right lung", 0, 0, size[0] / 2, size[1])
        instances += [Instance(f"{number}-{at}", image, text, (half,)) for at, text in enumerate(("Right.", "Bright."))]
    return Dataset("films", tuple(instances))


class Bright:
    """The film itself, squashed to 20 × 20."""

    card = ModelCard(name="bright", saliency_method="grey levels", map_kind="distribution")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        self.sizes += [image.pixels.size for image in images]
        maps = [np.asarray(image.pixels.convert("L").resize((20, 20)), dtype=np.float32) for image in images]
        geometry = [Geometry.squash(*image.pixels.size, 20, 20) for image in images]
        return Alignment(torch.from_numpy(np.stack(maps)), geometry)


def test_films_may_be_reduced_while_they_are_decoded(tmp_path: Path) -> None:
    data = jpeg_dataset(tmp_path)
    whole, reduced = Bright(), Bright()
    exact = evaluate(whole, data, "smoke")
    fast = evaluate(reduced, data, "smoke", decode_at_least=100)
    assert set(whole.sizes) == {(801, 640)}
    assert set(reduced.sizes) == {(201, 160)}
    pd.testing.assert_series_equal(exact.instances["auroc"], fast.instances["auroc"], atol=0.01)
    assert exact.instances["auroc"].min() > 0.9
    assert (exact.run.manifest.decode_at_least, fast.run.manifest.decode_at_least) == (None, 100)
    assert exact.run.dataset.images_fingerprint == fast.run.dataset.images_fingerprint


def test_the_oracle_finds_its_boxes_on_reduced_films(tmp_path: Path) -> None:
    from wronglung.adapters.oracle import oracle

    data = jpeg_dataset(tmp_path, (800, 640))
    data = dataclasses.replace(
        data, instances=tuple(dataclasses.replace(one, sentence="The right lung.") for one in data.instances)
    )
    exact, fast = evaluate(oracle(), data, "smoke"), evaluate(oracle(), data, "smoke", decode_at_least=16)
    pd.testing.assert_frame_equal(fast.instances, exact.instances)
    assert exact.instances.loc[exact.instances["task"] == "original", "auroc"].min() == 1.0


def test_results_do_not_depend_on_the_number_of_workers(sketch: Dataset) -> None:
    from wronglung.adapters.floors import text_blind

    one, many = (evaluate(text_blind(), sketch, "smoke", workers=workers) for workers in (1, 7))
    pd.testing.assert_frame_equal(one.instances, many.instances)
    assert one.run.dataset == many.run.dataset


def test_a_run_records_what_it_was_run_on(tmp_path: Path) -> None:
    data = jpeg_dataset(tmp_path)
    first = evaluate(Bright(), data, "smoke").run.dataset
    assert (first.fingerprint, first.ids_fingerprint) == (data.fingerprint, data.ids_fingerprint)
    Image.new("L", (801, 640), 90).save(tmp_path / "1.jpg")
    second = evaluate(Bright(), data, "smoke").run.dataset
    assert second.fingerprint == first.fingerprint
    assert second.images_fingerprint != first.images_fingerprint


def test_no_image_is_read_twice_in_a_run(sketch: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counter[str]()
    original = ImageRef.read

    def counted(image: ImageRef) -> bytes:
        read[image.id] += 1
        return original(image)

    monkeypatch.setattr(ImageRef, "read", counted)
    evaluate(FakeDual(), sketch, "wrong-lung", batch_size=3)
    assert set(read) == {one.image_id for one in sketch.instances}
    assert set(read.values()) == {1}
