"""Instances of collections that have labels and no text: one for each image and label, with a class prompt as sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..instances import Box, Finding, ImageRef, Instance
from .prompts import phrases, render, template
from .rules import Ledger


def label_sentences(dataset: str, prompt: str) -> Callable[[str], str]:
    """A function from a label to its sentence, by the phrases of ``dataset`` and the template ``prompt``.

    Labels are compared without regard to case; one that is not listed is its own phrase, in lower case. Raises
    :class:`WronglungError` for a prompt that is no template.
    """
    text = template(prompt)
    known = {label.lower(): phrase for label, phrase in phrases(dataset).items()}
    return lambda label: render(text, known.get(label.lower(), label.lower()))


def label_instance_id(image_id: str, label: str) -> str:
    """``<image id>_<label>``, the label in lower case with hyphens for blanks and underscores, so that it can be told apart."""
    return f"{image_id}_{'-'.join(label.lower().replace('_', ' ').split())}"


def label_instance(
    image: ImageRef,
    label: str,
    boxes: Sequence[Box],
    sentence: Callable[[str], str],
    ledger: Ledger,
    *,
    study_id: str | None = None,
    patient_id: str | None = None,
    split: str | None = None,
) -> Instance | None:
    """The instance of a label that is present on an image, or None (with an entry) where no box is left.

    Equal boxes become one, with an entry.
    """
    where = label_instance_id(image.id, label)
    unique = tuple(dict.fromkeys(boxes))
    if len(unique) < len(boxes):
        ledger.repair("duplicate_row", where, f"{len(boxes) - len(unique)} boxes given twice")
    if not unique:
        ledger.drop("no_valid_box", where)
        return None
    finding = Finding(label.lower(), "yes", "")
    return Instance(where, image, sentence(label), unique, (finding,), study_id, patient_id, split)
