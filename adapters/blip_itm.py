"""BLIP's image-text matching: a text encoder that attends to the image, so that a map needs both together.

Image tokens are computed once an image; each sentence then reads them in every block. The map is taken from that
cross-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import BertTokenizerFast, BlipForImageTextRetrieval  # type: ignore[attr-defined]

from ..benchmark.errors import WronglungError
from ..benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed
from .encoding import at_least_float32, full_precision, geometry_of, sources, to_device
from .files.state_dicts import file_digest
from .files.transformers_format import TOKENIZER, Published, build, find, read_pipeline, read_tokenizer
from .preprocessing.pixels import Pipeline, preprocessed

TEXT_LENGTH = 35
"""Tokens of a sentence, [CLS] and [SEP] included, that BLIP was trained with; longer ones are cut."""

LAYER = 7
"""Block of 12, counted from 0, whose cross-attention the authors show."""

Method = Literal["gradcam", "attention"]
GlobalSimilarity = Literal["itm", "itc"]


def load(
    weights: str,
    method: Method | None = None,
    layer: int | None = None,
    global_similarity: GlobalSimilarity = "itm",
    trained_on: str | None = None,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> BlipItm:
    """A BLIP for image-text matching that transformers' ``BlipForImageTextRetrieval`` can hold.

    ``weights``: a folder, or the name of a repository on the Hugging Face hub, with ``config.json``,
    ``model.safetensors`` or ``pytorch_model.bin``, ``tokenizer.json`` (or ``vocab.txt``) and
    ``preprocessor_config.json``. Examples: Salesforce/blip-itm-base-coco, -large-coco, -base-flickr, -large-flickr (BSD
    3-clause licence). Offline, fetch these files into a folder.

    ``method``: ``gradcam`` (cross-attention times the gradient of the matching score where that is positive, as ALBEF
    and BLIP show it; the default) or ``attention`` (cross-attention alone). ``layer``: the text encoder's block,
    counted from 0, by default 7, or the last where there are fewer. Maps are means over heads and over all tokens of
    the sentence.

    ``global_similarity``: ``itm`` (the probability that image and sentence match: a pass through the text encoder for
    each pair, so that there is no global selection among all sentences) or ``itc`` (the cosine of the two contrastive
    vectors). The model has no local similarity. Sentences are cut at 35 tokens; the first is [CLS], as in transformers,
    where the authors' code has [ENC]. ``trained_on``: datasets, separated by commas, that the weights have seen, for
    the card. ``name``: what the model is called, before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit, and for less than float32 where
    gradients are needed.
    """
    published = find(weights, "blip", [(TOKENIZER, "vocab.txt")])
    method = method or "gradcam"
    if method not in get_args(Method):
        raise WronglungError(
            f"{published.name}: unknown saliency method {method!r}; it has {', '.join(get_args(Method))}"
        )
    if global_similarity not in get_args(GlobalSimilarity):
        kinds = ", ".join(get_args(GlobalSimilarity))
        raise WronglungError(f"{published.name}: unknown global_similarity={global_similarity!r}; it has {kinds}")
    network = build(published, BlipForImageTextRetrieval)
    blocks = len(network.text_encoder.encoder.layer)
    layer = min(LAYER, blocks - 1) if layer is None else layer
    if not 0 <= layer < blocks:
        raise WronglungError(f"layer={layer}: the text encoder has blocks 0 to {blocks - 1}")
    if method == "gradcam" and dtype != torch.float32:
        raise WronglungError(f"{published.name}: saliency method 'gradcam' takes gradients, for which it needs float32")
    pipeline, grid = read_pipeline(published, "BlipImageProcessor", network.vision_model.config)
    card = ModelCard(
        name=f"{name or published.name} + {method}",
        saliency_method={
            "gradcam": f"cross-attention GradCAM of the matching score, block {layer}, mean over heads and tokens",
            "attention": f"cross-attention of block {layer}, mean over heads and tokens",
        }[method],
        map_kind="score" if method == "gradcam" else "distribution",
        signed=False,
        comparable=method == "attention",
        tokens="all, [CLS] and [SEP] included",
        checkpoint=file_digest(published.weights),
        preprocessing=str(pipeline),
        pretraining_sources=sources(trained_on),
        settings={
            "method": method,
            "layer": layer,
            "global_similarity": global_similarity,
            "dtype": str(dtype).removeprefix("torch."),
        },
    )
    ids = token_ids(published, network)
    return BlipItm(network, pipeline, grid, ids, card, method, layer, global_similarity, torch.device(device), dtype)


def token_ids(published: Published, network: BlipForImageTextRetrieval) -> Callable[[str], list[int]]:
    """From a sentence to its ids, without padding. Raises :class:`WronglungError` for a tokenizer that does not fit."""
    config = network.text_encoder.config
    tokenizer = read_tokenizer(published, config.vocab_size, BertTokenizerFast)
    tokenizer.enable_truncation(min(TEXT_LENGTH, config.max_position_embeddings))

    def encode(sentence: str) -> list[int]:
        ids: list[int] = tokenizer.encode(sentence).ids
        return ids

    return encode


class BlipItm:
    """A dual encoder whose two sides meet in ``align_features``. Made by :func:`load`.

    Features of an image: "tokens" [1 + P, D], the class token first; of a sentence: "ids" (int64 [n]). With the
    contrastive similarity both also have "global". Vectors are at least float32.
    """

    def __init__(
        self,
        network: BlipForImageTextRetrieval,
        pipeline: Pipeline,
        grid: tuple[int, int],
        ids: Callable[[str], list[int]],
        card: ModelCard,
        method: Method,
        layer: int,
        global_similarity: GlobalSimilarity,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Takes ``network`` over: it is moved and cast in place."""
        self.card = card
        module: nn.Module = network
        module.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._network = network
        self.pipeline, self._grid, self._ids = pipeline, grid, ids
        self._method, self._layer, self._contrastive = method, layer, global_similarity == "itc"
        self._device, self._dtype = device, dtype

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        return preprocessed(self.pipeline, image)

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        """Raises :class:`WronglungError` naming an image that the preprocessing cannot take."""
        return [one for image in images for one in self.encode_preprocessed([self.preprocess(image)])]

    @torch.no_grad()
    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> list[Features]:
        encoded = []
        for image in images:
            levels = to_device(image.pixels[None], self._device)
            with full_precision(self._device):
                tokens = self.image_tokens(self.pipeline.finished(levels))
                tensors = {"tokens": at_least_float32(tokens)[0].clone()}
                if self._contrastive:
                    tensors["global"] = at_least_float32(self._network.vision_proj(tokens[0, 0]))
            encoded.append(Features(tensors, image.geometry))
        return encoded

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens [batch, 1 + P, D], the class token first, of pixels [batch, 3, height, width]."""
        pixels = pixels.to(device=self._device, dtype=self._dtype)
        tokens: torch.Tensor = self._network.vision_model(pixel_values=pixels).last_hidden_state
        return tokens

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        encoded = []
        for sentence in sentences:
            ids = torch.tensor(self._ids(sentence))
            tensors = {"ids": ids}
            if self._contrastive:
                out = self._network.text_encoder(input_ids=ids[None].to(self._device))
                tensors["global"] = at_least_float32(self._network.text_proj(out.last_hidden_state[0, 0]))
            encoded.append(Features(tensors))
        return encoded

    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        """Align image item i with sentence item i."""
        maps, matches = [], []
        # Without padding, one by one, the same bits come out on a CPU whatever the batch.
        step = 1 if self._device.type == "cpu" else max(1, len(images))
        for start in range(0, len(images), step):
            tokens = torch.stack([one.tensors["tokens"] for one in images[start : start + step]])
            ids = [one.tensors["ids"] for one in sentences[start : start + step]]
            with full_precision(self._device):
                saliency, match = self._matched(tokens.to(self._device), [one.to(self._device) for one in ids])
            maps.append(saliency)
            matches.append(match)
        similarity = torch.cat(matches)
        if self._contrastive:
            pairs = zip(images, sentences, strict=True)
            similarity = torch.stack([_cosine(image, sentence) for image, sentence in pairs])
        geometries = [geometry_of(image) for image in images]
        return Alignment(torch.cat(maps), geometries, global_similarity=similarity)

    @torch.no_grad()
    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """Cosines of the contrastive vectors, [images, sentences]; the features have them with ``itc`` alone."""
        rows, columns = (torch.stack([one.tensors["global"] for one in items]) for items in (images, sentences))
        return functional.normalize(rows, dim=1) @ functional.normalize(columns, dim=1).T

    def _matched(self, tokens: torch.Tensor, ids: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps [batch, rows, columns] and probabilities of a match [batch]."""
        padded = pad_sequence(list(ids), batch_first=True)
        lengths = torch.tensor([len(one) for one in ids], device=padded.device)
        mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        with torch.set_grad_enabled(self._method == "gradcam"):
            logits, attention = self.cross_attention(tokens.to(self._dtype), padded, mask)
            relevance = (
                gradcam_per_token(attention, logits[:, 1]) if self._method == "gradcam" else attention.mean(dim=1)
            )
        with torch.no_grad():
            patches = at_least_float32(relevance.detach())[:, :, 1:] * mask[:, :, None]
            maps = patches.sum(dim=1) / mask.sum(dim=1, keepdim=True)
            return maps.reshape(-1, *self._grid), at_least_float32(logits.detach()).softmax(dim=1)[:, 1]

    def cross_attention(
        self, tokens: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of no match and match [batch, 2], and the attention [batch, heads, n, 1 + P] that they came from.

        ``ids`` and ``mask`` (true for no padding) are [batch, n]. Where gradients are on, the attention is in the
        graph.
        """
        # Some input must require a gradient for the attention to get one.
        tokens = tokens.detach().requires_grad_(torch.is_grad_enabled())
        out = self._network.text_encoder(
            input_ids=ids, attention_mask=mask.long(), encoder_hidden_states=tokens, output_attentions=True
        )
        assert out.cross_attentions, "the text encoder returned no cross-attention"
        return self._network.itm_head(out.last_hidden_state[:, 0]), out.cross_attentions[self._layer]


def gradcam_per_token(attention: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Cross-attention GradCAM as in ALBEF (Li et al. 2021): relevance [batch, n, 1 + P] of at least 0.

    Attention A [batch, heads, n, 1 + P] times relu(∂score/∂A), mean over heads. ``score`` [batch] must have been
    computed of A; no item's score may depend on another's attention.
    """
    gradient = torch.autograd.grad(score.sum(), attention)[0]
    return (attention.detach() * gradient.relu()).mean(dim=1)


def _cosine(image: Features, sentence: Features) -> torch.Tensor:
    return functional.cosine_similarity(image.tensors["global"], sentence.tensors["global"], dim=0)
