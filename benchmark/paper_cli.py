"""``wronglung paper``: the tables and figures of the paper, from runs, as published, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from .errors import WronglungError

PaperFormat: TypeAlias = Literal["markdown", "latex", "csv", "svg", "png"]
_SUFFIXES: dict[str, PaperFormat] = {
    ".md": "markdown", ".tex": "latex", ".csv": "csv", ".svg": "svg", ".png": "png",
}  # fmt: skip


def paper(
    name: Annotated[str, typer.Argument(help="A table or figure; `wronglung paper list` names them.")],
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs, or folders that hold such.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's figures, as published.")] = False,
    fmt: Annotated[
        PaperFormat | None,
        typer.Option("--format", "-f", help="By default what the name of --out says, or markdown. svg, png: figures."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file instead.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Models of this name only, in this order; repeatable.")
    ] = None,
    intervals: Annotated[bool, typer.Option("--intervals/--no-intervals", help="95 % intervals in tables.")] = False,
) -> None:
    """Lay runs out as the paper's tables and figures; `wronglung paper list` says which there are."""
    from ..leaderboard.board import find_runs
    from ..leaderboard.paper.layouts import find_layout, load_layouts
    from ..leaderboard.paper.members import sections
    from ..leaderboard.paper.render import render
    from ..leaderboard.paper.tables import tables
    from .results import load_run, write_text, write_whole

    if name == "list":
        from tabulate import tabulate

        listed = [
            (one, "figure" if layout.kind == "figure" else "table", layout.title)
            for one, layout in load_layouts().layouts.items()
        ]
        typer.echo(tabulate(listed, tablefmt="plain"))
        return
    layout = find_layout(name)
    formats = ("svg", "png", "csv") if layout.kind == "figure" else ("markdown", "latex", "csv")
    fmt = fmt or (_SUFFIXES.get(out.suffix.lower()) if out is not None else None) or "markdown"
    if fmt not in formats:
        kind = "figure" if layout.kind == "figure" else "table"
        raise WronglungError(f"{name} is a {kind}: give --format {', '.join(formats[:-1])} or {formats[-1]}")
    if fmt in ("svg", "png") and out is None:
        raise WronglungError(f"give the picture's file with --out, such as {name}.{fmt}")
    if not runs and not published:
        raise WronglungError("nothing to show; give folders of runs, or --published")
    loaded = [load_run(folder) for folder in find_runs(runs or [])]
    made = tables(layout, sections(loaded, published=published, models=model or ()))
    if fmt == "svg" or fmt == "png":
        from ..leaderboard.paper.charts import draw

        assert out is not None
        picture = draw(layout, made, fmt)
        write_whole(out, lambda path: path.write_bytes(picture))
    else:
        text = render(made, fmt, intervals=intervals)
        if out is None:
            typer.echo(text)
            return
        write_text(out, text + "\n")
    typer.echo(f"written: {out}", err=True)
