"""Write a dataset in the neutral format of :mod:`.jsonl`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from .image_files import ImageFormat, check_encoding, save_image, whole_folder
from .rules import bare_id

Images = Literal["png", "jpg", "reference"]


def write_jsonl(dataset: Dataset, folder: Path, *, name: str, images: Images = "png", quality: int = 95) -> Path:
    """Write ``<name>.jsonl`` into a new or empty folder, and beside it the images, as PNG or JPEG files of 8 bits.

    With ``images="reference"`` none is copied: paths are relative to :func:`image_root`, which the reader is to be given as
    its argument ``images``. The reader gives the same instances again, with the same fingerprint. Returns the path of the
    ``.jsonl`` file.

    Raises :class:`WronglungError` for a folder that holds something or cannot be written, for images that cannot be read or
    encoded, and for references to images that are not files of their own.
    """
    refs = {instance.image_id: instance.image for instance in dataset.instances}
    if images == "reference":
        root = image_root(dataset)
        paths = {image_id: ref.path.absolute().relative_to(root).as_posix() for image_id, ref in refs.items()}
    else:
        check_encoding(images, quality)
        paths = _file_names(refs, images)
    lines = list(_lines(dataset, paths))
    try:
        with whole_folder(folder) as scratch:
            if images != "reference":
                for image_id, ref in refs.items():
                    save_image(ref, scratch / paths[image_id], images, quality)
            (scratch / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder / f"{name}.jsonl"


def image_root(dataset: Dataset) -> Path:
    """The deepest folder that holds all image files of a dataset.

    Raises :class:`WronglungError` for images that are not files: generated ones, and those inside a table.
    """
    refs = {instance.image.path: instance.image for instance in dataset.instances}
    inside = next((ref for ref in refs.values() if type(ref) is not ImageRef), None)
    if inside is not None:
        raise WronglungError(
            f"image {inside.id}: is no file that could be referred to; have the images copied (--images png)"
        )
    # Where links lead counts, too: the reader follows none that leave the folder.
    return Path(os.path.commonpath([one.parent for path in refs for one in (path.absolute(), path.resolve())]))


def _file_names(refs: Mapping[str, ImageRef], suffix: ImageFormat) -> dict[str, str]:
    """Image id to a file name: the id where that is a plain name, else a number."""
    return {
        image_id: f"{image_id if _is_plain(image_id) else f'image_{at:06d}'}.{suffix}"
        for at, image_id in enumerate(refs, start=1)
    }


def _is_plain(image_id: str) -> bool:
    forbidden = (
        {"/", "\\", "\0"} & set(image_id) or image_id.startswith((".", "image_")) or len(image_id.encode()) > 200
    )
    return not forbidden and bare_id(image_id) == image_id and image_id.isprintable()


def _lines(dataset: Dataset, paths: Mapping[str, str]) -> Iterable[str]:
    unsaid = {image_id: dataset.regions[image_id] for image_id in paths if image_id in dataset.regions}
    for instance in dataset.instances:
        regions = unsaid.pop(instance.image_id, None)
        yield json.dumps(_line(instance, regions, paths[instance.image_id]), ensure_ascii=True)


def _line(instance: Instance, regions: Iterable[Box] | None, path: str) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": instance.id,
        "image": path,
        "sentence": instance.sentence,
        "boxes": box_lines(instance.boxes),
        "findings": [{"label": one.label, "context": one.context, "region": one.region} for one in instance.findings],
        "study_id": instance.study_id,
        "patient_id": instance.patient_id,
        "split": instance.split,
    }
    if bare_id(path) != instance.image_id:
        line["image_id"] = instance.image_id
    if instance.parent_regions:
        line["parent_regions"] = list(instance.parent_regions)
    return line if regions is None else {**line, "regions": box_lines(regions)}


def box_lines(boxes: Iterable[Box]) -> list[dict[str, Any]]:
    """Boxes as the format has them: ``name``, ``box`` (x1, y1, x2, y2) and, where there is one, ``mask``."""
    return [_box_line(box) for box in boxes]


def _box_line(box: Box) -> dict[str, Any]:
    line: dict[str, Any] = {"name": box.name, "box": [box.x1, box.y1, box.x2, box.y2]}
    if box.mask is not None:
        line["mask"] = {"size": [box.mask.height, box.mask.width], "counts": box.mask.counts.decode()}
    return line
