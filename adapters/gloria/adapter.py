"""GLoRIA as an alignment model: the catalogue's ``gloria``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from ...benchmark.errors import WronglungError
from ...benchmark.protocol import Alignment, Features, LoadedImage, ModelCard, Preprocessed
from ..encoding import at_least_float32, full_precision, geometry_of, sources, stacked, to_device, together
from ..files.state_dicts import file_digest
from ..networks.resnet import fold_batch_norms
from ..preprocessing.greyscale import Intensity
from ..saliency.gradient import gradcam
from .attention import (
    LOCAL_SIMILARITIES,
    LocalSimilarity,
    Tokens,
    global_similarity,
    global_similarity_matrix,
    local_similarity,
    mean_over_words,
    saliency_slots,
    slot_mask,
    word_region_attention,
    word_similarity,
)
from .checkpoint import build_network, read_weights
from .design import Design, Pieces, read_design
from .network import GloriaNetwork, sentence_vectors, word_weights
from .preprocessing import normalise, preprocessed
from .text import MAX_PIECES, Caption, Captions, Counts, find_bert

Method = Literal["attention", "gradcam"]

_TOKENS_IN_WORDS: dict[Tokens, str] = {
    "cls+words": "[CLS] and words, less one last word for each [UNK] (released code)",
    "words": "words",
}


def load(
    checkpoint: Path,
    bert: str | None = None,
    name: str = "gloria",
    method: Method = "attention",
    tokens: Tokens | None = None,
    pieces: Pieces | None = None,
    intensity: Intensity | None = None,
    local_similarity: LocalSimilarity | None = None,
    temp1: float | None = None,
    trained_on: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Gloria:
    """A GLoRIA checkpoint as a dual encoder. The defaults are what the checkpoint says, or else the released code does.

    ``checkpoint``: a released Lightning file, a torch state dict with the same names, or safetensors; those of
    ``wronglung train`` say all that follows themselves. ``bert``: a folder with the ``vocab.txt`` and ``config.json``
    of its text tower, or the name of a model on the Hugging Face hub (default: Bio_ClinicalBERT). ``name``: on the
    leaderboard.

    ``method``: ``attention`` (the model's own), or ``gradcam``, from the gradient of the global similarity with respect to
    the ResNet's last stage; similarities are the same with both. ``name`` is then followed by it.

    ``tokens``, which a sentence's map is made of and averaged over: ``cls+words`` ([CLS] and the words, less one last
    word for each unknown one) or ``words`` (all words, nothing else). ``pieces``, how word pieces make a word: ``sum``
    (words of many pieces weigh more) or ``mean``. ``intensity``: ``as-is`` (the official code) or ``minmax`` (each
    image stretched to the full grey range first, as the code of "That's the Wrong Lung!" does). ``temp1``: what word
    probabilities are multiplied by before the softmax over regions.

    ``local_similarity``, from the cosines of words and what they attend to: ``fork-eval`` (the best word, as the
    evaluation of "That's the Wrong Lung!" stores it: with [SEP] and empty slots after words of several pieces),
    ``max-words`` and ``max-words-sep`` (the best word, without and with [SEP]), ``loss-sum`` (the training loss's sum
    over words, which grows with the sentence), ``loss-mean``, ``official-eval`` and ``official-retriever`` (as the
    official code counts, at most 96 characters for the former).

    ``trained_on``: datasets, separated by commas, that the checkpoint's training saw, for the card; the file does not
    say. For the weights that GLoRIA's authors released it is CheXpert.

    ``dtype`` is that of both encoders; attention and similarities are at least float32.

    Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    if temp1 is not None and not 0 < temp1 < float("inf"):
        raise WronglungError(f"temp1={temp1}: must be positive and finite")
    network, captions, design = _read(checkpoint, bert)
    asked: dict[str, Any] = {
        "tokens": tokens, "pieces": pieces, "intensity": intensity, "local_similarity": local_similarity,
        "temp1": temp1,
    }  # fmt: skip
    if trained_on is not None:
        asked["trained_on"] = sources(trained_on)
    design = design.model_copy(update={key: value for key, value in asked.items() if value is not None})
    if method == "gradcam" and dtype != torch.float32:
        raise WronglungError("model 'gloria': saliency method 'gradcam' takes gradients, for which it needs float32")
    card = model_card(name, design, captions, network, file_digest(checkpoint), dtype)
    if method == "gradcam":
        card = card.model_copy(
            update={
                "name": f"{name} + gradcam",
                "saliency_method": "GradCAM of the global similarity on the last stage",
                "map_kind": "score",
                "signed": False,
                "comparable": False,
                "tokens": "",
                "settings": {"method": method, **card.settings},
            }
        )
    return Gloria(network, captions, card, design, torch.device(device), dtype, method)


def model_card(
    name: str, design: Design, captions: Captions, network: GloriaNetwork, digest: str | None, dtype: torch.dtype
) -> ModelCard:
    """The card of a network that is used as ``design`` says; ``digest`` is its checkpoint's."""
    frame = design.frame
    enlarged = "" if frame.inner == frame.crop else f"; inside the network enlarged to {frame.inner} × {frame.inner}"
    return ModelCard(
        name=name,
        saliency_method="word-region attention (softmax over words, then over regions), mean over words",
        map_kind="distribution",
        tokens=_TOKENS_IN_WORDS[design.tokens],
        checkpoint=digest,
        preprocessing=(
            f"8-bit grey, intensity {design.intensity}, longer side to {frame.longer_side} by area averaging, zero "
            f"padding to {frame.longer_side} × {frame.longer_side}, centre {frame.crop} × {frame.crop}, to [-1, 1]"
            f"{enlarged}"
        ),
        pretraining_sources=design.trained_on,
        settings={
            **{key: getattr(design, key) for key in _SETTINGS},
            "dtype": str(dtype).removeprefix("torch."),
            "vocabulary": captions.digest,
            "no_attention_vector": network.no_attn_vec is not None,
        },
    )


_SETTINGS = ("tokens", "pieces", "intensity", "local_similarity", "temp1", "cleaning")


def _read(checkpoint: Path, bert: str | None) -> tuple[GloriaNetwork, Captions, Design]:
    weights = read_weights(checkpoint)
    own = read_design(checkpoint)
    if own is not None:
        if bert is not None:
            raise WronglungError(f"checkpoint {checkpoint}: carries its own vocabulary; leave bert={bert!r} out")
        design, vocabulary = own
        captions, source = Captions(vocabulary, f"checkpoint {checkpoint}", design.cleaning), f"checkpoint {checkpoint}"
        network = build_network(weights, design.bert, checkpoint, design.stem, design.inner)
    else:
        files = find_bert(bert)
        design, captions, source = Design(), Captions.read(files.vocabulary), str(files.vocabulary)
        network = build_network(weights, files, checkpoint)
    rows = network.text_encoder.model.config.vocab_size
    if captions.size != rows:
        raise WronglungError(
            f"{source}: has {captions.size} pieces, but the checkpoint {checkpoint} has vectors for {rows}; "
            "give the BERT that the checkpoint was trained with (--model-arg bert=FOLDER)"
        )
    return network, captions, design


class Gloria:
    """A dual encoder. Made by :func:`load`.

    Features of an image: ``regions`` [rows, columns, D] and ``global`` [D], and for GradCAM ``last_stage`` [C, rows,
    columns]. Of a sentence: ``words`` [words, D], from
    [CLS] to [SEP], ``global`` [D], and ``counts``, the fields of :class:`Counts` (int64). Vectors are at least
    float32 and not normalised.
    """

    def __init__(
        self,
        network: GloriaNetwork,
        captions: Captions,
        card: ModelCard,
        design: Design | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        method: Method = "attention",
    ) -> None:
        """Takes ``network`` over: it is folded, moved and cast in place."""
        self.card = card
        self._method = method
        self._captions = captions
        self._design = design or Design()
        self._device = device or torch.device("cpu")
        self._on_cpu = self._device.type == "cpu"
        network = network.eval().to(torch.promote_types(dtype, torch.float32))
        vector = network.no_attn_vec
        self._no_region = None if vector is None else vector.detach().clone().to(self._device)
        fold_batch_norms(network.img_encoder.model)
        convert_conv2d_weight_memory_format(network.img_encoder, torch.channels_last)
        self._network = network.to(device=self._device, dtype=dtype)

    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        return self.align_features(self.encode_images(images), self.encode_sentences(sentences))

    def preprocess(self, image: LoadedImage) -> Preprocessed:
        """Grey levels. Raises :class:`WronglungError` naming an image that has no 8-bit reading or is too thin."""
        return preprocessed(image, self._design.intensity, self._design.frame)

    def encode_images(self, images: Sequence[LoadedImage]) -> list[Features]:
        """Raises :class:`WronglungError` naming an image that has no 8-bit reading or is too thin."""
        return self.encode_preprocessed([self.preprocess(image) for image in images])

    @torch.no_grad()
    def encode_preprocessed(self, images: Sequence[Preprocessed]) -> list[Features]:
        # One by one, a CPU is as fast as in batches, needs less memory, and gives the same bits whatever the batch.
        size = 1 if self._on_cpu else max(1, len(images))
        return [one for at in range(0, len(images), size) for one in self._encode_batch(images[at : at + size])]

    def _encode_batch(self, images: Sequence[Preprocessed]) -> list[Features]:
        pixels = normalise(stacked([image.pixels for image in images], self._device))
        encoder = self._network.img_encoder
        with full_precision(self._device):
            third, fourth = encoder.stages(pixels[:, None])
            local, overall = encoder.local_embedder(third), encoder.pooled(fourth)
        kept = {"regions": at_least_float32(local).permute(0, 2, 3, 1), "global": at_least_float32(overall)}
        if self._method == "gradcam":
            kept["last_stage"] = fourth
        return [
            Features(
                {key: of[at].clone(memory_format=torch.contiguous_format) for key, of in kept.items()}, image.geometry
            )
            for at, image in enumerate(images)
        ]

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> list[Features]:
        """Sentences of equal length, in pieces, are encoded together on a CPU, all on a GPU: give sentences of similar length
        in one call.

        Raises :class:`WronglungError` for a sentence that the chosen local similarity is not defined for.
        """
        captions = self._captions(sentences)
        lengths: dict[int, list[int]] = {}
        for index, (caption, sentence) in enumerate(zip(captions, sentences, strict=True)):
            if self._design.local_similarity == "official-eval" and caption.counts.characters >= MAX_PIECES:
                raise WronglungError(
                    "local_similarity='official-eval' counts characters and is not defined above "
                    f"{MAX_PIECES - 1} of them; choose another for {sentence!r}"
                )
            lengths.setdefault(len(caption.ids) if self._on_cpu else MAX_PIECES, []).append(index)
        features: dict[int, Features] = {}
        # Without padding nothing is computed in vain, and the other sentences in the call change nothing; on one thread
        # not even the last bit. A GPU is idle most of the time with a few sentences of each length, and pads.
        for indices in lengths.values():
            features.update(zip(indices, self._encode_captions([captions[one] for one in indices]), strict=True))
        return [features[index] for index in range(len(captions))]

    def _encode_captions(self, captions: Sequence[Caption]) -> list[Features]:
        """Encode captions in one batch, padded if they differ in length."""
        longest, shortest = (of(len(caption.ids) for caption in captions) for of in (max, min))
        ids = torch.tensor([[*caption.ids, *[0] * (longest - len(caption.ids))] for caption in captions])
        mask = None
        if shortest < longest:
            mask = to_device(slot_mask([(0, len(caption.ids)) for caption in captions], longest).long(), self._device)
        weights = to_device(word_weights(captions, average=self._design.pieces == "mean"), self._device)
        with full_precision(self._device):
            vectors = self._network.text_encoder(to_device(ids, self._device), mask)
            words = weights.to(vectors.dtype) @ vectors
        return [
            Features(
                {
                    "words": vectors_of_words[: caption.n_words].clone(),
                    "global": whole.clone(),
                    "counts": torch.tensor(astuple(caption.counts)),
                }
            )
            for vectors_of_words, whole, caption in zip(words, sentence_vectors(words), captions, strict=True)
        ]

    @torch.no_grad()
    def align_features(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        """Align image item i with sentence item i; nothing is computed for other pairs.

        ``no_attention_weight`` is given where the checkpoint has a no-attention vector; a map and its weight then sum
        to 1. A sentence of which cleaning leaves nothing gets a uniform map, and a finite local similarity: that of
        [SEP], or where a measure leaves that out, too, the least value that one word can have.
        """
        with full_precision(self._device):
            return self._aligned(images, sentences)

    def _aligned(self, images: Sequence[Features], sentences: Sequence[Features]) -> Alignment:
        counts = [Counts(*item.tensors["counts"].tolist()) for item in sentences]
        in_map = [saliency_slots(self._design.tokens, count) for count in counts]
        in_similarity = [LOCAL_SIMILARITIES[self._design.local_similarity].slots(count) for count in counts]
        width = max(*(len(item.tensors["words"]) for item in sentences), *(stop for _, stop in in_map + in_similarity))
        words = padded([item.tensors["words"] for item in sentences], width, self._device)
        grid = stacked([item.tensors["regions"] for item in images], self._device)
        regions = grid.flatten(1, 2)
        if self._no_region is not None:
            regions = torch.cat([self._no_region.expand(len(images), 1, -1), regions], dim=1)

        logits = words @ regions.transpose(1, 2)
        counted = to_device(slot_mask(in_map, width), self._device)
        attention = word_region_attention(logits, counted, self._design.temp1)
        saliency = mean_over_words(attention, counted)
        if in_similarity != in_map:
            counted = to_device(slot_mask(in_similarity, width), self._device)
            attention = word_region_attention(logits, counted, self._design.temp1)
        local = local_similarity(word_similarity(words, regions, attention), counted, self._design.local_similarity)

        weight = None
        if self._no_region is not None:
            weight, saliency = saliency[:, 0], saliency[:, 1:]
        saliency = saliency.reshape(grid.shape[:3])
        if self._method == "gradcam":
            weight, saliency = None, self._gradcam(images, self._globals(sentences))
        return Alignment(
            saliency=saliency,
            geometry=[geometry_of(item) for item in images],
            local_similarity=local,
            global_similarity=global_similarity(self._globals(images), self._globals(sentences)),
            no_attention_weight=weight,
        )

    @torch.no_grad()
    def global_similarity_matrix(self, images: Sequence[Features], sentences: Sequence[Features]) -> torch.Tensor:
        """Cosines of the global embeddings, [images, sentences]."""
        with full_precision(self._device):
            return global_similarity_matrix(self._globals(images), self._globals(sentences))

    def _gradcam(self, images: Sequence[Features], sentences: torch.Tensor) -> torch.Tensor:
        stages = stacked([item.tensors["last_stage"] for item in images], self._device)
        # One by one, so that the last bit does not depend on the batch.
        with torch.enable_grad():
            maps = [
                gradcam(stage[None].requires_grad_(), self._network.img_encoder.pooled, sentence[None])
                for stage, sentence in zip(stages, sentences, strict=True)
            ]
        return torch.cat(maps)

    def _globals(self, items: Sequence[Features]) -> torch.Tensor:
        return stacked([item.tensors["global"] for item in items], self._device)


def padded(rows: Sequence[torch.Tensor], width: int, device: torch.device) -> torch.Tensor:
    """Vectors of words [words, D] as one tensor [rows, ``width``, D] on ``device``, with zeros behind them.

    On a GPU a copy for each row would take longer than what is then computed.
    """
    distinct = {id(row): row for row in rows}
    starts = dict(zip(distinct, accumulate((len(row) for row in distinct.values()), initial=0), strict=False))
    zeros = rows[0].new_zeros(1, rows[0].shape[1])
    vectors = to_device(torch.cat(together([*distinct.values(), zeros], device)), device)
    at = torch.arange(width).expand(len(rows), width) + torch.tensor([starts[id(row)] for row in rows])[:, None]
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    at = torch.where(torch.arange(width) < lengths, at, len(vectors) - 1)
    return vectors[to_device(at, device)]
