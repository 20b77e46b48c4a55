"""What every reader does the same way: ids, boxes, images, and the ledger of what was left out or repaired.

A file that a person wrote for this project and got wrong is an error (:class:`WronglungError`); a large collection that
lacks an image or holds a broken box is not: it goes to the ledger, and the run goes on.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeGuard

from ..errors import WronglungError
from ..instances import Box, ImageRef, Skipped
from ..masks import Mask

Reason = Literal[
    "box_clipped",  # repaired: cut at the border of the image
    "box_degenerate",  # no width or no height as stored
    "box_flipped",  # repaired: the corners were swapped
    "box_missing",  # empty, null or not a number
    "box_outside_image",
    "annotation_missing",  # what a sentence or image refers to is not in the files
    "category_missing",  # a box that does not say what it shows
    "duplicate_row",  # repaired: said twice, counted once
    "form_detected",  # repaired: what the format leaves open was told from the data
    "id_taken",  # an id that something else has already
    "image_in_gold_set",  # a film of a gold patient, which the silver set must not be evaluated or trained on
    "image_missing",
    "image_unreadable",
    "mask_unreadable",  # a mask that is damaged or empty, or not of its image's size; its box, if any, is kept
    "metadata_missing",  # an image without a row in the table of images
    "no_annotation",  # an image that is listed, but has no sentence or no box
    "no_valid_box",  # a sentence whose boxes were all dropped
    "path_malformed",  # not of the form that the collection's paths have
    "path_outside_root",
    "reader_disagreement",  # too few of several readers marked it
    "region_without_box",  # a sentence about a region that has no box on the image
    "row_contradicts",  # it says otherwise than an earlier row about the same film
    "scene_graph_missing",
    "scene_graph_unreadable",
    "sentence_missing",  # an empty text
    "sentence_without_annotation",  # a sentence that is tied to no box
    "sentence_without_region",  # a sentence that names no region
    "size_mismatch",  # repaired (scaled) when the image was shrunk as a whole; else dropped
    "view_not_frontal",
]
"""Why something was left out or repaired."""

_MAX_JSON_BYTES = 1 << 30
_LARGEST = 1e300  # a coordinate beyond it is no number; whole numbers in JSON have no end
_PLAIN_PATH = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*")  # most paths; no part of it can lead upwards
_IMAGE_SUFFIXES = (".dcm", ".dicom", ".jpg", ".jpeg", ".png")


@dataclass
class Ledger:
    """Collects the entries of one reading, in order."""

    entries: list[Skipped] = field(default_factory=list)

    def drop(self, reason: Reason, where: str, detail: str = "") -> None:
        """Something was left out."""
        self.entries.append(Skipped(reason, where, detail))

    def repair(self, reason: Reason, where: str, detail: str = "") -> None:
        """Something was kept after a repair."""
        self.entries.append(Skipped(reason, where, detail, repaired=True))


def bare_id(name: str) -> str:
    """The id without one trailing image suffix: "a.b.dcm" is "a.b"; a suffix is letters, of any case, not a pattern."""
    dot = name.rfind(".")
    return name[:dot] if dot > 0 and name[dot:].lower() in _IMAGE_SUFFIXES else name


def image_ids(file_names: Iterable[str]) -> dict[str, str]:
    """File name to image id: the bare id, or the whole name where two files would share one ("a.png", "a.jpg")."""
    names = dict.fromkeys(file_names)
    taken = Counter(bare_id(name) for name in names)
    return {name: bare_id(name) if taken[bare_id(name)] == 1 else name for name in names}


def check_box(
    name: str,
    corners: Sequence[float | None] | None,
    size: tuple[int, int],
    where: str,
    ledger: Ledger,
    *,
    frame: tuple[int, int] | None = None,
    mask: Mask | None = None,
) -> Box | None:
    """A valid box from x1, y1, x2, y2, or None when it was dropped; with its ``mask``, if it has one.

    Checked in this order: missing or not finite, degenerate as stored, flipped (repaired), outside the image, cut by
    its border (repaired). ``size`` is the image's (width, height) in pixels. ``frame`` is the (width, height) in which
    the corners are given, where it differs; they are scaled to ``size`` before they are clipped.
    """
    if corners is not None and (frame is None or frame == size) and is_inside(corners, size):
        x1, y1, x2, y2 = corners
        return Box(name, float(x1), float(y1), float(x2), float(y2), mask=mask)
    shown = f"{name}: {_shown(corners)}" if name else _shown(corners)
    numbers = [float(one) for one in corners or () if one is not None and abs(one) <= _LARGEST]
    if len(numbers) != 4 or len(corners or ()) != 4:
        ledger.drop("box_missing", where, shown)
        return None
    x1, y1, x2, y2 = numbers
    if x1 == x2 or y1 == y2:
        ledger.drop("box_degenerate", where, shown)
        return None
    if x1 > x2 or y1 > y2:
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        ledger.repair("box_flipped", where, shown)
    width, height = size
    stored = frame or size
    shown = f"{shown} on {stored[0]} × {stored[1]}" + (" pixels" if stored != (1, 1) else "")
    if stored != size:
        x1, x2 = x1 * width / stored[0], x2 * width / stored[0]
        y1, y2 = y1 * height / stored[1], y2 * height / stored[1]
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if not (x1 < x2 and y1 < y2):
            ledger.drop("box_outside_image", where, shown)
            return None
        ledger.repair("box_clipped", where, shown)
    return Box(name, x1, y1, x2, y2, mask=mask)


def is_inside(corners: Sequence[float | None], size: tuple[int, int]) -> TypeGuard[Sequence[float]]:
    """Whether x1, y1, x2, y2 are a box that needs no repair: most are, and this is fast to see."""
    try:
        x1, y1, x2, y2 = corners
        return 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]  # type: ignore[operator]
    except (TypeError, ValueError):
        return False


def check_mask(mask: Mask) -> Mask:
    """The mask. Raises ``ValueError`` for an empty one, which would leave a box without a target."""
    if mask.is_empty:
        raise ValueError("empty")
    return mask


def mask_box(name: str, mask: Mask, size: tuple[int, int], where: str, ledger: Ledger) -> Box | None:
    """The box around a mask, with the mask, in pixels of an image of ``size``; None (with an entry) for an empty mask."""
    extent = mask.extent()
    if extent is None:
        ledger.drop("mask_unreadable", where, f"{name}: empty")
        return None
    return check_box(name, extent, size, where, ledger, frame=(mask.width, mask.height), mask=mask)


def _shown(corners: Sequence[float | None] | None) -> str:
    return "null" if corners is None else f"[{', '.join('null' if one is None else f'{one:g}' for one in corners)}]"


def same_shape(frame: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an image of ``size`` may be one of ``frame`` shrunk or enlarged as a whole.

    The two ratios may differ by what rounding each side to whole pixels explains, not more: a cropped or padded image
    is not the same shape. Both are (width, height) in pixels.
    """
    return abs(size[0] / frame[0] - size[1] / frame[1]) <= 1 / frame[0] + 1 / frame[1]


def open_image(
    root: Path,
    relative: str,
    image_id: str,
    ledger: Ledger,
    *,
    folder: str = ".",
    frame: tuple[int, int] | None = None,
) -> ImageRef | None:
    """An image in a ``folder`` of ``root`` with its size, or None when it was left out.

    Only the header is read. The size is that of the stored pixels, in which boxes are given; an orientation tag does
    not turn it. ``frame`` is the (width, height) that the dataset announces; a differing size is reported, and the
    image left out unless it has the same shape.
    """
    path = below(root, folder, relative)
    if path is None:
        ledger.drop("path_outside_root", image_id, relative)
        return None
    try:
        exists = path.is_file()
    except OSError as error:
        ledger.drop("image_unreadable", image_id, f"{relative}: {error.strerror}")
        return None
    if not exists:
        ledger.drop("image_missing", image_id, relative)
        return None

    from ..decoding import image_size

    try:
        size = image_size(path)
    except OSError as error:
        ledger.drop("image_unreadable", image_id, f"{relative}: {error}")
        return None
    if min(size) < 1:
        ledger.drop("image_unreadable", image_id, f"{relative}: {size[0]} × {size[1]} pixels")
        return None
    if frame is not None and frame != size:
        detail = f"{relative}: announced as {frame[0]} × {frame[1]} pixels, is {size[0]} × {size[1]}"
        if min(frame) < 1 or not same_shape(frame, size):
            ledger.drop("size_mismatch", image_id, f"{detail}: cropped or padded")
            return None
        ledger.repair("size_mismatch", image_id, f"{detail}: boxes scaled")
    return ImageRef(image_id, path, *size)


def below(root: Path, folder: str, relative: str) -> Path | None:
    """The path of a file below root, or None where it leads out of it: absolute, "..", a link to elsewhere."""
    path = root / folder / relative
    try:
        if _PLAIN_PATH.fullmatch(relative):
            if not _has_link(root, f"{folder}/{relative}"):
                return path
        elif "\0" in relative or any(
            one.anchor or ".." in one.parts for one in (PurePosixPath(relative), PureWindowsPath(relative))
        ):
            return None
        return path if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)) else None
    except (ValueError, OSError):
        return None


def _has_link(root: Path, relative: str) -> bool:
    """Whether any part of a path below root is a link; cheaper than resolving the path."""
    place = os.fspath(root)
    for part in relative.split("/"):
        place = f"{place}/{part}"
        if os.path.islink(place):  # noqa: PTH114 - readers of large collections ask this for every file
            return True
    return False


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises :class:`WronglungError` where it is not one."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise WronglungError(f"{path}: is not a regular file")
        if state.st_size > _MAX_JSON_BYTES:
            raise WronglungError(f"{path}: larger than 1 GiB; split the dataset")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise WronglungError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise WronglungError(f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises :class:`WronglungError` naming the file and what is wrong with it."""
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise WronglungError(f"{path}: not valid JSON ({error})") from error


def parse_json(text: str) -> Any:
    """JSON in which no object names a key twice. Raises ``ValueError`` with one line of what is wrong."""
    try:
        parsed = json.loads(text, object_pairs_hook=_without_repetition)
        if "\\ud" in text.lower():  # half a character, which could not be written to a result file
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return parsed


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        repeated = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        raise ValueError(f"key {repeated[0]!r} stands twice in one object")
    return dict(pairs)
