"""Is the geometry true? A patch moves over a film, and where the map changes is held against where it should.

For each place of the patch the absolute change of the map is one picture over the cells. A geometry predicts these
pictures: a blob where the patch lies in the frame. What changes everywhere or always says nothing of place, so means over
places and over cells are taken out of both; the correlation of what is left says how well a geometry explains the map.
The geometry that the adapter states competes with what is easily stated instead: another resize, a mirrored or
transposed map, a shift. This works for networks with random weights and on coarse grids, because nothing is thresholded
and many places vote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from ..geometry import Geometry
from ..protocol import LoadedImage
from .material import grainy_film
from .subject import Subject, Verdict, failed, not_shown, passed

FILMS = ((160, 320), (320, 160))
"""Twice as long as wide, and twice as wide as long: there a crop, a padding and a plain resize are far apart."""
PLACES = (3, 5)
"""Places of the patch along the short and along the long side."""
PATCH = 32
ASKED = 3
"""Sentences that are asked about each film; a trained map answers some patches for some sentences only."""

LEAST = 0.3
"""Correlation below which nothing explains the map; maps that change at random come to 0.2 at most."""
MARGIN = 0.12
"""By how much an alternative must explain the map better than what is stated; half a cell of shift, which strided
convolutions have of their own, and the choice between two resizes on a 4 × 4 grid stay below."""
FINEST = 32
"""Cells a side that are looked at; a finer map is averaged down."""
REACH = 0.25
"""The longest shift that is tried, as a share of the frame."""
SHIFTED = 0.6
"""Correlation that a shift must come to before it is believed: among so many shifts, one suits a map that changes at random."""
LEEWAY = 1.0
"""Cells of shift that are forgiven."""

Pictures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """How one film's map changed, and where the patch was, in pixels of the film.

    ``changes`` is [places, rows · columns], without its means (:func:`_centred`).
    """

    geometry: Geometry
    changes: Pictures
    rows: int
    columns: int
    centres: list[tuple[float, float]]


def geometry(subject: Subject) -> Verdict:
    """The patch is seen where the geometry says, rather than where another would."""
    films = []
    for width, height in FILMS:
        seen = _observe(subject, width, height)
        if seen is None:
            return not_shown("the map does not depend on the pixels")
        films.append(seen)
    stated = _explained(films, _stated)
    rivals = {name: _explained(films, predict) for name, predict in RIVALS.items() if _differs(films, predict)}
    best = max(rivals, key=lambda name: rivals[name])
    shift_x, shift_y, shifted = _best_shift(films)
    rows, columns = max(film.rows for film in films), max(film.columns for film in films)
    cells = max(abs(shift_x) * columns, abs(shift_y) * rows)
    seen_as = f"the stated geometry explains where the map changes with correlation {stated:.2f}"
    if max(stated, shifted, rivals[best]) < LEAST:
        return not_shown(f"the map does not change where the patch lies, nor elsewhere in step with it: {seen_as}")
    if rivals[best] > stated + MARGIN and rivals[best] >= shifted - MARGIN:
        return failed(f"{seen_as}, {best} with {rivals[best]:.2f}")
    if shifted > max(stated + MARGIN, SHIFTED) and cells > LEEWAY:
        where = f"{shift_x:+.2f} of the frame's width and {shift_y:+.2f} of its height"
        return failed(f"{seen_as}, but {shifted:.2f} when maps are shifted by {where}")
    if stated < LEAST:
        return not_shown(f"{seen_as}, too little to tell it from others")
    return passed(f"{seen_as}, the best other ({best}) with {rivals[best]:.2f}")


def _observe(subject: Subject, width: int, height: int) -> Observed | None:
    """How maps change with the patch; None when they do not."""
    across, down = PLACES if width < height else PLACES[::-1]
    centres = [((x + 0.5) / across * width, (y + 0.5) / down * height) for x, y in product(range(across), range(down))]
    films = [grainy_film(width, height), *(_film_with_patch(width, height, *centre) for centre in centres)]
    images = [LoadedImage("film", film) for film in films]
    total: Pictures | float = 0.0
    where = None
    for sentence in subject.sentences[:ASKED]:
        answer = subject.ask_all(images, [sentence] * len(images))
        maps, where = answer.saliency.double(), answer.geometry[0]
        changes = (maps[1:] - maps[0]).abs()
        rows, columns = (min(side, FINEST) for side in changes.shape[1:])
        total = total + _evened(adaptive_avg_pool2d(changes[:, None], (rows, columns))[:, 0].numpy(), (1, 2))
    assert where is not None
    changed = np.asarray(total)
    if not changed.any():
        return None
    _, rows, columns = changed.shape
    return Observed(where, _centred(_evened(changed, (0,))), rows, columns, centres)


def _evened(changes: Pictures, axes: tuple[int, ...]) -> Pictures:
    """Changes over their sum along ``axes``, so that each of the others counts alike, unless it hardly changes at all."""
    sums = changes.sum(axes, keepdims=True)
    largest = sums.max()
    return changes / np.maximum(sums, largest / 4) if largest > 0 else changes


def _film_with_patch(width: int, height: int, x: float, y: float) -> Image.Image:
    """A grainy film with a black and white patch centred at (x, y)."""
    film = grainy_film(width, height)
    patch = np.random.default_rng(2).integers(0, 2, (PATCH, PATCH)).astype(np.uint8) * 255
    film.paste(Image.fromarray(patch), (round(x - PATCH / 2), round(y - PATCH / 2)))
    return film


def _explained(films: Sequence[Observed], predict: Callable[[Observed], Pictures]) -> float:
    """The correlation of prediction and observation, mean over the films."""
    return float(np.mean([_cosine(film.changes, _centred(predict(film))) for film in films]))


def _differs(films: Sequence[Observed], predict: Callable[[Observed], Pictures]) -> bool:
    """Whether a rival predicts something else than what is stated; a plain resize may be just that."""
    return not all(np.allclose(predict(film), _stated(film), atol=0.05) for film in films)


def _cosine(one: Pictures, other: Pictures) -> float:
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.vdot(one, other) / norm) if norm > 0 else 0.0


def _centred(pictures: Pictures) -> Pictures:
    """[places, cells] without the means over places and over cells."""
    table = pictures.reshape(len(pictures), -1)
    centred: Pictures = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return centred


def _stated(film: Observed) -> Pictures:
    return _predicted(film, film.geometry)


RIVALS: dict[str, Callable[[Observed], Pictures]] = {
    "a plain resize (Geometry.squash)": lambda film: _predicted(film, _squash(film.geometry)),
    "a resize of the short side and a centre crop": lambda film: _predicted(film, _in_proportion(film.geometry, max)),
    "a resize of the long side and padding around": lambda film: _predicted(film, _in_proportion(film.geometry, min)),
    "a resize of the long side and padding at the right and bottom": lambda film: _predicted(
        film, replace(_in_proportion(film.geometry, min), offset_x=0.0, offset_y=0.0)
    ),
    "maps mirrored left to right": lambda film: _stated(film)[:, :, ::-1],
    "maps upside down": lambda film: _stated(film)[:, ::-1],
    "maps turned by half": lambda film: _stated(film)[:, ::-1, ::-1],
    "maps with rows and columns exchanged": lambda film: _predicted(film, film.geometry, transposed=True),
}
"""What an adapter that states its geometry wrongly may have done instead."""


def _squash(stated: Geometry) -> Geometry:
    return Geometry.squash(stated.image_width, stated.image_height, stated.frame_width, stated.frame_height)


def _in_proportion(stated: Geometry, choose: Callable[[float, float], float]) -> Geometry:
    """The image in the middle of the frame, one side filling it: the shorter (``max``) or the longer (``min``)."""
    plain = _squash(stated)
    scale = choose(plain.scale_x, plain.scale_y)
    return replace(
        plain,
        scale_x=scale,
        scale_y=scale,
        offset_x=(plain.frame_width - plain.image_width * scale) / 2,
        offset_y=(plain.frame_height - plain.image_height * scale) / 2,
    )


def _predicted(
    film: Observed, geometry: Geometry, shift: tuple[float, float] = (0.0, 0.0), transposed: bool = False
) -> Pictures:
    """A blob for each place, [places, rows, columns]: Gaussian, about as large as the patch or a cell.

    ``shift`` (x, y) is in shares of the frame.
    """
    rows, columns = (film.columns, film.rows) if transposed else (film.rows, film.columns)
    x, y = (np.array([centre[axis] for centre in film.centres]) for axis in (0, 1))
    across = _bumps(
        (x * geometry.scale_x + geometry.offset_x) / geometry.frame_width + shift[0],
        PATCH * geometry.scale_x / geometry.frame_width,
        columns,
    )
    down = _bumps(
        (y * geometry.scale_y + geometry.offset_y) / geometry.frame_height + shift[1],
        PATCH * geometry.scale_y / geometry.frame_height,
        rows,
    )
    pictures: Pictures = down[:, :, None] * across[:, None, :]
    return pictures.transpose(0, 2, 1) if transposed else pictures


def _bumps(centres: Pictures, size: float, cells: int) -> Pictures:
    """Gaussian bumps [places, cells] about centres and of a size in shares of the frame."""
    width = np.hypot(size / 2, 0.6 / cells)
    bumps: Pictures = np.exp(-0.5 * (((np.arange(cells) + 0.5) / cells - centres[:, None]) / width) ** 2)
    return bumps


def _best_shift(films: Sequence[Observed]) -> tuple[float, float, float]:
    """The shift (x, y), in shares of the frame, that explains best with the stated geometry, and how well it does.

    In steps of half a cell, about :data:`REACH` each way at most.
    """
    half_x, half_y = 0.5 / min(film.columns for film in films), 0.5 / min(film.rows for film in films)

    def explained(shift: tuple[float, float]) -> float:
        return _explained(films, lambda film: _predicted(film, film.geometry, shift))

    def best(steps_x: Sequence[int], steps_y: Sequence[int]) -> tuple[int, int]:
        return max(product(steps_x, steps_y), key=lambda steps: explained((steps[0] * half_x, steps[1] * half_y)))

    reach_x, reach_y = int(REACH / half_x) // 2 * 2, int(REACH / half_y) // 2 * 2
    # By whole cells, then by halves about the best: blobs are wider than a cell.
    at_x, at_y = best(range(-reach_x, reach_x + 1, 2), range(-reach_y, reach_y + 1, 2))
    at_x, at_y = best(range(at_x - 1, at_x + 2), range(at_y - 1, at_y + 2))
    shift = at_x * half_x, at_y * half_y
    return (*shift, explained(shift))
