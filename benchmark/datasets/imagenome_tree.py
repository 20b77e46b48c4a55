"""Write a dataset as the trees of Chest ImaGenome (gold and silver), MIMIC-CXR-JPG and MIMIC-CXR (reports).

For datasets whose ids are of that kind, so that any reader of the published trees can be tried on data without a
licence. The test split becomes the gold set, and its films are those to avoid. What a dataset does not know has the same
value everywhere: dates count from one day, views are PA, sex and age are empty, concept ids are left out.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..anatomy import region_rank
from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from .image_files import ImageFormat, check_encoding, make_empty, save_image
from .imagenome_labels import category
from .rules import bare_id

_IMAGE_ID = re.compile(r"[0-9A-Za-z_-]+")
_NUMERIC_ID = re.compile(r"[0-9]{2,}")
_SPLITS = {"train": "train", "valid": "valid", "validate": "valid", "test": "test"}
_MIMIC_SPLITS = {"train": "train", "valid": "validate", "test": "test"}
_FIRST_DAY = datetime.date(2150, 1, 1)
_DAYS_BETWEEN_STUDIES = 100
_GOLD_COLUMNS = (
    "patient_id", "study_id", "image_id", "row_id", "section", "sentence", "bbox", "relation", "label_name", "context",
    "categoryID", "attribute", "coord224", "coord_original",
)  # fmt: skip
_BOX_COLUMNS = (
    "image_id", "x1", "y1", "x2", "y2", "width", "height", "bbox_name", "annot_id", "original_x1", "original_x2",
    "original_y1", "original_y2", "original_width", "original_height", "annotator", "coord224", "coord_original",
)  # fmt: skip
_METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip


@dataclass(slots=True)
class _Film:
    image: ImageRef
    patient: str
    study: str
    split: str
    order: int = 0  # the study's place among those of the patient
    sentences: dict[str, Instance] = field(default_factory=dict)
    boxes: dict[str, dict[Box, None]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"files/p{self.patient[:2]}/p{self.patient}/s{self.study}"

    @property
    def day(self) -> datetime.date:
        return _FIRST_DAY + datetime.timedelta(days=_DAYS_BETWEEN_STUDIES * self.order)


def write_tree(dataset: Dataset, folder: Path, *, image_format: ImageFormat = "jpg", quality: int = 95) -> Path:
    """Write ``chest-imagenome/1.0.0``, ``mimic-cxr-jpg/2.1.0`` and ``mimic-cxr/2.0.0`` into a new or empty folder.

    Films are encoded as JPEG of a quality in 1 to 95, or as PNG, which keeps every pixel. The readers give the same
    instances again: the gold set those of the test split, the silver set those of a split, or with
    ``images_to_avoid.csv`` in mind those of train and valid. Boxes come back in order of the findings at their regions;
    findings in the silver set come back in the order of :data:`wronglung.benchmark.anatomy.REGIONS`, then as they were.

    Returns the folder. Raises :class:`WronglungError`, before anything is written, for an instance that the format cannot
    hold: an id that is not ``dicom_<image id>_sent_<sentence id>``, a patient or study that is not a number, a split that
    is not train, valid or test, a box without a finding, and boxes of a region that differ within an image. Raises it too
    for a folder that holds something or cannot be written, and for films that cannot be read or encoded.
    """
    check_encoding(image_format, quality)
    films = _films(dataset)
    try:
        make_empty(folder)
        _write_gold(folder / "chest-imagenome/1.0.0/gold_dataset", [film for film in films if film.split == "test"])
        _write_silver(folder / "chest-imagenome/1.0.0/silver_dataset", films)
        _write_mimic_tables(folder / "mimic-cxr-jpg/2.1.0", films)
        _write_reports(folder / "mimic-cxr/2.0.0", films)
        for film in films:
            file = folder / "mimic-cxr-jpg/2.1.0" / film.folder / f"{film.image.id}.{image_format}"
            save_image(film.image, file, image_format, quality)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def _films(dataset: Dataset) -> list[_Film]:
    films: dict[str, _Film] = {}
    orders: dict[str, dict[str, int]] = {}
    for instance in dataset.instances:
        _check(instance)
        image, study, patient = instance.image, instance.study_id or "", instance.patient_id or ""
        split = _SPLITS[instance.split or ""]
        film = films.setdefault(image.id, _Film(image, patient, study, split))
        if (film.patient, film.study, film.split) != (patient, study, split):
            raise WronglungError(
                f"instance {instance.id}: its patient, study or split is not that of others on its image"
            )
        studies = orders.setdefault(patient, {})
        film.order = studies.setdefault(study, len(studies))
        film.sentences[instance.id.removeprefix(f"dicom_{image.id}_sent_")] = instance
        for name in {box.name for box in instance.boxes}:
            own = {box: None for box in instance.boxes if box.name == name}
            if film.boxes.setdefault(name, own) != own:
                raise WronglungError(f"instance {instance.id}: box {name!r} is not that of others on its image")
    for film in films.values():
        film.boxes = _all_boxes(film, dataset.regions.get(film.image.id, ()))
    return list(films.values())


def _all_boxes(film: _Film, regions: Iterable[Box]) -> dict[str, dict[Box, None]]:
    known: dict[str, dict[Box, None]] = {}
    for box in regions:
        known.setdefault(box.name, {})[box] = None
    for name, own in film.boxes.items():
        if known.setdefault(name, own) != own:
            raise WronglungError(
                f"image {film.image.id}: box {name!r} of a sentence is not that of the image's regions"
            )
    return known


def _check(instance: Instance) -> None:
    image_id = instance.image.id
    prefix = f"dicom_{image_id}_sent_"
    regions = {finding.region for finding in instance.findings}
    texts = [instance.sentence, instance.id, *regions, *(finding.label for finding in instance.findings)]
    faults = {
        f"is not named {prefix}<sentence id>": instance.id.startswith(prefix) and len(instance.id) > len(prefix),
        f"image id {image_id!r} is no plain name": _IMAGE_ID.fullmatch(image_id) and bare_id(image_id) == image_id,
        f"patient {instance.patient_id!r} is not a number": _NUMERIC_ID.fullmatch(instance.patient_id or ""),
        f"study {instance.study_id!r} is not a number": _NUMERIC_ID.fullmatch(instance.study_id or ""),
        f"split {instance.split!r} is not train, valid or test": instance.split in _SPLITS,
        "a box has no finding at its region": all(box.name in regions for box in instance.boxes),
        "a label or region is empty": all(regions) and all(finding.label for finding in instance.findings),
        "parent regions are not in the format": not instance.parent_regions,
        "a text holds a NUL byte or half a character": not any("\0" in one or _is_broken(one) for one in texts),
    }
    for fault, fine in faults.items():
        if not fine:
            raise WronglungError(f"instance {instance.id}: {fault}; Chest ImaGenome cannot hold it")


def _is_broken(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)


@dataclass(frozen=True, slots=True)
class _Small:
    """The frame of 224 × 224 pixels: the film shrunk to it and padded on both sides."""

    ratio: float
    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def of(cls, image: ImageRef) -> _Small:
        ratio = 224 / max(image.width, image.height)
        across, down = 224 - max(1, round(image.width * ratio)), 224 - max(1, round(image.height * ratio))
        return cls(ratio, across // 2, across - across // 2, down // 2, down - down // 2)

    def corners(self, box: Box) -> list[int]:
        x1, x2 = (round(one * self.ratio + self.left) for one in (box.x1, box.x2))
        y1, y2 = (round(one * self.ratio + self.top) for one in (box.y1, box.y2))
        return [x1, y1, x2, y2]


def _corners(box: Box) -> list[float]:
    """x1, y1, x2, y2, whole numbers as integers."""
    return [int(one) if one == int(one) else one for one in (box.x1, box.y1, box.x2, box.y2)]


def _write_gold(folder: Path, films: Sequence[_Film]) -> None:
    rows: list[dict[str, Any]] = []
    boxes: list[list[Any]] = []
    scaling: list[list[Any]] = []
    for film in films:
        small, dicom = _Small.of(film.image), f"{film.image.id}.dcm"
        for row_id, instance in film.sentences.items():
            common = {
                "patient_id": film.patient, "study_id": film.study, "image_id": dicom, "row_id": row_id,
                "section": "finalreport", "sentence": instance.sentence,
            }  # fmt: skip
            for finding in instance.findings:
                kind = category(finding.label)
                said = {
                    "bbox": finding.region, "relation": int(finding.context == "yes"), "label_name": finding.label,
                    "context": finding.context, "categoryID": kind,
                    "attribute": f"{kind}|{finding.context}|{finding.label}",
                }  # fmt: skip
                placed = [box for box in instance.boxes if box.name == finding.region]
                rows += [
                    {**common, **said, "coord224": small.corners(box), "coord_original": _corners(box)}
                    for box in placed
                ] or [{**common, **said, "coord224": "", "coord_original": ""}]
        for box in (box for known in film.boxes.values() for box in known):
            boxes.append(_box_row(dicom, box, small, len(boxes)))
        scaling.append([dicom, small.top, small.bottom, small.left, small.right, small.ratio])
    table = [[row[column] for column in _GOLD_COLUMNS] for row in rows]
    _write_table(folder / "gold_object_attribute_with_coordinates.txt", _GOLD_COLUMNS, table, delimiter="\t")
    _write_table(folder / "gold_bbox_coordinate_annotations_1000images.csv", _BOX_COLUMNS, boxes)
    columns = ("image_id", "top", "bottom", "left", "right", "ratio")
    _write_table(folder / "gold_bbox_scaling_factors_original_to_224x224.csv", columns, scaling)


def _box_row(dicom: str, box: Box, small: _Small, number: int) -> list[Any]:
    a1, b1, a2, b2 = map(float, small.corners(box))
    return [
        dicom, a1, b1, a2, b2, a2 - a1, b2 - b1, box.name, number,
        box.x1, box.x2, box.y1, box.y2, box.x2 - box.x1, box.y2 - box.y1, 1,
        small.corners(box), _corners(box),
    ]  # fmt: skip


def _write_silver(folder: Path, films: Sequence[_Film]) -> None:
    (folder / "scene_graph").mkdir(parents=True)
    for film in films:
        text = json.dumps(_scene_graph(film))
        (folder / "scene_graph" / f"{film.image.id}_SceneGraph.json").write_text(text, encoding="utf-8")
    columns = ("subject_id", "study_id", "dicom_id", "path", "ViewPosition")
    for name in ("train", "valid", "test"):
        rows = [[at, *_listed(film)] for at, film in enumerate(film for film in films if film.split == name)]
        _write_table(folder / f"splits/{name}.csv", ("", *columns), rows)
    avoided = [_listed(film) for film in films if film.split == "test"]
    _write_table(folder / "splits/images_to_avoid.csv", columns, avoided)


def _listed(film: _Film) -> list[str]:
    return [film.patient, film.study, film.image.id, f"{film.folder}/{film.image.id}.dcm", "PA"]


def _scene_graph(film: _Film) -> dict[str, Any]:
    small, image_id = _Small.of(film.image), film.image.id
    regions = dict.fromkeys(one.region for instance in film.sentences.values() for one in instance.findings)
    attributes = []
    for region in sorted(regions, key=region_rank):
        said = {
            sentence_id: [
                f"{category(one.label)}|{one.context}|{one.label}" for one in instance.findings if one.region == region
            ]
            for sentence_id, instance in film.sentences.items()
        }
        said = {sentence_id: labels for sentence_id, labels in said.items() if labels}
        nothing: list[list[str]] = [[] for _ in said]
        cues = dict.fromkeys(("comparison_cues", "temporal_cues", "severity_cues", "texture_cues"), nothing)
        attributes.append(
            {
                region: True,
                "bbox_name": region,
                "synsets": [],
                "name": region.capitalize(),
                "attributes": list(said.values()),
                "attributes_ids": [[""] * len(labels) for labels in said.values()],
                "phrases": [film.sentences[one].sentence for one in said],
                "phrase_IDs": list(said),
                "sections": ["finalreport"] * len(said),
                **cues,
                "object_id": f"{image_id}_{region}",
            }
        )
    return {
        "image_id": image_id,
        "viewpoint": "PA",
        "patient_id": int(film.patient),
        "study_id": int(film.study),
        "gender": "",
        "age_decile": "",
        "reason_for_exam": "",
        "StudyOrder": film.order + 1,
        "StudyDateTime": f"{film.day} 00:00:00",
        "objects": [_graph_object(image_id, box, small) for known in film.boxes.values() for box in known],
        "attributes": attributes,
        "relationships": [],
    }


def _graph_object(image_id: str, box: Box, small: _Small) -> dict[str, Any]:
    a1, b1, a2, b2 = small.corners(box)
    x1, y1, x2, y2 = _corners(box)
    return {
        "object_id": f"{image_id}_{box.name}",
        "x1": a1, "y1": b1, "x2": a2, "y2": b2, "width": a2 - a1, "height": b2 - b1,
        "bbox_name": box.name, "synsets": [], "name": box.name.capitalize(),
        "original_x1": x1, "original_y1": y1, "original_x2": x2, "original_y2": y2,
        "original_width": x2 - x1, "original_height": y2 - y1,
    }  # fmt: skip


def _write_mimic_tables(folder: Path, films: Sequence[_Film]) -> None:
    metadata = [
        [
            film.image.id, film.patient, film.study, "CHEST (PA)", "PA", film.image.height, film.image.width,
            f"{film.day:%Y%m%d}", "0.0", "CHEST (PA)", "postero-anterior", "Erect",
        ]
        for film in films
    ]  # fmt: skip
    _write_table(folder / "mimic-cxr-2.0.0-metadata.csv.gz", _METADATA_COLUMNS, metadata)
    splits = [[film.image.id, film.study, film.patient, _MIMIC_SPLITS[film.split]] for film in films]
    _write_table(folder / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), splits)


def _write_reports(folder: Path, films: Sequence[_Film]) -> None:
    """A report a study, as in MIMIC-CXR: every line begins with a blank and is shorter than 80 characters."""
    reports: dict[str, dict[str, str]] = {}
    for film in films:
        sentences = reports.setdefault(film.folder, {})
        sentences.update({row_id: instance.sentence for row_id, instance in film.sentences.items()})
    for place, sentences in reports.items():
        body = textwrap.wrap(" ".join(" ".join(one.split()) for one in sentences.values()), 78)
        lines = [f"{'FINAL REPORT':>45}", " FINDINGS:", " ", *(f" {line}" for line in body)]
        file = folder / f"{place}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    text = io.StringIO(newline="")
    minimal = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    # A carriage return ends a row too, but is quoted for it from Python 3.13 only.
    quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (columns, *rows):
        (quoted if any("\r" in str(cell) for cell in row) else minimal).writerow(row)
    content = text.getvalue().encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    # Without a time stamp, so that the same dataset gives the same bytes.
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
