"""The splits and scene graphs of the Chest ImaGenome silver set, film by film."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ..anatomy import region_rank
from ..errors import WronglungError
from .coordinates import Corners
from .imagenome_films import Film, FilmBoxes, Sentence, release_table
from .mimic_cxr import whole_number
from .rules import Ledger, bare_id, below
from .scene_graphs import SceneGraph, graph_finding, read_scene_graph
from .tables import read_table

SilverSplit = Literal["train", "valid", "test", "all"]

SPLITS = "silver_dataset/splits"
_GRAPHS = "silver_dataset/scene_graph"


def silver_films(release: Path, split: SilverSplit, ledger: Ledger) -> dict[str, tuple[Film, str]]:
    """The films of a split by image id, each with the split's name."""
    avoided = {
        bare_id(name)
        for _, (name,) in read_table(_split_file(release, "images_to_avoid"), ("dicom_id",), has_text=False)
    }
    films: dict[str, tuple[Film, str]] = {}
    for name in ("train", "valid", "test") if split == "all" else (split,):
        file = _split_file(release, name)
        columns = ("dicom_id", "study_id", "subject_id")
        for line, (dicom, study, patient, view) in read_table(
            file, columns, optional=("ViewPosition",), has_text=False
        ):
            where, image_id = f"{file.name}:{line}", bare_id(dicom)
            if not (dicom and study.strip() and patient.strip()):
                raise WronglungError(f"{file}:{line}: dicom_id, study_id or subject_id is empty")
            if image_id in films:
                ledger.repair("duplicate_row", where, f"{image_id} is listed twice; its first row counts")
            elif image_id in avoided:
                ledger.drop("image_in_gold_set", image_id, f"{where} lists it, and images_to_avoid.csv too")
            elif not _is_frontal(view):
                ledger.drop("view_not_frontal", image_id, view)
            else:
                films[image_id] = Film(whole_number(study), whole_number(patient)), name
    return films


def _split_file(release: Path, name: str) -> Path:
    file = release_table(release, f"{SPLITS}/{name}.csv")
    if not file.exists():
        raise WronglungError(f"{release}: has no {SPLITS}/{name}.csv, which the silver set needs")
    return file


def _is_frontal(view: str) -> bool:
    """Whether a view is AP or PA (also "AP AXIAL" and the like); one that is not said is, the set is of frontal films."""
    return not view.strip() or view.split()[0].upper() in ("AP", "PA")


def find_graphs(release: Path) -> tuple[Path, ...]:
    """The folders in which scene graphs may be; some programs unpack them into a folder of the same name."""
    found = tuple(one for one in (release / _GRAPHS / "scene_graph", release / _GRAPHS) if one.is_dir())
    if not found:
        what = "is not unpacked" if (release / f"{_GRAPHS}.zip").exists() else "is missing, and so is its folder"
        raise WronglungError(f"{release / _GRAPHS}.zip {what}; unpack it there, into the folder scene_graph")
    return tuple(one.resolve() for one in found)


def find_scene_graph(graphs: Iterable[Path], image_id: str, ledger: Ledger) -> SceneGraph | None:
    name = f"{image_id}_SceneGraph.json"
    for folder in graphs:
        file = below(folder, ".", name)
        if file is None:
            ledger.drop("path_outside_root", image_id, name)
            return None
        try:
            graph = read_scene_graph(file)
        except FileNotFoundError:
            continue
        except ValueError as error:
            ledger.drop("scene_graph_unreadable", image_id, f"{name}: {error}")
            return None
        if bare_id(graph.image_id) != image_id:
            ledger.drop("scene_graph_unreadable", image_id, f"{name}: is that of {graph.image_id}")
            return None
        if not _is_frontal(graph.viewpoint or ""):
            ledger.drop("view_not_frontal", image_id, graph.viewpoint or "")
            return None
        return graph
    ledger.drop("scene_graph_missing", image_id, name)
    return None


def add_sentences(film: Film, graph: SceneGraph, boxes: FilmBoxes, ledger: Ledger) -> bool:
    """Group a scene graph by sentence. False, with an entry, for a graph that ties nothing or is not in order."""
    image_id = boxes.image.id
    placed: dict[str, list[Corners]] = {}
    for one in graph.objects:
        corners = (one.original_x1, one.original_y1, one.original_x2, one.original_y2)
        if one.bbox_name in placed:
            ledger.repair("duplicate_row", image_id, f"{one.bbox_name} has more than one box; different ones all count")
        placed.setdefault(one.bbox_name, []).append(corners)
        boxes.note(one.bbox_name, corners)
    order = sorted(graph.attributes, key=lambda item: region_rank(item.bbox_name))
    unplaced: dict[str, None] = {}
    for item in order:
        region = item.bbox_name
        for sentence_id, text, labels in zip(item.phrase_IDs, item.phrases, item.attributes, strict=True):
            sentence = film.sentences.get(sentence_id)
            if sentence is None:
                sentence = film.sentences[sentence_id] = Sentence(text)
            elif sentence.text != text:
                ledger.repair(
                    "duplicate_row", image_id, f"another text for sentence {sentence_id}; the first one counts"
                )
            if not labels:
                continue
            if region not in placed:
                unplaced[region] = None
            sentence.regions.update(((region, corners), None) for corners in placed.get(region, ()))
            for label in labels:
                try:
                    finding = graph_finding(label, region)
                except ValueError as error:
                    ledger.drop("scene_graph_unreadable", image_id, f"{region}: {error}")
                    return False
                sentence.repeated += (label, region) in sentence.rows
                sentence.rows.add((label, region))
                if finding.label:
                    sentence.findings[finding] = None
    for region in unplaced:
        ledger.drop("region_without_box", image_id, region)
    if not film.sentences:
        ledger.drop("no_annotation", image_id, "its scene graph has no phrase")
    return True
