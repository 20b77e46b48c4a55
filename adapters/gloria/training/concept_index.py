"""scispaCy's candidate generator over a small knowledge base: exact, reproducible, and cached.

scispaCy embeds every alias of a knowledge base as a TF-IDF vector of character 3-grams, and looks up a mention's
nearest neighbours by cosine similarity (Neumann et al., ScispaCy, 2019). For millions of aliases it needs an approximate
index, built by many threads, whose answers differ from build to build. Over some thousand aliases the exhaustive search
of the same library (nmslib) is exact and faster.
"""

from __future__ import annotations

import hashlib
import os
import string
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ....benchmark.errors import WronglungError

_LAYOUT = 1  # of the cached file; part of its name

# Every 3-gram of these characters is a dimension, not only those of the aliases: a 3-gram that no alias has counts
# against a match. scispaCy drops those that are rare in its base. With millions of aliases few are; with a thousand
# most are, and "lymph pneumonia" would equal "pneumonia".
_CHARACTERS = string.ascii_lowercase + string.digits + "-/'."


class _Index(NamedTuple):
    aliases: list[str]
    idf: NDArray[np.float32]
    vectors: Any  # scipy.sparse.csr_matrix, float32 [aliases, 3-grams], rows of length 1


def candidate_generator(base: Path, cache: Path) -> Any:
    """scispaCy's ``CandidateGenerator`` over the knowledge base ``base`` (JSONL, one concept a line).

    The TF-IDF index is one file of the folder ``cache``, made at first use and replaced as a whole: a reader or a second
    process sees a complete file or none. Its name depends on the base and on the versions of what made it. An unreadable
    file is made anew. Raises :class:`WronglungError` if ``cache`` cannot be written.
    """
    from nmslib import DataType, init
    from scispacy.candidate_generation import CandidateGenerator
    from scispacy.linking_utils import KnowledgeBase

    knowledge = KnowledgeBase(str(base))
    file = cache / f"{_fingerprint(base)}.npz"
    index = _read(file)
    if index is None:
        # The dictionary is filled from sets, in another order in every process.
        index = _make(sorted(knowledge.alias_to_cuis))
        _write(index, file)
    search = init(method="brute_force", space="cosinesimil_sparse", data_type=DataType.SPARSE_VECTOR)
    search.addDataPointBatch(index.vectors)
    search.createIndex()
    return CandidateGenerator(search, _vectorizer(index.idf), index.aliases, knowledge)


def _fingerprint(base: Path) -> str:
    made_by = [f"{name} {version(name)}" for name in ("scispacy", "scikit-learn")]
    key = "\n".join((str(_LAYOUT), _CHARACTERS, *made_by)).encode() + b"\n" + base.read_bytes()
    return hashlib.sha256(key).hexdigest()


def _vectorizer(idf: NDArray[np.float32] | None = None) -> Any:
    """scispaCy's vectorizer, but for the fixed dimensions; not fitted without ``idf``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    edge = " " + _CHARACTERS
    grams = [first + middle + last for first in edge for middle in _CHARACTERS for last in edge]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32, vocabulary=grams)
    if idf is not None:
        vectorizer.idf_ = idf
    return vectorizer


def _make(aliases: list[str]) -> _Index:
    vectorizer = _vectorizer()
    vectors = vectorizer.fit_transform(aliases)
    # nmslib cannot hold a vector of zeros: an alias of no 3-gram at all, like "é".
    known = np.flatnonzero(np.diff(vectors.indptr))
    return _Index([aliases[at] for at in known], vectorizer.idf_.astype(np.float32), vectors[known])


def _read(file: Path) -> _Index | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            aliases = [str(alias) for alias in stored["aliases"]]
            parts = (stored["data"], stored["columns"], stored["rows"])
            idf = stored["idf"]
        return _Index(aliases, idf, sp.csr_matrix(parts, shape=(len(aliases), len(idf))))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _write(index: _Index, file: Path) -> None:
    vectors = index.vectors
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=file.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(
                    stream,
                    aliases=np.array(index.aliases),
                    idf=index.idf,
                    data=vectors.data,
                    columns=vectors.indices,
                    rows=vectors.indptr,
                )
            part.chmod(0o644)  # temporary files are private; a cache may be shared
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise WronglungError(
            f"{file.parent}: cannot write the index of clinical concepts ({error.strerror or error}); "
            "name another folder with load_entities(cache=...) or XDG_CACHE_HOME"
        ) from error
