"""``wronglung leaderboard``: runs side by side, as text, as a table for programs, or as files for the Hugging Face Hub."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import WronglungError

if TYPE_CHECKING:
    from ..leaderboard.sections import Section

Format = Literal["markdown", "latex", "csv", "html", "parquet", "huggingface"]
Shown = Literal["brackets", "plus-minus", "none"]
_HUB = "For huggingface: "


def leaderboard(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs, or folders that hold such.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's rows, as published.")] = False,
    fmt: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = "markdown",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to a file instead; for huggingface, the folder.")
    ] = None,
    subset: Annotated[list[str] | None, typer.Option("--subset", help="Show this subset; repeatable.")] = None,
    columns: Annotated[Path | None, typer.Option(help="A YAML file that says which columns, and how to rank.")] = None,
    intervals: Annotated[
        Shown | None, typer.Option(help="How 95 % intervals are shown; by default in brackets.")
    ] = None,
    dataset_id: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help=f"{_HUB}the dataset's id there.")] = None,
    dataset_revision: Annotated[str | None, typer.Option(help=f"{_HUB}the dataset's commit.")] = None,
    date: Annotated[str | None, typer.Option(help=f"{_HUB}when the runs were made, such as 2024-05-31.")] = None,
    source_url: Annotated[str | None, typer.Option(help=f"{_HUB}where the figures can be looked up.")] = None,
    source_name: Annotated[str | None, typer.Option(help=f"{_HUB}what that place is called.")] = None,
) -> None:
    """Print runs side by side: ranks, base values, deltas per perturbation, KL, entropy and selection accuracy."""
    hub = {
        "--dataset-id": dataset_id, "--dataset-revision": dataset_revision, "--date": date,
        "--source-url": source_url, "--source-name": source_name,
    }  # fmt: skip
    _check(fmt, out, hub)
    from ..leaderboard.board import board, find_runs
    from ..leaderboard.columns import check_layout, load_layout
    from .results import Results, load_at_hand

    if not runs and not published:
        raise WronglungError("nothing to show; give folders of runs, or --published")
    layout = load_layout(columns)
    loaded = [load_at_hand(folder) for folder in find_runs(runs or [])]
    if columns is not None:
        check_layout(layout, [one.run if isinstance(one, Results) else one for one in loaded], columns)
    sections = board(loaded, published=published, subsets=subset, layout=layout)
    if fmt == "huggingface":
        from ..leaderboard.huggingface import Source, write_metadata

        assert dataset_id is not None
        assert out is not None
        files = write_metadata(sections, Source(dataset_id, dataset_revision, date, source_url, source_name), out)
        typer.echo("\n".join(map(str, files)))
    elif fmt == "parquet":
        assert out is not None
        _write_parquet(sections, out)
    else:
        from ..leaderboard.render import render
        from .results import write_text

        text = render(sections, fmt, intervals=intervals or layout.intervals)
        if out is None:
            typer.echo(text)
            return
        write_text(out, text + "\n")
    typer.echo(f"written: {out}", err=True)


def _check(fmt: Format, out: Path | None, hub: dict[str, str | None]) -> None:
    """Refuse options that do not go together, before anything is read."""
    if fmt in ("parquet", "huggingface") and out is None:
        raise WronglungError(f"--format {fmt} is not printed; say where to write it with --out")
    given = [name for name, value in hub.items() if value is not None]
    if fmt != "huggingface":
        if given:
            raise WronglungError(f"{given[0]} goes with --format huggingface only")
        return
    if hub["--dataset-id"] is None:
        raise WronglungError("--format huggingface needs the dataset's id on the Hub: --dataset-id OWNER/NAME")
    if hub["--source-name"] is not None and hub["--source-url"] is None:
        raise WronglungError("--source-name needs --source-url")
    if hub["--date"] is not None:
        try:
            datetime.datetime.fromisoformat(hub["--date"])
        except ValueError as error:
            raise WronglungError(f"--date {hub['--date']!r}: write it as 2024-05-31 or 2024-05-31T12:00:00Z") from error


def _write_parquet(sections: list[Section], out: Path) -> None:
    from ..leaderboard.tabular import tidy
    from .results import write_whole

    frame = tidy(sections)
    write_whole(out, lambda path: frame.to_parquet(path, index=False, compression="zstd"))
