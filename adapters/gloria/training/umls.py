"""scispaCy's own models and UMLS index, where they are installed and cached. Nothing is downloaded."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

UMLS_MODELS = ("en_core_sci_lg", "en_core_sci_md", "en_core_sci_sm")
"""scispaCy's general models, the best first."""


class UmlsFiles(NamedTuple):
    """The files of scispaCy's UMLS linker in its cache; None for one that is not there."""

    ann_index: Path | None
    tfidf_vectorizer: Path | None
    tfidf_vectors: Path | None
    concept_aliases: Path | None
    concepts: Path | None
    types: Path | None


def installed_model() -> str | None:
    """The first of :data:`UMLS_MODELS` that is installed as a package, or None."""
    from spacy.util import is_package

    return next((model for model in UMLS_MODELS if is_package(model)), None)


def umls_folder() -> Path:
    """Where scispaCy keeps what it downloaded."""
    from scispacy import file_cache

    return Path(file_cache.DATASET_CACHE)


def umls_files() -> UmlsFiles:
    """What scispaCy downloaded of its UMLS linker.

    scispaCy asks the network before it opens a cached file, so the files are found by their names: the hash of the
    address, the hash of a version and the end of the address. It writes a second file of that name with ".json" once a
    download is whole. Of several versions this is the latest.
    """
    from scispacy.candidate_generation import UmlsLinkerPaths
    from scispacy.linking_utils import DEFAULT_UMLS_PATH, DEFAULT_UMLS_TYPES_PATH

    folder = umls_folder()
    return UmlsFiles(
        *(
            _cached(folder, address)
            for address in (
                UmlsLinkerPaths.ann_index,
                UmlsLinkerPaths.tfidf_vectorizer,
                UmlsLinkerPaths.tfidf_vectors,
                UmlsLinkerPaths.concept_aliases_list,
                DEFAULT_UMLS_PATH,
                DEFAULT_UMLS_TYPES_PATH,
            )
        )
    )


def _cached(folder: Path, address: str) -> Path | None:
    start, end = sha256(address.encode()).hexdigest(), address.rsplit("/", 1)[-1]
    whole = [file for file in folder.glob(f"{start}*.{end}") if file.with_name(f"{file.name}.json").is_file()]
    return max(whole, key=lambda file: (file.stat().st_mtime, file.name), default=None)


def umls_generator(files: UmlsFiles) -> Any:
    """scispaCy's ``CandidateGenerator`` over the UMLS, read as scispaCy reads it.

    Its vectorizer is a pickle: the folder must be one that only scispaCy writes to.
    """
    from scispacy.candidate_generation import CandidateGenerator, LinkerPaths
    from scispacy.linking_utils import UmlsKnowledgeBase

    paths = LinkerPaths(*(str(file) for file in files[:4]))
    return CandidateGenerator(
        paths.get_ann_index(),
        paths.get_tfidf_vectorizer(),
        paths.get_concept_aliases(),
        UmlsKnowledgeBase(str(files.concepts), str(files.types)),
    )
