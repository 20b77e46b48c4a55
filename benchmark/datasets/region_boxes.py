"""The region boxes of many images, in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

from ..instances import Box


class RegionBoxes(Mapping[str, tuple[Box, ...]]):
    """Image id to boxes without masks, which are made when they are asked for.

    A collection of films has some thirty region boxes on each; kept as objects they would take most of the memory of a
    dataset that hardly any model looks at.
    """

    def __init__(self) -> None:
        self._corners = array("d")
        self._places: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, image_id: str, names: Sequence[str], corners: Sequence[Sequence[float]]) -> None:
        """The boxes of an image: a name and x1, y1, x2, y2 for each."""
        key = tuple(names)
        self._places[image_id] = len(self._corners), self._names.setdefault(key, key)
        for four in corners:
            self._corners.extend(four)

    def __getitem__(self, image_id: str) -> tuple[Box, ...]:
        start, names = self._places[image_id]
        values = self._corners
        return tuple(
            Box(name, *values[at : at + 4]) for name, at in zip(names, range(start, len(values), 4), strict=False)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
