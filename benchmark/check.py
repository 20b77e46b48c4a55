"""Does an adapter keep the protocol, and do its maps mean what it says? Asked on generated images.

``wronglung check`` on the command line, the fixture ``wronglung_check`` (:mod:`.pytest_plugin`) in tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .conformance import answers, inputs, invariance, lifetime, material, moving_patch, polarity, precision
from .conformance.subject import Outcome, Subject, Verdict, failed, not_shown
from .errors import WronglungError
from .protocol import DatasetAware

TOLERANCE = 1e-4
"""Largest difference, relative to the largest value, that is still rounding in float32."""
COARSE = 0.02
"""The same where encoders compute in 16 bits."""


@dataclass(frozen=True)
class Check:
    """One check's outcome, what was seen, why it matters, and what to do where it fails.

    ``outcome`` is "passed", "failed", or "not shown" where the model gives no occasion to tell; ``detail`` then says why.
    """

    name: str
    outcome: Outcome
    detail: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Rule:
    """A test with its name, why it matters, and how to mend what fails it."""

    name: str
    test: Callable[[Subject], Verdict]
    reason: str
    fix: str


RULES = (
    Rule(
        "shapes, finite values",
        answers.well_formed,
        "nothing else can be computed from an answer of another form",
        "return an Alignment: saliency [batch, rows, columns] and similarities [batch], floating, finite, and a Geometry "
        "for each image",
    ),
    Rule(
        "map kind",
        answers.map_kind,
        "entropy and divergence need a map's mass",
        'divide by the sum, or declare map_kind="score" with mass="clip" or "softmax" and a temperature',
    ),
    Rule(
        "deterministic",
        invariance.deterministic,
        "a figure that cannot be repeated cannot be compared",
        "put networks into eval(), and draw nothing",
    ),
    Rule(
        "random state",
        invariance.random_state,
        "who draws from a global generator changes what others draw",
        "draw from a generator of your own, or inside torch.random.fork_rng()",
    ),
    Rule(
        "batch invariance",
        invariance.batch,
        "scores must not depend on the batch size, nor on what else a dataset holds",
        "normalise within a pair only; encode one by one where padding cannot be masked",
    ),
    Rule(
        "order invariance",
        invariance.order,
        "scores must not depend on the order of a dataset",
        "keep no state from pair to pair",
    ),
    Rule(
        "padding",
        invariance.padding,
        "a report's long sentence must not change the map of its short one",
        "mask padding in attention, in means and in maxima, or pad to one fixed length",
    ),
    Rule(
        "paired path equals dual path",
        invariance.paths,
        "both are the same model, and the runner takes the dual path",
        "let align call encode_images, encode_sentences and align_features",
    ),
    Rule(
        "preprocessing apart",
        invariance.preprocessing,
        "the runner prepares images in several threads while the model encodes others",
        "let encode_images call preprocess and encode_preprocessed; write to nothing that threads share",
    ),
    Rule(
        "similarity matrix equals pairs",
        invariance.similarity_matrix,
        "exhaustive selection accuracy reads the matrix, the other one pairs",
        'compute both from the features "global", by one formula',
    ),
    Rule(
        "features",
        lifetime.features,
        "the runner keeps features of thousands of items",
        "return detached tensors without a batch axis, cloned out of their batch; a geometry for images only",
    ),
    Rule(
        "features can be reused",
        lifetime.reuse,
        "an image is encoded once and aligned with many sentences, later and perhaps from another device",
        "do not change features or reuse their buffers; move them to the model's device in align_features",
    ),
    Rule(
        "inputs untouched",
        lifetime.inputs_untouched,
        "images and sentences are used again after the model has seen them",
        "copy before changing: pixels.convert(...), list(sentences)",
    ),
    Rule(
        "gradients",
        lifetime.gradients,
        "a graph that is kept, or gradients that add up, fill the memory",
        "use torch.autograd.grad, and detach what you return",
    ),
    Rule(
        "memory",
        lifetime.memory,
        "a run makes as many calls as a dataset has images",
        "keep nothing from call to call, or bound the cache",
    ),
    Rule(
        "half precision",
        precision.half_precision,
        "large encoders are run in 16 bits",
        "keep norms, softmax and similarities in float32, or refuse the dtype with a WronglungError",
    ),
    Rule(
        "film modes",
        inputs.modes,
        "films come in the mode of their file",
        'start from image.pixels.convert("L") or convert("RGB")',
    ),
    Rule(
        "film shapes",
        inputs.shapes,
        "films are wide and tall",
        "compute the geometry from image.pixels.size, rounding as the resize does",
    ),
    Rule(
        "sentence lengths",
        inputs.sentences,
        "reports have sentences of all lengths",
        "truncate to the model's limit; give a sentence without words a uniform map",
    ),
    Rule(
        "text sensitivity",
        inputs.text_sensitivity,
        "a map that no sentence moves says nothing of the sentence",
        "use the sentence, unless the model is a floor",
    ),
    Rule(
        "image sensitivity",
        inputs.image_sensitivity,
        "a map that no film moves says nothing of the film",
        "use the pixels, unless the model is a floor or knows the boxes",
    ),
    Rule(
        "geometry against a moving patch",
        moving_patch.geometry,
        "boxes are compared at the wrong place where the geometry is wrong, and no figure shows it",
        "state crop, padding and scale as they are, and maps as [rows, columns] with the top left first",
    ),
    Rule(
        "polarity",
        polarity.polarity,
        "in every map a higher value means a stronger alignment",
        "negate the map in the adapter, and say so in the card's saliency_method",
    ),
    Rule(
        "card",
        answers.card,
        "a table shows what the card says, and nothing else tells two models apart",
        "fill in name, saliency_method, preprocessing, and the SHA-256 of the weights as checkpoint",
    ),
)
"""All checks, in the order in which they are run."""


def check_adapter(
    model: Any,
    *,
    rebuild: Callable[[torch.dtype], Any] | None = None,
    tolerance: float = TOLERANCE,
    report: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Run all checks of :data:`RULES`; a check that raises has failed, with the message as its detail.

    ``rebuild`` makes the same model in another dtype, for the comparison with half precision. ``tolerance`` is the
    largest difference, relative to the largest value, that counts as rounding where equal bits cannot be asked for.
    Where answers are not well formed, nothing else is asked. ``report`` is told of each check as it is done.
    """
    dataset = material.dataset()

    def prepared(made: Any) -> Any:
        if isinstance(made, DatasetAware):
            made.prepare(dataset)
        return made

    subject = Subject(
        prepared(model),
        [image for image, _ in material.sketches()],
        list(material.SENTENCES),
        tolerance,
        None if rebuild is None else lambda dtype: prepared(rebuild(dtype)),
    )
    checks = []
    for check in _run(subject):
        if report is not None:
            report(check)
        checks.append(check)
    return checks


def check_named(
    name: str,
    /,
    *,
    device: str = "auto",
    dtype: str = "auto",
    report: Callable[[Check], None] | None = None,
    **arguments: Any,
) -> list[Check]:
    """Make a model as :func:`.evaluation.load_model` does, with these arguments, and run all checks on it.

    Raises :class:`WronglungError` when it cannot be made.
    """
    from .models import load_model, resolve_dtype
    from .registry import MODELS

    def rebuild(other: torch.dtype) -> Any:
        return load_model(name, device=device, dtype=str(other).removeprefix("torch."), **arguments)

    model = load_model(name, device=device, dtype=dtype, **arguments)
    takes_dtype = "dtype" in inspect.signature(MODELS.get(MODELS.split(name)[0])).parameters
    coarse = takes_dtype and resolve_dtype(dtype) != torch.float32
    return check_adapter(
        model,
        rebuild=rebuild if takes_dtype and not coarse else None,
        tolerance=COARSE if coarse else TOLERANCE,
        report=report,
    )


def _run(subject: Subject) -> Iterator[Check]:
    usable = True
    for rule in RULES:
        outcome, detail = _tried(rule.test, subject) if usable else not_shown("answers are not well formed")
        usable = usable and not (rule.test is answers.well_formed and outcome == "failed")
        yield Check(rule.name, outcome, detail, rule.reason, rule.fix)


def _tried(test: Callable[[Subject], Verdict], subject: Subject) -> Verdict:
    try:
        return test(subject)
    except WronglungError as error:
        return failed(str(error))
    except Exception as error:
        return failed(f"raised {type(error).__name__}: {error}")
