"""MedCLIP as an alignment model: the catalogue's ``medclip-resnet`` and ``medclip-vit``."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import BertModel

from ..benchmark.errors import WronglungError
from .dual import TAU, DualModel, DualNetwork, chosen_method, dual_card
from .files.state_dicts import file_digest, load_strictly, read_state_dict
from .gloria.text import find_bert
from .networks import swin
from .networks.bert import UNUSED, WordPieces, bert_config, without_padding
from .networks.linear_map import linear_methods
from .networks.parts import linear, released_file, tree
from .networks.resnet import ResNet, resnet_shape
from .preprocessing.pixels import medclip
from .saliency.cosine import LocalSimilarity

FILE = "pytorch_model.bin"
LIMIT = 77
"""Word pieces of a sentence, [CLS] and [SEP] included."""
_SHRUNK = 20
"""Times that weights are at most longer than when packed; they hardly compress."""

_VISION, _TEXT = "vision_model.model.", "text_model.model."
_IGNORED = re.compile(rf"logit_scale|{re.escape(_TEXT)}{UNUSED}|{swin.UNUSED}|.*\.num_batches_tracked")


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
    """MedCLIP (MIT licence), with a ResNet-50 or a Swin transformer ("ViT"); the file tells which.

    ``weights``: the zip file that the authors publish (the addresses are in their package, ``medclip/constants.py``),
    its ``pytorch_model.bin``, or a folder that holds that. ``bert``: a folder with the ``vocab.txt`` and
    ``config.json`` of the text tower, or the name of a model on the Hugging Face hub (default: Bio_ClinicalBERT).

    ``method``: ``similarity`` (the default): the image's vector is a linear map of the mean over the last stage's
    cells, so that the same map of each cell gives patches whose mean it is; the map is their cosine with the sentence.
    ``gradcam``: on the last stage. ``tau``: temperature of the softmax that turns cosines into mass and into weights of
    the local similarity, for which see :mod:`.saliency.cosine`; the model has none of its own.

    A sentence's vector is the mean over all word pieces of three layers. Sentences are encoded without padding, which
    the authors' code lets take part in that mean; longer ones than 77 word pieces are cut.

    ``name``: what the model is called, before the method. Raises :class:`WronglungError` for a file that is missing, damaged or does not fit.
    """
    files = find_bert(bert)
    source = released_file(
        weights, (FILE,), "get the zip file that MedCLIP's authors publish, or unpack it and give the folder"
    )
    with _unpacked(source) as file:
        network, kind, vocabulary = _read(file, files.vocabulary, files.config)
    model = f"medclip-{kind}"
    method = chosen_method(network, method, model)
    card = dual_card(
        network,
        method,
        name=f"{name or model} + {method}",
        checkpoint=file_digest(source),
        tau=tau,
        similarity=local_similarity,
        tokens="all word pieces, [CLS] and [SEP] included, of BERT's layers 1, 2 and last",
        dtype=dtype,
        pretraining_sources=("MIMIC-CXR", "CheXpert"),
        settings={"vocabulary": vocabulary},
    )
    return DualModel(network, method, card, similarity=local_similarity, tau=tau, device=device, dtype=dtype)


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """The torch file that a published zip file holds, or ``source`` where it is no such file.

    Messages of errors that are raised meanwhile name the two, not the file that is yielded.
    """
    with TemporaryDirectory() as folder:
        unpacked = Path(folder) / FILE
        member = _unpack(source, unpacked)
        try:
            yield unpacked if member else source
        except WronglungError as error:
            raise WronglungError(str(error).replace(str(unpacked), f"{source}, {member}")) from error


def _unpack(source: Path, out: Path) -> str | None:
    """Write what the zip file holds as :data:`FILE` to ``out``; its name there, if there is one."""
    if not zipfile.is_zipfile(source):
        return None
    member = None
    try:
        with zipfile.ZipFile(source) as archive:
            found = next((one for one in archive.infolist() if one.filename.split("/")[-1] == FILE), None)
            if found is None:  # torch's own files are zip files, too
                return None
            member = found.filename
            if found.file_size > _SHRUNK * min(found.compress_size, source.stat().st_size):
                raise ValueError(f"it says it is more than {_SHRUNK} times as long as packed, which weights are not")
            with archive.open(found) as packed, out.open("wb") as stream:
                shutil.copyfileobj(packed, stream)
    except Exception as error:  # each way of packing has its own
        raise WronglungError(f"checkpoint {source}: {member or FILE} cannot be unpacked ({error})") from error
    return member


def _read(path: Path, vocabulary: Path, settings: Path | None) -> tuple[DualNetwork, str, str]:
    """The network, the kind of its image encoder, and the digest of its vocabulary."""
    weights = read_state_dict(path)
    text = BertModel(bert_config(weights, _TEXT, settings, path), add_pooling_layer=False)
    project_text = linear(weights, "text_model.projection_head", path)
    pieces = WordPieces(vocabulary, text.config.vocab_size)
    if f"{_VISION}conv1.weight" in weights:
        kind = "resnet"
        resnet = ResNet(shape := resnet_shape(weights, _VISION, path))
        what = f"a MedCLIP with a {shape.name}"
        project = linear(weights, f"{_VISION}fc", path)
        vision = {"vision_model.model": resnet, "vision_model.model.fc": project}

        def features(pixels: torch.Tensor) -> torch.Tensor:
            fourth: torch.Tensor = resnet(pixels)[1]
            return fourth
    else:
        kind, what = "vit", "a MedCLIP with a Swin transformer"
        transformer = swin.swin_model(weights, _VISION, path)
        weights = swin.renamed(weights, _VISION, transformer)
        project = linear(weights, "vision_model.projection_head", path)
        vision = {"vision_model.model": transformer, "vision_model.projection_head": project}

        def features(pixels: torch.Tensor) -> torch.Tensor:
            return swin.squared(transformer(pixel_values=pixels).last_hidden_state)

    module = tree({**vision, "text_model.model": text, "text_model.projection_head": project_text})
    load_strictly(module, weights, path, what, _IGNORED)

    def vectors(ids: torch.Tensor) -> torch.Tensor:
        states = text(input_ids=ids.to(project_text.weight.device), output_hidden_states=True).hidden_states
        mean = torch.stack([states[1], states[2], states[-1]]).mean(dim=(0, 2))
        projected: torch.Tensor = project_text(mean)
        return projected

    def encode_text(sentences: Sequence[str]) -> torch.Tensor:
        return torch.stack(without_padding([pieces.ids(sentence, LIMIT) for sentence in sentences], vectors))

    methods = linear_methods(features, project)
    return DualNetwork(module, medclip(), encode_text, methods), kind, pieces.digest
