"""A tokenizer is labels, and for subwords a SentencePiece model: made of training text, kept in a folder, read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from anadil.errors import AnadilError
from anadil.files import whole_folder
from anadil.settings import SECTION, dump, parse, read_yaml
from anadil.text.alphabet import Labels, label_warnings, labels_from_text
from anadil.text.rules import SUBWORDS, TextRules
from anadil.text.subwords import Subwords, train_subwords
from anadil.text.units import Units

MODEL, SETTINGS = "tokenizer.model", "tokenizer.yaml"
TokenizerKind = Literal["char", "grapheme", "units", "bpe", "unigram"]


class SavedTokenizer(BaseModel):
    """`tokenizer.yaml` of a tokenizer folder."""

    model_config = SECTION

    kind: TokenizerKind
    labels: list[str]


@dataclass(frozen=True)
class Tokenizer:
    """What `make_tokenizer` made, with what a user should look at. `subwords` is empty unless the kind is one of them."""

    kind: TokenizerKind
    labels: tuple[str, ...]
    subwords: bytes
    counts: Counter[str]
    warnings: tuple[str, ...]


def make_tokenizer(groups: Sequence[tuple[TextRules, Sequence[str]]], kind: TokenizerKind, size: int) -> Tokenizer:
    """Labels of a kind from texts, each group of which is normalised by its own rules (one group for each language).

    Raises AnadilError if there is no text, or too little.
    """
    units: Units = "char" if kind == "bpe" or kind == "unigram" else kind
    found = [labels_from_text(rules, texts, units) for rules, texts in groups]
    warnings = label_warnings([(rules, labels) for (rules, _), labels in zip(groups, found, strict=True)])
    if kind != "bpe" and kind != "unigram":
        counts = sum((labels.counts for labels in found), Counter[str]())
        return Tokenizer(kind, tuple(sorted(counts)), b"", counts, warnings)
    normal: list[str] = []
    for labels, (rules, texts) in zip(found, groups, strict=True):
        normal += _spelled(labels, map(rules.normalizer, texts))
    if not normal and any(texts for _, texts in groups):
        raise AnadilError("\n".join(["there is no text that can be used", *warnings]))
    model = train_subwords(normal, kind, size)
    subwords = Subwords(model)
    counts = Counter(subwords.labels[i] for text in normal for i in subwords.encode(text))
    return Tokenizer(kind, subwords.labels, model, counts, warnings)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a tokenizer folder; it appears whole or not at all."""
    with whole_folder(folder) as beside:
        saved = SavedTokenizer(kind=tokenizer.kind, labels=list(tokenizer.labels))
        (beside / SETTINGS).write_text(dump(saved), encoding="utf-8")
        if tokenizer.subwords:
            (beside / MODEL).write_bytes(tokenizer.subwords)


def tokenizer_files(rules: TextRules) -> dict[str, bytes]:
    """What a model folder holds of the tokenizer beside its labels, by file name."""
    return {MODEL: rules.subwords} if rules.subwords else {}


def read_tokenizer(folder: Path) -> tuple[TokenizerKind, list[str], bytes]:
    """TokenizerKind, labels and SentencePiece model of a tokenizer folder. Raises AnadilError if it is none, or damaged."""
    if not (folder / SETTINGS).is_file():
        raise AnadilError(
            f"{folder} is no tokenizer folder ({SETTINGS} is not there)\n"
            "  next: make one: anadil tokenizer MANIFEST --out DIR --kind bpe"
        )
    saved = parse(SavedTokenizer, read_yaml(folder / SETTINGS), str(folder / SETTINGS))
    return saved.kind, saved.labels, read_subwords(folder, saved.kind, saved.labels)


def read_subwords(folder: Path, kind: str, labels: Sequence[str]) -> bytes:
    """The SentencePiece model beside the labels; empty if the kind needs none. Raises AnadilError if they differ."""
    if kind not in SUBWORDS:
        return b""
    path = folder / MODEL
    if not path.is_file():
        raise AnadilError(f"{folder}: {MODEL} is missing\n  next: copy the whole folder again")
    model = path.read_bytes()
    subwords = Subwords(model)
    if tuple(labels) not in (subwords.labels, subwords.pieces):  # NeMo's keep the unknown piece
        raise AnadilError(f"{path}: its subwords are not the labels of the config\n  next: copy the whole folder again")
    return model


def _spelled(letters: Labels, texts: Iterable[str]) -> list[str]:
    """Texts without those that hold a digit which no rule spells: training will report these."""
    known = set("".join(letters.labels))
    return [text for text in texts if known.issuperset(text)]
