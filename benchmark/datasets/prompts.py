"""Class prompts: sentences for datasets that have labels and no text. Labels, phrases and templates are data (prompts.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from ..errors import WronglungError


class Prompts(BaseModel):
    """``templates`` by name, and by dataset the phrase that goes into them for each of its labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    templates: Mapping[str, str]
    phrases: Mapping[str, Mapping[str, str]]


@lru_cache(maxsize=1)
def load_prompts() -> Prompts:
    """The prompts that come with the package."""
    text = files(__package__).joinpath("prompts.yaml").read_text(encoding="utf-8")
    return Prompts.model_validate(yaml.safe_load(text))


def phrases(dataset: str) -> Mapping[str, str]:
    """The phrase of each label of a dataset, in its own order, for example "pleural effusion" of "Effusion"."""
    return load_prompts().phrases[dataset]


def template(prompt: str) -> str:
    """The text of a prompt: a template by name, or a text of the user's own with ``{finding}`` in it.

    Raises :class:`WronglungError` for a name that is not known and a text that has no place for the finding.
    """
    known = load_prompts().templates
    text = known.get(prompt, prompt)
    if text.count("{finding}") != 1:
        raise WronglungError(
            f"prompt={prompt!r}: must be one of {', '.join(known)}, or a sentence with {{finding}} once in it"
        )
    return text


def render(text: str, phrase: str) -> str:
    """The sentence of a template (:func:`template`) for a phrase; its first letter is a capital."""
    sentence = text.replace("{finding}", phrase)
    return sentence[:1].upper() + sentence[1:]
