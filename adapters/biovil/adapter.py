"""BioViL and BioViL-T as alignment models: the catalogue's ``biovil`` and ``biovil-t``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from ...benchmark.errors import WronglungError
from ..dual import TAU, Dense, DualModel, DualNetwork, Gradient, chosen_method, dual_card
from ..files.hub import model_folder
from ..files.state_dicts import file_digest, load_strictly, read_state_dict
from ..networks.bert import UNUSED, WordPieces, bert_config, without_padding
from ..networks.resnet import resnet_shape
from ..preprocessing.pixels import biovil
from ..saliency.cosine import LocalSimilarity
from ..saliency.gradient import gradcam
from .network import BioVil, ImageEncoder, TextEncoder
from .smoothing import gaussian

BIOVIL = "microsoft/BiomedVLP-CXR-BERT-specialized"
BIOVIL_T = "microsoft/BiomedVLP-BioViL-T"

_REVISIONS = {BIOVIL: "v1.1", BIOVIL_T: "v1.0"}
"""Those whose image files the authors' library uses."""

_IMAGE_FILES = ("biovil_image_resnet50_proj_size_128.pt", "biovil_t_image_model_proj_size_128.pt")
_TEXT_FILES = ("model.safetensors", "pytorch_model.bin")

RESIZE, CROP, TEMPORAL_CROP = 512, 480, 448
SMOOTHING = 1.5
"""Standard deviation in cells of the Gaussian that the authors' maps, published figures included, are smoothed with."""


def load(
    weights: str = BIOVIL,
    method: str | None = None,
    smoothing: float = SMOOTHING,
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """BioViL or BioViL-T (MIT licence), chest X-ray encoders whose patches live in the sentence's space.

    ``weights``: a folder, or a name on the Hugging Face hub: ``microsoft/BiomedVLP-CXR-BERT-specialized`` (BioViL,
    revision v1.1) or ``microsoft/BiomedVLP-BioViL-T`` (v1.0). A folder holds, under their published names,
    ``biovil_image_resnet50_proj_size_128.pt`` or ``biovil_t_image_model_proj_size_128.pt``, ``vocab.txt``,
    ``config.json``, and ``pytorch_model.bin`` or ``model.safetensors``. The image file tells which of the two it is.

    ``method``: ``similarity`` (the default), the cosine of each patch with the sentence, as the authors' library does;
    or ``gradcam``, on the ResNet's last stage.

    ``smoothing``: standard deviation, in cells, of the Gaussian that cosine maps are smoothed with. The authors' maps
    and published figures have 1.5; 0 leaves them as they are. ``tau``: temperature of the softmax that turns cosines
    into mass and into weights of the local similarity, for which see :mod:`..saliency.cosine`; the models have none of
    their own.

    Images are seen without a prior one. The image's borders are not seen: its shorter side becomes 512 pixels, of which
    the centre of 480 (BioViL) or 448 (BioViL-T) is used. Sentences longer than the text tower's 512 word pieces are
    cut.

    ``name``: what the model is called, before the method. Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    if not 0 <= smoothing < float("inf"):
        raise WronglungError(f"smoothing={smoothing}: must be 0 or more cells, and finite")
    folder = model_folder(
        weights,
        ["config.json", "vocab.txt", _TEXT_FILES, _IMAGE_FILES],
        argument="weights",
        revision=_REVISIONS.get(weights),
    )
    if all((folder / file).is_file() for file in _IMAGE_FILES):
        raise WronglungError(
            f"{folder}: holds {' and '.join(_IMAGE_FILES)}; keep the one that the text files belong to"
        )
    image_file, text_file = _first(folder, _IMAGE_FILES), _first(folder, _TEXT_FILES)
    image = read_image_encoder(image_file)
    text = read_text_encoder(text_file, folder / "config.json")
    if image.dimensions != text.dimensions:
        raise WronglungError(
            f"{folder}: {image_file.name} has {image.dimensions} dimensions, {text_file.name} {text.dimensions}; "
            "they must be of one model"
        )
    pieces = WordPieces(folder / "vocab.txt", text.bert.config.vocab_size)
    model = "biovil-t" if image.temporal else "biovil"
    network = dual_network(BioVil(image, text), pieces, smoothing)
    method = chosen_method(network, method, model)
    card = dual_card(
        network,
        method,
        name=f"{name or model} + {method}",
        checkpoint=file_digest(image_file, text_file),
        tau=tau,
        similarity=local_similarity,
        tokens="[CLS], which stands for the whole sentence",
        dtype=dtype,
        pretraining_sources=("MIMIC-CXR",),
        settings={
            **({"smoothing": smoothing} if method == "similarity" else {}),
            "prior": False,
            "vocabulary": pieces.digest,
        },
    )
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


def read_image_encoder(path: Path) -> ImageEncoder:
    """The image encoder of a published file; BioViL-T's where the file has a vector for a missing prior image."""
    weights = read_state_dict(path)
    shape = resnet_shape(weights, "encoder.encoder.", path)
    temporal = None
    if "encoder.missing_previous_emb" in weights:
        width = _size(weights, "encoder.backbone_to_vit.weight", path)
        temporal = width, len({key.split(".")[3] for key in weights if key.startswith("encoder.vit_pooler.blocks.")})
    encoder = ImageEncoder(shape, _size(weights, "projector.model.3.weight", path), temporal)
    what = f"a {'BioViL-T' if temporal else 'BioViL'} image encoder with a {shape.name}"
    load_strictly(encoder, weights, path, what, re.compile(r"encoder\.encoder\.fc\..*|.*\.num_batches_tracked"))
    return encoder


def read_text_encoder(path: Path, settings: Path) -> TextEncoder:
    """The text encoder of a published file; its masked language model's head is left out."""
    weights = read_state_dict(path)
    config = bert_config(weights, "bert.", settings, path)
    head = "cls_projection_head."
    encoder = TextEncoder(
        config,
        _size(weights, f"{head}dense_to_hidden.weight", path),
        _size(weights, f"{head}dense_to_output.weight", path),
    )
    load_strictly(encoder, weights, path, "a CXR-BERT text encoder", re.compile(rf"cls\..*|bert\.{UNUSED}"))
    return encoder


def dual_network(model: BioVil, pieces: WordPieces, smoothing: float) -> DualNetwork:
    """The network with its saliency methods; ``smoothing`` is the standard deviation in cells, or 0."""
    image = model.image
    limit = model.text.bert.config.max_position_embeddings

    def pooled(features: torch.Tensor) -> torch.Tensor:
        return image.project(features).mean(dim=(1, 2))

    def patches(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = image.project(image.features(pixels))
        return vectors, vectors.mean(dim=(1, 2))

    def features(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fourth = image.features(pixels)
        return fourth, pooled(fourth)

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        device = next(model.text.parameters()).device
        # The authors' library strips these too.
        rows = [pieces.ids(sentence.rstrip("!?."), limit) for sentence in sentences]
        return torch.stack(without_padding(rows, lambda ids: model.text(ids.to(device))))

    cosine = "cosine of projected patches and sentence"
    similarity = (
        Dense(f"{cosine}, Gaussian σ = {smoothing:g} cells", patches, partial(gaussian, sigma=smoothing))
        if smoothing
        else Dense(cosine, patches)
    )
    return DualNetwork(
        model,
        biovil(RESIZE, TEMPORAL_CROP if image.temporal else CROP),
        encode_text,
        {
            "similarity": similarity,
            "gradcam": Gradient(
                "GradCAM on layer4", features, lambda activations, text: gradcam(activations, pooled, text)
            ),
        },
    )


def _first(folder: Path, names: Sequence[str]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


def _size(weights: Mapping[str, torch.Tensor], key: str, path: Path) -> int:
    if key not in weights or not weights[key].ndim:
        raise WronglungError(f"checkpoint {path}: has no {key!r}; is it BioViL's?")
    return weights[key].shape[0]
