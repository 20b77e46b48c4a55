"""From the table of a run to its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .frame import Subsets
from .instances import Dataset, Skipped, cluster_unit, fingerprint_images
from .plan import Plan
from .results import DatasetSummary, Manifest, RunResults, Score
from .summary import correlations, scores


@dataclass(frozen=True)
class Asked:
    """What a run is about: the plan of a suite on a dataset, and the members of its subsets."""

    plan: Plan
    dataset: Dataset
    subsets: Subsets


def conclude(
    asked: Asked,
    card: Mapping[str, Any],
    frame: pd.DataFrame,
    skipped: tuple[Skipped, ...],
    image_digests: Mapping[str, str],
    manifest: Manifest,
    cells: list[Score] | None = None,
) -> RunResults:
    """The results of a run from its table.

    ``card`` is the model's, ``skipped`` is what the reader and the run left out, ``image_digests`` are the SHA-256 of the image files
    by id. ``cells`` are :func:`cells_of_frame`'s where they are known already.
    """
    suite = asked.plan.suite
    return RunResults(
        status="complete",
        model=dict(card),
        dataset=_summarise(asked.dataset, frame, asked.subsets, skipped, asked.plan.limit, image_digests),
        suite=suite.model_dump(mode="json"),
        manifest=manifest,
        scores=cells_of_frame(asked, frame) if cells is None else cells,
        correlations=correlations(frame, suite),
    )


def cells_of_frame(asked: Asked, frame: pd.DataFrame) -> list[Score]:
    """All cells of a run from its table."""
    return scores(frame, asked.plan.suite, asked.subsets, asked.plan.seed)


def _summarise(
    dataset: Dataset,
    frame: pd.DataFrame,
    subsets: Subsets,
    skipped: tuple[Skipped, ...],
    limit: int | None,
    image_digests: Mapping[str, str],
) -> DatasetSummary:
    ids = set(frame["instance_id"])
    return DatasetSummary(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        ids_fingerprint=dataset.ids_fingerprint,
        images_fingerprint=fingerprint_images(image_digests),
        n_instances=len(ids),
        n_images=frame["image_id"].nunique(),
        n_patients=frame["cluster"].nunique(),
        unit=cluster_unit(frame["cluster"]),
        limit=limit,
        subsets={name: None if members is None else len(members & ids) for name, members in subsets.items()},
        skipped=_by_reason(skipped, repaired=False),
        repaired=_by_reason(skipped, repaired=True),
    )


def _by_reason(entries: tuple[Skipped, ...], repaired: bool) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in entries if one.repaired is repaired).items()))
