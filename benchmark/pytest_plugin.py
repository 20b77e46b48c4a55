"""A pytest plug-in: the fixtures ``wronglung_check``, for authors of adapters, and ``wronglung_compare``, for runs.

pytest loads this module wherever wronglung is installed, so nothing heavy is imported before the fixture is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from ..leaderboard.compare import Comparison
    from .check import Check


class CheckModel(Protocol):
    """What the fixture gives."""

    def __call__(self, model: Any, /, **arguments: Any) -> list[Check]: ...


@pytest.fixture(scope="session")
def wronglung_check() -> CheckModel:
    """A function that runs the checks of ``wronglung check`` and fails the test with what failed, why and how to mend it.

    ``model`` is a model, or a name as on the command line (``"mine.py:Mine"``), which is made with the arguments, on the
    CPU unless ``device`` says otherwise. Gives the checks (:class:`.check.Check`), so that a test may also ask that one is
    not merely "not shown".
    """

    def check(model: Any, /, **arguments: Any) -> list[Check]:
        from .check import check_adapter, check_named

        if isinstance(model, str):
            checks = check_named(model, **{"device": "cpu", **arguments})
        elif arguments:
            raise TypeError(f"{type(model).__name__} is made already; it takes no {', '.join(arguments)}")
        else:
            checks = check_adapter(model)
        failed = [one for one in checks if one.outcome == "failed"]
        if failed:
            lines = [f"{one.name}: {one.detail}\n  why: {one.reason}\n  fix: {one.fix}" for one in failed]
            pytest.fail("\n".join([f"{len(failed)} of {len(checks)} checks failed", *lines]), pytrace=False)
        return checks

    return check


class CompareRuns(Protocol):
    """What the fixture gives."""

    def __call__(self, base: str | Path, candidate: str | Path, /, **options: Any) -> Comparison: ...


@pytest.fixture(scope="session")
def wronglung_compare() -> CompareRuns:
    """A function that compares two runs as ``wronglung compare`` does and fails the test with the table when a gate fails.

    ``base`` and ``candidate`` are folders of runs or baseline files; the options are those of
    :func:`wronglung.leaderboard.compare.compare`: ``gate``, ``fail_on``, ``level``, ``method``, ``seed`` and ``strict``. Gives
    the comparison. Raises :class:`.errors.WronglungError` for runs that cannot be compared.
    """

    def compare(base: str | Path, candidate: str | Path, /, **options: Any) -> Comparison:
        from ..leaderboard import compare as comparing
        from ..leaderboard.compare_render import render

        if options.get("gate") is not None:
            options["gate"] = Path(options["gate"])
        comparison = comparing.compare(Path(base), Path(candidate), **options)
        if not comparison.passed:
            pytest.fail(render(comparison, "markdown"), pytrace=False)
        return comparison

    return compare
