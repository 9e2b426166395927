"""Makes a tokenizer (labels, and for subwords a SentencePiece model) from training text; writes and reads its folder."""

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

MODEL, _SETTINGS = "tokenizer.model", "tokenizer.yaml"
_MAX_MODEL_BYTES = 64 * 2**20
"""The largest SentencePiece models have 10 MB."""

TokenizerKind = Literal["char", "grapheme", "units", "bpe", "unigram"]


class _SavedTokenizer(BaseModel):
    """`tokenizer.yaml` of a tokenizer folder."""

    model_config = SECTION

    kind: TokenizerKind
    labels: list[str]


@dataclass(frozen=True)
class Tokenizer:
    """The labels with their counts, warnings for the user, and the SentencePiece model (empty for other kinds)."""

    kind: TokenizerKind
    labels: tuple[str, ...]
    subwords: bytes
    counts: Counter[str]
    warnings: tuple[str, ...]


def make_tokenizer(groups: Sequence[tuple[TextRules, Sequence[str]]], kind: TokenizerKind, size: int) -> Tokenizer:
    """Labels of a kind from groups of texts. Each group is normalised by its own rules; there is one group per language.

    Raises AnadilError if there is no text or too little.
    """
    units: Units = "char" if kind == "bpe" or kind == "unigram" else kind
    labels_of_groups = [labels_from_text(rules, texts, units) for rules, texts in groups]
    warnings = label_warnings([(rules, labels) for (rules, _), labels in zip(groups, labels_of_groups, strict=True)])
    if kind != "bpe" and kind != "unigram":
        counts = sum((labels.counts for labels in labels_of_groups), Counter[str]())
        return Tokenizer(kind, tuple(sorted(counts)), b"", counts, warnings)
    normal: list[str] = []
    for labels, (rules, texts) in zip(labels_of_groups, groups, strict=True):
        normal += _with_labels_only(labels, map(rules.normalizer, texts))
    if not normal and any(texts for _, texts in groups):
        raise AnadilError("\n".join(["there is no text that can be used", *warnings]))
    model = train_subwords(normal, kind, size)
    subwords = Subwords(model)
    counts = Counter(subwords.labels[i] for text in normal for i in subwords.encode(text))
    return Tokenizer(kind, subwords.labels, model, counts, warnings)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a tokenizer folder; it appears whole or not at all."""
    with whole_folder(folder) as beside:
        saved = _SavedTokenizer(kind=tokenizer.kind, labels=list(tokenizer.labels))
        (beside / _SETTINGS).write_text(dump(saved), encoding="utf-8")
        if tokenizer.subwords:
            (beside / MODEL).write_bytes(tokenizer.subwords)


def tokenizer_files(rules: TextRules) -> dict[str, bytes]:
    """The tokenizer's files in a model folder, by name. The labels are in the config."""
    return {MODEL: rules.subwords} if rules.subwords else {}


def read_tokenizer(folder: Path) -> tuple[TokenizerKind, list[str], bytes]:
    """The kind, labels and SentencePiece model in a tokenizer folder. Raises AnadilError if it is not one, or damaged."""
    if not (folder / _SETTINGS).is_file():
        raise AnadilError(
            f"{folder} is no tokenizer folder: it has no {_SETTINGS}\n"
            "  next: make one: anadil tokenizer MANIFEST --out DIR --kind bpe"
        )
    saved = parse(_SavedTokenizer, read_yaml(folder / _SETTINGS), str(folder / _SETTINGS))
    return saved.kind, saved.labels, read_subwords(folder, saved.kind, saved.labels)


def read_subwords_file(folder: Path) -> bytes:
    """The file of the SentencePiece model in a folder. Raises AnadilError if it is missing or larger than any."""
    path = folder / MODEL
    if not path.is_file():
        raise AnadilError(f"{folder}: {MODEL} is missing\n  next: copy the whole folder again")
    if path.stat().st_size > _MAX_MODEL_BYTES:
        raise AnadilError(f"{path}: {path.stat().st_size:,} bytes, allowed are {_MAX_MODEL_BYTES:,}")
    return path.read_bytes()


def read_subwords(folder: Path, kind: str, labels: Sequence[str]) -> bytes:
    """The SentencePiece model in a folder; empty if the kind needs none. Raises AnadilError if it has other labels."""
    if kind not in SUBWORDS:
        return b""
    path = folder / MODEL
    model = read_subwords_file(folder)
    try:
        subwords = Subwords(model)
        found = subwords.labels, subwords.pieces  # NeMo's labels include the unknown piece
    except (AnadilError, RuntimeError) as error:  # a model without pieces is read, and fails when it is used
        raise AnadilError(f"{path}: {error}") from error
    if tuple(labels) not in found:
        raise AnadilError(f"{path}: its subwords are not the labels of the config\n  next: copy the whole folder again")
    return model


def _with_labels_only(labels: Labels, texts: Iterable[str]) -> list[str]:
    """The texts without those that contain a digit that no rule spells, which training reports."""
    known = set("".join(labels.labels))
    return [text for text in texts if known.issuperset(text)]
