"""The boxes of the regions of a film, from its geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...instances import Box
from .film import to_film
from .scene import SIDES, Scene, shape

_Extent = tuple[float, float, float, float]  # u1, v1, u2, v2 in chest coordinates


def region_boxes(scene: Scene, size: int) -> tuple[Box, ...]:
    """The 29 main regions of Chest ImaGenome on a film of ``size`` × ``size`` pixels.

    Boxes end at whole pixels, lie inside the film and have a positive area.
    """
    return tuple(_box(scene, size, name, extent) for name, extent in _extents(scene))


def _extents(scene: Scene) -> Iterator[tuple[str, _Extent]]:
    outline = shape(scene)
    domes = {"right": outline.right_dome, "left": outline.left_dome}
    for side in SIDES:
        top = 1 - domes[side]
        for name, (inner, v1, outer, v2) in (
            ("lung", (0.16, 0.0, 1.0, 1.0)),
            ("apical zone", (0.2, 0.0, 0.78, 0.14)),
            ("upper lung zone", (0.16, 0.0, 0.95, 1 / 3)),
            ("mid lung zone", (0.16, 1 / 3, 1.0, 2 / 3)),
            ("lower lung zone", (0.16, 2 / 3, 1.0, 1.0)),
            ("hilar structures", (0.12, 0.33, 0.46, 0.58)),
            ("costophrenic angle", (0.72, 0.84, 1.02, 1.02)),
            ("hemidiaphragm", (0.16, top - 0.04, 1.0, 1.0)),
            ("clavicle", (0.1, 0.1 - scene.anatomy.clavicle * 0.95 - 0.05, 1.1, 0.1)),
        ):
            yield f"{side} {name}", (-outer, v1, -inner, v2) if side == "right" else (inner, v1, outer, v2)
    right, left = -outline.heart_right, outline.heart_left
    heart_top = outline.heart_centre - outline.heart_height
    heart_bottom = outline.heart_centre + outline.heart_height
    aorta = scene.anatomy.aorta
    yield "trachea", (-0.08, -0.35, 0.1, 0.24)
    yield "spine", (-0.13, -0.35, 0.13, 1.2)
    yield "carina", (-0.1, 0.19, 0.12, 0.29)
    yield "aortic arch", (aorta - 0.17, 0.16, aorta + 0.17, 0.36)
    yield "mediastinum", (right, -0.1, left, max(1.0, heart_bottom))
    yield "upper mediastinum", (-0.24, -0.1, aorta + 0.17, 0.4)
    yield "svc", (-0.26, 0.14, -0.04, 0.46)
    yield "cavoatrial junction", (-0.3, 0.42, -0.06, 0.54)
    yield "right atrium", (right, heart_top + 0.06, 0.0, heart_bottom - 0.04)
    yield "cardiac silhouette", (right, heart_top, left, heart_bottom)
    yield "abdomen", (-1.05, 1 - max(domes.values()), 1.05, 1.45)


def _box(scene: Scene, size: int, name: str, extent: _Extent) -> Box:
    u1, v1, u2, v2 = extent
    # The chest may be tilted: an edge lies where its own middle does.
    across, down = (u1 + u2) / 2, (v1 + v2) / 2
    x1, x2 = (to_film(scene, u, down)[0] * size for u in (u1, u2))
    y1, y2 = (to_film(scene, across, v)[1] * size for v in (v1, v2))
    left, right = _pixels(x1, x2, size)
    top, bottom = _pixels(y1, y2, size)
    return Box(name, left, top, right, bottom)


def _pixels(low: float, high: float, size: int) -> tuple[float, float]:
    first = min(max(math.floor(low + 0.5), 0), size - 1)
    return float(first), float(min(max(math.floor(high + 0.5), first + 1), size))
