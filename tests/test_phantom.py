"""Phantom: films, reports and boxes from a seed."""

from __future__ import annotations

import hashlib
import pickle
import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.benchmark.anatomy import REGIONS, conditions_named, parent_lung, regions_named
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.phantom import PhantomImage, lesion_mask, patient_scenes, pixels, read, render_films
from wronglung.benchmark.datasets.phantom.random import Draws
from wronglung.benchmark.datasets.phantom.regions import region_boxes
from wronglung.benchmark.datasets.phantom.report import write_report
from wronglung.benchmark.datasets.phantom.scene import (
    CARDIOMEGALY,
    DIAPHRAGM,
    KINDS,
    LUNG_KINDS,
    NODULE,
    PNEUMOTHORAX,
    SIDES,
    Lesion,
    Scene,
)
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.instances import Dataset, Instance

FILMS = "273a239e7348d17b9eeaee68adcba98ac34d8e9ff58769a0f37921ab55866f6c"
LARGER_FILMS = "4a028e3133bdf9dea3d777d5df2d20ddba19210b0eb4d4ed3b7987ba7ab94961"
FINGERPRINT = "d8e7634abcf3f452eed054e35ed61044dd9def3eb3a363336dcc6b5410198198"

MAIN_REGIONS = frozenset(REGIONS) - {
    *(f"{side} {name}" for side in SIDES for name in ("cardiophrenic angle", "cardiac silhouette", "upper abdomen")),
    "descending aorta",
}
DEVICE_LABELS = {"endotracheal tube", "cardiac pacer and wires", "chest port", "picc", "artifact"}
SEVERITY_WORDS = {
    **dict.fromkeys(("small", "mild", "subtle", "trace", "minimal", "minor", "slight", "mildly", "slightly"), 0),
    **dict.fromkeys(("moderate", "moderately"), 1),
    **dict.fromkeys(("large", "severe", "extensive", "marked", "markedly", "severely"), 2),
}


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(scene for number in range(2000) for scene in patient_scenes(0, number))


@pytest.fixture(scope="module")
def phantom() -> Dataset:
    return read(split="all")


def films_of(dataset: Dataset) -> list[PhantomImage]:
    images = {instance.image.id: instance.image for instance in dataset.instances}
    return [image for image in images.values() if isinstance(image, PhantomImage)]


def scene_of(instance: Instance) -> Scene:
    assert isinstance(instance.image, PhantomImage)
    return instance.image.scene


def plain_film() -> Scene:
    """A film without lesions and devices that is its own mirror image, but for the heart, aorta and stomach."""
    healthy = next(one for one in scenes() if not one.lesions and not one.devices)
    return healthy._replace(exposure=healthy.exposure._replace(shift_x=0.0, tilt=0.0, gradient_x=0.0))


def lesions_of_a_lung() -> Iterator[Lesion]:
    """One lesion for each kind, place and severity that occurs, on the right."""
    seen = set()
    for lesion in (lesion for scene in scenes() for lesion in scene.lesions):
        key = (lesion.kind, lesion.zone, lesion.severity)
        if lesion.kind in LUNG_KINDS and key not in seen:
            seen.add(key)
            yield lesion._replace(side="right")


# --- the same everywhere ----------------------------------------------------------------------------------------------


def test_random_words_are_those_of_the_philox_generator() -> None:
    draws = Draws(1, 2)
    assert [draws.word() for _ in range(300)] == np.random.Philox(key=1 + (2 << 64)).random_raw(300).tolist()


def test_films_and_reports_are_these_bytes() -> None:
    films = render_films(scenes()[:64], 64)
    assert hashlib.sha256(films.tobytes()).hexdigest() == FILMS
    assert hashlib.sha256(render_films(scenes()[:2], 257).tobytes()).hexdigest() == LARGER_FILMS
    assert read(patients=200, split="all").fingerprint == FINGERPRINT


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 999_998), size=st.integers(32, 160))
def test_films_are_the_same_rendered_alone_and_together(seed: int, number: int, size: int) -> None:
    some = [*patient_scenes(seed, number), *patient_scenes(seed, number + 1), *patient_scenes(seed, 0)]
    together = render_films(some, size)
    assert together.shape == (len(some), size, size)
    assert together.dtype == np.uint8
    for scene, film in zip(some, together, strict=True):
        assert np.array_equal(render_films([scene], size)[0], film)


def test_many_films_are_the_same_as_in_another_order() -> None:
    some = scenes()[:300]
    assert np.array_equal(render_films(some, 64)[::-1], render_films(some[::-1], 64))


def test_an_image_renders_its_film_when_it_is_loaded(phantom: Dataset) -> None:
    images = films_of(phantom)[:5]
    loaded = [image.load() for image in images]
    assert {(one.mode, one.size) for one in loaded} == {("L", (64, 64))}
    assert np.array_equal(np.stack([np.asarray(one) for one in loaded]), pixels(images))
    assert pickle.loads(pickle.dumps(images[0])) == images[0]


def test_no_films_and_films_of_several_sizes_are_refused(phantom: Dataset) -> None:
    larger = films_of(read(size=96, patients=10, split="all"))[0]
    for images in ([], [films_of(phantom)[0], larger]):
        with pytest.raises(ValueError, match="of one size"):
            pixels(images)


def test_ten_thousand_films_take_less_than_a_minute() -> None:
    start = time.process_time()
    some = [scene for number in range(1000) for scene in patient_scenes(1, number)][:1500]
    render_films(some, 64)
    assert len(some) == 1500
    assert time.process_time() - start < 60 * len(some) / 10_000


# --- patients, splits, ids ---------------------------------------------------------------------------------------------


def test_a_patient_is_the_same_whatever_their_number() -> None:
    few, many = read(patients=40, split="all"), read(patients=120, split="all")
    assert many.instances[: len(few.instances)] == few.instances
    assert all(many.regions[image] == boxes for image, boxes in few.regions.items())


def test_splits_hold_different_patients_and_together_all(phantom: Dataset) -> None:
    parts = {split: read(split=split) for split in ("train", "valid", "test")}
    patients = {split: {one.patient_id for one in part.instances} for split, part in parts.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 2000
    assert {one for part in parts.values() for one in part.instances} == set(phantom.instances)
    for split, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        assert {one.split for one in parts[split].instances} == {split}
        assert len(patients[split]) / 2000 == pytest.approx(share, abs=0.03)


def test_ids_are_unique_and_look_like_those_of_mimic(phantom: Dataset) -> None:
    assert len({one.id for one in phantom.instances}) == len(phantom.instances)
    studies = {(one.image_id, one.study_id, one.patient_id) for one in phantom.instances}
    assert len(studies) == len({image for image, _, _ in studies}) == len({study for _, study, _ in studies})
    for image, study, patient in studies:
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", image)
        assert re.fullmatch(r"5\d{7}", str(study))
        assert re.fullmatch(r"1\d{7}", str(patient))
    first = phantom.instances[0]
    assert re.fullmatch(rf"dicom_{first.image_id}_sent_{first.study_id}\|\d+", first.id)


def test_patients_have_one_to_three_studies_and_keep_their_anatomy() -> None:
    studies = Counter(scene.patient_id for scene in scenes())
    assert set(studies.values()) == {1, 2, 3}
    assert sum(studies.values()) / len(studies) == pytest.approx(1.6, abs=0.1)
    follow_ups = [(a, b) for a, b in zip(scenes(), scenes()[1:], strict=False) if a.patient_id == b.patient_id]
    for before, after in follow_ups:
        assert before.anatomy.shoulder == after.anatomy.shoulder
        assert before.anatomy.width == pytest.approx(after.anatomy.width, rel=0.04)
    kinds = [({one.kind for one in a.lesions}, {one.kind for one in b.lesions}) for a, b in follow_ups]
    assert any(a & b for a, b in kinds), "none persists"
    assert any(a - b for a, b in kinds), "none resolves"
    assert any(b - a for a, b in kinds), "none appears"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size must be a whole number from 32 to 1024, got 31"),
        ({"size": 1025}, "size must be a whole number from 32 to 1024, got 1025"),
        ({"patients": 0}, "patients must be a whole number from 1"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"split": "dev"}, "split must be one of train, valid, test, all, got 'dev'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(WronglungError, match=f"phantom: {message}"):
        read(**arguments)  # type: ignore[arg-type]


def test_it_is_read_by_name() -> None:
    assert load_dataset("phantom", patients=20).name == "phantom"
    larger = load_dataset("phantom:128", patients=20, split="all")
    assert (larger.name, larger.instances[0].image.width) == ("phantom:128", 128)


# --- regions ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 999_999), size=st.integers(32, 1024))
def test_all_main_regions_have_a_valid_box_of_whole_pixels(seed: int, number: int, size: int) -> None:
    for scene in patient_scenes(seed, number):
        boxes = region_boxes(scene, size)
        assert {box.name for box in boxes} == MAIN_REGIONS
        assert len(boxes) == len(MAIN_REGIONS) == 29
        for box in boxes:
            assert 0 <= box.x1 < box.x2 <= size
            assert 0 <= box.y1 < box.y2 <= size
            assert all(edge == int(edge) for edge in (box.x1, box.y1, box.x2, box.y2))


def test_the_right_lung_is_on_the_viewers_left_and_zones_are_stacked(phantom: Dataset) -> None:
    for boxes in phantom.regions.values():
        box = {one.name: one for one in boxes}
        assert box["right lung"].x2 < box["left lung"].x1
        for side in SIDES:
            upper, mid, lower = (box[f"{side} {zone} lung zone"] for zone in ("upper", "mid", "lower"))
            assert box[f"{side} lung"].y1 == upper.y1 < upper.y2 == mid.y1 < mid.y2 == lower.y1 < lower.y2


def test_lungs_are_dark_inside_their_boxes_and_the_heart_is_bright() -> None:
    healthy = [scene for scene in scenes() if not scene.lesions and not scene.devices][:40]
    for scene, film in zip(healthy, render_films(healthy, 128).astype(float), strict=True):
        box = {one.name: one for one in region_boxes(scene, 128)}
        level = {
            name: float(np.median(film[int(one.y1) : int(one.y2), int(one.x1) : int(one.x2)]))
            for name, one in box.items()
        }
        for side in SIDES:
            assert level[f"{side} upper lung zone"] < level["cardiac silhouette"] - 40
            assert level[f"{side} mid lung zone"] < level["abdomen"] - 40


# --- lesions ----------------------------------------------------------------------------------------------------------


def test_a_lesion_covers_the_mirror_image_on_the_other_side() -> None:
    film = plain_film()
    for lesion, size in product(lesions_of_a_lung(), (64, 81)):
        right, left = (lesion_mask(film, lesion._replace(side=side), size) for side in SIDES)
        assert right.dtype == np.float32
        assert np.array_equal(right, left[:, ::-1]), lesion
        assert right[:, size // 2 + 1 :].max() == 0, lesion
        assert right.max() > 0.4, lesion


def test_each_lesion_changes_its_own_side_and_nothing_else() -> None:
    film = plain_film()
    clean = render_films([film], 64)[0].astype(int)
    for lesion, side in product(lesions_of_a_lung(), SIDES):
        changed = np.abs(render_films([film._replace(lesions=(lesion._replace(side=side),))], 64)[0] - clean) > 10
        own, other = (changed[:, :32], changed[:, 32:]) if side == "right" else (changed[:, 32:], changed[:, :32])
        assert not other.any(), lesion
        assert own.sum() >= 6, lesion


def test_pneumothorax_is_darker_than_lung_and_all_others_are_brighter() -> None:
    film = plain_film()
    clean = render_films([film], 64)[0].astype(int)
    for lesion in lesions_of_a_lung():
        change = render_films([film._replace(lesions=(lesion,))], 64)[0] - clean
        strong = change[np.abs(change) > 10]
        if lesion.kind == PNEUMOTHORAX:
            assert (strong < 0).mean() > 0.6, lesion
        else:
            # Where a lung borders on brighter tissue, a faint opacity may cover some of that.
            assert (strong > 0).mean() > 0.85, lesion


@pytest.mark.parametrize("kind", LUNG_KINDS)
def test_a_severer_lesion_shows_more(kind: str) -> None:
    film = plain_film()
    clean = render_films([film], 64)[0].astype(int)
    some = [lesion for scene in scenes() for lesion in scene.lesions if lesion.kind == kind][:30]

    def shown(severity: int) -> float:
        changed = [film._replace(lesions=(one._replace(side="right", severity=severity),)) for one in some]
        return float(np.abs(render_films(changed, 64).astype(int) - clean).mean())

    assert 1.15 * shown(0) < shown(1)
    assert 1.15 * shown(1) < shown(2)


def test_zones_lie_in_their_third() -> None:
    film = plain_film()
    boxes = {box.name: box for box in region_boxes(film, 64)}
    for lesion in lesions_of_a_lung():
        if lesion.zone is not None:
            mask = lesion_mask(film, lesion, 64)
            centre = float((mask.sum(1) * (np.arange(64) + 0.5)).sum() / mask.sum())
            zone = boxes[f"right {lesion.zone} lung zone"]
            assert zone.y1 - 1 < centre < zone.y2 + 1, lesion


def test_an_enlarged_heart_is_wider_and_a_raised_hemidiaphragm_higher() -> None:
    film = plain_film()

    def box(name: str, *lesions: Lesion) -> tuple[float, float]:
        found = next(one for one in region_boxes(film._replace(lesions=lesions), 256) if one.name == name)
        return found.x2 - found.x1, found.y1

    widths = [box("cardiac silhouette")[0]]
    widths += [box("cardiac silhouette", Lesion(CARDIOMEGALY, None, None, severity, ()))[0] for severity in range(3)]
    assert widths == sorted(set(widths))
    for side in SIDES:
        name = f"{side} hemidiaphragm"
        tops = [box(name, Lesion(DIAPHRAGM, side, None, severity, ()))[1] for severity in (2, 1, 0)]
        assert [*tops, box(name)[1]] == sorted({*tops, box(name)[1]})
    for lesion in (Lesion(CARDIOMEGALY, None, None, 0, ()), Lesion(DIAPHRAGM, "left", None, 0, ())):
        with pytest.raises(ValueError, match="is no lesion of a lung"):
            lesion_mask(film, lesion, 64)


def test_sides_are_balanced_for_every_kind() -> None:
    sides = Counter((lesion.kind, lesion.side) for scene in scenes() for lesion in scene.lesions)
    for kind in KINDS:
        if kind != CARDIOMEGALY:
            right, left = sides[kind, "right"], sides[kind, "left"]
            # Four standard deviations of a fair coin; films of one patient share their lesions, hence the factor.
            assert min(right, left) > 150
            assert abs(right - left) < 4 * np.sqrt(1.5 * (right + left)), kind


def test_nodules_lie_in_all_zones_equally_on_both_sides() -> None:
    places = Counter((one.side, one.zone) for scene in scenes() for one in scene.lesions if one.kind == NODULE)
    assert len(places) == 6
    assert max(places.values()) < 1.7 * min(places.values())


def test_devices_say_nothing_of_lesions() -> None:
    firsts = [
        scene for scene in scenes() if scene.study_id == str(50_000_000 + 3 * (int(scene.patient_id) - 10_000_000))
    ]
    for device in {one.kind for scene in firsts for one in scene.devices}:
        there = np.array([any(one.kind == device for one in scene.devices) for scene in firsts], dtype=float)
        assert 0.03 < there.mean() < 0.3
        for kind in KINDS:
            ill = np.array([any(one.kind == kind for one in scene.lesions) for scene in firsts], dtype=float)
            assert abs(np.corrcoef(there, ill)[0, 1]) < 4 / np.sqrt(len(firsts)), (device, kind)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_annotations_use_the_vocabulary_of_chest_imagenome(phantom: Dataset) -> None:
    for instance in phantom.instances:
        assert {one.label for one in instance.findings} <= {*KINDS, *DEVICE_LABELS, "normal", "abnormal"}
        assert instance.regions <= MAIN_REGIONS
        assert {box.name for box in instance.boxes} == {one.region for one in instance.findings}
        assert len(instance.boxes) == len({box.name for box in instance.boxes})
        assert set(instance.boxes) <= set(phantom.regions[instance.image_id])


def lungs(regions: frozenset[str] | set[str] | tuple[str, ...]) -> set[str]:
    """The sides of the lungs, zones and other paired regions among them."""
    return {region.split()[0] for region in regions if region.split()[0] in SIDES and region != "right atrium"}


def test_annotations_are_true_of_the_film(phantom: Dataset) -> None:
    for instance in phantom.instances:
        lesions = scene_of(instance).lesions
        for one in instance.findings:
            side, _, rest = one.region.partition(" ")
            here = [x for x in lesions if x.kind == one.label and x.side in (side, None)]
            if one.label in KINDS and one.context == "yes":
                assert here, instance
                if parent_lung(one.region) and one.label in (*KINDS[:3], "atelectasis"):
                    assert rest == f"{here[0].zone} lung zone", instance
            elif one.label in KINDS:
                assert not here, instance
            elif one.label == "abnormal":
                assert any(
                    x.label in KINDS and x.context == "yes" and x.region == one.region for x in instance.findings
                )
            elif one.label == "normal" and rest == "lung":
                assert not [x for x in lesions if x.kind in LUNG_KINDS and x.side == side], instance
            elif one.label == "normal" and one.region == "cardiac silhouette":
                assert not [x for x in lesions if x.kind == CARDIOMEGALY], instance


def test_words_are_true_of_the_film(phantom: Dataset) -> None:
    for instance in phantom.instances:
        affirmed = {one.label for one in instance.findings if one.context == "yes"} & set(KINDS)
        words = re.findall(r"\w+", instance.sentence)
        said = {SEVERITY_WORDS[word.lower()] for word in words if word.lower() in SEVERITY_WORDS}
        assert len(affirmed) <= 1
        for lesion in scene_of(instance).lesions:
            if lesion.kind in affirmed:
                assert said <= {lesion.severity}, instance.sentence
        if not affirmed:
            assert not said


def test_named_sides_are_the_annotated_sides(phantom: Dataset) -> None:
    for instance in phantom.instances:
        sides = {word.lower() for word in re.findall(r"\b(?:left|right)\b", instance.sentence, re.IGNORECASE)}
        sides |= {"left" if one[0] == "L" else "right" for one in re.findall(r"\b[RL][UML]L\b", instance.sentence)}
        own = {one.label for one in instance.findings} & {*KINDS, "normal"}
        if sides and own and not re.search(r"\b(?:greater|larger)\b", instance.sentence):
            affirmed = [one for one in instance.findings if one.context == "yes"] or instance.findings
            assert lungs({one.region for one in affirmed}) == sides, instance.sentence


def test_the_reader_of_sentences_agrees_where_a_side_is_named(phantom: Dataset) -> None:
    sided = [
        one
        for one in phantom.instances
        if re.search(r"\b(?:left|right|bilateral|both|lungs|[RL][UML]L)\b", one.sentence)
        and not any(finding.label in DEVICE_LABELS for finding in one.findings)
    ]
    assert len(sided) > 1000

    def places(regions: tuple[str, ...]) -> set[str]:
        return {parent_lung(region) or region for region in regions if "costophrenic" not in region}

    def annotated(instance: Instance) -> tuple[str, ...]:
        affirmed = [one for one in instance.findings if one.context == "yes"] or instance.findings
        return tuple(one.region for one in affirmed)

    agree = [places(annotated(one)) == places(regions_named(one.sentence)) for one in sided]
    assert np.mean(agree) > 0.9


def test_the_reader_of_sentences_agrees_on_what_is_affirmed_and_negated(phantom: Dataset) -> None:
    some = [one for one in phantom.instances if not any(finding.label in DEVICE_LABELS for finding in one.findings)]
    agree = [set(conditions_named(one.sentence)) == {(x.label, x.context) for x in one.findings} for one in some]
    assert np.mean(agree) > 0.95


def test_every_kind_is_affirmed_and_negated(phantom: Dataset) -> None:
    said = Counter((one.label, one.context) for instance in phantom.instances for one in instance.findings)
    for kind in KINDS:
        assert said[kind, "yes"] > 20, kind
        assert said[kind, "no"] > 20, kind


def test_sentences_name_one_side_both_or_none(phantom: Dataset) -> None:
    ill = [
        one
        for one in phantom.instances
        if any(x.label in LUNG_KINDS and x.context == "yes" for x in one.findings)
        and not any(x.context == "no" for x in one.findings)
    ]
    one_sided = [one for one in ill if len(lungs(one.regions)) == 1]
    both_sided = [one for one in ill if len(lungs(one.regions)) == 2]
    named = [bool(re.search(r"left|right|\b[RL][UML]L\b|lingula", one.sentence, re.IGNORECASE)) for one in one_sided]
    assert 0.8 < np.mean(named) < 0.95
    assert len(both_sided) > 0.05 * len(ill)
    negated = [one for one in phantom.instances if all(x.context == "no" for x in one.findings)]
    assert any(len(lungs(one.regions)) == 1 for one in negated)
    mixed = [one for one in phantom.instances if {x.context for x in one.findings} == {"yes", "no"}]
    assert 0.01 < len(mixed) / len(phantom.instances) < 0.1


def test_reports_have_two_to_eight_sentences_and_no_sentence_twice() -> None:
    lengths = set()
    for scene in scenes():
        texts = [sentence.text for sentence in write_report(scene)]
        assert len(set(texts)) == len(texts)
        lengths.add(len(texts))
        for text in texts:
            assert re.fullmatch(r"(?:IMPRESSION:  )?[A-Z][^.]*\.", text), text
            assert "  " not in text.removeprefix("IMPRESSION:  "), text
    assert lengths <= set(range(2, 9))


def film_means(films: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = films.reshape(len(films), -1).mean(axis=1)
    return means


def test_films_vary_in_exposure_but_are_never_blank() -> None:
    films = render_films(scenes()[:200], 32)
    assert film_means(films).std() > 3
    assert (films.reshape(200, -1).std(axis=1) > 30).all()
    assert len({film.tobytes() for film in films}) == 200
