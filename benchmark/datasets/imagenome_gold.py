"""The annotators' tables of the Chest ImaGenome gold set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import WronglungError
from ..instances import Context, Finding, ImageRef, PublishedCount
from .coordinates import Corners, parse_coordinates, to_number
from .imagenome_films import Film, Sentence, release_table
from .mimic_cxr import Size, whole_number
from .rules import Ledger, bare_id, same_shape
from .tables import read_table

GOLD_TABLE = "gold_dataset/gold_object_attribute_with_coordinates.txt"
_GOLD_BOXES = "gold_dataset/gold_bbox_coordinate_annotations_1000images.csv"
_GOLD_SCALING = "gold_dataset/gold_bbox_scaling_factors_original_to_224x224.csv"
PUBLISHED_INSTANCES = {"all": 2496, "abnormal": 748, "one_lung": 285, "mdrb": 252}
"""Instances of the paper's run (McInerney et al., 2022), which kept sentences whatever their boxes looked like."""
_LUNGS = frozenset(("left lung", "right lung"))
_CONTEXTS: Mapping[str, Context] = {"yes": "yes", "no": "no"}
_RELATIONS: Mapping[str, Context] = {"1": "yes", "0": "no", "yes": "yes", "no": "no"}


def gold_films(file: Path, ledger: Ledger) -> dict[str, Film]:
    """The films of the gold table by image id, with the rows grouped by sentence."""
    columns = (
        "patient_id", "study_id", "image_id", "row_id", "sentence", "bbox", "relation", "label_name", "context",
        "categoryID", "coord_original", "coord224",
    )  # fmt: skip
    films: dict[str, Film] = {}
    for line, cells in read_table(file, columns, delimiter="\t"):
        patient, study, image, row_id, text, region, relation, label, context, category, coordinates, _ = cells
        where = f"{file.name}:{line}"
        image_id = bare_id(image)
        for column, value in (("patient_id", patient), ("study_id", study), ("image_id", image), ("row_id", row_id)):
            if not value.strip():
                raise WronglungError(f"{file}:{line}: {column} is empty")
        film = films.setdefault(image_id, Film(whole_number(study), whole_number(patient)))
        if (film.study, film.patient) != (whole_number(study), whole_number(patient)):
            raise WronglungError(
                f"{file}:{line}: image {image_id} is of patient {patient}, study {study} here, and of patient "
                f"{film.patient}, study {film.study} in an earlier row"
            )
        said = _CONTEXTS.get(context.strip().lower()) or _RELATIONS.get(whole_number(relation).lower())
        if said is None:
            raise WronglungError(f"{file}:{line}: context is {context!r}, not yes or no, and relation is {relation!r}")
        sentence = film.sentences.setdefault(row_id, Sentence(text))
        if not region:
            ledger.drop("category_missing", where, "bbox names no region")
            continue
        if sentence.text != text:
            ledger.repair("duplicate_row", where, f"another text for sentence {row_id}; the first one counts")
        corners = parse_coordinates(coordinates)
        row = (region, corners, label, said, category)
        sentence.repeated += row in sentence.rows
        sentence.rows.add(row)
        sentence.regions[region, corners] = None
        if label:
            sentence.findings[Finding(label, said, region)] = None
    return films


def published_counts(films: Mapping[str, Film]) -> tuple[PublishedCount, ...]:
    """The paper's counts beside those of the gold table, before any image or box is looked at.

    Counted as the paper's code does: every sentence with a row; ``abnormal`` by the label "abnormal" in context "yes";
    ``one_lung`` by exactly one of the two lungs among the regions.
    """
    sentences = [sentence for film in films.values() for sentence in film.sentences.values()]
    named = [_LUNGS & {region for region, _ in sentence.regions} for sentence in sentences]
    annotated = {
        "all": len(sentences),
        "abnormal": sum(
            any(one.label == "abnormal" and one.context == "yes" for one in sentence.findings) for sentence in sentences
        ),
        "one_lung": sum(len(lungs) == 1 for lungs in named),
    }
    return tuple(PublishedCount(name, count, annotated.get(name)) for name, count in PUBLISHED_INSTANCES.items())


def gold_regions(release: Path, films: Mapping[str, Film]) -> dict[str, list[tuple[str, Corners]]]:
    """All region boxes of the films, in original pixels, from the annotators' table where the release has it."""
    file = release_table(release, _GOLD_BOXES)
    known: dict[str, list[tuple[str, Corners]]] = {}
    if file.exists():
        columns = ("image_id", "bbox_name", "original_x1", "original_y1", "original_x2", "original_y2")
        for _, (image, region, *texts) in read_table(file, columns, has_text=False):
            if (image_id := bare_id(image)) in films and region:
                known.setdefault(image_id, []).append((region, tuple(map(to_number, texts))))
    return known


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a film was shrunk to 224 × 224 pixels: by which ratio, and the size of what it then filled."""

    ratio: float
    width: int
    height: int

    def frame(self, image: ImageRef, ledger: Ledger) -> Size | None:
        """The film's original size, as far as a copy can tell it, or None (with an entry) when it was cropped or padded.

        The long side is exact; the short one follows from the copy.
        """
        size = image.width, image.height
        if not same_shape((self.width, self.height), size):
            ledger.drop("size_mismatch", image.id, f"{size[0]} × {size[1]} pixels: cropped or padded")
            return None
        long = round(224 / self.ratio)
        if long == max(size):
            return size
        frame = round(size[0] * long / max(size)), round(size[1] * long / max(size))
        ledger.repair(
            "size_mismatch",
            image.id,
            f"was {frame[0]} × {frame[1]} pixels, is {size[0]} × {size[1]}: boxes scaled",
        )
        return frame


def scaling_factors(release: Path) -> dict[str, Scaling]:
    file = release_table(release, _GOLD_SCALING)
    if not file.exists():
        return {}
    found = {}
    for line, (image, *texts) in read_table(
        file, ("image_id", "ratio", "left", "right", "top", "bottom"), has_text=False
    ):
        try:
            ratio, *padding = map(float, texts)
            left, right, top, bottom = map(round, padding)
        except (ValueError, OverflowError):
            raise WronglungError(f"{file}:{line}: ratio or padding is not a number") from None
        width, height = 224 - left - right, 224 - top - bottom
        if not (0 < ratio < math.inf and min(width, height) > 0 and max(width, height) <= 224):
            raise WronglungError(f"{file}:{line}: a film of {width} × {height} of 224 pixels, ratio {ratio:g}")
        found[bare_id(image)] = Scaling(ratio, width, height)
    return found
