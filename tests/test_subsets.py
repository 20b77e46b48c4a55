"""Which instances belong to each subset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.geometry import boxes_to_mask
from wronglung.benchmark.instances import Box, Finding, ImageRef, Instance
from wronglung.tasks.pool import Pool
from wronglung.tasks.subsets import abnormal, everything, most_diverse_report_boxes, one_lung, union_iou

LUNG = Box("left lung", 0, 0, 10, 10)


def instance(name: str, *boxes: Box, findings: tuple[Finding, ...] = (), image: str = "film") -> Instance:
    return Instance(name, ImageRef(image, Path(image), 100, 100), "Text.", boxes or (LUNG,), findings, study_id=image)


def test_all_is_every_instance() -> None:
    assert everything(Pool([instance("a"), instance("b")])) == {"a", "b"}


def test_abnormal_is_an_affirmed_abnormal_finding() -> None:
    pool = Pool(
        [
            instance("affirmed", findings=(Finding("pneumonia", "yes", "left lung"),)),
            instance("negated", findings=(Finding("pneumonia", "no", "left lung"),)),
            instance("normal", findings=(Finding("normal", "yes", "left lung"),)),
            instance("labelled", findings=(Finding("abnormal", "yes", "left lung"),)),
            instance("without"),
        ]
    )
    assert abnormal(pool) == frozenset({"affirmed", "labelled"})
    assert abnormal(pool, label="abnormal") == frozenset({"labelled"})


def test_abnormal_does_not_apply_without_findings() -> None:
    assert abnormal(Pool([instance("a")])) is None


def test_one_lung_has_one_lung_but_not_both() -> None:
    right = Box("right lung", 20, 0, 30, 10)
    zone = Box("left upper lung zone", 0, 0, 10, 3)
    pool = Pool(
        [
            instance("left", LUNG),
            instance("right", right, Box("cardiac silhouette", 0, 0, 5, 5)),
            instance("both", LUNG, right),
            instance("zone", zone),
            instance("zone of a lung", zone, findings=_at("left lung")),
            dataclasses.replace(instance("zone with its parent", zone), parent_regions=("left lung",)),
            instance("lost a box", LUNG, findings=_at("right lung")),
        ]
    )
    assert one_lung(pool) == frozenset({"left", "right", "zone of a lung", "zone with its parent"})


def _at(region: str) -> tuple[Finding, ...]:
    return (Finding("pneumonia", "yes", region),)


def test_one_lung_does_not_apply_without_lungs() -> None:
    assert one_lung(Pool([instance("a", Box("dog", 0, 0, 1, 1))])) is None


class TestMostDiverseReportBoxes:
    def test_takes_whole_reports_in_order_of_mean_overlap(self) -> None:
        members = []
        for at, overlap in enumerate((8, 5, 2, 9)):
            members += [
                instance(f"r{at}-0", Box("", 0, 0, 10, 10), image=f"r{at}"),
                instance(f"r{at}-1", Box("", 10 - overlap, 0, 20 - overlap, 10), image=f"r{at}"),
            ]
        assert most_diverse_report_boxes(Pool(members), share=0.1) == {"r2-0", "r2-1"}
        assert most_diverse_report_boxes(Pool(members), share=0.26) == {"r2-0", "r2-1", "r1-0", "r1-1"}

    def test_leaves_reports_of_one_sentence_out(self) -> None:
        assert most_diverse_report_boxes(Pool([instance("a")]), share=1.0) == frozenset()


whole = st.integers(0, 12)
boxes = st.lists(st.tuples(whole, whole, whole, whole), max_size=4).map(
    lambda rows: tuple(Box("", min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows if a != c and b != d)
)


@given(boxes, boxes)
def test_union_iou_equals_counting_pixels(a: tuple[Box, ...], b: tuple[Box, ...]) -> None:
    in_a, in_b = boxes_to_mask(a, 12, 12), boxes_to_mask(b, 12, 12)
    union = int((in_a | in_b).sum())
    expected = int((in_a & in_b).sum()) / union if union else 1.0 if a == b else 0.0
    assert union_iou(a, b) == pytest.approx(expected, abs=1e-12)


def test_union_iou_of_fractional_boxes() -> None:
    assert union_iou((Box("", 0, 0, 1, 1),), (Box("", 0.25, 0, 1.25, 1),)) == pytest.approx(0.6)
    assert np.isclose(union_iou((LUNG,), (LUNG, Box("", 2, 2, 4, 4))), 1.0)
