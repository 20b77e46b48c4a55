"""Which findings does an English sentence name, and does it affirm or negate them?

A lexicon of patterns and rules of negation, no model. Labels are those of Chest ImaGenome.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .instances import Context


def conditions_named(sentence: str) -> tuple[tuple[str, Context], ...]:
    """The (label, context) pairs of a sentence, without repetition, in order of first mention.

    A hedged condition ("may be", "suggestive of") is affirmed. ("abnormal", "yes") is added, last, to a sentence that
    affirms any finding.
    """
    pairs = dict.fromkeys((condition.label, condition.context) for condition in conditions_of(Text(sentence)))
    return tuple(with_abnormal(pairs))


def with_abnormal(pairs: Iterable[tuple[str, Context]]) -> Iterator[tuple[str, Context]]:
    """The pairs, followed by ("abnormal", "yes") when they affirm any finding and do not say so yet."""
    listed = list(pairs)
    yield from listed
    affirmed = {label for label, context in listed if context == "yes"}
    if affirmed - {"normal"} and "abnormal" not in affirmed:
        yield "abnormal", "yes"


_BARRIER = "#"  # stands where something was read already or must not be read; no rule looks across it


class Text:
    """A sentence made easy to match: lower case, single blanks, hyphens and possessives as blanks."""

    def __init__(self, sentence: str) -> None:
        plain = re.sub(r"(?<=\w)['’]s\b|[-‐‑–—'’]", " ", sentence)
        plain = re.sub(r"\b([Pp]eri|[Pp]ara|[Ii]nfra|[Ss]upra) (hilar|mediastinal)\b", r"\1\2", plain)
        plain = re.sub(r"\s+", " ", plain)
        # str.lower() may change the length (U+0130), which would shift the offsets of the abbreviations.
        self.low = "".join(one if len(one) == 1 else " " for one in map(str.lower, plain))
        self.abbreviations = [
            (match.start(), match[1], match[2]) for match in re.finditer(r"\b([RL])([UML])[LZ]s?\b", plain)
        ]


def within(offset: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(first <= offset < end for first, end in spans)


def blank(match: re.Match[str]) -> str:
    return _BARRIER * len(match[0])


@dataclass(frozen=True, slots=True)
class Condition:
    start: int
    end: int
    label: str
    context: Context


# Label and pattern, the more specific first: what one rule has read, a later one does not read again.
_LEXICON: tuple[tuple[str, str], ...] = (
    ("hydropneumothorax", r"hydro ?pneumothora(?:x|ces)"),
    ("pneumothorax", r"pneumothora(?:x|ces)"),
    ("pneumomediastinum", r"pneumomediast\w+"),
    ("pericardial effusion", r"pericardial (?:effusions?|fluid)"),
    (
        "costophrenic angle blunting",
        (
            r"(?:blunt|obliterat|effac)\w+ (?:\w+ ){0,4}costophrenic (?:angles?|recess(?:es)?|sulc(?:us|i))"
            r"|costophrenic (?:angles?|recess(?:es)?|sulc(?:us|i)) (?:\w+ ){0,2}(?:blunt|obliterat)\w+"
        ),
    ),
    ("pleural effusion", r"(?:pleural|parapneumonic) (?:effusions?|fluid)|effusions?|hydrothora(?:x|ces)"),
    ("subcutaneous air", r"(?:subcutaneous|surgical) (?:air|emphysema)"),
    ("copd/emphysema", r"emphysema\w*|copd|chronic obstructive (?:pulmonary|lung|airways?) disease"),
    (
        "increased reticular markings/ild pattern",
        (
            r"reticul\w+|crazy paving|septal thickening"
            r"|interstitial (?:\w+ ){0,2}?(?:markings?|patt\w+|opaci\w+|prominence|thickening|infiltrat\w+)"
        ),
    ),
    ("interstitial lung disease", r"interstitial (?:\w+ )?(?:lung disease|pneumonia|pneumonitis)"),
    ("pulmonary edema/hazy opacity", r"o?edema|haz(?:y|e|iness)"),
    ("airspace opacity", r"air ?space (?:\w+ ){0,2}?(?:opaci\w+|shadow\w*|disease|change)"),
    (
        "lung opacity",
        (
            r"ground glass(?: (?:\w+ ){0,2}?opaci\w+)?|ggos?|opaci\w+|white ?out"
            r"|(?:patchy|lung|pulmonary|peripheral) shadow\w*"
        ),
    ),
    ("consolidation", r"consolidat\w+"),
    ("infiltration", r"infiltrat\w+"),
    ("atelectasis", r"atelecta\w+"),
    ("lobar/segmental collapse", r"collapsed?"),
    ("bronchiectasis", r"bronchiecta\w+"),
    ("calcified nodule", r"calcified (?:\w+ )?(?:granulomas?|nodules?)"),
    ("granulomatous disease", r"granulom\w+"),
    ("multiple masses/nodules", r"nodules|masses"),
    ("mass/nodule (not otherwise specified)", r"nodul(?:e|ar)|mass(?! effect)"),
    ("lung lesion", r"(?:lung|pulmonary|cavit\w+) lesions?|cavit(?:y|ies|ation|ations)"),
    ("cyst/bullae", r"cysts?|cystic|bullae?|pneumatoc\w+"),
    ("pleural/parenchymal scarring", r"scar(?:s|ring)?|fibro(?:sis|tic|us)"),
    ("lung cancer", r"lung (?:cancer|carcinoma|neoplasm|tumou?r)"),
    ("aspiration", r"aspirat(?:ion|ed)"),
    ("pneumonia", r"(?:broncho)?pneumonias?"),
    ("fluid overload/heart failure", r"heart failure|fluid overload"),
    ("vascular congestion", r"(?:vascular|venous|pulmonary) congestion|congest(?:ed|ion)"),
    (
        "enlarged cardiac silhouette",
        (
            r"cardiomegaly|increased cardiothoracic ratio|enlarged (?:heart|cardiac \w+)"
            r"|(?:heart|cardiac silhouette|cardiac size) (?:\w+ ){0,3}?enlarged"
        ),
    ),
    ("mediastinal widening", r"mediastinal widening|widen\w+ (?:of the )?mediastinum"),
    (
        "enlarged hilum",
        (
            r"enlarged hil(?:um|a)|prominent hil(?:um|a)"
            r"|hil(?:ar|um|a) (?:\w+ )?(?:prominence|enlargement|fullness|enlarged)"
        ),
    ),
    ("elevated hemidiaphragm", r"elevat\w+ (?:\w+ ){0,3}?hemi ?diaphragms?|hemi ?diaphragms? (?:\w+ )?elevat\w+"),
    ("hyperaeration", r"hyper(?:inflat|aerat|expan)\w+"),
    ("rib fracture", r"rib fractures?"),
    ("hernia", r"hernias?"),
    ("scoliosis", r"scoliosis"),
    ("abnormal", r"abnormal(?:ity|ities)?"),
    (
        "normal",
        # "Clear" as a state, not "no clear consolidation" or "infiltrates clear within two weeks".
        (
            r"(?:is|are|was|were|remains?|appears?|lungs?|spaces?|fields?|zones?|bases|apices|angles?|surfaces?|grossly"
            r"|otherwise) clear|unremarkable|within (?:the )?(?:normal limits|limits of the norm)"
            r"|(?<!not )(?<!nearly )(?<!almost )normal(?! (?:volume|range|limit|white|leuco|procalc)\w*)"
        ),
    ),
)
# Labels that do not place a side in its lung: "left elevated hemidiaphragm", "right subcutaneous air".
OUTSIDE_THE_LUNG = frozenset(
    (
        "abnormal",
        "costophrenic angle blunting",
        "elevated hemidiaphragm",
        "enlarged cardiac silhouette",
        "enlarged hilum",
        "fluid overload/heart failure",
        "hernia",
        "mediastinal widening",
        "normal",
        "pericardial effusion",
        "pneumomediastinum",
        "rib fracture",
        "scoliosis",
        "subcutaneous air",
    )
)
_LEXICON_RULES = tuple((label, re.compile(rf"\b(?:{pattern})\b")) for label, pattern in _LEXICON)

# After the idea of NegEx (Chapman et al., 2001): a cue negates what follows, up to a word that ends its reach.
_NO_NEGATION = re.compile(
    r"\bno longer\b|\bnot only\b"
    r"|\b(?:no|without) (?:\w+ ){0,4}?(?:changes?|regression|improvement|resolution|increase|progression)\b"
)
_NEGATES_AFTER = re.compile(
    r"\b(?:no|not|without|nor|neither|denie[sd]|absence of|lack of|negative for|free of|resolution of)\b"
)
_NEGATES_BEFORE = re.compile(
    r"\b(?:(?:is|are|was|were|has|have|had) )?(?:been )?"
    r"(?:not (?:\w+ )?(?:seen|identified|visible|visualized|evident|present|noted|observed)|resolved|absent)\b"
)
_ENDS_NEGATION = re.compile(
    r"[;:.]|\b(?:but|however|although|though|except|which|with)\b"
    r"|, *(?:a|an|and|are|is|it|the|there|these|this) |\band (?:a|an|increased|new|persistent|stable|the|there|unchanged)\b"
)


def conditions_of(text: Text) -> list[Condition]:
    """The conditions of a sentence in order of their offset."""
    low = text.low
    negated = _negated_spans(low)
    found = []
    for label, rule in _LEXICON_RULES:
        for match in rule.finditer(low):
            start, end = match.span()
            is_negated = within(start, negated) or re.search(r"\bnot?\b", match[0])
            found.append(Condition(start, end, label, "no" if is_negated else "yes"))
        low = rule.sub(blank, low)
    return sorted(found, key=lambda condition: condition.start)


def _negated_spans(low: str) -> list[tuple[int, int]]:
    plain = _NO_NEGATION.sub(blank, low)
    ends = [match.start() for match in _ENDS_NEGATION.finditer(plain)]
    spans = []
    for match in _NEGATES_AFTER.finditer(plain):
        at = bisect_left(ends, match.end())
        spans.append((match.end(), ends[at] if at < len(ends) else len(plain)))
    for match in _NEGATES_BEFORE.finditer(plain):
        at = bisect_left(ends, match.start())
        spans.append((ends[at - 1] if at else 0, match.start()))
    return spans
