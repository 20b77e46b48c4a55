"""From the table of a run to its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import WronglungError
from .frame import Rows, Subsets, of_task
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

    @classmethod
    def of(cls, plan: Plan, dataset: Dataset) -> Asked:
        """Raises :class:`WronglungError` where no instance is in any subset."""
        subsets = plan.subsets()
        if not any(subsets.values()):
            raise WronglungError(
                f"dataset {dataset.name!r}: no instance belongs to any subset of suite {plan.suite.name!r} ({', '.join(subsets)})"
            )
        return cls(plan, dataset, subsets)


def conclude(
    asked: Asked,
    card: Mapping[str, Any],
    rows: Rows,
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
        dataset=_summarise(asked, rows, skipped, image_digests),
        suite=suite.model_dump(mode="json"),
        manifest=manifest,
        scores=cells_of_frame(asked, rows) if cells is None else cells,
        correlations=correlations(rows, suite),
    )


def cells_of_frame(asked: Asked, rows: Rows) -> list[Score]:
    """All cells of a run from its table."""
    return scores(rows, asked.plan.suite, asked.subsets, asked.plan.seed)


def _summarise(
    asked: Asked, rows: Rows, skipped: tuple[Skipped, ...], image_digests: Mapping[str, str]
) -> DatasetSummary:
    dataset = asked.dataset
    first = of_task(rows, asked.plan.suite.tasks[0].name, ("instance_id", "image_id", "cluster"))
    ids = set(first["instance_id"])
    return DatasetSummary(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        ids_fingerprint=dataset.ids_fingerprint,
        images_fingerprint=fingerprint_images(image_digests),
        n_instances=len(ids),
        n_images=first["image_id"].nunique(),
        n_patients=first["cluster"].nunique(),
        unit=cluster_unit(first["cluster"]),
        limit=asked.plan.limit,
        subsets={name: None if members is None else len(members & ids) for name, members in asked.subsets.items()},
        skipped=_by_reason(skipped, repaired=False),
        repaired=_by_reason(skipped, repaired=True),
    )


def _by_reason(entries: tuple[Skipped, ...], repaired: bool) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in entries if one.repaired is repaired).items()))
