"""Image files to what models are given of them, decoded ahead of the models in threads."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import WronglungError
from .instances import ImageRef
from .plan import ImagePlan
from .protocol import AdapterError, DualEncoder, Features, LoadedImage, Preprocessed, Preprocessing

if TYPE_CHECKING:
    from .feature_store import FeatureStore


Given: TypeAlias = Features | Preprocessed | LoadedImage | WronglungError


@dataclass(frozen=True, slots=True)
class Film:
    """One image: the SHA-256 of its file, the (width, height) of the pixels that models are given, and what each of them gets.

    ``given`` has one item for each reader: the features that it knows already, what its preprocessing made, the image, or the error that its
    preprocessing ended with.
    """

    ref: ImageRef
    digest: str
    shown: tuple[int, int]
    given: tuple[Given, ...]

    @property
    def factor(self) -> int:
        """How many original pixels make one pixel, in each direction."""
        return LoadedImage.factor_of((self.ref.width, self.ref.height), self.shown)


@dataclass(frozen=True)
class Reader:
    """A model, as far as it reads images: with the features that are stored of it, if any."""

    model: Any
    store: FeatureStore | None = None

    def known(self, digest: str) -> tuple[Features, tuple[int, int]] | None:
        """Features of an image file, and the size of the pixels that they were made of."""
        return None if self.store is None else self.store.image(digest)

    def take(self, image: LoadedImage) -> Preprocessed | LoadedImage | WronglungError:
        """What the model keeps of a decoded image, or what went wrong with it: that stops this model, and no other."""
        model = self.model
        if not (isinstance(model, DualEncoder) and isinstance(model, Preprocessing)):
            return image
        try:
            return model.preprocess(image)
        except WronglungError as error:
            return error
        except Exception as error:
            return AdapterError(
                f"model {model.card.name!r} failed for image {image.id}: {type(error).__name__}: {error}"
            )


Decoded: TypeAlias = tuple[ImagePlan, Film | OSError]
"""An image's questions, and the image or why it cannot be read."""


def read_ahead(
    plans: Iterator[ImagePlan], readers: Sequence[Reader], count: int, workers: int, at_least: int | None
) -> Generator[list[Decoded], None, None]:
    """Chunks of ``count`` images; while one is in use, ``workers`` threads read the next.

    Each file is read once, and decoded once unless every reader knows it already; ``at_least`` lets JPEG files be reduced
    (:func:`.decoding.decode`).
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    try:

        def start() -> list[tuple[ImagePlan, Future[Film | OSError]]]:
            return [(plan, pool.submit(_read, plan.image, readers, at_least)) for plan in islice(plans, count)]

        ahead = start()
        while ahead:
            chunk, ahead = ahead, start()
            yield [(plan, future.result()) for plan, future in chunk]
    finally:
        pool.shutdown(cancel_futures=True)


def _read(ref: ImageRef, readers: Sequence[Reader], at_least: int | None) -> Film | OSError:
    try:
        data = ref.read()
    except OSError as error:
        return error
    digest = hashlib.sha256(data).hexdigest()
    sizes = {(-(-ref.width // factor), -(-ref.height // factor)) for factor in (1, 2, 4, 8)}
    # An image that is announced in another size than its features were made of is decoded, which says so.
    known = [one if one is not None and one[1] in sizes else None for one in (of.known(digest) for of in readers)]
    shown = next((one[1] for one in known if one is not None), (0, 0))
    if None in known:
        try:
            loaded = LoadedImage(ref.id, ref.decoded(data, at_least=at_least), (ref.width, ref.height))
        except OSError as error:
            return error
        shown = loaded.pixels.size
    given = [reader.take(loaded) if one is None else one[0] for reader, one in zip(readers, known, strict=True)]
    return Film(ref, digest, shown, tuple(given))
