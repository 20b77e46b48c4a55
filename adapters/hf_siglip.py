"""SigLIP in the transformers library's format: SigLIP, SigLIP2 of fixed resolution, and MedSigLIP.

There is no class token: a learned probe pools the patches by attention, and what it would return if it looked at one
patch alone lies in the joint space.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from pydantic import PositiveInt
from torch.nn import functional
from transformers import SiglipModel

from ..benchmark.errors import WronglungError
from .dual import TAU, Dense, DualModel, DualNetwork, Method, TextBlind, chosen_method, dual_card
from .encoding import sources
from .files.state_dicts import file_digest
from .files.transformers_format import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    Published,
    build,
    find,
    read_json,
    read_pipeline,
    read_tokenizer,
)
from .networks.transformers_vit import block_of
from .preprocessing.pixels import PadToSquare
from .saliency.cosine import LocalSimilarity
from .saliency.transformer import Tower, naive, token_gradcam


def load(
    weights: str,
    method: str | None = None,
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    image_size: PositiveInt | None = None,
    square: bool = False,
    trained_on: str | None = None,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """A SigLIP that transformers' ``SiglipModel`` can hold: SigLIP, SigLIP2 of fixed resolution, MedSigLIP.

    ``weights``: a folder, or the name of a repository on the Hugging Face hub, with ``config.json``,
    ``model.safetensors``, ``tokenizer_config.json``, ``tokenizer.json`` (or ``spiece.model``, for which the packages
    sentencepiece and protobuf must be installed) and ``preprocessor_config.json``. Examples:
    google/siglip-base-patch16-224 and google/siglip2-base-patch16-256 (Apache-2.0 licence; trained on WebLI),
    google/medsiglip-448 (terms of Health AI Developer Foundations, to be accepted on the model's page; trained on
    MIMIC-CXR and other medical images). Offline, fetch these files into a folder.

    ``method``: ``value`` (what the pooling head would return if it looked at one patch alone; the default), ``naive``
    (patches of the last block), ``gradcam`` (on the patches that enter the last block), ``probe-attention`` (where the
    pooling head looks, mean over heads: the image alone). ``tau``: temperature of the softmax over patches.
    ``local_similarity`` from the cosines of the patches, which the last two methods do not have: ``attention``,
    ``max``, ``mean`` or ``logsumexp``.

    ``image_size``: side of the input in pixels, for which positions are interpolated; by default that of the training.
    ``square``: pad the image to a black square before it is resized, as MedSigLIP's own serving code does, instead of
    squashing it. Sentences are in lower case, as in training, padded to the tower's length (64 tokens) and cut there.
    The global similarity is the cosine: the model's probability orders pairs alike. ``trained_on``: datasets, separated
    by commas, that the weights have seen, for the card. ``name``: what the model is called, before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit.
    """
    published = find(weights, "siglip", [TOKENIZER_CONFIG, (TOKENIZER, SENTENCEPIECE)], refused=_REFUSED)
    network = read_network(published, image_size, square)
    method = chosen_method(network, method, published.name)
    card = dual_card(
        network,
        method,
        name=f"{name or published.name} + {method}",
        checkpoint=file_digest(published.weights),
        tau=tau,
        similarity=local_similarity,
        tokens="the sentence's vector: the last position's",
        dtype=dtype,
        pretraining_sources=sources(trained_on),
        settings={"image_size": image_size, "square": square},
    )
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


SENTENCEPIECE = "spiece.model"

_REFUSED = {
    "siglip2": (
        "NaFlex models, whose grid differs from image to image, are not read; use one of fixed resolution, such as "
        "google/siglip2-base-patch16-256"
    )
}


def read_network(published: Published, image_size: int | None = None, square: bool = False) -> DualNetwork:
    """The network with its weights. Raises as :func:`load`."""
    model = build(published, SiglipModel)
    pipeline, grid = read_pipeline(published, "SiglipImageProcessor", model.vision_model.config, image_size)
    if square:
        pipeline = replace(pipeline, steps=(PadToSquare(), *pipeline.steps))
    text = model.text_model.config
    ids = token_ids(published, text.max_position_embeddings, text.vocab_size)

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        batch = torch.tensor([ids(one) for one in sentences], device=model.device)
        vectors: torch.Tensor = model.text_model(input_ids=batch).pooler_output
        return vectors

    return DualNetwork(model, pipeline, encode_text, saliency_methods(model, grid))


def token_ids(published: Published, length: int, vocabulary: int) -> Callable[[str], list[int]]:
    """From a sentence to ``length`` ids: no start, the end token even where the sentence is cut, then padding, which no
    attention mask hides and the model was trained with.

    Raises :class:`WronglungError` for a tokenizer that does not fit, or cannot be read.
    """
    path = published.folder / TOKENIZER_CONFIG
    told = read_json(path)
    if not (published.folder / TOKENIZER).is_file():
        return _with_sentencepiece(published, length)
    # SigLIP's own tokenizer, unlike Gemma's that SigLIP2 has, also drops punctuation.
    plain = canonical if str(told.get("tokenizer_class")).startswith("SiglipTokenizer") else str.lower
    tokenizer = read_tokenizer(published, vocabulary)

    def special(key: str) -> int:
        token = told.get(key)
        token = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if found is None:
            raise WronglungError(f"{path}: {key} is {token!r}, which {TOKENIZER} does not have")
        return int(found)

    end, padding = special("eos_token"), special("pad_token")

    def encode(sentence: str) -> list[int]:
        ids: list[int] = tokenizer.encode(plain(sentence), add_special_tokens=False).ids[: length - 1]
        return [*ids, end] + [padding] * (length - 1 - len(ids))

    return encode


def canonical(sentence: str) -> str:
    """A sentence as SigLIP was trained on: lower case, without ASCII punctuation, single spaces."""
    return " ".join(sentence.lower().translate(_NO_PUNCTUATION).split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _with_sentencepiece(published: Published, length: int) -> Callable[[str], list[int]]:
    path = published.folder / SENTENCEPIECE
    try:
        from transformers import SiglipTokenizer

        tokenizer = SiglipTokenizer.from_pretrained(published.folder, local_files_only=True)
    except ImportError as error:
        raise WronglungError(
            f"{path}: needs two packages (pip install sentencepiece protobuf), or {TOKENIZER} in its place"
        ) from error
    except Exception as error:  # the library's own exceptions have no common class
        raise WronglungError(f"{path}: no tokenizer can be read ({error})") from error

    def encode(sentence: str) -> list[int]:
        found = tokenizer(sentence, padding="max_length", padding_side="right", truncation=True, max_length=length)
        ids: list[int] = found["input_ids"]
        return ids

    return encode


def tower_of(model: SiglipModel, grid: tuple[int, int]) -> Tower:
    """A SigLIP's image tower in pieces, for inputs of ``grid`` patches."""
    vision = model.vision_model
    return Tower(
        embed=lambda pixels: vision.embeddings(pixels, interpolate_pos_encoding=True),
        blocks=[block_of(layer) for layer in vision.encoder.layers],
        joint=vision.post_layernorm,
        pool=lambda tokens: vision.head(vision.post_layernorm(tokens)),
        prefix=0,
        grid=grid,
    )


def saliency_methods(model: SiglipModel, grid: tuple[int, int]) -> dict[str, Method]:
    """By name, the default first."""
    head, tower = model.vision_model.head, tower_of(model, grid)

    def looked_at_alone(patches: torch.Tensor) -> torch.Tensor:
        attention = head.attention
        weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
        given = attention.out_proj(functional.linear(patches, weight, bias))
        vectors: torch.Tensor = given + head.mlp(head.layernorm(given))
        return vectors

    def value(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches, vectors = naive(tower, pixels)
        return looked_at_alone(patches), vectors

    def probe_attention(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grid_of_patches, vectors = naive(tower, pixels)
        patches = grid_of_patches.flatten(1, 2)
        probe = head.probe.expand(len(patches), -1, -1)
        _, attention = head.attention(probe, patches, patches, need_weights=True)
        return attention[:, 0].unflatten(1, grid), vectors

    return {
        "value": Dense("what the pooling head returns for each patch alone, cosine with the sentence", value),
        "naive": Dense("patches of the last block, cosine with the sentence", partial(naive, tower)),
        "gradcam": token_gradcam(tower),
        "probe-attention": TextBlind(
            "attention of the pooling head, mean over heads, whatever the sentence", probe_attention
        ),
    }
