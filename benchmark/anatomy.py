"""Which regions of the chest, and which findings, does an English sentence name?

Rules over words, no model. They serve datasets whose notes are not tied to boxes, and the oracle, which reads a sentence
and lights the boxes of what it names. Region and label names are those of Chest ImaGenome.

The reading of regions, in short:

- *Zones*: upper, mid and lower zones, lobes, fields and thirds; apex is upper, base is lower; "midzone"; RUL to LLL.
  The lobes are read as zones, as they are on a frontal film. The middle lobe is the right lung's. The lingula is the
  left lung's counterpart of the middle lobe and lies beside the heart: left mid zone. "Retrocardiac" is left lower.
- *Sides*: "left" and "right" belong to the zone or lung that they are coordinated with ("left lower, right upper and
  middle lobes"). A side alone means its lung when it qualifies a lung finding or a part of a lung ("left pleural
  effusion", "right perihilar", "opacities, more on the right"), and nothing otherwise ("right jugular line", "if left
  untreated").
  "Bilateral" and "lungs" mean both lungs.
- *No side*: plural zones are those of both lungs. One zone or base takes the sides that were named last in the
  sentence, else both. One lobe without any side is not linked: which one is not said.
- *Specific first*: a zone replaces the lung that it is part of, not the other one ("bilateral opacities, more in the
  right upper lobe": right upper zone and left lung).
- *Spared* regions ("except for the left upper zone", "sparing the apices") are not named.
- *Other structures* (heart border, hilum, hemidiaphragm, costophrenic angle, ...) are regions of their own and never
  stand for a lung; their side still counts as named.

Negation does not matter to regions: "no effusion on the left" is about the left. Whether a sentence speaks of this film,
of another examination or of history is not recognised.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .conditions import OUTSIDE_THE_LUNG, Condition, Text, blank, conditions_named, conditions_of, with_abnormal, within
from .instances import Context, Finding

__all__ = ["REGIONS", "conditions_named", "findings_named", "parent_lung", "region_rank", "regions_named", "swap_sides"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PAIRED = (
    "lung",
    "apical zone",
    "upper lung zone",
    "mid lung zone",
    "lower lung zone",
    "hilar structures",
    "costophrenic angle",
    "cardiophrenic angle",
    "hemidiaphragm",
    "clavicle",
    "cardiac silhouette",
    "upper abdomen",
)
_MIDLINE = (
    "cardiac silhouette",
    "right atrium",
    "mediastinum",
    "upper mediastinum",
    "aortic arch",
    "descending aorta",
    "svc",
    "cavoatrial junction",
    "trachea",
    "carina",
    "spine",
    "abdomen",
)
REGIONS = (*(f"{side} {name}" for side in ("right", "left") for name in _PAIRED), *_MIDLINE)
"""The 36 region names of Chest ImaGenome, in the order in which this module lists them."""

_ORDER = {region: at for at, region in enumerate(REGIONS)}

Side = Literal["right", "left"]
_BOTH: tuple[Side, ...] = ("right", "left")


def region_rank(region: str) -> int:
    """The place of a region in :data:`REGIONS`; names outside of them come last."""
    return _ORDER.get(region, len(REGIONS))


def swap_sides(region: str) -> str:
    """The region of the other side: "left lung" for "right lung". A region without a side stays as it is."""
    side, _, name = region.partition(" ")
    return {"left": f"right {name}", "right": f"left {name}"}.get(side, region)


def parent_lung(region: str) -> str | None:
    """The lung that a lung zone is part of, or None for anything else (a lung itself included)."""
    side, _, name = region.partition(" ")
    return f"{side} lung" if side in _BOTH and name.endswith(" zone") else None


def regions_named(sentence: str) -> tuple[str, ...]:
    """The regions that a sentence names, most specific first where they overlap, in the order of :data:`REGIONS`."""
    named = {region for mention in _mentions(Text(sentence)) for region in mention.regions}
    return _in_order(named - {parent_lung(region) for region in named})


def findings_named(sentence: str) -> tuple[Finding, ...]:
    """The findings of a sentence, in the order of :data:`REGIONS`, then of first mention.

    A condition belongs to the regions of its own part of the sentence (parts end at commas, "and", "with" and the
    like); a part that names only conditions or only regions is completed by its neighbour. What holds for a zone holds
    for its lung too. A label that is both affirmed and negated for a region is affirmed.
    """
    text = Text(sentence)
    labels: dict[str, dict[str, Context]] = {}
    for condition, region in _pairs(text):
        for place in (region, parent_lung(region)):
            if place is not None:
                said = labels.setdefault(place, {})
                if said.get(condition.label) != "yes":
                    said[condition.label] = condition.context
    return tuple(
        Finding(label, context, region)
        for region in _in_order(labels)
        for label, context in with_abnormal(labels[region].items())
    )


def _in_order(regions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(regions, key=region_rank))


# --- regions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mention:
    """Regions named at an offset of the sentence. ``sides`` are what a later zone without a side may take over."""

    start: int
    regions: tuple[str, ...]
    sides: tuple[Side, ...]


# Words that hold a side, or look like a zone, without meaning a region of the lung. Each is blanked before reading.
_GUARDS = re.compile(
    # Not a place: "lower lung volumes".
    r"\blung volumes?\b"
    # An airway, mostly as the place of a tube: "right main and right lower lobe bronchi".
    r"|\b(?:(?:right|left) )?(?:upper|middle|lower) lobes? bronch\w+"
    # A symptom: "pain in the right side of the chest".
    r"|\bpain (?:in|on|over|at|of) (?:the )?(?:right|left)(?: sided?)?\b"
    # A segment is a part of its lobe: the apical segment of a lower lobe lies below the apex.
    r"|\b\w+ segments? of (?=(?:the )?(?:(?:right|left) )?(?:upper|middle|lower|[rl][uml]l)\b)"
    r"|\b(?:cardiac apex|apex of the heart)\b"
)

# Words between a side and a finding that say the side is theirs: "right breast shadow", "left ventricular mass",
# "bilateral internal jugular lines", "left sided chest pain".
_NOT_THE_LUNG = _words(
    "arm arms atrial atrium axilla axillary artery breast breasts bronchi bronchus cardiac catheter catheters chest "
    "drain drains heart ij ijv internal jugular kidney line lines liver main nipple pain picc renal rib ribs "
    "scapula scapular shoulder shoulders subclavian tracheal tube tubes vein ventricle ventricular"
)
# Words that make a side its lung although they are no finding. The hemithorax is a place word below.
_OF_THE_LUNG = _words(
    "costal infrahilar parahilar paramediastinal parenchymal perihilar pleura pleurisy pleural suprahilar"
)
_ENDS_PHRASE = _words(
    "and are as at but by compared for from however in is of or than that to was were which while with without"
)
_GLUE = _words(
    "a an and anterior at central entire in infrahilar lateral medial most of on or parahilar paramediastinal "
    "perihilar peripheral posterior subpleural suprahilar the to whole , / & +"
)
_SIDES: dict[str, tuple[Side, ...]] = {
    "right": ("right",),
    "left": ("left",),
    "both": _BOTH,
    "bilateral": _BOTH,
    "bilaterally": _BOTH,
}
_PLACE_WORDS = {  # what lungs are divided into: singular and plural
    **dict.fromkeys(("lung", "zone", "lobe", "field", "third", "hemithorax", "region"), False),
    **dict.fromkeys(("lungs", "zones", "lobes", "fields", "thirds", "hemithoraces", "regions"), True),
}
_LEVELS = {  # zones only beside one of the words above
    "upper": "upper",
    "superior": "upper",
    "mid": "mid",
    "middle": "mid",
    "lower": "lower",
    "inferior": "lower",
}


class _Word(NamedTuple):
    """A word that names a region by itself; ``plural`` is None where the word does not tell."""

    name: str
    plural: bool | None
    side: Side | None = None


_WORDS = {
    "base": _Word("lower lung zone", False),
    "bases": _Word("lower lung zone", True),
    "basal": _Word("lower lung zone", None),
    "basilar": _Word("lower lung zone", None),
    "bibasal": _Word("lower lung zone", True),
    "bibasilar": _Word("lower lung zone", True),
    "apex": _Word("upper lung zone", False),
    "apices": _Word("upper lung zone", True),
    "apical": _Word("upper lung zone", None),
    "midzone": _Word("mid lung zone", False),
    "midzones": _Word("mid lung zone", True),
    "lingula": _Word("mid lung zone", False, "left"),
    "lingular": _Word("mid lung zone", None, "left"),
    "retrocardiac": _Word("lower lung zone", None, "left"),
    "hilum": _Word("hilar structures", False),
    "hilar": _Word("hilar structures", None),
    "hila": _Word("hilar structures", True),
    "hemidiaphragm": _Word("hemidiaphragm", False),
    "hemidiaphragms": _Word("hemidiaphragm", True),
    "clavicle": _Word("clavicle", False),
    "clavicles": _Word("clavicle", True),
}
_PHRASES = (  # the same for names of several words
    (re.compile(r"apical (?:lung )?zone(s)?\b"), "apical zone"),
    (re.compile(r"costophrenic (?:angle|recess|sulcus|sulci)(?:e?(s))?\b"), "costophrenic angle"),
    (re.compile(r"cardiophrenic angle(s)?\b"), "cardiophrenic angle"),
    (re.compile(r"hemi diaphragm(s)?\b"), "hemidiaphragm"),
    (re.compile(r"hilar structure(s)\b"), "hilar structures"),
    (re.compile(r"clavicular\b()"), "clavicle"),
)
# Names that contain "left", "right", "upper" or "heart" and are read as one piece before anything else.
_FIXED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(right|left|both|bilateral) (?:heart|cardiac) (?:borders?|silhouettes?|contours?)", ("{} cardiac silhouette",)),
    (r"(right|left|both|bilateral) upper (?:abdomen|quadrants?)", ("{} upper abdomen",)),
    (r"cardio ?mediastin\w+", ("cardiac silhouette", "mediastinum")),
    (
        (
            r"cardiac (?:silhouette|size|contours?|profile|shadow)|cardiomegaly"
            r"|heart(?! failure| disease| rate| block| attack)"
        ),
        ("cardiac silhouette",),
    ),
    (r"(?:upper|superior) mediastin(?:um|al)", ("upper mediastinum",)),
    (r"(?:(?:lower|inferior|anterior|posterior|middle) )?mediastin(?:um|al)", ("mediastinum",)),
    (r"superior vena cava|svc", ("svc",)),
    (r"cavo ?atrial junction", ("cavoatrial junction",)),
    (r"right atri(?:um|al)", ("right atrium",)),
    (r"descending (?:thoracic )?aorta", ("descending aorta",)),
    (r"aortic (?:arch|knob|knuckle)", ("aortic arch",)),
    (r"trachea", ("trachea",)),
    (r"carina", ("carina",)),
    (r"(?:thoracic )?spine", ("spine",)),
    (r"abdomen", ("abdomen",)),
)
_FIXED_RULES = tuple((re.compile(rf"\b(?:{pattern})\b"), names) for pattern, names in _FIXED)

# "Pleural effusions, right greater than left", "R > L": both lungs.
_COMPARED = re.compile(
    r"\b(?:right|left|[rl]) *(?:>+|<+|greater than|more than|worse than|larger than|less than) *(?:the )?"
    r"(?:right|left|[rl])\b"
)

_SPARED_AFTER = re.compile(
    r"\b(?:except(?:ing)?|excluding|apart from|spar(?:ing|es)|less (?:severe|marked|pronounced|prominent|involved))\b"
    r"[^,;:.()]*"
)
_SPARED_BEFORE = re.compile(r"\b(?:is|are|was|were|being) (?:\w+ )?spared\b")
_CLAUSE_ENDS = ",;:.()"

_TOKEN = re.compile(r"[^\W\d_]+|[^\s\w]|\d+|_+")

_Kind = Literal["side", "level", "word", "place", "glue", "other"]


@dataclass(slots=True)
class _Token:
    text: str
    start: int
    kind: _Kind
    sides: tuple[Side, ...] = ()
    name: str = ""
    plural: bool | None = None


@dataclass(slots=True)
class _Part:
    """A zone or structure of a group of words, before its side is settled."""

    start: int
    name: str
    sides: tuple[Side, ...] = ()
    plural: bool | None = None
    settled: bool = True  # False while a level ("upper") waits for its place word ("lobe")
    lobe: bool = False


@dataclass(slots=True)
class _Group:
    """Words that are coordinated: sides, levels and places joined by glue."""

    parts: list[_Part] = field(default_factory=list)
    lungs: list[tuple[int, tuple[Side, ...]]] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)  # indices of side tokens that found no partner


def _mentions(text: Text) -> list[_Mention]:
    low, found = _read_fixed(text.low)
    tokens = _tokens(low, text.abbreviations)
    in_finding = {
        offset
        for condition in conditions_of(text)
        if condition.label not in OUTSIDE_THE_LUNG
        for offset in range(condition.start, condition.end)
    }
    parts: list[_Part] = []
    for first, end in _groups(tokens):
        group = _read_group(tokens, first, end, in_finding)
        parts += group.parts
        found += [_lungs(start, sides) for start, sides in group.lungs]
        found += [_lungs(tokens[at].start, tokens[at].sides) for at in group.bare if _is_lung(tokens, at, in_finding)]
    spared = _spared_spans(text.low)
    found = [mention for mention in found if not within(mention.start, spared)]
    parts = [part for part in parts if not within(part.start, spared)]
    return _settle_sides(found, parts)


def _spared_spans(low: str) -> list[tuple[int, int]]:
    after = [match.span() for match in _SPARED_AFTER.finditer(low)]
    return after + [
        (max(low.rfind(end, 0, match.start()) for end in _CLAUSE_ENDS) + 1, match.start())
        for match in _SPARED_BEFORE.finditer(low)
    ]


def _lungs(start: int, sides: tuple[Side, ...]) -> _Mention:
    return _Mention(start, tuple(f"{side} lung" for side in sides), sides)


def _read_fixed(low: str) -> tuple[str, list[_Mention]]:
    """Take out what is read as one piece; what is left has barriers in those places."""
    low = _GUARDS.sub(blank, low)
    found = [_lungs(match.start(), _BOTH) for match in _COMPARED.finditer(low)]
    low = _COMPARED.sub(blank, low)
    for rule, names in _FIXED_RULES:
        for match in rule.finditer(low):
            sides = _SIDES[match[1]] if rule.groups else ()
            regions = tuple(name.format(side) for name in names for side in sides or ("",))
            found.append(_Mention(match.start(), regions, sides))
        low = rule.sub(blank, low)
    return low, found


def _tokens(low: str, abbreviations: list[tuple[int, str, str]]) -> list[_Token]:
    phrases = {
        match.start(): (name, bool(match[1]), match.end()) for rule, name in _PHRASES for match in rule.finditer(low)
    }
    short = {start: (side, level) for start, side, level in abbreviations}
    tokens: list[_Token] = []
    skip_to = 0
    for match in _TOKEN.finditer(low):
        start, word = match.start(), match[0]
        if start < skip_to:
            continue
        if start in short:
            side, level = short[start]
            sides: tuple[Side, ...] = ("right",) if side == "R" else ("left",)
            name = {"U": "upper", "M": "mid", "L": "lower"}[level]
            tokens.append(_Token(word, start, "word", sides, f"{name} lung zone", False))
        elif start in phrases:
            name, plural, skip_to = phrases[start]
            tokens.append(_Token(word, start, "word", (), name, plural))
        elif word in _SIDES:
            tokens.append(_Token(word, start, "side", _SIDES[word]))
        elif word in _WORDS:
            known = _WORDS[word]
            tokens.append(_Token(word, start, "word", (known.side,) if known.side else (), known.name, known.plural))
        elif word in _LEVELS:
            tokens.append(_Token(word, start, "level", (), f"{_LEVELS[word]} lung zone"))
        elif word in _PLACE_WORDS:
            tokens.append(_Token(word, start, "place", (), "", _PLACE_WORDS[word]))
        else:
            tokens.append(_Token(word, start, "glue" if word in _GLUE else "other"))
    return tokens


def _groups(tokens: list[_Token]) -> Iterator[tuple[int, int]]:
    """Index ranges of tokens without an ``other`` between them that hold more than glue."""
    first = 0
    for at in range(len(tokens) + 1):
        if at == len(tokens) or tokens[at].kind == "other":
            if any(token.kind != "glue" for token in tokens[first:at]):
                yield first, at
            first = at + 1


def _read_group(tokens: list[_Token], first: int, end: int, in_finding: set[int]) -> _Group:
    group = _Group()
    words = [at for at in range(first, end) if tokens[at].kind != "glue"]
    sides: tuple[Side, ...] = ()
    open_side: int | None = None  # a side token that no zone, structure or place has used yet
    unsided: list[_Part] = []

    def close_side() -> None:
        nonlocal open_side
        if open_side is not None:
            group.bare.append(open_side)
        open_side = None

    for nth, at in enumerate(words):
        token = tokens[at]
        before = tokens[words[nth - 1]] if nth else None
        after = tokens[words[nth + 1]] if nth + 1 < len(words) else None
        if token.kind == "side":
            if before is not None and before.kind == "side" and open_side is not None:
                # "left and right upper lobes"; the later token carries both.
                token.sides = tuple(side for side in _BOTH if side in before.sides + token.sides)
                sides, open_side = token.sides, at
            elif unsided and _takes_back(tokens, words[nth - 1], at, after):
                for part in unsided:
                    part.sides = token.sides
                sides, unsided = token.sides, []
                close_side()
            else:
                close_side()
                sides, open_side, unsided = token.sides, at, []
        elif token.kind in ("level", "word"):
            part = _Part(token.start, token.name, token.sides or sides, token.plural, settled=token.kind == "word")
            if token.text == "base" and not sides and not any(one.text.startswith("lung") for one in tokens[first:end]):
                continue  # of what?
            group.parts.append(part)
            if not part.sides:
                unsided.append(part)
            if not token.sides:
                open_side = None
        else:
            for part in group.parts:
                if not part.settled:
                    part.settled, part.lobe = True, token.text.startswith("lobe")
                    part.plural = token.plural
                elif part.plural is None and part is group.parts[-1]:
                    part.plural = token.plural
            if open_side is not None:
                group.lungs.append((tokens[open_side].start, tokens[open_side].sides))
                open_side = None
            elif not sides and not group.parts and _means_lungs(token, after):
                group.lungs.append((token.start, _BOTH))
    close_side()
    # "Right lower" without "lobe" counts when a finding follows at once.
    if not (sides and any(token.start in in_finding for token in tokens[end : end + 3])):
        group.parts = [part for part in group.parts if part.settled]
    return group


def _takes_back(tokens: list[_Token], before: int, side: int, after: _Token | None) -> bool:
    """Whether a side belongs to the zones before it: "lower zone of the left lung", "superior and lower right lobes"."""
    if after is not None and after.kind in ("level", "word"):
        return False
    if tokens[before].kind == "place":
        return any(token.text in ("of", "in", "at", "on") for token in tokens[before + 1 : side]) or (
            tokens[side].text == "bilaterally"
        )
    return True


def _means_lungs(token: _Token, after: _Token | None) -> bool:
    return token.text == "lungs" or (token.text == "lung" and after is not None and bool(after.plural))


def _is_lung(tokens: list[_Token], at: int, in_finding: set[int]) -> bool:
    """Whether a side without a zone or place stands for its lung."""
    word = tokens[at].text
    following = [token.text for token in tokens[at + 1 : at + 6]]
    if word == "both":
        return following[:1] == ["sides"]
    phrase = []
    for token in tokens[at + 1 : at + 6]:
        if token.text in _ENDS_PHRASE or not token.text.isalpha():
            break
        phrase.append(token)
    if word in ("bilateral", "bilaterally"):
        return not any(token.text in _NOT_THE_LUNG for token in phrase[:3])
    for token in phrase:
        if token.text in _NOT_THE_LUNG:
            return False
        if token.text in _OF_THE_LUNG or token.start in in_finding:
            return True
    preceding = [token.text for token in tokens[max(0, at - 2) : at] if token.text != "the"]
    on_that_side = preceding[-1:] == ["on"] or following[:1] == ["side"]
    return bool(in_finding) and on_that_side and all(token.text == "side" for token in phrase)


def _settle_sides(found: list[_Mention], parts: list[_Part]) -> list[_Mention]:
    """Give each zone and structure its sides; those without one take the last sides that were named, or both."""
    sided = [_mention(part, part.sides) for part in parts if part.sides]
    settled = sorted((*found, *sided), key=lambda mention: mention.start)
    with_side = [mention for mention in settled if mention.sides]
    starts = [mention.start for mention in with_side]
    bilateral = any(mention.sides == _BOTH for mention in with_side)
    for part in parts:
        if part.sides:
            continue
        earlier = bisect_left(starts, part.start)
        if part.lobe and part.name.startswith("mid"):
            sides: tuple[Side, ...] = ("right",)
        elif part.plural or not earlier:
            sides = () if part.lobe and not part.plural and not bilateral else _BOTH
        else:
            sides = with_side[earlier - 1].sides
        if sides:
            settled.append(_mention(part, sides))
    return settled


def _mention(part: _Part, sides: tuple[Side, ...]) -> _Mention:
    return _Mention(part.start, tuple(f"{side} {part.name}" for side in sides), sides)


# --- findings ---------------------------------------------------------------------------------------------------------

_PART_ENDS = re.compile(r"[,;:()]|\b(?:and|with|while|but|however|although|which|as well as|including)\b")


def _pairs(text: Text) -> Iterator[tuple[Condition, str]]:
    """Conditions with the regions of their own part of the sentence, or of the nearest part that has some."""
    cuts = list(_PART_ENDS.finditer(text.low))
    starts = [0, *(cut.start() for cut in cuts)]
    opened_by = ["", *(cut[0] for cut in cuts)]
    conditions: list[list[Condition]] = [[] for _ in starts]
    regions: list[list[str]] = [[] for _ in starts]
    for condition in conditions_of(text):
        conditions[_part(starts, condition.start)].append(condition)
    for mention in _mentions(text):
        regions[_part(starts, mention.start)] += mention.regions

    last_regions: list[str] = []
    last_conditions: list[Condition] = []
    waiting_regions: list[str] = []
    waiting_conditions: list[Condition] = []
    for word, said, where in zip(opened_by, conditions, regions, strict=True):
        if said and where:
            # "Consolidation and effusion in the right lung", but not "consolidation; the left lung is clear".
            joined = waiting_conditions if word in ("and", "with", "as well as", "including") else []
            yield from _product([*joined, *said], where)
            yield from _product(said, waiting_regions)
            waiting_regions, waiting_conditions = [], []
        elif where:
            yield from _product(last_conditions or waiting_conditions, where)
            if not last_conditions:
                waiting_regions = [*waiting_regions, *where] if not waiting_conditions else []
            waiting_conditions = []
        elif said:
            yield from _product(said, last_regions)
            if not last_regions:
                waiting_conditions = [*waiting_conditions, *said]
            waiting_regions = []
        last_regions = where or last_regions
        last_conditions = said or last_conditions


def _part(starts: list[int], offset: int) -> int:
    return bisect_left(starts, offset + 1) - 1


def _product(conditions: list[Condition], regions: list[str]) -> Iterator[tuple[Condition, str]]:
    for condition in conditions:
        for region in regions:
            yield condition, region
