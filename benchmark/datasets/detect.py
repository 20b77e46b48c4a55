"""What is this folder? The collections in it, told from the names and first lines of their files."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import WronglungError
from .imagenome_silver import find_graphs
from .mimic_cxr import film_trees, find_films, folders, kind_of_films
from .tables import first_row

_SNIFFED = 1 << 16  # bytes of a file that are looked at
_ON_MIMIC = ("imagenome-gold", "imagenome-silver", "ms-cxr")
_TRIED = 20  # files of a folder whose content is looked at for one rule


@dataclass(frozen=True, slots=True)
class Detected:
    """A collection, or a part of one.

    ``dataset`` is the reader's name, or None for what no reader reads by itself; ``root`` is to be given to it; ``evidence``
    is the file or folder that told; ``notes`` say what else was found or is missing.
    """

    what: str
    dataset: str | None
    root: Path
    evidence: Path
    notes: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Rule:
    """Files that tell a collection: ``patterns`` are relative to the folder that its reader is given."""

    what: str
    dataset: str
    patterns: tuple[str, ...]
    holds: Callable[[Path], bool] = lambda file: True
    """Whether a file that fits a pattern is what its name says."""
    needs: Callable[[Path, Path], tuple[tuple[str, ...], bool]] = lambda root, folder: ((), True)
    """Notes on the rest, given the root and the folder, and whether nothing is missing."""


def detect(root: Path) -> list[Detected]:
    """The collections in a folder and in folders up to five levels below, or what a file is.

    Folders that hold films by the thousand are not walked, and no image is opened. Raises :class:`WronglungError` when the
    path does not exist.
    """
    if not root.exists():
        raise WronglungError(f"{root}: does not exist")
    if root.is_file():
        return [
            Detected(rule.what, rule.dataset, root, root)
            for rule in _RULES
            if any(root.match(pattern) for pattern in rule.patterns) and rule.holds(root)
        ]
    found: dict[tuple[str | None, Path], Detected] = {}
    for folder in folders(root):
        names = _entries(folder)
        for rule in _RULES:
            file = _first_match(folder, names, rule)
            if file is not None and (rule.dataset, folder) not in found:
                notes, complete = rule.needs(root, folder)
                found[rule.dataset, folder] = Detected(rule.what, rule.dataset, folder, file, notes, complete)
    listed = list(found.values())
    if not any(one.dataset in _ON_MIMIC for one in listed):
        for tree in film_trees([root]):
            kind = kind_of_films(tree.files)
            if kind is not None:
                note = f"annotations are missing: {', '.join(_ON_MIMIC)} read these films"
                listed.append(Detected(f"films of {kind}", None, root, tree.files, (note,), complete=False))
    return [one for one in listed if not _is_part_of_another(one, listed)]


def _first_match(folder: Path, names: Sequence[str], rule: _Rule) -> Path | None:
    """The first file in a folder (whose entries are given, sorted) that fits a rule's patterns."""
    for pattern in rule.patterns:
        for file in islice(_fitting(folder, names, pattern), _TRIED):
            if file.is_file() and rule.holds(file):
                return file
    return None


def _fitting(folder: Path, names: Sequence[str], pattern: str) -> Iterator[Path]:
    first, _, rest = pattern.partition("/")
    for name in fnmatch.filter(names, first):
        if not rest:
            yield folder / name
        else:
            yield from _fitting(folder / name, _entries(folder / name), rest)


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def _is_part_of_another(one: Detected, listed: list[Detected]) -> bool:
    """A general format (JSON, a table) inside a collection that has a reader of its own."""
    general = ("coco", "jsonl", "huggingface")
    return one.dataset in general and any(
        other.dataset not in (*general, None) and one.root.is_relative_to(other.root) for other in listed
    )


def _start(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_SNIFFED).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _columns(*names: str) -> Callable[[Path], bool]:
    """Whether a table's first row has these columns; blanks around names do not count."""

    def holds(file: Path) -> bool:
        try:
            return set(names) <= {name.strip() for name in first_row(file)}
        except WronglungError:
            return False

    return holds


def _mentions(*words: str) -> Callable[[Path], bool]:
    def holds(file: Path) -> bool:
        start = _start(file)
        return all(word in start for word in words)

    return holds


def _has_notes(file: Path) -> bool:
    """COCO's layout is common; the collection has notes beside it or in it."""
    return (file.parent.parent / "metadata.csv").is_file() or '"clinical_notes"' in _start(file)


def _is_instance_line(file: Path) -> bool:
    try:
        line = json.loads(_start(file).lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(line, dict) and {"id", "image", "sentence", "boxes"} <= set(line)


def _is_coco(file: Path) -> bool:
    start = _start(file)
    return '"images"' in start and ('"annotations"' in start or '"categories"' in start) and '"file_name"' in start


def _mimic_films(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    try:
        tree = find_films(root, None, folder)
    except WronglungError:
        tree = None
    kind = None if tree is None else kind_of_films(tree.files)
    if tree is None or kind is None:
        return ("films of MIMIC-CXR-JPG (files/p10/...) not found; give their folder with --data-arg images=",), False
    notes = [f"films of {kind}: {tree.files}"]
    if tree.table("metadata") is None:
        notes.append("mimic-cxr-2.0.0-metadata.csv.gz not found: the files' own sizes are taken for the originals'")
    return tuple(notes), True


def _graphs_and_films(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    notes, complete = _mimic_films(root, folder)
    try:
        find_graphs(folder)
    except WronglungError as error:
        return (*notes, str(error)), False
    return notes, complete


def _has(*names: str) -> Callable[[Path, Path], tuple[tuple[str, ...], bool]]:
    """One of these folders or files should lie beside the evidence (patterns relative to the folder)."""

    def needs(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
        if any(any(folder.glob(name)) for name in names):
            return (), True
        return (f"no images at {' or '.join(names)}; give their folder with --data-arg images=",), False

    return needs


_RULES = (
    _Rule(
        "Chest ImaGenome, gold",
        "imagenome-gold",
        ("gold_dataset/gold_object_attribute_with_coordinates.txt*",),
        needs=_mimic_films,
    ),
    _Rule("Chest ImaGenome, silver", "imagenome-silver", ("silver_dataset/splits/test.csv*",), needs=_graphs_and_films),
    _Rule("MS-CXR", "ms-cxr", ("MS_CXR_Local_Alignment_v*.csv", "MS_CXR_Local_Alignment_v*.json"), needs=_mimic_films),
    _Rule("PadChest-GR", "padchest-gr", ("grounded_reports_*.json",), needs=_has("PadChest_GR", "*.png", "*/*.png")),
    _Rule("VinDr-CXR", "vindr-cxr", ("annotations/annotations_test.csv*", "annotations/annotations_train.csv*")),
    _Rule(
        "VinBigData", "vinbigdata", ("train.csv*",), _columns("image_id", "class_name", "class_id", "rad_id", "x_min")
    ),
    _Rule("RSNA pneumonia", "rsna-pneumonia", ("stage_2_train_labels.csv*",)),
    _Rule("NIH ChestX-ray14 boxes", "nih-chestxray14", ("BBox_List_2017*.csv*",)),
    _Rule("SIIM-ACR pneumothorax", "siim-acr", ("*train*.csv*",), _columns("ImageId", "EncodedPixels")),
    _Rule("CheXlocalize", "chexlocalize", ("gt_segmentations_*.json", "gt_annotations_*.json")),
    _Rule("COVID-19 lung boxes", "covid-lungs", ("annotations/annotations.json",), _has_notes),
    _Rule("Flickr30k Entities", "flickr30k-entities", ("Sentences/*.txt",), _mentions("[/EN#")),
    _Rule("RefCOCO", "refcoco", ("refs(*).p", "refcoco*/refs(*).p")),
    _Rule("Visual Genome regions", "visual-genome", ("region_descriptions.json*",)),
    _Rule("instances, one a line", "jsonl", ("*.jsonl",), _is_instance_line),
    _Rule("COCO-style JSON", "coco", ("*.json", "annotations/*.json"), _is_coco),
    _Rule("Hugging Face dataset with a mapping", "huggingface", ("mapping.yaml",)),
    _Rule(
        "Hugging Face dataset",
        "huggingface",
        ("dataset_info.json", "dataset_dict.json", "*.parquet"),
        needs=lambda root, folder: (
            (() if (folder / "mapping.yaml").exists() else ("needs a mapping.yaml that names the columns",)),
            (folder / "mapping.yaml").exists(),
        ),
    ),
)
