"""Trackers: thin optional hooks that log a run elsewhere, each behind an extra of its own. A built-in tracker is one line here.

A tracker is a class whose constructor takes typed arguments and imports what it needs; see :class:`.protocol.Tracker`.
"""

from __future__ import annotations

from ..registry import Entry

CATALOGUE = {
    "tensorboard": Entry(
        "wronglung.benchmark.trackers.tensorboard:TensorBoard",
        "event files in a folder",
        module=("tensorboard", "tensorboard"),
        asks=("folder",),
    ),
    "wandb": Entry(
        "wronglung.benchmark.trackers.wandb:WeightsAndBiases",
        "Weights & Biases, online or offline",
        module=("wandb", "wandb"),
    ),
    "mlflow": Entry(
        "wronglung.benchmark.trackers.mlflow:MLflow", "an MLflow server or database", module=("mlflow", "mlflow")
    ),
    "trackio": Entry(
        "wronglung.benchmark.trackers.trackio:Trackio", "trackio's local database", module=("trackio", "trackio")
    ),
}
