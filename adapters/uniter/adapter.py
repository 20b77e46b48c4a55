"""UNITER (Chen et al. 2020) as an alignment model: a sentence and the regions that a detector found, in one BERT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional

from ...benchmark.errors import WronglungError
from ...benchmark.geometry import Geometry
from ...benchmark.instances import Dataset
from ...benchmark.protocol import Alignment, LoadedImage, ModelCard
from ..encoding import at_least_float32
from ..files.state_dicts import file_digest, load_strictly, read_state_dict
from ..networks.bert import WordPieces, bert_config
from ..saliency.boxes import raster_max
from .network import IGNORED, Reading, UniterNetwork
from .region_files import RegionFiles, Regions

GRID = 112
"""Cells a side of a map, which covers the whole image."""

MAX_WORDS = 60
"""Word pieces of a sentence, without [CLS] and [SEP], as in the original; longer sentences are cut."""

Method = Literal["attention-words", "attention-cls", "word-region-cosine"]


def load(
    checkpoint: Path,
    vocabulary: Path,
    regions: Path,
    config: Path | None = None,
    method: Method | None = None,
    layer: int = -1,
    name: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Uniter:
    """UNITER: one BERT reads a sentence and the regions that a detector found in the image.

    ``checkpoint``: ``uniter-base.pt`` or ``uniter-large.pt`` from the authors' storage (the scripts of the repository
    ChenRocks/UNITER, MIT licence, name it), or a file fine-tuned for retrieval; it must have the image-text matching
    head ``itm_output``. ``vocabulary``: the ``vocab.txt`` of BERT base *cased* (28,996 pieces). ``config``: a BERT's
    ``config.json``, only needed where attention heads are not 64 wide.

    ``regions``: what the detector found, since none comes with this package. A folder with one ``<image id>.npz`` per
    image, or one safetensors file with tensors called ``<image id>/features`` and so on. Each image has ``features``
    [N, 2048], of N = 10 to 100 regions by bottom-up attention (Faster R-CNN trained on Visual Genome), and either
    ``boxes`` [N, 4] as (x1, y1, x2, y2) in pixels, or ``norm_bb`` [N, 4 or more], in shares of the image's width and
    height. The files of UNITER's own extraction (``norm_bb`` and ``features``) are read as they are, when they are
    renamed to the images' ids. Files of other tools need their arrays renamed: ``numpy.savez(f"{image_id}.npz",
    features=x, boxes=bbox)``.

    ``method``: ``attention-words`` (default: the attention of words to regions, mean over heads and words),
    ``attention-cls`` (that of [CLS], mean over heads), or ``word-region-cosine`` (cosine s of the states of words and
    regions, mean over words, as (1 + s) / 2). ``layer``: of the attention, or after which the states are taken; counted
    from 0, or from the end with negative numbers. Each place has the largest weight of a region that covers it, and 0
    where there is none. The global similarity is the log-odds of a match. ``name``: what the model is called,
    before the method.

    Raises :class:`WronglungError` for files that are missing, damaged or do not fit, and an unknown method or layer.
    """
    method = method or "attention-words"
    if method not in _METHODS:
        raise WronglungError(f"UNITER: unknown saliency method {method!r}; it has {', '.join(_METHODS)}")
    files = RegionFiles(regions)
    network = read_network(checkpoint, config)
    layers = len(network.uniter.encoder.layer)
    if not -layers <= layer < layers:
        raise WronglungError(f"layer={layer}: the network has layers 0 to {layers - 1}")
    if not vocabulary.is_file():
        raise WronglungError(f"vocabulary={vocabulary}: no such file; it is the vocab.txt of BERT base cased")
    words = WordPieces(vocabulary, network.uniter.embeddings.word_embeddings.num_embeddings, lower_case=False)
    cosine = method == "word-region-cosine"
    card = ModelCard(
        name=f"{name or checkpoint.stem} + {method}",
        saliency_method=f"{_METHODS[method][0]}, layer {layer % layers + 1} of {layers}, painted on the regions' boxes",
        map_kind="score",
        signed=False,
        comparable=cosine,
        tokens="[CLS]" if method == "attention-cls" else "words",
        checkpoint=file_digest(checkpoint),
        preprocessing="precomputed region features and boxes",
        settings={
            "method": method,
            "layer": layer % layers,
            "regions": files.digest,
            "vocabulary": words.digest,
            "dtype": str(dtype).removeprefix("torch."),
        },
    )
    return Uniter(network, words, files, card, method=method, layer=layer, device=device, dtype=dtype)


def read_network(checkpoint: Path, config: Path | None = None) -> UniterNetwork:
    """The network of a checkpoint, float32; sizes come from its tensors.

    Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    weights = read_state_dict(checkpoint)
    bert = bert_config(weights, "uniter.", config, checkpoint)
    if bert.hidden_act != "gelu":
        raise WronglungError(f"{config}: hidden_act is {bert.hidden_act!r}; UNITER has 'gelu'")
    key = "uniter.img_embeddings.img_linear.weight"
    if key not in weights or weights[key].ndim != 2:
        raise WronglungError(
            f"checkpoint {checkpoint}: has no {key!r} of two axes; is it the checkpoint of another model?"
        )
    network = UniterNetwork(bert, weights[key].shape[1])
    load_strictly(network, weights, checkpoint, "UNITER with its image-text matching head", IGNORED)
    return network.eval().requires_grad_(False)


class Uniter:
    """An alignment model that looks at no pixels. Made by :func:`load`."""

    def __init__(
        self,
        network: UniterNetwork,
        words: WordPieces,
        files: RegionFiles,
        card: ModelCard,
        *,
        method: Method,
        layer: int,
        device: str | torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.card = card
        self._device, self._dtype = torch.device(device), dtype
        self._network = network.to(device=self._device, dtype=dtype)
        self._words, self._files = words, files
        self._weigh, self._layer = _METHODS[method][1], layer
        self._limit = min(MAX_WORDS + 2, network.uniter.embeddings.position_embeddings.num_embeddings)

    def prepare(self, dataset: Dataset) -> None:
        """Raises :class:`WronglungError` where no image of the dataset has regions."""
        ids = {instance.image_id for instance in dataset.instances}
        if ids and not any(one in self._files for one in ids):
            raise WronglungError(
                f"model {self.card.name!r}: its region files have none of the dataset's images, such as {min(ids)}; they "
                "are named after the images' ids"
            )

    @torch.no_grad()
    def align(self, images: Sequence[LoadedImage], sentences: Sequence[str]) -> Alignment:
        """Align image i with sentence i. Raises :class:`WronglungError` naming an image without fitting regions."""
        maps, similarities = [], []
        # One by one: pairs differ in the numbers of words and regions, and padding would be computed in vain.
        for image, sentence in zip(images, sentences, strict=True):
            regions = self._regions(image)
            ids = self._words.ids(sentence, self._limit)
            reading = self._read(ids, regions)
            weights = at_least_float32(self._weigh(reading, len(ids), self._layer))
            maps.append(raster_max(regions.boxes * GRID, weights, GRID, GRID))
            similarities.append(log_odds(reading))
        return Alignment(
            torch.stack(maps).to(self._device),
            [Geometry.squash(*image.pixels.size, GRID, GRID) for image in images],
            global_similarity=torch.stack(similarities),
        )

    def _regions(self, image: LoadedImage) -> Regions:
        regions = self._files.read(image.id, image.size)
        given, needed = regions.features.shape[1], self._network.uniter.img_embeddings.img_linear.in_features
        if given != needed:
            raise WronglungError(
                f"image {image.id}: its region features have {given} columns; the network takes {needed}"
            )
        return regions

    def _read(self, ids: Sequence[int], regions: Regions) -> Reading:
        features, boxes = (one.to(device=self._device, dtype=self._dtype) for one in (regions.features, regions.boxes))
        reading: Reading = self._network(torch.tensor(ids, device=self._device), features, boxes)
        return reading


def log_odds(reading: Reading) -> torch.Tensor:
    """Log-odds that sentence and image match: in the order of the probability, of which float32 has few values near
    1."""
    logits = at_least_float32(reading.logits)
    return logits[1] - logits[0]


def attention_of_words(reading: Reading, length: int, layer: int) -> torch.Tensor:
    """Attention of words to regions [N], mean over heads and words; ``length`` counts [CLS], words and [SEP]."""
    to_regions = reading.attentions[layer].mean(dim=0)[:, length:]
    return to_regions[_words(length)].mean(dim=0)


def attention_of_cls(reading: Reading, length: int, layer: int) -> torch.Tensor:
    """Attention of [CLS] to regions [N], mean over heads."""
    return reading.attentions[layer].mean(dim=0)[0, length:]


def word_region_cosine(reading: Reading, length: int, layer: int) -> torch.Tensor:
    """Cosine of the states of words and regions [N], in [-1, 1], mean over words."""
    states = functional.normalize(at_least_float32(reading.states[layer]), dim=-1)
    cosines = torch.mm(states[_words(length)], states[length:].T)
    return cosines.mean(dim=0)


def _above_zero(reading: Reading, length: int, layer: int) -> torch.Tensor:
    # Where no region is, the map is 0, which must not be more than a region's cosine.
    return (1 + word_region_cosine(reading, length, layer)) / 2


def _words(length: int) -> slice:
    """Tokens between [CLS] and [SEP]; of an empty sentence, both."""
    return slice(1, length - 1) if length > 2 else slice(0, length)


_METHODS: dict[Method, tuple[str, Callable[[Reading, int, int], torch.Tensor]]] = {
    "attention-words": ("attention of words to regions, mean over heads and words", attention_of_words),
    "attention-cls": ("attention of [CLS] to regions, mean over heads", attention_of_cls),
    "word-region-cosine": ("(1 + cosine) / 2 of words and regions, mean over words", _above_zero),
}
