"""Sentences of free-text clinical notes."""

from __future__ import annotations

import re

# Headings of the notes' sections. They stand before a sentence and are not part of it; a heading also starts a new
# sentence where the full stop before it is missing. Other labels ("Chest X-ray:", "Patient 3 - CXR:") belong to theirs.
_HEADING = re.compile(
    r"(?:\b(?:Presentation|Imaging [Nn]otes|Imaging [Ff]indings|(?:Case )?Discussion|Clinical details"
    r"|Gross description|Microscopy|Impression|IMPRESSION|Findings|FINDINGS)|(?<!\w)(?:PC|BG|PMH)):"
)
# One or more stops, also with blanks between them ("clear. . Discussion"), and a closing quote or bracket. A question
# mark after a blank or a digit is, in the public notes, what is left of a lost character ("38?C", "0 ? 1").
_STOP = re.compile(r"(?:\.|!|(?<![\s\d])\?)+[\"')\]]*(?:\s*\.)*")
_STARTS = re.compile(r"\s+[\"'(\[]?[A-Z0-9]")
_STARTS_AT_ONCE = re.compile(r"[A-Z][a-z]")
_ABBREVIATIONS = frozenset(
    ["al", "approx", "ca", "cf", "dr", "e.g", "eg", "fig", "figs", "i.e", "ie", "incl", "mr", "mrs", "ms", "prof", "vs"]
)


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a note in order, without section headings and outer blanks; the rest is left as it is written.

    A sentence ends at ``.``, ``!`` or ``?`` when a capital, a digit or a heading follows after a blank, or a
    capitalised word follows at once ("normal.This is"). Abbreviations ("Fig. 1", "e.g. The"), single initials,
    decimals and the numbers of a list do not end one. Pieces without a letter are dropped.
    """
    sentences = []
    for section in _HEADING.sub("\0", text).split("\0"):
        start = 0
        for match in _STOP.finditer(section):
            if _ends_sentence(section, start, match):
                sentences.append(section[start : match.end()])
                start = match.end()
        sentences.append(section[start:])
    return tuple(_without_extra_stops(one) for one in sentences if re.search(r"[^\W\d_]", one))


def _ends_sentence(section: str, start: int, stop: re.Match[str]) -> bool:
    follows = _STARTS.match(section, stop.end())
    if follows is None:
        before = section[stop.start() - 1 : stop.start()]
        return before.islower() and _STARTS_AT_ONCE.match(section, stop.end()) is not None
    if stop[0] != ".":
        return True
    if section[start : stop.start()].strip().isdigit():  # the number of a list: "2. Left effusion."
        return False
    word = re.search(r"(\S*)$", section[max(0, stop.start() - 20) : stop.start()])
    assert word is not None
    last = word[1].lstrip("([\"'").lower()
    if last == "no":  # the answer, unless a number follows
        return not follows[0][-1].isdigit()
    return last not in _ABBREVIATIONS and not (len(last) == 1 and last.isalpha() and word[1].isupper())


def _without_extra_stops(sentence: str) -> str:
    sentence = re.sub(r"\A[\s.]+", "", sentence).rstrip()
    words = sentence.rstrip(". \t\r\n")
    stops = sentence[len(words) :]
    return words if words.endswith(("!", "?")) else words + stops[: stops.find(".") + 1]
