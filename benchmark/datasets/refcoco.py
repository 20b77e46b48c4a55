"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one object of a COCO photograph.

Read are the folders of the download, and COCO's images of 2014::

    refcoco/    refs(unc).p  refs(google).p  instances.json
    refcoco+/   refs(unc).p  instances.json
    refcocog/   refs(umd).p  refs(google).p  instances.json
    train2014/COCO_train2014_000000090001.jpg

The images may also be in ``images/train2014`` or ``images/mscoco/images/train2014``, beside the folders or one level up, or in
any folder that the argument ``images`` names.

An instance is an expression, ``<image>_<sent_id>``, with one box, named after the object's category. Its sentence is the
``sent`` of the files, which is lower-case and without most marks; ``raw``, as the annotator typed it, is not used, as
published results go by ``sent``. The object's outline is the box's mask. Splits are train, val, testA and testB; train, val and test in RefCOCOg. Its
partition "google" has images that are in both train and val.

The ``.p`` files are pickles. They are read as plain data: what could run code is refused.

A folder of parquet files in the form of ``jxu124/refcoco`` on the Hub is read, too; there, objects have no category names.
Its column ``bbox`` does not say whether it is x, y, width, height or two corners: boxes come from the COCO annotation in the
same row, and the ledger says as which ``bbox`` agrees with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import WronglungError
from ..instances import Box, Dataset, ImageRef, Instance
from ..masks import from_segmentation
from .coco import read_model
from .coordinates import corners_of_xywh
from .huggingface_files import DataFile
from .locating import find_file, find_images
from .refcoco_packaged import packaged_files, read_packaged
from .refcoco_refs import AnnotationEntry, ImageEntry, Instances, Ref, read_refs
from .rules import Ledger, bare_id, check_box, open_image

Variant = Literal["refcoco", "refcoco+", "refcocog"]
Partition = Literal["unc", "google", "umd"]
Size = tuple[int, int]

_PARTITIONS: Mapping[str, tuple[Partition, ...]] = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc",),
    "refcocog": ("umd", "google"),
}
_IMAGE_FOLDERS = ("train2014", "coco/train2014", "images/train2014", "images/mscoco/images/train2014")


def read(
    root: Path,
    *,
    variant: Variant = "refcoco",
    partition: Partition | None = None,
    split: str | None = None,
    masks: bool = True,
    images: Path | None = None,
) -> Dataset:
    """Read the folder that holds ``refcoco``, ``refcoco+`` or ``refcocog``, one of these, one above, or the ``.p`` file.

    ``variant`` chooses the set, and ``partition`` who divided it into splits: by default "unc", and "umd" for RefCOCOg.
    ``split`` reads one split only. ``masks=False`` leaves the outlines out; a whole set with them takes half a minute.
    ``images`` is the folder of the images.

    Images are in the order in which references first name them. ``regions`` of the dataset has the boxes of all annotated
    objects of an image, without masks where nothing refers to them.

    Raises :class:`WronglungError` saying what is missing and where it was looked for, and for files that are not of this form.
    A missing image and a bad box or outline are reported in the ledger.
    """
    ledger = Ledger()
    packaged: list[DataFile] = []
    try:
        file = _find(root, variant, partition)
    except WronglungError:
        packaged = packaged_files(root)
        if not packaged:
            raise
        file = packaged[0].path
    if packaged:
        refs, document = read_packaged(packaged, ledger)
    else:
        refs, document = read_refs(file), read_model(file.parent / "instances.json", Instances)
    refs = _of_split(refs, split, file)
    near = dict.fromkeys((file.parent, file.parent.parent, root, file.parent.parent.parent))
    places = [place / name for place in near for name in _IMAGE_FOLDERS if (place / name).is_dir()]
    wanted = {ref.image_id for ref in refs}
    entries = {entry.id: entry for entry in document.images if entry.id in wanted}
    fix = "name the folder of COCO's train2014 images with the argument images"
    names = {bare_id(entry.file_name) for entry in entries.values()}
    folder, index = find_images(places or [file.parent], images, names, fix)
    reading = _Reading(document, masks, folder, index, ledger)
    instances = reading.instances(refs, entries)
    name = "refcoco" if variant == "refcoco" else f"refcoco:{variant}"
    return Dataset(name, tuple(instances), tuple(ledger.entries), reading.regions())


def _find(root: Path, variant: Variant, partition: Partition | None) -> Path:
    """The file of references."""
    usual = _PARTITIONS[variant]
    if partition is not None and partition not in usual:
        raise WronglungError(f"partition={partition!r}: {variant} is divided by {' or '.join(usual)}")
    folder = root if root.is_dir() else root.parent
    if folder.name in _PARTITIONS and folder.name != variant:
        raise WronglungError(f"{root}: is {folder.name}, not {variant}; give the argument variant={folder.name}")
    name = f"refs({partition or usual[0]}).p"
    if (root / name).is_file():
        return root / name
    fix = "give the folder that holds it and instances.json"
    if root.suffix == ".parquet":
        raise WronglungError(f"{root}: is not {name}; {fix}")
    return find_file(root, [f"{variant}/{name}"], fix)


def _of_split(refs: list[Ref], split: str | None, file: Path) -> list[Ref]:
    if split is None:
        return refs
    chosen = [ref for ref in refs if ref.split == split]
    if not chosen:
        raise WronglungError(f"{file}: has no split {split!r}; it has {', '.join(sorted({ref.split for ref in refs}))}")
    return chosen


@dataclass
class _Reading:
    """The state of one reading."""

    document: Instances
    masks: bool
    folder: Path
    index: Mapping[str, str]
    ledger: Ledger
    images: dict[int, ImageRef | None] = field(default_factory=dict)
    boxes: dict[int, Box | None] = field(default_factory=dict)
    frames: dict[int, Size] = field(default_factory=dict)

    def instances(self, refs: Sequence[Ref], entries: Mapping[int, ImageEntry]) -> list[Instance]:
        annotations = {one.id: one for one in self.document.annotations}
        names = {one.id: one.name.lower() for one in self.document.categories}
        found: dict[str, Instance] = {}
        for ref in _by_image(refs):
            image = self._image(ref.image_id, entries)
            if image is None:
                continue
            annotation = annotations.get(ref.ann_id)
            where = f"{image.id}, annotation {ref.ann_id}"
            if annotation is None or annotation.image_id != ref.image_id:
                self.ledger.drop("annotation_missing", where, "no such annotation on the image")
                continue
            if annotation.id not in self.boxes:
                self.boxes[annotation.id] = self._box(annotation, names, image, where, mask=self.masks)
            box = self.boxes[annotation.id]
            for expression in ref.sentences:
                one = f"{image.id}_{expression.sent_id}"
                if not expression.sent.strip():
                    self.ledger.drop("sentence_missing", one, "an empty expression")
                elif box is None:
                    self.ledger.drop("no_valid_box", one)
                else:
                    instance = Instance(one, image, expression.sent, (box,), split=ref.split)
                    earlier = found.setdefault(one, instance)
                    if earlier is not instance and earlier == instance:
                        self.ledger.repair("duplicate_row", one, expression.sent)
                    elif earlier is not instance:
                        self.ledger.drop("id_taken", one, f"{expression.sent}; another expression has this id")
        return list(found.values())

    def regions(self) -> dict[str, tuple[Box, ...]]:
        """All annotated objects of the images that were read, in file order."""
        names = {one.id: one.name.lower() for one in self.document.categories}
        known: dict[str, dict[Box, None]] = {image.id: {} for image in self.images.values() if image is not None}
        for annotation in self.document.annotations:
            image = self.images.get(annotation.image_id)
            if image is not None:
                if annotation.id not in self.boxes:
                    where = f"{image.id}, annotation {annotation.id}"
                    self.boxes[annotation.id] = self._box(annotation, names, image, where, mask=False)
                box = self.boxes[annotation.id]
                if box is not None:
                    known[image.id][box] = None
        return {image_id: tuple(boxes) for image_id, boxes in known.items()}

    def _image(self, number: int, entries: Mapping[int, ImageEntry]) -> ImageRef | None:
        if number not in self.images:
            self.images[number] = None
            entry = entries.get(number)
            if entry is None:
                self.ledger.drop("image_missing", str(number), "not listed in instances.json")
            else:
                image_id, self.frames[number] = bare_id(entry.file_name), (entry.width, entry.height)
                relative = self.index.get(image_id, entry.file_name)
                frame = self.frames[number]
                self.images[number] = open_image(self.folder, relative, image_id, self.ledger, frame=frame)
        return self.images[number]

    def _box(
        self, annotation: AnnotationEntry, names: Mapping[int, str], image: ImageRef, where: str, *, mask: bool
    ) -> Box | None:
        name = names.get(annotation.category_id if annotation.category_id is not None else -1, "")
        frame = self.frames[annotation.image_id]
        outline = None
        if mask and annotation.segmentation:
            try:
                outline = from_segmentation(annotation.segmentation, *frame)
            except ValueError as error:
                self.ledger.drop("mask_unreadable", where, f"{name}: {error}")
        size = image.width, image.height
        return check_box(name, corners_of_xywh(annotation.bbox), size, where, self.ledger, frame=frame, mask=outline)


def _by_image(refs: Sequence[Ref]) -> list[Ref]:
    """References in file order, but those of one image together."""
    order: dict[int, int] = {}
    for ref in refs:
        order.setdefault(ref.image_id, len(order))
    return sorted(refs, key=lambda ref: order[ref.image_id])
