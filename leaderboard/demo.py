"""The demonstration: models on generated films, a leaderboard, a sentence on each, and pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ..benchmark.errors import WronglungError
from ..benchmark.evaluation import evaluate, load_suite
from ..benchmark.instances import Dataset, Instance
from ..benchmark.models import load_model, placement
from ..benchmark.plan import Plan
from ..benchmark.protocol import LoadedImage
from ..benchmark.registry import MODELS
from ..benchmark.results import Results, claim_folder, remove, write_text, write_whole
from .board import Section, board
from .examples import TASKS, Example, choose, heats
from .heatmaps import Row, sheet
from .reading import Reading, read
from .render import render
from .report import write_report
from .report.folder import check_place

SHIPPED = "gloria-phantom-"
"""What the names of trained models that ship begin with."""
BOUNDS = ("uniform", "center-prior", "random", "text-blind", "oracle", "mirrored-oracle")
PICTURES = 6
REPORT = "report"
"""The folder of the report."""
_NOT_PICTURED = frozenset(BOUNDS) - {"oracle"}


def models() -> tuple[str, ...]:
    """The floors and ceilings, and the models that ship trained on phantom."""
    return (*BOUNDS, *(name for name in MODELS.builtin() if name.startswith(SHIPPED)))


def run(
    names: Sequence[str],
    dataset: Dataset,
    suite: str,
    out: Path,
    *,
    command: Sequence[str] = (),
    pictures: int = PICTURES,
    include_data: bool = False,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> tuple[list[Results], list[Section], list[Reading], Path]:
    """Evaluate the models on the CPU and write everything into ``out``, which exists.

    Per model a run's folder; ``leaderboard.md`` (with the readings), ``.tex`` and ``.csv``; ``readings.txt``, one line
    for each model that is neither floor nor ceiling; ``heatmaps/<instance>.png`` of these models and the oracle for
    ``pictures`` instances, which are chosen before any model is asked (:func:`.examples.choose`); ``report``, whose first
    page's path is returned last. ``include_data`` puts the dataset's sentences and films into the report, with the maps,
    which the runs of models that are neither floor nor ceiling then keep (all, if there are no others). ``say`` is told what
    happens.

    Raises :class:`WronglungError` as :func:`wronglung.evaluate` does, and when a file cannot be written.
    """
    say = say or (lambda text: None)
    chosen = load_suite(suite)
    check_place(out / REPORT, overwrite=True)
    # Of an earlier demo, which may have had other models.
    remove(out / "readings.txt", *(out / "heatmaps").glob("*.png"))
    examples = choose(Plan(chosen, dataset), pictures) if pictures and set(names) - {*BOUNDS} else []
    examples = [one for one in examples if _readable(one.instance)]
    rows: list[list[Row]] = [[] for _ in examples]
    finished, readings = [], []
    # The fine maps of floors and ceilings are a hundred times larger, and the heat maps show the oracle's.
    kept = {*names} - {*BOUNDS} or {*names} if include_data else set()
    for at, name in enumerate(names, start=1):
        say(f"[{at}/{len(names)}] {name} ...")
        started = time.perf_counter()
        model = load_model(name, device="cpu")
        context = {
            **placement(name, "cpu", "auto"),
            "command": list(command),
            "seconds": {"model loading": time.perf_counter() - started},
        }
        results = evaluate(model, dataset, chosen, progress=progress, context=context, save_maps=name in kept)
        folder = out / name
        claim_folder(folder, overwrite=True)
        results.save(folder)
        # The maps of all models together would fill the memory.
        finished.append(replace(results, maps=None))
        if examples and name not in _NOT_PICTURED:
            for row, example, maps in zip(rows, examples, heats(model, dataset, examples), strict=True):
                row.append(Row(name, maps, _auroc(results, example.instance.id)))
        if name not in BOUNDS:
            readings.append(read(results.run, _regions(results, model, dataset)))
        say(f"[{at}/{len(names)}] {name}: {time.perf_counter() - started:.0f} s")
    table = board(finished)
    lines = [one.text for one in readings]
    markdown = render(table, "markdown")
    if lines:
        markdown += "\n\n### Readings\n\n" + "\n".join(f"- {line}." for line in lines)
        write_text(out / "readings.txt", "".join(f"{line}.\n" for line in lines))
    write_text(out / "leaderboard.md", markdown + "\n")
    write_text(out / "leaderboard.tex", render(table, "latex") + "\n")
    write_text(out / "leaderboard.csv", render(table, "csv") + "\n")
    if examples:
        _draw(out / "heatmaps", [(example, row) for example, row in zip(examples, rows, strict=True)])
    say("report ...")
    data = dataset if include_data else None
    page = write_report(list(dict.fromkeys(out / name for name in names)), out / REPORT, dataset=data, overwrite=True)
    return finished, table, readings, page


def _draw(folder: Path, pictures: Sequence[tuple[Example, Sequence[Row]]]) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WronglungError(f"{folder}: cannot be created: {error.strerror}") from error
    for example, rows in pictures:
        picture = sheet(example, rows)
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", example.instance.id)[:100]
        write_whole(folder / f"{safe}.png", partial(_save, picture))


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, "PNG")


def _auroc(results: Results, instance: str) -> dict[str, float | None]:
    frame = results.instances
    chosen = frame[frame["instance_id"] == instance].set_index("task")["auroc"]
    return {task: None if task not in chosen or chosen[task] != chosen[task] else float(chosen[task]) for task in TASKS}


def _readable(instance: Instance) -> bool:
    try:
        instance.image.load()
    except OSError:
        return False
    return True


def _regions(results: Results, model: Any, dataset: Dataset) -> int:
    """How many regions a model's maps have, with one more for a vector that stands for none."""
    first = next(one for one in dataset.instances if _readable(one))
    alignment = model.align([LoadedImage(first.image_id, first.image.load())], [first.sentence])
    return int(alignment.saliency[0].numel()) + (alignment.no_attention_weight is not None)
