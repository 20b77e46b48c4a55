"""The cards of the metrics that the harness computes, in the order in which lists show them."""

from __future__ import annotations

from functools import partial
from math import inf

from .metric import Metric

_PAPER = 'McInerney et al., "That\'s the Wrong Lung!", EMNLP 2022'
_GLORIA = 'Huang et al., "GLoRIA", ICCV 2021'
_POINTING = 'Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016'
_BIOVIL = 'BioViL (Boecking et al., "Making the Most of Text Semantics", ECCV 2022)'
_ENERGY = 'energy-based pointing game: Wang et al., "Score-CAM", CVPR workshops 2020'
_RANK_ACCURACY = 'Arras et al., "CLEVR-XAI", Information Fusion 2022'
_OWN = "defined here"

_NO_PIXEL = "a target without pixels: undefined"
_CHANCE = f"{_NO_PIXEL}; a constant map: the target's share of the pixels"
_SHARED = "pixels tied at the boundary are in by equal shares: the expectation over all ways to break the tie"

_share = partial(Metric, higher_is_better=True, range=(0.0, 1.0), margin=0.02)
"""A share of which more is better."""
_diagnostic = partial(Metric, higher_is_better=None)


def _top(p: int) -> tuple[Metric, ...]:
    pixels = f"the {p} % of pixels with the highest saliency"
    share = partial(_share, source=_PAPER, ties=f"{_SHARED}; `released` definitions: pixels at the threshold are in")
    chance = f"{_NO_PIXEL}; a constant map: as if the pixels were drawn at random"
    return (
        share(f"precision@{p}", f"share of {pixels} that lies in the boxes", degenerate=chance),
        share(f"recall@{p}", f"share of the boxes' pixels among {pixels}", degenerate=chance),
        share(f"f1@{p}", f"harmonic mean of precision@{p} and recall@{p} (Dice)", degenerate=chance),
        share(
            f"iou@{p}",
            f"intersection over union of {pixels} and the boxes",
            degenerate=chance,
            ties=f"{_SHARED}; `released` definitions: pixels at the threshold are out",
        ),
    )


_RANKING = (
    _share(
        "auroc",
        "chance that a pixel in the boxes has a higher saliency than one outside, ties counting one half",
        source=_PAPER,
        ties="a tied pair counts one half",
        degenerate=f"{_NO_PIXEL}, as is a target that fills the image; a constant map: one half",
    ),
    _share(
        "average_precision",
        "precision of the pixel ranking, averaged over the boxes' pixels (step sum, ties joined)",
        source=_PAPER,
        ties="tied pixels enter the ranking together",
        degenerate=f"{_CHANCE}; a target that fills the image: 1",
    ),
    *(metric for p in (5, 10, 20, 30) for metric in _top(p)),
    _share(
        "average_precision_normalized",
        "(average precision − prevalence) / (1 − prevalence), prevalence being the boxes' share of the pixels: 0 is chance, "
        "1 perfect",
        range=(-inf, 1.0),
        source="average precision corrected for chance, as Cohen's kappa corrects agreement",
        ties="tied pixels enter the ranking together",
        degenerate=f"{_NO_PIXEL}, as is a target that fills the image; a constant map: 0, and so one that is flat and lowest "
        "in the boxes",
        headline=True,
    ),
    _share(
        "relevance_rank_accuracy",
        "share of the boxes among the pixels with the highest saliency, as many as the boxes have (R-precision)",
        source=_RANK_ACCURACY,
        ties=_SHARED,
        degenerate=f"{_CHANCE}; a target that fills the image: 1",
        headline=True,
    ),
)

_POINTS = (
    _share(
        "pointing_game",
        "chance that the pixel with the highest saliency lies in the boxes (hit rate)",
        source=f"{_POINTING}; expected over ties",
        ties="of tied maxima, the share that lies in the boxes",
        degenerate=f"{_CHANCE}; a target that fills the image: 1",
        headline=True,
    ),
    _share(
        "pointing_game_first",
        "pointing_game for the first of tied maxima alone, as an argmax finds it",
        source=_POINTING,
        ties="the first of tied maxima, row by row from the top left, decides",
        degenerate=f"{_NO_PIXEL}; a constant map: whether the top left pixel is in the boxes; a target that fills the image: 1",
    ),
    _diagnostic(
        "pointing_game_any",
        "pointing_game where one of tied maxima in the boxes is enough; a constant map always wins, so nothing is ranked "
        "by it",
        range=(0.0, 1.0),
        source=_POINTING,
        ties="one of tied maxima in the boxes is enough",
        degenerate=f"{_NO_PIXEL}; a constant map: 1; a target that fills the image: 1",
    ),
    _share(
        "pointing_game_tolerance15",
        "pointing_game where 15 pixels of the scoring grid beside the boxes, or less, are a hit",
        source=f"{_POINTING}; as in TorchRay: a disc around the maximum touches the target",
        ties="of tied maxima, the share that lies near enough",
        degenerate=f"{_NO_PIXEL}; a constant map: the share of pixels near enough; a target that fills the image: 1",
    ),
)

_cnr = partial(
    Metric,
    source=f"contrast-to-noise ratio of {_BIOVIL}, there without the sign; here over the union of the boxes",
    ties="none: values count, not ranks",
    degenerate=f"{_NO_PIXEL}, as is a target that fills the image, and one with another mean than its surroundings where "
    "both are flat; a constant map: 0. Pixels that the model never saw are left out",
)
_THRESHOLDS = "averaged over t = 0.1, 0.2, 0.3, 0.4, 0.5"
_MINMAX = (
    "a target without pixels: undefined; a constant map: 0, as nothing exceeds t. Pixels that the model never saw are below "
    "every t and do not count for the range"
)
_mass = partial(
    Metric,
    higher_is_better=True,
    ties="none: values count, not ranks",
    degenerate=f"{_NO_PIXEL}, as is a map without mass. Pixels that the model never saw have none",
)

_VALUES = (
    _cnr(
        "cnr",
        "mean saliency in the boxes minus that outside, over the square root of the sum of both (population) variances; "
        "negative on the wrong side",
        higher_is_better=True,
        range=(-inf, inf),
        margin=0.05,
        headline=True,
    ),
    _cnr(
        "cnr_absolute",
        "cnr without its sign, as published; a map on the wrong lung scores like one on the right one, so nothing is "
        "ranked by it",
        higher_is_better=None,
        range=(0.0, inf),
    ),
    _share(
        "miou_minmax",
        f"intersection over union of the boxes and the pixels above t, {_THRESHOLDS}; the map is brought to 0 … 1 first",
        source=f"mIoU of {_BIOVIL}; normalized by the map's own least and largest value",
        ties="tied pixels are above t together",
        degenerate=_MINMAX,
    ),
    _share(
        "miou_clamp",
        f"intersection over union of the boxes and the pixels above t, {_THRESHOLDS}; the map as it is, negative values "
        "raised to 0: for cosines",
        source=f"mIoU of {_BIOVIL}",
        ties="tied pixels are above t together",
        degenerate="a target without pixels: undefined; a constant map: 0, or where its value exceeds t the target's share of "
        "the pixels. Pixels that the model never saw are below every t",
    ),
    _share(
        "mdice_minmax",
        f"twice the overlap of the boxes and the pixels above t over the sum of both, {_THRESHOLDS}; the map is brought to "
        "0 … 1 first",
        source="Dice, with the thresholds of miou_minmax",
        ties="tied pixels are above t together",
        degenerate=_MINMAX,
    ),
    _mass(
        "mass_inside",
        "share of the map's mass that lies in the boxes (the card's mass rule, applied to the pixels of the scoring grid)",
        range=(0.0, 1.0),
        source=_ENERGY,
        margin=0.02,
    ),
    _mass(
        "mass_inside_lift",
        "mass_inside over the boxes' share of the pixels: 1 is chance",
        range=(0.0, inf),
        source=_ENERGY,
        margin=0.05,
    ),
    _mass(
        "laterality_index",
        "mass in the half of the image where the boxes lie minus mass in the other half, over all mass: −1 is exactly the "
        "wrong lung, 0 takes no side, 1 is the right one; only where 95 % of the boxes lie on one side of the image's midline",
        range=(-1.0, 1.0),
        source=_OWN,
        degenerate=f"{_NO_PIXEL}, as is a target on both sides and a map without mass; a constant map: 0 where the image is "
        "centred in the frame. Mass on padding is in neither half; pixels that the model never saw have none",
        margin=0.04,
        headline=True,
    ),
    _mass(
        "laterality_swap_gain",
        "laterality_index of the true sentence minus that of the sentence with left and right swapped, for the same boxes: "
        "2 follows the words, 0 is blind to them; only where the swap changes the sentence",
        range=(-2.0, 2.0),
        source=_OWN,
        degenerate="where laterality_index is undefined: undefined",
        margin=0.04,
    ),
)

_DIAGNOSTICS = (
    _diagnostic(
        "entropy",
        "entropy of the map over its regions, in nats",
        range=(0.0, inf),
        source=_PAPER,
        degenerate="a map without mass: undefined; a constant map: the logarithm of the number of regions",
    ),
    _diagnostic(
        "focus",
        "1 − exp(entropy) / number of regions: the share of the regions that the map leaves out; a no-attention weight "
        "counts as one more region",
        range=(0.0, 1.0),
        source=f"{_OWN}, from the effective number of regions, exp(entropy)",
        degenerate="a map without mass: undefined; a constant map: 0",
    ),
    _diagnostic(
        "no_attention_weight", "attention that the model put on no region at all", range=(0.0, 1.0), source=_PAPER
    ),
    _diagnostic(
        "random_attention_kl",
        "symmetric KL divergence between the maps of the true and of a random sentence, in nats",
        range=(0.0, inf),
        source=_PAPER,
        degenerate="a map without mass, and maps of different sizes: undefined",
    ),
    _diagnostic(
        "local_similarity",
        "the model's similarity of sentence and image regions, on its own scale",
        range=(-inf, inf),
        source=_GLORIA,
    ),
    _diagnostic(
        "global_similarity",
        "the model's similarity of sentence and whole image, on its own scale",
        range=(-inf, inf),
        source=_GLORIA,
    ),
)


def _selection(kind: str) -> tuple[Metric, ...]:
    name = f"selection_accuracy_{kind}"
    share = partial(_share, ties="equal similarities count one half", degenerate="a model without it: undefined")
    return (
        share(
            name,
            f"how often the true sentence has a higher {kind} similarity than a random one of another report",
            source=_PAPER,
        ),
        share(
            f"{name}_exhaustive",
            f"{name}, expected over all sentences of other reports",
            source=f"the expectation of {name}'s random draw",
        ),
    )


CARDS = (*_RANKING, *_POINTS, *_VALUES, *_DIAGNOSTICS, *_selection("local"), *_selection("global"))
