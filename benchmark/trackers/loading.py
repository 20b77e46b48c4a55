"""From the names and arguments on a command line to trackers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ..arguments import check_arguments, named_parameters
from ..errors import WronglungError, first_line
from ..registry import TRACKERS
from .protocol import Tracker


def load_tracker(name: str, /, **arguments: Any) -> Tracker:
    """Make the tracker ``name`` (a built-in name, a plug-in's, or ``path/to/file.py:Class``); nothing is logged or sent yet.

    "NAME:VALUE" is short for the first argument (``tensorboard:runs/tensorboard``, ``wandb:my-project``). ``arguments`` are
    those of its constructor; strings are converted to the annotated types. Raises :class:`WronglungError` for an unknown name
    or argument, for a package that is not installed (it names the extra), and for an object that is no tracker.
    """
    base, short = TRACKERS.split(name)
    factory = TRACKERS.get(base)
    if not callable(factory):
        raise WronglungError(f"tracker {name!r}: {factory!r} is not a class or function that makes a tracker")
    own = named_parameters(factory, {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})
    if short is not None:
        if not own:
            raise WronglungError(f"tracker {base!r}: takes no arguments; leave {':' + short!r} out")
        arguments = {TRACKERS.first_argument(base, own): short, **arguments}
    values = check_arguments(factory, arguments, own, f"tracker {name!r}")
    try:
        tracker = factory(**values)
    except WronglungError:
        raise
    except (Exception, SystemExit) as error:
        entry = TRACKERS.builtin().get(base)
        if isinstance(error, ImportError) and entry is not None and entry.module is not None:
            raise WronglungError(
                f'tracker {base!r} is not installed: pip install "wronglung[{entry.module[1]}]" ({first_line(error)})'
            ) from error
        raise WronglungError(f"tracker {name!r} cannot be made: {type(error).__name__}: {first_line(error)}") from error
    return check_tracker(tracker)


def check_tracker(tracker: object) -> Tracker:
    """The object, if it has a name and the three events; raises :class:`WronglungError` otherwise."""
    if not isinstance(tracker, Tracker):
        raise WronglungError(
            f"{tracker!r} is not a tracker: it needs a name and the methods run_started, cells_done and run_ended"
        )
    return tracker


def load_trackers(names: Sequence[str], arguments: Sequence[str]) -> list[Tracker]:
    """The trackers of ``--tracker NAME`` options, with the arguments of ``--tracker-arg NAME.KEY=VALUE`` options.

    Raises :class:`WronglungError` as :func:`load_tracker` does, for a name that is given twice, an argument that is not of
    this form, and one for a tracker that was not asked for.
    """
    given: dict[str, dict[str, str]] = {}
    for name in names:
        base = TRACKERS.split(name)[0]
        if base in given:
            raise WronglungError(f"--tracker {base!r} is given twice; a run has one of a kind")
        given[base] = {}
    for argument in arguments:
        left, equals, value = argument.partition("=")
        name, dot, key = left.rpartition(".")
        if not (equals and dot and key):
            raise WronglungError(f"--tracker-arg {argument!r}: write it as NAME.KEY=VALUE")
        if name not in given:
            raise WronglungError(f"--tracker-arg {argument!r}: there is no --tracker {name} on this command line")
        given[name][key.replace("-", "_")] = value
    return [load_tracker(name, **given[TRACKERS.split(name)[0]]) for name in names]
