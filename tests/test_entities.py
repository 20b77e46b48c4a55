"""Clinical entities by scispaCy's entity linker: what is found, that it is reproducible, and how the index is kept."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wronglung.adapters.gloria.training import concept_index, umls
from wronglung.adapters.gloria.training.entities import RADIOLOGY_BASE, ClinicalEntities, Entity, load_entities
from wronglung.adapters.gloria.training.masking import mask_spans
from wronglung.adapters.gloria.training.mentions import LOCATION_WORDS, MOST_WORDS, QUALIFIER_WORDS
from wronglung.benchmark.errors import WronglungError

pytest.importorskip("scispacy", reason='scispaCy is not installed: pip install "wronglung[masking]"')

DOCUMENT = Path(__file__).parents[1] / "docs" / "masking.md"
CONCEPTS: list[dict[str, Any]] = [json.loads(line) for line in RADIOLOGY_BASE.read_text().splitlines()]
NAMES = [(name, one["concept_id"]) for one in CONCEPTS for name in (one["canonical_name"], *one["aliases"])]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "entities"


@pytest.fixture(scope="module")
def radiology(cache: Path) -> ClinicalEntities:
    return load_entities("radiology", cache)


def masked(entities: ClinicalEntities, sentence: str) -> str:
    spans = entities.spans(sentence)
    return mask_spans(sentence, spans, [True] * len(spans))


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Small left pleural effusion.", "Small left [MASK]."),
        ("No pneumothorax is seen.", "No [MASK] is seen."),
        ("The heart is mildly enlarged.", "The heart is mildly [MASK]."),
        ("The left lung is clear.", "The left lung is clear."),
        ("Right lower lobe consolidation and atelectasis", "Right lower lobe [MASK] and [MASK]"),
        ("Bibasilar opacities, R>L, and a RUL nodule.", "Bibasilar [MASK], R>L, and a RUL [MASK]."),
        ("Elevated right hemidiaphragm.", "[MASK] right hemidiaphragm."),
        ("Blunting of the left costophrenic angle.", "[MASK] of the left costophrenic angle."),
        ("Right IJ line, ETT and NG tube in place.", "Right [MASK], [MASK] and [MASK] in place."),
        ("Moderate cardiomegaly with CHF; small PTX.", "Moderate [MASK] with [MASK]; small [MASK]."),
        ("Ground-glass\nopacity in both apices", "[MASK] in both apices"),
        ("No change in the  pleural   effusion .", "No change in the  [MASK] ."),
        ("Developing pneumonia.", "Developing [MASK]."),
        ("Plueral effusion, consolidaton.", "Plueral [MASK], [MASK]."),
        ("Low lung volumes.", "[MASK]."),
        ("Lungs are well expanded.", "Lungs are well expanded."),
        ("", ""),
        (" \n", " \n"),
        ("Ω≈ç √∫ 🫁", "Ω≈ç √∫ 🫁"),
    ],
)
def test_findings_are_masked_and_the_rest_is_kept(radiology: ClinicalEntities, sentence: str, expected: str) -> None:
    assert masked(radiology, sentence) == expected


def test_an_entity_says_what_it_is(radiology: ClinicalEntities) -> None:
    sentence = "There is a tiny apical PTX on the left."
    assert radiology.spans(sentence) == (Entity(23, 26, "pneumothorax", "pneumothorax", 1.0),)
    assert sentence[23:26] == "PTX"


def test_every_name_of_the_base_is_found_whole_and_linked_to_its_concept(radiology: ClinicalEntities) -> None:
    tested = 0
    for name, concept_id in NAMES:
        words = re.findall(r"[\w']+", name)
        if "(" in name or len(words) > MOST_WORDS:
            continue
        tested += 1
        (entity,) = radiology.spans(f"There is {name} today.")
        assert (entity.start, entity.end, entity.concept_id) == (9, 9 + len(name), concept_id), name
        assert entity.score > 0.999
    assert tested > 0.98 * len(NAMES)


FINDINGS = (
    "pleural effusion",
    "opacity",
    "ground-glass opacities",
    "PTX",
    "nodule",
    "CHF",
    "pacemaker",
    "cardiomegaly",
)
KEPT = sorted((LOCATION_WORDS | QUALIFIER_WORDS) - {"l", "r", "dependent", "prior", "old"})


@given(
    st.lists(st.sampled_from(KEPT), max_size=4),
    st.sampled_from(FINDINGS),
    st.lists(st.sampled_from(KEPT), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_words_of_place_and_degree_are_never_masked(
    radiology: ClinicalEntities, before: list[str], finding: str, after: list[str]
) -> None:
    sentence = " ".join((*before, finding, *after))
    entities = radiology.spans(sentence)
    names = {name.lower() for name, _ in NAMES}
    for entity in entities:
        mention = sentence[entity.start : entity.end].lower()
        assert mention in names or not set(re.split(r"[\s-]", mention)) & set(KEPT)


@given(st.text(max_size=60) | st.lists(st.sampled_from([*FINDINGS, *KEPT, ",", "-", "/", "\n"])).map(" ".join))
@settings(max_examples=150, deadline=None)
def test_entities_are_sorted_apart_and_inside_the_sentence(radiology: ClinicalEntities, sentence: str) -> None:
    end = 0
    for entity in radiology.spans(sentence):
        assert end <= entity.start < entity.end <= len(sentence)
        assert 0.8 < entity.score <= 1
        assert sentence[entity.start : entity.end].strip() == sentence[entity.start : entity.end]
        end = entity.end


def test_the_documented_table_is_what_is_masked(radiology: ClinicalEntities) -> None:
    rows = documented()
    assert len(rows) == 30
    for sentence, shown in rows:
        assert masked(radiology, sentence) == shown


def test_the_documented_sentences_are_of_the_covid_notes(covid_lungs: Path) -> None:
    with (covid_lungs / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        notes = " ".join(" ".join(row["clinical_notes"] for row in csv.DictReader(stream)).split())
    for sentence, _ in documented():
        assert sentence in notes


def documented() -> list[tuple[str, str]]:
    """The rows of the table of sentences: as written, and masked."""
    text = html.unescape(DOCUMENT.read_text(encoding="utf-8"))
    return re.findall(r"^\| \d+ \| (.+?) \| (.+?) \|$", text, re.MULTILINE)


# --- reproducible -----------------------------------------------------------------------------------------------------

SENTENCES = (
    "Multifocal bilateral air-space opacities, in a predominantly perihilar and lower zone distribution.",
    "ETT, NGT and right jugular CVL are well positioned.",
    "Shortnes of breath and opacitites with interstitial patten.",
    "There is a coarsening of lung markings more evident at the lower fields (R>L) but no clear consolidation seen.",
)
SCRIPT = """
import sys, json
from pathlib import Path
from wronglung.adapters.gloria.training.entities import load_entities
entities = load_entities("radiology", Path(sys.argv[1]))
print(json.dumps([[(e.start, e.end, e.concept_id, e.score.hex()) for e in entities.spans(s)] for s in sys.argv[2:]]))
"""


def in_another_process(cache: Path, sentences: tuple[str, ...], seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(1 + seed % 2)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(cache), *sentences], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_processes_that_start_at_once_agree_to_the_bit_and_on_the_index(
    radiology: ClinicalEntities, cache: Path, tmp_path: Path
) -> None:
    together = [in_another_process(tmp_path / "shared", SENTENCES, seed) for seed in (1, 2)]
    answers = [process.communicate(timeout=120)[0] for process in together]
    assert all(process.returncode == 0 for process in together)
    assert answers[0] == answers[1]
    expected = [[[e.start, e.end, e.concept_id, e.score.hex()] for e in radiology.spans(s)] for s in SENTENCES]
    assert json.loads(answers[0]) == expected
    (made,), (before,) = list((tmp_path / "shared").iterdir()), list(cache.iterdir())
    assert made.name == before.name
    assert made.read_bytes() == before.read_bytes()


def test_answers_do_not_depend_on_what_was_asked_before(cache: Path, radiology: ClinicalEntities) -> None:
    fresh = load_entities("radiology", cache)
    assert [fresh.spans(s) for s in reversed(SENTENCES)] == [radiology.spans(s) for s in reversed(SENTENCES)]


def test_the_similarity_is_the_exact_cosine_of_tf_idf_vectors(cache: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    generator = concept_index.candidate_generator(RADIOLOGY_BASE, cache)
    aliases = sorted({name for name, _ in NAMES})
    texts = ["pleural effusions seen", "consolidaton", "shortnes of breath", "tubes", "zzz", "lymph pneumonia"]
    # The same with a vocabulary of what occurs in either, which is all that a cosine depends on.
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3)).fit([*aliases, *texts]).vocabulary_
    reference = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), vocabulary=grams).fit(aliases)
    cosines = (reference.transform(texts) @ reference.transform(aliases).T).toarray()
    for row, candidates in zip(cosines, generator(texts, 30), strict=True):
        found = {a: s for c in candidates for a, s in zip(c.aliases, c.similarities, strict=True)}
        nearest = np.argsort(-row, kind="stable")[:30]
        assert found
        assert max(found.values()) == pytest.approx(row.max(), abs=1e-5)
        assert sorted(found.values(), reverse=True) == pytest.approx(sorted(row[nearest], reverse=True), abs=1e-5)
        for alias, similarity in found.items():
            assert similarity == pytest.approx(row[aliases.index(alias)], abs=1e-5)


def test_unknown_letters_count_against_a_match(cache: Path) -> None:
    generator = concept_index.candidate_generator(RADIOLOGY_BASE, cache)
    (candidates,) = generator(["xqz vzkw pneumonia"], 30)
    assert max(max(candidate.similarities) for candidate in candidates) < 0.8


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_is_made_once(cache: Path, radiology: ClinicalEntities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concept_index, "_make", lambda _aliases: pytest.fail("made again"))
    assert load_entities("radiology", cache).spans(SENTENCES[1]) == radiology.spans(SENTENCES[1])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"half"])
def test_a_damaged_index_is_made_anew(cache: Path, radiology: ClinicalEntities, tmp_path: Path, content: bytes) -> None:
    (good,) = cache.iterdir()
    whole = good.read_bytes()
    bad = tmp_path / good.name
    bad.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert load_entities("radiology", tmp_path).spans(SENTENCES[0]) == radiology.spans(SENTENCES[0])
    assert bad.read_bytes() == whole


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stream: Any, **_arrays: Any) -> None:
        stream.write(b"something")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(WronglungError, match=f"{re.escape(str(tmp_path))}.*No space left on device.*XDG_CACHE_HOME"):
        load_entities("radiology", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(WronglungError, match=f"^{re.escape(str(file))}: cannot write"):
        load_entities("radiology", file)


def test_the_cache_is_the_users_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_entities("radiology")
    assert [file.suffix for file in (tmp_path / "wronglung" / "entities").iterdir()] == [".npz"]


# --- UMLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def empty_scispacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scispaCy's cache, empty."""
    from scispacy import file_cache

    folder = tmp_path / "scispacy"
    folder.mkdir()
    monkeypatch.setattr(file_cache, "DATASET_CACHE", str(folder))
    return folder


def test_missing_umls_says_what_to_install(empty_scispacy: Path, no_network: None) -> None:
    if umls.installed_model():
        pytest.skip("a scispaCy model is installed")
    with pytest.raises(WronglungError) as error:
        load_entities("umls")
    for part in ("en_core_sci_lg", str(empty_scispacy), "ann_index", "EntityLinker(linker_name='umls')"):
        assert part in str(error.value)


def test_auto_without_umls_is_radiology(cache: Path, empty_scispacy: Path, no_network: None) -> None:
    assert load_entities("auto", cache).source == "radiology"


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(WronglungError, match="'mesh': must be"):
        load_entities("mesh")  # type: ignore[arg-type]


@pytest.fixture
def small_umls(empty_scispacy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed model and a downloaded UMLS as scispaCy keeps them, but of three concepts."""
    import joblib
    import nmslib
    import scipy.sparse
    import spacy
    from scispacy.candidate_generation import UmlsLinkerPaths
    from scispacy.file_cache import url_to_filename
    from scispacy.linking_utils import DEFAULT_UMLS_PATH, DEFAULT_UMLS_TYPES_PATH
    from sklearn.feature_extraction.text import TfidfVectorizer

    site = tmp_path / "site"
    package = site / "en_core_sci_sm"
    nlp = spacy.blank("en")
    marked = ("right lower lobe", "pleural effusion", "pneumothorax", "Thursday")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "ENTITY", "pattern": text} for text in marked])
    package.mkdir(parents=True)
    nlp.to_disk(package / "data")
    (package / "__init__.py").write_text(
        "from pathlib import Path\nimport spacy\n"
        "def load(**options):\n    return spacy.load(Path(__file__).parent / 'data', **options)\n"
    )
    (site / "en_core_sci_sm-0.5.4.dist-info").mkdir()
    (site / "en_core_sci_sm-0.5.4.dist-info" / "METADATA").write_text("Name: en_core_sci_sm\nVersion: 0.5.4\n")
    monkeypatch.syspath_prepend(str(site))

    concepts = {"C1": "Structure of right lower lobe", "C2": "Pleural effusion", "C3": "Pneumothorax"}
    aliases = ["right lower lobe", "pleural effusion", "pneumothorax"]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    vectors = vectorizer.fit_transform(aliases)
    index = nmslib.init(method="hnsw", space="cosinesimil_sparse", data_type=nmslib.DataType.SPARSE_VECTOR)
    index.addDataPointBatch(vectors)
    index.createIndex({"indexThreadQty": 1})
    records = [
        {"concept_id": key, "canonical_name": name, "aliases": [alias], "types": ["T1"], "definition": "One."}
        for (key, name), alias in zip(concepts.items(), aliases, strict=True)
    ]

    def cached(address: str) -> str:
        file = empty_scispacy / url_to_filename(address, '"version"')
        file.with_name(f"{file.name}.json").write_text(json.dumps({"url": address, "etag": '"version"'}))
        return str(file)

    index.saveIndex(cached(UmlsLinkerPaths.ann_index))
    joblib.dump(vectorizer, cached(UmlsLinkerPaths.tfidf_vectorizer))
    with Path(cached(UmlsLinkerPaths.tfidf_vectors)).open("wb") as stream:
        scipy.sparse.save_npz(stream, vectors)
    Path(cached(UmlsLinkerPaths.concept_aliases_list)).write_text(json.dumps(aliases))
    Path(cached(DEFAULT_UMLS_PATH)).write_text("".join(json.dumps(record) + "\n" for record in records))
    Path(cached(DEFAULT_UMLS_TYPES_PATH)).write_text("Finding\tT1\t1\n")
    yield empty_scispacy
    sys.modules.pop("en_core_sci_sm", None)


@pytest.mark.parametrize("source", ["umls", "auto"])
def test_umls_is_used_where_it_is_without_asking_the_network(source: Any, small_umls: Path, no_network: None) -> None:
    entities = load_entities(source)
    assert entities.source == "umls"
    assert "en_core_sci_sm 0.5.4" in entities.description
    sentence = "On Thursday, small pleural effusion at the right lower lobe."
    found = [(sentence[e.start : e.end], e.concept_id, e.canonical_name) for e in entities.spans(sentence)]
    # The model marks "Thursday" too; the linker knows no such concept.
    assert found == [
        ("pleural effusion", "C2", "Pleural effusion"),
        ("right lower lobe", "C1", "Structure of right lower lobe"),
    ]


def test_a_download_that_was_cut_short_is_missing(small_umls: Path, no_network: None) -> None:
    from scispacy.candidate_generation import UmlsLinkerPaths

    start = sha256(UmlsLinkerPaths.tfidf_vectors.encode()).hexdigest()
    (note,) = small_umls.glob(f"{start}*.npz.json")
    note.unlink()
    with pytest.raises(WronglungError, match=r"\(missing: tfidf_vectors\)"):
        load_entities("umls")
