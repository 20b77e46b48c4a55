"""GLoRIA's two encoders, with the parameter names of its released checkpoints.

Image: a ResNet whose third stage gives the local features and whose fourth gives the global one. Text: a BERT whose
last four hidden states are summed, as are the pieces of a word. Both end in one joint space of D dimensions; nothing
is normalised.

Shih-Cheng Huang, Liyue Shen, Matthew P. Lungren, Serena Yeung: "GLoRIA: A Multimodal Global-Local Representation
Learning Framework for Label-efficient Medical Image Recognition", ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import BertConfig, BertModel

from .preprocessing import RELEASED
from .text import MAX_PIECES, Caption

LAST_LAYERS = 4
"""How many of BERT's hidden states are summed, counted from the last; a BERT of two layers has three."""

Stem = Literal["imagenet", "small"]
"""What stands before the first stage. ``imagenet``: 7 × 7 convolution of stride 2, then max-pooling of stride 2.
``small``, for images of some 64 pixels: 3 × 3 convolution of stride 2, no pooling."""


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """Blocks per stage, whether a block is a bottleneck of three convolutions (ResNet-50 and deeper), the channels of
    the first stage, and the stem."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    stem: Stem = "imagenet"

    @property
    def name(self) -> str:
        return f"ResNet-{sum(self.blocks) * (3 if self.bottleneck else 2) + 2}"

    @property
    def stage_channels(self) -> tuple[int, int, int, int]:
        factor = 4 if self.bottleneck else 1
        first = self.width * factor
        return first, 2 * first, 4 * first, 8 * first


class _Block(nn.Module):
    """A residual block; the stride sits in the 3 × 3 convolution that is a block's first, as in torchvision."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
            self.conv3: nn.Module = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3: nn.Module = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.bn2: nn.Module = nn.BatchNorm2d(width)
        self.bottleneck = bottleneck
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.bottleneck:
            out = self.bn3(self.conv3(functional.relu(out, inplace=True)))
        out += x if self.downsample is None else self.downsample(x)
        return functional.relu(out, inplace=True)


class ResNet(nn.Module):
    """A ResNet without its classifier; parameters are named as in torchvision."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        pooled = shape.stem == "imagenet"
        side = 7 if pooled else 3
        self.conv1 = nn.Conv2d(3, shape.width, side, stride=2, padding=side // 2, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(shape.width)
        self._pooled = pooled
        self.layer1 = _stage(shape, 0, inputs=shape.width)
        self.layer2 = _stage(shape, 1, inputs=shape.stage_channels[0])
        self.layer3 = _stage(shape, 2, inputs=shape.stage_channels[1])
        self.layer4 = _stage(shape, 3, inputs=shape.stage_channels[2])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the third and of the fourth stage."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        if self._pooled:
            x = functional.max_pool2d(x, 3, stride=2, padding=1)
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


def _stage(shape: ResNetShape, stage: int, inputs: int) -> nn.Sequential:
    outputs = shape.stage_channels[stage]
    width = shape.width << stage
    first = _Block(inputs, width, outputs, 1 if stage == 0 else 2, shape.bottleneck)
    others = (_Block(outputs, width, outputs, 1, shape.bottleneck) for _ in range(shape.blocks[stage] - 1))
    return nn.Sequential(first, *others)


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


def fold_batch_norms(module: nn.Module) -> None:
    """Merge each batch norm into the convolution before it, in place: the same function in evaluation mode, faster.

    Computed in float64. The module can no longer be trained or saved under its parameter names.
    """
    pairs = [("0", "1")] if isinstance(module, nn.Sequential) else [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
    children = dict(module.named_children())
    for convolution, norm in pairs:
        conv, bn = children.get(convolution), children.get(norm)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            dtype = conv.weight.dtype
            setattr(module, convolution, fuse_conv_bn_eval(conv.double(), bn.double()).to(dtype))
            setattr(module, norm, nn.Identity())
    for child in children.values():
        fold_batch_norms(child)
