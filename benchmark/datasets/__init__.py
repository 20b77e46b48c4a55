"""Readers: one on-disk format a module. A built-in reader is one line in the catalogue.

A reader is a function ``(root: Path, ...) -> Dataset``; its further parameters are typed and have defaults. A dataset that
is generated, not read, gives its root a default, too.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arguments import check_arguments
from ..errors import WronglungError
from ..instances import Dataset
from ..registry import DATASETS, Entry

CATALOGUE = {
    "covid-lungs": Entry(
        "wronglung.benchmark.datasets.covid_lungs:read", "public chest films with lung boxes and free-text notes"
    ),
    "imagenome-gold": Entry(
        "wronglung.benchmark.datasets.imagenome:read_gold",
        "Chest ImaGenome, annotated by radiologists; needs MIMIC-CXR-JPG or MIMIC-CXR",
    ),
    "imagenome-silver": Entry(
        "wronglung.benchmark.datasets.imagenome:read_silver",
        "Chest ImaGenome, annotated by machine; needs MIMIC-CXR-JPG or MIMIC-CXR",
    ),
    "ms-cxr": Entry(
        "wronglung.benchmark.datasets.ms_cxr:read", "phrases boxed by radiologists; needs MIMIC-CXR-JPG or MIMIC-CXR"
    ),
    "padchest-gr": Entry(
        "wronglung.benchmark.datasets.padchest_gr:read",
        "report sentences in English or Spanish, boxed by radiologists",
    ),
    "rsna-pneumonia": Entry(
        "wronglung.benchmark.datasets.rsna_pneumonia:read", "chest films with boxes of pneumonia; class prompts"
    ),
    "vindr-cxr": Entry(
        "wronglung.benchmark.datasets.vindr_cxr:read", "films with radiologists' boxes of 22 findings; class prompts"
    ),
    "vinbigdata": Entry(
        "wronglung.benchmark.datasets.vindr_cxr:read_vinbigdata",
        "VinDr-CXR's training films as in the VinBigData competition; class prompts",
    ),
    "nih-chestxray14": Entry(
        "wronglung.benchmark.datasets.nih_chestxray14:read",
        "films with hand-drawn boxes of eight findings; class prompts",
    ),
    "siim-acr": Entry("wronglung.benchmark.datasets.siim_acr:read", "films with masks of pneumothorax; class prompts"),
    "chexlocalize": Entry(
        "wronglung.benchmark.datasets.chexlocalize:read",
        "CheXpert films with radiologists' masks of ten findings; class prompts",
    ),
    "flickr30k-entities": Entry(
        "wronglung.benchmark.datasets.flickr30k_entities:read", "phrases of captions of photographs, with boxes"
    ),
    "refcoco": Entry(
        "wronglung.benchmark.datasets.refcoco:read",
        "expressions that refer to one object (RefCOCO, RefCOCO+, RefCOCOg); needs COCO train2014",
    ),
    "visual-genome": Entry(
        "wronglung.benchmark.datasets.visual_genome:read", "phrases about regions of photographs, one box each"
    ),
    "huggingface": Entry(
        "wronglung.benchmark.datasets.huggingface:read",
        "any Hugging Face dataset with columns of images, texts and boxes, and a mapping file",
    ),
    "phantom": Entry(
        "wronglung.benchmark.datasets.phantom:read", "generated chest films with reports and region boxes"
    ),
    "jsonl": Entry("wronglung.benchmark.datasets.jsonl:read", "one instance a line, boxes and findings inline"),
    "coco": Entry("wronglung.benchmark.datasets.coco:read", "COCO-style JSON with captions"),
}


def load_dataset(
    name: str, root: str | Path | None = None, /, *, split: str | None = None, **arguments: Any
) -> Dataset:
    """Read the dataset ``name`` from the folder or file ``root``.

    ``arguments`` are those of its reader; strings are converted to the annotated types. "NAME:VALUE" is short for the
    reader's first argument after the root (``phantom:128``). ``split`` chooses a split: by the reader where it has such
    an argument, otherwise from the instances' own ``split``. A generated dataset needs no root.

    Raises :class:`WronglungError` for an unknown name, argument or split, a missing root, and a dataset without a usable
    instance.
    """
    dataset = read_dataset(name, root, split=split, **arguments)
    if not dataset.instances:
        dropped = [entry for entry in dataset.skipped if not entry.repaired]
        counts = sorted(Counter(entry.reason for entry in dropped).items())
        why = f" (left out: {', '.join(f'{reason} {count}' for reason, count in counts)})" if counts else ""
        first = f"; first {dropped[0].where}: {dropped[0].detail}" if dropped else ""
        where = "" if root is None else f"{root} "
        raise WronglungError(f"dataset {name!r}: {where}holds no usable instance{why}{first}")
    return dataset


def read_dataset(
    name: str, root: str | Path | None = None, /, *, split: str | None = None, **arguments: Any
) -> Dataset:
    """As :func:`load_dataset`, but a dataset in which nothing is usable is returned, with its ledger."""
    base, short = DATASETS.split(name)
    read = DATASETS.get(base)
    root_parameter, *parameters = inspect.signature(read).parameters.values()
    own = [one.name for one in parameters]
    if short is not None:
        if not own:
            raise WronglungError(f"dataset {name!r}: its reader takes no arguments; leave {':' + short!r} out")
        arguments = {own[0]: short, **arguments}
    if split is not None and "split" in own:
        arguments["split"] = split
    values = check_arguments(read, arguments, own, f"dataset {name!r}")
    if root is None:
        if root_parameter.default is inspect.Parameter.empty:
            raise WronglungError(f"dataset {name!r}: lies on disk; give its folder or file with --data-root")
    else:
        root = Path(root).expanduser()
        if not root.exists():
            raise WronglungError(f"dataset {name!r}: {root} does not exist; give its folder or file with --data-root")
    dataset = read(root, **values)
    if not isinstance(dataset, Dataset):
        raise WronglungError(f"dataset {name!r}: its reader returned {type(dataset).__name__}, not a wronglung.Dataset")
    return _only(dataset, split) if split is not None and "split" not in own and dataset.instances else dataset


def _only(dataset: Dataset, split: str) -> Dataset:
    splits = sorted({str(instance.split) for instance in dataset.instances if instance.split is not None})
    if split not in splits:
        known = f"it has {', '.join(splits)}" if splits else "its instances are not divided into splits"
        raise WronglungError(f"dataset {dataset.name!r}: has no split {split!r}; {known}")
    return replace(dataset, instances=tuple(one for one in dataset.instances if one.split == split))
