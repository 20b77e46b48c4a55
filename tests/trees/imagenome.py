"""Chest ImaGenome on MIMIC-CXR-JPG: three generated patients, as the package's own writer writes them."""

from __future__ import annotations

from pathlib import Path

from wronglung.benchmark.datasets.imagenome_tree import write_tree
from wronglung.benchmark.datasets.phantom import read


def write(root: Path) -> Path:
    """Returns the folder that holds both collections."""
    return write_tree(read(patients=6, size=32, split="all"), root)
