"""What the paper's tables and figures hold, as data: ``layouts.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...benchmark.errors import WronglungError, explain
from ...benchmark.safe_yaml import read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Print(_Strict):
    """How a metric is printed."""

    heading: str
    times: Literal[1, 100] = 100
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    published: str | None = None
    """Its name among the published figures, where that is another."""


class Quantity(_Strict):
    """One of the quantities that are correlated."""

    heading: str
    published: str | None = None


class Layout(_Strict):
    """A table or a figure.

    ``table``: the values of ``metrics`` under ``task`` by subset, a row a model. ``figure``: their deltas as bars, a panel a
    metric. ``correlations``: a matrix a model. ``sizes``: the instances of each subset, a row a dataset.
    """

    kind: Literal["table", "correlations", "sizes", "figure"]
    title: str
    task: str
    metrics: tuple[str, ...] = ()


class Layouts(_Strict):
    """The content of ``layouts.yaml``."""

    metrics: Mapping[str, Print]
    quantities: Mapping[str, Quantity]
    subsets: Mapping[str, str]
    """Headings of the subsets, in order."""
    layouts: Mapping[str, Layout]

    @model_validator(mode="after")
    def _complete(self) -> Layouts:
        for name, layout in self.layouts.items():
            unknown = [metric for metric in layout.metrics if metric not in self.metrics]
            if unknown:
                raise ValueError(f"layout {name!r}: metric {unknown[0]!r} is not among the metrics")
            if bool(layout.metrics) != (layout.kind in ("table", "figure")):
                raise ValueError(f"layout {name!r}: tables and figures have metrics, others have none")
        return self


@cache
def load_layouts() -> Layouts:
    """The package's layouts; read once a process."""
    path = files(__package__) / "layouts.yaml"
    try:
        return Layouts.model_validate(read_yaml(path))
    except ValidationError as error:
        raise WronglungError(f"{path}: {explain(error)}") from error


def find_layout(name: str) -> Layout:
    """The layout of a name; raises :class:`WronglungError` for an unknown one."""
    layouts = load_layouts().layouts
    if name not in layouts:
        raise WronglungError(f"no table or figure {name!r} in the paper; known: {', '.join(layouts)}")
    return layouts[name]
