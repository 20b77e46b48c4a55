"""MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..results import RunResults, Score
from .protocol import RunStart, scalars

METRICS_A_CALL, PARAMETERS_A_CALL = 1000, 100
"""What a tracking server takes at once (MLflow's REST API, "Request Limits")."""


class MLflow:
    """A run in MLflow, with the settings as its parameters and a metric a cell.

    ``uri`` is the tracking server or database, such as ``http://localhost:5000`` or ``sqlite:///mlflow.db``; by default
    ``MLFLOW_TRACKING_URI``, else MLflow's own default. ``name`` is the run's, by default the model's. Metrics are called as
    in other trackers, but for what MLflow refuses in a name: ``precision@5`` becomes ``precision_at_5``; and deltas end in
    ``.delta``, because its file store has no folder beside a file of the same name.
    """

    name = "mlflow"

    def __init__(self, experiment: str = "wronglung", uri: str | None = None, name: str | None = None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._connect, self._metric, self._parameter = MlflowClient, Metric, Param
        self._experiment, self._uri, self._run_name = experiment, uri, name
        self._client: MlflowClient
        self._run: str

    def run_started(self, start: RunStart) -> None:
        self._client = self._connect(tracking_uri=self._uri)
        experiment = self._client.get_experiment_by_name(self._experiment)
        run = self._client.create_run(
            self._client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id,
            run_name=self._run_name or start.model["name"],
        )
        self._run = run.info.run_id
        parameters = [self._parameter(key, value) for key, value in start.flat().items()]
        for at in range(0, len(parameters), PARAMETERS_A_CALL):
            self._client.log_batch(self._run, params=parameters[at : at + PARAMETERS_A_CALL])

    def cells_done(self, scores: Sequence[Score]) -> None:
        now = round(time.time() * 1000)
        metrics = [self._metric(metric_name(name), value, now, 0) for name, value in scalars(scores).items()]
        for at in range(0, len(metrics), METRICS_A_CALL):
            self._client.log_batch(self._run, metrics=metrics[at : at + METRICS_A_CALL])

    def run_ended(self, outcome: RunResults | BaseException) -> None:
        stopped = isinstance(outcome, KeyboardInterrupt)
        failed = isinstance(outcome, BaseException)
        self._client.set_terminated(self._run, "KILLED" if stopped else "FAILED" if failed else "FINISHED")


def metric_name(name: str) -> str:
    """A scalar's name as MLflow takes it."""
    cell = name.removesuffix("/delta")
    return cell.replace("@", "_at_") + (".delta" if cell != name else "")
