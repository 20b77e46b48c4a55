"""All targets by name."""

from __future__ import annotations

from . import checkpoints, datasets, maps, runs, texts

TARGETS = {one.name: one for module in (datasets, runs, texts, maps, checkpoints) for one in module.TARGETS}
