"""Chest ImaGenome 1.0.0 on the films of MIMIC-CXR-JPG, or of MIMIC-CXR (DICOM).

Read are the published trees, in one folder or side by side under their usual names::

    chest-imagenome/1.0.0/
      gold_dataset/gold_object_attribute_with_coordinates.txt       radiologists' sentence, region, label and box (500 films)
      gold_dataset/gold_bbox_coordinate_annotations_1000images.csv  all region boxes of a film; optional
      gold_dataset/gold_bbox_scaling_factors_original_to_224x224.csv   film sizes where the metadata are absent; optional
      silver_dataset/scene_graph/<image id>_SceneGraph.json         the same, made by machine
      silver_dataset/splits/{train,valid,test,images_to_avoid}.csv
    mimic-cxr-jpg/2.1.0/                                            see :mod:`.mimic_cxr`

An instance is a sentence of a film, ``dicom_<image id>_sent_<sentence id>``; two films of a study share their sentence
ids. Its boxes are those of its regions, its findings are all (label, context, region) that the annotators or the machine
gave it, also at regions that have no box on the film. Boxes are given in pixels of the original film and scaled to the
file where that was shrunk as a whole.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from ..errors import WronglungError
from ..instances import Dataset, Instance
from .imagenome_films import FilmBoxes, film_instances, find_release, release_table
from .imagenome_gold import GOLD_TABLE, gold_films, gold_regions, published_counts, scaling_factors
from .imagenome_silver import SPLITS, SilverSplit, add_sentences, find_graphs, find_scene_graph, silver_films
from .mimic_cxr import find_films, frame_sizes, official_splits
from .region_boxes import RegionBoxes
from .rules import Ledger

GoldSplit = Literal["all", "train", "validate", "test"]


def read_gold(root: Path, *, split: GoldSplit = "all", images: Path | None = None) -> Dataset:
    """Read the gold set: the films with sentences (the first study of each gold patient).

    ``root`` holds both collections, or is one of them and the other lies beside it. ``images`` is a film tree elsewhere,
    for example of shrunk copies. The gold set has no splits of its own: ``split`` is MIMIC-CXR's, by which encoders were
    trained, so "test" leaves out films that an encoder trained on MIMIC-CXR may have seen.

    Films are in file order, the sentences of a film by the number in their id. Boxes are in order of their first row.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a damaged table.
    """
    _check_choice("split", split, get_args(GoldSplit))
    release = find_release(root, GOLD_TABLE)
    films = gold_films(release_table(release, GOLD_TABLE), ledger := Ledger())
    published = published_counts(films) if split == "all" else ()
    tree = find_films(root, images, release)
    splits = official_splits(tree, films) or {}
    if split != "all":
        if not splits:
            raise WronglungError(
                f"{tree.files}: no mimic-cxr-2.0.0-split.csv.gz here or above, which split={split} needs"
            )
        films = {image_id: film for image_id, film in films.items() if splits.get(image_id) == split}
    sizes = frame_sizes(tree, films, ledger)
    scaling = scaling_factors(release) if len(sizes) < len(films) else {}
    known = gold_regions(release, films)
    instances: list[Instance] = []
    regions = RegionBoxes()
    for image_id, film in films.items():
        frame = sizes.get(image_id)
        image = tree.open(image_id, film.study, film.patient, frame, ledger)
        if image is not None and frame is None and image_id in scaling:
            frame = scaling[image_id].frame(image, ledger)
            image = image if frame is not None else None
        if image is None:
            continue
        boxes = FilmBoxes(image, frame, ledger)
        for region, corners in known.get(image_id, ()):
            boxes.note(region, corners)
        instances += film_instances(film, image, splits.get(image_id), boxes, ledger)
        boxes.into(regions)
    return Dataset("imagenome-gold", tuple(instances), tuple(ledger.entries), regions, published)


def read_silver(root: Path, *, split: SilverSplit = "test", images: Path | None = None) -> Dataset:
    """Read one split of the silver set, or all, without the films in ``images_to_avoid.csv`` (the gold patients').

    ``root`` and ``images`` are as for :func:`read_gold`. Films are in the order of the split's file; lateral ones are left
    out. The sentences of a film are in order of the number in their id, the regions of a sentence in that of
    :data:`wronglung.benchmark.anatomy.REGIONS`.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for a damaged table. A scene
    graph or film that is missing or damaged goes to the ledger.
    """
    _check_choice("split", split, get_args(SilverSplit))
    release = find_release(root, SPLITS)
    graphs = find_graphs(release)
    tree = find_films(root, images, release)
    ledger = Ledger()
    films = silver_films(release, split, ledger)
    sizes = frame_sizes(tree, films, ledger)
    instances: list[Instance] = []
    regions = RegionBoxes()
    with _collector_paused():
        for image_id, (listed, own_split) in films.items():
            graph = find_scene_graph(graphs, image_id, ledger)
            if graph is None:
                continue
            frame = sizes.get(image_id)
            image = tree.open(image_id, listed.study, listed.patient, frame, ledger)
            if image is None:
                continue
            boxes = FilmBoxes(image, frame, ledger)
            if add_sentences(listed, graph, boxes, ledger):
                instances += film_instances(listed, image, own_split, boxes, ledger)
            listed.sentences.clear()
            boxes.into(regions)
    name = "imagenome-silver" if split == "test" else f"imagenome-silver-{split}"
    return Dataset(name, tuple(instances), tuple(ledger.entries), regions)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """What is built here holds no cycles, but the collector would walk all of it again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise WronglungError(f"{name}={value!r}: must be one of {', '.join(choices)}")
