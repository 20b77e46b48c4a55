"""A dual encoder's features on disk, so that a second run with another suite encodes nothing.

A store is a folder with one folder a key: what decides the features beside the image or sentence, named by its hash and written
in ``key.json``. In it lie packs, safetensors files that are written once, whole or not at all, and never changed:
``images-HASH.safetensors`` and ``sentences-HASH.safetensors``, where the hash is that of what the pack holds. Any number of processes may
read and write at once. Images are known by the SHA-256 of their file and sentences by that of their text, which is not stored.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Annotated, TypeAlias

import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import WronglungError, first_line
from .geometry import Geometry
from .manifest import version_of
from .protocol import Features, ModelCard
from .results import write_text, write_whole

VERSION = 1
KEY = "key.json"
IMAGES, SENTENCES = "images", "sentences"

_ITEMS = "wronglung-features"
_PACKAGES = ("wronglung", "torch", "transformers", "pillow")
"""What decodes and encodes: another version may round otherwise."""

Length = Annotated[int, Field(ge=1, le=1 << 31)]


@dataclass(frozen=True, slots=True)
class _Item:
    """What a pack's header says of one image or sentence.

    ``tensors`` are the names of its features, ``crc32`` is that of their bytes in this order, ``size`` (width, height) is an
    image's, and so is ``geometry``, the fields of a :class:`.geometry.Geometry`.
    """

    tensors: tuple[str, ...]
    crc32: int
    size: tuple[Length, Length] | None
    geometry: tuple[Length, Length, Length, Length, float, float, float, float] | None


_HEADER = TypeAdapter(dict[str, _Item])

Sized: TypeAlias = tuple[Features, tuple[int, int] | None]


class FeatureStore:
    """The features of one model. Reading is thread-safe; made by :meth:`open`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complaints: dict[Path, str] = {}
        self._index = {kind: self._indexed(kind) for kind in (IMAGES, SENTENCES)}

    @classmethod
    def open(
        cls,
        folder: Path,
        card: ModelCard,
        decode_at_least: int | None,
        computed: Mapping[str, str] | None = None,
    ) -> FeatureStore:
        """The part of a store that belongs to a model; the folder is made if needed.

        The key is the card's checkpoint, preprocessing, saliency method and settings, ``decode_at_least`` of the run, the
        versions of what computes, and ``computed``: whatever else decides the last bit, such as the device and the dtype.

        Raises :class:`WronglungError` for a card without a checkpoint digest and for a folder that cannot be written to.
        """
        if card.checkpoint is None:
            raise WronglungError(
                f"model {card.name!r}: its card has no checkpoint digest, without which its features cannot be told from those "
                "of other weights; run it without a feature cache"
            )
        key = {
            "version": VERSION,
            "checkpoint": card.checkpoint,
            "preprocessing": card.preprocessing,
            "saliency_method": card.saliency_method,
            "settings": dict(card.settings),
            "decode_at_least": decode_at_least,
            "computed": dict(computed or {}),
            "packages": {package: version_of(package) for package in _PACKAGES},
        }
        text = json.dumps(key, indent=1, sort_keys=True) + "\n"
        own = folder / hashlib.sha256(text.encode()).hexdigest()[:32]
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WronglungError(f"{folder}: cannot hold a feature cache: {error.strerror}") from error
        write_text(own / KEY, text)
        return cls(own)

    @property
    def warnings(self) -> list[str]:
        """The packs that are damaged: their features are computed again."""
        return list(self._complaints.values())

    def image(self, digest: str) -> tuple[Features, tuple[int, int]] | None:
        """The features of an image file by its SHA-256, and the (width, height) of the pixels that they were made of."""
        found = self._read(IMAGES, digest)
        return None if found is None or found[1] is None else (found[0], found[1])

    def sentence(self, sentence: str) -> Features | None:
        """The features of a sentence."""
        found = self._read(SENTENCES, _sha256(sentence))
        return None if found is None else found[0]

    def put_images(self, items: Mapping[str, tuple[Features, tuple[int, int]]]) -> None:
        """Keep features of images by the SHA-256 of their files, with the (width, height) of the pixels that were encoded.

        Raises :class:`WronglungError` when they cannot be written; nothing of them is kept then.
        """
        self._write(IMAGES, items)

    def put_sentences(self, items: Mapping[str, Features]) -> None:
        """Keep features of sentences. Raises :class:`WronglungError` as :meth:`put_images` does."""
        self._write(SENTENCES, {_sha256(sentence): (features, None) for sentence, features in items.items()})

    def _indexed(self, kind: str) -> dict[str, tuple[Path, _Item]]:
        """Where each item lies; of two packs with the same item the newer one counts."""
        index: dict[str, tuple[Path, _Item]] = {}
        try:
            packs = [pack for pack in self._folder.glob(f"{kind}-*.safetensors") if pack.is_file()]
            packs.sort(key=lambda pack: (pack.stat().st_mtime_ns, pack.name))
        except OSError as error:
            raise WronglungError(f"{self._folder}: cannot be read: {error.strerror}") from error
        for pack in packs:
            try:
                with safe_open(pack, framework="np") as stream:
                    items = _HEADER.validate_json((stream.metadata() or {})[_ITEMS])
            except (SafetensorError, OSError, ValueError, LookupError) as error:
                self._complain(pack, error)
            else:
                index |= {key: (pack, item) for key, item in items.items()}
        return index

    def _read(self, kind: str, key: str) -> Sized | None:
        place = self._index[kind].get(key)
        if place is None:
            return None
        pack, item = place
        try:
            with safe_open(pack, framework="pt") as stream:
                # Copies, so that no tensor depends on what becomes of the file.
                tensors = {name: stream.get_tensor(f"{key}/{name}").clone() for name in item.tensors}
            if _checksum(tensors) != item.crc32:
                raise ValueError("its values are not those that were written")
            geometry = None if item.geometry is None else Geometry(*item.geometry)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            self._complain(pack, error)
            self._index[kind].pop(key, None)
            return None
        return Features(tensors, geometry), item.size

    def _write(self, kind: str, items: Mapping[str, Sized]) -> None:
        if not items:
            return
        packed: dict[str, torch.Tensor] = {}
        header: dict[str, _Item] = {}
        for key, (features, size) in sorted(items.items()):
            # Copies: the rows of a batch share their memory, which the format does not allow.
            tensors = {name: one.detach().cpu().contiguous().clone() for name, one in features.tensors.items()}
            geometry = None if features.geometry is None else astuple(features.geometry)
            header[key] = _Item(tuple(tensors), _checksum(tensors), size, geometry)
            packed |= {f"{key}/{name}": one for name, one in tensors.items()}
        metadata = {_ITEMS: json.dumps({key: asdict(item) for key, item in header.items()})}
        pack = self._folder / f"{kind}-{_sha256(' '.join(header))[:32]}.safetensors"
        write_whole(pack, lambda path: _save(packed, metadata, path))
        self._index[kind].update((key, (pack, item)) for key, item in header.items())

    def _complain(self, pack: Path, error: Exception) -> None:
        self._complaints.setdefault(
            pack, f"feature cache: {pack}: is damaged ({first_line(error)}); its features are computed again, remove it"
        )


def _save(tensors: Mapping[str, torch.Tensor], metadata: dict[str, str], path: Path) -> None:
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        # Its way of saying that the disk is full.
        raise OSError(str(error)) from error
    except KeyError as error:
        raise WronglungError(
            f"{path.parent}: features of the type {error} cannot be kept; run without a feature cache"
        ) from error


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    total = 0
    for tensor in tensors.values():
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
