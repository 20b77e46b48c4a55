"""Runs on a small dataset whose every text tries to leave its place on a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from wronglung import Dataset, evaluate, load_model

HOSTILE = (
    "</script><script>window.ran=1</script><img src=x onerror='window.ran=1'>\"{{ 7 * 7 }}{% raw %}\u2028&lt;`${7}`"
)


def hostile(dataset: Dataset) -> Dataset:
    """The dataset with ids, sentences and names that hold markup; each also has a mark of its own, to search for."""
    images = {
        image.id: replace(image, id=f"image-{at}-qzx{HOSTILE}")
        for at, image in enumerate(dict.fromkeys(one.image for one in dataset.instances))
    }
    instances = tuple(
        replace(
            one,
            id=f"instance-{at}-qzx{HOSTILE}",
            image=images[one.image.id],
            sentence=f"{one.sentence} sentence-{at}-qzx {HOSTILE}",
            study_id=f"study-qzx-{one.study_id}",
            patient_id=f"patient-qzx-{one.patient_id}",
        )
        for at, one in enumerate(dataset.instances)
    )
    regions = {images[key].id: boxes for key, boxes in dataset.regions.items() if key in images}
    return replace(dataset, name=f"films {HOSTILE}", instances=instances, regions=regions)


def save_run(
    folder: Path, model: str, dataset: Dataset, *, name: str | None = None, suite: Any = "smoke", maps: bool = True
) -> Path:
    """A run of a model that ships, called ``name``, in its folder."""
    made = load_model(model)
    if name is not None:
        made.card = made.card.model_copy(update={"name": name, "settings": {HOSTILE: HOSTILE}})
    evaluate(made, dataset, suite, save_maps=maps).save(_made(folder))
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
