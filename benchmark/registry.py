"""Names to objects, imported only when asked for.

A registry knows the built-in names of its kind from a catalogue (data, nothing is imported to list them), the names
that installed packages add through an entry point, and accepts ``path/to/file.py:attribute``.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from .errors import WronglungError


class Entry(NamedTuple):
    """A catalogue entry: where the object is (``"module:attribute"``), and one line of what it is."""

    target: str
    summary: str


class Listed(NamedTuple):
    """A name as ``wronglung list`` shows it."""

    name: str
    origin: str
    summary: str


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
        rows = [Listed(name, "wronglung", entry.summary) for name, entry in self.builtin().items()]
        for name, points in sorted(self._plugins().items()):
            for point in points:
                origin = point.dist.name if point.dist else "unknown package"
                clash = " (clashes with another of this name)" if name in self.builtin() or len(points) > 1 else ""
                rows.append(Listed(name, origin, f"{point.value}{clash}"))
        return rows

    def get(self, name: str) -> Any:
        """The object of a name, an entry point or a ``file.py:attribute``.

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
            return _resolve(builtin[name].target)
        if points:
            try:
                return points[0].load()
            except (Exception, SystemExit) as error:
                raise WronglungError(
                    f"{self.kind} {name!r} ({points[0].value}) cannot be imported: {type(error).__name__}: {error}"
                ) from error
        known = [*builtin, *self._plugins()]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise WronglungError(f"unknown {self.kind} {name!r}; {hint}")

    def _plugins(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
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


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


MODELS = Registry("model", "wronglung.models", "wronglung.adapters:CATALOGUE")
DATASETS = Registry("dataset", "wronglung.datasets", "wronglung.benchmark.datasets:CATALOGUE")
PERTURBATIONS = Registry("perturbation", "wronglung.perturbations", "wronglung.tasks:PERTURBATIONS")
SENTENCES = Registry("sentence source", "wronglung.sentences", "wronglung.tasks:SENTENCES")
SUBSETS = Registry("subset", "wronglung.subsets", "wronglung.tasks:SUBSETS")
