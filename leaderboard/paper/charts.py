"""The paper's figures: deltas as bars, in panels by metric, groups by subset, a bar a model."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...benchmark.errors import WronglungError
from .layouts import Layout, load_layouts
from .members import GROUPS
from .render import FOOTNOTE
from .tables import Entry, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = 2
WIDTH = 7.2
"""Inches, a page with margins."""
ROW_HEIGHT = 1.45
FONT_SIZE = 7.0
"""Points; the smallest in the figure."""
DPI = 200
MOST_BLOCKS = 8

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; then the same, hatched.
_HUES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
_GREYS = ("#737373", "#a6a6a6", "#d9d9d9")
_HATCH = "//////"


class Style(NamedTuple):
    """How a model's bars look."""

    face: str
    edge: str
    hatch: str


def draw(layout: Layout, tables: Sequence[Table], fmt: Literal["svg", "png"]) -> bytes:
    """The figure as the bytes of a file, one block of panels a table: the same bytes for the same figures.

    Raises :class:`WronglungError` without matplotlib, and for more models than there are styles or more blocks than fit.
    """
    if len(tables) > MOST_BLOCKS:
        raise WronglungError(
            f"the runs are of {len(tables)} kinds that cannot be compared; a figure holds {MOST_BLOCKS}, give fewer runs"
        )
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise WronglungError('figures need matplotlib: pip install "wronglung[plots]"') from error
    styles = [_styles(table.rows) for table in tables]
    legends = [_legend_size(table) for table in tables]
    height = ROW_HEIGHT * -(-len(layout.metrics) // COLUMNS)
    heights = [height + 0.7 + 0.16 * lines for _, lines in legends]
    with mpl.rc_context():
        # Nothing of the reader's own settings, and the letters as paths: the figure is the same everywhere.
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        blocks = figure.subfigures(len(tables), 1, height_ratios=heights, squeeze=False)[:, 0]
        for block, table, its, (columns, _) in zip(blocks, tables, styles, legends, strict=True):
            _block(block, layout, table, its, columns)
        file = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if fmt == "svg" else {"Software": None}
        figure.savefig(file, format=fmt, dpi=DPI, metadata=metadata)
    return file.getvalue()


_SETTINGS: Any = {
    "svg.hashsalt": "wronglung",
    "svg.fonttype": "path",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE + 1,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,
}


def _styles(rows: Sequence[Row]) -> list[Style]:
    """Models in colours, floors and ceilings in grey; published models as outlines where runs stand beside them."""
    mixed = len({row.group == "published" for row in rows}) > 1
    hues = [Style(hue, "black", hatch) for hatch in ("", _HATCH) for hue in _HUES]
    greys = [Style(grey, "black", hatch) for hatch in ("", _HATCH) for grey in _GREYS]
    outlines = [Style("white", hue, _HATCH) for hue in _HUES] if mixed else hues
    styles = []
    for group, its in zip(GROUPS, (hues, greys, outlines), strict=True):
        count = sum(row.group == group for row in rows)
        if count > len(its):
            what = "floors and ceilings" if group == "bound" else "models"
            raise WronglungError(f"{count} {what} are too many for a figure ({len(its)} at most); choose with --model")
        styles += its[:count]
    return styles


def _block(block: SubFigure, layout: Layout, table: Table, styles: Sequence[Style], legend_columns: int) -> None:
    layouts = load_layouts()
    panels = block.subplots(-(-len(layout.metrics) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axes in panels[len(layout.metrics) :]:
        axes.set_axis_off()
    missing = False
    for axes, metric in zip(panels, layout.metrics, strict=False):
        missing |= _panel(axes, table.rows, styles, f"delta_{metric}")
        axes.set_title(layouts.metrics[metric].heading, pad=3)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("Δ, times 100")
    block.suptitle("\n".join(textwrap.wrap(table.title, 95)), fontsize=FONT_SIZE + 2)
    _legend(block, table, styles, legend_columns, missing)


def _panel(axes: Axes, rows: Sequence[Row], styles: Sequence[Style], metric: str) -> bool:
    """Draw the bars of one metric; returns whether a model lacks a figure."""
    subsets = load_layouts().subsets
    offsets, width = _offsets(rows)
    missing = False
    for row, style, offset in zip(rows, styles, offsets, strict=True):
        numbers = {at + offset: _find(row, subset, metric).numbers() for at, subset in enumerate(subsets)}
        bars = {at: value for at, (value, _, _) in numbers.items() if value is not None}
        axes.bar(
            list(bars), list(bars.values()), width,
            color=style.face, edgecolor=style.edge, hatch=style.hatch, linewidth=0.4, zorder=2,
        )  # fmt: skip
        bounded = {at: (low, high) for at, (_, low, high) in numbers.items() if low is not None and high is not None}
        if bounded:
            lows, highs = zip(*bounded.values(), strict=True)
            axes.vlines(list(bounded), lows, highs, color="black", linewidth=0.6, zorder=3)
        lacking = [at for at in numbers if at not in bars]
        axes.plot(lacking, [0] * len(lacking), "x", color="black", markersize=3, markeredgewidth=0.6, zorder=4)
        missing |= bool(lacking)
    axes.axhline(0, color="black", linewidth=0.6, zorder=1)
    axes.set_xticks(range(len(subsets)), list(subsets.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(subsets) - 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5, zorder=0)
    axes.set_axisbelow(True)
    return missing


def _offsets(rows: Sequence[Row]) -> tuple[list[float], float]:
    """Where each model's bar is, around the middle of a subset, and the width of a bar; groups are set apart."""
    slots = [0.0]
    for before, row in pairwise(rows):
        slots.append(slots[-1] + (1.0 if before.group == row.group else 1.7))
    width = 0.84 / (slots[-1] + 1)
    return [(slot - slots[-1] / 2) * width for slot in slots], width


def _find(row: Row, subset: str, metric: str) -> Entry:
    return next(one for one in row.entries if one is not None and (one.subset, one.metric) == (subset, metric))


def _legend_size(table: Table) -> tuple[int, int]:
    """Columns and lines of the legend, for the longest name to fit."""
    longest = max(len(row.label) for row in table.rows)
    columns = max(1, min(4, len(table.rows), 120 // (longest + 7)))
    return columns, -(-len(table.rows) // columns) + 2


def _legend(block: SubFigure, table: Table, styles: Sequence[Style], columns: int, missing: bool) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=style.face, edgecolor=style.edge, hatch=style.hatch, linewidth=0.4) for style in styles]
    names = [textwrap.shorten(row.label, 110, placeholder="…") for row in table.rows]
    entries = list(table.entries())
    notes = ["Δ = perturbed − unperturbed of the same sentence source."]
    if any(entry.numbers()[1] is not None for entry in entries):
        notes.append("Lines: 95 % intervals from resampling patients.")
    if missing:
        notes.append("×: no value.")
    if any(row.group == "published" for row in table.rows):
        notes.append(FOOTNOTE)
    legend = block.legend(
        handles,
        # Names that begin with an underscore would be left out.
        [f" {name}" if name.startswith("_") else name for name in names],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title="\n".join(textwrap.wrap(" ".join(notes), 130)),
        title_fontsize=FONT_SIZE,
        handlelength=1.6,
    )
    legend.set_alignment("left")
