"""The network under training: how it is made, and what one batch gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import BertConfig

from ....benchmark.errors import WronglungError
from ...networks.bert import BertSettings
from ...networks.resnet import ResNetShape
from ..attention import saliency_slots, slot_mask
from ..design import Design
from ..network import GloriaNetwork, sentence_vectors, word_weights
from ..text import MAX_PIECES, Caption
from .config import TrainingConfig
from .losses import LossTerms, LossWeights, training_losses
from .pretrained import bert_files, load_bert, load_checkpoint, load_resnet


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
    return BertSettings.read(bert_files(config.text.bert).config)


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
        load_resnet(network, resnet, image.weights)
    if config.text.bert is not None and config.text.pretrained:
        load_bert(network, config.text.bert)
    if config.init is not None:
        load_checkpoint(network, config.init)
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
    told, where = bert_settings(config), f"text.bert {text.bert!r}"
    size = told.hidden_size or config.dimensions
    heads, positions = told.num_attention_heads or 12, told.max_position_embeddings or 512
    if size != config.dimensions:
        raise WronglungError(f"{where}: has {size} dimensions; set dimensions={size}")
    if size % heads:
        raise WronglungError(f"{where}: config.json has {heads} attention heads, which do not divide {size} dimensions")
    if positions < MAX_PIECES:
        raise WronglungError(f"{where}: config.json has {positions} positions; captions need {MAX_PIECES}")
    return BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=size,
        num_hidden_layers=told.num_hidden_layers or 12,
        num_attention_heads=heads,
        intermediate_size=told.intermediate_size or 4 * size,
        max_position_embeddings=positions,
        type_vocab_size=told.type_vocab_size or 2,
        hidden_act=told.hidden_act,
        layer_norm_eps=told.layer_norm_eps,
        hidden_dropout_prob=text.dropout,
        attention_probs_dropout_prob=text.dropout,
    )


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
