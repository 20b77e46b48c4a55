"""CXR-CLIP as an alignment model: the catalogue's ``cxr-clip``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertModel, SwinModel

from .dual import TAU, DualModel, DualNetwork, Gradient, Method, chosen_method, dual_card
from .encoding import sources
from .files.state_dicts import file_digest, load_strictly, read_state_dict
from .gloria.text import find_bert
from .networks import swin
from .networks.bert import UNUSED, WordPieces, bert_config, without_padding
from .networks.linear_map import linear_methods
from .networks.parts import linear, released_file, tree
from .networks.resnet import ResNet, resnet_shape
from .preprocessing.pixels import HALF_MEAN, HALF_STD, IMAGENET_MEAN, IMAGENET_STD, clip
from .saliency.cosine import LocalSimilarity
from .saliency.gradient import gradcam_tokens

FILE = "model-best.tar"
LIMIT = 256
"""Word pieces of a sentence, [CLS] and [SEP] included."""

_RESNET, _SWIN, _TEXT = "image_encoder.resnet.", "image_encoder.image_encoder.", "text_encoder.text_encoder."
_IGNORED = re.compile(rf"logit_scale|{re.escape(_TEXT)}{UNUSED}|{swin.UNUSED}|.*\.num_batches_tracked")


def load(
    weights: str,
    bert: str | None = None,
    method: str | None = None,
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    trained_on: str = "MIMIC-CXR, CheXpert, ChestX-ray14",
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """CXR-CLIP (CC BY-NC 4.0, not for commercial use), with a ResNet-50 or a Swin transformer; the file tells which.

    ``weights``: ``model-best.tar`` (a torch file, whatever its name) out of one of the archives that the authors' page
    links to (``r50_m.tar``, ``r50_mc.tar``, ``r50_mcc.tar``, and ``swint_`` likewise), or the folder that holds it.
    ``bert``: a folder with the ``vocab.txt`` and ``config.json`` of the text tower, or the name of a model on the
    Hugging Face hub (default: Bio_ClinicalBERT).

    ``method`` for a ResNet: ``similarity`` (the default): the image's vector is a linear map of the mean over layer4's
    cells, so that the same map of each cell gives patches whose mean it is; the map is their cosine with the sentence.
    Or ``gradcam``, on layer4. For a Swin transformer ``gradcam`` alone, on the tokens that enter the last block: the
    image's vector is that of the upper left token, so that no other was trained to be projected.

    ``tau``: temperature of the softmax that turns cosines into mass and into weights of the local similarity, for which
    see :mod:`.saliency.cosine`; the model has none of its own. Sentences longer than 256 word pieces are cut.

    ``trained_on``: datasets, separated by commas, that the checkpoint's training saw, for the card: MIMIC-CXR (``m``),
    with CheXpert (``mc``), with ChestX-ray14 as well (``mcc``, the default); the file does not say. ``name``: what the
    model is called, before the method.

    Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    files = find_bert(bert)
    source = released_file(
        weights, (FILE,), "get an archive from CXR-CLIP's page, unpack it, and give its model-best.tar"
    )
    network, kind, vocabulary = _read(source, files.vocabulary, files.config)
    model = f"cxr-clip-{kind}"
    method = chosen_method(network, method, model)
    card = dual_card(
        network,
        method,
        name=f"{name or model} + {method}",
        checkpoint=file_digest(source),
        tau=tau,
        similarity=local_similarity,
        tokens="[SEP], which stands for the whole sentence",
        dtype=dtype,
        pretraining_sources=sources(trained_on),
        settings={"vocabulary": vocabulary},
    )
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


def _read(path: Path, vocabulary: Path, settings: Path | None) -> tuple[DualNetwork, str, str]:
    """The network, the kind of its image encoder, and the digest of its vocabulary."""
    weights = read_state_dict(path)
    text = BertModel(bert_config(weights, _TEXT, settings, path), add_pooling_layer=False)
    pieces = WordPieces(vocabulary, text.config.vocab_size)
    project, project_text = (linear(weights, f"{side}_projection.projection", path) for side in ("image", "text"))
    vision: nn.Module
    if f"{_SWIN}embeddings.patch_embeddings.projection.weight" in weights:
        kind, what, place = "swin", "a CXR-CLIP with a Swin transformer", _SWIN
        vision = swin.swin_model(weights, _SWIN, path)
        weights = swin.renamed(weights, _SWIN, vision)
        methods, pipeline = _swin_methods(vision, project), clip(224, "shortest", "bilinear", HALF_MEAN, HALF_STD)
    else:
        kind, place = "resnet", _RESNET
        vision = ResNet(shape := resnet_shape(weights, _RESNET, path))
        what = f"a CXR-CLIP with a {shape.name}"
        methods = linear_methods(lambda pixels: vision(pixels)[1], project)
        pipeline = clip(224, "shortest", "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    module = tree(
        {
            place.removesuffix("."): vision,
            _TEXT.removesuffix("."): text,
            "image_projection.projection": project,
            "text_projection.projection": project_text,
        }
    )
    load_strictly(module, weights, path, what, _IGNORED)

    def vectors(ids: torch.Tensor) -> torch.Tensor:
        last = text(input_ids=ids.to(project_text.weight.device)).last_hidden_state[:, -1]
        projected: torch.Tensor = project_text(last)
        return projected

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        return torch.stack(without_padding([pieces.ids(sentence, LIMIT) for sentence in sentences], vectors))

    return DualNetwork(module, pipeline, encode_text, methods), kind, pieces.digest


def _swin_methods(model: SwinModel, project: nn.Linear) -> dict[str, Method]:
    network: Any = model
    last: nn.Module = network.encoder.layers[-1].blocks[-1]

    def pooled(tokens: torch.Tensor) -> torch.Tensor:
        grid = swin.squared(tokens).shape[2:]
        vectors: torch.Tensor = project(network.layernorm(last(tokens, tuple(grid))[0])[:, 0])
        return vectors

    def encode(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        entering: list[torch.Tensor] = []
        with last.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])):
            whole: torch.Tensor = project(model(pixel_values=pixels).last_hidden_state[:, 0])
        return entering[0], whole

    def relevance(tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        rows, columns = swin.squared(tokens).shape[2:]
        return gradcam_tokens(tokens, 0, (rows, columns), pooled, text)

    return {"gradcam": Gradient("GradCAM on the tokens that enter the last block", encode, relevance)}
