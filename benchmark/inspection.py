"""Counts and pictures of a dataset."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..tasks.pool import Pool
from .errors import WronglungError
from .instances import Dataset
from .registry import SUBSETS


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Instances, images and patients; instances by subset, region and finding; skipped and repaired by reason."""
    pool = Pool(dataset.instances)
    members = {name: SUBSETS.get(name)(pool) for name in SUBSETS.builtin()}
    findings = Counter(
        f"{label} ({context})"
        for instance in dataset.instances
        for label, context in {(finding.label, finding.context) for finding in instance.findings}
    )
    regions = Counter(name for instance in dataset.instances for name in {box.name for box in instance.boxes})
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "instances": len(dataset.instances),
            "images": len({instance.image_id for instance in dataset.instances}),
            "patients": len({instance.cluster for instance in dataset.instances}),
            "distinct sentences": len({instance.sentence for instance in dataset.instances}),
        },
        "instances by subset": {
            name: "not applicable" if chosen is None else len(chosen) for name, chosen in members.items()
        },
        **_published(dataset, members),
        "instances by region of a box": dict(sorted(regions.items())),
        "instances by finding": dict(findings.most_common()),
        "left out": _reasons(dataset, repaired=False),
        "repaired": _reasons(dataset, repaired=True),
    }


def _published(dataset: Dataset, members: Mapping[str, frozenset[str] | None]) -> dict[str, dict[str, str]]:
    if not dataset.published:
        return {}
    rows = {}
    for one in dataset.published:
        annotated = "" if one.annotated is None else f"{one.annotated:,} annotated, "
        rows[one.subset] = f"published {one.published:,}; here {annotated}{len(members[one.subset] or ()):,} usable"
    return {"beside the published run": rows}


def _reasons(dataset: Dataset, repaired: bool) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in dataset.skipped if one.repaired is repaired).items()))


def draw_overlays(dataset: Dataset, folder: Path, count: int) -> int:
    """Draw ``count`` instances, a fixed random choice, into the folder; returns how many pictures were written."""
    from .datasets.overlays import draw

    chosen = sorted(dataset.instances, key=lambda one: hashlib.sha256(one.id.encode()).digest())[:count]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return len(draw(chosen, folder))
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
