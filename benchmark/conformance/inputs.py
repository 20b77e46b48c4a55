"""Is every film and every sentence answered, and does the answer depend on them?"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..protocol import AdapterError, Alignment, LoadedImage, check_alignment
from .material import findings, grainy_film
from .subject import Subject, Verdict, failed, not_shown, passed, relative_difference

LONG = 600
"""Words of a sentence that no model has room for."""
MODES = ("L", "RGB", "P", "RGBA", "LA", "1")


def modes(subject: Subject) -> Verdict:
    """The same film in Pillow's 8-bit modes."""
    grey, sentence = subject.images[0].pixels, subject.sentences[0]
    answers = [_answered(subject, grey.convert(mode), sentence).saliency for mode in MODES]
    off = max(
        relative_difference(answer, answers[0])
        for mode, answer in zip(MODES, answers, strict=True)
        if mode not in ("P", "1") and answer.shape == answers[0].shape
    )
    return passed(f"{', '.join(MODES)} are answered; grey, RGB and opaque films differ by at most {off:.1e}")


def shapes(subject: Subject) -> Verdict:
    """Films three times as wide as tall, and the other way round."""
    for width, height in ((240, 80), (80, 240)):
        _answered(subject, grainy_film(width, height), subject.sentences[0])
    return passed("films of 3:1 and 1:3 are answered")


def sentences(subject: Subject) -> Verdict:
    """A sentence of :data:`LONG` words, and a lone full stop."""
    film, words = subject.images[0].pixels, " ".join(subject.sentences).split()
    for sentence in (" ".join((words * LONG)[:LONG]), "."):
        _answered(subject, film, sentence)
    return passed(f'{LONG} words and "." are answered')


def text_sensitivity(subject: Subject) -> Verdict:
    """Other sentences, other maps."""
    images = [subject.images[0]] * len(subject.sentences)
    maps = subject.ask(images, subject.sentences).saliency
    return _differ(maps, "the map is the same for every sentence: text-blind")


def image_sensitivity(subject: Subject) -> Verdict:
    """Other pixels, other maps; under one name, so that nobody knows a film by it."""
    images = [LoadedImage("film", film.pixels) for film, _ in findings()[:4]]
    maps = subject.ask(images, [subject.sentences[0]] * len(images)).saliency
    return _differ(maps, "the map is the same for every film: image-blind")


def _answered(subject: Subject, pixels: Image.Image, sentence: str) -> Alignment:
    """The answer to one pair, found well formed; films all have one name, so that nobody knows one by it."""
    what = (
        f"a film of mode {pixels.mode}, {pixels.width} × {pixels.height}, with a sentence of {len(sentence)} characters"
    )
    try:
        result = subject.ask([LoadedImage("film", pixels)], [sentence])
        check_alignment(result, subject.model.card, [pixels.size], [what])
    except Exception as error:
        raise AdapterError(f"{what}: {type(error).__name__}: {error}") from error
    return result


def _differ(maps: torch.Tensor, blind: str) -> Verdict:
    shares = maps.detach().cpu().double().flatten(1)
    off = float((shares[1:] - shares[0]).abs().mean() / shares.abs().mean().clamp_min(1e-30))
    if not np.isfinite(off):
        return failed("maps are not finite")
    return not_shown(blind) if off == 0 else passed(f"maps differ by {off:.1%} of their mean value")
