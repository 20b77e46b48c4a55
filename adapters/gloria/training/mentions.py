"""Mentions of clinical concepts in a sentence, found without a trained model.

Every run of up to six words is looked up in the knowledge base by the linker's own candidate generator; the longest
runs that match well are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

MOST_WORDS = 6
"""Words of a mention, at most."""

_SAME = 1e-6  # similarities that differ by less are equal
_JOINS = frozenset("-‐‑–/'")
_BREAKS = re.compile(r"[\s\-‐‑–/']+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOCATION_WORDS = _words(
    "left right leftward rightward l r lt rt bilateral bilaterally unilateral both side sides sided "
    "upper mid middle lower midzone superior inferior anterior posterior lateral medial central peripheral peripherally "
    "periphery apical apex apices apically basal basally base bases basilar bibasal bibasilar biapical biapically "
    "lobe lobes lobar multilobar panlobar bilobar lobular segment segments segmental lingula lingular zone zones zonal "
    "field fields region regions third thirds area areas hemithorax hemithoraces hemithoracic "
    "rul rml rll lul lll ruz rmz rlz luz lmz llz "
    "perihilar parahilar infrahilar suprahilar peri-hilar hilar hilum hila retrocardiac paracardiac pericardial "
    "paramediastinal paratracheal juxtahilar subpleural peribronchovascular dependent "
    "above below under within throughout along across near"
)
"""Words that say where. They are never part of a mention, unless an alias of the base holds them."""

QUALIFIER_WORDS = _words(
    "no not without nor never none negative absent absence free denies denied "
    "small tiny minimal minor mild mildly slight slightly moderate moderately large big huge massive extensive severe "
    "severely marked markedly subtle trace faint dense gross grossly significant "
    "new old acute chronic stable unchanged increased increasing decreased decreasing improved improving worsened "
    "worsening progressive persistent persisting residual resolved resolving interval prior previous recent "
    "patchy diffuse diffusely focal multifocal scattered widespread confluent coalescent discrete ill-defined defined "
    "ill single multiple several few numerous some many one two three four first second "
    "possible possibly probable probably likely suspected definite early late clear normal unremarkable "
    "mm cm greater less more most"
)
"""Words of negation, severity, extent, number, certainty and time; treated like :data:`LOCATION_WORDS`."""

_KEPT_WORDS = LOCATION_WORDS | QUALIFIER_WORDS

# Words that a mention neither begins nor ends with, unless it is an alias of the base as it stands.
_EDGE_WORDS = _KEPT_WORDS | _words(
    "a an the this that these those there it its and or but as at by for from in into of on onto over to with than "
    "is are was were be been being has have had may might can could should would will do does did "
    "seen noted present identified evident shown visible visualized visualised demonstrated observed suggesting "
    "suggestive suggests consistent compatible representing represent represents due secondary related associated "
    "which who whose while also however although if when then after before during since "
    # Anatomy alone says where, not what.
    "lung lungs pulmonary pleura pleural heart cardiac cardiomediastinal silhouette mediastinum mediastinal aorta "
    "aortic trachea tracheal carina chest thorax thoracic rib ribs clavicle clavicles spine spinal vertebra "
    "vertebral bone bones bony osseous shoulder shoulders hemidiaphragm hemidiaphragms diaphragm diaphragmatic "
    "costophrenic cardiophrenic angle angles sulcus fissure fissures border borders contour contours vessel "
    "vessels vascular vasculature bronchus bronchi bronchial airway airways parenchyma parenchymal tissue wall "
    "ventricle ventricular vein artery arterial venous svc atrium stomach abdomen neck arm breast skin soft "
    "patient patients male female man woman year years day days week weeks image images film radiograph x-ray ct "
    "cxr study history finding findings appearance appearances size sign signs change changes pattern"
)


class Candidate(NamedTuple):
    """A run of tokens ``doc[first:end]`` and the concept that it resembles most."""

    first: int
    end: int
    concept_id: str
    score: float


class Mentions:
    """Sets ``doc.ents`` of a spaCy document to the mentions of ``generator``'s concepts.

    A run of words is a mention where its cosine similarity to some alias of no more words is above ``threshold`` (in
    [0, 1]) and no shorter run inside resembles the same concept more. Of overlapping mentions the one of more words stays, then the
    more similar, then the first. A run does not go beyond punctuation other than a hyphen or a slash, begins and ends
    with a word of content and holds no word of :data:`LOCATION_WORDS` or :data:`QUALIFIER_WORDS`; an alias, spelled as
    in the base, is exempt from the last two.

    A run's similarity does not depend on the sentence or on other runs. It is looked up once and remembered for the
    last ``remember`` runs.
    """

    def __init__(self, generator: Any, threshold: float, *, neighbours: int = 30, remember: int = 200_000) -> None:
        self._generator = generator
        self._threshold = threshold
        self._neighbours = neighbours
        self._remember = remember
        self._aliases = frozenset(_plain(alias) for alias in generator.kb.alias_to_cuis)
        self._remembered: dict[str, tuple[str, float] | None] = {}

    def __call__(self, doc: Any) -> Any:
        """The same document (``spacy.tokens.Doc``), with its entities set; their label is "ENTITY"."""
        from spacy.tokens import Span

        candidates = self._candidates(doc)
        mentions = [one for one in candidates if one.score > self._threshold and not _is_padded(one, candidates)]
        mentions.sort(key=lambda one: (one.first - one.end, -one.score, one.first))
        taken: set[int] = set()
        spans = []
        for mention in mentions:
            tokens = range(mention.first, mention.end)
            if taken.isdisjoint(tokens):
                taken.update(tokens)
                spans.append(Span(doc, mention.first, mention.end, label="ENTITY"))
        doc.set_ents(spans)
        return doc

    def _candidates(self, doc: Any) -> list[Candidate]:
        texts = {(first, end): _plain(doc[first:end].text) for first, end in _runs(doc)}
        runs = {run: text for run, text in texts.items() if text in self._aliases or _is_content(text)}
        best = self._look_up(dict.fromkeys(runs.values()))
        return [Candidate(first, end, *found) for (first, end), text in runs.items() if (found := best[text])]

    def _look_up(self, texts: Iterable[str]) -> dict[str, tuple[str, float] | None]:
        """The most similar concept of each text with its similarity; None for a text like nothing in the base.

        An alias of more words does not count: one rare word makes most of its vector ("superimposed infection").
        """
        if len(self._remembered) > self._remember:
            self._remembered.clear()
        unknown = [text for text in texts if text not in self._remembered]
        for text, concepts in zip(unknown, self._generator(unknown, self._neighbours), strict=True):
            words = len(_BREAKS.split(text))
            scores = [
                (similarity, concept.concept_id)
                for concept in concepts
                for alias, similarity in zip(concept.aliases, concept.similarities, strict=True)
                if len(_BREAKS.split(alias)) <= words
            ]
            # Of equal scores the first: the generator sorts by concept id, and so does the linker.
            score, concept_id = max(scores, key=lambda scored: scored[0], default=(0.0, ""))
            self._remembered[text] = (concept_id, score) if concept_id else None
        return {text: self._remembered[text] for text in texts}


def _runs(doc: Any) -> Iterator[tuple[int, int]]:
    """Token ranges of 1 to :data:`MOST_WORDS` words that begin and end with a word."""
    for first in range(len(doc)):
        words = 0
        for at in range(first, len(doc)):
            token = doc[at]
            if any(map(str.isalnum, token.text)):
                words += 1
                if words > MOST_WORDS:
                    break
                yield first, at + 1
            elif at == first or not (token.is_space or token.text in _JOINS):
                break


def _is_content(text: str) -> bool:
    words = _BREAKS.split(text)
    return words[0] not in _EDGE_WORDS and words[-1] not in _EDGE_WORDS and _KEPT_WORDS.isdisjoint(words)


def _is_padded(candidate: Candidate, candidates: list[Candidate]) -> bool:
    """Whether a shorter run inside resembles the same concept more: "developing pneumonia" around "pneumonia"."""
    return any(
        candidate.first <= other.first
        and other.end <= candidate.end
        and other.concept_id == candidate.concept_id
        and other.score > candidate.score + _SAME
        for other in candidates
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
