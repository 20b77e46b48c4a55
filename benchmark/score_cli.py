"""``wronglung score``: the metrics of a run again from its stored maps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DataArgs, DataRoot, Json, Name, Quiet, Split, load, pairs, shows_progress
from .errors import WronglungError


def score(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was made with --save-maps.")],
    dataset: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="The new run's folder; made if needed.")],
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="A name, or a path to a .yaml file; by default the run's own.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first N instances only; by default as many as the run.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of all random draws and of the intervals; by default the run's.")
    ] = None,
    scoring_workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that score maps; by default none for short runs, else one a processor, at most 8."
        ),
    ] = None,
    save_maps: Annotated[bool, typer.Option("--save-maps", help="Keep the maps in the new folder, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the new folder.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make all metrics of a run again from its stored maps, under another suite if you like, without the model."""
    from .run_cli import print_results
    from .run_folder import claimed

    source = run if run.is_dir() else run.parent
    if out.resolve() == source.resolve():
        raise WronglungError(f"{out}: is the run to be scored; choose another --out")
    with claimed(out, resume=False, overwrite=overwrite) as claim:
        from .rescoring import rescore

        results = rescore(
            run,
            load(dataset, data_root, split, pairs(data_arg, "--data-arg")),
            suite,
            seed=seed,
            limit=limit,
            save_maps=save_maps,
            scoring_workers=scoring_workers,
            progress=shows_progress(quiet),
            context={"command": ["wronglung", *sys.argv[1:]]},
        )
        results.save(out)
        claim.clear()
    if not quiet:
        for warning in results.run.manifest.warnings:
            typer.echo(f"note: {warning}", err=True)
    print_results([out], as_json, quiet)
