"""The gallery: what every model looks at for the true, the swapped and a random sentence, instance by instance."""

from __future__ import annotations

import difflib
import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ...benchmark.errors import WronglungError, first_line
from ...benchmark.geometry import Geometry
from ...benchmark.instances import Dataset, ImageRef, Instance, fingerprint_images
from ...benchmark.plan import Plan
from ...benchmark.results import INSTANCES, read_instances
from ...benchmark.rows import digest
from ..examples import TASKS
from .groups import Entry, Group
from .maps import Asked, SavedMaps, packed

LONG_SIDE = 320
"""Of a film on a page, in pixels."""
CHUNK = 48
"""Instances whose maps share a file."""
SAME, REMOVED, ADDED = 0, 1, 2

Write = Callable[[str, Any], None]
"""Takes the name of a piece of data and its content."""
Film = Callable[[bytes, str], str]
"""Takes an image file and its suffix; keeps it and says under which name."""


Values = Mapping[str, Mapping[str, float]]
"""By task and instance."""


@dataclass(frozen=True)
class Shown:
    """An instance of the gallery with the sentences that its tasks put to the models."""

    instance: Instance
    sentences: Mapping[str, str]
    """By task, of the first draw."""
    changed: frozenset[str]
    """Tasks that change the sentence or the boxes."""
    subsets: tuple[int, ...]
    """Places of the instance's subsets among those of the group."""


def check_dataset(groups: Sequence[Group], dataset: Dataset) -> None:
    """Refuse data that a run was not made with. Raises :class:`WronglungError`."""
    for group in groups:
        if group.first.dataset.fingerprint != dataset.fingerprint:
            raise WronglungError(
                f"{group.entries[0].folder}: was made with other data (fingerprint {group.first.dataset.fingerprint[:12]}…) "
                f"than {dataset.name!r} ({dataset.fingerprint[:12]}…); give the --dataset, --data-root, --split and "
                "--data-arg of the run"
            )


def write_gallery(
    group: Group, dataset: Dataset, maps: Mapping[str, SavedMaps], most: int | None, write: Write, film: Film
) -> dict[str, Any]:
    """Write the data of a group's gallery; returns what its page must know.

    ``maps`` are those of the models that kept any, by label; ``most`` cuts the instances to the first ones of the dataset.
    Raises :class:`WronglungError` where sentences or films are not those of the runs, or a map is missing.
    """
    entries = [one for one in group.entries if one.label in maps]
    tables = {one.label: read_instances(one.folder / INSTANCES) for one in entries}
    metric = "auroc" if "auroc" in group.metrics else group.metrics[0]
    tasks = [task["name"] for name in TASKS for task in group.tasks if task["name"] == name]
    if TASKS[0] not in tasks:
        raise WronglungError(f"{entries[0].folder}: its suite has no task {TASKS[0]!r}, from which a gallery starts")
    shown, every_image = _shown(group, dataset, tasks, next(iter(tables.values())), most)
    films = _films(group, shown, every_image, film)
    prefix = f"g{group.number}"
    write(f"{prefix}-instances", [_described(one, films, tasks) for one in shown])
    models = []
    for number, entry in enumerate(entries, start=1):
        name = f"{prefix}-m{number:02d}"
        _write_model(name, entry, shown, tasks, metric, tables[entry.label], maps[entry.label], write)
        models.append({"label": entry.label, "page": entry.page, "role": entry.role, "data": name})
    return {
        "data": prefix,
        "tasks": tasks,
        "subsets": list(group.subsets),
        "subset": group.subset,
        "models": models,
        "metric": metric,
        "n": len(shown),
        "total": group.first.dataset.n_instances,
        "without": [one.label for one in group.entries if one.label not in maps],
        "chunk": CHUNK,
    }


def _shown(
    group: Group, dataset: Dataset, tasks: Sequence[str], rows: pd.DataFrame, most: int | None
) -> tuple[list[Shown], bool]:
    """The instances that were evaluated, in the dataset's order, and whether they are on all images that were."""
    plan = Plan(group.suite, dataset, group.first.manifest.seed, group.first.dataset.limit)
    names = [task.name for task in plan.suite.tasks]
    evaluated = set(rows["instance_id"])
    kept = [one for one in plan.instances if one.id in evaluated]
    wanted = {one.id for one in kept[:most]}
    asked: dict[str, dict[str, str]] = {}
    changed: dict[str, set[str]] = {}
    for image in plan.images():
        for question in image.questions:
            task = names[question.task]
            if question.instance.id in wanted and task in tasks and question.draw == 0 and question.trial is not None:
                asked.setdefault(question.instance.id, {})[task] = question.trial.sentence
                if question.changed:
                    changed.setdefault(question.instance.id, set()).add(task)
    subsets = plan.subsets()
    members = [subsets.get(name) or frozenset() for name in group.subsets]
    shown = [
        Shown(
            one,
            asked[one.id],
            frozenset(changed.get(one.id, ())),
            tuple(at for at, ids in enumerate(members) if one.id in ids),
        )
        for one in kept[:most]
    ]
    return shown, len(wanted) == len(evaluated)


def _films(group: Group, shown: Sequence[Shown], every_image: bool, film: Film) -> dict[str, str]:
    """The name of each image's film. Raises :class:`WronglungError` for one that cannot be read or is not the run's."""
    names, digests = {}, {}
    for image in dict.fromkeys(one.instance.image for one in shown):
        try:
            data = image.read()
            names[image.id] = film(*small_film(image, data))
        except OSError as error:
            raise WronglungError(f"image {image.id!r}: {error}") from error
        digests[image.id] = hashlib.sha256(data).hexdigest()
    stated = group.first.dataset.images_fingerprint
    if every_image and stated is not None and fingerprint_images(digests) != stated:
        raise WronglungError(
            f"{group.entries[0].folder}: the image files have changed since the run; its maps do not belong to them"
        )
    return names


def small_film(image: ImageRef, data: bytes) -> tuple[bytes, str]:
    """An image file as one for a page, grey or RGB, its long side at most :data:`LONG_SIDE`, and its suffix.

    PNG where that is smaller than JPEG, as it is for small films. Raises ``OSError`` for a file that cannot be decoded.
    """
    picture = image.decoded(data)
    picture = picture.convert("L" if picture.mode in ("1", "L", "LA", "I", "I;16", "F") else "RGB")
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BOX)
    files = []
    for suffix, options in ((".png", {"optimize": True}), (".jpg", {"quality": 82})):
        buffer = io.BytesIO()
        picture.save(buffer, {".png": "PNG", ".jpg": "JPEG"}[suffix], **options)
        files.append((buffer.getvalue(), suffix))
    return min(files, key=lambda one: len(one[0]))


def _described(one: Shown, films: Mapping[str, str], tasks: Sequence[str]) -> dict[str, Any]:
    """An instance without the models' answers, for the browser."""
    instance = one.instance
    truth = one.sentences[TASKS[0]]
    return {
        "id": instance.id,
        "film": films[instance.image_id],
        "size": [instance.image.width, instance.image.height],
        "boxes": [[box.name, *(round(one, 1) for one in (box.x1, box.y1, box.x2, box.y2))] for box in instance.boxes],
        "subsets": one.subsets,
        "changed": [task in one.changed for task in tasks],
        "sentences": [
            None if task not in one.sentences else _sentence(truth, one.sentences[task], task == "swap_left_right")
            for task in tasks
        ],
    }


def _sentence(truth: str, asked: str, compared: bool) -> list[list[Any]]:
    return [list(part) for part in difference(truth, asked)] if compared else [[SAME, asked]]


def difference(before: str, after: str) -> list[tuple[int, str]]:
    """Two sentences as one, word by word: parts that both have, parts that were removed, parts that were added.

    Without what was added it is ``before``, without what was removed ``after``.
    """
    old, new = (re.findall(r"\w+|\W", text) for text in (before, after))
    parts: list[tuple[int, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append((SAME, "".join(old[a:b])))
            continue
        parts += [(REMOVED, "".join(old[a:b]))] if b > a else []
        parts += [(ADDED, "".join(new[c:d]))] if d > c else []
    return parts


def _write_model(
    name: str,
    entry: Entry,
    shown: Sequence[Shown],
    tasks: Sequence[str],
    metric: str,
    table: pd.DataFrame,
    maps: SavedMaps,
    write: Write,
) -> None:
    """Write a model's values for all instances, and its maps in files of :data:`CHUNK` instances each.

    The files hold the maps in order of the change under the swap, as a page shows them at first: one file a page.
    """
    rows = _by_task(table, tasks)
    try:
        values: Values = {task: _numbers(rows[task], metric) for task in tasks}
        weights: Values = {task: _numbers(rows[task], "no_attention_weight") for task in tasks}
        digests = {task: rows[task]["sentence_sha256"].fillna("").to_dict() for task in tasks}
    except (KeyError, ValueError, TypeError) as error:
        raise WronglungError(
            f"{entry.folder / INSTANCES}: is not of a run of wronglung ({first_line(error)}); make the run again"
        ) from error
    own = {task["name"] for task in entry.run.suite["tasks"]}
    for one in shown:
        for task, sentence in one.sentences.items():
            if task in own and digests[task].get(one.instance.id) != digest(sentence):
                raise WronglungError(
                    f"{entry.folder}: instance {one.instance.id!r}, task {task!r}: the run put another sentence to the model "
                    "than its suite does on these data now; make the run again with this version"
                )
    by_change = sorted(range(len(shown)), key=lambda at: _change(shown[at], values))
    places = {at: place for place, at in enumerate(by_change)}
    geometries: dict[Geometry, int] = {}
    lies = [geometries.setdefault(maps.geometry(one.instance.image_id), len(geometries)) for one in shown]
    write(
        f"{name}-values",
        {
            "values": [[_number(values[task].get(one.instance.id)) for task in tasks] for one in shown],
            "places": [places[at] for at in range(len(shown))],
            "geometries": [astuple(one) for one in geometries],
            "geometry": lies,
        },
    )
    for start in range(0, len(shown), CHUNK):
        chosen = [shown[at] for at in by_change[start : start + CHUNK]]
        asked = [
            _asked(one, task, weights[task].get(one.instance.id)) if task in own else None
            for one in chosen
            for task in tasks
        ]
        write(f"{name}-maps{start // CHUNK:03d}", packed(maps.read(asked)))


def _asked(one: Shown, task: str, weight: float | None) -> Asked | None:
    if task not in one.sentences:
        return None
    # A model without a vector that stands for no region has no such weight.
    return Asked(one.instance.image_id, digest(one.sentences[task]), _number(weight) or 0.0)


def _change(one: Shown, values: Values) -> tuple[float, str]:
    """Sorts by swapped - true, what fell most first; what has no such change comes last."""
    swapped, truth = (values.get(task, {}).get(one.instance.id, math.nan) for task in ("swap_left_right", TASKS[0]))
    change = swapped - truth
    return (math.inf if math.isnan(change) else change), one.instance.id


def _numbers(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """A column by instance; nothing where there is no such column."""
    if column not in rows:
        return {}
    return {str(key): float(value) for key, value in zip(rows.index, rows[column].to_numpy(np.float64), strict=True)}


def _by_task(table: pd.DataFrame, tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {task: table[table["task"] == task].set_index("instance_id") for task in tasks}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)
