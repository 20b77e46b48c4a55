"""Saliency maps and boxes that were made elsewhere: ``precomputed`` and ``box-file``, and the regions of ``uniter``."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from wronglung import Dataset, load_model
from wronglung.adapters.uniter.region_files import RegionFiles
from wronglung.benchmark.datasets import load_dataset
from wronglung.benchmark.datasets.sketch import write_sketch
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.protocol import LoadedImage

from .guard import ContractError
from .target import Input, Target

ROWS, COLUMNS = 4, 6


@cache
def _films(root: Path) -> list[tuple[LoadedImage, str, Dataset]]:
    """The films of a dataset that is whole, with a sentence each; those of a dozen pairs."""
    data = load_dataset("jsonl", root)
    chosen = data.instances[:12]
    return [(LoadedImage(one.image_id, one.image.load()), one.sentence, data) for one in chosen]


def write_maps(folder: Path) -> Path:
    """Maps in every kind of file, an index, and ``model.json``."""
    maps = folder / "maps"
    maps.mkdir()
    rng = np.random.default_rng(0)
    tensors, rows = {}, []
    for at, (image, sentence, _) in enumerate(_films(write_sketch(folder / "sketch", patients=4))):
        map_ = rng.random((ROWS, COLUMNS), dtype=np.float32)
        row: dict[str, Any] = {
            "image_id": image.id,
            "sentence": sentence,
            "key": "",
            "local_similarity": 0.5,
            "global_similarity": 1,
        }
        kind = ("npy", "safetensors", "png", "nii", "nii.gz")[at % 5]
        row["file"] = f"map-{at}.{kind}"
        if kind == "npy":
            np.save(maps / row["file"], map_)
        elif kind == "safetensors":
            row["file"], row["key"] = "tensors.safetensors", f"map {at}"
            tensors[f"map {at}"] = torch.from_numpy(map_)
        elif kind == "png":
            Image.fromarray((map_ * 255).astype(np.uint8)).save(maps / row["file"])
        else:
            import nibabel

            nibabel.save(nibabel.Nifti1Image(map_.T, np.eye(4)), maps / row["file"])  # type: ignore[no-untyped-call]
        rows.append(row)
    save_file(tensors, maps / "tensors.safetensors")
    with (maps / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    described = {"name": "mine", "method": "GradCAM", "map_kind": "score", "signed": False, "frame": "crop", "side": 64}
    (maps / "model.json").write_text(json.dumps(described))
    return maps


def read_maps(folder: Path, data_root: Path) -> None:
    _align_all(load_model("precomputed", maps=str(folder)), data_root)


def _align_all(model: object, data_root: Path) -> None:
    """Every pair of the dataset, each by itself; refused where all are."""
    refused: WronglungError | None = None
    read = 0
    for image, sentence, data in _films(data_root):
        if not read and refused is None:
            model.prepare(data)  # type: ignore[attr-defined]
        try:
            found = model.align([image], [sentence])  # type: ignore[attr-defined]
        except WronglungError as error:
            refused = error
            continue
        read += 1
        if found.saliency.dtype != torch.float32 or not torch.isfinite(found.saliency).all():
            raise ContractError("a map that is not of finite numbers")
    if refused is not None and not read:
        raise refused


def _maps(given: Input) -> None:
    read_maps(given.root, given.root.parent / "sketch" / "sketch.jsonl")


def write_boxes(folder: Path) -> Path:
    records = [
        {
            "image_id": image.id,
            "sentence": sentence,
            "boxes": [[12, 30.5, 90, 121], [1, 2, 30, 40]],
            "scores": [0.8, 0.1],
            "local_similarity": 0.25,
        }
        for image, sentence, _ in _films(write_sketch(folder / "sketch", patients=3))
    ]
    (folder / "boxes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (folder / "boxes.json").write_text(json.dumps(records))
    return folder


def _boxes(given: Input) -> None:
    refused = None
    for name in ("boxes.jsonl", "boxes.json"):
        # One of the two is whole.
        try:
            _align_all(
                load_model("box-file", file=str(given.root / name), grid="16"), given.root / "sketch" / "sketch.jsonl"
            )
        except WronglungError as error:
            refused = error
    if refused is not None:
        raise refused


def write_regions(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors: dict[str, torch.Tensor] = {}
    (folder / "npz").mkdir()
    for name in ("a", "b"):
        arrays = {
            "features": rng.random((5, 8), dtype=np.float32),
            "boxes": np.array([[1, 2, 30, 40]] * 5, dtype=np.float32),
        }
        np.savez(folder / "npz" / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        tensors |= {f"{name}/{key}": torch.from_numpy(value) for key, value in arrays.items()}
    save_file(tensors, folder / "regions.safetensors")
    return folder


def _regions(given: Input) -> None:
    refused = None
    for source in (given.root / "npz", given.root / "regions.safetensors"):
        try:
            regions = RegionFiles(source)
            for name in ("a", "b"):
                regions.read(name, (64, 64))
        except WronglungError as error:
            refused = error
    if refused is not None:
        raise refused


TARGETS = [
    Target(
        "maps", write_maps, _maps, ("index.csv", "model.json", ".npy", ".safetensors", "map-2.png", ".nii", ".nii.gz")
    ),
    Target("box-file", write_boxes, _boxes, ("boxes.json", "boxes.jsonl")),
    Target("uniter-regions", write_regions, _regions, (".npz", ".safetensors")),
]
