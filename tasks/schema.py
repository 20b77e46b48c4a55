"""Tasks and suites as data: strict YAML, checked before any model is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from ..benchmark.arguments import check_arguments, named_parameters
from ..benchmark.errors import WronglungError, explain
from ..benchmark.metrics.catalogue import ONLY_FOR, find_metric
from ..benchmark.registry import PERTURBATIONS, SENTENCES, SUBSETS, Listed, Registry
from ..benchmark.safe_yaml import read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(BaseModel):
    """A registered function by name, with values for its parameters: ``name`` or ``{name: ..., parameter: value}``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.model_extra or {}


def _call(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Named = Annotated[Call, BeforeValidator(_call)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


class TaskSpec(_Strict):
    """One perturbation (or none) of one sentence source."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    version: Version
    """X.Y: results with another X are not comparable."""
    title: str
    sentences: Named
    perturbation: Named | None = None
    expected: Literal["decrease", "unchanged", "report"]
    """What localization should do under the perturbation if the model reads the text."""
    citation: str = ""
    description: str = ""


class Protocol(_Strict):
    """How maps and boxes are compared."""

    frame: Literal["model", "image"] = "model"
    """``model``: the model's input frame, boxes mapped into it, as the paper does. ``image``: maps are carried back to
    the image's own frame, so that encoders with different crops are comparable; pixels never seen rank last."""
    resolution: Annotated[int, Field(ge=16, le=4096)] = 224
    """Pixels on the long side of the scoring grid when ``frame`` is ``image``."""
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    """``bilinear`` is without aligned corners."""
    box_edges: Literal["exclusive", "inclusive"] = "exclusive"
    """Whether x2 and y2 are edges, or the last pixel that belongs to the box, as in the authors' code."""
    targets: Literal["masks", "boxes"] = "masks"
    """``masks``: a region that the dataset segments is its pixels, any other its box. ``boxes``: always its box."""
    definitions: Literal["exact", "released"] = "exact"
    """``exact``: tied pixels are shared fractionally. ``released``: the thresholds and the entropy of the authors' code."""
    draws: Annotated[int, Field(ge=1, le=100)] = 1
    """Independent random draws per instance; averaged within the instance before anything else."""


class SuiteSpec(_Strict):
    """Tasks × subsets × metrics with protocol settings."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    version: Version
    description: str
    citation: str = ""
    protocol: Protocol = Protocol()
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    subsets: Annotated[tuple[Named, ...], Field(min_length=1)]
    metrics: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=1)]
    correlations: tuple[str, ...] = ()
    """Quantities whose pairwise Pearson correlations over the instances of the first task are reported."""

    @model_validator(mode="after")
    def _coherent(self, info: ValidationInfo) -> SuiteSpec:
        """With the context ``{"recorded": True}``, metrics of packages that are not installed are let through."""
        for what, names in (
            ("task", [task.name for task in self.tasks]),
            ("subset", [subset.name for subset in self.subsets]),
            ("metric", list(self.metrics)),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is listed twice")
        for name in (*self.metrics, *self.correlations):
            if name != "is_abnormal" and not (info.context or {}).get("recorded"):
                _known(name)
        tasks = {task.name for task in self.tasks}
        for metric in self.metrics:
            if metric in ONLY_FOR and ONLY_FOR[metric] not in tasks:
                raise ValueError(f"metric {metric!r} needs the task {ONLY_FOR[metric]!r}")
        bases = {task.sentences for task in self.tasks if task.perturbation is None}
        for task in self.tasks:
            if task.sentences not in bases:
                raise ValueError(f"task {task.name!r} needs an unperturbed task of the same sentences")
        return self

    def base_of(self, task: TaskSpec) -> TaskSpec:
        """The unperturbed task of the same sentence source."""
        return next(one for one in self.tasks if one.perturbation is None and one.sentences == task.sentences)


def _known(metric: str) -> None:
    try:
        find_metric(metric)
    except WronglungError as error:
        # What pydantic turns into a complaint about a key.
        raise ValueError(str(error)) from error


def bind(registry: Registry, call: Call, where: str) -> Callable[..., Any]:
    """The registered function of a call with its parameters filled in and checked.

    Raises :class:`WronglungError` naming ``where`` for an unknown name, an unknown parameter or a wrong value.
    """
    try:
        function = registry.get(call.name)
    except WronglungError as error:
        raise WronglungError(f"{where}: {error}") from error
    names = named_parameters(function, {inspect.Parameter.KEYWORD_ONLY})
    values = check_arguments(function, call.parameters, names, f"{where}: {registry.kind} {call.name!r}")
    return partial(function, **values)


def check_functions(suite: SuiteSpec, where: str) -> None:
    """Resolve every function that a suite names, so that mistakes show before a model is loaded."""
    for task in suite.tasks:
        bind(SENTENCES, task.sentences, f"{where}: task {task.name!r}")
        if task.perturbation is not None:
            bind(PERTURBATIONS, task.perturbation, f"{where}: task {task.name!r}")
    for subset in suite.subsets:
        bind(SUBSETS, subset, where)


def load_task(name: str) -> TaskSpec:
    """A task by name or by path to a YAML file."""
    path = _find("task", name)
    return _validate(TaskSpec, read_yaml(path), str(path))


def load_suite(name: str) -> SuiteSpec:
    """A suite by name or by path to a YAML file; its tasks may be names, paths or definitions in place.

    Raises :class:`WronglungError` citing the file and key of what is wrong.
    """
    path = _find("suite", name)
    raw = read_yaml(path)
    tasks = raw.get("tasks")
    if isinstance(tasks, list):
        folder = path.parent if isinstance(path, Path) else None
        raw["tasks"] = [_inline_task(task, folder, f"{path}: tasks.{at}") for at, task in enumerate(tasks)]
    suite = _validate(SuiteSpec, raw, str(path))
    check_functions(suite, str(path))
    return suite


def list_definitions(kind: Literal["task", "suite"]) -> list[Listed]:
    """The built-in tasks or suites, and those that other packages bring."""
    load: Callable[[str], TaskSpec | SuiteSpec] = load_task if kind == "task" else load_suite
    names = sorted(Path(one.name).stem for one in (files(__package__) / _FOLDERS[kind]).iterdir())
    rows = []
    for name in names:
        spec = load(name)
        rows.append(Listed(name, "wronglung", spec.title if isinstance(spec, TaskSpec) else spec.description))
    plugins = sorted(entry_points(group=f"wronglung.{kind}s"), key=lambda one: one.name)
    return rows + [Listed(one.name, one.dist.name if one.dist else "unknown package", one.value) for one in plugins]


_FOLDERS = {"task": "definitions", "suite": "suites"}
_Spec = TypeVar("_Spec", bound=BaseModel)


def _find(kind: Literal["task", "suite"], name: str) -> Any:
    """Where a definition is: a path given as such, a built-in file, or the path that an entry point holds."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise WronglungError(f"{kind}: no file {path}")
        return path
    builtin = files(__package__) / _FOLDERS[kind] / f"{name}.yaml"
    if builtin.is_file():
        return builtin
    points = [point for point in entry_points(group=f"wronglung.{kind}s") if point.name == name]
    if points:
        return Path(points[0].load())
    known = ", ".join(row.name for row in list_definitions(kind))
    raise WronglungError(f"unknown {kind} {name!r}; known: {known}, or a path to a .yaml file")


def _inline_task(task: Any, folder: Path | None, where: str) -> Any:
    if not isinstance(task, str):
        return task
    if folder is not None and task.endswith((".yaml", ".yml")):
        task = str(folder / task)
    try:
        return load_task(task)
    except WronglungError as error:
        raise WronglungError(f"{where}: {error}") from error


def _validate(model: type[_Spec], raw: Mapping[str, Any], where: str) -> _Spec:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise WronglungError(f"{where}: {explain(error)}") from error
