"""MGCA, and ConVIRT as MGCA's authors train it, as alignment models: the catalogue's ``mgca``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional
from transformers import BertModel

from ...benchmark.protocol import Alignment, Features, ModelCard
from ..dual import Dense, DualModel, DualNetwork, Gradient, Method, chosen_method, dual_card
from ..encoding import at_least_float32, full_precision, geometry_of
from ..files.state_dicts import file_digest, load_strictly, read_state_dict
from ..gloria.text import caption, clean, find_bert, plain
from ..networks.bert import UNUSED, WordPieces, bert_config, without_padding
from ..networks.parts import released_file, tree
from ..preprocessing.pixels import pad256
from ..saliency.cosine import LocalSimilarity
from ..saliency.gradient import gradcam, gradcam_tokens
from .network import VitTower, embedded, embedding, image_tower

FILES = ("vit_base.ckpt", "resnet_50.ckpt")
LIMIT = 112
"""Word pieces of a sentence, [CLS] and [SEP] included."""
TAU = 0.1
"""Temperature of the attention of words over patches in MGCA's training."""

_IGNORED = re.compile(
    rf"text_encoder(_q)?\.model\.{UNUSED}|(patch_local_atten_layer|word_local_atten_layer|prototype_layer)\..*"
    r"|.*\.num_batches_tracked"
)

WORDS, SENTENCE, GRADCAM = "words", "sentence", "gradcam"


class Vectors(NamedTuple):
    """A sentence's words [words, D] and whole [D], in the joint space and not normalised."""

    words: torch.Tensor
    whole: torch.Tensor


def load(
    weights: str,
    bert: str | None = None,
    method: str | None = None,
    tau: float = TAU,
    local_similarity: LocalSimilarity = "attention",
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DualModel:
    """MGCA, with a ResNet-50 or a vision transformer; the file tells which. Its weights have no stated licence.

    ``weights``: a Lightning checkpoint that the authors share (the links are in their README), its state dict as
    safetensors (``wronglung convert-checkpoint``), or a folder with ``vit_base.ckpt`` or ``resnet_50.ckpt``. ``bert``:
    a folder with the ``vocab.txt`` of the text tower, or the name of a model on the Hugging Face hub (default:
    Bio_ClinicalBERT).

    ``method``: ``words`` (the default), attention of each word over the patches as in training, softmax of their
    cosines over ``tau``, mean over words; the local similarity is the mean over words of the cosine with what they
    attend to. ``sentence``: the cosine of each patch with the whole sentence's vector, which training compared with
    whole images only; ``tau`` and ``local_similarity`` (:mod:`..saliency.cosine`) are then as in other dense encoders.
    ``gradcam``: on a ResNet's layer4 or the tokens that enter a transformer's last block. A checkpoint of the ConVIRT
    that MGCA's repository trains has the same encoders without trained local vectors, and so ``gradcam`` alone.

    Words are those of the sentence, less [CLS] and [SEP], and each the sum of its pieces. Sentences are cleaned as for
    training (lower-case words alone) and cut to 112 word pieces. As in the authors' code the text tower is told no
    positions: it gets token types, which are all 0, in their place, and adds none of its own for token types.

    ``name``: what the model is called, before the method. Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    source = released_file(weights, FILES, "get a checkpoint from the links in MGCA's README")
    network, encode, vocabulary = _read(source, find_bert(bert).vocabulary)
    model = "mgca" if WORDS in network.methods else "convirt"
    method = chosen_method(network, method, model)
    card = dual_card(
        network,
        method,
        name=f"{name or model} + {method}",
        checkpoint=file_digest(source),
        tau=tau,
        similarity=local_similarity,
        tokens="words, without [CLS] and [SEP]" if method == WORDS else "[CLS], which stands for the whole sentence",
        dtype=dtype,
        pretraining_sources=("MIMIC-CXR",),
        settings={"vocabulary": vocabulary},
    )
    if method == WORDS:
        return WordModel(network, encode, card, tau=tau, device=device, dtype=dtype)
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


class WordModel(DualModel):
    """MGCA with a map for each word. Features of a sentence: "words" [words, D] and "global" [D]."""

    def __init__(
        self,
        network: DualNetwork,
        encode: Callable[[Sequence[str]], Sequence[Vectors]],
        card: ModelCard,
        *,
        tau: float,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        settings = {key: value for key, value in card.settings.items() if key != "local_similarity"}
        distribution = {
            "map_kind": "distribution",
            "signed": False,
            "comparable": None,
            "mass": "sum",
            "temperature": 1.0,
        }
        card = card.model_copy(update={**distribution, "settings": settings})
        super().__init__(network, WORDS, card, tau=tau, device=device, dtype=dtype)
        self._encode = encode

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        with full_precision(self._device):
            encoded = [one for batch in self._in_batches(sentences) for one in self._encode(batch)]
        return [
            Features({"words": at_least_float32(one.words), "global": at_least_float32(one.whole)}) for one in encoded
        ]

    @torch.no_grad()
    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        maps, similarities = [], []
        for image, sentence in zip(images, sentences, strict=True):
            patches = functional.normalize(image.tensors["patches"].to(self._device), dim=-1)
            words = functional.normalize(sentence.tensors["words"].to(self._device), dim=-1)
            attention, similarity = attended(patches.flatten(0, 1), words, self._tau)
            maps.append(attention.mean(dim=0).reshape(patches.shape[:2]))
            similarities.append(similarity.mean())
        pooled, text = self._stacked(images, "global"), self._stacked(sentences, "global")
        return Alignment(
            torch.stack(maps),
            [geometry_of(image) for image in images],
            torch.stack(similarities),
            functional.cosine_similarity(pooled, text, dim=-1),
        )


def attended(patches: torch.Tensor, words: torch.Tensor, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [words, P] of words over patches, and the cosine [words] of each word with what it attends to.

    ``patches`` [P, D] and ``words`` [words, D] are unit vectors. Attention is the softmax over patches of cosine /
    ``tau``, the paper's token-wise alignment less the projections that its code leaves out.
    """
    attention = (words @ patches.T / tau).softmax(dim=1)
    return attention, functional.cosine_similarity(attention @ patches, words, dim=1)


def _read(path: Path, vocabulary: Path) -> tuple[DualNetwork, Callable[[Sequence[str]], list[Vectors]], str]:
    """The network, how it encodes words, and the digest of its vocabulary."""
    weights = read_state_dict(path)
    convirt = any(key.startswith("img_encoder.") for key in weights)
    image_side, text_side = ("img_encoder", "text_encoder") if convirt else ("img_encoder_q", "text_encoder_q")
    prefix = f"{text_side}.model."
    # MGCA's own BERT has no vectors for token types; transformers' has, so it gets one that adds nothing.
    if (words := weights.get(f"{prefix}embeddings.word_embeddings.weight")) is not None and words.ndim == 2:
        weights.setdefault(f"{prefix}embeddings.token_type_embeddings.weight", torch.zeros(1, words.shape[1]))
    # Not told by a config.json: MGCA keeps six of Bio_ClinicalBERT's twelve layers.
    text = BertModel(bert_config(weights, prefix, None, path), add_pooling_layer=False)
    pieces = WordPieces(vocabulary, text.config.vocab_size)
    image, what = image_tower(weights, f"{image_side}.model.", path)
    heads = {
        f"{side}.{scope}_embed.head": embedding(weights, f"{side}.{scope}_embed.head.", path)
        for side in (image_side, text_side)
        for scope in ("global", "local")
    }
    module = tree({f"{image_side}.model": image, f"{text_side}.model": text, **heads})
    load_strictly(module, weights, path, f"an MGCA or ConVIRT with a {what}", _IGNORED)
    local, whole = (heads[f"{image_side}.{scope}_embed.head"] for scope in ("local", "global"))

    def encode_image(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches, state = image.features(pixels)
        return embedded(local, patches), whole(state)

    def pooled(activations: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = whole(image.state(activations))
        return vectors

    def activations(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = image.activations(pixels)
        return last, pooled(last)

    def relevance(last: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        if isinstance(image, VitTower):
            return gradcam_tokens(last, 1, (image.grid, image.grid), pooled, text)
        return gradcam(last, pooled, text)

    def states(ids: torch.Tensor) -> torch.Tensor:
        ids = ids.to(text.embeddings.word_embeddings.weight.device)
        # The authors' code gives token types where its BERT takes positions, so that all are 0.
        last: torch.Tensor = text(input_ids=ids, position_ids=torch.zeros_like(ids)).last_hidden_state
        return last

    def encode(sentences: Sequence[str]) -> list[Vectors]:
        # Training left sentences out of which cleaning leaves nothing, such as those of one word.
        rows = [pieces.ids(clean(sentence) or plain(sentence), LIMIT) for sentence in sentences]
        return [vectors(ids, last) for ids, last in zip(rows, without_padding(rows, states), strict=True)]

    def vectors(ids: Sequence[int], last: torch.Tensor) -> Vectors:
        word_of_piece = torch.tensor(caption(pieces.pieces(ids), ids, 0).word_of_piece, device=last.device)
        summed = last.new_zeros(int(word_of_piece[-1]) + 1, last.shape[1]).index_add(0, word_of_piece, last)
        # Without a word [SEP] stands for the sentence.
        words = summed[1:-1] if len(summed) > 2 else summed[-1:]
        sentence = heads[f"{text_side}.global_embed.head"](summed[:1])[0]
        return Vectors(embedded(heads[f"{text_side}.local_embed.head"], words), sentence)

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        return torch.stack([one.whole for one in encode(sentences)])

    methods: dict[str, Method] = {
        WORDS: Dense("attention of words over patches (softmax of cosines), mean over words", encode_image),
        SENTENCE: Dense("cosine of local patch vectors and sentence", encode_image),
        GRADCAM: Gradient(f"GradCAM on {image.stage}", activations, relevance),
    }
    if convirt:
        methods = {GRADCAM: methods[GRADCAM]}
    return DualNetwork(module, pad256(), encode_text, methods), encode, pieces.digest
