"""Every reader of datasets: a small tree in the published format must give instances or one clear error."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from wronglung.benchmark.datasets import read_dataset
from wronglung.benchmark.instances import Dataset

from .guard import ContractError
from .target import Input, Target

MEDIA = (".png", ".jpg", ".dcm", ".dicom")

READERS: dict[str, tuple[str, dict[str, str]]] = {
    "imagenome-gold": ("imagenome", {}),
    "imagenome-silver": ("imagenome", {"split": "all"}),
    "covid-lungs": ("covid_lungs", {}),
    "jsonl": ("jsonl", {}),
    "coco": ("coco", {}),
    "ms-cxr": ("ms_cxr", {}),
    "padchest-gr": ("padchest_gr", {}),
    "rsna-pneumonia": ("rsna_pneumonia", {}),
    "chexlocalize": ("chexlocalize", {"split": "all"}),
    "siim-acr": ("siim_acr", {}),
    "nih-chestxray14": ("nih_chestxray14", {}),
    "vindr-cxr": ("vindr_cxr", {}),
    "vinbigdata": ("vinbigdata", {}),
    "huggingface": ("huggingface", {}),
    "flickr30k-entities": ("flickr30k_entities", {}),
    "refcoco": ("refcoco", {}),
    "visual-genome": ("visual_genome", {}),
}
"""By reader: the module of ``trees`` that writes its format, and arguments of the reader."""


def check(dataset: Dataset, root: Path) -> None:
    """The contract of instances, as far as a reader must keep it whatever it is given."""
    top = root.resolve()
    twice = [one for one, times in Counter(one.id for one in dataset.instances).items() if times > 1]
    if twice:
        raise ContractError(f"instance id {twice[0]!r} occurs more than once")
    boxes = [(instance.image, box) for instance in dataset.instances for box in instance.boxes]
    for image, box in boxes:
        if not image.path.resolve().is_relative_to(top):
            raise ContractError(f"{image.path} is outside of the root")
        corners = (box.x1, box.y1, box.x2, box.y2)
        if not all(map(math.isfinite, corners)) or not (
            0 <= box.x1 < box.x2 <= image.width and 0 <= box.y1 < box.y2 <= image.height
        ):
            raise ContractError(f"{box} on {image.width} × {image.height} pixels")
        if box.mask is not None:
            box.mask.pixels()
    for instance in dataset.instances:
        if not instance.boxes or not isinstance(instance.sentence, str):
            raise ContractError(f"{instance.id}: no box or no sentence")
    dataset.fingerprint.encode()
    for image in {id(one.image): one.image for one in dataset.instances}.values():
        try:
            image.load()
        except OSError:
            continue


def _writer(tree: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        written: Path = importlib.import_module(f"trees.{tree}").write(folder)
        return written

    return write


def _reader(name: str, arguments: dict[str, str]) -> Callable[[Input], None]:
    def read(given: Input) -> None:
        top = given.root if given.root.is_dir() else given.root.parent
        check(read_dataset(name, given.root, **arguments), top)

    return read


TARGETS = [
    Target(name, _writer(tree), _reader(name, arguments), media=MEDIA) for name, (tree, arguments) in READERS.items()
]
