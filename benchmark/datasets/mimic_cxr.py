"""The film trees of MIMIC-CXR-JPG and MIMIC-CXR: where the films of a study are, and how large they are.

::

    mimic-cxr-jpg/2.1.0/
      mimic-cxr-2.0.0-metadata.csv.gz          dicom_id, Rows, Columns, ...
      mimic-cxr-2.0.0-split.csv.gz             dicom_id, split (train, validate, test)
      files/p10/p10000001/s50000001/<image id>.jpg

Tables may be unzipped. A film may be a ``.png`` of the same name instead, for example a lossless copy or a shrunk one, or
MIMIC-CXR's own ``.dcm``. A copy that was shrunk as a whole is fine where the size of the original is known from the
metadata. Where both releases are at hand, the JPG films are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import WronglungError
from ..instances import ImageRef
from .rules import Ledger, bare_id, open_image
from .tables import read_table

Size = tuple[int, int]

_SUFFIXES = (".jpg", ".png", ".dcm")
_SEPARATOR = re.compile(r"[/\\\0]")
_PATIENT_GROUP, _PATIENT, _STUDY = re.compile(r"p\d\d"), re.compile(r"p\d+"), re.compile(r"s\d+")
# Folders of a release that are large and hold no release.
_LEAVES = re.compile(r"p\d\d.*|scene_graph|gold_dataset|silver_dataset|\..*")
_MAX_FOLDERS = 20_000
_MANY = 200  # folders in a folder
_STUDIES = 20  # looked into, to tell films from reports


@dataclass(frozen=True, slots=True)
class FilmTree:
    """``files`` is the folder of p10, p11, ...; ``tables`` are the folders in which the release's tables may be."""

    files: Path
    tables: tuple[Path, ...]

    def table(self, name: str) -> Path | None:
        """The table ``mimic-cxr-2.0.0-<name>``, gzipped or not, or None where the release has none."""
        for folder in self.tables:
            found = sorted(folder.glob(f"mimic-cxr-*-{name}.csv.gz")) + sorted(folder.glob(f"mimic-cxr-*-{name}.csv"))
            if found:
                return found[0]
        return None

    def open(
        self, image_id: str, study_id: str, patient_id: str, frame: Size | None, ledger: Ledger
    ) -> ImageRef | None:
        """A film with the size of its file, or None when it was left out (the ledger says why).

        ``frame`` is the film's original size (width, height) where it is known.
        """
        if any(_SEPARATOR.search(one) for one in (image_id, study_id, patient_id)):
            ledger.drop("path_outside_root", image_id, f"patient {patient_id}, study {study_id}: not plain names")
            return None
        stem = f"p{patient_id[:2]}/p{patient_id}/s{study_id}/{image_id}"
        found = (stem + one for one in _SUFFIXES if os.path.exists(f"{self.files}/{stem}{one}"))  # noqa: PTH110 - faster
        relative = next(found, stem + _SUFFIXES[0])
        return open_image(self.files, relative, image_id, ledger, frame=frame)


def find_films(root: Path, images: Path | None, release: Path) -> FilmTree:
    """The film tree of ``images``, or else the one in ``root`` or beside the folder ``release`` and its parents.

    Raises :class:`WronglungError` saying where was looked.
    """
    own, beside = film_trees([root]), film_trees(neighbours(release, "mimic"))
    trees = [*own, *beside]
    if images is None:
        with_films = [tree for tree in trees if kind_of_films(tree.files) is not None]
        if with_films or trees:
            return (with_films or trees)[0]
        raise WronglungError(
            f"{root}: no films found; looked for MIMIC-CXR-JPG or MIMIC-CXR (files/p10/...) in this folder, and beside {release} and "
            "its parents in folders named like mimic-cxr-jpg; put both collections into one folder, or name the folder of "
            "films with the argument images"
        )
    images = images.expanduser()
    copies = film_trees([images])
    if not copies:
        what = "holds no films under files/p10/... or p10/..." if images.is_dir() else "is not a folder"
        raise WronglungError(f"{images}: {what}; images is a folder laid out as in MIMIC-CXR-JPG")
    # A shrunk copy rarely comes with the tables that say how large the films were.
    folders_of_tables = (folder for tree in (copies[0], *trees) for folder in tree.tables)
    return FilmTree(copies[0].files, tuple(dict.fromkeys(folders_of_tables)))


def film_trees(starts: Iterable[Path]) -> list[FilmTree]:
    """All film trees in some folders, the likeliest first: with films, JPG before DICOM, near before far, the newest release.

    MIMIC-CXR's reports lie in a tree of the same form.
    """
    found = {folder.resolve(): folder for start in starts for folder in folders(start) if _holds_patients(folder)}
    ranked = sorted(found.items(), key=lambda one: one[1].as_posix(), reverse=True)
    kinds = {one: kind_of_films(one) for one, _ in ranked}
    ranked.sort(
        key=lambda one: (kinds[one[0]] is None, "jpg" not in "/".join(one[1].parts[-3:]).lower(), len(one[1].parts))
    )
    return [FilmTree(files, (folder, folder.parent, folder.parent.parent)) for files, folder in ranked]


def kind_of_films(files: Path) -> str | None:
    """What the first studies of a film tree hold: "MIMIC-CXR-JPG", "MIMIC-CXR (DICOM)", or None where no film is seen."""
    kind = None
    studies = (
        study
        for group in _folders_in(files, _PATIENT_GROUP)
        for patient in _folders_in(group, _PATIENT)
        for study in _folders_in(patient, _STUDY)
    )
    for study in islice(studies, _STUDIES):
        suffixes = {Path(name).suffix for name in _names_in(study)}
        if suffixes & {".jpg", ".png"}:
            return "MIMIC-CXR-JPG"
        if ".dcm" in suffixes:
            kind = "MIMIC-CXR (DICOM)"
    return kind


def _folders_in(folder: Path, named: re.Pattern[str]) -> Iterator[Path]:
    """Folders of a name in a folder, one at a time: there may be thousands."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if named.fullmatch(entry.name) and entry.is_dir():
                    yield folder / entry.name
    except OSError:
        return


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _holds_patients(folder: Path) -> bool:
    return next(_folders_in(folder, _PATIENT_GROUP), None) is not None


def folders(start: Path, depth: int = 5) -> Iterator[Path]:
    """A folder and the folders in it, level by level, without those that hold films or annotations by the thousand.

    Folders of very many folders (patients, studies) are not entered, but for the first one.
    """
    level = [start]
    seen = 0
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            yield folder
            try:
                with os.scandir(folder) as entries:
                    names = sorted(one.name for one in entries if not _LEAVES.fullmatch(one.name) and one.is_dir())
            except OSError:
                continue
            if len(names) > _MANY and folder != start:
                continue
            below += [folder / name for name in names[: _MAX_FOLDERS - seen]]
            seen = min(_MAX_FOLDERS, seen + len(names))
        level = below


def neighbours(folder: Path, word: str) -> Iterator[Path]:
    """Folders beside a folder, or beside one of its next three parents, whose names hold a word."""
    folder = folder.resolve()
    for parent in list(folder.parents)[:3]:
        try:
            yield from sorted(one for one in parent.iterdir() if word in one.name.lower() and one.is_dir())
        except OSError:
            continue


def frame_sizes(tree: FilmTree, wanted: Collection[str], ledger: Ledger) -> Mapping[str, Size]:
    """The original (width, height) of films by image id, as far as the metadata say.

    Without the table the ledger gets one entry for all; a film without a usable row gets one of its own.
    """
    file = tree.table("metadata")
    if file is None:
        ledger.repair(
            "metadata_missing", "mimic-cxr-2.0.0-metadata.csv.gz", "no such table; sizes are those of the files"
        )
        return {}
    sizes: dict[str, Size] = {}
    for _, (name, columns, rows) in read_table(file, ("dicom_id", "Columns", "Rows"), has_text=False):
        image_id = bare_id(name)
        if image_id in wanted and (size := size_in_table(columns, rows)) is not None:
            sizes.setdefault(image_id, size)
    for image_id in wanted:
        if image_id not in sizes:
            ledger.repair("metadata_missing", image_id, f"no size in {file.name}; its size is that of the file")
    return sizes


def size_in_table(columns: str, rows: str) -> Size | None:
    """A (width, height) from two cells, or None where they hold no size."""
    width, height = whole_number(columns), whole_number(rows)
    if not (width.isdecimal() and height.isdecimal() and max(len(width), len(height)) < 7):
        return None
    size = int(width), int(height)
    return size if min(size) > 0 else None


def official_splits(tree: FilmTree, wanted: Collection[str]) -> Mapping[str, str] | None:
    """MIMIC-CXR's own split ("train", "validate", "test") by image id; None without the table."""
    file = tree.table("split")
    if file is None:
        return None
    rows = read_table(file, ("dicom_id", "split"), has_text=False)
    return {image_id: split for _, (name, split) in rows if (image_id := bare_id(name)) in wanted}


def whole_number(text: str) -> str:
    """A numeric id as text, without the ".0" that spreadsheet programs add."""
    text = text.strip()
    head, dot, tail = text.partition(".")
    return head if dot and head.isdecimal() and not tail.strip("0") else text
