"""One film's scene graph of the Chest ImaGenome silver set: region boxes, and the phrases tied to regions.

The parts that are read, with example values::

    {"image_id": "0a1b2c3d-...", "viewpoint": "AP",
     "objects": [{"bbox_name": "right lung",
                  "original_x1": 506, "original_y1": 508, "original_x2": 1380, "original_y2": 2188}],
     "attributes": [{"bbox_name": "right lung",
                     "attributes": [["nlp|yes|abnormal", "anatomicalfinding|yes|pleural effusion"]],
                     "phrases": ["Small right pleural effusion."], "phrase_IDs": ["50000001|2"]}]}

The lists of an attribute item run in parallel over its phrases.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from ..instances import Context, Finding
from .jsonl import first_fault

_MAX_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"


# Plain dataclasses: pydantic fills them more than twice as fast as its own models.
@dataclass(slots=True)
class GraphObject:
    """A region with its box; the ``original_`` corners are in pixels of the original film."""

    bbox_name: str
    original_x1: float | None = None
    original_y1: float | None = None
    original_x2: float | None = None
    original_y2: float | None = None


@dataclass(slots=True)
class GraphAttribute:
    """A region with the phrases about it, and the labels ("category|context|label") of each phrase."""

    bbox_name: str
    attributes: list[list[str]]
    phrases: list[str]
    phrase_IDs: list[str]  # noqa: N815 - the name in the file


@dataclass(slots=True)
class SceneGraph:
    image_id: str
    objects: list[GraphObject]
    attributes: list[GraphAttribute]
    viewpoint: str | None = None


_SCENE_GRAPH = TypeAdapter(SceneGraph)


def read_scene_graph(file: Path) -> SceneGraph:
    """Parse a ``<image id>_SceneGraph.json``.

    Raises ``FileNotFoundError`` when there is none, and ``ValueError`` with one line of what is wrong with it.
    """
    try:
        state = file.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("is not a regular file")
        if state.st_size > _MAX_BYTES:
            raise ValueError("larger than 64 MiB")
        graph = _SCENE_GRAPH.validate_json(file.read_bytes().removeprefix(_BOM))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except ValidationError as error:
        raise ValueError(first_fault(error, "the file")) from None
    for item in graph.attributes:
        if not len(item.attributes) == len(item.phrases) == len(item.phrase_IDs):
            raise ValueError(f"attributes, phrases and phrase_IDs of {item.bbox_name!r} differ in length")
    return graph


@lru_cache(maxsize=1 << 16)
def graph_finding(label: str, region: str) -> Finding:
    """The finding of a "category|context|label" at a region. Raises ``ValueError`` for a text of another form."""
    parts = label.split("|", 2)
    if len(parts) != 3 or parts[1] not in ("yes", "no"):
        raise ValueError(f"{label!r} is not category|yes or no|label")
    return Finding(parts[2], cast(Context, parts[1]), region)
