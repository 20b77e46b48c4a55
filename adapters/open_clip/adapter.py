"""open_clip's models as dual encoders: the catalogue's ``open-clip``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import PositiveInt
from torch import nn

from ...benchmark.errors import WronglungError
from ..dual import TAU, DualModel, DualNetwork, chosen_method, dual_card
from ..encoding import sources
from ..ensemble import ensemble
from ..files.state_dicts import file_digest
from ..preprocessing.pixels import Pipeline, chexzero, clip
from ..saliency.cosine import LocalSimilarity
from ..saliency.transformer import named

if TYPE_CHECKING:
    from .build import Tokenizer
    from .source import Preprocessing


def load(
    model: str,
    weights: str | None = None,
    method: str | None = None,
    image_size: PositiveInt | None = None,
    resize_mode: Literal["shortest", "squash", "longest"] | None = None,
    preprocess: Literal["open-clip", "chexzero"] = "open-clip",
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    depth: int | None = None,
    start_layer: int = 0,
    quick_gelu: bool | None = None,
    text: str | None = None,
    name: str | None = None,
    trained_on: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """A model of the open_clip library (``pip install "wronglung[open-clip]"``) with a saliency method.

    ``model``: ``NAME/TAG``, an architecture and weights as open_clip lists them (``ViT-B-16/openai``,
    ``ViT-B-16/laion2b_s34b_b88k``; MIT), taken from the local cache of the Hugging Face hub or downloaded; ``NAME`` with
    ``weights``; ``hf-hub:owner/name``; or a folder with ``open_clip_config.json`` and ``open_clip_model.safetensors`` or
    ``open_clip_pytorch_model.bin``. ``weights``: a file (torch or safetensors) in place of these; a folder of several
    ``.pt`` or ``.pth`` files is an ensemble, the mean of whose maps and similarities is taken (vectors are the members'
    unit vectors side by side); ``random`` is for a dry run.

    BiomedCLIP (MIT) is hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224. ``text``: a folder, or a hub name,
    with ``config.json`` and tokenizer of a text tower that comes from elsewhere; by default what the configuration names
    (for BiomedCLIP microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract). CheXzero (code MIT) is ``ViT-B-32-quickgelu``
    with ``preprocess=chexzero`` and, as ``weights``, one ``.pt`` file or the folder of those that its authors share.

    ``method``, for vision transformers: ``value`` (the default), ``naive``, ``value-residual-ffn`` (MaskCLIP), ``vv``
    (CLIP Surgery) and ``gem``, both over the last ``depth`` blocks (default 6), ``gradcam``, ``chefer`` (from block
    ``start_layer``, counted from 0), and ``rollout``, which is blind to the sentence. Those with a pooling head (SigLIP)
    have ``value``, ``naive`` and ``gradcam``; CLIP's ResNets ``value``, ``value-pos`` and ``gradcam``; other convolutional
    towers ``gradcam``. ``tau``: temperature of the softmax over patches. ``local_similarity``: ``attention``, ``max``,
    ``mean`` or ``logsumexp``; gradient methods have none.

    ``image_size``: side of the input in pixels, a multiple of the patch (default: as trained). ``resize_mode``:
    ``shortest`` (crops; what CLIP was trained with), ``squash`` or ``longest`` (pads). ``quick_gelu``: whether the weights
    were trained with it; OpenAI's were, and so what was fine-tuned from them. By default as the name or its tag says.
    Sentences are cut at the context length (77 for CLIP, 256 for BiomedCLIP). ``name``: what the model is called, before the method.
    ``trained_on``: datasets, separated by commas, for the card.

    Raises :class:`WronglungError` for what is unknown, missing, damaged or does not fit.
    """
    try:
        import open_clip  # noqa: F401
    except ImportError as error:
        raise WronglungError('open_clip is not installed: pip install "wronglung[open-clip]"') from error
    from . import build, source

    found = source.find(model, weights)
    what = f"model {model}"
    gelu = found.quick_gelu if quick_gelu is None else quick_gelu
    tower, tokenizers = source.text_config_folder(found, text), source.tokenizer_folder(found, text)

    def network(checkpoint: Path | None) -> DualNetwork:
        module: Any = build.build(found.config, what, image_size, gelu, tower)
        if checkpoint is not None:
            build.load_weights(module, checkpoint, what, gelu)
        if image_size is not None:
            build.set_image_size(module, image_size)
        pipeline = read_pipeline(found.preprocessing, build.frame_of(module, what), resize_mode, preprocess)
        tokenizer = build.build_tokenizer(found.config, tokenizers, module.vocab_size, what)
        return open_clip_network(module, pipeline, tokenizer, depth, start_layer, what)

    members = [network(checkpoint) for checkpoint in found.checkpoints or (None,)]
    whole = members[0] if len(members) == 1 else ensemble(members)
    method = chosen_method(whole, method, what)
    settings: dict[str, str | int | bool | None] = {
        "model": found.title,
        "image_size": image_size,
        "resize_mode": resize_mode,
        "preprocess": preprocess,
        "quick_gelu": gelu,
        "tokenizer": "open_clip" if tokenizers is None else file_digest(source.tokenizer_file(tokenizers)),
    }
    title = name or found.title
    if not found.checkpoints:
        title += " (random weights)"
    method_title, options = named(method, depth, start_layer)
    card = dual_card(
        whole,
        method,
        name=f"{title} + {method_title}",
        checkpoint=file_digest(*found.checkpoints) if found.checkpoints else None,
        tau=tau,
        similarity=local_similarity,
        tokens="whole sentence (one vector)",
        dtype=dtype,
        pretraining_sources=sources(trained_on),
        settings={**settings, **options},
    )
    return DualModel(whole, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


def open_clip_network(
    module: nn.Module, pipeline: Pipeline, tokenizer: Tokenizer, depth: int | None, start_layer: int, what: str
) -> DualNetwork:
    """A model of open_clip's with the saliency methods of its image tower.

    Raises :class:`WronglungError` for a tower that has none, and for a depth or start layer beyond its blocks.
    """
    from .towers import saliency_methods

    model: Any = module

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        vectors: torch.Tensor = model.encode_text(tokenizer(list(sentences)).to(model.logit_scale.device))
        return vectors

    try:
        methods = saliency_methods(model.visual, depth, start_layer)
    except ValueError as error:
        raise WronglungError(f"{what}: {error}") from error
    return DualNetwork(module, pipeline, encode_text, methods)


def read_pipeline(
    own: Preprocessing,
    frame: tuple[int, int],
    resize_mode: Literal["shortest", "squash", "longest"] | None,
    preprocess: Literal["open-clip", "chexzero"],
) -> Pipeline:
    """The preprocessing of a model with a ``frame`` of (height, width) pixels.

    Raises :class:`WronglungError` for arguments that exclude each other.
    """
    if preprocess == "open-clip":
        return clip(frame, resize_mode or own.resize_mode, own.interpolation, own.mean, own.std)
    if preprocess != "chexzero":
        raise WronglungError(f"preprocess={preprocess}: unknown; it is open-clip or chexzero")
    if resize_mode is not None:
        raise WronglungError("resize_mode: CheXzero's preprocessing has its own; leave it out")
    return chexzero(frame[0])
