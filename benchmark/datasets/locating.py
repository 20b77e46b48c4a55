"""Finding a collection from the path that a user gives: the release, a folder above it, or one of its files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..errors import WronglungError
from ..instances import ImageRef
from .image_index import index_images
from .mimic_cxr import folders
from .rules import Ledger, open_image

_DEPTH = 3  # release, its folder of annotations, and one or two folders above the release
_PACKINGS = ("", ".gz", ".zip")


def find_file(root: Path, names: Sequence[str], fix: str) -> Path:
    """The file of one of some names, which may have a folder in them, in ``root`` or up to three levels below it.

    Tables (``.csv``) may be gzipped or zipped. The first name is wanted most, then the least deep; a ``root`` that is a file is taken
    as it is. Raises :class:`WronglungError`, which says where was looked and ends with ``fix``.
    """
    if not root.is_dir():
        return root
    places = list(folders(root, _DEPTH))
    for name in names:
        for folder in places:
            for packing in _PACKINGS if name.endswith(".csv") else ("",):
                if (file := folder / f"{name}{packing}").is_file():
                    return file
    raise WronglungError(f"{root}: no {' or '.join(names)} in this folder or three levels below it; {fix}")


def find_images(
    places: Sequence[Path], images: Path | None, wanted: Collection[str], fix: str
) -> tuple[Path, Mapping[str, str]]:
    """The folder, of some, that holds the most of the wanted images, and where in it each image is, by bare image id.

    ``images`` is a folder that the user names instead. Raises :class:`WronglungError`, which says where was looked and
    ends with ``fix``, where none of the images is found; links are not followed.
    """
    if images is not None:
        images = images.expanduser()
        if not images.is_dir():
            raise WronglungError(f"{images}: is not a folder; images is the folder in which the images are")
        places = (images,)
    best: tuple[int, Path, Mapping[str, str]] = 0, places[0], {}
    for place in dict.fromkeys(places):
        index = index_images(place)
        held = sum(image_id in index for image_id in wanted)
        if held > best[0]:
            best = held, place, index
        if held == len(wanted):
            break
    if wanted and not best[0]:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise WronglungError(f"{looked}: none of the {len(wanted)} images that are needed is in there; {fix}")
    return best[1], best[2]


def image_places(file: Path, root: Path, name: str) -> list[Path]:
    """Where the images of a table may be: in the folder that is usually called ``name``, beside the table, or in root."""
    parents = (file.parent, file.resolve().parent.parent)
    return [*(parent / name for parent in parents), file.parent, *([root] if root.is_dir() else [])]


def open_found(
    folder: Path, index: Mapping[str, str], image_id: str, ledger: Ledger, *, frame: tuple[int, int]
) -> ImageRef | None:
    """An image that :func:`find_images` has found, as :func:`.rules.open_image`; None (with an entry) for one it has not."""
    if image_id not in index:
        ledger.drop("image_missing", image_id, "no file of that name")
        return None
    return open_image(folder, index[image_id], image_id, ledger, frame=frame)
