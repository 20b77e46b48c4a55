"""Splitting clinical notes into sentences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.benchmark.datasets.prose import split_sentences


@pytest.mark.parametrize(
    ("note", "sentences"),
    [
        ("", []),
        (" . ..", []),
        ("No full stop", ["No full stop"]),
        ("Lungs clear. Heart normal.", ["Lungs clear.", "Heart normal."]),
        ("Left lung is clear.  No effusion.", ["Left lung is clear.", "No effusion."]),
        (
            "Lower respiratory tract infection? Yes! Treated.",
            ["Lower respiratory tract infection?", "Yes!", "Treated."],
        ),
        ("Shadowing in left lower zone . New finding.", ["Shadowing in left lower zone .", "New finding."]),
        # Stops doubled by whoever joined the sections.
        (
            "Heart size normal.  Lungs clear.. Discussion: A patient.",
            ["Heart size normal.", "Lungs clear.", "A patient."],
        ),
        ("No pleural effusion. . Discussion: Typical.", ["No pleural effusion.", "Typical."]),
        ("Cough . Imaging Notes: Clear.. No effusion..", ["Cough .", "Clear.", "No effusion."]),
        # Headings are no part of a sentence; labels of an examination are.
        ("Presentation: Fever. Imaging notes: Patchy opacity.", ["Fever.", "Patchy opacity."]),
        ("PC: Dyspnea. BG: Asthma. Clinically high risk.", ["Dyspnea.", "Asthma.", "Clinically high risk."]),
        ("discharged in stable condition Discussion: This patient", ["discharged in stable condition", "This patient"]),
        ("Patient 3 - CXR: Consolidation.", ["Patient 3 - CXR: Consolidation."]),
        ("Chest X-ray: Normal. AP view: clear.", ["Chest X-ray: Normal.", "AP view: clear."]),
        # Not the end of a sentence.
        ("Bilateral opacities (Fig. 1). Intubated.", ["Bilateral opacities (Fig. 1).", "Intubated."]),
        ("Lower zones (Figs. 1a and b).", ["Lower zones (Figs. 1a and b)."]),
        ("Infection, e.g. Legionella. Treated.", ["Infection, e.g. Legionella.", "Treated."]),
        ("Found by Dr. Smith et al. In 2015.", ["Found by Dr. Smith et al. In 2015."]),
        ("C-reactive protein 38.3 and 1.5 mg/L. Fever.", ["C-reactive protein 38.3 and 1.5 mg/L.", "Fever."]),
        ("Grew S. Pneumoniae. Recovered.", ["Grew S. Pneumoniae.", "Recovered."]),
        ("2. Left effusion.", ["2. Left effusion."]),
        ("Infected with P. jirovecii.", ["Infected with P. jirovecii."]),
        # A question mark that replaces a lost character.
        ("Fever (38?C) and CRP 0 ? 1 mg/dL. Cough.", ["Fever (38?C) and CRP 0 ? 1 mg/dL.", "Cough."]),
        ("Maximum 39? C, cough.", ["Maximum 39? C, cough."]),
        ("typical organisms ? such as Streptococcus.", ["typical organisms ? such as Streptococcus."]),
        # The answer, and a number.
        ("Smoker: no. Cough.", ["Smoker: no.", "Cough."]),
        ("See no. 3 for details.", ["See no. 3 for details."]),
        # A blank forgotten after the stop.
        ("Cardiac size appears normal.This is a young man.", ["Cardiac size appears normal.", "This is a young man."]),
        ("A new lesion of 2 cm. Clear otherwise.", ["A new lesion of 2 cm.", "Clear otherwise."]),
        ("Improved over SpO2 85%. 24 hours later intubated.", ["Improved over SpO2 85%.", "24 hours later intubated."]),
        ('A "crazy paving" pattern. "Atoll sign." Biopsy.', ['A "crazy paving" pattern.', '"Atoll sign."', "Biopsy."]),
    ],
)
def test_sentences_of_a_note(note: str, sentences: list[str]) -> None:
    assert list(split_sentences(note)) == sentences


@given(st.text(alphabet=st.sampled_from("ab A.?!:\n0(\")'é"), max_size=60))
def test_nothing_but_stops_and_blanks_is_lost(note: str) -> None:
    kept = "".join(split_sentences(note))
    letters = re.compile(r"[^\W\d_]")
    assert letters.findall(kept) == letters.findall(note)
    assert all(sentence == sentence.strip() for sentence in split_sentences(note))


@given(st.text(max_size=80))
def test_any_text_is_split(note: str) -> None:
    assert all(sentence for sentence in split_sentences(note))
