"""From a sentence to GLoRIA's token table: cleaning, WordPiece, and which piece belongs to which word."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from transformers import BertTokenizer

from ...benchmark.errors import WronglungError

HUB_NAME = "emilyalsentzer/Bio_ClinicalBERT"
"""The text tower that released GLoRIA weights were built on; only its vocabulary and configuration are needed."""

MAX_PIECES = 97
"""Token slots of a caption, [CLS] and [SEP] included; longer captions are cut, possibly inside a word."""

Cleaning = Literal["released", "plain"]
"""How a sentence becomes a caption. ``released``: :func:`clean`. ``plain``: :func:`plain`."""

MASK = "[MASK]"
"""BERT's own mask. The released cleaning turns it into the word "mask"."""

_LIST_MARKER = re.compile(r"[0-9]+\.")
_RUN = re.compile(r"\w+")
_RUN_OR_MASK = re.compile(r"\[MASK\]|\w+")


def clean(sentence: str) -> str:
    """The caption that the released code makes of a sentence: lower-case ASCII words joined by spaces.

    Line feeds become spaces; the text is cut at "digits and a full stop" (which is deleted: "4.5 cm" leaves "5 cm")
    and at full stops; of each part the runs of word characters are kept, in lower case and without non-ASCII
    characters. A part of at most one run is dropped, so "Normal." leaves nothing.
    """
    parts = (part for piece in _LIST_MARKER.split(sentence.replace("\n", " ")) for part in piece.split("."))
    kept = []
    for part in parts:
        runs = _RUN.findall(part.replace("\ufffd\ufffd", " ").lower())
        if len(runs) > 1:
            ascii_runs = (run.encode("ascii", "ignore").decode("ascii") for run in runs)
            kept.append(" ".join(run for run in ascii_runs if run))
    return " ".join(kept)


def plain(sentence: str) -> str:
    """All runs of word characters in lower case, joined by spaces; ``[MASK]`` stays BERT's mask.

    Nothing else is dropped: not numbers, not sentences of one word.
    """
    return " ".join(run if run == MASK else run.lower() for run in _RUN_OR_MASK.findall(sentence))


CLEANING: dict[Cleaning, Callable[[str], str]] = {"released": clean, "plain": plain}


@dataclass(frozen=True, slots=True)
class Counts:
    """The lengths of a caption that the released code uses in one place or another, none including [SEP].

    ``words`` is the true number of words, without [CLS]. ``loss_slots`` counts [CLS] and the words that do not start
    with a bracket ([UNK] does): the training loss and all its attention maps. ``collate_slots`` counts [CLS] and such
    *pieces*: the similarity that the evaluation of "That's the Wrong Lung!" stores. ``characters`` counts the
    characters of the raw sentence other than "[": the official code's own similarity.
    """

    words: int
    loss_slots: int
    collate_slots: int
    characters: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A tokenized sentence, without padding: at most 97 pieces, [CLS] first and [SEP] last.

    ``word_of_piece`` numbers the word that each piece belongs to, from 0 ([CLS]) without gaps to [SEP].
    """

    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    word_of_piece: tuple[int, ...]
    counts: Counts

    @property
    def n_words(self) -> int:
        """Words including [CLS] and [SEP]."""
        return self.word_of_piece[-1] + 1


@dataclass(frozen=True)
class BertFiles:
    """A BERT's vocabulary and, where there is one, its configuration. ``source`` is for messages."""

    vocabulary: Path
    config: Path | None
    source: str


def find_bert(bert: str | None) -> BertFiles:
    """The files of a folder that holds ``vocab.txt``, or of a model on the Hugging Face hub.

    ``None`` means :data:`HUB_NAME`. The local cache comes first; what it lacks is downloaded, unless the hub is switched
    off (``HF_HUB_OFFLINE=1``) or out of reach. Raises :class:`WronglungError` saying what to fetch and where to put it.
    """
    name = HUB_NAME if bert is None else bert
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "vocab.txt").is_file():
            raise WronglungError(f"bert folder {folder}: holds no vocab.txt (and config.json) of a BERT model")
        config = folder / "config.json"
        return BertFiles(folder / "vocab.txt", config if config.is_file() else None, str(folder))
    vocabulary = _from_hub(name, "vocab.txt")
    if vocabulary is None:
        problem = (
            "the text tower's vocabulary is needed and cannot be downloaded"
            if bert is None
            else f"bert {bert!r} is no folder, not in the local cache, and cannot be downloaded"
        )
        raise WronglungError(
            f"{problem}: fetch vocab.txt and config.json of {HUB_NAME} from the Hugging Face hub (they are small; the "
            "weights are in the checkpoint), put them into a folder, and give it with --model-arg bert=FOLDER"
        )
    return BertFiles(vocabulary, _from_hub(name, "config.json"), name)


def _from_hub(repository: str, file: str) -> Path | None:
    try:
        cached = try_to_load_from_cache(repository, file)
        return Path(cached if isinstance(cached, str) else hf_hub_download(repository, file))
    except ValueError:  # not the form of a hub name
        return None
    except OSError:  # no such repository or file, no permission, no connection, or the hub is switched off
        return None


class Captions:
    """Makes captions with one vocabulary (lower-case WordPiece).

    ``content`` is that of a ``vocab.txt``: one piece a line, its id the line's number. ``size`` is the number of its
    pieces, ``digest`` its SHA-256; ``source`` names it in messages. Raises :class:`WronglungError` for a vocabulary
    without BERT's special pieces.
    """

    def __init__(self, content: bytes, source: str, cleaning: Cleaning = "released") -> None:
        pieces = content.decode("utf-8", "replace").removesuffix("\n").split("\n")
        missing = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - {piece.strip() for piece in pieces}
        if missing:
            raise WronglungError(f"{source}: is no BERT vocabulary; it has no {', '.join(sorted(missing))}")
        self.size = len(pieces)
        self.digest = hashlib.sha256(content).hexdigest()
        self._clean = CLEANING[cleaning]
        with TemporaryDirectory() as folder:
            file = Path(folder) / "vocab.txt"
            file.write_bytes(content)
            # The file's path is given by position: its keyword differs between versions of transformers, which ignore
            # an unknown one and then know no words.
            self._tokenizer = BertTokenizer(str(file), do_lower_case=True)

    @classmethod
    def read(cls, vocabulary: Path, cleaning: Cleaning = "released") -> Captions:
        return cls(vocabulary.read_bytes(), str(vocabulary), cleaning)

    def __call__(self, sentences: Sequence[str]) -> list[Caption]:
        """One caption per sentence. A sentence may come out empty: [CLS] and [SEP] alone."""
        if not sentences:
            return []
        encoded = self._tokenizer(
            [self._clean(sentence) for sentence in sentences], truncation=True, max_length=MAX_PIECES, padding=False
        )
        return [self._caption(ids, sentence) for ids, sentence in zip(encoded["input_ids"], sentences, strict=True)]

    def _caption(self, ids: Sequence[int], sentence: str) -> Caption:
        return caption(self._tokenizer.convert_ids_to_tokens(list(ids)), ids, len(sentence) - sentence.count("["))


def caption(pieces: Sequence[str], ids: Sequence[int], characters: int) -> Caption:
    """The token table of ``pieces`` ([CLS] … [SEP]); a piece that starts with "##" continues a word."""
    word_of_piece: list[int] = []
    for piece in pieces:
        word_of_piece.append(word_of_piece[-1] + (not piece.startswith("##")) if word_of_piece else 0)
    unbracketed = [piece for piece in pieces if not piece.startswith("[")]
    counts = Counts(
        words=word_of_piece[-1] - 1,
        loss_slots=1 + sum(not piece.startswith("##") for piece in unbracketed),
        collate_slots=1 + len(unbracketed),
        characters=characters,
    )
    return Caption(tuple(pieces), tuple(ids), tuple(word_of_piece), counts)
