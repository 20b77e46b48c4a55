"""The radiology knowledge base: complete over Chest ImaGenome's findings, unambiguous, and silent about places."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wronglung.adapters.gloria.training.entities import RADIOLOGY_BASE

LINES = RADIOLOGY_BASE.read_text(encoding="ascii").splitlines()
CONCEPTS: list[dict[str, Any]] = [json.loads(line) for line in LINES]

CHEST_IMAGENOME = {
    "anatomicalfinding": (
        "lung opacity, airspace opacity, consolidation, infiltration, atelectasis, linear/patchy atelectasis, "
        "lobar/segmental collapse, pulmonary edema/hazy opacity, vascular congestion, vascular redistribution, "
        "increased reticular markings/ild pattern, pleural effusion, costophrenic angle blunting, "
        "pleural/parenchymal scarring, bronchiectasis, enlarged cardiac silhouette, mediastinal displacement, "
        "mediastinal widening, enlarged hilum, tortuous aorta, vascular calcification, pneumomediastinum, pneumothorax, "
        "hydropneumothorax, lung lesion, mass/nodule (not otherwise specified), multiple masses/nodules, "
        "calcified nodule, superior mediastinal mass/enlargement, rib fracture, clavicle fracture, spinal fracture, "
        "hyperaeration, cyst/bullae, elevated hemidiaphragm, diaphragmatic eventration (benign), "
        "sub-diaphragmatic air, subdiaphragmatic air, subcutaneous air, hernia, scoliosis, spinal degenerative changes, "
        "shoulder osteoarthritis, bone lesion"
    ),
    "disease": (
        "pneumonia, fluid overload/heart failure, copd/emphysema, granulomatous disease, interstitial lung disease, "
        "goiter, lung cancer, aspiration, alveolar hemorrhage, pericardial effusion"
    ),
    "technicalassessment": "low lung volumes, rotated, artifact, breast/nipple shadows, skin fold",
    "tubesandlines": (
        "chest tube, mediastinal drain, pigtail catheter, endotracheal tube, tracheostomy tube, picc, ij line, "
        "chest port, subclavian line, swan-ganz catheter, intra-aortic balloon pump, enteric tube"
    ),
    "device": "sternotomy wires, cabg grafts, aortic graft/repair, prosthetic valve, cardiac pacer and wires",
    "texture": "opacity, alveolar, interstitial, calcified, lucency",
    "nlp": "abnormal",
}


@pytest.mark.parametrize("category", CHEST_IMAGENOME)
def test_every_finding_of_chest_imagenome_is_a_concept_of_its_category(category: str) -> None:
    names = {
        name
        for concept in CONCEPTS
        if category in concept["types"]
        for name in (concept["canonical_name"], *concept["aliases"])
    }
    assert set(CHEST_IMAGENOME[category].split(", ")) <= names


def test_every_concept_has_what_scispacy_reads() -> None:
    for concept in CONCEPTS:
        assert list(concept) == ["concept_id", "canonical_name", "aliases", "types", "definition"]
        assert concept["canonical_name"] not in concept["aliases"]
        assert concept["aliases"] == sorted(concept["aliases"], key=str.lower)
        assert concept["definition"].endswith(".")  # without a definition scispaCy links near-perfect matches only
        assert len(concept["types"]) == 1


def test_concepts_are_sorted_and_distinct() -> None:
    ids = [concept["concept_id"] for concept in CONCEPTS]
    assert ids == sorted(set(ids))


def test_no_name_means_two_concepts() -> None:
    owners: dict[str, str] = {}
    for concept in CONCEPTS:
        for name in {name.lower() for name in (concept["canonical_name"], *concept["aliases"])}:
            assert owners.setdefault(name, concept["concept_id"]) == concept["concept_id"], name


def test_no_name_says_which_side() -> None:
    sides = {"left", "right", "bilateral", "bilaterally", "unilateral", "both", "l", "r"}
    for concept in CONCEPTS:
        for name in (concept["canonical_name"], *concept["aliases"]):
            assert sides.isdisjoint(name.lower().replace("-", " ").split()), name


@pytest.mark.parametrize(
    "word", ["normal", "clear", "no", "lung", "lungs", "heart", "pleura", "mediastinum", "small", "moderate", "base"]
)
def test_structures_places_severity_and_negation_are_no_concepts(word: str) -> None:
    names = {name.lower() for one in CONCEPTS for name in (one["canonical_name"], *one["aliases"])}
    assert word not in names
