"""``wronglung data``: look at a dataset before a run, and write it in other formats."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .cli_options import DataArgs, DataRoot, Json, Name, Quiet, Seed, Split, load, pairs, shows_progress
from .errors import WronglungError

if TYPE_CHECKING:
    from .inspection import ImageReport

data_app = typer.Typer(help="Look at a dataset before a run.", no_args_is_help=True)


Workers = Annotated[
    int | None, typer.Option(min=1, help="Threads that read images; by default one a processor, at most 8.")
]


@data_app.command()
def detect(folder: Annotated[Path, typer.Argument(help="A folder of data, or a file.")], as_json: Json = False) -> None:
    """Say which collections are in a folder, what is missing of them, and how to run them; exits with 1 for none."""
    from .datasets.detect import detect as look

    found = look(folder)
    if as_json:
        typer.echo(
            json.dumps(
                [{**asdict(one), "root": str(one.root), "evidence": str(one.evidence)} for one in found], indent=1
            )
        )
    for one in () if as_json else found:
        typer.echo(f"{one.what}: {one.evidence}")
        for note in one.notes:
            typer.echo(f"  {note}")
        if one.dataset is not None:
            options = shlex.join(["--dataset", one.dataset, "--data-root", str(one.root), *one.options])
            typer.echo(f"  wronglung data inspect {options}")
    if not found:
        if not as_json:
            typer.echo(f"nothing known in {folder}; `wronglung list datasets` names what can be read", err=True)
        raise typer.Exit(1)


@data_app.command()
def inspect(
    dataset: Name,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    overlays: Annotated[Path | None, typer.Option(help="Draw boxes on images into this folder.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many overlays.")] = 40,
    ledger: Annotated[bool, typer.Option("--ledger", help="Print every entry of the skip ledger.")] = False,
    as_json: Json = False,
) -> None:
    """Count instances by subset and finding, say what was skipped and why, and draw boxes on images."""
    from .inspection import draw_overlays, summarise

    data = load(dataset, data_root, split, pairs(data_arg, "--data-arg"))
    summary = summarise(data)
    if as_json and ledger:
        summary["ledger"] = [asdict(entry) for entry in data.skipped]
    _print(summary, as_json)
    if ledger and not as_json:
        for entry in data.skipped:
            typer.echo(f"{'repaired' if entry.repaired else 'left out'}\t{entry.reason}\t{entry.where}\t{entry.detail}")
    if overlays is not None:
        drawn, chosen = draw_overlays(data, overlays, count), min(count, len(data.instances))
        typer.echo(f"written: {drawn} pictures in {overlays}", err=True)
        if drawn < chosen:
            typer.echo(f"note: {chosen - drawn} left out, their images cannot be decoded", err=True)


@data_app.command()
def validate(
    dataset: Name,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    workers: Workers = None,
    ledger: Annotated[Path | None, typer.Option(help="Write every entry of the ledger to this .jsonl file.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Apply every rule to every file, decode every image, and sum up by reason; exits with 1 when nothing is usable."""
    from .datasets import read_dataset
    from .evaluation import default_workers
    from .inspection import examine_images
    from .inspection import validate as sum_up
    from .results import write_text

    if ledger is not None and ledger.exists():
        raise WronglungError(f"{ledger}: exists; give a new file")
    data = read_dataset(dataset, data_root, split=split, **pairs(data_arg, "--data-arg"))
    report = examine_images(data, workers=workers or default_workers(), progress=shows_progress(quiet))
    summary = sum_up(data, report)
    _print(summary, as_json)
    if ledger is not None:
        lines = (json.dumps(asdict(entry)) for entry in (*data.skipped, *report.faults))
        write_text(ledger, "".join(f"{line}\n" for line in lines))
    if not summary["instances"]["usable"]:
        raise typer.Exit(1)


@data_app.command()
def convert(
    dataset: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")],
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    to: Annotated[Literal["jsonl", "huggingface"], typer.Option(help="The format to write.")] = "jsonl",
    images: Annotated[
        Literal["reference", "png", "jpg"] | None,
        typer.Option(help="jsonl: refer to the images where they are (the default), or copy them as PNG or JPEG."),
    ] = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Write a dataset as one instance a line with references to its images, or as a Hugging Face dataset on disk."""
    if to == "huggingface" and images is not None:
        raise WronglungError("--images goes with --to jsonl; a Hugging Face dataset holds its images")
    images = images or "reference"
    data = load(dataset, data_root, split, pairs(data_arg, "--data-arg"))
    if to == "huggingface" or images != "reference":
        from .evaluation import default_workers
        from .inspection import examine_images

        report = examine_images(data, workers=workers or default_workers(), progress=shows_progress(quiet))
        _note_faults(report)
        data = replace(data, instances=tuple(one for one in data.instances if one.image_id in report.digests))
    read_with = ""
    if to == "jsonl":
        from .datasets.jsonl_writer import image_root, write_jsonl

        write_jsonl(data, out, name=re.sub(r"[^\w.-]+", "-", data.name), images=images)
        if images == "reference":
            read_with = f" --data-arg images={shlex.quote(str(image_root(data).absolute()))}"
    else:
        from .datasets.huggingface_writer import write_huggingface

        write_huggingface(data, out)
    typer.echo(f"--dataset {to} --data-root {shlex.quote(str(out))}{read_with}")
    typer.echo(f"written: {len(data.instances)} instances in {out}; the line above reads them", err=True)


@data_app.command()
def fingerprint(
    dataset: Name,
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    images: Annotated[bool, typer.Option("--images", help="Read and decode every image, too.")] = False,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print what identifies the data: SHA-256 of the ids, of the annotations, and on request of the image files."""
    from .instances import fingerprint_images

    data = load(dataset, data_root, split, pairs(data_arg, "--data-arg"))
    summary: dict[str, str | int] = {
        "dataset": data.name,
        "instances": len(data.instances),
        "ids": data.ids_fingerprint,
        "annotations": data.fingerprint,
    }
    if images:
        from .evaluation import default_workers
        from .inspection import examine_images

        report = examine_images(data, workers=workers or default_workers(), progress=shows_progress(quiet))
        _note_faults(report)
        summary["images"] = fingerprint_images(report.digests)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        for key, value in summary.items():
            typer.echo(f"{key}\t{value}")


@data_app.command("pairs")
def list_pairs(
    dataset: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .jsonl file.")],
    data_root: DataRoot = None,
    data_arg: DataArgs = None,
    split: Split = None,
    suite: Annotated[str, typer.Option("--suite", "-s", help="A name, or a path to a .yaml file.")] = "wrong-lung",
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Of the first N instances only.")] = None,
) -> None:
    """List every image and sentence that a run with these options asks a model to align, one JSON object a line.

    Make a map for each of them with any code, and score the folder with `wronglung run --model precomputed`.
    """
    from ..tasks.schema import load_suite
    from .pairs import as_lines
    from .pairs import pairs as asked_for
    from .results import write_text

    if out.exists():
        raise WronglungError(f"{out}: exists; give a new file")
    chosen = load_suite(suite)
    data = load(dataset, data_root, split, pairs(data_arg, "--data-arg"))
    asked = asked_for(chosen, data, seed, limit)
    write_text(out, "".join(as_lines(asked, data)))
    images = len({image for image, _ in asked})
    typer.echo(f"written: {len(asked)} pairs of {images} images in {out}", err=True)


@data_app.command()
def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")],
    size: Annotated[int, typer.Option(help="Width and height of a film, in pixels.")] = 64,
    patients: Annotated[int, typer.Option(help="How many patients, in all splits.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the films and reports.")] = 0,
    fmt: Annotated[
        Literal["imagenome", "jsonl"], typer.Option("--format", "-f", help="imagenome: with MIMIC-CXR-JPG's films.")
    ] = "imagenome",
    image_format: Annotated[Literal["jpg", "png"], typer.Option(help="png keeps every pixel.")] = "png",
) -> None:
    """Write the generated films to disk, as Chest ImaGenome (gold is the test split) or in the neutral format."""
    from .datasets.imagenome_tree import write_tree
    from .datasets.jsonl_writer import write_jsonl
    from .datasets.phantom import read

    data = read(size=size, patients=patients, seed=seed, split="all")
    if fmt == "imagenome":
        write_tree(data, out, image_format=image_format)
    else:
        write_jsonl(data, out, name="phantom", images=image_format)
    typer.echo(f"written: {len({one.image_id for one in data.instances})} films in {out}", err=True)


def _note_faults(report: ImageReport) -> None:
    """Say which images cannot be decoded; raises :class:`WronglungError` where none can."""
    if not report.digests:
        raise WronglungError(f"none of the images can be decoded; {report.faults[0].detail}")
    if report.faults:
        first = report.faults[0].detail
        typer.echo(f"note: {len(report.faults)} images left out, they cannot be decoded; first {first}", err=True)


def _print(summary: dict[str, Any], as_json: bool) -> None:
    """A summary of counts under titles."""
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    from tabulate import tabulate

    for title, counts in summary.items():
        body = tabulate(counts.items(), tablefmt="plain") or "none"
        typer.echo(f"{title}\n{body}\n")
