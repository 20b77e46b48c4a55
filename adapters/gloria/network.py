"""GLoRIA's two encoders, with the parameter names of its released checkpoints.

Image: a ResNet whose third stage gives the local features and whose fourth gives the global one. Text: a BERT whose
last four hidden states are summed, as are the pieces of a word. Both end in one joint space of D dimensions; nothing
is normalised.

Shih-Cheng Huang, Liyue Shen, Matthew P. Lungren, Serena Yeung: "GLoRIA: A Multimodal Global-Local Representation
Learning Framework for Label-efficient Medical Image Recognition", ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from ..networks.resnet import ResNet, ResNetShape
from .preprocessing import RELEASED
from .text import MAX_PIECES, Caption

LAST_LAYERS = 4
"""How many of BERT's hidden states are summed, counted from the last; a BERT of two layers has three."""


class ImageEncoder(nn.Module):
    def __init__(self, shape: ResNetShape, dimensions: int, inner: int = RELEASED.inner) -> None:
        """``inner``: the side in pixels that images are enlarged to inside the network."""
        super().__init__()
        self._inner = inner
        self.model = ResNet(shape)
        self.local_embedder = nn.Conv2d(shape.stage_channels[2], dimensions, 1, bias=False)
        self.global_embedder = nn.Linear(shape.stage_channels[3], dimensions)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Local [batch, D, rows, columns] and global [batch, D] embeddings of ``pixels`` [batch, 1, side, side].

        The grey channel is used three times. In the released frame 224 × 224 pixels give 19 × 19 regions.
        """
        third, fourth = self.stages(pixels)
        return self.local_embedder(third), self.pooled(fourth)

    def pooled(self, fourth: torch.Tensor) -> torch.Tensor:
        """Global embeddings [batch, D] of the fourth stage [batch, C, rows, columns]."""
        embeddings: torch.Tensor = self.global_embedder(fourth.mean(dim=(2, 3)))
        return embeddings

    def stages(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The third and the fourth stage, each [batch, C, rows, columns]."""
        weight = self.global_embedder.weight
        pixels = pixels.to(torch.promote_types(pixels.dtype, weight.dtype))
        if pixels.shape[2:] != (self._inner, self._inner):
            pixels = functional.interpolate(
                pixels, size=(self._inner, self._inner), mode="bilinear", align_corners=True
            )
        pixels = pixels.expand(-1, 3, -1, -1).to(weight.dtype).contiguous(memory_format=torch.channels_last)
        third, fourth = self.model(pixels)
        return third, fourth


class TextEncoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # The pooler is in released checkpoints but never used.
        self.model = BertModel(config, add_pooling_layer=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of pieces [batch, pieces, D], at least float32: the sum of BERT's last four hidden states.

        ``ids`` and ``mask`` (1 for a piece, 0 for padding) are integers [batch, pieces]; without a mask there is no
        padding.
        """
        states = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        last = torch.stack(states[-LAST_LAYERS:])
        return last.sum(dim=0, dtype=torch.promote_types(last.dtype, torch.float32))


class GloriaNetwork(nn.Module):
    """Both encoders and, where it was trained, the vector that stands for "no region" [D]."""

    def __init__(
        self,
        resnet: ResNetShape,
        dimensions: int,
        bert: BertConfig,
        no_attention: bool,
        inner: int = RELEASED.inner,
    ) -> None:
        super().__init__()
        self.img_encoder = ImageEncoder(resnet, dimensions, inner)
        self.text_encoder = TextEncoder(bert)
        self.no_attn_vec = nn.Parameter(torch.zeros(dimensions)) if no_attention else None


def word_weights(captions: Sequence[Caption], average: bool) -> torch.Tensor:
    """How pieces make words, float32 [batch, words, pieces]: a word is the weighted sum of its pieces.

    Weights are 1, or with ``average`` one over the number of the word's pieces. Padded to the longest caption of the
    batch on both axes with 0.
    """
    words = max(caption.n_words for caption in captions)
    pieces = max(len(caption.ids) for caption in captions)
    weights = torch.zeros(len(captions), words, pieces)
    for row, caption in zip(weights, captions, strict=True):
        row[torch.tensor(caption.word_of_piece), torch.arange(len(caption.ids))] = 1
    return weights / weights.sum(dim=2, keepdim=True).clamp(min=1) if average else weights


def sentence_vectors(words: torch.Tensor) -> torch.Tensor:
    """Global text embeddings [batch, D] of word vectors [batch, words, D] that are zero behind a caption's end.

    The released code takes the mean over all 97 slots, [CLS], [SEP] and zeros included.
    """
    return words.sum(dim=1) / MAX_PIECES
