"""Reports: sentences that are true of a film, with their Chest ImaGenome annotations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...instances import Context, Finding
from .random import Draws
from .scene import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DIAPHRAGM,
    EDEMA,
    EFFUSION,
    LEADS,
    LUNG_KINDS,
    NODULE,
    OPACITY,
    PACER,
    PICC,
    PNEUMOTHORAX,
    PORT,
    SEVERE,
    SIDES,
    TUBE,
    Lesion,
    Scene,
    Side,
    Zone,
)


class Sentence(NamedTuple):
    """A sentence of a report and what it says of which region. ``ordinal`` is its place in the report."""

    ordinal: int
    text: str
    findings: tuple[Finding, ...]


class _Remark(NamedTuple):
    """A sentence before it has its place; ``order`` is where radiologists would mention it."""

    order: float
    text: str
    findings: tuple[Finding, ...]


def write_report(scene: Scene) -> tuple[Sentence, ...]:
    """The report of a film, two to eight sentences, all true of it."""
    draws = Draws(*scene.report_key)
    remarks = _affirmed(scene, draws)
    wanted = max(2, len(remarks) + draws.weighted((0.7, 0.25, 0.05)))
    rest = draws.shuffled([*_negated(scene, draws), *_normal(scene, draws)])
    if scene.devices and draws.chance(0.5):
        remarks.append(_device(scene, draws))
    for remark in rest:
        if len(remarks) >= wanted:
            break
        if not any(remark.text == one.text for one in remarks):
            remarks.append(remark)
    placed = sorted((remark.order + draws.between(-1.2, 1.2), remark) for remark in remarks)
    return tuple(
        Sentence(ordinal, _as_dictated(remark.text, ordinal == len(placed) - 1, draws), remark.findings)
        for ordinal, (_, remark) in enumerate(placed)
    )


def _as_dictated(text: str, last: bool, draws: Draws) -> str:
    """Rarely with the oddities of real reports: a blank before the period, a heading."""
    if draws.chance(0.02):
        text = f"{text[:-1]} ."
    if last and draws.chance(0.06):
        text = f"IMPRESSION:  {text}"
    return text


def _sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]


def _unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(findings))


# --- affirmed ---------------------------------------------------------------------------------------------------------

_NOUNS = {
    OPACITY: (*("opacity",) * 6, "lung opacity", "opacification", "hazy opacification"),
    CONSOLIDATION: (*("consolidation",) * 6, "dense consolidation", "focal consolidation"),
    EFFUSION: (*("pleural effusion",) * 5, "effusion", "effusion", "pleural fluid"),
    PNEUMOTHORAX: (*("pneumothorax",) * 7, "PTX"),
    ATELECTASIS: (*("atelectasis",) * 5, "linear atelectasis", "platelike atelectasis", "subsegmental atelectasis"),
    EDEMA: (*("pulmonary edema",) * 5, "edema", "edema", "pulmonary vascular haze"),
}
_SIZED = {  # words of severity, by kind; "" says nothing of it
    OPACITY: (("small", "subtle", "mild", ""), ("moderate", ""), ("large", "extensive", "severe", "")),
    CONSOLIDATION: (("small", "mild", ""), ("moderate", ""), ("large", "extensive", "severe")),
    EFFUSION: (("small", "small", "mild", "trace"), ("moderate", "moderate", ""), ("large", "large", "severe")),
    PNEUMOTHORAX: (("small", "small", "mild", ""), ("moderate", "moderate", ""), ("large", "large", "severe")),
    ATELECTASIS: (("mild", "minimal", "minor", ""), ("moderate", ""), ("severe", "extensive", "marked")),
    EDEMA: (("mild", "mild", ""), ("moderate", "moderate", ""), ("severe", "severe", "marked")),
}
_DIFFUSE = (("mild", "subtle", "diffuse"), ("moderate", "diffuse", ""), ("severe", "extensive", "diffuse"))
_UNCOUNTED = ("edema", "haze", "haziness", "atelectasis", "consolidation", "opacification", "fluid")

_ZONE_NAMES: dict[tuple[Side | None, Zone], tuple[str, ...]] = {
    (None, "upper"): ("{} upper lobe", "{} upper lobe", "{} upper lung zone", "{} upper lung"),
    (None, "lower"): ("{} lower lobe", "{} lower lobe", "{} lower lung zone", "{} lower lung", "{} lung base"),
    (None, "mid"): ("{} mid lung", "{} mid lung zone", "{} midzone"),
    ("right", "upper"): ("RUL",),
    ("left", "upper"): ("LUL",),
    ("right", "lower"): ("RLL",),
    ("left", "lower"): ("LLL",),
    ("right", "mid"): ("RML", "right middle lobe"),
    ("left", "mid"): ("lingula", "left lingula"),
}

_NAMES_SIDE, _NAMES_ZONE = 0.85, 0.7
_NAMES_SMALL = 0.95  # small findings are placed: their side and zone are named
_WITH_VERB = 0.25
_REPEATED = 0.7  # of the lesions, in the impression


def _affirmed(scene: Scene, draws: Draws) -> list[_Remark]:
    """A sentence about each lesion (both lungs' together), and often another one in the impression at the end.

    Now and then the first of them also negates a lesion.
    """
    remarks = []
    groups: dict[str, list[Lesion]] = {}
    for lesion in scene.lesions:
        groups.setdefault(lesion.kind, []).append(lesion)
    for kind, lesions in groups.items():
        remark = _affirmation(kind, lesions, draws)
        if kind in LUNG_KINDS and draws.chance(0.12):
            remark = _with_negation(remark, scene, draws)
        remarks.append(remark)
        if draws.chance(_REPEATED):
            again = _affirmation(kind, lesions, draws)
            if again.text != remark.text:
                remarks.append(again._replace(order=7))
    return remarks


def _affirmation(kind: str, lesions: list[Lesion], draws: Draws) -> _Remark:
    """One sentence about the lesions of a kind, of one lung or of both."""
    if kind == CARDIOMEGALY:
        return _cardiomegaly(lesions[0], draws)
    if kind == DIAPHRAGM:
        return _diaphragm(lesions[0], draws)
    if len(lesions) == 2:
        return _both_sides(kind, lesions, draws)
    return _one_side(lesions[0], draws)


def _one_side(lesion: Lesion, draws: Draws) -> _Remark:
    noun = _noun(lesion, draws)
    adjective = _adjective(lesion, draws)
    thing = f"{adjective} {noun}".strip()
    small = lesion.kind in (NODULE, ATELECTASIS)
    zone = lesion.zone if small or draws.chance(_NAMES_ZONE) else None
    side = lesion.side
    assert side is not None
    if not draws.chance(_NAMES_SMALL if small else _NAMES_SIDE):
        zone = None
        text = _dictated(thing, draws)
    elif zone is not None:
        abbreviated = draws.chance(0.12)
        names = _ZONE_NAMES[side if abbreviated else None, zone]
        place = draws.choice(names).format(side)
        short = place.isupper()
        the = place if short else f"the {place}"
        forms = [f"{thing} {'at' if place.endswith('base') else 'in'} {the}"]
        if lesion.kind != ATELECTASIS or not place.startswith("lingula"):
            forms.append(f"{adjective} {place} {noun}".strip())
        text = _dictated(draws.choice(forms), draws)
    elif lesion.kind == EFFUSION and draws.chance(0.3):
        place = draws.choice(("at the {} base", "at the {} lung base", "blunting the {} CP angle"))
        text = f"{thing} {place.format(side)}"
        zone = None if place.endswith("angle") else "lower"
    elif lesion.kind == PNEUMOTHORAX and lesion.severity != SEVERE and draws.chance(0.25):
        zone = "upper"
        text = f"{adjective} {side} apical {noun}".strip()
        text = _dictated(draws.choice((text, f"{thing} at the {side} apex")), draws)
    elif lesion.kind in (EFFUSION, PNEUMOTHORAX):
        forms = [f"{adjective} {side} {noun}", f"{adjective} {side}-sided {noun}", f"{thing} on the {side}"]
        text = _dictated(draws.choice(forms).strip(), draws)
    else:
        text = draws.choice((f"{adjective} {side} {noun}".strip(), f"{thing} in the {side} lung"))
        text = _dictated(text, draws)
    return _Remark(
        1 if lesion.kind not in (EFFUSION, PNEUMOTHORAX) else 2, _end(text), _lesion_findings([lesion], [zone])
    )


def _dictated(thing: str, draws: Draws) -> str:
    """Most findings are dictated without a verb."""
    form = draws.weighted((1 - _WITH_VERB, _WITH_VERB / 2, _WITH_VERB / 2))
    return (thing, f"there is {_article(thing)}", f"{thing} is {draws.choice(('seen', 'noted', 'present'))}")[form]


def _both_sides(kind: str, lesions: list[Lesion], draws: Draws) -> _Remark:
    right, left = lesions
    noun = _noun(right, draws)
    many = noun if noun.endswith(_UNCOUNTED) else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    zones: list[Zone | None] = [None, None]
    verb = "is" if many == noun else "are"
    if right.severity == left.severity:
        adjective = _adjective(right, draws)
        many = f"{adjective} bilateral {many}".strip()
        text = draws.choice((many, many, f"there {verb} {many}", f"{many} {verb} seen"))
        if right.zone == left.zone and right.zone == "lower" and draws.chance(0.4):
            text, zones = draws.choice((f"bibasilar {noun}", f"{noun} at both lung bases")), ["lower", "lower"]
    else:
        greater, less = ("right", "left") if right.severity > left.severity else ("left", "right")
        text = draws.choice(
            (
                f"bilateral {many}, {greater} greater than {less}",
                f"there {verb} bilateral {many}, {greater} greater than {less}",
                f"bilateral {many}, larger on the {greater}",
            )
        )
    return _Remark(1 if kind != EFFUSION else 2, _end(text), _lesion_findings(lesions, zones))


def _adjective(lesion: Lesion, draws: Draws) -> str:
    """A word of severity, or none. An opacity that fills its lung is not small."""
    if lesion.kind == NODULE:
        return ""
    fills = lesion.kind in (OPACITY, CONSOLIDATION) and lesion.zone is None
    return draws.choice((_DIFFUSE if fills else _SIZED[lesion.kind])[lesion.severity])


def _noun(lesion: Lesion, draws: Draws) -> str:
    if lesion.kind == NODULE:
        return draws.choice(
            (
                ("small nodule", "pulmonary nodule", "nodule", "nodular density"),
                ("nodule", "pulmonary nodule", "rounded mass"),
                ("mass", "large mass", "lung mass", "large mass"),
            )[lesion.severity]
        )
    return draws.choice(_NOUNS[lesion.kind])


def _article(thing: str) -> str:
    if thing.endswith(_UNCOUNTED):
        return thing
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _end(text: str) -> str:
    return f"{_sentence_case(text)}."


def _lesion_findings(lesions: list[Lesion], zones: list[Zone | None]) -> tuple[Finding, ...]:
    findings = []
    for lesion, zone in zip(lesions, zones, strict=True):
        # A zone stands for itself: a sentence that names one is annotated with it and not with its lung.
        regions = [f"{lesion.side} lung" if zone is None else f"{lesion.side} {zone} lung zone"]
        if lesion.kind == PNEUMOTHORAX and zone == "upper":
            regions.append(f"{lesion.side} apical zone")
        if lesion.kind == EFFUSION:
            regions.append(f"{lesion.side} costophrenic angle")
        findings += [Finding(label, "yes", region) for region in regions for label in (lesion.kind, "abnormal")]
    return _unique(findings)


def _cardiomegaly(lesion: Lesion, draws: Draws) -> _Remark:
    word = draws.choice((("mildly", "slightly"), ("moderately",), ("severely", "markedly"))[lesion.severity])
    adjective = {"mildly": "mild", "slightly": "mild", "moderately": "moderate"}.get(word, "severe")
    text = draws.choice(
        (
            f"the heart is {word} enlarged",
            f"{adjective} cardiomegaly",
            f"there is {adjective} cardiomegaly",
            f"the cardiac silhouette is {word} enlarged",
            "cardiomegaly is present",
            "heart size is enlarged",
            "enlarged cardiac silhouette",
        )
    )
    return _Remark(3, _end(text), _say(("cardiac silhouette",), CARDIOMEGALY, "abnormal"))


def _diaphragm(lesion: Lesion, draws: Draws) -> _Remark:
    side = lesion.side
    word = draws.choice((("mild ", "slight "), ("moderate ", ""), ("marked ", "severe "))[lesion.severity])
    text = draws.choice(
        (
            f"{word}elevation of the {side} hemidiaphragm",
            f"there is {word}elevation of the {side} hemidiaphragm",
            f"elevated {side} hemidiaphragm",
            f"the {side} hemidiaphragm is elevated",
        )
    )
    return _Remark(4, _end(text), _say((f"{side} hemidiaphragm",), DIAPHRAGM, "abnormal"))


def _say(regions: Iterable[str], *labels: str, context: Context = "yes") -> tuple[Finding, ...]:
    return tuple(Finding(label, context, region) for region in regions for label in labels)


# --- negated ----------------------------------------------------------------------------------------------------------

_BOTH_LUNGS = ("right lung", "left lung")
_ABSENT = {
    EFFUSION: "pleural effusion",
    PNEUMOTHORAX: "pneumothorax",
    CONSOLIDATION: "focal consolidation",
    EDEMA: "pulmonary edema",
    NODULE: "pulmonary nodule",
    OPACITY: "focal opacity",
    ATELECTASIS: "atelectasis",
}
_NEGATED_WEIGHTS = {EFFUSION: 3, PNEUMOTHORAX: 3, CONSOLIDATION: 3, EDEMA: 2, NODULE: 1, OPACITY: 1, ATELECTASIS: 1}


def _absent(scene: Scene) -> list[str]:
    present = {lesion.kind for lesion in scene.lesions}
    if present & {CONSOLIDATION, NODULE, ATELECTASIS, EDEMA}:
        present.add(OPACITY)  # the word is true of those, too
    return [kind for kind in _ABSENT if kind not in present]


def _negated(scene: Scene, draws: Draws) -> list[_Remark]:
    """Candidates: lesions that this film does not show, in both lungs or on one side."""
    left = _absent(scene)
    remarks: list[_Remark] = []
    while left and len(remarks) < 3:
        first = left.pop(draws.weighted([_NEGATED_WEIGHTS[kind] for kind in left]))
        kinds = [first]
        if left and draws.chance(0.5):
            kinds.append(left.pop(draws.weighted([_NEGATED_WEIGHTS[kind] for kind in left])))
        words = " or ".join(_ABSENT[kind] for kind in kinds)
        text = draws.choice((f"no {words}", f"there is no {words}", f"no evidence of {words}", f"no {words} is seen"))
        findings = [one for kind in kinds for one in _say(_BOTH_LUNGS, kind, context="no")]
        remarks.append(_Remark(2.5, _end(text), tuple(findings)))
    if draws.chance(0.1):
        remark = _negated_on_one_side(scene, draws)
        remarks += [remark] if remark is not None else []
    return remarks


def _negated_on_one_side(scene: Scene, draws: Draws) -> _Remark | None:
    kind = draws.choice((EFFUSION, PNEUMOTHORAX, CONSOLIDATION))
    side = draws.choice(SIDES)
    if any(lesion.kind == kind and lesion.side == side for lesion in scene.lesions):
        return None
    noun = {EFFUSION: "pleural effusion", PNEUMOTHORAX: "pneumothorax", CONSOLIDATION: "lung consolidation"}[kind]
    text = draws.choice((f"no {side} {noun}", f"there is no {side} {noun}"))
    return _Remark(2.5, _end(text), _say((f"{side} lung",), kind, context="no"))


def _with_negation(remark: _Remark, scene: Scene, draws: Draws) -> _Remark:
    """The remark and, in the same sentence, a lesion that the film does not show."""
    absent = _absent(scene)
    if not absent:
        return remark
    kind = absent[draws.weighted([_NEGATED_WEIGHTS[one] for one in absent])]
    joint = draws.choice((", with no {}", " without {}", ", but no {}"))
    text = remark.text[:-1] + joint.format(_ABSENT[kind]) + "."
    return _Remark(remark.order, text, (*remark.findings, *_say(_BOTH_LUNGS, kind, context="no")))


# --- normal -----------------------------------------------------------------------------------------------------------


def _normal(scene: Scene, draws: Draws) -> list[_Remark]:
    """Candidates: what is normal on this film."""
    kinds = {lesion.kind for lesion in scene.lesions}
    sick = {lesion.side for lesion in scene.lesions if lesion.kind in LUNG_KINDS}
    remarks: list[_Remark] = []
    if not sick:
        text = draws.choice(("the lungs are clear", "lungs are clear bilaterally", "both lungs are clear"))
        remarks.append(_Remark(1, _end(text), _say(_BOTH_LUNGS, "normal")))
    elif len(sick) == 1 and draws.chance(0.25):
        side = "left" if "right" in sick else "right"
        remarks.append(_Remark(1, f"The {side} lung is clear.", _say((f"{side} lung",), "normal")))
    if CARDIOMEGALY not in kinds:
        text = draws.choice(
            (
                "heart size is normal",
                "the heart is normal in size",
                "the cardiac silhouette is normal",
                "cardiac silhouette is within normal limits",
            )
        )
        remarks.append(_Remark(3, _end(text), _say(("cardiac silhouette",), "normal")))
        if draws.chance(0.15):
            absent = _say(("cardiac silhouette",), CARDIOMEGALY, context="no")
            remarks[-1] = _Remark(3, draws.choice(("No cardiomegaly.", "The heart is not enlarged.")), absent)
        text = draws.choice(
            ("cardiomediastinal silhouette is within normal limits", "normal cardiomediastinal silhouette")
        )
        if draws.chance(0.4):
            remarks.append(_Remark(3, _end(text), _say(("cardiac silhouette", "mediastinum"), "normal")))
    elif draws.chance(0.5):
        remarks.append(_Remark(3, "Mediastinal contours are unremarkable.", _say(("mediastinum",), "normal")))
    if draws.chance(0.3):
        regions = ("right hilar structures", "left hilar structures")
        remarks.append(_Remark(3, "The hila are unremarkable.", _say(regions, "normal")))
    if DIAPHRAGM not in kinds and draws.chance(0.08):
        regions = ("right hemidiaphragm", "left hemidiaphragm")
        remarks.append(_Remark(4, "Neither hemidiaphragm is elevated.", _say(regions, DIAPHRAGM, context="no")))
    if DIAPHRAGM not in kinds and EFFUSION not in kinds and draws.chance(0.25):
        regions = ("right costophrenic angle", "left costophrenic angle")
        text = draws.choice(("the costophrenic angles are clear", "both CP angles are clear"))
        remarks.append(_Remark(2, _end(text), _say(regions, "normal")))
    return remarks


# --- devices ----------------------------------------------------------------------------------------------------------


def _device(scene: Scene, draws: Draws) -> _Remark:
    device = draws.choice(scene.devices)
    side = device.side
    options: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        TUBE: (
            ("an endotracheal tube terminates above the carina", "ET tube tip is above the carina"),
            ("trachea", "carina"),
        ),
        PACER: (
            (f"{side} chest wall pacemaker with leads over the heart", f"a {side}-sided pacemaker is in place"),
            ("cardiac silhouette", "right atrium"),
        ),
        PORT: (
            (f"{side} chest port terminates in the SVC", f"a {side} chest wall port is in place"),
            ("svc",),
        ),
        PICC: (
            (f"{side} PICC terminates in the SVC", f"a {side}-sided PICC ends near the cavoatrial junction"),
            ("svc", "cavoatrial junction"),
        ),
        LEADS: (("monitoring leads overlie the chest", "ECG leads overlie the mediastinum"), ("mediastinum",)),
    }
    texts, regions = options[device.kind]
    label = "artifact" if device.kind == LEADS else device.kind
    return _Remark(0 if draws.chance(0.6) else 5, _end(draws.choice(texts)), _say(regions, label))
