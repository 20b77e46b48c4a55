"""Names to objects, imported only when asked for.

A registry knows the built-in names of its kind from a catalogue (data, nothing is imported to list them), the names
that installed packages add through an entry point, and accepts ``path/to/file.py:attribute``.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .errors import WronglungError


class Entry(NamedTuple):
    """A catalogue entry: where the object is (``"module:attribute"``), and one line of what it is.

    ``preset`` are arguments that the name stands for; whoever gives them overrides them. ``module`` is what must be installed
    to use it, with the extra of this package that brings it. ``asks`` are arguments without which it cannot be made, and
    ``hub`` the repository that its weights come from where no argument says otherwise. ``version`` is that of a preset.
    """

    target: str
    summary: str
    preset: Mapping[str, Any] = MappingProxyType({})
    module: tuple[str, str] | None = None
    asks: tuple[str, ...] = ()
    hub: str | None = None
    version: str | None = None

    def missing(self) -> str:
        """What stands between this installation and the object, in words; empty when nothing does."""
        lacks = []
        if self.module is not None and importlib.util.find_spec(self.module[0]) is None:
            lacks.append(f'pip install "wronglung[{self.module[1]}]"')
        lacks += [f"{argument}=..." for argument in self.asks]
        if self.hub is not None and not _in_hub_cache(self.hub):
            lacks.append(f"weights of {self.hub}")
        return ", ".join(lacks)


class Listed(NamedTuple):
    """A name as ``wronglung list`` shows it; ``missing`` is what is needed and not there."""

    name: str
    origin: str
    summary: str
    missing: str = ""


@dataclass(frozen=True)
class Registry:
    """The names of one kind of object.

    ``kind`` is the word for messages, ``group`` the entry-point group, and ``catalogue`` the
    ``"module:attribute"`` of the built-in mapping of names to :class:`Entry`.
    """

    kind: str
    group: str
    catalogue: str

    def builtin(self) -> Mapping[str, Entry]:
        catalogue: Mapping[str, Entry] = _resolve(self.catalogue)
        return catalogue

    def listed(self) -> list[Listed]:
        """All names: the built-in ones in their own order, then those of other packages by name."""
        rows = [Listed(name, "wronglung", one.summary, one.missing()) for name, one in self.builtin().items()]
        for name, points in sorted(self._plugins().items()):
            for point in points:
                origin = point.dist.name if point.dist else "unknown package"
                clash = " (clashes with another of this name)" if name in self.builtin() or len(points) > 1 else ""
                rows.append(Listed(name, origin, f"{point.value}{clash}"))
        return rows

    def get(self, name: str) -> Any:
        """The object of a name (with its preset arguments bound), an entry point or a ``file.py:attribute``.

        Raises :class:`WronglungError` for an unknown name (with the nearest ones), a name claimed twice, and a
        plug-in or file that cannot be imported.
        """
        path, separator, attribute = name.rpartition(":")
        if separator and path.endswith(".py"):
            return self._from_file(Path(path), attribute)
        builtin, points = self.builtin(), self._plugins().get(name, [])
        if len(points) + (name in builtin) > 1:
            owners = ["wronglung"] * (name in builtin) + [p.dist.name if p.dist else p.value for p in points]
            raise WronglungError(f"{self.kind} {name!r} is claimed by {' and '.join(owners)}; uninstall one")
        if name in builtin:
            found = _resolve(builtin[name].target)
            return partial(found, **builtin[name].preset) if builtin[name].preset else found
        if points:
            try:
                return points[0].load()
            except (Exception, SystemExit) as error:
                raise WronglungError(
                    f"{self.kind} {name!r} ({points[0].value}) cannot be imported: {type(error).__name__}: {error}"
                ) from error
        known = [*builtin, *self._plugins()]
        if name.endswith(".py"):
            raise WronglungError(f"{self.kind} {name!r}: name the class or function in the file, {name}:NAME")
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise WronglungError(f"unknown {self.kind} {name!r}; {hint}")

    def split(self, name: str) -> tuple[str, str | None]:
        """A name and what follows it: "phantom:128" is "phantom" and "128", which is short for its first argument."""
        base, colon, short = name.partition(":")
        if colon and not base.endswith(".py") and (base in self.builtin() or base in self._plugins()):
            return base, short
        return name, None

    def first_argument(self, name: str, own: Sequence[str]) -> str:
        """Which of its ``own`` arguments the VALUE of "NAME:VALUE" is: the first that it cannot do without."""
        entry = self.builtin().get(name)
        return next((one for one in (entry.asks if entry else ()) if one in own), own[0])

    def preset(self, name: str, values: Mapping[str, Any]) -> dict[str, str]:
        """For a card: under "preset" a preset's name and version, and which of the arguments that it pins are others."""
        entry = self.builtin().get(name)
        if entry is None or entry.version is None:
            return {}
        changed = [key for key, value in entry.preset.items() if values[key] != value]
        return {"preset": f"{name} {entry.version}{', but for ' + ', '.join(changed) if changed else ''}"}

    def _plugins(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in _installed(tuple((one, _changed(one)) for one in sys.path)).get(self.group, ()):
            found.setdefault(point.name, []).append(point)
        return found

    def _from_file(self, path: Path, attribute: str) -> Any:
        if not path.is_file():
            raise WronglungError(f"{self.kind}: no file {path}")
        name = f"wronglung_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # What lies beside the file can be imported. Last, unlike for a script: a copy.py or types.py there must not take the place of
        # Python's own in the processes that score.
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)
        # Dataclasses and type hints look their module up by name.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise WronglungError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
        if not hasattr(module, attribute):
            raise WronglungError(f"{path} defines no {attribute!r}")
        return getattr(module, attribute)


@lru_cache(maxsize=1)
def _installed(path: tuple[tuple[str, int], ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """By group, what the packages on a search path add; the time of its folders tells when packages have come or gone.

    To find it out takes tens of milliseconds, and a run asks for dozens of names.
    """
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in found.groups if group.startswith("wronglung.")}


def _changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:  # not there
        return 0


def _in_hub_cache(repository: str) -> bool:
    """Whether the local cache of the Hugging Face hub holds anything of a repository; without importing its library."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    return any((cache / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*/*"))


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


MODELS = Registry("model", "wronglung.models", "wronglung.adapters:CATALOGUE")
DATASETS = Registry("dataset", "wronglung.datasets", "wronglung.benchmark.datasets:CATALOGUE")
PERTURBATIONS = Registry("perturbation", "wronglung.perturbations", "wronglung.tasks:PERTURBATIONS")
SENTENCES = Registry("sentence source", "wronglung.sentences", "wronglung.tasks:SENTENCES")
SUBSETS = Registry("subset", "wronglung.subsets", "wronglung.tasks:SUBSETS")
METRICS = Registry("metric", "wronglung.metrics", "wronglung.benchmark.metrics.catalogue:ENTRIES")
TRACKERS = Registry("tracker", "wronglung.trackers", "wronglung.benchmark.trackers:CATALOGUE")
