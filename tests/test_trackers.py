"""Trackers: what they are told, what they write, and that nothing they do reaches a run's results."""

from __future__ import annotations

import importlib
import io
import json
import re
import sqlite3
import sys
import types
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from wronglung import Alignment, Dataset, Geometry, ModelCard, Results, evaluate, load_model
from wronglung.benchmark.cli import main
from wronglung.benchmark.errors import WronglungError
from wronglung.benchmark.registry import TRACKERS
from wronglung.benchmark.results import RunResults, Score, load_run
from wronglung.benchmark.trackers.loading import load_tracker, load_trackers
from wronglung.benchmark.trackers.mlflow import MLflow, metric_name
from wronglung.benchmark.trackers.protocol import RunStart, Tracker, scalars, status
from wronglung.benchmark.trackers.tensorboard import TensorBoard

WHEN = {
    "run_started": "when the run started",
    "cells_done": "when it was given the scores",
    "run_ended": "when the run ended",
}
EVENTS = list(WHEN)


class Recorder:
    """Keeps what it is told, and misbehaves when asked to."""

    def __init__(self, name: str = "recorder", **misbehaviour: Callable[[Any], object]) -> None:
        self.name = name
        self.told: list[tuple[str, Any]] = []
        self._misbehaviour = misbehaviour

    def _tell(self, event: str, given: Any) -> None:
        self.told.append((event, given))
        if event in self._misbehaviour:
            self._misbehaviour[event](given)

    def run_started(self, start: RunStart) -> None:
        self._tell("run_started", start)

    def cells_done(self, scores: Sequence[Score]) -> None:
        self._tell("cells_done", scores)

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        self._tell("run_ended", outcome)

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]


def failing(error: BaseException) -> Callable[[Any], object]:
    def fail(given: Any) -> None:
        raise error

    return fail


def run(dataset: Dataset, *trackers: Tracker, **options: Any) -> Results:
    return evaluate(load_model("oracle"), dataset, "smoke", trackers=trackers, **options)


@pytest.fixture(scope="module")
def plain(sketch_file: Path) -> RunResults:
    """The run without trackers."""
    from wronglung import load_dataset

    return run(load_dataset("jsonl", sketch_file)).run


@pytest.fixture
def logged(plain: RunResults) -> dict[str, float]:
    """What every tracker logs of the run, under the names that it has in most of them."""
    return scalars(plain.scores)


class TestNames:
    def test_values_and_deltas_of_each_cell(self, plain: RunResults) -> None:
        named = scalars(plain.scores)
        by_name = {f"{one.task}/{one.subset}/{one.metric}": one for one in plain.scores}
        assert {name: value for name, value in named.items() if not name.endswith("/delta")} == {
            name: one.value for name, one in by_name.items() if one.value is not None
        }
        assert {name: value for name, value in named.items() if name.endswith("/delta")} == {
            f"{name}/delta": one.delta for name, one in by_name.items() if one.delta is not None
        }
        assert {"original/all/auroc", "random_sentences/all/auroc/delta"} <= named.keys()
        assert "original/all/auroc/delta" not in named

    def test_what_is_undefined_is_left_out(self, plain: RunResults) -> None:
        assert scalars([plain.scores[0].model_copy(update={"value": None, "delta": None})]) == {}

    def test_settings_get_dotted_names_without_what_is_not_set(self) -> None:
        start = RunStart(
            model={"name": "m", "tokens": "", "pretraining_sources": ["a", "b"], "settings": {"size": 3, "path": None}},
            dataset={"limit": None},
            suite={},
            settings={"seed": 0},
        )
        assert start.flat() == {
            "model.name": "m",
            "model.pretraining_sources": "a, b",
            "model.settings.size": "3",
            "settings.seed": "0",
        }

    def test_of_an_error_the_type_alone(self, plain: RunResults) -> None:
        assert status(WronglungError("instance 12 ('Left lung opacity.')")) == "failed: WronglungError"
        assert status(plain) == "complete"

    @pytest.mark.parametrize(
        ("name", "theirs"),
        [
            ("original/all/auroc", "original/all/auroc"),
            ("original/all/precision@5", "original/all/precision_at_5"),
            ("swap_left_right/mdrb/iou@10/delta", "swap_left_right/mdrb/iou_at_10.delta"),
        ],
    )
    def test_mlflow_has_names_of_its_own(self, name: str, theirs: str) -> None:
        assert metric_name(name) == theirs


class TestEvents:
    def test_come_in_order_with_what_they_are_about(self, sketch: Dataset, plain: RunResults) -> None:
        tracker = Recorder()
        results = run(sketch, tracker, seed=3, limit=20, context={"device": "cpu", "dtype": "float32"})
        assert tracker.events == EVENTS
        start, cells, end = (given for _, given in tracker.told)
        assert start.model == results.run.model
        assert start.suite == {"name": "smoke", "version": "1.0"}
        assert start.dataset == {
            "name": sketch.name,
            "fingerprint": sketch.fingerprint,
            "ids_fingerprint": sketch.ids_fingerprint,
            "n_instances": 20,
            "limit": 20,
        }
        assert start.settings == {
            "wronglung": results.run.manifest.wronglung,
            "seed": 3,
            "batch_size": 16,
            "device": "cpu",
            "dtype": "float32",
            "decode_at_least": None,
        }
        assert list(cells) == results.run.scores
        assert end == results.run

    def test_of_a_run_that_stops_end_with_the_error(self, sketch: Dataset) -> None:
        class Broken:
            card = ModelCard(name="broken", saliency_method="none", map_kind="score")

            def align(self, images: Sequence[Any], sentences: Sequence[str]) -> Alignment:
                geometry = [Geometry.squash(one.size[0], one.size[1], 64, 64) for one in images]
                return Alignment(torch.full((len(images), 4, 4), torch.nan), geometry)

        tracker = Recorder()
        with pytest.raises(WronglungError, match="not finite") as stopped:
            evaluate(Broken(), sketch, "smoke", trackers=[tracker])
        assert tracker.events == ["run_started", "run_ended"]
        assert tracker.told[-1][1] is stopped.value

    def test_are_not_told_of_what_is_refused_before_the_run(self, sketch: Dataset) -> None:
        tracker = Recorder()
        with pytest.raises(WronglungError, match="limit must be at least 1"):
            run(sketch, tracker, limit=0)
        assert tracker.events == []

    def test_need_a_tracker(self, sketch: Dataset) -> None:
        with pytest.raises(WronglungError, match="'tensorboard' is not a tracker: it needs a name and the methods"):
            run(sketch, "tensorboard")  # type: ignore[arg-type]


class TestFailures:
    @pytest.mark.parametrize("error", [RuntimeError("no route\nto host"), SystemExit(3), KeyboardInterrupt()])
    @pytest.mark.parametrize("event", EVENTS)
    def test_become_warnings_and_change_nothing(
        self, event: str, error: BaseException, sketch: Dataset, plain: RunResults, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failed, other = Recorder("faulty", **{event: failing(error)}), Recorder("other")
        done = run(sketch, failed, other).run
        assert done.scores == plain.scores
        assert done.correlations == plain.correlations
        assert done.manifest.warnings == [f"tracker faulty failed {WHEN[event]}: {type(error).__name__}"]
        assert other.events == EVENTS
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"wronglung: tracker faulty failed {WHEN[event]} ({type(error).__name__}")
        assert lines[0].endswith("; the results are not affected")

    def test_at_the_start_are_the_end_of_a_tracker(self, sketch: Dataset) -> None:
        tracker = Recorder(run_started=failing(RuntimeError()))
        run(sketch, tracker)
        assert tracker.events == ["run_started"]

    def test_later_leave_it_the_end_to_close_what_is_open(self, sketch: Dataset) -> None:
        tracker = Recorder(cells_done=failing(RuntimeError()), run_ended=failing(ValueError()))
        assert len(run(sketch, tracker).run.manifest.warnings) == 2
        assert tracker.events == EVENTS

    def test_are_told_on_the_terminal_and_not_on_record(
        self, sketch: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = run(sketch, Recorder(run_started=failing(OSError("https://user:secret@host refused")))).run
        assert "https://user:secret@host refused" in capsys.readouterr().err
        assert "secret" not in done.model_dump_json()

    def test_a_tracker_gets_copies(self, sketch: Dataset, plain: RunResults) -> None:
        def spoil_start(start: Any) -> None:
            start.model["name"] = "spoiled"

        def spoil_scores(scores: Any) -> None:
            for one in scores:
                one.value = 1.0
            scores.clear()

        def spoil_run(outcome: Any) -> None:
            outcome.manifest.warnings.append("spoiled")
            outcome.scores[0].value = 2.0

        other = Recorder()
        done = run(sketch, Recorder(run_started=spoil_start, cells_done=spoil_scores, run_ended=spoil_run), other).run
        assert done.scores == plain.scores
        assert done.manifest.warnings == []
        assert other.told[0][1].model["name"] == "oracle"
        assert list(other.told[1][1]) == plain.scores
        assert other.told[2][1].scores == plain.scores

    def test_what_a_tracker_prints_is_no_answer(self, sketch: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
        def greet(given: Any) -> None:
            sys.stdout.write("* hello\n")

        run(sketch, Recorder(run_started=greet, cells_done=greet, run_ended=greet))
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", "* hello\n" * 3)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """As much of W&B's package as is called, with the names of settings that version 0.31 takes."""
    known = {
        "console", "disable_code", "disable_git", "host", "x_disable_machine_info", "x_disable_meta", "x_disable_stats",
        "x_save_requirements",
    }  # fmt: skip
    module: Any = types.ModuleType("wandb")

    class Run:
        def __init__(self, **options: Any) -> None:
            json.dumps(options["config"])
            self.options, self.logged, self.exit_code = options, dict[str, float](), None

        def log(self, data: dict[str, float]) -> None:
            self.logged.update(data)

        def finish(self, exit_code: int) -> None:
            self.exit_code = exit_code  # type: ignore[assignment]

    def settings(**named: Any) -> dict[str, Any]:
        assert named.keys() <= known
        return named

    def init(
        *, project: str, name: str, mode: str | None, config: dict[str, Any], reinit: str, settings: dict[str, Any]
    ) -> Run:
        module.run = Run(project=project, name=name, mode=mode, config=config, reinit=reinit, settings=settings)
        return module.run  # type: ignore[no-any-return]

    module.Settings, module.init = settings, init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """As much of MLflow's package as is called, as strict as its client, its server and its file store together."""
    module: Any = types.ModuleType("mlflow")
    entities: Any = types.ModuleType("mlflow.entities")
    module.experiments = dict[str, str]()

    class Client:
        def __init__(self, tracking_uri: str | None) -> None:
            module.client, self.uri = self, tracking_uri
            self.metrics, self.params, self.status = dict[str, float](), dict[str, str](), "RUNNING"

        def get_experiment_by_name(self, name: str) -> Any:
            found = module.experiments.get(name)
            return None if found is None else types.SimpleNamespace(experiment_id=found)

        def create_experiment(self, name: str) -> str:
            assert name not in module.experiments
            module.experiments[name] = f"id of {name}"
            return f"id of {name}"

        def create_run(self, experiment_id: str, run_name: str) -> Any:
            self.run_name, self.experiment_id = run_name, experiment_id
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="the run"))

        def log_batch(self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
            assert run_id == "the run"
            assert len(metrics) <= 1000
            assert len(params) <= 100
            for name, value, timestamp, step in metrics:
                assert re.fullmatch(r"[/\w.\- ]*", name)
                assert isinstance(timestamp, int)
                assert step == 0
                self.metrics[name] = value
            folders = {name.rpartition("/")[0] for name in self.metrics}
            assert not folders & self.metrics.keys()
            self.params.update(params)

        def set_terminated(self, run_id: str, status: str) -> None:
            assert run_id == "the run"
            self.status = status

    module.MlflowClient, module.entities = Client, entities
    entities.Metric, entities.Param = (lambda *fields: fields), (lambda *fields: fields)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """As much of trackio's package as is called; like it, it prints."""
    module: Any = types.ModuleType("trackio")

    class Run:
        def __init__(self, **options: Any) -> None:
            json.dumps(options["config"])
            self.options, self.logged, self.finished = options, dict[str, float](), False

        def log(self, metrics: dict[str, float]) -> None:
            self.logged.update(metrics)

    def init(
        *, project: str, name: str, config: dict[str, Any], embed: bool, auto_log_cpu: bool, auto_log_gpu: bool
    ) -> Run:
        sys.stdout.write(f"* Trackio project initialized: {project}\n")
        assert (embed, auto_log_cpu, auto_log_gpu) == (False, False, False)
        module.run = Run(project=project, name=name, config=config)
        return module.run  # type: ignore[no-any-return]

    def finish() -> None:
        sys.stdout.write("* Run finished.\n")
        module.run.finished = True

    module.init, module.finish = init, finish
    monkeypatch.setitem(sys.modules, "trackio", module)
    return module  # type: ignore[no-any-return]


class TestThroughTheirPackages:
    """The calls that were seen to work with the packages themselves; see the tests below where those are installed."""

    def test_wandb(self, wandb: Any, sketch: Dataset, logged: dict[str, float]) -> None:
        run(sketch, load_tracker("wandb:lungs", name="first", mode="offline"))
        options = wandb.run.options
        assert (options["project"], options["name"], options["mode"]) == ("lungs", "first", "offline")
        assert options["reinit"] == "create_new"
        assert options["config"].keys() == {"model", "dataset", "suite", "settings"}
        assert options["settings"]["console"] == "off"
        assert wandb.run.logged == logged
        assert wandb.run.exit_code == 0

    def test_wandb_is_told_of_a_failure(self, wandb: Any, plain: RunResults) -> None:
        tracker = load_tracker("wandb")
        tracker.run_started(RunStart({"name": "m"}, {}, {}, {}))
        tracker.run_ended(WronglungError("no"))
        assert wandb.run.exit_code == 1

    def test_mlflow(self, mlflow: Any, sketch: Dataset, logged: dict[str, float]) -> None:
        for name in ("first", "second"):
            run(sketch, load_tracker("mlflow:lungs", uri="sqlite:///here.db", name=name))
            client = mlflow.client
            assert (client.uri, client.experiment_id, client.run_name) == ("sqlite:///here.db", "id of lungs", name)
            assert client.metrics == {metric_name(key): value for key, value in logged.items()}
            assert client.params["model.name"] == "oracle"
            assert client.params["dataset.fingerprint"] == sketch.fingerprint
            assert client.status == "FINISHED"

    def test_mlflow_gets_no_more_at_once_than_it_takes(self, mlflow: Any, plain: RunResults) -> None:
        tracker = MLflow()
        tracker.run_started(RunStart({"name": "m", "settings": {f"s{n}": n for n in range(250)}}, {}, {}, {}))
        tracker.cells_done([plain.scores[0].model_copy(update={"subset": f"s{n}"}) for n in range(2500)])
        assert len(mlflow.client.params) == 251
        assert len(mlflow.client.metrics) == 2500

    @pytest.mark.parametrize(("error", "state"), [(ValueError(), "FAILED"), (KeyboardInterrupt(), "KILLED")])
    def test_mlflow_is_told_of_a_failure(self, error: BaseException, state: str, mlflow: Any) -> None:
        tracker = load_tracker("mlflow")
        tracker.run_started(RunStart({"name": "m"}, {}, {}, {}))
        tracker.run_ended(error)
        assert mlflow.client.status == state

    def test_trackio(
        self, trackio: Any, sketch: Dataset, logged: dict[str, float], capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(sketch, load_tracker("trackio:lungs"))
        assert (trackio.run.options["project"], trackio.run.options["name"]) == ("lungs", "oracle")
        assert trackio.run.logged == logged
        assert trackio.run.finished
        assert capsys.readouterr().out == ""

    def test_nothing_of_the_data_is_logged(
        self, wandb: Any, mlflow: Any, trackio: Any, sketch: Dataset, tmp_path: Path
    ) -> None:
        run(sketch, *(load_tracker(name) for name in ("wandb", "mlflow", "trackio")), TensorBoard(tmp_path))
        said = repr([vars(wandb.run), vars(mlflow.client), vars(trackio.run)]).encode()
        said += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"oracle" in said
        for one in sketch.instances:
            for secret in (one.id, one.image_id, one.study_id, one.patient_id, one.sentence):
                assert secret is None or secret.encode() not in said


class TestTensorBoard:
    def test_writes_scalars_settings_and_the_end(
        self, sketch: Dataset, tmp_path: Path, logged: dict[str, float]
    ) -> None:
        run(sketch, load_tracker("tensorboard", folder=str(tmp_path)))
        events = read_events(tmp_path / "oracle")
        assert {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]} == pytest.approx(logged)
        assert {len(events.Scalars(tag)) for tag in events.Tags()["scalars"]} == {1}
        assert f"| dataset.fingerprint | {sketch.fingerprint} |" in text_of(events, "settings")
        assert text_of(events, "status") == "complete"

    def test_says_what_stopped_a_run(self, tmp_path: Path) -> None:
        tracker = TensorBoard(tmp_path)
        tracker.run_started(RunStart({"name": "org/model:v1 (é)"}, {}, {}, {}))
        tracker.run_ended(ValueError("instance 3"))
        assert [path.name for path in tmp_path.iterdir()] == ["org-model-v1-é"]
        assert text_of(read_events(tmp_path / "org-model-v1-é"), "status") == "failed: ValueError"

    def test_every_run_has_a_folder_of_its_own(self, tmp_path: Path) -> None:
        for name in ("a", "a", "../a", "..", "a"):
            tracker = TensorBoard(tmp_path / "runs", name)
            tracker.run_started(RunStart({"name": "m"}, {}, {}, {}))
            tracker.run_ended(ValueError())
        assert {path.name for path in (tmp_path / "runs").iterdir()} == {"a", "a-2", "a-3", "a-4", "run"}
        assert [path.name for path in tmp_path.iterdir()] == ["runs"]

    def test_a_folder_that_cannot_be_made_is_a_warning(self, sketch: Dataset, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = run(sketch, TensorBoard(tmp_path / "file")).run
        assert done.manifest.warnings == ["tracker tensorboard failed when the run started: NotADirectoryError"]


def read_events(folder: Path) -> Any:
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    events = module.EventAccumulator(str(folder))
    events.Reload()
    return events


def text_of(events: Any, tag: str) -> str:
    return str(events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode())


class TestTheirPackages:
    """The packages themselves, where they are installed, without a network."""

    def test_wandb(self, sketch: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wandb = pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        monkeypatch.setenv("WANDB_SILENT", "true")
        assert run(sketch, load_tracker("wandb", mode="offline")).run.manifest.warnings == []
        # Some versions write the last of a file when their service stops.
        wandb.teardown()
        (written,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
        assert b"random_sentences/all/auroc/delta" in written.read_bytes()

    def test_mlflow(self, sketch: Dataset, tmp_path: Path, logged: dict[str, float]) -> None:
        client = pytest.importorskip("mlflow").MlflowClient
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        assert run(sketch, load_tracker("mlflow", uri=uri)).run.manifest.warnings == []
        reader = client(uri)
        (found,) = reader.search_runs([reader.get_experiment_by_name("wronglung").experiment_id])
        assert found.data.metrics == {metric_name(key): value for key, value in logged.items()}
        assert found.info.status == "FINISHED"

    def test_trackio(
        self, sketch: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: dict[str, float]
    ) -> None:
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
        pytest.importorskip("trackio")
        assert run(sketch, load_tracker("trackio")).run.manifest.warnings == []
        with sqlite3.connect(tmp_path / "wronglung.db") as database:
            (row,) = database.execute("select metrics from metrics")
        assert json.loads(row[0]) == logged


class TestLoading:
    def test_all_that_are_built_in_are_listed_with_what_they_need(self) -> None:
        rows = {row.name: row.missing for row in TRACKERS.listed()}
        assert list(rows) == ["tensorboard", "wandb", "mlflow", "trackio"]
        assert rows["tensorboard"] == "folder=..."

    @pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
    def test_one_that_is_not_installed_names_its_extra(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(WronglungError, match=rf'{name}\' is not installed: pip install "wronglung\[{name}\]"'):
            load_tracker(name)

    def test_none_stands_in_for_another(self, trackio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(WronglungError, match="'wandb' is not installed"):
            load_tracker("wandb")
        assert not hasattr(trackio, "run")

    @pytest.mark.parametrize(
        ("names", "arguments", "message"),
        [
            (["tensorbord"], [], "unknown tracker 'tensorbord'; did you mean tensorboard?"),
            (["tensorboard"], [], "folder: is missing (arguments: folder, name)"),
            (["tensorboard:a"], ["tensorboard.colour=red"], "colour: unknown key"),
            (["tensorboard:a", "tensorboard:b"], [], "'tensorboard' is given twice"),
            (["tensorboard:a"], ["wandb.project=x"], "there is no --tracker wandb"),
            (["tensorboard:a"], ["name=x"], "write it as NAME.KEY=VALUE"),
            (["tensorboard:a"], ["tensorboard.=x"], "write it as NAME.KEY=VALUE"),
            (["tensorboard:a"], ["tensorboard.name"], "write it as NAME.KEY=VALUE"),
            ([], ["tensorboard.name=x"], "there is no --tracker tensorboard"),
        ],
    )
    def test_bad_options_are_refused(self, names: list[str], arguments: list[str], message: str) -> None:
        with pytest.raises(WronglungError, match=re.escape(message)):
            load_trackers(names, arguments)

    def test_arguments_go_to_their_tracker(self, wandb: Any, trackio: Any) -> None:
        one, other = load_trackers(["wandb", "trackio:b"], ["wandb.project=a=b", "trackio.name=n"])
        start = RunStart({"name": "m"}, {}, {}, {})
        one.run_started(start)
        other.run_started(start)
        assert (wandb.run.options["project"], wandb.run.options["name"]) == ("a=b", "m")
        assert (trackio.run.options["project"], trackio.run.options["name"]) == ("b", "n")

    @pytest.fixture
    def mine(self, tmp_path: Path) -> Path:
        file = tmp_path / "mine.py"
        file.write_text(
            "from pathlib import Path\n"
            "class Mine:\n"
            "    name = 'mine'\n"
            "    def __init__(self, file_name: Path, broken: bool = False):\n"
            "        if broken: raise ValueError('no such luck')\n"
            "        self.file_name = file_name\n"
            "    def run_started(self, start): self.file_name.write_text(start.model['name'])\n"
            "    def cells_done(self, scores): pass\n"
            "    def run_ended(self, outcome): pass\n"
            "def none_at_all(): return object()\n"
        )
        return file

    def test_one_from_a_file(self, mine: Path, tmp_path: Path, sketch: Dataset) -> None:
        name, out = f"{mine}:Mine", tmp_path / "said.txt"
        run(sketch, *load_trackers([name], [f"{name}.file-name={out}"]))
        assert out.read_text() == "oracle"
        with pytest.raises(WronglungError, match="cannot be made: ValueError: no such luck"):
            load_tracker(name, file_name=out, broken=True)
        with pytest.raises(WronglungError, match="is not a tracker"):
            load_tracker(f"{mine}:none_at_all")

    def test_the_one_in_the_documentation(self, tmp_path: Path, sketch: Dataset, plain: RunResults) -> None:
        page = (Path(__file__).parent.parent / "docs" / "tracking.md").read_text(encoding="utf-8")
        (tmp_path / "notes.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1], encoding="utf-8")
        run(sketch, load_tracker(f"{tmp_path / 'notes.py'}:Notes", file=tmp_path / "notes.txt"))
        auroc = scalars(plain.scores)["original/all/auroc"]
        said = f"oracle on {sketch.name}: original/all/auroc {auroc} (complete)\n"
        assert (tmp_path / "notes.txt").read_text() == said

    def test_one_from_another_package(self, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[wronglung.trackers]\nnotes = mine:Mine\n")
        assert [row.origin for row in TRACKERS.listed() if row.name == "notes"] == ["theirs"]
        tracker: Any = load_tracker(f"notes:{tmp_path / 'said.txt'}")
        assert tracker.file_name == tmp_path / "said.txt"


def wronglung(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """Run a command in this process: standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["wronglung", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


class TestCommandLine:
    @pytest.fixture
    def common(self, sketch_file: Path, tmp_path: Path) -> tuple[str | Path, ...]:
        data = ("-d", "jsonl", "--data-root", sketch_file)
        return ("run", "-m", "oracle", *data, "-s", "smoke", "-o", tmp_path / "run", "--quiet", "--json")

    def test_a_tracked_run(self, common: tuple[str | Path, ...], tmp_path: Path, trackio: Any) -> None:
        asked = ("--tracker", f"tensorboard:{tmp_path / 'tb'}", "--tracker", "trackio")
        out, err = wronglung(*common, *asked, "--tracker-arg", "tensorboard.name=mine")
        assert json.loads(out)["manifest"]["warnings"] == []
        assert "* Trackio project initialized" in err
        assert [path.name for path in (tmp_path / "tb").iterdir()] == ["mine"]

    def test_a_failing_tracker_is_on_record(self, common: tuple[str | Path, ...], tmp_path: Path) -> None:
        (tmp_path / "tb").touch()
        _, err = wronglung(*common, "--tracker", f"tensorboard:{tmp_path / 'tb'}")
        recorded = "tracker tensorboard failed when the run started"
        assert load_run(tmp_path / "run").manifest.warnings == [f"{recorded}: NotADirectoryError"]
        assert err.count("\n") == 1
        assert err.startswith(f"wronglung: {recorded} (NotADirectoryError: ")

    def test_one_that_is_not_installed_is_refused_before_anything_is_read(
        self, common: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "wandb", None)
        out, err = wronglung(
            *common[:5], "--data-root", tmp_path / "nowhere", *common[7:], "--tracker", "wandb", code=2
        )
        assert out == ""
        assert err.startswith("wronglung: tracker 'wandb' is not installed: pip install \"wronglung[wandb]\"")

    def test_they_are_listed_and_shown(self) -> None:
        assert "tensorboard" in wronglung("list", "trackers")[0]
        shown = wronglung("show", "mlflow")[0]
        assert shown.startswith("tracker mlflow\n")
        assert "uri: str | None = None" in shown
