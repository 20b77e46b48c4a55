"""The categories of Chest ImaGenome's labels."""

from __future__ import annotations

_ELSEWHERE = {
    "nlp": ("normal", "abnormal"),
    "disease": (
        "pneumonia",
        "fluid overload/heart failure",
        "copd/emphysema",
        "granulomatous disease",
        "interstitial lung disease",
        "goiter",
        "lung cancer",
        "aspiration",
        "alveolar hemorrhage",
        "pericardial effusion",
    ),
    "technicalassessment": ("low lung volumes", "rotated", "artifact", "breast/nipple shadows", "skin fold"),
    "tubesandlines": (
        "chest tube",
        "mediastinal drain",
        "pigtail catheter",
        "endotracheal tube",
        "tracheostomy tube",
        "picc",
        "ij line",
        "chest port",
        "subclavian line",
        "swan-ganz catheter",
        "intra-aortic balloon pump",
        "enteric tube",
    ),
    "device": ("sternotomy wires", "cabg grafts", "aortic graft/repair", "prosthetic valve", "cardiac pacer and wires"),
    "texture": ("opacity", "alveolar", "interstitial", "calcified", "lucency"),
}
_CATEGORY = {label: category for category, labels in _ELSEWHERE.items() for label in labels}


def category(label: str) -> str:
    """The category of a label, for example "disease" of "pneumonia"; "anatomicalfinding" for all that are in no other."""
    return _CATEGORY.get(label, "anatomicalfinding")
