"""``wronglung report``: runs as a folder of static pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DataArgs, DataRoot, Split, load, pairs
from .errors import WronglungError


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or folders that hold such.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The report's folder; made if needed.")],
    title: Annotated[str | None, typer.Option(help="The heading of the first page.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's rows, as published.")] = False,
    include_data: Annotated[
        bool,
        typer.Option(
            "--include-data",
            help="A gallery with the dataset's sentences and films, and the maps of runs made with --save-maps.",
        ),
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The runs' dataset, to read its sentences and films from.")
    ] = None,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    max_instances: Annotated[
        int | None, typer.Option(min=1, help="The first N instances in the gallery, instead of all.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is in the folder.")] = False,
) -> None:
    """Write a report that opens from disk: leaderboard, a page per model, and on request a gallery of heat maps.

    Without --include-data it holds figures only.
    """
    given = (
        dataset is not None or data_root is not None or bool(data_arg) or split is not None or max_instances is not None
    )
    if include_data and dataset is None:
        raise WronglungError("--include-data needs --dataset, to read the runs' sentences and films from")
    if given and not include_data:
        raise WronglungError("the dataset is only for a report with its sentences and films; add --include-data")
    from ..leaderboard.board import find_runs
    from ..leaderboard.report import DEFAULT_TITLE, write_report
    from ..leaderboard.report.folder import check_place

    # What is cheap to refuse is refused before anything is loaded.
    check_place(out, overwrite)
    folders = find_runs(runs)
    data = load(dataset, data_root, split, pairs(data_arg, "--data-arg")) if dataset is not None else None
    page = write_report(
        folders,
        out,
        title=DEFAULT_TITLE if title is None else title,
        published=published,
        dataset=data,
        most=max_instances,
        overwrite=overwrite,
    )
    typer.echo(str(page))
