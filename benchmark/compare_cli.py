"""``wronglung compare``: hold a run against another one or against a baseline file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["markdown", "json", "junit"]
Method = Literal["percentile", "bca"]


def compare(
    base: Annotated[Path, typer.Argument(help="A run's folder, or a baseline file (.parquet).")],
    candidate: Annotated[Path, typer.Argument(help="The run that should be as good: a folder or a baseline file.")],
    gate: Annotated[
        Path | None, typer.Option("--gate", help="A YAML file of gates, instead of the default ones.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC[@TASK[/SUBSET]]:CHANGE",
            help="A gate in place, such as auroc@original/one_lung:-0.02; delta:METRIC for deltas; repeatable.",
        ),
    ] = None,
    fmt: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = "markdown",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file instead.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all cells; with --update-baseline, keep all that have a direction.")
    ] = False,
    level: Annotated[float, typer.Option(help="Level of the intervals, between 0 and 1.")] = 0.95,
    method: Annotated[Method, typer.Option(help="How intervals are read from the resamples.")] = "percentile",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the resamples; by default the runs' own.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let inconclusive gates fail, too.")] = False,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Write the candidate to BASE, a .parquet file, and compare nothing."),
    ] = False,
) -> None:
    """Compare two runs cell by cell, paired by instance; exits with 1 when a gate fails, with 2 for runs that differ in more than the model."""
    from ..leaderboard import compare as comparing
    from ..leaderboard.compare_render import render
    from .results import write_text

    if update_baseline:
        comparing.update_baseline(base, candidate, gate=gate, fail_on=fail_on or (), everything=everything)
        typer.echo(f"written: {base}", err=True)
        return
    comparison = comparing.compare(
        base, candidate,
        gate=gate, fail_on=fail_on or (), level=level, method=method, seed=seed, strict=strict,
    )  # fmt: skip
    text = render(comparison, fmt, everything=everything)
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text + "\n")
        typer.echo(f"written: {out}", err=True)
    if not comparison.passed:
        raise typer.Exit(1)
