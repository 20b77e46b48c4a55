"""The command line. Answers go to standard output, progress and notes to standard error.

Exit codes: 0 done, 1 a check failed, 2 wrong usage or bad input. Every flag can also be set by an environment
variable (``WRONGLUNG_RUN_DEVICE=cuda``). Heavy packages are imported inside the verbs that need them, so that help
and lists are instant.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .cli_options import (
    DataArgs,
    DataRoot,
    Device,
    Dtype,
    Json,
    ModelArgs,
    Name,
    Quiet,
    load,
    pairs,
    shows_progress,
)  # fmt: skip
from .compare_cli import compare
from .data_cli import data_app
from .errors import WronglungError
from .leaderboard_cli import leaderboard
from .paper_cli import paper
from .registry import DATASETS, METRICS, MODELS, PERTURBATIONS, SENTENCES, SUBSETS, TRACKERS, Listed
from .report_cli import report
from .run_cli import notes, run
from .score_cli import score
from .stopping import stoppable

if TYPE_CHECKING:
    from .check import Check

app = typer.Typer(
    name="wronglung",
    help="Does an image-text encoder look where the sentence says, and does it move when the sentence changes?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")

Kind = Literal[
    "models", "variants", "datasets", "suites", "tasks", "perturbations", "subsets", "sentences", "metrics", "trackers"
]  # fmt: skip


app.command()(run)
app.command()(score)


@app.command("list")
def list_names(
    kind: Annotated[Kind | None, typer.Argument(help="One kind only.")] = None, as_json: Json = False
) -> None:
    """List the known names, and where each comes from."""
    kinds: tuple[Kind, ...] = (
        "models", "variants", "datasets", "suites", "tasks", "perturbations", "subsets", "sentences", "metrics", "trackers",
    )  # fmt: skip
    tables = {one: _listed(one) for one in ([kind] if kind else kinds)}
    if as_json:
        typer.echo(json.dumps({one: [row._asdict() for row in rows] for one, rows in tables.items()}, indent=1))
        return
    from tabulate import tabulate

    for one, rows in tables.items():
        lines = [
            (
                row.name,
                row.summary,
                "built in" if row.origin == "wronglung" else row.origin,
                f"needs {row.missing}" if row.missing else "",
            )
            for row in rows
        ]
        typer.echo(f"{one}\n{tabulate(lines, tablefmt='plain')}\n")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A name from `wronglung list`, or a path to a suite.")]) -> None:
    """Show a definition: a suite or task as YAML, a function, model, dataset or tracker with its arguments, a metric."""
    from .describe import describe

    typer.echo(describe(name))


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A name from `wronglung list models`, or file.py:Class.")],
    model_arg: ModelArgs = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Hold an adapter against the protocol on generated images; exits with 1 when a check fails."""
    from dataclasses import asdict

    from .check import check_named

    marks = {"passed": "ok    ", "failed": "FAILED", "not shown": "-     "}

    def show(one: Check) -> None:
        shown = f"not shown: {one.detail}" if one.outcome == "not shown" else one.detail
        advice = f"\n       why: {one.reason}\n       fix: {one.fix}" if one.outcome == "failed" else ""
        typer.echo(f"{marks[one.outcome]} {one.name}: {shown}{advice}")

    arguments = pairs(model_arg)
    checks = check_named(model, device=device, dtype=dtype, report=None if as_json else show, **arguments)
    failed = sum(one.outcome == "failed" for one in checks)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in checks], indent=1))
    else:
        unseen = sum(one.outcome == "not shown" for one in checks)
        typer.echo(f"{len(checks)} checks: {len(checks) - failed - unseen} ok, {failed} failed, {unseen} not shown")
    if failed:
        raise typer.Exit(1)


@app.command("convert-checkpoint")
def convert_checkpoint(
    source: Annotated[Path, typer.Argument(help="A torch file, with whatever objects in it.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write; a .json card is written beside it.")],
    strip: Annotated[str, typer.Option(help="Take this off the front of the tensors' names, for example model.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Turn a checkpoint with foreign objects into safetensors and a JSON card, without making any of the objects."""
    from ..adapters.files.convert import convert

    card = convert(source, out, strip=strip, overwrite=overwrite)
    typer.echo(f"{out}\n{card}")


app.command()(leaderboard)
app.command()(compare)
app.command()(report)
app.command()(paper)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where runs, tables and pictures go.")] = Path("runs/demo"),
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Your data instead of phantom's generated films.")
    ] = None,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="This model instead of the usual ones; repeatable.")
    ] = None,
    suite: Annotated[str, typer.Option("--suite", "-s", help="A name, or a path to a .yaml file.")] = "wrong-lung",
    quiet: Quiet = False,
) -> None:
    """Floors, ceilings and GLoRIA variants on generated films: a leaderboard, a sentence on each, pictures, a page.

    On data of your own, the floors and ceilings.
    """
    from ..leaderboard.demo import BOUNDS, models, run
    from ..leaderboard.render import render
    from .results import claim_folder

    if dataset is None and data_root is not None:
        raise WronglungError("give --dataset with --data-root: how the data there are to be read")
    claim_folder(out, overwrite=True)
    data = load(dataset or "phantom", data_root, None, pairs(data_arg, "--data-arg"))
    finished, table, readings, page = run(
        model or (models() if dataset is None else BOUNDS), data, suite, out,
        command=["wronglung", *sys.argv[1:]],
        # Phantom is generated, so its films and sentences may be shown to anybody.
        include_data=dataset is None,
        progress=shows_progress(quiet),
        say=None if quiet else lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    typer.echo(render(table, "markdown"))
    if readings:
        typer.echo("\n" + "\n".join(f"{one.text}." for one in readings))
    if not quiet:
        notes(finished[0].run)
        typer.echo(f"written: {out}", err=True)
    typer.echo(f"\n{page}")


@app.command()
def train(
    variant: Annotated[
        str, typer.Option("--variant", "-v", help="retrained, masking, ...: `wronglung list variants`.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder; made if needed.")] = None,
    dataset: Name = "phantom",
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    training_split: Annotated[str, typer.Option(help="The split to learn from.")] = "train",
    validation_split: Annotated[str, typer.Option(help="The split that decides when to stop.")] = "valid",
    size: Annotated[str, typer.Option(help="small, or released: ResNet-50 and BERT-base.")] = "small",
    config: Annotated[Path | None, typer.Option(help="A YAML file of changes to the variant.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One change, such as epochs=5; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set seed=N.")] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard, too.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the configuration and stop.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a GLoRIA variant; the best checkpoint is a model: --model gloria --model-arg checkpoint=OUT/best.safetensors."""
    from ..adapters.gloria.training import config as configuration

    changes = [*(change or []), *([] if seed is None else [f"seed={seed}"])]
    settings = configuration.load_config(variant, size, config, changes)
    if show_config:
        typer.echo(configuration.as_yaml(settings), nl=False)
        return
    if out is None:
        raise WronglungError("give the run's folder with --out")
    from ..adapters.gloria.training.run import train as start
    from .manifest import commit
    from .models import resolve_device
    from .validation import validation

    arguments = pairs(data_arg, "--data-arg")
    with stoppable("what is saved is kept; go on with --resume"):
        learned, held_out = (load(dataset, data_root, split, arguments) for split in (training_split, validation_split))
        best = start(
            settings, learned, held_out, out,
            device=resolve_device(device),
            validate=validation(held_out, settings.validation_instances),
            resume=resume, overwrite=overwrite, tensorboard=tensorboard,
            progress=shows_progress(quiet),
            on_epoch=None if quiet else _print_epoch,
            context={"commit": commit(), "command": ["wronglung", *sys.argv[1:]]},
        )  # fmt: skip
    if best is not None:
        typer.echo(str(best))


def _listed(kind: Kind) -> list[Listed]:
    if kind == "variants":
        from ..adapters.gloria.training.presets import summaries

        return [Listed(name, "wronglung", summary) for name, summary in summaries("variants").items()]
    if kind == "tasks" or kind == "suites":
        from ..tasks.schema import list_definitions

        return list_definitions("task" if kind == "tasks" else "suite")
    registries = {
        "models": MODELS,
        "datasets": DATASETS,
        "perturbations": PERTURBATIONS,
        "subsets": SUBSETS,
        "sentences": SENTENCES,
        "metrics": METRICS,
        "trackers": TRACKERS,
    }
    return registries[kind].listed()


def _print_epoch(row: dict[str, float]) -> None:
    figures = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name in _EPOCH_FIGURES]
    typer.echo(f"epoch {row['epoch']:.0f}: {', '.join(figures)}", err=True)


_EPOCH_FIGURES = ("train_loss", "validation_loss", "auroc", "auroc_one_lung", "swap_left_right_one_lung", "seconds")


def main() -> None:
    """Entry point of ``wronglung``: errors become one line on standard error and an exit code."""
    try:
        _command()(prog_name="wronglung", auto_envvar_prefix="WRONGLUNG")
    except WronglungError as error:
        _fail(str(error), 2, error)
    except SystemExit as stop:
        # What an interrupt becomes on its way through the command-line library.
        if stop.code == 130:
            typer.echo("wronglung: interrupted", err=True)
        raise
    except BrokenPipeError:
        # The reader of our output has gone; flushing again at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.filename or 'standard output'}: {error.strerror or error}", 2, error)
    except Exception as error:
        _fail(f"internal error, please report it: {type(error).__name__}: {error}", 70, error)


@cache
def _command() -> Callable[..., Any]:
    """The command line, whose making takes as long as a short command: once for a process that calls it often."""
    return typer.main.get_command(app)


def _fail(message: str, code: int, error: BaseException | None) -> None:
    if error is not None and os.environ.get("WRONGLUNG_DEBUG"):
        raise error
    line = " ".join(message.split())
    # A name out of a file may hold what a terminal would obey.
    typer.echo(f"wronglung: {''.join(one if one.isprintable() else '?' for one in line)}", err=True)
    sys.exit(code)
