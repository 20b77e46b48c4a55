"""Generated chest sketches: a small dataset without licence, credentials or download.

Two dark lungs, a heart, and a bright patch where the sentence says; enough to see the harness work, not to say anything
about a model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ..errors import WronglungError

ZONES = ("upper", "mid", "lower")
CONDITIONS = ("consolidation", "lung opacity", "atelectasis")

Regions = dict[str, tuple[float, float, float, float]]


def write_sketch(folder: Path, patients: int = 60, seed: int = 0) -> Path:
    """Write films and ``sketch.jsonl`` into the folder; returns the file's path.

    Every patient has one study of three sentences. The same seed gives the same bytes. Raises
    :class:`WronglungError` when the folder cannot be written to.
    """
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(patients):
            rng = np.random.default_rng([seed, number])
            pixels, regions, report = sketch_film(rng)
            name = f"p{number:03d}"
            pixels.save(folder / "images" / f"{name}.png")
            for ordinal, sentence in enumerate(report):
                shared = {"image": f"images/{name}.png", "study_id": f"{name}-s1", "patient_id": name}
                all_regions = [{"name": region, "box": list(box)} for region, box in regions.items()]
                lines.append(json.dumps({"id": f"{name}-{ordinal}", **shared, **sentence, "regions": all_regions}))
        path = folder / "sketch.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return path


def sketch_film(rng: np.random.Generator) -> tuple[Image.Image, Regions, list[dict[str, Any]]]:
    """One film (8-bit grey), its region boxes, and the sentences of its report with boxes and findings.

    Boxes are in pixels of the film. The patient's right lung is on the viewer's left.
    """
    width, height = (int(one) for one in rng.integers((176, 192), (256, 288)))
    regions = _regions(width, height, rng)
    film = Image.new("L", (width, height), 150)
    pen = ImageDraw.Draw(film)
    for side in ("right", "left"):
        pen.ellipse(regions[f"{side} lung"], fill=60)
    pen.ellipse(regions["cardiac silhouette"], fill=185)
    report = [_finding(rng, regions, pen), _clear(rng), _heart(rng)]
    for sentence in report:
        sentence["boxes"] = [{"name": name, "box": list(regions[name])} for name in sentence.pop("regions")]
    smooth = np.asarray(film.filter(ImageFilter.GaussianBlur(3)), dtype=np.float64)
    noisy: npt.NDArray[np.uint8] = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy), regions, report


def _regions(width: int, height: int, rng: np.random.Generator) -> Regions:
    top, bottom = height * rng.uniform(0.12, 0.2), height * rng.uniform(0.78, 0.88)
    middle = width * rng.uniform(0.47, 0.53)
    gap, span = width * 0.05, width * rng.uniform(0.3, 0.36)
    edges = {"right": (middle - gap - span, middle - gap), "left": (middle + gap, middle + gap + span)}
    regions: Regions = {}
    for side, (x1, x2) in edges.items():
        regions[f"{side} lung"] = (x1, top, x2, bottom)
        cuts = np.linspace(top, bottom, 4)
        for zone, y1, y2 in zip(ZONES, cuts[:-1], cuts[1:], strict=True):
            regions[f"{side} {zone} lung zone"] = (x1, float(y1), x2, float(y2))
    regions["cardiac silhouette"] = (middle - gap, top + (bottom - top) * 0.55, middle + span * 0.6, bottom)
    return {name: (round(a, 1), round(b, 1), round(c, 1), round(d, 1)) for name, (a, b, c, d) in regions.items()}


def _finding(rng: np.random.Generator, regions: Regions, pen: ImageDraw.ImageDraw) -> dict[str, Any]:
    condition = CONDITIONS[rng.integers(len(CONDITIONS))]
    zone = ZONES[rng.integers(len(ZONES))]
    sides = (("left",), ("right",), ("right", "left"))[rng.integers(3)]
    names = [f"{side} {zone} lung zone" for side in sides]
    for name in names:
        x1, y1, x2, y2 = regions[name]
        inset = (x2 - x1) * 0.2
        pen.ellipse((x1 + inset, y1, x2 - inset, y2), fill=150)
    where = f"both {zone} lung zones" if len(sides) == 2 else f"the {sides[0]} {zone} lung zone"
    findings = [
        {"label": label, "context": "yes", "region": region}
        for label in (condition, "abnormal")
        for side, name in zip(sides, names, strict=True)
        for region in (name, f"{side} lung")
    ]
    return {"sentence": f"There is {condition} in {where}.", "regions": names, "findings": findings}


def _clear(rng: np.random.Generator) -> dict[str, Any]:
    side = ("left", "right")[rng.integers(2)]
    findings = [{"label": "pneumothorax", "context": "no", "region": f"{side} lung"}]
    return {"sentence": f"No pneumothorax in the {side} lung.", "regions": [f"{side} lung"], "findings": findings}


def _heart(rng: np.random.Generator) -> dict[str, Any]:
    sentence = ("The cardiac silhouette is normal.", "Normal cardiac silhouette.")[rng.integers(2)]
    findings = [{"label": "normal", "context": "yes", "region": "cardiac silhouette"}]
    return {"sentence": sentence, "regions": ["cardiac silhouette"], "findings": findings}
