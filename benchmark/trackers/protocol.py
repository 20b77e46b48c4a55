"""What a tracker is told, and the names under which it logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from ..results import RunResults, Score


@dataclass(frozen=True)
class RunStart:
    """What is known of a run before its first image: settings alone, no sentence, no instance's id and no pixel.

    ``model`` is the card; ``dataset`` has the name, the fingerprints, the number of instances and the limit; ``suite`` the
    name and version; ``settings`` the seed, the batch size, the device, the floating-point type and the package's version.
    """

    model: Mapping[str, Any]
    dataset: Mapping[str, Any]
    suite: Mapping[str, Any]
    settings: Mapping[str, Any]

    def nested(self) -> dict[str, Any]:
        """All of it as dictionaries in a dictionary, of what JSON can hold."""
        return asdict(self)

    def flat(self) -> dict[str, str]:
        """All of it under keys such as ``model.settings.method``; what is not set is left out."""
        return dict(_leaves(self.nested(), ()))


@runtime_checkable
class Tracker(Protocol):
    """Three events of a run. Whatever a tracker raises becomes a warning and never changes or stops the run.

    What it is given are copies. What it prints goes to standard error.
    """

    @property
    def name(self) -> str:
        """What warnings call it."""

    def run_started(self, start: RunStart) -> None:
        """Once, before the first image. A tracker that fails here hears no more of the run."""

    def cells_done(self, scores: Sequence[Score]) -> None:
        """When cells are known; each cell is given once. Today all come together, because intervals need every instance."""

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        """Once, at the end of a run that was started: its results, or what stopped it.

        The message of an error may name an instance, so its type alone is fit to be logged.
        """


def scalars(scores: Iterable[Score]) -> dict[str, float]:
    """Values as ``task/subset/metric`` and deltas as ``task/subset/metric/delta``; undefined ones are left out."""
    named = {}
    for score in scores:
        name = f"{score.task}/{score.subset}/{score.metric}"
        if score.value is not None:
            named[name] = score.value
        if score.delta is not None:
            named[f"{name}/delta"] = score.delta
    return named


def status(outcome: RunResults | BaseException) -> str:
    """How a run ended, in words without the message of an error."""
    return f"failed: {type(outcome).__name__}" if isinstance(outcome, BaseException) else outcome.status


def _leaves(value: Any, path: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(one, (*path, str(key)))
    elif isinstance(value, list | tuple):
        if value:
            yield ".".join(path), ", ".join(map(str, value))
    elif value is not None and value != "":
        yield ".".join(path), str(value)
