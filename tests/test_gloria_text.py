"""GLoRIA's text path: cleaning, pieces and words, the several caption lengths, and where the vocabulary comes from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wronglung.adapters.gloria.text import HUB_NAME, MAX_PIECES, Captions, Counts, caption, clean, find_bert
from wronglung.benchmark.errors import WronglungError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "lung", "pneumo", "##thorax", "##s", "is", "clear"]


@pytest.fixture
def captions(tmp_path: Path) -> Captions:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return Captions.read(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("sentence", "caption_text"),
    [
        ("The LEFT lung is clear.", "the left lung is clear"),
        ("Opacity;\nleft lung.", "opacity left lung"),
        ("1. Mild edema. 2. No effusion.", "mild edema no effusion"),
        ("Tube tip 4.5 cm above", "tube tip 5 cm above"),
        ("measuring about 3.", "measuring about"),
        ("Normal.", ""),
        ("Normal. Heart is large.", "heart is large"),
        ("Left [MASK] opacity", "left mask opacity"),
        ("mass-like density", "mass like density"),
        ("caf\u00e9 au lait \u00e9", "caf au lait"),
        ("a\ufffd\ufffdb", "a b"),
        ("", ""),
    ],
)
def test_cleaning(sentence: str, caption_text: str) -> None:
    assert clean(sentence) == caption_text


@given(st.text())
def test_cleaning_leaves_lower_case_ascii_words(sentence: str) -> None:
    cleaned = clean(sentence)
    assert cleaned.isascii()
    assert cleaned == cleaned.lower()
    assert not set(cleaned) & set("[].,;-\n")


def test_golden_captions_come_out_exactly(golden: Path) -> None:
    sentences = [one["text"] for one in json.loads((golden / "inputs.json").read_text())["sentences"]]
    expected = json.loads((golden / "preprocess.json").read_text())["sentences"]
    arrays = np.load(golden / "preprocess.npz")
    ids, mask, words = (arrays[name] for name in ("caption_ids", "attention_mask", "piece_to_word"))
    for index, made in enumerate(Captions.read(golden / "bert" / "vocab.txt")(sentences)):
        padding = MAX_PIECES - len(made.ids)
        assert list(made.pieces) == expected[index]["tokens"]
        np.testing.assert_array_equal([*made.ids, *[0] * padding], ids[index])
        np.testing.assert_array_equal([1] * len(made.ids) + [0] * padding, mask[index])
        np.testing.assert_array_equal([*made.word_of_piece, *[-1] * padding], words[index])
        assert made.n_words == expected[index]["n_words_including_cls_sep"]
        assert made.counts == Counts(
            words=made.n_words - 2,
            loss_slots=expected[index]["cap_len_local_loss"],
            collate_slots=expected[index]["cap_len_fork_collate"],
            characters=expected[index]["cap_len_official_process_text"],
        )


def test_pieces_are_numbered_by_word(captions: Captions) -> None:
    (made,) = captions(["Pneumothorax left lungs"])
    assert made.pieces == ("[CLS]", "pneumo", "##thorax", "left", "lung", "##s", "[SEP]")
    assert made.word_of_piece == (0, 1, 1, 2, 3, 3, 4)
    assert made.counts == Counts(words=3, loss_slots=4, collate_slots=6, characters=23)


def test_an_unknown_word_is_a_word_but_shortens_the_released_lengths(captions: Captions) -> None:
    (made,) = captions(["left qqq lung"])
    assert made.pieces == ("[CLS]", "left", "[UNK]", "lung", "[SEP]")
    assert made.counts == Counts(words=3, loss_slots=3, collate_slots=3, characters=13)


def test_a_sentence_of_which_nothing_is_left_keeps_the_two_special_pieces(captions: Captions) -> None:
    (made,) = captions(["Clear."])
    assert made.pieces == ("[CLS]", "[SEP]")
    assert made.counts == Counts(words=0, loss_slots=1, collate_slots=1, characters=6)


def test_long_captions_are_cut_to_97_pieces_inside_a_word(captions: Captions) -> None:
    (made,) = captions(["pneumothorax " * 60])
    assert len(made.ids) == MAX_PIECES
    assert made.pieces[-2:] == ("pneumo", "[SEP]")
    assert made.counts.words == 48


def test_no_sentence_makes_no_caption(captions: Captions) -> None:
    assert captions([]) == []


@given(st.lists(st.booleans(), max_size=95))
def test_lengths_agree_with_the_token_table(continues: list[bool]) -> None:
    inner = ["##x" if joined and index else "x" for index, joined in enumerate(continues)]
    made = caption(["[CLS]", *inner, "[SEP]"], range(len(inner) + 2), 0)
    n_words = inner.count("x")
    assert made.n_words == n_words + 2
    assert made.counts == Counts(n_words, n_words + 1, len(inner) + 1, 0)


def unreachable(repository: str, file: str) -> str:
    raise OSError("no connection")


class TestFindingTheVocabulary:
    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "vocab.txt").touch()
        assert find_bert(str(tmp_path)).config is None
        (tmp_path / "config.json").touch()
        files = find_bert(str(tmp_path))
        assert (files.vocabulary, files.config) == (tmp_path / "vocab.txt", tmp_path / "config.json")

    def test_a_folder_without_vocabulary(self, tmp_path: Path) -> None:
        with pytest.raises(WronglungError, match=r"holds no vocab\.txt"):
            find_bert(str(tmp_path))

    def test_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def lookup(repository: str, file: str) -> str:
            asked.append(repository)
            return str(tmp_path / file)

        monkeypatch.setattr("wronglung.adapters.gloria.text.try_to_load_from_cache", lookup)
        monkeypatch.setattr("wronglung.adapters.gloria.text.hf_hub_download", unreachable)
        files = find_bert(None)
        assert (files.vocabulary, files.config) == (tmp_path / "vocab.txt", tmp_path / "config.json")
        assert set(asked) == {HUB_NAME}

    def test_the_hub_where_the_cache_has_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(repository: str, file: str) -> str:
            if file == "config.json":
                raise FileNotFoundError
            return str(tmp_path / repository / file)

        monkeypatch.setattr("wronglung.adapters.gloria.text.try_to_load_from_cache", lambda repository, file: None)
        monkeypatch.setattr("wronglung.adapters.gloria.text.hf_hub_download", download)
        files = find_bert("someone/bert")
        assert (files.vocabulary, files.config) == (tmp_path / "someone/bert/vocab.txt", None)

    @pytest.mark.parametrize("bert", [None, "someone/bert", "/no/such/folder", "no name: at all"])
    def test_nowhere(self, bert: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        def lookup(repository: str, file: str) -> None:
            if "/no" in repository or " " in repository:
                raise ValueError("not a repository's name")

        monkeypatch.setattr("wronglung.adapters.gloria.text.try_to_load_from_cache", lookup)
        monkeypatch.setattr("wronglung.adapters.gloria.text.hf_hub_download", unreachable)
        with pytest.raises(WronglungError, match=rf"fetch vocab\.txt and config\.json of {HUB_NAME}.*bert=FOLDER"):
            find_bert(bert)

    def test_a_file_that_is_no_vocabulary(self, tmp_path: Path) -> None:
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\nword\n")
        with pytest.raises(WronglungError, match=r"is no BERT vocabulary; it has no \[SEP\]"):
            Captions.read(tmp_path / "vocab.txt")
