"""Instances of collections that have labels and no text: one for each image and label, with a class prompt as sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..instances import Box, Finding, ImageRef, Instance
from .prompts import phrases, render, template
from .rules import Ledger


@dataclass(frozen=True, slots=True)
class ClassPrompts:
    """The sentences of a dataset's labels. Labels are compared without regard to case."""

    template: str
    phrases: Mapping[str, str]

    def phrase(self, label: str) -> str:
        """What stands in the sentence for a label; one that is not listed stands for itself, in lower case."""
        return self.phrases.get(label.lower(), label.lower())

    def sentence(self, label: str) -> str:
        return render(self.template, self.phrase(label))

    def name(self, label: str) -> str:
        """What a box of the label shows: its phrase, so that the sentence names it, without an article."""
        phrase = self.phrase(label)
        return next((phrase.removeprefix(one) for one in ("a ", "an ") if phrase.startswith(one)), phrase)


def class_prompts(dataset: str, prompt: str) -> ClassPrompts:
    """The prompts of ``dataset`` with the template ``prompt``.

    Raises :class:`WronglungError` for a prompt that is no template.
    """
    return ClassPrompts(template(prompt), {label.lower(): phrase for label, phrase in phrases(dataset).items()})


def label_instance_id(image_id: str, label: str) -> str:
    """``<image id>_<label>``, the label in lower case with hyphens for blanks and underscores, so that it can be told apart."""
    return f"{image_id}_{'-'.join(label.lower().replace('_', ' ').split())}"


def label_instance(
    image: ImageRef,
    label: str,
    boxes: Sequence[Box],
    prompts: ClassPrompts,
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
    return Instance(where, image, prompts.sentence(label), unique, (finding,), study_id, patient_id, split)
