"""Labels of every kind, and the folder that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.errors import AnadilError
from anadil.text.rules import TextRules, TextSettings, TokenizerSettings, text_rules
from anadil.text.subwords import set_sampling_seed
from anadil.text.tokenizer import TokenizerKind, make_tokenizer, read_tokenizer, write_tokenizer
from anadil.text.units import graphemes
from tests.support.labels import decoded

TEXTS = ["Mbóngo ngá wáre ndé", "mbεngó yá ngolo", "ndzoo la mbwa, wa ngá", "Ngá wáre mbóngo ya ndzoo", "abc İ ﬁ"] * 6


def tokenized(language: str, kind: TokenizerKind, texts: list[str], size: int = 40) -> TextRules:
    made = make_tokenizer([(text_rules(language, TextSettings()), texts)], kind, size)
    return text_rules(language, TextSettings(), made.labels, made.subwords)


def test_units_of_several_letters_are_labels_and_the_longest_is_taken() -> None:
    rules = tokenized("mdw", "units", ["ndzoo mbwa nga", "mata"])
    assert rules.labels == (" ", "a", "m", "mbw", "ndz", "ng", "o", "t")
    assert [rules.labels[i] for i in rules.encode("ndzoo nga")] == ["ndz", "o", "o", " ", "ng", "a"]


def test_grapheme_clusters_stay_whole() -> None:
    rules = tokenized("yo", "grapheme", ["ọ\u0301mọ ẹ\u0300kọ\u0301"])
    assert {"ọ\u0301", "ẹ\u0300"} <= set(rules.labels) and "\u0301" not in rules.labels
    assert [rules.labels[i] for i in rules.encode("mọ\u0301")] == ["m", "ọ\u0301"]
    hindi = tokenized("hi", "grapheme", ["मूर्ख हिन्दी"])
    assert "हि" in hindi.labels and "मू" in hindi.labels
    assert decoded(hindi, hindi.encode("हिन्दी")) == "हिन्दी"


@given(st.text(max_size=20))
def test_clusters_join_to_the_text(text: str) -> None:
    assert "".join(graphemes(text)) == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_are_labels_that_spell_the_text(kind: TokenizerKind) -> None:
    rules = tokenized("mdw", kind, TEXTS)
    again = tokenized("mdw", kind, TEXTS)
    assert rules == again and len(rules.labels) <= 40
    assert any(label.startswith(" ") and len(label) > 1 for label in rules.labels)
    for text in map(rules.normalize, TEXTS):
        ids = rules.encode(text)
        assert "".join(rules.labels[i] for i in ids).removeprefix(" ") == text
        assert decoded(rules, ids) == text and rules.unknown_characters(text) == ""
        assert len(ids) <= len(text)
    with pytest.raises(AnadilError, match="no label for 'ж'"):
        rules.encode("ngá ж")


def test_subwords_never_fold_case_or_forms() -> None:
    settings = TextSettings(lowercase=False)
    made = make_tokenizer([(text_rules("und", settings), ["IıİI x² ﬁ Ａ"] * 9)], "unigram", 20)
    rules = text_rules("und", settings, made.labels, made.subwords)
    assert decoded(rules, rules.encode("IİI x² ﬁ Ａ")) == "IİI x² ﬁ Ａ"


def test_subwords_can_be_drawn_and_the_seed_repeats_the_draw() -> None:
    rules = tokenized("mdw", "unigram", TEXTS)
    draws = []
    for seed in (1, 1, 2):
        set_sampling_seed(seed)
        draws.append([tuple(rules.sample("mbóngo ngá wáre", 0.1)) for _ in range(20)])
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) > 3
    assert {decoded(rules, ids) for draw in draws for ids in draw} == {"mbóngo ngá wáre"}


@pytest.mark.parametrize(
    ("kind", "size", "what"),
    [("bpe", 5000, r"5000 subwords are too many.*\n  next: tokenizer.size=\d+ or less"),
     ("bpe", 5, r"5 subwords are too few: the text has \d+ different characters\n  next: tokenizer.size=\d+ or more"),
     ("unigram", 5, "5 subwords are too few")],
)  # fmt: skip
def test_a_size_that_does_not_fit_the_text_is_refused_with_one_that_does(
    kind: TokenizerKind, size: int, what: str
) -> None:
    with pytest.raises(AnadilError, match=what) as caught:
        tokenized("mdw", kind, TEXTS, size)
    better = int("".join(filter(str.isdigit, str(caught.value).split("tokenizer.size=")[1])))
    assert len(tokenized("mdw", kind, TEXTS, better).labels) <= better


@pytest.mark.parametrize("kind", ["char", "grapheme", "units", "bpe"])
def test_a_tokenizer_folder_is_read_as_it_was_written(tmp_path: Path, kind: TokenizerKind) -> None:
    made = make_tokenizer([(text_rules("mdw", TextSettings()), TEXTS)], kind, 40)
    write_tokenizer(tmp_path / "tok", made)
    assert read_tokenizer(tmp_path / "tok") == (kind, list(made.labels), made.subwords)


def test_a_damaged_tokenizer_folder_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tok", make_tokenizer([(text_rules("mdw", TextSettings()), TEXTS)], "bpe", 40))
    (tmp_path / "tok/tokenizer.yaml").write_text("kind: bpe\nlabels: [a]\n", encoding="utf-8")
    with pytest.raises(AnadilError, match="its subwords are not the labels of the config"):
        read_tokenizer(tmp_path / "tok")
    (tmp_path / "tok/tokenizer.model").write_bytes(b"version https://git-lfs")
    with pytest.raises(AnadilError, match="no SentencePiece model"):
        read_tokenizer(tmp_path / "tok")
    (tmp_path / "tok/tokenizer.model").unlink()
    with pytest.raises(AnadilError, match="tokenizer.model is missing"):
        read_tokenizer(tmp_path / "tok")
    with pytest.raises(AnadilError, match="no tokenizer folder"):
        read_tokenizer(tmp_path)


def test_bars_and_underlines_may_be_letters_and_the_blank_is_none() -> None:
    rules = text_rules("und", TextSettings(drop=""), ["_", "|", "▁", "a"])
    assert rules.encode("|_a▁") == [1, 0, 3, 2] and rules.blank_id == 4
    assert decoded(rules, rules.encode("|_a▁")) == "|_a▁"


def test_sampling_is_for_subwords() -> None:
    with pytest.raises(ValueError, match="sampling is for kind bpe and unigram, not for char"):
        TokenizerSettings(sampling=0.1)
