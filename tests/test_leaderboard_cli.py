"""``wronglung leaderboard``: from a folder of runs to what is printed and written."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from leaderboard_runs import made, noise, save

from wronglung.benchmark.cli import main
from wronglung.benchmark.results import INSTANCES, RESULTS


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


def leaderboard(*arguments: str | Path, code: int = 0) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["wronglung", "leaderboard", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def refused(*arguments: str | Path) -> str:
    done = leaderboard(*arguments, code=2)
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaderboard") / "runs"
    return save(
        folder, made("a", noise(0)), made("b", noise(1)), made("c", noise(2) - 0.3), made("few", tasks=["original"])
    )


def test_ranks_are_ranges_where_the_instances_lie_beside_the_summary(runs: Path) -> None:
    assert "of 2,000 resamples of 40 patients" in leaderboard(runs).stdout


def test_a_run_that_is_named_twice_stands_once(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs / "0")
    assert leaderboard(runs, tmp_path / "link", runs / "0" / RESULTS).stdout == leaderboard(runs).stdout


def test_a_column_of_instances_that_holds_no_numbers_is_refused(runs: Path, tmp_path: Path) -> None:
    for at in range(2):
        (tmp_path / f"{at}").mkdir()
        (tmp_path / f"{at}" / RESULTS).write_bytes((runs / f"{at}" / RESULTS).read_bytes())
        pd.read_parquet(runs / f"{at}" / INSTANCES).assign(auroc="high").to_parquet(tmp_path / f"{at}" / INSTANCES)
    assert "run of a: could not convert string to float" in refused(tmp_path)


def test_ranks_are_by_value_where_one_lacks_them(runs: Path, tmp_path: Path) -> None:
    files = []
    for at in range(3):
        (tmp_path / f"{at}.json").write_text((runs / str(at) / RESULTS).read_text())
        files.append(tmp_path / f"{at}.json")
    text = leaderboard(*files).stdout
    assert "by value: the values of single instances are not at hand" in text
    assert "by value" in leaderboard(files[0], runs / "1").stdout


def test_the_order_of_folders_does_not_matter(runs: Path) -> None:
    folders = [runs / str(at) for at in range(4)]
    for fmt in ("markdown", "latex", "csv", "html"):
        assert (
            leaderboard(*folders, "-f", fmt)
            == leaderboard(*reversed(folders), "-f", fmt)
            == leaderboard(runs, "-f", fmt)
        )


def test_parquet_is_written_with_equal_bytes(runs: Path, tmp_path: Path) -> None:
    folders = [runs / str(at) for at in range(4)]
    leaderboard(*folders, "-f", "parquet", "-o", tmp_path / "one.parquet")
    leaderboard(*reversed(folders), "-f", "parquet", "-o", tmp_path / "other.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    frame = pd.read_parquet(tmp_path / "one.parquet")
    assert {*frame["model"]} == {"a", "b", "c", "few"}
    assert frame["rank_best"].isna().sum() == (frame["model"] == "few").sum()


def test_intervals_are_those_of_the_option_or_of_the_columns_file(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "columns.yaml"
    file.write_text("intervals: plus-minus\nblocks: [{title: Model, columns: [{metric: auroc}]}]")
    assert " ± " in leaderboard(runs, "--columns", file).stdout
    assert " [" in leaderboard(runs, "--columns", file, "--intervals", "brackets").stdout
    text = leaderboard(runs, "--intervals", "none").stdout
    assert not {"[", "±"} & set(text)


def test_files_for_the_hub_are_listed(runs: Path, tmp_path: Path) -> None:
    options = ("-f", "huggingface", "-o", tmp_path / "hub", "--dataset-id", "me/data", "--date", "2024-05-31T10:00:00Z")
    done = leaderboard(runs, *options, "--subset", "all")
    written = [Path(line) for line in done.stdout.split()]
    assert len(written) == 4 * 2
    assert all(one.is_file() for one in written)
    assert "date: '2024-05-31T10:00:00Z'" in written[0].read_text()
    before = [one.read_bytes() for one in written]
    leaderboard(runs, *options, "--subset", "all")
    assert [one.read_bytes() for one in written] == before


def test_options_that_do_not_go_together_are_refused_before_any_work(runs: Path, tmp_path: Path) -> None:
    hub = (runs, "-f", "huggingface", "-o", tmp_path / "hub")
    assert "say where to write it with --out" in refused(runs, "-f", "parquet")
    assert "say where to write it with --out" in refused(runs, "-f", "huggingface")
    assert "--dataset-id OWNER/NAME" in refused(*hub)
    assert "--source-name needs --source-url" in refused(*hub, "--dataset-id", "a/b", "--source-name", "x")
    assert "--date 'May'" in refused(*hub, "--dataset-id", "a/b", "--date", "May")
    assert "--date goes with --format huggingface only" in refused(runs, "--date", "2024-05-31")
    assert not (tmp_path / "hub").exists()


def test_mistakes_in_a_columns_file_are_one_line(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "columns.yaml"
    file.write_text("blocks: [{title: Model, columns: [{metric: auroqc}]}]")
    assert f"{file}: blocks.0.columns.0.metric: unknown metric 'auroqc'" in refused(runs, "--columns", file)


def test_damaged_and_foreign_instances_are_refused(tmp_path: Path) -> None:
    runs = save(tmp_path / "runs", made("a", noise(0)), made("b", noise(1)))
    whole = (runs / "0" / INSTANCES).read_bytes()
    (runs / "0" / INSTANCES).write_bytes(whole[:100])
    assert "cannot be read as parquet" in refused(runs)
    (runs / "0" / INSTANCES).write_bytes((runs / "1" / INSTANCES).read_bytes())
    assert "run of a: the values of its instances do not give the auroc of its summary" in refused(runs)
