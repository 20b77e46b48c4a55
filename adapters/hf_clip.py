"""CLIP in the transformers library's format, such as PubMedCLIP.

CLIP trains its class token alone; the dense saliency methods are ways to bring patches into the joint space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import PositiveInt
from tokenizers import Tokenizer
from transformers import CLIPModel, CLIPTextConfig, CLIPTokenizerFast  # type: ignore[attr-defined]

from ..benchmark.errors import WronglungError
from .dual import TAU, DualModel, DualNetwork, chosen_method, dual_card
from .encoding import sources
from .files.hub import model_folder
from .files.state_dicts import file_digest
from .files.transformers_format import TOKENIZER, Published, build, find, read_pipeline, read_tokenizer
from .networks.transformers_vit import block_of
from .saliency.cosine import LocalSimilarity
from .saliency.transformer import Tower, class_token_methods, named


def load(
    weights: str,
    method: str | None = None,
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    image_size: PositiveInt | None = None,
    depth: int | None = None,
    start_layer: int = 0,
    trained_on: str | None = None,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """A CLIP with a Vision Transformer that transformers' ``CLIPModel`` can hold.

    ``weights``: a folder, or the name of a repository on the Hugging Face hub, with ``config.json``,
    ``model.safetensors`` or ``pytorch_model.bin``, ``tokenizer.json`` (or ``vocab.json`` and ``merges.txt``) and, where
    there is one, ``preprocessor_config.json``. For PubMedCLIP that is flaviagiammarino/pubmed-clip-vit-base-patch32
    (MIT licence; a CLIP ViT-B/32 fine-tuned on ROCO, figures and captions from PubMed). Offline, fetch these files into
    a folder.

    ``method``: ``value`` (values of the last block, of which the class token sums up those it attends to; the default),
    ``naive`` (patches of the last block), ``value-residual-ffn`` (MaskCLIP), ``vv`` (CLIP Surgery) and ``gem`` over the
    last ``depth`` blocks (6, or all where there are fewer), ``gradcam`` (on the patches that enter the last block),
    ``chefer`` (relevance through attention from block ``start_layer`` on, counted from 0), ``rollout`` (attention
    rollout: the image alone). ``tau``: temperature of the softmax over patches. ``local_similarity`` from the cosines
    of the patches, which gradcam, chefer and rollout do not have: ``attention``, ``max``, ``mean`` or ``logsumexp``.

    ``image_size``: side of the input in pixels, for which positions are interpolated; by default that of the training.
    Sentences are cut at the tower's length (77 tokens), the end token kept. ``trained_on``: datasets, separated by
    commas, that the weights have seen, for the card. ``name``: what the model is called, before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit.
    """
    published = find(weights, "clip", [(TOKENIZER, "vocab.json")])
    network = read_network(published, image_size, depth, start_layer)
    method = chosen_method(network, method, published.name)
    title, options = named(method, depth, start_layer)
    card = dual_card(
        network,
        method,
        name=f"{name or published.name} + {title}",
        checkpoint=file_digest(published.weights),
        tau=tau,
        similarity=local_similarity,
        tokens="the sentence's vector: the end token's",
        dtype=dtype,
        pretraining_sources=sources(trained_on),
        settings={"image_size": image_size, **options},
    )
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


def read_network(
    published: Published, image_size: int | None = None, depth: int | None = None, start_layer: int = 0
) -> DualNetwork:
    """The network with its weights. Raises as :func:`load`."""
    model = build(published, CLIPModel)
    pipeline, grid = read_pipeline(published, "CLIPImageProcessor", model.vision_model.config, image_size)
    try:
        methods = class_token_methods(tower_of(model, grid), depth, start_layer)
    except ValueError as error:
        raise WronglungError(f"{published.name}: {error}") from error
    if not (published.folder / TOKENIZER).is_file():
        model_folder(published.source, ["vocab.json", "merges.txt"], argument="weights")
    tokenizer = read_tokenizer(published, model.text_model.config.vocab_size, CLIPTokenizerFast)
    ids = token_ids(tokenizer, model.text_model.config, published)

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        batch = torch.tensor([ids(one) for one in sentences], device=model.device)
        vectors: torch.Tensor = model.text_projection(model.text_model(input_ids=batch).pooler_output)
        return vectors

    return DualNetwork(model, pipeline, encode_text, methods)


def token_ids(tokenizer: Tokenizer, text: CLIPTextConfig, published: Published) -> Callable[[str], list[int]]:
    """From a sentence to the ids of the text tower's whole length.

    Raises :class:`WronglungError` where the tokenizer does not end sentences as the configuration says.
    """
    tokenizer.enable_truncation(text.max_position_embeddings)
    ids = tokenizer.encode("").ids
    # Where the configuration says 2, which was wrong in the library's first versions, the largest id ends a sentence.
    end = max(tokenizer.get_vocab().values()) if text.eos_token_id == 2 else text.eos_token_id
    if not ids or ids[-1] != end:
        raise WronglungError(
            f"{published.folder}: the tokenizer does not end sentences with id {end}, as config.json says"
        )

    def encode(sentence: str) -> list[int]:
        found: list[int] = tokenizer.encode(sentence).ids
        # Attention is causal: what follows the first end token changes nothing.
        return found + [end] * (text.max_position_embeddings - len(found))

    return encode


def tower_of(model: CLIPModel, grid: tuple[int, int]) -> Tower:
    """A CLIP's image tower in pieces, for inputs of ``grid`` patches."""
    vision = model.vision_model

    def joint(tokens: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = model.visual_projection(vision.post_layernorm(tokens))
        return vectors

    return Tower(
        embed=lambda pixels: vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True)),
        blocks=[block_of(layer) for layer in vision.encoder.layers],
        joint=joint,
        pool=lambda tokens: joint(tokens[:, 0]),
        prefix=1,
        grid=grid,
    )
