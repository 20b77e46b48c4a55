"""Runs as a folder of static pages that opens from disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ...benchmark.datasets.imagenome_gold import PUBLISHED_INSTANCES
from ...benchmark.errors import WronglungError
from ...benchmark.instances import Dataset
from ..comparability import differences
from ..grouping import versions
from ..heatmaps import COLOURS, OPACITY, RISE, STRONGEST
from ..published_rows import PUBLISHED_DATASET
from ..reading import read
from ..wording import TIED
from . import figures, model_page, table
from .folder import check_place, mark, whole
from .gallery import check_dataset, write_gallery
from .groups import Entry, Group, load
from .maps import SavedMaps

ASSETS = ("report.css", "report.js", "board.js", "gallery.js")
INDEX = "index.html"
DEFAULT_TITLE = "Where do the models look?"


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    title: str = DEFAULT_TITLE,
    published: bool = False,
    dataset: Dataset | None = None,
    most: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of runs into the folder ``out``; returns the path of its first page.

    Without ``dataset`` it holds figures only. With it, the sentences and films of its first ``most`` instances (all, if None)
    and the maps of the runs that kept them are in it, too: a gallery. ``published`` adds the paper's rows. The same runs and
    data give the same bytes, whatever their order.

    Raises :class:`WronglungError` for folders without a run, data that are not those of the runs, runs without maps where
    data are given, and a place that holds something else.
    """
    check_place(out, overwrite)
    groups = load(folders)
    if dataset is not None:
        check_dataset(groups, dataset)
    maps = {one.page: found for group in groups for one in group.entries if (found := _maps(one)) is not None}
    if dataset is not None and not maps:
        raise WronglungError("no run has maps for a gallery; make them with --save-maps, or leave --include-data out")
    with whole(out) as folder:
        site = _Site(folder, title, groups, dataset is not None)
        galleries = {}
        for group in groups if dataset is not None else []:
            own = {one.label: maps[one.page] for one in group.entries if one.page in maps}
            if own:
                galleries[group.number] = _gallery(site, group, dataset, own, most)
        site.add_pages(galleries)
        site.write_index(groups, galleries, maps, published)
        for group in groups:
            for entry in group.entries:
                site.write_model(group, entry, galleries.get(group.number), maps.get(entry.page))
        for number, gallery in galleries.items():
            site.write_gallery(groups[number - 1], gallery)
        mark(folder, {"title": title, "wronglung": version("wronglung"), "includes_data": dataset is not None})
    return out / INDEX


def _maps(entry: Entry) -> SavedMaps | None:
    return SavedMaps.open(entry.folder if entry.folder.is_dir() else entry.folder.parent, entry.run.model)


def _gallery(
    site: _Site, group: Group, dataset: Dataset | None, maps: Mapping[str, SavedMaps], most: int | None
) -> dict[str, Any]:
    assert dataset is not None, "galleries are made of data"
    gallery = write_gallery(group, dataset, maps, most, site.write_data, site.write_film)
    unit = figures.unit(gallery["metric"])
    # The best model that is neither floor nor ceiling is what a reader came for.
    labels = [one["label"] for one in gallery["models"]]
    best = [one.label for one in table.entries_by_rank(group) if one.role == "model" and one.label in labels]
    first = labels.index(best[0]) if best else 0
    scale = {"strongest": STRONGEST, "colours": COLOURS.tolist(), "opacity": OPACITY, "rise": RISE}
    site.write_data(
        f"{gallery['data']}-gallery",
        {
            **{key: gallery[key] for key in ("tasks", "subsets", "subset", "models", "chunk")},
            "label": figures.name(gallery["metric"]),
            "unit": [unit.scale, unit.digits],
            "first": first,
            "scale": scale,
        },
    )
    return gallery


class _Site:
    """Writes pages, data and films into a folder."""

    def __init__(self, folder: Path, title: str, groups: Sequence[Group], includes_data: bool) -> None:
        self._folder = folder
        self._facts: dict[str, Any] = {"title": title, "version": version("wronglung"), "includes_data": includes_data}
        self._several = len(groups) > 1
        for name in ("assets", "data"):
            (folder / name).mkdir()
        for name in ASSETS:
            (folder / "assets" / name).write_bytes((files(__package__) / "assets" / name).read_bytes())

    def add_pages(self, galleries: Mapping[int, Any]) -> None:
        """What the navigation of every page leads to."""
        names = [
            (self.gallery_page(number), f"Gallery {number}" if self._several else "Gallery") for number in galleries
        ]
        self._facts["pages"] = [{"file": file, "label": label} for file, label in [(INDEX, "Leaderboard"), *names]]

    def gallery_page(self, number: int) -> str:
        return f"gallery-{number}.html" if self._several else "gallery.html"

    def write_data(self, name: str, data: Any) -> None:
        """Write a piece of data for the browser."""
        (self._folder / "data" / f"{name}.js").write_text(script(name, data), encoding="ascii")

    def write_film(self, data: bytes, suffix: str) -> str:
        """Write an image under the digest of its bytes; returns its name."""
        name = f"{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        (self._folder / "films").mkdir(exist_ok=True)
        (self._folder / "films" / name).write_bytes(data)
        return name

    def write_index(
        self,
        groups: Sequence[Group],
        galleries: Mapping[int, Any],
        maps: Mapping[str, SavedMaps],
        published: bool,
    ) -> None:
        shown = []
        for group in groups:
            board = {**table.described(group, published), "subsets": _subsets(group)}
            self.write_data(f"g{group.number}-board", board)
            for at, subset in enumerate(group.subsets):
                self.write_data(f"g{group.number}-s{at}", table.cells(group, subset, published))
            view = board["views"][0]
            apart = "" if group is groups[0] else "; ".join(differences(groups[0].first, group.first))
            shown.append(
                {
                    "number": group.number,
                    "dataset": group.first.dataset,
                    "suite": f"{group.first.suite['name']} {versions(one.run for one in group.entries)}",
                    "counts": f"{len(group.entries)} {'run' if len(group.entries) == 1 else 'runs'}: {counts(group)}.",
                    "apart": apart,
                    "readings": [
                        (one.page, one.label, read(one.run, _regions(one, maps.get(one.page))).text)
                        for one in table.entries_by_rank(group)
                        if one.role == "model"
                    ],
                    "caption": f"{view['label']} on {group.subset}",
                    "view": view,
                    "rows": [
                        {"entry": one, "figures": list(table.texts(group, one, view))}
                        for one in table.entries_by_rank(group)
                    ],
                    "incomplete": [one for one in group.entries if one.missing],
                    "gallery": self.gallery_page(group.number) if group.number in galleries else None,
                    "ranking": _ranking(group),
                    "facts": _facts(group),
                }
            )
        note = f"{PUBLISHED_DATASET}, {PUBLISHED_INSTANCES['all']:,} instances" if published else None
        self._page(INDEX, "index.html", groups=shown, published=note)

    def write_model(
        self, group: Group, entry: Entry, gallery: Mapping[str, Any] | None, maps: SavedMaps | None
    ) -> None:
        link = None
        for one in gallery["models"] if gallery else ():
            if one["label"] == entry.label:
                link = f"{self.gallery_page(group.number)}#model={one['data']}"
        headline = model_page.headline(group)
        content = model_page.page(group, entry, _regions(entry, maps), headline)
        self._page(
            entry.page,
            "model.html",
            entry=entry,
            counts=counts(group),
            gallery=link,
            width=model_page.WIDTH,
            **content,
        )

    def write_gallery(self, group: Group, gallery: Mapping[str, Any]) -> None:
        content = {"dataset": group.first.dataset}
        self._page(
            self.gallery_page(group.number), "gallery.html", gallery=gallery, group=content, strongest=f"{STRONGEST:g}"
        )

    def _page(self, file: str, template: str, **content: Any) -> None:
        text = _templates().get_template(template).render(site=self._facts, here=file, **content)
        # Half of a surrogate pair, which JSON can hold, is no character: browsers show that something is wrong there.
        (self._folder / file).write_text(text + "\n", encoding="utf-8", errors="xmlcharrefreplace")


@cache
def _templates() -> Environment:
    def source(name: str) -> str:
        return (files(__package__) / "assets" / name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def script(name: str, data: Any) -> str:
    """A piece of data as a script that hands it over: ASCII, and without a character that could end or open a tag."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'wronglung.receive("{name}",{text});\n'


def counts(group: Group) -> str:
    """On how much the runs were made."""
    dataset = group.first.dataset
    return f"{dataset.n_instances:,} instances of {dataset.n_patients:,} {dataset.unit}, on {dataset.n_images:,} images"


def _subsets(group: Group) -> list[dict[str, Any]]:
    unit = group.first.dataset.unit
    described = []
    for subset in group.subsets:
        score = next(one for one in group.first.scores if one.subset == subset)
        known = group.first.dataset.subsets.get(subset) is not None
        label = subset if known else f"{subset} (not applicable)"
        size = {"n": score.n_instances, "patients": score.n_patients} if known else {"n": None, "patients": None}
        described.append({"label": label, "unit": unit, **size})
    return described


def _ranking(group: Group) -> str | None:
    """How the ranks came about, in words; None where there are none."""
    ranking = group.ranking
    if ranking is None or ranking.models < 2:
        return None
    what = f"{figures.name(ranking.metric)} on {ranking.subset}"
    if ranking.instances is None:
        return f"Ranks are by the value of {what}: there are no instances to resample."
    return (
        f"Ranks are by {what}, the range in 95 % of resamples of {ranking.clusters:,} {group.first.dataset.unit}; "
        f"{TIED}: not distinguishable from the first. Floors, ceilings and incomplete runs are not ranked."
    )


def _regions(entry: Entry, maps: SavedMaps | None) -> int | None:
    """How many regions a model's maps have, with one more for a vector that stands for none; None without maps."""
    if maps is None:
        return None
    weight = next((one.value for one in entry.run.scores if one.metric == "no_attention_weight"), None)
    return maps.regions() + (weight is not None)


def _facts(group: Group) -> list[tuple[str, str]]:
    run = group.first
    dataset, suite = run.dataset, run.suite
    return [
        ("Dataset", dataset.name),
        ("Fingerprint", dataset.fingerprint),
        ("Subsets", ", ".join(f"{name} {'–' if n is None else f'{n:,}'}" for name, n in dataset.subsets.items())),
        ("Left out", ", ".join(f"{reason} {n:,}" for reason, n in dataset.skipped.items()) or "nothing"),
        ("Repaired", ", ".join(f"{reason} {n:,}" for reason, n in dataset.repaired.items()) or "nothing"),
        ("Suite", f"{suite['name']} {suite['version']}: {suite['description']}"),
        ("Protocol", ", ".join(f"{key} {value}" for key, value in suite["protocol"].items())),
        ("Tasks", "; ".join(task["title"] for task in group.tasks)),
        ("Seed", str(run.manifest.seed)),
    ]
