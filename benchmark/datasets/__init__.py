"""Readers: one on-disk format a module. A built-in reader is one line in the catalogue.

A reader is a function ``(root: Path, ...) -> Dataset``.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import WronglungError
from ..instances import Dataset
from ..registry import DATASETS, Entry

CATALOGUE = {
    "covid-lungs": Entry(
        "wronglung.benchmark.datasets.covid_lungs:read", "public chest films with lung boxes and free-text notes"
    ),
    "imagenome-gold": Entry(
        "wronglung.benchmark.datasets.imagenome:read_gold",
        "Chest ImaGenome, annotated by radiologists; needs MIMIC-CXR-JPG",
    ),
    "imagenome-silver": Entry(
        "wronglung.benchmark.datasets.imagenome:read_silver",
        "Chest ImaGenome, annotated by machine; needs MIMIC-CXR-JPG",
    ),
    "jsonl": Entry("wronglung.benchmark.datasets.jsonl:read", "one instance a line, boxes and findings inline"),
    "coco": Entry("wronglung.benchmark.datasets.coco:read", "COCO-style JSON with captions"),
}


def load_dataset(name: str, root: str | Path) -> Dataset:
    """Read the dataset ``name`` from the folder or file ``root``.

    Raises :class:`WronglungError` for an unknown name, a missing root, and a dataset without a usable instance.
    """
    read = DATASETS.get(name)
    root = Path(root).expanduser()
    if not root.exists():
        raise WronglungError(f"dataset {name!r}: {root} does not exist; give its folder or file with --data-root")
    dataset = read(root)
    if not isinstance(dataset, Dataset):
        raise WronglungError(f"dataset {name!r}: its reader returned {type(dataset).__name__}, not a wronglung.Dataset")
    if not dataset.instances:
        reasons = sorted({entry.reason for entry in dataset.skipped if not entry.repaired})
        why = f" (left out: {', '.join(reasons)})" if reasons else ""
        raise WronglungError(f"dataset {name!r}: {root} holds no usable instance{why}")
    return dataset
