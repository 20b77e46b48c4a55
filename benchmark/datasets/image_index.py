"""Where the images of a collection are, when it keeps them in folders that its tables do not name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .rules import bare_id

# Folders of masks, whose files are named like their images.
_OTHER_WORDS = frozenset(("mask", "masks", "label", "labels", "segmentation", "segmentations", "overlay", "overlays"))
SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")


def index_images(root: Path, suffixes: Sequence[str] = SUFFIXES, *, depth: int = 4) -> dict[str, str]:
    """Bare image id to path relative to root, of the images in root and in folders down to ``depth`` levels below.

    Nothing that is a link is followed or listed, and no folder of masks or labels, whose files are named like their images. Of several files with one id the first counts: the least deep, then by
    the order of ``suffixes``, then by path. Suffixes are compared in lower case.
    """
    ranks = {suffix: at for at, suffix in enumerate(suffixes)}
    found: dict[str, tuple[int, int, str]] = {}
    level = [""]
    for deep in range(depth + 1):
        below: list[str] = []
        for folder in level:
            try:
                with os.scandir(root / folder) as entries:
                    for entry in entries:
                        relative = f"{folder}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            if not _OTHER_WORDS.intersection(re.split(r"[^a-z]+", entry.name.lower())):
                                below.append(f"{relative}/")
                        elif not entry.is_symlink():
                            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - faster, for each of many files
                            if suffix in ranks:
                                place = deep, ranks[suffix], relative
                                image_id = bare_id(entry.name)
                                found[image_id] = min(found.get(image_id, place), place)
            except OSError:
                continue
        level = sorted(below)
    return {image_id: relative for image_id, (_, _, relative) in sorted(found.items())}
