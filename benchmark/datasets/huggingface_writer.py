"""Write a dataset as a Hugging Face ``Dataset`` on disk, with the mapping file that :mod:`.huggingface` reads it by.

A row is an image with its sentences, in parallel lists of ids, boxes, findings and parent regions. Sentences of one image that
do not follow each other stand in several rows, so that the order stays.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from ..decoding import size_of
from ..errors import WronglungError
from ..instances import Dataset, ImageRef, Instance
from .huggingface import MAPPING_FILE
from .image_files import in_png_colours, make_empty
from .jsonl_writer import box_lines

_MAPPING = {
    "image": "image",
    "sentence": "sentence",
    "boxes": "boxes",
    "box_format": "xyxy",
    "box_units": "pixels",
    "split_column": "split",
    "id": "id",
    "image_id": "image_id",
    "study_id": "study_id",
    "patient_id": "patient_id",
    "findings": "findings",
    "parent_regions": "parent_regions",
    "regions": "regions",
}
_OWN_FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_BATCH_BYTES = 32 << 20
_BATCH_ROWS = 100


def write_huggingface(dataset: Dataset, folder: Path) -> Path:
    """Write a dataset into a new or empty folder: what ``Dataset.save_to_disk`` writes, and ``mapping.yaml``.

    Images are embedded, JPEG and PNG files as they are, others (generated ones, DICOM) as PNG of 8 bits a channel. The reader
    gives the same instances in the same order, with the same fingerprint and, for images with a sentence, the same regions.
    ``datasets.load_from_disk`` reads it, too. Memory holds one batch of images at a time. Returns the folder.

    Raises :class:`WronglungError` for a folder that holds something or cannot be written, a dataset without an instance, and an
    image that cannot be read or is not of the size that was announced; the folder then stays empty.
    """
    import pyarrow as pa

    if not dataset.instances:
        raise WronglungError(f"{folder}: dataset {dataset.name!r} has no instance to write")
    try:
        make_empty(folder)
        # On the same disk, so that what is complete can be moved into place.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as scratch:
            _write(dataset, Path(scratch))
            # The mapping comes last: without it, the folder is not read.
            files = sorted((Path(scratch) / "set").iterdir(), key=lambda one: one.name == MAPPING_FILE)
            try:
                for file in files:
                    file.rename(folder / file.name)
            except OSError:
                for file in files:
                    (folder / file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise WronglungError(f"{folder}: a text cannot be written as UTF-8: {error}") from error
    return folder


def _write(dataset: Dataset, scratch: Path) -> None:
    """Write ``scratch/set``, complete."""
    import datasets
    import pyarrow as pa

    features = _features()
    table = scratch / "rows.arrow"
    with pa.OSFile(str(table), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as stream:
        for batch in _batches(dataset):
            stream.write_batch(pa.RecordBatch.from_pylist(batch, schema=features.arrow_schema))
    info = datasets.DatasetInfo(features=features)
    quiet = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        datasets.Dataset.from_file(str(table), info=info).save_to_disk(str(scratch / "set"))
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    mapping = yaml.safe_dump({"name": dataset.name, **_MAPPING}, sort_keys=False, allow_unicode=True)
    (scratch / "set" / MAPPING_FILE).write_text(mapping, encoding="utf-8")


def _features() -> Any:
    """The columns. A list in brackets is a list of structs in all versions of ``datasets``."""
    from datasets import Features, Image, Value

    text, number = Value("string"), Value("float64")
    mask = {"size": [Value("int32")], "counts": text}
    boxes = [{"name": text, "box": [number], "mask": mask}]
    return Features(
        {
            "image": Image(),
            "image_id": text,
            "study_id": text,
            "patient_id": text,
            "split": text,
            "id": [text],
            "sentence": [text],
            "boxes": [boxes],
            "findings": [[{"label": text, "context": text, "region": text}]],
            "parent_regions": [[text]],
            "regions": boxes,
        }
    )


def _batches(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """Rows, as many at a time as memory and Arrow's limit for a column of bytes easily hold."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in _rows(dataset):
        batch.append(row)
        size += len(row["image"]["bytes"])
        if size > _BATCH_BYTES or len(batch) == _BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    said: set[str] = set()
    for key, group in groupby(dataset.instances, key=_of_a_row):
        instances = list(group)
        image = instances[0].image
        regions = None if image.id in said else dataset.regions.get(image.id)
        said.add(image.id)
        yield {
            "image": {"bytes": _image_file(image), "path": None},
            **dict(zip(("image_id", "study_id", "patient_id", "split"), key, strict=True)),
            "id": [one.id for one in instances],
            "sentence": [one.sentence for one in instances],
            "boxes": [box_lines(one.boxes) for one in instances],
            "findings": [
                [{"label": two.label, "context": two.context, "region": two.region} for two in one.findings]
                for one in instances
            ],
            "parent_regions": [list(one.parent_regions) for one in instances],
            "regions": None if regions is None else box_lines(regions),
        }


def _of_a_row(instance: Instance) -> tuple[str | None, ...]:
    return instance.image_id, instance.study_id, instance.patient_id, instance.split


def _image_file(image: ImageRef) -> bytes:
    """The image as a JPEG or PNG file."""
    try:
        data = image.read()
        if data.startswith(_OWN_FORMATS) and _is_file_of(data, image):
            return data
        pixels = in_png_colours(image.decoded(data))
        file = io.BytesIO()
        pixels.save(file, format="PNG")
    except OSError as error:
        raise WronglungError(f"image {image.id}: {error}") from error
    return file.getvalue()


def _is_file_of(data: bytes, image: ImageRef) -> bool:
    """Whether these are an image file of the announced size; the pixels of a generated image may begin like one."""
    try:
        return size_of(io.BytesIO(data)) == (image.width, image.height)
    except OSError:
        return False
