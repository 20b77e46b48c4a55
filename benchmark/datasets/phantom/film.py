"""Pixels of films, many at a time.

Every pixel is computed from its own coordinates with elementwise float32 operations that IEEE 754 defines exactly
(+, −, ×, ÷, square root, comparisons, minimum, maximum, floor), in a fixed order. So films are the same bytes on every
machine, and the same whether they are rendered alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .random import raw_words
from .scene import (
    ATELECTASIS,
    CONSOLIDATION,
    EDEMA,
    EFFUSION,
    LEADS,
    NODULE,
    OPACITY,
    PACER,
    PICC,
    PNEUMOTHORAX,
    PORT,
    SIDES,
    TUBE,
    Device,
    Lesion,
    Scene,
    Side,
    shape,
)

Floats: TypeAlias = npt.NDArray[np.floating]  # float32 throughout; Python's numbers do not widen it
_Number: TypeAlias = float | Floats

_PIXELS_AT_ONCE = 1 << 16
_APEX = 0.53  # v that lies in the middle of a film without shift
_COARSE, _FINE = 5, 22  # cells of the two texture lattices along a side


def render_films(scenes: Sequence[Scene], size: int) -> npt.NDArray[np.uint8]:
    """The films of the scenes, uint8 [films, size, size]; the patient's right is on the viewer's left.

    Byte-identical to rendering each scene alone.
    """
    films = np.empty((len(scenes), size, size), dtype=np.uint8)
    step = max(1, _PIXELS_AT_ONCE // (size * size))
    for first in range(0, len(scenes), step):
        films[first : first + step] = _render(scenes[first : first + step], size)
    return films


def to_film(scene: Scene, u: float, v: float) -> tuple[float, float]:
    """The place (x, y) on the film, in fractions of its width and height, of a point in chest coordinates."""
    pose = scene.exposure
    down = scene.anatomy.height * pose.zoom * (v - _APEX)
    return 0.5 + pose.shift_x + scene.anatomy.width * pose.zoom * u + pose.tilt * down, 0.5 + pose.shift_y + down


class _Chest:
    """Coordinates and outlines of a batch of films: float32, [films, size, size] or broadcastable to it."""

    def __init__(self, scenes: Sequence[Scene], size: int) -> None:
        body = _columns([scene.anatomy for scene in scenes])
        pose = _columns([scene.exposure for scene in scenes])
        outline = _columns([shape(scene) for scene in scenes])
        self.body = dict(zip(scenes[0].anatomy._fields, body, strict=True))
        self.pose = dict(zip(scenes[0].exposure._fields, pose, strict=True))
        self.outline = dict(zip(shape(scenes[0])._fields, outline, strict=True))
        # Antisymmetric about the middle, exactly: a chest without shift and tilt is its own mirror image.
        centres = (2 * np.arange(size, dtype=np.float32) + 1 - size) / (2 * size)
        self.x, self.y = centres[None, None, :], centres[None, :, None]
        down = self.y - self.pose["shift_y"]
        across = self.x - self.pose["shift_x"]
        self.v = down / (self.body["height"] * self.pose["zoom"]) + _APEX
        self.u = (across - self.pose["tilt"] * down) / (self.body["width"] * self.pose["zoom"])
        self.a = np.abs(self.u)
        self.lateral = lateral_edge(self.v)
        self.medial = medial_edge(self.v)
        dome = np.where(self.u < 0, self.outline["right_dome"], self.outline["left_dome"])
        self.base = base_edge(self.a, dome)
        self.pixel = 1 / (size * self.body["width"] * self.pose["zoom"])  # of u


def _columns(rows: Sequence[Sequence[float]]) -> list[Floats]:
    """Each column of a table as float32 [rows, 1, 1]."""
    table = np.array(rows, dtype=np.float64).astype(np.float32)
    return [np.ascontiguousarray(table[:, at])[:, None, None] for at in range(table.shape[1])]


def lateral_edge(v: Floats) -> Floats:
    """|u| of the outer edge of a lung at v: narrow at the apex, 1 from the middle down."""
    rest = _unit((0.62 - v) / 0.62)
    edge: Floats = 0.42 + 0.58 * np.sqrt(1 - rest * rest)
    return edge


def medial_edge(v: Floats) -> Floats:
    """|u| of the inner edge of a lung at v."""
    rest = _unit((0.25 - v) / 0.25)
    edge: Floats = 0.42 - 0.25 * np.sqrt(1 - rest * rest)
    return edge


def base_edge(a: Floats, dome: Floats) -> Floats:
    """v of the lower edge of a lung at |u| = a, whose hemidiaphragm rises by ``dome``: a parabola, lowest at the side."""
    off = (a - 0.5) / 0.5
    edge: Floats = 1 - dome * (1 - off * off)
    return edge


def _unit(values: Floats) -> Floats:
    bounded: Floats = np.minimum(np.maximum(values, 0), 1)
    return bounded


def _step(distance: Floats, width: _Number) -> Floats:
    """0 outside, 1 inside, smooth over ``width`` about distance 0 (positive inside)."""
    t = _unit(distance / width + 0.5)
    return t * t * (3 - 2 * t)


def _ellipse(x: Floats, y: Floats, width: _Number, height: _Number, edge: float = 0.5) -> Floats:
    """1 in the middle of an ellipse about the origin, 0 outside; ``edge`` is the share of the radius that fades."""
    p, q = x / width, y / height
    return _step(1 - np.sqrt(p * p + q * q), edge)


def _towards(image: Floats, level: _Number, weight: Floats) -> Floats:
    return image + (level - image) * weight


# --- the film ---------------------------------------------------------------------------------------------------------


def _render(scenes: Sequence[Scene], size: int) -> npt.NDArray[np.uint8]:
    chest = _Chest(scenes, size)
    coarse, fine, grain = _noise(scenes, size)
    image, lung = _healthy(chest, coarse, fine)
    for kind in _PAINTERS:
        for side in SIDES:
            _paint_lesions(image, scenes, chest, lung, kind, side)
    image = _bones(image, chest)
    _paint_devices(image, scenes, chest)
    pose = chest.pose
    image = (image - 0.5) * pose["contrast"] + 0.5 + pose["brightness"]
    image = image + pose["gradient_x"] * chest.x + pose["gradient_y"] * chest.y + grain * pose["noise"]
    films: npt.NDArray[np.uint8] = np.floor(_unit(image) * 255 + 0.5).astype(np.uint8)
    return films


def _healthy(chest: _Chest, coarse: Floats, fine: Floats) -> tuple[Floats, Floats]:
    """The chest without bones, lesions and devices; and how much each pixel shows lung, in [0, 1]."""
    body, outline, u, v, a = chest.body, chest.outline, chest.u, chest.v, chest.a
    # Neck, then shoulders that widen downwards.
    flare = _step(v + 0.12, 0.26)
    skin = 0.34 + (body["shoulder"] - 0.34) * flare
    inside = _step(skin - a, 0.08)
    below = _step(v - chest.base, 0.05) * _step(1.08 - a, 0.1)
    tissue: Floats = 0.5 - 0.08 * _step(a - 1.05, 0.3)
    tissue = _towards(tissue, 0.62, below)
    tissue = _towards(tissue, 0.24, _bubble(chest))
    image: Floats = 0.04 + (tissue - 0.04) * inside

    lung = _step(chest.lateral - a, 0.07) * _step(a - chest.medial, 0.07) * _step(chest.base - v, 0.05)
    level = chest.pose["lung"] + 0.06 * coarse
    level = level + chest.pose["texture"] * fine
    image = _towards(image, level, lung)
    image = image + lung * _hila(chest)

    # Mediastinum with the trachea's air, spine, great vessels, heart.
    middle = _step(0.23 - a, 0.16) * _step(1.1 - v, 0.3) * inside
    image = _towards(image, 0.68, middle)
    image = image + 0.07 * _step(0.1 - a, 0.06) * inside
    air = _step(0.055 - np.abs(u - 0.01), 0.05) * _step(0.22 - v, 0.06)
    image = image - 0.2 * air * inside
    knob = _ellipse(u - body["aorta"], v - 0.26, 0.17, 0.1, 0.4)
    image = _towards(image, 0.68, knob)
    left, right = outline["heart_left"], outline["heart_right"]
    across = u - (left - right) * 0.5 - 0.35 * (v - outline["heart_centre"])
    heart = _ellipse(across, v - outline["heart_centre"], (left + right) * 0.53, outline["heart_height"], 0.16)
    image = _towards(image, 0.7, heart * inside * 0.92)
    return image, lung


def _bubble(chest: _Chest) -> Floats:
    """Air in the stomach, under the left hemidiaphragm."""
    radius = chest.body["bubble"]
    there = np.maximum(radius, 0.01)
    deep = chest.v - (1 - chest.outline["left_dome"]) - 0.05 - there * 0.6
    return _ellipse(chest.u - 0.5, deep, there * 1.5, there * 0.6) * (radius > 0)


def _hila(chest: _Chest) -> Floats:
    """Hilar shadows and the vessels that leave them: what they add to a lung."""
    out, down = chest.a - 0.2, chest.v - 0.45
    far = np.sqrt(out * out + 2 * down * down)
    slope = down / (np.maximum(out, 0) + 0.12) * chest.body["streaks"]
    wave = np.abs(slope - np.floor(slope) - 0.5)
    streaks = _unit(1 - wave * 5) * _unit(1 - far * 1.5)
    hilum = _ellipse(chest.a - 0.26, down, 0.15, 0.13, 0.9)
    return 0.14 * streaks + 0.2 * hilum


def _bones(image: Floats, chest: _Chest) -> Floats:
    """Pairs of ribs, as parabolas, and the clavicles."""
    body, v, a = chest.body, chest.v, chest.a
    at = (v - body["rib_first"] - body["rib_drop"] * a * a) / body["rib_spacing"]
    number = np.floor(at)
    band = _step(0.2 - np.abs(at - number - 0.5), 0.2)
    cage = _step(chest.lateral + 0.05 - a, 0.06) * (a > 0.1)
    image = image + chest.pose["ribs"] * band * cage * ((number >= 0) & (number < body["rib_count"]))
    rise = 0.05 - body["clavicle"] * (a - 0.15)
    bone = _step(0.028 - np.abs(v - rise), 0.03) * _step(a - 0.13, 0.06)
    return image + 0.1 * bone * _step(1.1 - a, 0.1)


def _noise(scenes: Sequence[Scene], size: int) -> tuple[Floats, Floats, Floats]:
    """Two smooth textures in [-1, 1] and grain of variance 1 (sums of four uniform numbers), [films, size, size]."""
    coarse, fine, grain = (np.empty((len(scenes), size, size), dtype=np.float32) for _ in range(3))
    corners = (_COARSE + 1) * (_COARSE + 1)
    more = corners + (_FINE + 1) * (_FINE + 1)
    for at, scene in enumerate(scenes):
        words = raw_words(*scene.noise_key, more + size * size)
        nodes = (words[:more] >> np.uint64(40)).astype(np.float32) / (1 << 23) - 1
        coarse[at] = _smooth(nodes[:corners].reshape(_COARSE + 1, -1), size)
        fine[at] = _smooth(nodes[corners:].reshape(_FINE + 1, -1), size)
        grain[at] = _grain(words[more:]).reshape(size, size)
    return coarse, fine, grain


def _grain(words: npt.NDArray[np.uint64]) -> Floats:
    pairs = (words & np.uint64(0xFFFF0000FFFF)) + ((words >> np.uint64(16)) & np.uint64(0xFFFF0000FFFF))
    sums = ((pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))).astype(np.float32)
    return (sums - 131070) / 37837.0


def _smooth(nodes: Floats, size: int) -> Floats:
    """Values between the nodes of a lattice that covers the film, [size, size]."""
    cells = nodes.shape[0] - 1
    place = (np.arange(size, dtype=np.float32) + 0.5) * cells / size
    cell = np.minimum(np.floor(place), cells - 1)
    t = place - cell
    t = t * t * (3 - 2 * t)
    index = cell.astype(np.intp)
    rows = nodes[index] + (nodes[index + 1] - nodes[index]) * t[:, None]
    smooth: Floats = rows[:, index] + (rows[:, index + 1] - rows[:, index]) * t[None, :]
    return smooth


# --- lesions ----------------------------------------------------------------------------------------------------------


class _Lung:
    """One lung of some films, for lesions: the same numbers for a right and a left one."""

    def __init__(self, chest: _Chest, films: npt.NDArray[np.intp], side: Side) -> None:
        u = chest.u[films]
        self.a = -u if side == "right" else u
        self.v = chest.v[films]
        self.medial, self.lateral = chest.medial[films], chest.lateral[films]
        self.across = (self.a - self.medial) / np.maximum(self.lateral - self.medial, 0.05)
        # Down to v = 1: without the dome, which is not the same on both sides.
        self.cavity = _step(self.lateral - self.a, 0.07) * _step(self.a - self.medial, 0.07)


_Layer: TypeAlias = tuple[float, Floats]  # a level, and the weight with which it replaces what is there


def lesion_mask(scene: Scene, lesion: Lesion, size: int) -> Floats:
    """How much of each pixel a lesion of a lung covers, float32 [size, size] in [0, 1], were there no hemidiaphragm.

    Raises ``ValueError`` for a lesion that moves an outline (of the heart or a hemidiaphragm) and covers nothing.
    """
    if lesion.kind not in _PAINTERS or lesion.side is None:
        raise ValueError(f"{lesion.kind} is no lesion of a lung")
    clear = np.ones((size, size), dtype=np.float32)
    for _, weight in _layers([lesion], _Lung(_Chest([scene], size), np.zeros(1, dtype=np.intp), lesion.side)):
        clear *= 1 - weight[0]
    return 1 - clear


def _layers(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """The layers of lesions of one kind, one lesion a film, to be laid over the lung in this order."""
    return [(level, weight * lung.cavity) for level, weight in _PAINTERS[lesions[0].kind](lesions, lung)]


def _paint_lesions(image: Floats, scenes: Sequence[Scene], chest: _Chest, lung: Floats, kind: str, side: Side) -> None:
    found = [
        (at, lesion)
        for at, scene in enumerate(scenes)
        for lesion in scene.lesions
        if lesion.kind == kind and lesion.side == side
    ]
    if not found:
        return
    films = np.array([at for at, _ in found], dtype=np.intp)
    part, aerated = image[films], lung[films]
    for level, weight in _layers([lesion for _, lesion in found], _Lung(chest, films, side)):
        # Fluid hides the hemidiaphragm; all else lies in aerated lung.
        part = _towards(part, level, weight if kind == EFFUSION else weight * aerated)
    image[films] = part


def _by_severity(lesions: Sequence[Lesion], mild: float, moderate: float, severe: float) -> Floats:
    return _columns([[(mild, moderate, severe)[lesion.severity]] for lesion in lesions])[0]


def _forms(lesions: Sequence[Lesion]) -> list[Floats]:
    return _columns([lesion.shape for lesion in lesions])


def _centre(lesions: Sequence[Lesion], forms: list[Floats], spread: float) -> tuple[Floats, Floats]:
    """The middle of a lesion: across its lung, and v."""
    v = _columns([[{"upper": 0.21, "mid": 0.5, "lower": 0.78}[lesion.zone or "mid"]] for lesion in lesions])[0]
    across = 0.5 + spread * (forms[0] - 0.5)
    return across, v + 0.1 * (forms[1] - 0.5)


def _extent(
    lesions: Sequence[Lesion],
    wide: tuple[float, float, float],
    high: tuple[float, float, float],
    diffuse: tuple[float, float],
) -> tuple[Floats, Floats]:
    """Half the width and height of a lesion, by its severity; of one without a zone, ``diffuse``."""
    sizes = [diffuse if one.zone is None else (wide[one.severity], high[one.severity]) for one in lesions]
    across, down = _columns(sizes)
    return across, down


def _opacity(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """Many soft, faint spots: a hazy, patchy area."""
    forms = _forms(lesions)
    across, v = _centre(lesions, forms, 0.16)
    wide, high = _extent(lesions, (0.26, 0.4, 0.52), (0.1, 0.16, 0.29), (0.5, 0.34))
    clear = np.ones_like(lung.v)
    spots = ((-0.55, -0.5), (0.5, -0.6), (0.0, 0.0), (-0.5, 0.6), (0.55, 0.5), (0.0, -0.9), (0.05, 0.95))
    for nth, (right, down) in enumerate(spots):
        x = lung.across - across - wide * (right + 0.5 * (forms[2 + nth] - 0.5))
        y = lung.v - v - high * (down + 0.5 * (forms[9 + nth] - 0.5))
        clear = clear * (1 - 0.8 * _ellipse(x, y, wide * 0.75, high * 0.7, 0.9))
    return [(0.62, (1 - clear) * _by_severity(lesions, 0.7, 0.85, 0.95))]


def _consolidation(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """One dense area with a clear, lobulated border, crossed by air bronchograms."""
    forms = _forms(lesions)
    across, v = _centre(lesions, forms, 0.16)
    wide, high = _extent(lesions, (0.34, 0.5, 0.66), (0.12, 0.185, 0.32), (0.62, 0.4))
    dense = np.zeros_like(lung.v)
    for nth, (right, down) in enumerate(((-0.35, -0.3), (0.35, 0.25), (0.0, 0.0))):
        x = lung.across - across - wide * (right + 0.3 * (forms[2 + nth] - 0.5))
        y = lung.v - v - high * (down + 0.3 * (forms[5 + nth] - 0.5))
        dense = np.maximum(dense, _ellipse(x, y, wide * 0.8, high * 0.85, 0.25))
    at = (lung.v * 1.72 - (0.5 + 0.6 * forms[8]) * lung.a) * 7 + forms[9]
    bronchi = _step(0.16 - np.abs(at - np.floor(at) - 0.5), 0.2)
    strength = _by_severity(lesions, 0.8, 0.9, 0.98)
    return [(0.84, dense * strength), (0.45, dense * bronchi * 0.8)]


def _nodule(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """A dense ball."""
    forms = _forms(lesions)
    across, v = _centre(lesions, forms, 0.4)
    radius = _by_severity(lesions, 0.09, 0.15, 0.24) * (0.9 + 0.2 * forms[2])
    x = lung.a - (lung.medial + across * (lung.lateral - lung.medial))
    ball = _ellipse(x, (lung.v - v) * 1.72, radius, radius, 0.25)
    return [(0.84, ball * 0.95)]


def _effusion(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """Fluid at the base whose surface rises towards the side."""
    forms = _forms(lesions)
    surface = _by_severity(lesions, 0.7, 0.5, 0.28) + 0.06 * (forms[0] - 0.5)
    rise = _unit(lung.across)
    surface = surface - (0.13 + 0.05 * forms[1]) * rise * rise * rise
    return [(0.86, _step(lung.v - surface, 0.05) * _step(0.97 - lung.v, 0.2))]


def _pneumothorax(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """Black air without markings around a collapsed lung whose edge is a fine bright line."""
    forms = _forms(lesions)
    rim = _by_severity(lesions, 0.3, 0.5, 0.66) * (0.94 + 0.12 * forms[0])
    top = _by_severity(lesions, 0.15, 0.26, 0.38)
    # The corner between the top and the side is round.
    p = np.maximum((lung.across - 0.25) / (0.75 - rim), 0)
    q = np.maximum((0.6 - lung.v) / (0.6 - top), 0)
    from_edge = p * p * p * p + q * q * q * q - 1
    air = _step(from_edge, 0.3)
    line = _step(0.16 - np.abs(from_edge), 0.14)
    return [(0.5, (1 - air) * _by_severity(lesions, 0.05, 0.15, 0.35)), (0.02, air), (0.55, line * 0.8)]


def _atelectasis(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """One to three bright plates that lie across the lung."""
    forms = _forms(lesions)
    _, v = _centre(lesions, forms, 0.0)
    thick = _by_severity(lesions, 0.02, 0.025, 0.033)
    slope = 0.24 * (forms[2] - 0.5) + 0.1
    plates = np.zeros_like(lung.v)
    for nth, needed in enumerate((0, 1, 2)):
        apart = (0.0, -0.1, 0.1)[nth]
        lies = v + apart + (slope + 0.1 * (forms[3 + nth] - 0.5)) * (lung.across - 0.5)
        shown = _columns([[float(lesion.severity >= needed)] for lesion in lesions])[0]
        ends = _step(lung.across - 0.12, 0.15) * _step(0.95 - lung.across, 0.15)
        plates = np.maximum(plates, _step(thick - np.abs(lung.v - lies), 0.02) * ends * shown)
    return [(0.82, plates * 0.92)]


def _edema(lesions: Sequence[Lesion], lung: _Lung) -> list[_Layer]:
    """Haze over the whole lung, densest about the hilum, with fine lines."""
    forms = _forms(lesions)
    out, down = lung.across, lung.v - 0.5
    far = np.sqrt(out * out * 0.6 + down * down * 2.2)
    haze = 1 - 0.75 * _unit(far)
    at = (lung.v + 0.35 * lung.across) * 13 + forms[0]
    lines = np.abs(at - np.floor(at) - 0.5) * 2
    haze = haze * (0.8 + 0.35 * lines)
    return [(0.66, _unit(haze * _by_severity(lesions, 0.55, 0.8, 1.05)))]


_PAINTERS: dict[str, Callable[[Sequence[Lesion], _Lung], list[_Layer]]] = {
    OPACITY: _opacity,
    CONSOLIDATION: _consolidation,
    NODULE: _nodule,
    EFFUSION: _effusion,
    PNEUMOTHORAX: _pneumothorax,
    ATELECTASIS: _atelectasis,
    EDEMA: _edema,
}


# --- devices ----------------------------------------------------------------------------------------------------------

_Point: TypeAlias = tuple[float, float]


def _strokes(device: Device) -> tuple[list[tuple[_Point, _Point]], list[tuple[float, float, float, float]]]:
    """Line segments, and discs (u, v, radius across, radius down), of a device."""
    one, two, three, four = device.shape
    sign = -1.0 if device.side == "right" else 1.0
    if device.kind == TUBE:
        top = 0.04 * (one - 0.5)
        return [((top, -0.5), (0.02 * (two - 0.5), 0.06 + 0.12 * three))], []
    if device.kind == PACER:
        u, v = sign * (0.74 + 0.12 * one), 0.06 + 0.1 * two
        tip = (0.1 + 0.25 * four, 0.78 + 0.08 * three)
        return [((u, v), (sign * 0.3, 0.02)), ((sign * 0.3, 0.02), (-0.14, 0.3)), ((-0.14, 0.3), tip)], [
            (u, v, 0.13, 0.07)
        ]
    if device.kind == PORT:
        u, v = sign * (0.6 + 0.15 * one), 0.16 + 0.1 * two
        return [((u, v), (sign * 0.3, 0.02)), ((sign * 0.3, 0.02), (-0.15, 0.36 + 0.1 * three))], [(u, v, 0.07, 0.045)]
    if device.kind == PICC:
        return [
            ((sign * 1.25, 0.2 + 0.15 * one), (sign * 0.85, -0.02 + 0.06 * two)),
            ((sign * 0.85, -0.02 + 0.06 * two), (sign * 0.2, 0.06)),
            ((sign * 0.2, 0.06), (-0.15, 0.38 + 0.12 * three)),
        ], []
    ends = [(-0.85 + 0.2 * one, 0.12), (0.7 + 0.2 * two, 0.15), (-0.8 + 0.2 * three, 0.86), (0.7 + 0.2 * four, 0.88)]
    knot = (0.3 * (one - 0.5), 1.25)
    return [(end, knot) for end in ends[:2]], [(u, v, 0.035, 0.02) for u, v in ends]


def _paint_devices(image: Floats, scenes: Sequence[Scene], chest: _Chest) -> None:
    for at, scene in enumerate(scenes):
        for device in scene.devices:
            image[at] = _paint_device(image[at], device, chest, at)


def _paint_device(image: Floats, device: Device, chest: _Chest, film: int) -> Floats:
    # In units of u on both axes.
    u, aspect = chest.u[film], chest.body["height"][film] / chest.body["width"][film]
    v = chest.v[film] * aspect
    half = np.maximum(0.01 if device.kind == LEADS else 0.016, chest.pixel[film] * 0.45)
    segments, discs = _strokes(device)
    metal = np.zeros_like(image)
    for (u1, v1), (u2, v2) in segments:
        du, dv = u2 - u1, (v2 - v1) * aspect
        pu, pv = u - u1, v - v1 * aspect
        along = _unit((pu * du + pv * dv) / (du * du + dv * dv))
        pu, pv = pu - along * du, pv - along * dv
        metal = np.maximum(metal, _step(half - np.sqrt(pu * pu + pv * pv), half))
    for cu, cv, wide, high in discs:
        metal = np.maximum(metal, _ellipse(u - cu, chest.v[film] - cv, wide, high, 0.2))
    strength = {TUBE: 0.6, PACER: 0.9, PORT: 0.85, PICC: 0.55, LEADS: 0.4}[device.kind]
    return _towards(image, 0.98, metal * strength)
