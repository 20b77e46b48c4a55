"""Floors: what a map is worth that knows nothing of the sentence, or nothing at all."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from ..benchmark.protocol import LoadedImage, ModelCard
from .functions import FunctionModel, Map
from .preprocessing.greyscale import grey

GRID = 28


def uniform() -> FunctionModel:
    """The same value everywhere: AUROC one half, average precision the share of positive pixels."""
    return FunctionModel(_card("uniform", "constant"), lambda image, sentence: np.ones((GRID, GRID)))


def center_prior(width: float = 0.25) -> FunctionModel:
    """A Gaussian in the middle of the image; ``width`` is its standard deviation as a share of the image's sides."""
    axis = (np.arange(GRID) + 0.5) / GRID - 0.5
    bell = np.exp(-0.5 * (axis / width) ** 2)
    blob = np.outer(bell, bell)
    return FunctionModel(_card("center-prior", "centred Gaussian", width=width), lambda image, sentence: blob)


def random(seed: int = 0) -> FunctionModel:
    """Independent noise, new for each image and sentence."""

    def noise(image: LoadedImage, sentence: str) -> Map:
        digest = hashlib.sha256(f"{seed}\0{image.id}\0{sentence}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest)).random((GRID, GRID))

    return FunctionModel(_card("random", "uniform noise", seed=seed), noise)


def text_blind(sigma: float = 2.5) -> FunctionModel:
    """Spectral residual saliency of the image alone (Hou and Zhang, CVPR 2007), whatever the sentence.

    The image is shrunk to 64 × 64; the log amplitude spectrum minus its 3 × 3 mean goes back with the original phase, is
    squared and smoothed with a Gaussian of ``sigma`` cells.
    """
    latest: list[tuple[Image.Image, Map]] = []

    def saliency(image: LoadedImage, sentence: str) -> Map:
        # The sentences of an image come one after another.
        if not latest or latest[0][0] is not image.pixels:
            latest[:] = [(image.pixels, spectral_residual(image.pixels, sigma))]
        return latest[0][1]

    return FunctionModel(_card("text-blind", "spectral residual of the image", sigma=sigma), saliency)


def spectral_residual(pixels: Image.Image, sigma: float) -> Map:
    """Saliency of an image, float64 [64, 64], positive."""
    levels = Image.fromarray(grey(pixels, "minmax")).resize((64, 64), Image.Resampling.BOX)
    spectrum = fft.fft2(np.asarray(levels, dtype=np.float64))
    log_amplitude = np.log(np.abs(spectrum) + 1e-8)
    residual = log_amplitude - ndimage.uniform_filter(log_amplitude, size=3, mode="wrap")
    saliency = np.abs(fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    # A flat image has no salient place; the tiny constant keeps its map uniform instead of 0/0.
    return ndimage.gaussian_filter(saliency, sigma, mode="nearest") + 1e-12


def _card(name: str, method: str, **settings: float) -> ModelCard:
    return ModelCard(
        name=name,
        role="floor",
        saliency_method=method,
        map_kind="distribution",
        preprocessing="whole image, squashed",
        settings=settings,
    )
