"""The paper's figures: bars that are the deltas, legible, and the same bytes each time."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

from wronglung.benchmark.cells import Cell
from wronglung.benchmark.cli import main
from wronglung.benchmark.errors import WronglungError
from wronglung.leaderboard.paper.charts import DPI, FONT_SIZE, MOST_BLOCKS, WIDTH, draw
from wronglung.leaderboard.paper.layouts import Layout, find_layout, load_layouts
from wronglung.leaderboard.paper.members import Figure as Number
from wronglung.leaderboard.paper.members import Group, Member, Section, sections
from wronglung.leaderboard.paper.tables import tables

FULL = find_layout("swap-left-right")
LAYOUT = FULL.model_copy(update={"metrics": ("auroc", "iou@5")})
"""Two of the panels, which are drawn in less time than eight."""
SUBSETS = tuple(load_layouts().subsets)


def member(name: str, group: Group = "model", seed: int = 0) -> Member:
    """A model with deltas of its own and intervals around them."""
    rng = np.random.default_rng(seed)
    figures = {}
    for subset in SUBSETS:
        for metric in FULL.metrics:
            value = float(rng.uniform(-0.3, 0.1))
            figures[Cell(LAYOUT.task, subset, metric, delta=True)] = Number(value, value - 0.02, value + 0.03)
    return Member(name, group, "made up", figures, {})


def drawn(found: list[Section], layout: Layout = LAYOUT) -> Figure:
    """The figure as it is saved; no warning is tolerated."""
    kept = []

    def keep(figure: Figure, file: io.BytesIO, **options: object) -> None:
        figure.draw_without_rendering()
        kept.append(figure)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(Figure, "savefig", keep)
        draw(layout, tables(layout, found), "png")
    return kept[0]


def texts(figure: Figure) -> list[Text]:
    return [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text() and one.get_visible()]


class TestBars:
    def test_are_the_deltas_times_100_with_their_intervals(self) -> None:
        models = [member("first", seed=1), member("second", seed=2), member("floor", "bound", seed=3)]
        panels = drawn([Section("made up", tuple(models))]).get_axes()
        assert len(panels) == len(LAYOUT.metrics)
        for axes, metric in zip(panels, LAYOUT.metrics, strict=True):
            assert axes.get_title() == load_layouts().metrics[metric].heading
            expected = [
                one.figures[Cell(LAYOUT.task, subset, metric, delta=True)] for one in models for subset in SUBSETS
            ]
            heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
            assert heights == pytest.approx([100 * one.value for one in expected if one.value is not None])
            ends = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
            assert np.array(ends) == pytest.approx(
                np.array([(one.low, one.high) for one in expected], dtype=float) * 100
            )

    def test_stand_beside_each_other_within_their_subset(self) -> None:
        count = 12
        axes = drawn([Section("made up", tuple(member(f"m{at}", seed=at) for at in range(count)))]).get_axes()[0]
        left = np.array([bar.get_x() for bar in axes.patches]).reshape(count, 4)  # type: ignore[attr-defined]
        width = axes.patches[0].get_width()  # type: ignore[attr-defined]
        assert np.diff(left, axis=0) == pytest.approx(width)
        assert (left > np.arange(4) - 0.5).all()
        assert (left + width < np.arange(4) + 0.5).all()

    def test_of_a_group_look_alike_and_no_two_models_do(self) -> None:
        models = [member(f"m{at}") for at in range(14)] + [member(f"b{at}", "bound") for at in range(6)]
        (axes, *_) = drawn([Section("made up", tuple(models))]).get_axes()
        looks = [(bar.get_facecolor(), bar.get_hatch()) for bar in axes.patches[::4]]
        assert len(set(looks)) == len(models)
        for face, _ in looks[14:]:
            assert len(set(face[:3])) == 1, "floors and ceilings are grey"

    def test_published_models_beside_runs_are_outlines(self) -> None:
        paper = sections([], published=True)[0].members
        (axes, *_) = drawn([Section("made up", (member("mine"), *paper))]).get_axes()
        white = [bar.get_facecolor()[:3] == (1, 1, 1) for bar in axes.patches[::4]]
        assert white == [False] + [True] * 5
        (axes, *_) = drawn([Section("published", paper)]).get_axes()
        assert not any(bar.get_facecolor()[:3] == (1, 1, 1) for bar in axes.patches)

    def test_a_missing_delta_is_marked_not_drawn_as_zero(self) -> None:
        full, partial = member("full"), member("partial")
        figures = {cell: one for cell, one in partial.figures.items() if cell.metric != "auroc"}
        lacking = Member("partial", "model", "made up", figures, {})
        figure = drawn([Section("made up", (full, lacking))])
        first, second = figure.get_axes()[:2]
        assert len(first.patches) == 4
        marked = [np.asarray(line.get_xdata(), dtype=float) for line in first.lines if line.get_marker() == "x"]
        assert np.round(np.concatenate(marked)).tolist() == [0, 1, 2, 3]
        assert len(second.patches) == 8
        assert any("×: no value." in one.get_text() for one in texts(figure))


class TestLegibility:
    @pytest.mark.parametrize(("count", "length"), [(1, 8), (5, 40), (12, 8), (12, 150)])
    def test_text_is_7_points_or_more_and_on_the_page(self, count: int, length: int) -> None:
        names = [f"{at} {'name of a model ' * 20}"[:length] for at in range(count)]
        figure = drawn([Section("some dataset, " * 12, tuple(map(member, names)))], FULL)
        assert min(float(one.get_fontsize()) for one in texts(figure)) >= FONT_SIZE == 7
        page = figure.bbox
        for one in texts(figure):
            box = one.get_window_extent()
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, one.get_text()
            assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, one.get_text()
        for axes in figure.get_axes():
            assert axes.get_window_extent().height > 40

    def test_every_model_is_in_the_legend_under_its_name(self) -> None:
        names = ["_hidden", "$x$", "plain"]
        figure = drawn([Section("made up", tuple(map(member, names)))])
        (legend,) = (one for one in figure.findobj(Legend) if isinstance(one, Legend))
        assert [one.get_text().strip() for one in legend.get_texts()] == names

    def test_each_section_has_panels_and_a_legend_of_its_own(self) -> None:
        figure = drawn([Section("here", (member("mine"),)), Section("there", (member("its"),))])
        assert len(figure.get_axes()) == 2 * len(LAYOUT.metrics)
        said = [one.get_text() for one in texts(figure)]
        assert {"mine", "its"} <= set(said)
        assert sum(one.endswith(("here", "there")) for one in said) == 2


class TestFiles:
    def test_svg_is_the_same_each_time_whatever_the_readers_settings(self, tmp_path: Path) -> None:
        import matplotlib as mpl

        found = tables(LAYOUT, sections([], published=True))
        first = draw(LAYOUT, found, "svg")
        with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other", "text.usetex": True}):
            assert draw(LAYOUT, found, "svg") == first
            assert mpl.rcParams["font.size"] == 30, "the reader's settings are left as they were"
        assert b"<dc:date>" not in first
        assert ElementTree.fromstring(first).tag.endswith("svg")
        assert b"<text" not in first, "letters are paths"

    def test_png_has_the_stated_size_and_no_date(self) -> None:
        found = tables(LAYOUT, sections([], published=True))
        first = draw(LAYOUT, found, "png")
        assert draw(LAYOUT, found, "png") == first
        picture = Image.open(io.BytesIO(first))
        assert picture.width == WIDTH * DPI
        assert not {"Software", "Creation Time"} & picture.info.keys()

    @pytest.mark.parametrize(
        ("name", "start"), [("random-sentences.svg", b"<?xml"), ("swap-conditions.png", b"\x89PNG")]
    )
    def test_one_command_a_figure(
        self, name: str, start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = [Path(name).stem, "--published", "--out", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["wronglung", "paper", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert (tmp_path / name).read_bytes().startswith(start)
        assert [*tmp_path.iterdir()] == [tmp_path / name]


class TestRefusals:
    def test_without_matplotlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(WronglungError, match=r'figures need matplotlib: pip install "wronglung\[plots\]"'):
            draw(LAYOUT, tables(LAYOUT, sections([], published=True)), "svg")

    def test_more_models_than_can_be_told_apart(self) -> None:
        many = Section("made up", tuple(member(str(at)) for at in range(15)))
        with pytest.raises(
            WronglungError, match="15 models are too many for a figure .14 at most.; choose with --model"
        ):
            draw(LAYOUT, tables(LAYOUT, [many]), "svg")

    def test_more_blocks_than_fit(self) -> None:
        many = [Section(str(at), (member("mine"),)) for at in range(MOST_BLOCKS + 1)]
        with pytest.raises(WronglungError, match="9 kinds that cannot be compared; a figure holds 8"):
            draw(LAYOUT, tables(LAYOUT, many), "svg")
