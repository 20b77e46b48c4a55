"""Counts and pictures of a dataset."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..tasks.pool import Pool
from ..tasks.subsets import is_abnormal
from .errors import WronglungError
from .instances import Dataset, ImageRef, Skipped, cluster_unit
from .registry import SUBSETS


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Instances, images and patients; instances by subset, region and finding; skipped and repaired by reason."""
    pool = Pool(dataset.instances)
    members = {name: SUBSETS.get(name)(pool) for name in SUBSETS.builtin()}
    clusters = {instance.cluster for instance in dataset.instances}
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
            f"independent {cluster_unit(clusters)}": len(clusters),
            "distinct sentences": len({instance.sentence for instance in dataset.instances}),
        },
        "instances by split": dict(sorted(Counter(str(one.split or "none") for one in dataset.instances).items())),
        "instances by subset": {
            name: "not applicable" if chosen is None else len(chosen) for name, chosen in members.items()
        },
        **_published(dataset, members),
        "instances by what a box shows": dict(sorted(regions.items())),
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
        usable = len(members[one.subset] or ())
        if one.subset == "abnormal":
            # By the label of that name, as the published run counted.
            usable = sum(is_abnormal(instance, "abnormal") for instance in dataset.instances)
        rows[one.subset] = f"published {one.published:,}; here {annotated}{usable:,} usable"
    return {"beside the published run": rows}


def _reasons(dataset: Dataset, repaired: bool) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in dataset.skipped if one.repaired is repaired).items()))


@dataclass(frozen=True)
class ImageReport:
    """What reading every image of a dataset gave: SHA-256 of each file by image id, and the images that failed."""

    digests: Mapping[str, str]
    faults: tuple[Skipped, ...]


def examine_images(dataset: Dataset, *, workers: int, progress: bool = False) -> ImageReport:
    """Read and decode every image of the instances, on ``workers`` threads; memory is bounded by their number."""
    images = {instance.image_id: instance.image for instance in dataset.instances}
    digests: dict[str, str] = {}
    faults = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(images), unit="image", disable=not progress, leave=False) as bar,
    ):
        waiting = iter(images.values())
        ahead = deque((one, pool.submit(_examine, one)) for one in islice(waiting, 4 * workers))
        while ahead:
            image, future = ahead.popleft()
            try:
                digests[image.id] = future.result()
            except OSError as error:
                faults.append(Skipped("image_unreadable", image.id, str(error)))
            ahead.extend((one, pool.submit(_examine, one)) for one in islice(waiting, 1))
            bar.update()
    return ImageReport(digests, tuple(faults))


def _examine(image: ImageRef) -> str:
    data = image.read()
    image.decoded(data)
    return hashlib.sha256(data).hexdigest()


def validate(dataset: Dataset, report: ImageReport) -> dict[str, Any]:
    """What is usable, and for each reason of the ledger how often it occurs and where first."""
    lost = {fault.where for fault in report.faults}
    usable = [one for one in dataset.instances if one.image_id not in lost]
    entries = (*dataset.skipped, *report.faults)
    return {
        "images": {"decoded": len(report.digests), "cannot be decoded": len(lost)},
        "instances": {"usable": len(usable), "on images that cannot be decoded": len(dataset.instances) - len(usable)},
        "left out": _examples(entries, repaired=False),
        "repaired": _examples(entries, repaired=True),
    }


def _examples(entries: Sequence[Skipped], repaired: bool) -> dict[str, str]:
    counts = Counter(one.reason for one in entries if one.repaired is repaired)
    first = {one.reason: one for one in reversed(entries) if one.repaired is repaired}
    return {
        reason: f"{count:,}, first {first[reason].where}"
        + (f": {first[reason].detail}" if first[reason].detail else "")
        for reason, count in sorted(counts.items())
    }


def draw_overlays(dataset: Dataset, folder: Path, count: int) -> int:
    """Draw ``count`` instances, a fixed random choice, into the folder; returns how many pictures were written."""
    from .datasets.overlays import draw

    chosen = sorted(dataset.instances, key=lambda one: hashlib.sha256(one.id.encode()).digest())[:count]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return len(draw(chosen, folder))
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
