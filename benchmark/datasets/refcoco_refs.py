"""The files of RefCOCO. The references are pickles: they are read as plain data, without the power to run anything."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import WronglungError
from .jsonl import first_fault

_MOST_EXPRESSIONS = 1_000_000
_MAX_FILE = 1 << 29  # bytes; the largest of the published files has a tenth
# Numbers, texts, lists, dictionaries and tuples, and the references between them, in all protocols. Not among them is any
# instruction that looks up a name, calls something, or sets memory aside before it has seen the data for it.
_INSTRUCTIONS = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.MEMOIZE,
    pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET, pickle.LONG_BINGET,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2,
    pickle.LONG, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT,
    pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
    pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS,
    pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
)  # fmt: skip


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Expression(_Model):
    sent_id: int
    sent: str


class Ref(_Model):
    """An object that expressions refer to: the annotation ``ann_id`` of the image ``image_id``."""

    ann_id: int
    image_id: int
    split: str
    sentences: list[Expression]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ImageEntry(_Lenient):
    id: int
    file_name: str
    width: int
    height: int


class CategoryEntry(_Lenient):
    id: int
    name: str


class AnnotationEntry(_Lenient):
    id: int
    image_id: int
    category_id: int | None = None
    bbox: list[float | None] | None = None
    segmentation: Any = None


class Instances(_Lenient):
    """The parts of ``instances.json`` that are read."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]


# The pure Python machine: its table of instructions can be cut down, and its memory is a dictionary, where that of the fast one
# is a list as long as the largest number in the file.
class _Plain(pickle._Unpickler):
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> NoReturn:
        """Never reached; the last resort."""
        raise pickle.UnpicklingError(f"names {module}.{name}")


def read_refs(file: Path) -> list[Ref]:
    """The references of a file in its order. Raises :class:`WronglungError` for anything else than plain data of this form."""
    try:
        if not file.is_file():
            raise WronglungError(f"{file}: is not a regular file")
        if file.stat().st_size > _MAX_FILE:
            raise WronglungError(f"{file}: larger than {_MAX_FILE >> 20} MiB, which no file of references is")
        data = file.read_bytes()
    except OSError as error:
        raise WronglungError(f"{file}: cannot be read: {error.strerror or error}") from error
    try:
        content = _load(data)
        _check_count(content)
        refs = TypeAdapter(list[Ref]).validate_python(content)
        for ref in refs:
            for one in ref.sentences:
                one.sent.encode()  # half a character could not be written to a result file
        return refs
    except ValidationError as error:
        raise WronglungError(f"{file}: {first_fault(error, 'the list of references')}") from error
    except KeyError as error:
        raise WronglungError(
            f"{file}: holds the pickle instruction {chr(error.args[0])!r}; only lists, dictionaries, "
            "texts and numbers are read, as others may run code"
        ) from error
    except Exception as error:
        what = " ".join(str(error).split())[:200]
        raise WronglungError(f"{file}: not a pickle of plain data ({type(error).__name__}: {what})") from error


def _check_count(content: Any) -> None:
    """A pickle may name one list many times, so that a small file says a great deal."""
    entries = content if isinstance(content, list) else []
    lists = [one.get("sentences") for one in entries if isinstance(one, dict)]
    if sum(len(one) for one in lists if isinstance(one, list)) > _MOST_EXPRESSIONS:
        raise ValueError(f"more than {_MOST_EXPRESSIONS:,} expressions")


def _load(data: bytes) -> Any:
    # Python 2 wrote bytes without saying their coding.
    return _Plain(io.BytesIO(data), encoding="latin-1").load()
