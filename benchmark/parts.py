"""What is finished of a run, part by part: in memory, or in the run's folder, from where it can go on after any stop.

Each part is about some images, N being the first one's place
in the dataset: ``part-N.arrow`` (rows), ``part-N.safetensors`` and ``part-N.pairs`` (where maps are kept), and, written last,
``part-N.json``, which says what else is known of the images, of which run the part is, and the SHA-256 of the other files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import WronglungError, first_line
from .geometry import Geometry
from .instances import Skipped
from .results import write_text, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = "parts"

Maps: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""Maps [rows, columns] under ``image id/sentence digest``."""


@dataclass(frozen=True)
class Part:
    """Some images' rows, and what happened to the images.

    ``rows`` are those of ``instances.parquet``; ``first`` is the first image's place in the dataset; ``images`` are the ids of
    all images that were looked at, ``digests`` the SHA-256 of the files that could be read, ``skipped`` the others. ``pairs`` has a
    row per map with its similarities. ``seconds`` and ``counts`` are what the part cost.
    """

    first: int
    images: tuple[str, ...]
    rows: pa.Table
    digests: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    seconds: Mapping[str, float]
    counts: Mapping[str, int]
    maps: Maps = field(default_factory=dict)
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    pairs: pa.Table | None = None


class Parts(Protocol):
    """Where parts are kept until they are merged."""

    def done(self) -> frozenset[str]:
        """The ids of the images that are finished."""
        ...

    def add(self, part: Part) -> None: ...

    def each(self) -> Iterator[Part]:
        """All parts, one by one, in the order of their first images; their maps are read when they are looked at."""
        ...


class MemoryParts:
    """Parts of a run that lives in this process."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def done(self) -> frozenset[str]:
        return frozenset(image for part in self._parts for image in part.images)

    def add(self, part: Part) -> None:
        self._parts.append(part)

    def each(self) -> Iterator[Part]:
        yield from sorted(self._parts, key=lambda part: part.first)


class FolderParts:
    """Parts in a run's folder. Several processes may add parts of different images."""

    def __init__(self, folder: Path, run: str) -> None:
        """``run`` is the same for all parts of a run, and for no other's."""
        self._folder, self._run = folder / PARTS, run

    def done(self) -> frozenset[str]:
        """Raises :class:`WronglungError` for a part that is damaged or of another run."""
        return frozenset(image for file in self._files() for image in self._read_told(file)["images"])

    def add(self, part: Part) -> None:
        """Raises :class:`WronglungError` when the folder cannot be written to."""
        stem = self._folder / f"part-{part.first:09d}"
        written = {_ROWS: self._write(stem, _ROWS, lambda path: _write_table(part.rows, path))}
        if part.pairs is not None:
            maps, pairs = dict(part.maps), part.pairs
            written[_MAPS] = self._write(stem, _MAPS, lambda path: _save(maps, path))
            written[_PAIRS] = self._write(stem, _PAIRS, lambda path: _write_table(pairs, path))
        told = {
            "run": self._run,
            "sha256": written,
            "images": part.images,
            "digests": part.digests,
            "skipped": [astuple(one) for one in part.skipped],
            "seconds": part.seconds,
            "counts": part.counts,
            "geometries": {image: astuple(one) for image, one in part.geometries.items()},
        }
        # Last, as it vouches for the others.
        write_text(stem.with_suffix(_TOLD), json.dumps(told) + "\n")

    def each(self) -> Iterator[Part]:
        """All parts. Where processes of an earlier start were still at it, an image may be in two: the first one counts.

        Raises :class:`WronglungError` for a part that is damaged or of another run.
        """
        opened = _OpenMaps()
        seen: set[str] = set()
        for file in self._files():
            part = self._read_part(file, opened)
            yield _without(part, seen.intersection(part.images))
            seen.update(part.images)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"part-*{_TOLD}"))

    @staticmethod
    def _write(stem: Path, suffix: str, write: Callable[[Path], object]) -> str:
        """Write one file of a part; returns the SHA-256 of its content."""
        digest = ""

        def both(path: Path) -> None:
            nonlocal digest
            write(path)
            digest = _sha256(path)

        write_whole(stem.with_suffix(suffix), both)
        return digest

    def _read_told(self, file: Path) -> dict[str, Any]:
        """What a part says of its images, without its rows."""
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(told["images"], list):
                raise TypeError("its images are no list")
            run = told["run"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise _damaged(file, error) from error
        if run != self._run:
            raise WronglungError(
                f"{file}: is a part of another run; remove {file.stem}.*, and --resume evaluates its images"
            )
        return dict(told)

    def _read_part(self, file: Path, opened: _OpenMaps) -> Part:
        told = self._read_told(file)
        try:
            written = {suffix: file.with_suffix(suffix) for suffix in told["sha256"]}
            for suffix, one in written.items():
                if suffix not in (_ROWS, _MAPS, _PAIRS) or _sha256(one) != told["sha256"][suffix]:
                    raise ValueError(f"{one.name} is not what was written")
            return Part(
                int(file.stem.removeprefix("part-")),
                tuple(told["images"]),
                _read_table(written[_ROWS]),
                told["digests"],
                tuple(Skipped(*one) for one in told["skipped"]),
                told["seconds"],
                told["counts"],
                _StoredMaps(written[_MAPS], opened) if _MAPS in written else {},
                {image: Geometry(*one) for image, one in told["geometries"].items()},
                _read_table(written[_PAIRS]) if _PAIRS in written else None,
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise _damaged(file, error) from error


_TOLD, _ROWS, _MAPS, _PAIRS = ".json", ".arrow", ".safetensors", ".pairs"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without(part: Part, images: set[str]) -> Part:
    """A part without some of its images."""
    if not images:
        return part
    from pyarrow import array, compute

    def others(table: pa.Table) -> pa.Table:
        column = table["image_id"]
        return table.filter(compute.invert(compute.is_in(column, value_set=array(sorted(images), column.type))))

    kept = {key: part.maps for key in part.maps if key.rpartition("/")[0] not in images}
    return replace(
        part,
        images=tuple(one for one in part.images if one not in images),
        rows=others(part.rows),
        digests={image: one for image, one in part.digests.items() if image not in images},
        skipped=tuple(one for one in part.skipped if one.where not in images),
        maps=_Chosen(part.maps, tuple(kept)),
        geometries={image: one for image, one in part.geometries.items() if image not in images},
        pairs=None if part.pairs is None else others(part.pairs),
    )


def _write_table(table: pa.Table, path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(table, path, compression="lz4")


def _read_table(file: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import feather

    try:
        return feather.read_table(file, memory_map=False)
    except pa.ArrowException as error:
        raise ValueError(f"{file.name}: {first_line(error)}") from error


def _damaged(file: Path, error: BaseException) -> WronglungError:
    return WronglungError(
        f"{file}: the part is damaged ({first_line(error)}); remove {file.stem}.*, and --resume evaluates its images again"
    )


def _save(maps: Maps, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(maps), path)
    except SafetensorError as error:
        # Its way of saying that the disk is full.
        raise OSError(str(error)) from error


class _OpenMaps:
    """Files of maps that are open: maps are read in order of their names, in which those of a part are scattered."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, Any] = OrderedDict()

    def get(self, file: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        if file not in self._files:
            try:
                self._files[file] = safe_open(file, framework="np")
            except (SafetensorError, OSError) as error:
                raise _damaged(file, error) from error
            if len(self._files) > 200:
                self._files.popitem(last=False)
        return self._files[file]


@dataclass(frozen=True, eq=False)
class _StoredMaps(Mapping[str, npt.NDArray[np.float32]]):
    """Maps in a file, each read when it is asked for."""

    file: Path
    opened: _OpenMaps

    def __getitem__(self, key: str) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.opened.get(self.file).get_tensor(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.opened.get(self.file).keys())

    def __len__(self) -> int:
        return len(self.opened.get(self.file).keys())


@dataclass(frozen=True, eq=False)
class _Chosen(Mapping[str, npt.NDArray[np.float32]]):
    """Some of the maps."""

    maps: Maps
    keys_kept: tuple[str, ...]

    def __getitem__(self, key: str) -> npt.NDArray[np.float32]:
        return self.maps[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_kept)

    def __len__(self) -> int:
        return len(self.keys_kept)


def merge_counts(parts: Iterable[Part]) -> tuple[dict[str, float], Counter[str]]:
    """What all parts cost: seconds by stage, and counts."""
    seconds: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
        for stage, value in part.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return seconds, counts
