"""Training: configurations, what is drawn for an epoch, augmentation, and runs that are killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wronglung.adapters.gloria.adapter import load
from wronglung.adapters.gloria.design import METADATA, Design, read_design, write_checkpoint
from wronglung.adapters.gloria.preprocessing import Frame
from wronglung.adapters.gloria.training.augment import jitter, place, random_placement
from wronglung.adapters.gloria.training.config import AugmentationSection, SentencesSection, as_yaml, load_config
from wronglung.adapters.gloria.training.data import Film, Films, batches, box_mask, stream, vocabulary
from wronglung.adapters.gloria.training.presets import summaries
from wronglung.adapters.gloria.training.run import train
from wronglung.adapters.gloria.training.trainer import Trainer
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Box, Dataset, ImageRef, Instance

TINY = ("epochs=2", "batch_size=8", "image.width=4", "validation_instances=0", "optimizer.warmup=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("jsonl", write_sketch(tmp_path_factory.mktemp("sketch"), patients=20))


@pytest.fixture(scope="module")
def films(data: Dataset) -> Films:
    return Films.of(data, "all")


class TestConfiguration:
    def test_every_variant_is_valid_at_every_size(self) -> None:
        for variant in summaries("variants"):
            for size in summaries("sizes"):
                assert load_config(variant, size).variant == variant

    def test_the_papers_variants_and_those_of_the_published_version_are_there(self) -> None:
        assert set(summaries("variants")) == {
            "retrained", "abnormal", "masking", "random-sentences", "word-masking", "no-attention", "entropy",
            "divergence", "few-shot",
        }  # fmt: skip

    def test_a_printed_configuration_reads_back(self, tmp_path: Path) -> None:
        config = load_config("masking", changes=["seed=3"])
        (tmp_path / "c.yaml").write_text(as_yaml(config))
        assert load_config("masking", file=tmp_path / "c.yaml") == config

    def test_changes_come_last(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("optimizer: {learning_rate: 0.5}\nepochs: 7\n")
        config = load_config("retrained", file=tmp_path / "c.yaml", changes=["epochs=9"])
        assert (config.optimizer.learning_rate, config.epochs) == (0.5, 9)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("epochs=0", "epochs: Input should be greater than 0"),
            ("optimizer.speed=1", "optimizer.speed: unknown key"),
            ("epochs", "write it as KEY=VALUE"),
            ("epochs=[1", "is not a value"),
            ("image.crop=65", "image.crop 65 is larger than image.longer_side 64"),
            ("text.heads=3", "do not divide dimensions"),
            ("loss.no_attention=1", "needs attention.no_attention"),
            ("loss={local: 0, overall: 0, segmentation: 1}", "local, overall, .* are all 0: nothing is learned"),
        ],
    )
    def test_bad_changes_are_refused_with_their_key(self, change: str, message: str) -> None:
        with pytest.raises(WronglungError, match=message):
            load_config("retrained", changes=[change])

    def test_unknown_names_and_bad_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match="unknown variant 'masked'; known: abnormal"):
            load_config("masked")
        with pytest.raises(WronglungError, match="unknown size 'huge'; known: released, small"):
            load_config("masking", "huge")
        with pytest.raises(WronglungError, match="no such file"):
            load_config("masking", file=tmp_path / "none.yaml")
        (tmp_path / "list.yaml").write_text("- 1\n")
        with pytest.raises(WronglungError, match="must be a mapping"):
            load_config("masking", file=tmp_path / "list.yaml")
        (tmp_path / "bad.yaml").write_text("a: [\n")
        with pytest.raises(WronglungError, match="is not YAML"):
            load_config("masking", file=tmp_path / "bad.yaml")
        (tmp_path / "number.yaml").write_text("1: a\n")
        with pytest.raises(WronglungError, match="1: Keys should be strings"):
            load_config("masking", file=tmp_path / "number.yaml")


class TestEpoch:
    def test_every_film_once_with_one_of_its_own_sentences(self, data: Dataset, films: Films) -> None:
        own = {film.image.id: {one.sentence for one in film.instances} for film in films.films}
        made = batches(films, SentencesSection(), None, 5, seed=0, epoch=0, split="train")
        seen = [film for batch in made for film in batch.films]
        assert sorted(seen) == list(range(20))
        for batch in made:
            for film, sentence in zip(batch.films, batch.sentences, strict=True):
                assert sentence in own[films.films[film].image.id]

    def test_epochs_and_seeds_differ_and_repeat(self, films: Films) -> None:
        def drawn(seed: int, epoch: int) -> Any:
            return batches(films, SentencesSection(), None, 5, seed, epoch, "train")

        assert drawn(0, 0) == drawn(0, 0)
        assert drawn(0, 0) != drawn(0, 1)
        assert drawn(0, 0) != drawn(1, 0)

    def test_the_last_short_batch_is_left_out_unless_it_is_the_only_one(self, films: Films) -> None:
        sizes = [len(one.films) for one in batches(films, SentencesSection(), None, 8, 0, 0, "train")]
        assert sizes == [8, 8]
        assert [len(one.films) for one in batches(films, SentencesSection(), None, 64, 0, 0, "train")] == [20]

    def test_random_pairing_gives_another_patients_sentence(self, data: Dataset) -> None:
        marked = replace(
            data, instances=tuple(replace(one, sentence=f"{one.patient_id} {one.id}") for one in data.instances)
        )
        films = Films.of(marked, "all")
        for epoch in range(5):
            for batch in batches(films, SentencesSection(pairing="random"), None, 5, 0, epoch, "train"):
                for film, sentence in zip(batch.films, batch.sentences, strict=True):
                    assert sentence.split()[0] != films.films[film].instances[0].patient_id

    @given(st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(lambda one: len({*one}) > 1), st.integers(0, 99))
    def test_every_film_of_another_patient_is_drawn_as_from_their_list(self, patients: list[int], seed: int) -> None:
        image = ImageRef("i", Path("i.png"), 8, 8)
        box = (Box("b", 0, 0, 4, 4),)
        films = Films(
            tuple(
                Film(image, (Instance(str(at), image, str(at), box, patient_id=str(patient)),))
                for at, patient in enumerate(patients)
            )
        )
        for film, own in enumerate(patients):
            strangers = [at for at, patient in enumerate(patients) if patient != own]
            expected = strangers[stream(seed).integers(len(strangers))]
            assert films.instance(film, "random", stream(seed)).sentence == str(expected)

    def test_abnormal_keeps_only_sentences_that_affirm_a_finding(self, data: Dataset) -> None:
        kept = [one for film in Films.of(data, "abnormal").films for one in film.instances]
        assert kept
        for one in kept:
            assert any(finding.context == "yes" and finding.label != "normal" for finding in one.findings)
        normal = replace(data, instances=tuple(replace(one, findings=()) for one in data.instances))
        with pytest.raises(WronglungError, match="affirms an abnormal finding"):
            Films.of(normal, "abnormal")

    def test_one_patient_is_not_enough(self, data: Dataset) -> None:
        one = replace(data, instances=tuple(replace(each, patient_id="p") for each in data.instances))
        with pytest.raises(WronglungError, match="of two patients at least"):
            Films.of(one, "all")

    def test_an_edit_is_drawn_anew_each_epoch(self, films: Films) -> None:
        def edit(sentence: str, rng: np.random.Generator) -> str:
            return f"{rng.integers(10**9)}"

        first, second = (batches(films, SentencesSection(), edit, 5, 0, epoch, "train") for epoch in (0, 1))
        assert {s for b in first for s in b.sentences}.isdisjoint({s for b in second for s in b.sentences})

    def test_the_vocabulary_holds_frequent_words_in_order(self) -> None:
        text = iter(["Left lung, clear.", "left LUNG opacity", "[MASK] lung"])
        assert vocabulary(text, "plain", 2) == b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nleft\nlung\n"

    def test_streams_of_different_purposes_differ(self) -> None:
        keys: list[tuple[int, list[str | int]]] = [(0, ["a"]), (0, ["b"]), (1, ["a"]), (0, ["a", 1]), (0, ["a", "1"])]
        drawn = {float(stream(seed, *purpose).random()) for seed, purpose in keys}
        assert len(drawn) == 5


SETTINGS = AugmentationSection(shift=0.1, scale=0.1, rotate=10, brightness=0.1, contrast=0.1)
STILL = AugmentationSection(shift=0, scale=0, rotate=0, brightness=0, contrast=0)


class TestAugmentation:
    @given(st.integers(0, 2**31), st.sampled_from([Frame(64, 64, 64), Frame(256, 224, 299)]))
    def test_no_placement_mirrors_a_film(self, seed: int, frame: Frame) -> None:
        maps = random_placement(8, SETTINGS, frame, torch.Generator().manual_seed(seed))
        assert (torch.linalg.det(maps[:, :, :2]) > 0).all()
        assert (maps[:, 0, 0] > 0).all()  # left stays on the left

    @pytest.mark.parametrize("frame", [Frame(64, 64, 64), Frame(40, 32, 32)])
    def test_nothing_changes_without_augmentation(self, frame: Frame) -> None:
        squares = torch.randint(0, 256, (3, frame.longer_side, frame.longer_side), dtype=torch.uint8)
        maps = random_placement(3, STILL, frame, torch.Generator().manual_seed(0))
        centre = slice(frame.margin, frame.margin + frame.crop)
        torch.testing.assert_close(
            place(squares, maps, frame.crop), squares[:, centre, centre].float(), atol=1e-2, rtol=0
        )

    def test_a_mask_moves_with_its_film(self) -> None:
        frame = Frame(64, 64, 64)
        mask = torch.zeros(1, 64, 64, dtype=torch.bool)
        mask[0, 20:40, 10:30] = True
        maps = random_placement(1, SETTINGS, frame, torch.Generator().manual_seed(1))
        moved = place(mask, maps, 64) >= 0.5
        film = place(mask.to(torch.uint8) * 255, maps, 64) >= 127.5
        assert torch.equal(moved, film)
        assert not torch.equal(moved, mask)

    def test_jitter_stays_in_range(self) -> None:
        pixels = torch.rand(4, 8, 8) * 2 - 1
        assert jitter(pixels, SETTINGS, torch.Generator().manual_seed(0)).abs().max() <= 1

    def test_a_box_covers_the_pixels_whose_centres_lie_in_it(self) -> None:
        image = ImageRef("i", Path("i.png"), 64, 32)
        instance = Instance("a", image, "x", (Box("b", 8, 4, 16, 12),))
        mask = box_mask(instance, Frame(64, 64, 64))
        expected = torch.zeros(64, 64, dtype=torch.bool)
        expected[16 + 4 : 16 + 12, 8:16] = True
        assert torch.equal(mask, expected)


def weights_of(folder: Path, name: str = "last") -> bytes:
    return (folder / f"{name}.safetensors").read_bytes()


class TestRun:
    def test_writes_a_checkpoint_that_is_a_model(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        best = train(config, data, data, tmp_path / "run")
        assert best is not None
        model = load(best)
        assert model.card.settings["cleaning"] == "plain"
        assert model.card.pretraining_sources == (data.name,)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {
            "best.safetensors", "last.safetensors", "card.json", "config.yaml", "log.csv", "state.pt",
        }  # fmt: skip
        card = json.loads((tmp_path / "run/card.json").read_text())
        assert card["data"]["training_fingerprint"] == data.fingerprint
        assert len(card["curve"]) == card["epochs"] == 2
        with (tmp_path / "run/log.csv").open() as stream:
            assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2"]

    @pytest.mark.parametrize(
        "variant", [one for one in sorted(summaries("variants")) if one not in ("masking", "retrained")]
    )
    def test_every_variant_trains(self, variant: str, data: Dataset, tmp_path: Path) -> None:
        config = load_config(variant, changes=[*TINY, "epochs=1"])
        train(config, data, data, tmp_path)
        log = (tmp_path / "log.csv").read_text()
        term = {"no-attention": "no_attention", "entropy": "entropy", "divergence": "divergence"}.get(variant)
        assert term is None or f"train_{term}" in log
        assert ("train_segmentation" in log) == (variant == "few-shot")

    def test_the_same_seed_gives_the_same_bytes_and_another_does_not(self, data: Dataset, tmp_path: Path) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            train(load_config("few-shot", changes=[*TINY, f"seed={seed}"]), data, data, tmp_path / name)
        assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b") != weights_of(tmp_path / "c")

    def test_training_lowers_the_loss(self, data: Dataset, tmp_path: Path) -> None:
        changes = [*TINY, "epochs=25", "patience=25", "optimizer.learning_rate=0.003"]
        train(load_config("abnormal", changes=changes), data, data, tmp_path)
        losses = [float(row["train_loss"]) for row in csv.DictReader((tmp_path / "log.csv").read_text().splitlines())]
        assert losses[-1] < 0.9 * losses[0]

    def test_stops_early_and_keeps_the_best_epoch(self, data: Dataset, tmp_path: Path) -> None:
        changes = [*TINY, "epochs=30", "patience=2", "optimizer.learning_rate=0.1", "optimizer.clip=null"]
        train(load_config("random-sentences", changes=changes), data, data, tmp_path)
        card = json.loads((tmp_path / "card.json").read_text())
        assert card["epochs"] == card["best_epoch"] + 2 < 30
        losses = [row["validation_loss"] for row in card["curve"]]
        assert card["best_epoch"] == losses.index(min(losses)) + 1
        assert weights_of(tmp_path, "best") != weights_of(tmp_path, "last")

    def test_gradients_add_up_over_batches(self, data: Dataset, tmp_path: Path) -> None:
        for name, accumulate in (("one", 1), ("two", 2)):
            train(load_config("retrained", changes=[*TINY, f"accumulate={accumulate}"]), data, data, tmp_path / name)
        assert weights_of(tmp_path / "one") != weights_of(tmp_path / "two")
        with pytest.raises(WronglungError, match="20 films are too few for accumulate=3 batches of 8"):
            train(load_config("retrained", changes=[*TINY, "accumulate=3"]), data, data, tmp_path / "three")

    def test_bfloat16_trains(self, data: Dataset, tmp_path: Path) -> None:
        train(load_config("no-attention", changes=[*TINY, "precision=bfloat16"]), data, data, tmp_path)
        assert read_design(tmp_path / "best.safetensors") is not None

    def test_workers_change_nothing(self, data: Dataset, tmp_path: Path) -> None:
        for workers in (0, 2):
            config = load_config("retrained", changes=[*TINY, "epochs=1", f"workers={workers}"])
            train(config, data, data, tmp_path / str(workers))
        assert weights_of(tmp_path / "0") == weights_of(tmp_path / "2")

    def test_an_image_that_cannot_be_read_is_named(self, data: Dataset, tmp_path: Path) -> None:
        gone = replace(data.instances[0].image, path=tmp_path / "gone.png")
        broken = replace(data, instances=(replace(data.instances[0], image=gone), *data.instances[3:]))
        with pytest.raises(WronglungError, match=r"gone.png.*leave it out"):
            train(load_config("retrained", changes=TINY), broken, data, tmp_path / "run")

    @pytest.mark.parametrize("workers", [0, 2])
    def test_the_message_about_it_is_one_line_also_from_workers(
        self, workers: int, data: Dataset, tmp_path: Path
    ) -> None:
        gone = replace(data.instances[0].image, path=tmp_path / "gone.png")
        broken = replace(data, instances=(replace(data.instances[0], image=gone), *data.instances[3:]))
        changes = [*TINY, f"workers={workers}", "batch_size=20"]
        with pytest.raises(WronglungError) as caught:
            train(load_config("retrained", changes=changes), broken, data, tmp_path / "run")
        said = str(caught.value)
        assert "gone.png" in said
        assert "Traceback" not in said
        assert len(said.splitlines()) == 1

    def test_a_loss_that_is_not_finite_stops_training_before_it_does_harm(self, data: Dataset, tmp_path: Path) -> None:
        from wronglung.adapters.gloria.training import folder

        changes = [*TINY, "epochs=9", "optimizer.learning_rate=1e30", "optimizer.clip=null", "save_every=1"]
        with pytest.raises(WronglungError, match=r"of epoch 1 is not finite at .*; lower optimizer.learning_rate"):
            train(load_config("retrained", changes=[*changes, "optimizer.warmup=0"]), data, data, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "state.pt"}
        state = folder.read_state(tmp_path)["network"]
        assert all(torch.isfinite(tensor).all() for tensor in state.values())

    def test_a_validation_loss_that_is_not_finite_stops_training(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Trainer, "_validation_loss", lambda self: float("nan"))
        with pytest.raises(WronglungError, match="validation loss of epoch 1 is not finite"):
            train(load_config("retrained", changes=TINY), data, data, tmp_path)
        assert not (tmp_path / "best.safetensors").exists()

    def test_the_card_is_strict_json_where_a_figure_has_no_value(self, data: Dataset, tmp_path: Path) -> None:
        train(
            load_config("retrained", changes=TINY), data, data, tmp_path, validate=lambda model: {"auroc": float("nan")}
        )

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        card = json.loads((tmp_path / "card.json").read_text(), parse_constant=refuse)
        assert [row["auroc"] for row in card["curve"]] == [None, None]

    def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(self, data: Dataset, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource")
        config = load_config("retrained", changes=[*TINY, "epochs=4", "save_every=1"])
        train(config, data, data, tmp_path / "whole")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (tmp_path / "whole/state.pt").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        try:
            with pytest.raises(WronglungError, match=r"state\.pt: cannot be written: File too large"):
                train(config, data, data, tmp_path / "full")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {path.name for path in (tmp_path / "full").iterdir()} == {"config.yaml"}

    def test_few_shot_takes_what_there_is(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("few-shot", changes=[*TINY, "epochs=1", "loss.few_shot=500", "loss.few_shot_batch=50"])
        train(config, data, data, tmp_path)
        assert json.loads((tmp_path / "card.json").read_text())["data"]["supervised"] == 20

    def test_tensorboard_shows_the_log_and_is_asked_for_when_missing(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = load_config("retrained", changes=TINY)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch.utils.tensorboard", None)
            with pytest.raises(WronglungError, match=r'pip install "wronglung\[train\]"'):
                train(config, data, data, tmp_path / "missing", tensorboard=True)
        reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        for overwrite in (False, True):
            train(config, data, data, tmp_path / "run", tensorboard=True, overwrite=overwrite)
        events = reader.EventAccumulator(str(tmp_path / "run/tensorboard"))
        events.Reload()
        assert [event.step for event in events.Scalars("train_loss")] == [1, 2]

    def test_entities_need_scispacy(self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "scispacy" else find(name, *more)
        )
        with pytest.raises(WronglungError, match=r'pip install "wronglung\[masking\]"'):
            train(load_config("masking", changes=TINY), data, data, tmp_path)

    def test_word_numbers_are_those_of_the_checkpoint_it_starts_from(self, data: Dataset, tmp_path: Path) -> None:
        best = train(load_config("retrained", changes=TINY), data, data, tmp_path / "a")
        other = replace(
            data, instances=tuple(replace(one, sentence=f"Another text: {one.sentence}") for one in data.instances)
        )
        train(load_config("retrained", changes=[*TINY, f"init={best}"]), other, other, tmp_path / "b")
        a, b = (read_design(tmp_path / one / "best.safetensors") for one in "ab")
        assert a is not None
        assert b is not None
        assert a[1] == b[1]
        assert b"another" not in b[1]

    def test_starts_from_another_checkpoint(self, data: Dataset, tmp_path: Path) -> None:
        best = train(load_config("retrained", changes=TINY), data, data, tmp_path / "a")
        changes = [*TINY, f"init={best}", "epochs=1", "optimizer.learning_rate=1e-9"]
        train(load_config("no-attention", changes=changes), data, data, tmp_path / "b")
        a, b = (torch.tensor(list(weights_of(tmp_path / one, "best"))) for one in "ab")
        assert len(b) > len(a)  # the no-attention vector is new
        with pytest.raises(WronglungError, match="must be of the same design"):
            train(
                load_config("retrained", changes=[*TINY, f"init={best}", "image.width=8"]), data, data, tmp_path / "c"
            )


class TestResume:
    def test_a_run_that_was_stopped_anywhere_ends_with_the_same_weights(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also within an epoch, with everything on that has a state."""
        config = load_config("few-shot", changes=[*TINY, "epochs=3", "save_every=1", "optimizer.schedule=plateau"])
        train(config, data, data, tmp_path / "whole")

        from wronglung.adapters.gloria.training import folder

        for stop_at in (1, 2, 3, 4, 7):
            out = tmp_path / str(stop_at)
            count = 0
            original = folder.write_state

            def write(where: Path, content: Any, stop: int = stop_at, original: Any = original) -> None:
                nonlocal count
                original(where, content)
                count += 1
                if count == stop:
                    raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(folder, "write_state", write)
                with pytest.raises(KeyboardInterrupt):
                    train(config, data, data, out)
            train(config, data, data, out, resume=True)
            for name in ("best", "last"):
                assert weights_of(out, name) == weights_of(tmp_path / "whole", name)

    def test_a_finished_run_stays_as_it_is(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        train(config, data, data, tmp_path)
        before = weights_of(tmp_path)
        train(config, data, data, tmp_path, resume=True)
        assert weights_of(tmp_path) == before

    def test_a_folder_that_holds_a_run_is_not_overwritten_unasked(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        train(config, data, data, tmp_path)
        with pytest.raises(WronglungError, match="holds a training run; go on with --resume"):
            train(config, data, data, tmp_path)
        train(config, data, data, tmp_path, overwrite=True)

    def test_a_run_goes_before_the_new_one_only_if_that_can_start(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        train(config, data, data, tmp_path)
        before = weights_of(tmp_path)
        with pytest.raises(WronglungError, match="no such file"):
            train(
                load_config("retrained", changes=[*TINY, f"image.weights={tmp_path / 'none.pth'}"]),
                data, data, tmp_path, overwrite=True,
            )  # fmt: skip
        assert weights_of(tmp_path) == before
        with pytest.raises(WronglungError, match="with --resume or replace it with --overwrite, not both"):
            train(config, data, data, tmp_path, overwrite=True, resume=True)

    def test_settings_without_an_effect_on_the_weights_may_change(self, data: Dataset, tmp_path: Path) -> None:
        train(load_config("retrained", changes=[*TINY, "workers=1", "save_every=1"]), data, data, tmp_path)
        before = weights_of(tmp_path)
        train(load_config("retrained", changes=TINY), data, data, tmp_path, resume=True)
        assert weights_of(tmp_path) == before

    def test_an_interrupt_is_one_line(self, tmp_path: Path) -> None:
        victim = subprocess.Popen(
            [sys.executable, "-m", "wronglung", "train", "--variant", "retrained", "--data-arg", "patients=60",
             "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet",
             *(word for change in (*TINY, "epochs=5000", "patience=5000", "workers=1") for word in ("--set", change))],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while not (tmp_path / "run/log.csv").exists() and victim.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        victim.send_signal(signal.SIGINT)
        _, said = victim.communicate(timeout=120)
        assert victim.returncode == 130
        assert said == "wronglung: what is saved is kept; go on with --resume\nwronglung: interrupted\n"

    def test_refuses_another_configuration_or_other_data(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        train(config, data, data, tmp_path)
        other = load_config("retrained", changes=[*TINY, "epochs=5"])
        with pytest.raises(WronglungError, match=r"another configuration \(epochs: 2 then, 5 now\)"):
            train(other, data, data, tmp_path, resume=True)
        fewer = replace(data, instances=data.instances[3:])
        with pytest.raises(WronglungError, match="another training data"):
            train(config, fewer, data, tmp_path, resume=True)

    def test_a_damaged_state_is_named(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=TINY)
        train(config, data, data, tmp_path)
        (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 not a state")
        with pytest.raises(WronglungError, match=r"state.pt: is damaged"):
            train(config, data, data, tmp_path, resume=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"identity": [1]}, "does not say which training it is of"),
            ({"progress": {"epoch": "many"}}, "ValidationError: "),
            ({"progress": None}, "ValidationError: "),
            ({"network": {}}, "RuntimeError: "),
            ({"optimizer": {"state": {}, "param_groups": []}}, "ValueError: "),
        ],
    )
    def test_a_state_of_the_wrong_content_is_damaged(
        self, data: Dataset, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        config = load_config("retrained", changes=[*TINY, "epochs=1"])
        train(config, data, data, tmp_path)
        content = torch.load(tmp_path / "state.pt", weights_only=True)
        torch.save({**content, **change}, tmp_path / "state.pt")
        with pytest.raises(WronglungError, match=rf"state.pt: is damaged \({message}.*; train anew with --overwrite"):
            train(config, data, data, tmp_path, resume=True)

    def test_averages_of_other_weights_are_not_used(self, data: Dataset, tmp_path: Path) -> None:
        config = load_config("retrained", changes=[*TINY, "epochs=1"])
        train(config, data, data, tmp_path)
        content = torch.load(tmp_path / "state.pt", weights_only=True)
        averages = content["optimizer"]["state"]
        first = next(iter(averages))
        averages[first]["exp_avg"] = torch.zeros(3, 3)
        torch.save(content, tmp_path / "state.pt")
        with pytest.raises(WronglungError, match="averages of the optimizer have other shapes than the weights"):
            train(config, data, data, tmp_path, resume=True)


class TestDesign:
    def test_a_checkpoint_round_trips_through_float16(
        self, tiny_weights: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "\n".join(f"w{i}" for i in range(14)) + "\n"
        path = tmp_path / "m.safetensors"
        design = Design(tokens="words", cleaning="plain", heads=2)
        write_checkpoint(path, tiny_weights, design, words.encode(), torch.float16)
        assert read_design(path) == (design, words.encode())
        model = load(path)
        assert model.card.settings["tokens"] == "words"
        with pytest.raises(WronglungError, match="carries its own vocabulary; leave bert="):
            load(path, bert="some/bert")
        assert load(path, tokens="cls+words").card.settings["tokens"] == "cls+words"

    def test_a_later_version_or_a_missing_vocabulary_is_refused(
        self, tiny_weights: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        import safetensors.torch

        path = tmp_path / "m.safetensors"
        for content, message in (
            ('{"design": {"version": 2}, "vocabulary": "x"}', "has schema version 2; this wronglung reads up to 1"),
            ('{"design": {}}', "vocabulary: is missing"),
            ("{", "cannot be read as JSON"),
            ('{"design": {"crop": 500}, "vocabulary": "x"}', "larger than longer_side"),
        ):
            safetensors.torch.save_file(tiny_weights, path, metadata={METADATA: content})
            with pytest.raises(WronglungError, match=message):
                load(path)
