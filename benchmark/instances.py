"""The units of evaluation: boxes, findings, images, instances and datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

    from .masks import Mask

Context = Literal["yes", "no"]


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box in edge coordinates of the original image.

    ``x`` runs to the right and ``y`` down from the top left corner of the top left pixel;
    ``x2 - x1`` is the width in pixels. ``name`` is what the box shows, a region such as ``"left lung"`` (the patient's
    left) or, in datasets that name no regions, the finding or object; ``""`` where it is not said. Where the dataset segments the
    region, ``mask`` has its pixels, over the whole image at a resolution of its own, and the box is their extent.
    """

    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    mask: Mask | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a sentence says of a region: ``context`` is "yes" (affirmed) or "no" (negated).

    ``region`` is ``""`` in datasets that name no regions.
    """

    label: str
    context: Context
    region: str


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image on disk: its identity and size are known, its pixels are read on demand.

    ``width`` and ``height`` are in original pixels, the frame of all boxes.
    """

    id: str
    path: Path
    width: int
    height: int

    def read(self) -> bytes:
        """The file as it is stored. Raises ``OSError`` when it cannot be read."""
        return self.path.read_bytes()

    def load(self, *, at_least: int | None = None) -> Image.Image:
        """Decode the file: 8 bits a channel, as :func:`.decoding.decode` says.

        ``at_least`` lets a JPEG file be decoded at 1/2, 1/4 or 1/8 of its size as long as the short side keeps that many
        pixels. Raises ``OSError`` (with the file's path) when the file cannot be decoded or its size is not the one that
        was announced.
        """
        return self.decoded(self.read(), at_least=at_least)

    def decoded(self, data: bytes, *, at_least: int | None = None) -> Image.Image:
        """As :meth:`load`, of what :meth:`read` gave."""
        from .decoding import decode

        try:
            pixels = decode(data, self.path.suffix, at_least=at_least)
        except OSError as error:
            raise OSError(f"{self.path}: cannot be decoded as an image ({error})") from error
        sizes = {
            (-(-self.width // factor), -(-self.height // factor)) for factor in (1, *([2, 4, 8] if at_least else []))
        }
        if pixels.size not in sizes:
            raise OSError(f"{self.path}: is {pixels.size}, not ({self.width}, {self.height}) as announced")
        return pixels


@dataclass(frozen=True, slots=True)
class Instance:
    """One sentence about one image, with the boxes that the sentence refers to.

    ``boxes`` are valid (inside the image, positive area) and never empty. ``findings`` come from all
    annotations of the sentence, also from those whose box was dropped; they may be empty where the
    dataset has none. ``parent_regions`` are annotated regions that a box's region is part of (the lung of a
    zone), where they have no box or finding of their own.
    """

    id: str
    image: ImageRef
    sentence: str
    boxes: tuple[Box, ...]
    findings: tuple[Finding, ...] = ()
    study_id: str | None = None
    patient_id: str | None = None
    split: str | None = None
    parent_regions: tuple[str, ...] = ()

    @property
    def image_id(self) -> str:
        return self.image.id

    @property
    def report(self) -> str:
        """The report that the sentence belongs to: its study, or its image where studies are unknown."""
        return self.study_id if self.study_id is not None else self.image.id

    @property
    def cluster(self) -> str:
        """The independent unit, the patient, else the study, else the image: ``"patient:..."`` and so on."""
        if self.patient_id is not None:
            return f"patient:{self.patient_id}"
        return f"image:{self.image.id}" if self.study_id is None else f"study:{self.study_id}"

    @property
    def is_abnormal(self) -> bool:
        """Whether the sentence affirms some finding other than "normal"."""
        return any(finding.context == "yes" and finding.label != "normal" for finding in self.findings)

    @property
    def regions(self) -> frozenset[str]:
        """The names of all regions that the sentence is annotated with, dropped boxes included."""
        return frozenset(
            (*(box.name for box in self.boxes), *(one.region for one in self.findings), *self.parent_regions)
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """One entry of the skip ledger: what a reader left out or repaired, and why.

    ``reason`` is one of a reader's fixed codes (for example ``"image_missing"`` or ``"box_clipped"``),
    ``where`` names the file, row or id, and ``detail`` says the rest in words. ``repaired`` entries were
    kept after a repair; the others were dropped.
    """

    reason: str
    where: str
    detail: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class PublishedCount:
    """How many instances of a subset a published run had, and how many sentences are annotated so in the files at hand.

    ``annotated`` counts before any image or box is looked at; None where that cannot be counted.
    """

    subset: str
    published: int
    annotated: int | None


@dataclass(frozen=True)
class Dataset:
    """Instances in file order, with what their reader skipped.

    ``regions`` maps an image id to all region boxes that are known on that image, mentioned or not
    (original pixels). ``published`` has the counts of a run that is known from print, to be held against one's own.
    """

    name: str
    instances: tuple[Instance, ...]
    skipped: tuple[Skipped, ...] = ()
    regions: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    published: tuple[PublishedCount, ...] = ()

    @cached_property
    def ids_fingerprint(self) -> str:
        """SHA-256 over the instance ids in sorted order: whether two datasets hold the same instances at all."""
        return _sha256(instance.id for instance in self.instances)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the ids, sentences, boxes, masks, findings and image sizes, in order of instance id.

        Two runs are comparable when their datasets have the same fingerprint. Pixels do not enter it.
        """
        digest = hashlib.sha256()
        for instance in sorted(self.instances, key=lambda one: one.id):
            fields = (
                instance.id,
                instance.image.id,
                instance.image.width,
                instance.image.height,
                instance.study_id,
                instance.patient_id,
                instance.sentence,
                [_fields(box) for box in instance.boxes],
                [(finding.label, finding.context, finding.region) for finding in instance.findings],
                instance.parent_regions,
            )
            digest.update(repr(fields).encode() + b"\n")
        return digest.hexdigest()


Unit = Literal["patients", "studies", "images", "patients, studies or images"]


def cluster_unit(clusters: Iterable[str]) -> Unit:
    """What :attr:`Instance.cluster` values count."""
    kinds = {one.partition(":")[0] for one in clusters}
    if kinds == {"patient"}:
        return "patients"
    if kinds == {"study"}:
        return "studies"
    return "images" if kinds == {"image"} else "patients, studies or images"


def fingerprint_images(digests: Mapping[str, str]) -> str:
    """SHA-256 over image ids and the SHA-256 of each image's file, in sorted order."""
    return _sha256(f"{image_id}\0{digest}" for image_id, digest in digests.items())


def _sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def _fields(box: Box) -> tuple[object, ...]:
    corners = (box.name, *map(float, (box.x1, box.y1, box.x2, box.y2)))
    return corners if box.mask is None else (*corners, box.mask.width, box.mask.height, box.mask.counts)
