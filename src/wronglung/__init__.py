"""wronglung: does an image-text encoder look where the sentence says, and does it move when the sentence changes?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters.callables import from_functions
    from .adapters.occlusion import occlusion
    from .benchmark.datasets import load_dataset
    from .benchmark.evaluation import evaluate, load_model, load_suite
    from .benchmark.instances import Box, Dataset, Finding, ImageRef, Instance
    from .benchmark.protocol import Alignment, AlignmentModel, DualEncoder, Features, Geometry, ModelCard, Preprocessed
    from .benchmark.results import Results

# Names are imported when first used, so that `import wronglung` costs nothing.
_HOMES = {
    "adapters.callables": ("from_functions",),
    "adapters.occlusion": ("occlusion",),
    "benchmark.datasets": ("load_dataset",),
    "benchmark.evaluation": ("evaluate", "load_model", "load_suite"),
    "benchmark.instances": ("Box", "Dataset", "Finding", "ImageRef", "Instance"),
    "benchmark.protocol": (
        "Alignment",
        "AlignmentModel",
        "DualEncoder",
        "Features",
        "Geometry",
        "ModelCard",
        "Preprocessed",
    ),
    "benchmark.results": ("Results",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 (grouped by module)
    "load_dataset",
    "evaluate",
    "load_model",
    "load_suite",
    "from_functions",
    "occlusion",
    "Box",
    "Dataset",
    "Finding",
    "ImageRef",
    "Instance",
    "Alignment",
    "AlignmentModel",
    "DualEncoder",
    "Features",
    "Geometry",
    "ModelCard",
    "Preprocessed",
    "Results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
