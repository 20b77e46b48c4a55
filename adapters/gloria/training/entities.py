"""Clinical entities of a sentence by scispaCy's entity linker (Neumann et al., ScispaCy, BioNLP 2019).

One way, two configurations: a spaCy pipeline marks the mentions of a sentence, and scispaCy's linker gives each its
concept in a knowledge base. Mentions without a concept are dropped.

- ``"umls"``: mentions by one of scispaCy's models (``en_core_sci_lg``, ``_md`` or ``_sm``, the first that is installed),
  concepts of the UMLS, with scispaCy's own settings. Its models are trained to mark structures of the body too, with
  their sides ("right lower lobe").
- ``"radiology"``: mentions by :class:`.mentions.Mentions`, concepts of ``radiology_concepts.jsonl`` beside this file:
  the findings, diseases, tubes, devices, textures and technical assessments of Chest ImaGenome with their synonyms and
  abbreviations, and what else reports name as findings, symptoms or diseases. Structures of the body, sides, zones,
  severity, negation, time and "normal" are no entities here. Masking is to make a model read the rest of the sentence,
  above all the words that say where, so these stay.

Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ....benchmark.errors import WronglungError
from .concept_index import candidate_generator
from .mentions import Mentions
from .umls import UMLS_MODELS, UmlsFiles, installed_model, umls_files, umls_folder, umls_generator

Source = Literal["auto", "umls", "radiology"]

RADIOLOGY_BASE = Path(__file__).with_name("radiology_concepts.jsonl")

_RADIOLOGY_THRESHOLD = 0.8


@dataclass(frozen=True, slots=True)
class Entity:
    """A clinical entity: ``sentence[start:end]``, its concept, and the similarity of the two in (0, 1]."""

    start: int
    end: int
    concept_id: str
    canonical_name: str
    score: float


class ClinicalEntities:
    """Finds the clinical entities of sentences. Made by :func:`load_entities`.

    ``source`` is "umls" or "radiology"; ``description`` names the model, the knowledge base and their versions.
    """

    def __init__(self, source: str, description: str, recognise: Callable[[str], Any], linker: Any) -> None:
        self.source = source
        self.description = description
        self._recognise = recognise
        self._linker = linker

    def spans(self, sentence: str) -> tuple[Entity, ...]:
        """The entities of ``sentence``, sorted, not overlapping; offsets count characters.

        The same sentence gives the same entities in every process, whatever was asked before.
        """
        document = self._linker(self._recognise(sentence))
        found = []
        for mention in document.ents:
            if mention._.kb_ents:
                concept_id, score = mention._.kb_ents[0]
                name = self._linker.kb.cui_to_entity[concept_id].canonical_name
                found.append(Entity(mention.start_char, mention.end_char, concept_id, name, min(1.0, float(score))))
        return tuple(found)


def load_entities(source: Source = "auto", cache: Path | None = None) -> ClinicalEntities:
    """The finder of clinical entities for ``source``; "auto" is "umls" where all of it is installed, else "radiology".

    ``cache`` is the folder for the index of the radiology base (under 1 MB, made at first use), by default
    ``wronglung/entities`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. UMLS is read from scispaCy's own cache
    (``$SCISPACY_CACHE`` or ``~/.scispacy``) with scispaCy's own reader.

    Raises :class:`WronglungError` where scispaCy, or with "umls" its model or files, are missing, saying what to
    install; and for a cache that cannot be written.
    """
    if source not in ("auto", "umls", "radiology"):
        raise WronglungError(f"clinical entities from {source!r}: must be 'auto', 'umls' or 'radiology'")
    if importlib.util.find_spec("scispacy") is None:
        raise WronglungError(
            'masking of clinical entities needs scispaCy: pip install "wronglung[masking]" '
            "(scispaCy runs on Python 3.11 and 3.12, not yet on later ones)"
        )
    if source != "radiology":
        model, files = installed_model(), umls_files()
        if model is not None and None not in files:
            return _umls(model, files)
        if source == "umls":
            raise WronglungError(_what_is_missing(model, files))
    return _radiology(cache or _default_cache())


def _umls(model: str, files: UmlsFiles) -> ClinicalEntities:
    import spacy
    from scispacy.linking import EntityLinker

    linker = EntityLinker(candidate_generator=umls_generator(files))
    description = f"scispaCy {version('scispacy')}, {model} {version(model)}, UMLS"
    return ClinicalEntities("umls", description, spacy.load(model), linker)


def _radiology(cache: Path) -> ClinicalEntities:
    import spacy
    from scispacy.linking import EntityLinker

    generator = candidate_generator(RADIOLOGY_BASE, cache)
    linker = EntityLinker(candidate_generator=generator, threshold=_RADIOLOGY_THRESHOLD)
    tokenise = spacy.blank("en")
    mark = Mentions(generator, _RADIOLOGY_THRESHOLD, neighbours=linker.k)
    digest = sha256(RADIOLOGY_BASE.read_bytes()).hexdigest()
    description = f"scispaCy {version('scispacy')}, radiology concepts {digest[:12]}"
    return ClinicalEntities("radiology", description, lambda sentence: mark(tokenise(sentence)), linker)


def _what_is_missing(model: str | None, files: UmlsFiles) -> str:
    missing = []
    if model is None:
        missing.append(f"a model, one of {', '.join(UMLS_MODELS)} (its documentation says where they are)")
    if None in files:
        absent = ", ".join(name for name, file in zip(files._fields, files, strict=True) if file is None)
        missing.append(
            f"the UMLS files in {umls_folder()} (missing: {absent}), which this downloads: "
            "python -c \"from scispacy.linking import EntityLinker; EntityLinker(linker_name='umls')\""
        )
    return f"clinical entities of the UMLS need of scispaCy {'; and '.join(missing)}"


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wronglung" / "entities"
