"""Subsets: named filters of instances.

A subset is a function ``(pool, *, parameters) -> frozenset of instance ids``, or None where the dataset cannot say
(for example, findings are needed and it has none). Parameters are keyword-only, typed, and have defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ..benchmark.instances import Box, Instance
from .pool import Pool

LEFT, RIGHT = "left lung", "right lung"


def everything(pool: Pool) -> frozenset[str]:
    """Every instance."""
    return frozenset(instance.id for instance in pool.instances)


def abnormal(pool: Pool, *, label: Literal["any", "abnormal"] = "any") -> frozenset[str] | None:
    """Instances whose sentence affirms an abnormal finding.

    ``any``: some finding other than "normal" in a positive context. ``abnormal``: the label "abnormal" itself in a
    positive context, as the authors' code has it.
    """
    if not any(instance.findings for instance in pool.instances):
        return None
    return frozenset(instance.id for instance in pool.instances if is_abnormal(instance, label))


def is_abnormal(instance: Instance, label: Literal["any", "abnormal"] = "any") -> bool:
    """Whether an instance belongs to :func:`abnormal`."""
    if label == "any":
        return instance.is_abnormal
    return any(finding.context == "yes" and finding.label == "abnormal" for finding in instance.findings)


def one_lung(pool: Pool) -> frozenset[str] | None:
    """Instances annotated with the left lung or the right lung but not both.

    All annotations count, also those whose box was dropped: a sentence about both lungs does not become a one-lung
    sentence because one box is broken. None where the dataset names no lung.
    """
    if not any({LEFT, RIGHT} & instance.regions for instance in pool.instances):
        return None
    return frozenset(
        instance.id for instance in pool.instances if (LEFT in instance.regions) != (RIGHT in instance.regions)
    )


def most_diverse_report_boxes(pool: Pool, *, share: Annotated[float, Field(gt=0, le=1)] = 0.1) -> frozenset[str]:
    """The share of instances in the reports with the smallest mean pairwise IoU of their sentences' boxes.

    Reports about one image are taken in order of that mean (then of their id) until they hold at least ``share`` of all
    instances of the dataset; reports with one sentence are out. Boxes of one sentence count as their union.
    """
    diversity = []
    for key, members in pool.report_images.items():
        if len(members) > 1:
            overlaps = [union_iou(a.boxes, b.boxes) for a, b in combinations(members, 2)]
            diversity.append((float(np.mean(overlaps)), key))
    chosen: list[Instance] = []
    for _, key in sorted(diversity):
        if len(chosen) >= share * len(pool.instances):
            break
        chosen.extend(pool.report_images[key])
    return frozenset(instance.id for instance in chosen)


def union_iou(a: Sequence[Box], b: Sequence[Box]) -> float:
    """Intersection over union of two unions of boxes, exact (no raster), in [0, 1]."""
    if a == b:
        return 1.0
    xs = np.unique([x for box in (*a, *b) for x in (box.x1, box.x2)])
    ys = np.unique([y for box in (*a, *b) for y in (box.y1, box.y2)])
    areas = np.outer(np.diff(ys), np.diff(xs))
    in_a, in_b = (_cells(boxes, xs, ys) for boxes in (a, b))
    union = float(areas[in_a | in_b].sum())
    return float(areas[in_a & in_b].sum()) / union if union else 0.0


def _cells(boxes: Sequence[Box], xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which cells of the grid with the given edges the boxes cover, bool [rows, columns]."""
    covered = np.zeros((len(ys) - 1, len(xs) - 1), dtype=np.bool_)
    for box in boxes:
        left, right = np.searchsorted(xs, (box.x1, box.x2))
        top, bottom = np.searchsorted(ys, (box.y1, box.y2))
        covered[top:bottom, left:right] = True
    return covered
