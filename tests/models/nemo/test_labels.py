from __future__ import annotations

from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.models.nemo.archive import read_archive
from anadil.models.nemo.config import Findings
from anadil.models.nemo.labels import (
    labels_to_pieces,
    pieces_to_labels,
    read_vocabulary,
    rules_for,
    sentencepieces,
    text_settings,
    tokenizer_files,
)
from anadil.text.rules import text_rules
from tests.support.labels import decoded


def proto(*pieces: str) -> bytes:
    """A SentencePiece model of these pieces, each with a score and a type, and another field behind them."""
    rows = [
        b"\x0a" + bytes([len(piece.encode())]) + piece.encode() + b"\x15\x00\x00\x80\xbf\x18\x01" for piece in pieces
    ]
    return b"".join(b"\x0a" + bytes([len(row)]) + row for row in rows) + b"\x12\x02\x08\x05"


def test_pieces_of_a_sentencepiece_model(shared: Path) -> None:
    assert sentencepieces(proto("<unk>", "▁ev", "ş"), "m") == ["<unk>", "▁ev", "ş"]
    archive = read_archive(shared / "reference/nemo/citrinet_bpe/model.nemo")
    files = tokenizer_files(archive.config, archive.artifacts, Findings())
    assert sorted(files) == ["tokenizer.model", "tokenizer.vocab", "vocab.txt"]
    assert sentencepieces(files["tokenizer.model"], "m") == archive.config["decoder"]["vocabulary"]
    for kept in ("tokenizer.model", "tokenizer.vocab"):  # an archive without vocabulary in its config
        assert read_vocabulary(None, {kept: files[kept]}, "m") == archive.config["decoder"]["vocabulary"]
    for broken in (b"\x0a\xff", proto("a")[:4], b"\x0a\x02\x0a\x05", b"\xff" * 3):
        with pytest.raises(AnadilError, match="no SentencePiece model"):
            sentencepieces(broken, "m")


def test_an_old_archive_with_pieces_in_bert_style() -> None:
    files = {"tokenizer.model": proto("<unk>", "▁ev", "ler", "▁")}
    assert read_vocabulary(["<unk>", "ev", "##ler", "▁"], files, "m") == ["<unk>", "▁ev", "ler", "▁"]
    other = ["<unk>", "ev", "##lar", "▁"]
    assert read_vocabulary(other, files, "m") == other  # not these pieces: as it is


@pytest.mark.parametrize(
    ("vocabulary", "kind", "labels", "text"),
    [
        (["<unk>", "▁", "▁ev", "ler"], "bpe", ["<unk>", " ", " ev", "ler"], "ev ler evler"),
        (["[PAD]", "ev", "##ler", "k"], "wpe", ["<pad>", " ev", "ler", " k"], "evler k"),
        ([" ", "a", "b"], None, [" ", "a", "b"], "ab a"),
    ],
)
def test_vocabularies_become_labels_and_back(
    vocabulary: list[str], kind: str | None, labels: list[str], text: str
) -> None:
    assert pieces_to_labels(vocabulary, kind, "m") == labels
    if kind:
        assert labels_to_pieces(labels, kind) == vocabulary
    rules = text_rules("tr", text_settings(labels, "tr"), labels)
    assert decoded(rules, rules.encode(text)) == text


def test_two_languages_in_one_vocabulary_are_refused() -> None:
    with pytest.raises(AnadilError, match=r"tokenizer\.type: agg: repeated labels \('<unk>', ' a'\)"):
        pieces_to_labels(["<unk>", "▁a", "<unk>", "▁a", "b"], "agg", "m")
    with pytest.raises(AnadilError, match=r"tokenizer\.type: yttm"):
        pieces_to_labels(["a"], "yttm", "m")


def test_text_rules_keep_what_the_labels_hold() -> None:
    cased = text_settings(["A", "b", ".", "’"], "en")
    assert not cased.lowercase and "." not in cased.drop and "," in cased.drop and cased.map == {}
    plain = text_settings([" ", "a", "'"], "en")
    assert plain.lowercase and plain.map == {"’": "'"}
    assert text_settings(["ı", "i"], "tr").lowercase


def test_language_rules_do_not_change_what_a_converted_model_has_labels_for() -> None:
    """As in the vocabularies of MMS: both apostrophes, the hyphen, digits and joiners, even if the language drops them."""
    labels = [" ", *"abdeimns", "'", "-", "’", "7", "\u200c", "ﬁ", "<unk>"]
    for language in ("tr", "en", "und"):
        rules, strange = rules_for(labels, language)
        assert strange == ([] if language == "und" else ["ﬁ"])
        assert rules.labels[:-2] == tuple(labels[:-2]) and rules.labels[-2] in ("ﬁ", "<U+FB01>")
        text = rules.normalize("Aní’s-man 'Abi 7 — des".replace("í", "i"))
        assert text == "ani’s-man 'abi 7 des" and decoded(rules, rules.encode(text)) == text
    assert rules_for([" ", *"ab'"], "tr")[0].normalize("A’b") == "a'b"  # characters without a label are still changed
    pieces = ["<unk>", " ", " ab", "-", "b"]
    assert rules_for(pieces, "en", b"subwords")[0].labels == tuple(pieces)
