"""Write a dataset in the neutral format of :mod:`.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import WronglungError
from ..instances import Box, Dataset, Instance
from .image_files import ImageFormat, check_encoding, make_empty, save_image
from .rules import bare_id


def write_jsonl(
    dataset: Dataset, folder: Path, *, name: str, image_format: ImageFormat = "png", quality: int = 95
) -> Path:
    """Write ``<name>.jsonl`` and, beside it, ``<image id>.png`` or ``.jpg`` into a new or empty folder.

    The reader gives the same instances again, with the same fingerprint. Returns the path of the ``.jsonl`` file.

    Raises :class:`WronglungError`, before anything is written, for an image id that is no plain file name and for parent
    regions, which the format does not have. Raises it too for a folder that holds something or cannot be written, and for
    images that cannot be read or encoded.
    """
    check_encoding(image_format, quality)
    images = {instance.image_id: instance.image for instance in dataset.instances}
    for image_id in images:
        if image_id in ("", ".", "..") or bare_id(image_id) != image_id or {"/", "\\", "\0"} & set(image_id):
            raise WronglungError(f"image id {image_id!r} is no plain name; a file cannot be named after it")
    for instance in dataset.instances:
        if instance.parent_regions:
            raise WronglungError(f"instance {instance.id}: parent regions are not in the format")
    unsaid = {image_id: dataset.regions[image_id] for image_id in images if image_id in dataset.regions}
    lines = []
    for instance in dataset.instances:
        regions = unsaid.pop(instance.image_id, None)
        lines.append(json.dumps(_line(instance, regions, image_format), ensure_ascii=True))
    file = folder / f"{name}.jsonl"
    try:
        make_empty(folder)
        for image_id, image in images.items():
            save_image(image, folder / f"{image_id}.{image_format}", image_format, quality)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return file


def _line(instance: Instance, regions: Iterable[Box] | None, image_format: str) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": instance.id,
        "image": f"{instance.image_id}.{image_format}",
        "sentence": instance.sentence,
        "boxes": _boxes(instance.boxes),
        "findings": [{"label": one.label, "context": one.context, "region": one.region} for one in instance.findings],
        "study_id": instance.study_id,
        "patient_id": instance.patient_id,
        "split": instance.split,
    }
    return line if regions is None else {**line, "regions": _boxes(regions)}


def _boxes(boxes: Iterable[Box]) -> list[dict[str, Any]]:
    return [_box(box) for box in boxes]


def _box(box: Box) -> dict[str, Any]:
    line: dict[str, Any] = {"name": box.name, "box": [box.x1, box.y1, box.x2, box.y2]}
    if box.mask is not None:
        line["mask"] = {"size": [box.mask.height, box.mask.width], "counts": box.mask.counts.decode()}
    return line
