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

_SEARCHED = 500  # folders of a level that are looked into for an image
_SNIFFED = 1 << 16  # bytes of a file that are looked at
_ON_MIMIC = ("imagenome-gold", "imagenome-silver", "ms-cxr")
_GENERAL = ("coco", "jsonl", "huggingface")
_READ_BY_FOLDER = ("huggingface", "covid-lungs", "flickr30k-entities")
_IMAGES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
_TRIED = 20  # files of a folder whose content is looked at for one rule


@dataclass(frozen=True, slots=True)
class Detected:
    """A collection, or a part of one.

    ``dataset`` is the reader's name, or None for what no reader reads by itself; ``root`` is to be given to it; ``evidence``
    is the file or folder that told; ``notes`` say what else was found or is missing, ``options`` what the command line needs
    besides to read it.
    """

    what: str
    dataset: str | None
    root: Path
    evidence: Path
    notes: tuple[str, ...] = ()
    complete: bool = True
    options: tuple[str, ...] = ()


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
    options: Callable[[Path], tuple[str, ...]] = lambda file: ()
    """Options that the file needs to be read."""


def detect(root: Path) -> list[Detected]:
    """The collections in a folder and in folders up to five levels below, or what a file is.

    Folders that hold films by the thousand are not walked, and no image is opened. Raises :class:`WronglungError` when the
    path does not exist.
    """
    if not root.exists():
        raise WronglungError(f"{root}: does not exist")
    if root.is_file():
        return _detect_file(root)
    found: dict[tuple[str | None, Path], Detected] = {}
    for folder in folders(root):
        names = _entries(folder)
        for rule in _RULES:
            file = _first_match(folder, names, rule)
            if file is not None and (rule.dataset, folder) not in found:
                notes, complete = rule.needs(root, folder)
                one = Detected(rule.what, rule.dataset, folder, file, notes, complete, rule.options(file))
                found[rule.dataset, folder] = one
    listed = list(found.values())
    if not any(one.dataset in _ON_MIMIC for one in listed):
        for tree in film_trees([root]):
            kind = kind_of_films(tree.files)
            if kind is not None:
                note = f"annotations are missing: {', '.join(_ON_MIMIC)} read these films"
                listed.append(Detected(f"films of {kind}", None, root, tree.files, (note,), complete=False))
    return [one for one in listed if not _is_part_of_another(one, listed)]


def _detect_file(file: Path) -> list[Detected]:
    """What a file is; its reader is given the file, or the folder above where the file lies in one of the collection."""
    found = []
    for rule in _RULES:
        pattern = next((one for one in rule.patterns if file.match(one)), None)
        if pattern is not None and rule.holds(file):
            above = file.parents[pattern.count("/")]
            root = above if "/" in pattern or rule.dataset in _READ_BY_FOLDER else file
            notes, complete = rule.needs(above, above)
            found.append(Detected(rule.what, rule.dataset, root, file, notes, complete, rule.options(file)))
    return [one for one in found if not _is_part_of_another(one, found)]


def _first_match(folder: Path, names: Sequence[str], rule: _Rule) -> Path | None:
    """The first file in a folder (whose entries are given, sorted) that fits a rule's patterns."""
    for pattern in rule.patterns:
        for file in islice(_fitting(folder, names, pattern), _TRIED):
            if file.is_file() and rule.holds(file):
                return file
    return None


def _fitting(folder: Path, names: Sequence[str], pattern: str) -> Iterator[Path]:
    first, _, rest = pattern.partition("/")
    for name in reversed(fnmatch.filter(names, first)):  # the newest version first
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


def _is_part_of_another(one: Detected, listed: Sequence[Detected]) -> bool:
    """A general format (JSON, tables) inside a collection that has a reader of its own, or inside one with a mapping."""
    special = (other for other in listed if other.dataset not in (*_GENERAL, None))
    mapped = (other for other in listed if other.dataset == "huggingface" and other.complete)
    around = special if one.dataset in ("coco", "jsonl") or one.complete else (*special, *mapped)
    return one.dataset in _GENERAL and any(
        _top(one).is_relative_to(_top(other)) for other in around if other is not one
    )


def _top(one: Detected) -> Path:
    return one.root.parent if one.root.is_file() else one.root


def _start(file: Path) -> str:
    try:
        # A pipe would be waited for.
        if not file.is_file():
            return ""
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
    """COCO's layout with captions, without which there is no sentence; they may come late in the file."""
    if '"images"' not in (start := _start(file)) or '"file_name"' not in start:
        return False
    try:
        with file.open("rb") as stream:
            return any(b'"caption"' in block for block in iter(lambda: stream.read(1 << 24), b""))
    except OSError:
        return False


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


def _sized_films(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    """As :func:`_mimic_films`, of a collection that says itself how large the films are."""
    notes, complete = _mimic_films(root, folder)
    return notes[:1], complete


def _graphs_and_films(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    notes, complete = _mimic_films(root, folder)
    try:
        find_graphs(folder)
    except WronglungError as error:
        return (*notes, str(error)), False
    return notes, complete


def _images(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Images should lie somewhere below the folder or beside it."""
    if any(_holds_image(place) for place in dict.fromkeys((folder, folder.parent))):
        return (), True
    return (f"no image found in {folder} or beside it; give their folder with --data-arg images=",), False


def _holds_image(place: Path, depth: int = 5) -> bool:
    level = [place]
    for _ in range(depth):
        below: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.lower().endswith(_IMAGES):
                            return True
                        if entry.is_dir() and len(below) < _SEARCHED:
                            below.append(folder / entry.name)
            except OSError:
                continue
        level = below
    return False


def _needs_files(*names: str) -> Callable[[Path, Path], tuple[tuple[str, ...], bool]]:
    """These files or folders beside the evidence, and images."""

    def needs(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
        notes, complete = _images(root, folder)
        lacking = tuple(f"no {name} in {folder}" for name in names if not any(folder.glob(name)))
        return (*lacking, *notes), complete and not lacking

    return needs


def _mapping(root: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    if (folder / "mapping.yaml").is_file():
        return (), True
    return ("needs a mapping.yaml that names the columns; `wronglung show huggingface` describes it",), False


def _is_no_run(file: Path) -> bool:
    return not (file.parent / "results.json").is_file()


def _variant(file: Path) -> tuple[str, ...]:
    return () if file.parent.name not in ("refcoco+", "refcocog") else ("--data-arg", f"variant={file.parent.name}")


def _split(*names: str) -> Callable[[Path], tuple[str, ...]]:
    """The split that a file is of, where that is not the reader's own choice."""
    return lambda file: next((("--split", name) for name in names if f"_{name}." in file.name), ())


_RULES = (
    _Rule(
        "Chest ImaGenome, gold",
        "imagenome-gold",
        ("gold_dataset/gold_object_attribute_with_coordinates.txt*",),
        needs=_mimic_films,
    ),
    _Rule("Chest ImaGenome, silver", "imagenome-silver", ("silver_dataset/splits/test.csv*",), needs=_graphs_and_films),
    _Rule("MS-CXR", "ms-cxr", ("MS_CXR_Local_Alignment_v*.csv*", "MS_CXR_Local_Alignment_v*.json"), needs=_sized_films),
    _Rule("PadChest-GR", "padchest-gr", ("grounded_reports_*.json",), needs=_images),
    _Rule(
        "VinDr-CXR",
        "vindr-cxr",
        ("annotations/annotations_test.csv*", "annotations/annotations_train.csv*"),
        needs=_images,
        options=_split("train"),
    ),
    _Rule(
        "VinBigData",
        "vinbigdata",
        ("train.csv*",),
        _columns("image_id", "class_name", "class_id", "rad_id", "x_min"),
        needs=_images,
    ),
    _Rule("RSNA pneumonia", "rsna-pneumonia", ("stage_2_train_labels.csv*",), needs=_images),
    _Rule("NIH ChestX-ray14 boxes", "nih-chestxray14", ("BBox_List_2017*.csv*",), needs=_images),
    _Rule("SIIM-ACR pneumothorax", "siim-acr", ("*train*.csv*",), _columns("ImageId", "EncodedPixels"), needs=_images),
    _Rule(
        "CheXlocalize",
        "chexlocalize",
        (
            "gt_segmentations_test.json",
            "gt_annotations_test.json",
            "gt_segmentations_val.json",
            "gt_annotations_val.json",
        ),
        needs=_images,
        options=_split("val"),
    ),
    _Rule(
        "COVID-19 lung boxes",
        "covid-lungs",
        ("annotations/annotations.json",),
        _has_notes,
        needs=_needs_files("images", "metadata.csv"),
    ),
    _Rule(
        "Flickr30k Entities",
        "flickr30k-entities",
        ("Sentences/*.txt",),
        _mentions("[/EN#"),
        needs=_needs_files("Annotations"),
    ),
    _Rule("RefCOCO", "refcoco", ("refs(*).p",), needs=_needs_files("instances.json"), options=_variant),
    _Rule("Visual Genome regions", "visual-genome", ("region_descriptions.json",), needs=_images),
    _Rule("instances, one a line", "jsonl", ("*.jsonl",), _is_instance_line),
    _Rule("COCO-style JSON with captions", "coco", ("*.json", "annotations/*.json"), _is_coco),
    _Rule("Hugging Face dataset with a mapping", "huggingface", ("mapping.yaml",)),
    _Rule(
        "Hugging Face dataset",
        "huggingface",
        ("dataset_info.json", "dataset_dict.json", "*.parquet"),
        _is_no_run,
        needs=_mapping,
    ),
)
