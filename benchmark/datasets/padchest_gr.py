"""PadChest-GR: sentences of Spanish radiology reports, with an English translation, and the boxes that radiologists drew.

Read is the published tree::

    PadChest-GR/                                  the folder may have any name
      grounded_reports_20240819.json              studies, their sentences and boxes; of several files the newest date counts
      PadChest_GR/<ImageID>                       one frontal film a study, PNG of 16 bits (join and unpack the zip parts)
      master_table.csv                            patients and splits; also .csv.zip or .csv.gz; optional

Images may also lie in the folder itself or anywhere below ``PadChest_GR``, and be copies in another format or size under the
same name. The root may be the folder, one or two levels above it, or the JSON file.

An instance is a sentence of a film with its boxes, ``<image id>_sent_<n>``, n counted from 0 over all sentences of the film. A
sentence that stands twice on a film is one instance, named after the first. Its findings are its labels, affirmed where it is
marked as abnormal and negated otherwise (but for "normal"); a sentence that is marked as abnormal and has no label says "abnormal". No regions are
named. Most sentences that say what is absent have no box, and are left out (``sentence_without_annotation``).

The argument ``language`` chooses the sentence, ``en`` or ``es``. Many sentences were boxed by two readers: ``boxes`` chooses
the first or the second, whose version is of the same findings, not of further ones; the two are never joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, RootModel

from ..errors import WronglungError
from ..instances import Box, Dataset, Finding, ImageRef, Instance
from .coco import read_model
from .locating import find_images, image_places
from .mimic_cxr import folders, whole_number
from .rules import Ledger, bare_id, check_box, image_ids, open_image
from .tables import read_table

Language = Literal["en", "es"]
Reader = Literal["first", "second"]

_FOLDER = "PadChest_GR"
_TABLES = tuple(f"master_table.csv{suffix}" for suffix in ("", ".zip", ".gz"))
_NORMALISED = (1, 1)


class FindingEntry(BaseModel):
    """A sentence. Those that say what is absent mostly lack all but the text and ``abnormal``."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    sentence_en: str | None = None
    sentence_es: str | None = None
    abnormal: bool | None = None
    boxes: list[list[float | None] | None] | None = None
    extra_boxes: list[list[float | None] | None] | None = None
    labels: list[str] | None = None


class StudyEntry(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    StudyID: str | int
    ImageID: str
    findings: list[FindingEntry] | None = None


class Document(RootModel[list[StudyEntry]]):
    """The JSON file."""


@dataclass(frozen=True, slots=True)
class _Patient:
    id: str | None
    split: str | None


@dataclass(slots=True)
class _Film:
    """A film, and its sentences by text; a number is the position of a sentence among all of the film."""

    study: str
    count: int = 0
    sentences: dict[str, dict[int, FindingEntry]] = field(default_factory=dict)


def read(root: Path, *, language: Language = "en", boxes: Reader = "first", images: Path | None = None) -> Dataset:
    """Read PadChest-GR from its folder, from one or two levels above it, or from its JSON file.

    ``language`` is that of the sentences, ``boxes`` chooses between the two readers' versions of the boxes, and ``images`` is a
    folder of films elsewhere. Films are in file order, the sentences of a film by position. :attr:`Dataset.regions` has all
    boxes of a film by the chosen reader.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a damaged file. Left out, with a
    reason in the ledger, are sentences without a box or without text, broken boxes, and films that are missing or unreadable.
    Patients and splits are None without ``master_table.csv``.
    """
    for name, value, choices in (("language", language, get_args(Language)), ("boxes", boxes, get_args(Reader))):
        if value not in choices:
            raise WronglungError(f"{name}={value!r}: must be one of {', '.join(choices)}")
    ledger = Ledger()
    file = _find(root)
    document = read_model(file, Document)
    films = _films(document.root, language, ledger)
    folder, index = _find_images(file, root, images, films)
    patients = _patients(file, folder, {whole_number(film.study) for film in films.values()}, ledger)
    ids = image_ids(films)
    instances: list[Instance] = []
    regions: dict[str, tuple[Box, ...]] = {}
    for name, film in films.items():
        patient = patients.get(whole_number(film.study)) if patients is not None else _Patient(None, None)
        if patient is None:
            ledger.repair("metadata_missing", ids[name], f"study {film.study} is not in the master table")
        image = open_image(folder, index.get(bare_id(name), name), ids[name], ledger)
        if image is None:
            continue
        own = list(_instances(film, image, patient or _Patient(None, None), boxes, ledger))
        instances += own
        regions[image.id] = tuple(dict.fromkeys(box for instance in own for box in instance.boxes))
    return Dataset("padchest-gr", tuple(instances), tuple(ledger.entries), regions)


def _find(root: Path) -> Path:
    """The newest file of reports in root, below it, or beside it where root is the folder of images."""
    if root.is_file():
        return root
    found = [file for folder in folders(root, 2) for file in sorted(folder.glob("grounded_reports_*.json"))]
    found = found or sorted(root.resolve().parent.glob("grounded_reports_*.json"))
    if not found:
        raise WronglungError(
            f"{root}: no PadChest-GR found; looked for grounded_reports_*.json in this folder and two levels below it; give the "
            f"folder that holds it and {_FOLDER}/, or the file itself"
        )
    return max(found, key=lambda one: one.name)


def _find_images(file: Path, root: Path, images: Path | None, films: Iterable[str]) -> tuple[Path, Mapping[str, str]]:
    """The folder of the films, and where they are in it by bare id."""
    fix = (
        f"looked for {_FOLDER}/<ImageID>; join and unpack the zip parts, or name their folder with the argument images"
    )
    return find_images(image_places(file, root, _FOLDER), images, {bare_id(name) for name in films}, fix)


def _films(studies: Iterable[StudyEntry], language: Language, ledger: Ledger) -> dict[str, _Film]:
    """The films by the name of their file, with their sentences by text."""
    films: dict[str, _Film] = {}
    for at, entry in enumerate(studies):
        film = films.setdefault(entry.ImageID, _Film(str(entry.StudyID)))
        where = bare_id(entry.ImageID)
        if film.study != str(entry.StudyID):
            ledger.drop("row_contradicts", f"entry [{at}]", f"{where} is of study {film.study} in an earlier entry")
            continue
        if not entry.findings:
            ledger.drop("no_annotation", where, "no findings")
        for finding in entry.findings or ():
            number, film.count = film.count, film.count + 1
            text = finding.sentence_en if language == "en" else finding.sentence_es
            if text is None or not text.strip():
                ledger.drop("sentence_missing", f"{where}_sent_{number}", f"sentence_{language} is empty")
                continue
            same = film.sentences.setdefault(text, {})
            if finding in same.values():
                ledger.repair("duplicate_row", f"{where}_sent_{number}", text)
            else:
                same[number] = finding
    return films


def _patients(file: Path, folder: Path, wanted: set[str], ledger: Ledger) -> Mapping[str, _Patient] | None:
    """Patient and split by study, as a whole number; None (with one entry for all) without the table."""
    places = (file.parent, folder.resolve().parent, file.resolve().parent.parent)
    tables = [place / name for place in places for name in _TABLES if (place / name).is_file()]
    if not tables:
        ledger.repair("metadata_missing", _TABLES[0], "no such table; patients and splits are not known")
        return None
    patients: dict[str, _Patient] = {}
    for line, (text, patient_id, split) in read_table(tables[0], ("StudyID", "PatientID", "split")):
        study = whole_number(text)
        if study not in wanted:
            continue
        patient = _Patient(whole_number(patient_id) or None, split.strip() or None)
        if patients.setdefault(study, patient) != patient:
            where = f"{tables[0].name}:{line}"
            ledger.repair("row_contradicts", where, f"study {study}: another patient or split; its first row counts")
    return patients


def _instances(film: _Film, image: ImageRef, patient: _Patient, reader: Reader, ledger: Ledger) -> Iterator[Instance]:
    for text, entries in film.sentences.items():
        instance_id = f"{image.id}_sent_{next(iter(entries))}"
        findings = dict.fromkeys(finding for entry in entries.values() for finding in _findings(entry))
        boxes: dict[Box, None] = {}
        given = 0
        for number, entry in entries.items():
            drawn = (entry.boxes if reader == "first" else entry.extra_boxes) or []
            name = ", ".join(_labels(entry)) if entry.abnormal else ""
            where = f"{image.id}_sent_{number}"
            given += len(drawn)
            for corners in drawn:
                box = check_box(name, corners, (image.width, image.height), where, ledger, frame=_NORMALISED)
                if box is not None and box in boxes:
                    ledger.repair("duplicate_row", where, f"{name}: a box given twice")
                elif box is not None:
                    boxes[box] = None
        if boxes:
            yield Instance(
                instance_id, image, text, tuple(boxes), tuple(findings), film.study, patient.id, patient.split
            )
        elif given:
            ledger.drop("no_valid_box", instance_id)
        else:
            ledger.drop("sentence_without_annotation", instance_id, text)


def _labels(entry: FindingEntry) -> list[str]:
    return [name for label in entry.labels or () if (name := label.strip().lower())]


def _findings(entry: FindingEntry) -> Iterator[Finding]:
    """Nothing where the set does not say whether the sentence is abnormal."""
    labels = _labels(entry)
    if entry.abnormal:
        yield from (Finding(label, "yes", "") for label in labels or ["abnormal"])
    elif entry.abnormal is not None:
        yield from (Finding(label, "yes" if label == "normal" else "no", "") for label in labels)
