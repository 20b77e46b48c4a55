"""What is on a film: a patient's anatomy, the lesions and devices of each study, and how the film was taken.

Chest coordinates (u, v): u = 0 is the patient's midline and grows towards the patient's left, which is the viewer's
right; |u| = 1 is the widest place of a lung. v = 0 is the apex of the lungs and v = 1 their lowest place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .random import Draws

Side = Literal["right", "left"]
Zone = Literal["upper", "mid", "lower"]
Split = Literal["train", "valid", "test"]

SIDES: tuple[Side, ...] = ("right", "left")
ZONES: tuple[Zone, ...] = ("upper", "mid", "lower")

OPACITY = "lung opacity"
CONSOLIDATION = "consolidation"
NODULE = "mass/nodule (not otherwise specified)"
EFFUSION = "pleural effusion"
PNEUMOTHORAX = "pneumothorax"
ATELECTASIS = "atelectasis"
EDEMA = "pulmonary edema/hazy opacity"
CARDIOMEGALY = "enlarged cardiac silhouette"
DIAPHRAGM = "elevated hemidiaphragm"

KINDS = (OPACITY, CONSOLIDATION, NODULE, EFFUSION, PNEUMOTHORAX, ATELECTASIS, EDEMA, CARDIOMEGALY, DIAPHRAGM)
"""The labels of all lesions, as in Chest ImaGenome."""
LUNG_KINDS = KINDS[:7]

MILD, MODERATE, SEVERE = 0, 1, 2


class Lesion(NamedTuple):
    """One lesion in one place. ``side`` is None for the heart, ``zone`` is None where a lesion has no zone.

    ``shape`` are numbers in [0, 1) that vary its form.
    """

    kind: str
    side: Side | None
    zone: Zone | None
    severity: int
    shape: tuple[float, ...]


class Device(NamedTuple):
    """A device that shows on the film: its Chest ImaGenome label (or "leads"), side (None: midline), form."""

    kind: str
    side: Side | None
    shape: tuple[float, ...]


class Anatomy(NamedTuple):
    """A patient's form, in chest coordinates."""

    width: float  # of the film that one unit of u takes
    height: float  # of the film that one unit of v takes
    right_dome: float  # height of the hemidiaphragm above v = 1
    left_dome: float
    heart_right: float  # reach of the heart to the patient's right of the midline
    heart_left: float
    heart_centre: float  # v
    heart_height: float  # half of it
    aorta: float  # u of the aortic knob
    shoulder: float  # |u| of the body's outline
    rib_count: float
    rib_first: float  # v of the first rib at the spine
    rib_spacing: float
    rib_drop: float  # v by which a rib falls from the spine to |u| = 1
    clavicle: float  # v by which a clavicle rises to the side
    bubble: float  # radius of the gastric bubble, 0 for none
    streaks: float  # number of vessels that leave the hilum


class Exposure(NamedTuple):
    """How one film was taken. Shifts are fractions of the film, levels fractions of its grey range."""

    shift_x: float
    shift_y: float
    zoom: float
    tilt: float  # shift to the viewer's right per shift down
    contrast: float
    brightness: float
    gradient_x: float
    gradient_y: float
    lung: float  # level of a healthy lung
    ribs: float  # how much a rib adds
    texture: float
    noise: float


class Scene(NamedTuple):
    """All that there is to say of a film; the pixels follow from it. ``noise_key`` is the (seed, stream) of its noise."""

    image_id: str
    study_id: str
    patient_id: str
    split: Split
    anatomy: Anatomy
    exposure: Exposure
    lesions: tuple[Lesion, ...]
    devices: tuple[Device, ...]
    noise_key: tuple[int, int]
    report_key: tuple[int, int]


class Shape(NamedTuple):
    """The outlines that lesions move, in chest coordinates, as :class:`Anatomy` has them."""

    right_dome: float
    left_dome: float
    heart_right: float
    heart_left: float
    heart_centre: float
    heart_height: float


_STREAMS = 16  # streams a patient
_NOISE, _REPORT = 1, 8

ENLARGEMENT = (1.28, 1.45, 1.65)
ELEVATION = (0.13, 0.22, 0.32)


def shape(scene: Scene) -> Shape:
    """The heart and hemidiaphragms of a film, as enlarged or raised by its lesions."""
    body = scene.anatomy
    domes = {"right": body.right_dome, "left": body.left_dome}
    grown = 1.0
    for lesion in scene.lesions:
        if lesion.kind == CARDIOMEGALY:
            grown = ENLARGEMENT[lesion.severity]
        elif lesion.kind == DIAPHRAGM and lesion.side is not None:
            domes[lesion.side] += ELEVATION[lesion.severity]
    taller = 1 + (grown - 1) * 0.35
    return Shape(
        domes["right"],
        domes["left"],
        body.heart_right * (1 + (grown - 1) * 1.2),
        body.heart_left * grown,
        body.heart_centre,
        body.heart_height * taller,
    )


def patient_scenes(seed: int, number: int, split: str = "all") -> tuple[Scene, ...]:
    """The one to three films of a patient, oldest first; none when the patient belongs to another split.

    A patient depends on ``seed`` and ``number`` alone.
    """
    draws = Draws(seed, number * _STREAMS)
    own_split: Split = ("train", "valid", "test")[draws.weighted((0.7, 0.1, 0.2))]
    if split not in ("all", own_split):
        return ()
    body = _anatomy(draws)
    devices = _devices(draws)
    scenes: list[Scene] = []
    lesions: tuple[Lesion, ...] = ()
    for study in range(1 + draws.weighted((0.55, 0.3, 0.15))):
        words = [draws.word() >> 32 for _ in range(5)]
        lesions = _lesions(draws, lesions)
        if study and draws.chance(0.4):
            devices = _devices(draws)
        stream = number * _STREAMS + study
        scenes.append(
            Scene(
                image_id="-".join(f"{word:08x}" for word in words),
                study_id=str(50_000_000 + number * 3 + study),
                patient_id=str(10_000_000 + number),
                split=own_split,
                anatomy=_jittered(body, draws) if study else body,
                exposure=_exposure(draws),
                lesions=lesions,
                devices=devices,
                noise_key=(seed, stream + _NOISE),
                report_key=(seed, stream + _REPORT),
            )
        )
    return tuple(scenes)


def _anatomy(draws: Draws) -> Anatomy:
    right = draws.between(0.1, 0.16)
    return Anatomy(
        width=draws.between(0.36, 0.41),
        height=draws.between(0.62, 0.7),
        right_dome=right + draws.between(0.01, 0.04),
        left_dome=right,
        heart_right=draws.between(0.24, 0.32),
        heart_left=draws.between(0.44, 0.56),
        heart_centre=draws.between(0.68, 0.73),
        heart_height=draws.between(0.22, 0.27),
        aorta=draws.between(0.14, 0.2),
        shoulder=draws.between(1.18, 1.35),
        rib_count=5.0 + draws.index(3),
        rib_first=draws.between(-0.06, 0.0),
        rib_spacing=draws.between(0.115, 0.135),
        rib_drop=draws.between(0.12, 0.2),
        clavicle=draws.between(0.08, 0.18),
        bubble=draws.between(0.1, 0.18) if draws.chance(0.5) else 0.0,
        streaks=draws.between(2.2, 3.6),
    )


def _jittered(body: Anatomy, draws: Draws) -> Anatomy:
    """The same patient at another breath."""
    breath = draws.between(-0.02, 0.02)
    return body._replace(
        width=body.width * draws.between(0.985, 1.015),
        height=body.height * draws.between(0.98, 1.02),
        right_dome=body.right_dome + breath,
        left_dome=body.left_dome + breath,
        heart_left=body.heart_left * draws.between(0.98, 1.02),
        bubble=draws.between(0.1, 0.18) if draws.chance(0.5) else 0.0,
    )


def _exposure(draws: Draws) -> Exposure:
    return Exposure(
        shift_x=draws.between(-0.035, 0.035),
        shift_y=draws.between(-0.035, 0.035),
        zoom=draws.between(0.93, 1.05),
        tilt=draws.between(-0.07, 0.07),
        contrast=draws.between(0.95, 1.05),
        brightness=draws.between(-0.02, 0.02),
        gradient_x=draws.between(-0.02, 0.02),
        gradient_y=draws.between(-0.02, 0.02),
        lung=draws.between(0.2, 0.27),
        ribs=draws.between(0.025, 0.045),
        texture=draws.between(0.01, 0.025),
        noise=draws.between(0.006, 0.014),
    )


# --- devices ----------------------------------------------------------------------------------------------------------

TUBE, PACER, PORT, PICC, LEADS = "endotracheal tube", "cardiac pacer and wires", "chest port", "picc", "leads"
_DEVICES = ((TUBE, 0.12), (PACER, 0.1), (PORT, 0.07), (PICC, 0.12), (LEADS, 0.15))


def _devices(draws: Draws) -> tuple[Device, ...]:
    devices: list[Device] = []
    for kind, probability in _DEVICES:
        form = tuple(draws.unit() for _ in range(4))
        side = draws.choice(SIDES)
        taken = any(one.kind in (PACER, PORT) and one.side == side for one in devices)
        if draws.chance(probability) and not (kind == PORT and taken):
            devices.append(Device(kind, None if kind in (TUBE, LEADS) else side, form))
    return tuple(devices)


# --- lesions ----------------------------------------------------------------------------------------------------------

_COUNTS = (0.1, 0.44, 0.36, 0.1)
_WEIGHTS = (1.3, 1.1, 0.9, 1.3, 1.1, 0.9, 0.9, 0.9, 0.6)
_BOTH = {OPACITY: 0.1, CONSOLIDATION: 0.08, EFFUSION: 0.22, ATELECTASIS: 0.12, EDEMA: 0.5}
_SEVERITIES = (0.12, 0.38, 0.5)
_OTHER_SIDE = 0.7
_DIFFUSE = 0.55  # of opacities and consolidations that fill a lung
_FORM = 20
_ATTEMPTS = 30  # some lesions leave no room for others

# Pairs that cannot be told apart, or that one hides, in the same lung.
_HIDES = (
    {OPACITY, CONSOLIDATION},
    {OPACITY, EDEMA},
    {CONSOLIDATION, EDEMA},
    {EFFUSION, DIAPHRAGM},
    {EFFUSION, ATELECTASIS},
    {DIAPHRAGM, ATELECTASIS},
    {PNEUMOTHORAX, OPACITY},
    {PNEUMOTHORAX, CONSOLIDATION},
    {PNEUMOTHORAX, NODULE},
    {PNEUMOTHORAX, EDEMA},
    {PNEUMOTHORAX, EFFUSION},
)


def _lesions(draws: Draws, earlier: tuple[Lesion, ...]) -> tuple[Lesion, ...]:
    """The lesions of a study: some of the earlier study's, and new ones. In the order of :data:`KINDS`, right first."""
    wanted = draws.weighted(_COUNTS)
    lesions: list[Lesion] = []
    kinds: list[str] = []
    for kind in dict.fromkeys(lesion.kind for lesion in earlier):
        stays, shift = draws.chance(0.6), draws.weighted((0.25, 0.5, 0.25)) - 1
        if stays and len(kinds) < wanted:
            kinds.append(kind)
            lesions += [
                one._replace(severity=min(SEVERE, max(MILD, one.severity + shift)))
                for one in earlier
                if one.kind == kind
            ]
    for _ in range(_ATTEMPTS):
        if len(kinds) >= wanted:
            break
        kind = KINDS[draws.weighted(_WEIGHTS)]
        new = _new_lesions(draws, kind, lesions)
        if kind not in kinds and not any(_clash(one, other) for one in new for other in lesions):
            kinds.append(kind)
            lesions += new
    order = {kind: at for at, kind in enumerate(KINDS)}
    return tuple(sorted(lesions, key=lambda one: (order[one.kind], one.side == "left")))


def _new_lesions(draws: Draws, kind: str, others: Sequence[Lesion]) -> list[Lesion]:
    """A lesion of a kind in one lung or both; in one, rather in that which the others leave free."""
    severity = draws.weighted(_SEVERITIES)
    sides: tuple[Side | None, ...] = (_free_side(draws, others),)
    if kind == CARDIOMEGALY:
        sides = (None,)
    elif draws.chance(_BOTH.get(kind, 0.0)):
        sides = SIDES
    lesions = []
    for side in sides:
        zone: Zone | None = None
        if kind == NODULE or (kind in (OPACITY, CONSOLIDATION) and not draws.chance(_DIFFUSE)):
            zone = draws.choice(ZONES)
        elif kind == ATELECTASIS:
            zone = "mid" if draws.chance(0.25) else "lower"
        form = tuple(draws.unit() for _ in range(_FORM))
        own = severity if len(sides) == 1 or draws.chance(0.5) else draws.weighted(_SEVERITIES)
        lesions.append(Lesion(kind, side, zone, own, form))
    return lesions


def _free_side(draws: Draws, others: Sequence[Lesion]) -> Side:
    side = draws.choice(SIDES)
    other: Side = "left" if side == "right" else "right"
    taken = [lesion.side for lesion in others]
    return other if taken.count(side) > taken.count(other) and draws.chance(_OTHER_SIDE) else side


def _clash(one: Lesion, other: Lesion) -> bool:
    if one.side != other.side or one.side is None:
        return False
    if {one.kind, other.kind} in _HIDES:
        return True
    if one.zone is not None and one.zone == other.zone:
        return True
    for big, small in ((one, other), (other, one)):
        # A large effusion or opacity leaves no lung to see another lesion in; a moderate effusion hides the base.
        if big.kind in (EFFUSION, OPACITY, CONSOLIDATION) and (
            big.severity == SEVERE or (big.zone is None and big.kind != EFFUSION)
        ):
            return True
        if big.kind == EFFUSION and big.severity == MODERATE and small.zone == "lower":
            return True
    return False
