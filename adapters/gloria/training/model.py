"""The network under training: how it is made, and what one batch gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertModel

from ....benchmark.errors import WronglungError
from ..attention import saliency_slots, slot_mask
from ..checkpoint import BertSettings, read_weights
from ..design import Design
from ..network import GloriaNetwork, ResNetShape, sentence_vectors, word_weights
from ..text import MAX_PIECES, Caption, find_bert
from .config import TrainingConfig
from .losses import LossTerms, LossWeights, training_losses


def design_of(config: TrainingConfig, trained_on: Sequence[str], bert: BertSettings) -> Design:
    """What a checkpoint of this configuration says of itself."""
    return Design(
        longer_side=config.image.longer_side,
        crop=config.image.crop,
        inner=config.image.inner,
        stem=config.image.stem,
        heads=bert.num_attention_heads,
        hidden_act=bert.hidden_act,
        layer_norm_eps=bert.layer_norm_eps,
        cleaning=config.text.cleaning,
        tokens=config.attention.tokens,
        pieces=config.text.pieces,
        intensity=config.image.intensity,
        local_similarity=config.attention.local_similarity,
        temp1=config.attention.temp1,
        trained_on=tuple(trained_on),
    )


def bert_settings(config: TrainingConfig) -> BertSettings:
    """What of the text tower its tensors do not say."""
    if config.text.bert is None:
        return BertSettings(num_attention_heads=config.text.heads)
    return BertSettings.read(find_bert(config.text.bert).config)


def make_network(config: TrainingConfig, vocabulary_size: int) -> GloriaNetwork:
    """A network with random or, as far as the configuration names some, pretrained weights, drawn from torch's state.

    Raises :class:`WronglungError` for weights that are missing or do not fit.
    """
    image = config.image
    resnet = ResNetShape(image.blocks, image.bottleneck, image.width, image.stem)
    network = GloriaNetwork(
        resnet, config.dimensions, _bert_config(config, vocabulary_size), config.attention.no_attention, image.inner
    )
    if network.no_attn_vec is not None:
        nn.init.normal_(network.no_attn_vec)
    if config.attention.centred_start:
        _centre(network.img_encoder.local_embedder.weight)
    if image.weights is not None:
        _load_resnet(network, image.weights)
    if config.text.bert is not None and config.text.pretrained:
        _load_bert(network, config.text.bert)
    if config.init is not None:
        _load_checkpoint(network, config.init)
    return network


@torch.no_grad()
def _centre(weight: torch.Tensor) -> None:
    """Let region vectors start short and without a part that all regions share.

    ``weight`` [D, channels, 1, 1] takes features that are never negative. As drawn, it gives them a common direction and
    products with words of a standard deviation of some ten: the softmax over words then gives every region to the same
    word, all maps are uniform, and the local loss has little to leave that state by.
    """
    weight -= weight.mean(dim=1, keepdim=True)
    weight *= 0.1


def _bert_config(config: TrainingConfig, vocabulary_size: int) -> BertConfig:
    text = config.text
    if text.bert is None:
        return BertConfig(
            vocab_size=vocabulary_size,
            hidden_size=config.dimensions,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            intermediate_size=text.intermediate,
            max_position_embeddings=MAX_PIECES,
            hidden_dropout_prob=text.dropout,
            attention_probs_dropout_prob=text.dropout,
        )
    told = bert_settings(config)
    size = told.hidden_size or config.dimensions
    if size != config.dimensions:
        raise WronglungError(f"bert {text.bert!r} has {size} dimensions; set dimensions={size}")
    return BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=size,
        num_hidden_layers=told.num_hidden_layers or 12,
        num_attention_heads=told.num_attention_heads or 12,
        intermediate_size=told.intermediate_size or 4 * size,
        max_position_embeddings=told.max_position_embeddings or 512,
        hidden_act=told.hidden_act,
        layer_norm_eps=told.layer_norm_eps,
        hidden_dropout_prob=text.dropout,
        attention_probs_dropout_prob=text.dropout,
    )


def _load_resnet(network: GloriaNetwork, path: Path) -> None:
    """A torchvision state dict; its classifier is left out."""
    state = {key: value for key, value in read_weights(path).items() if not key.startswith("fc.")}
    missing, unknown = network.img_encoder.model.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unknown:
        raise WronglungError(f"image weights {path}: do not fit this ResNet; first at {[*missing, *unknown][0]!r}")


def _load_bert(network: GloriaNetwork, bert: str) -> None:
    try:
        source = BertModel.from_pretrained(bert, add_pooling_layer=False)
    except (OSError, ValueError) as error:
        raise WronglungError(
            f"bert {bert!r}: its weights cannot be loaded ({str(error).splitlines()[0]}); give a folder with "
            "model.safetensors, or text.pretrained=false to start from random weights"
        ) from error
    network.text_encoder.model.load_state_dict(source.state_dict())


def _load_checkpoint(network: GloriaNetwork, path: Path) -> None:
    """Another checkpoint's weights. A no-attention vector that it lacks keeps its random start."""
    weights = read_weights(path)
    state = network.state_dict()
    for key in state.keys() - weights.keys():
        if key != "no_attn_vec" and not key.endswith("num_batches_tracked"):
            raise WronglungError(f"init {path}: has no {key!r}; it must be of the same design")
    fitting = {key: value for key, value in weights.items() if key in state}
    for key, value in fitting.items():
        if value.shape != state[key].shape:
            raise WronglungError(
                f"init {path}: {key!r} has shape {tuple(value.shape)}, here {tuple(state[key].shape)}; it must be of "
                "the same design"
            )
    network.load_state_dict(fitting, strict=False)


class Contrast(nn.Module):
    """The network with its losses: what distributed training wraps, so that gradients meet in ``forward``."""

    def __init__(self, network: GloriaNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config
        loss = config.loss
        self._weights = LossWeights(
            local=loss.local,
            overall=loss.overall,
            no_attention=loss.no_attention,
            divergence=loss.divergence,
            entropy=loss.entropy,
        )

    def forward(
        self,
        pixels: torch.Tensor,
        captions: Sequence[Caption],
        labels: torch.Tensor | None = None,
    ) -> LossTerms:
        """Losses of ``pixels`` float32 [B, side, side] in [-1, 1] and their captions.

        With ``labels`` bool [F, side, side], the last F of the B are annotated instances: they take part in the
        segmentation loss alone, the others in the contrastive and map losses alone.
        """
        local, overall = self.network.img_encoder(pixels[:, None])
        regions = local.permute(0, 2, 3, 1)
        words, counted = self.encode(captions, pixels.device)
        sentences = sentence_vectors(words)
        end = len(pixels) - (0 if labels is None else len(labels))
        own = self._losses(slice(0, end), regions, words, counted, overall, sentences, self._weights)
        if labels is None:
            return own
        only = LossWeights(local=0, overall=0, segmentation=self._config.loss.segmentation)
        more = self._losses(slice(end, None), regions, words, counted, overall, sentences, only, labels)
        return LossTerms(**own.present(), **more.present())

    def _losses(
        self,
        rows: slice,
        regions: torch.Tensor,
        words: torch.Tensor,
        counted: torch.Tensor,
        images: torch.Tensor,
        sentences: torch.Tensor,
        weights: LossWeights,
        labels: torch.Tensor | None = None,
    ) -> LossTerms:
        return training_losses(
            regions[rows], words[rows], counted[rows], images[rows], sentences[rows], weights,
            temp1=self._config.attention.temp1,
            no_region=self.network.no_attn_vec,
            aggregate=self._config.loss.words,
            labels=labels,
        )  # fmt: skip

    def encode(self, captions: Sequence[Caption], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Word vectors [B, W, D] and which of them count, bool [B, W]."""
        longest = max(len(caption.ids) for caption in captions)
        ids = torch.zeros(len(captions), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, caption in enumerate(captions):
            ids[row, : len(caption.ids)] = torch.tensor(caption.ids)
            mask[row, : len(caption.ids)] = 1
        vectors = self.network.text_encoder(ids.to(device), mask.to(device))
        weights = word_weights(captions, average=self._config.text.pieces == "mean").to(vectors)
        words = weights @ vectors
        slots = [saliency_slots(self._config.attention.tokens, caption.counts) for caption in captions]
        return words, slot_mask(slots, words.shape[1]).to(device)
