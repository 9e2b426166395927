"""NeMo's vocabularies as labels, and the text rules that such labels want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anadil.errors import AnadilError
from anadil.models.nemo.config import Findings
from anadil.text.casing import lower
from anadil.text.invisible import JOINERS
from anadil.text.language_rules import PUNCTUATION, LanguageRules
from anadil.text.rules import TextRules, TextSettings, changed_labels, rules_from_dict, text_rules
from anadil.text.units import is_sign

WORD_START = "▁"
"""How SentencePiece writes the space before a word."""

TOKENIZER_FILES = {"tokenizer.model": "model_path", "vocab.txt": "vocab_path", "tokenizer.vocab": "spe_tokenizer_vocab"}
"""Names in a model folder, and the options of NeMo's section `tokenizer` that point to them."""


def tokenizer_kind(config: Mapping[str, Any]) -> str | None:
    """bpe, wpe or agg; None for a model of characters."""
    section = config.get("tokenizer")
    return str(section.get("type", "")).lower() if isinstance(section, dict) else None


def tokenizer_files(config: Mapping[str, Any], artifacts: Mapping[str, bytes], findings: Findings) -> dict[str, bytes]:
    """The tokenizer's files by their names in a model folder. Raises no error: what is missing is told."""
    section = config.get("tokenizer")
    if not isinstance(section, dict):
        return {}
    found = {}
    for name, option in TOKENIZER_FILES.items():
        wanted = str(section.get(option) or name).removeprefix("nemo:").replace("\\", "/").rpartition("/")[2]
        # "nemo:0f1e..._tokenizer.model" since NeMo 1.0; before, the file's own name
        match = next((file for file in artifacts if file == wanted), None)
        match = match or next((file for file in artifacts if file == name or file.endswith("_" + name)), None)
        if match is not None:
            found[name] = artifacts[match]
    if tokenizer_kind(config) == "bpe" and "tokenizer.model" not in found:
        findings.left_out.append(
            "tokenizer.model is not there: the labels do without it, but a .nemo cannot be written from this model"
        )
    return found


def read_vocabulary(vocabulary: list[str] | None, files: Mapping[str, bytes], where: str) -> list[str]:
    """The config's, or that of `tokenizer.vocab`. Raises AnadilError if there is neither.

    Old archives of SentencePiece write its pieces as BERT's (##s goes on with a word): they are put back.
    """
    if vocabulary is not None and "tokenizer.model" in files and any(piece.startswith("##") for piece in vocabulary):
        pieces = sentencepieces(files["tokenizer.model"], where)
        as_berts = [
            piece.removeprefix(WORD_START) or piece if piece[:1] == WORD_START else "##" + piece for piece in pieces
        ]
        if as_berts[1:] == vocabulary[1:] and pieces[0] == vocabulary[0]:  # <unk> is written as it is
            return pieces
    if vocabulary is not None:
        return vocabulary
    if "tokenizer.vocab" in files:
        lines = files["tokenizer.vocab"].decode("utf-8", errors="replace").split("\n")
        return [line.split("\t")[0] for line in lines if line]
    if "tokenizer.model" in files:
        return sentencepieces(files["tokenizer.model"], where)
    raise AnadilError(
        f"{where}: no vocabulary: looked for decoder.vocabulary, labels, tokenizer.vocab and tokenizer.model"
    )


def sentencepieces(model: bytes, where: str) -> list[str]:
    """The pieces of a SentencePiece model in order: field 1 of its protobuf, and field 1 of that the text.

    Raises AnadilError if it is none.
    """
    try:
        pieces = [dict(_fields(content))[1] for number, content in _fields(model) if number == 1]
        return [piece.decode("utf-8") for piece in pieces]
    except (IndexError, KeyError, ValueError) as error:
        raise AnadilError(f"{where}: tokenizer.model is no SentencePiece model") from error


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a protobuf message; numbers themselves are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            _, at = _varint(message, at)
            continue
        size, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + size > len(message):
            raise ValueError("cut off")
        if wire == 2:
            yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not message[at - 1] & 128:
            return value, at


def pieces_from(labels: Sequence[str], kind: str) -> list[str]:
    """The reverse of `labels_from`."""
    if kind != "wpe":
        return [label.replace(" ", WORD_START) for label in labels]
    signs = {label: f"[{label[1:-1].upper()}]" for label in labels if label.startswith("<") and label.endswith(">")}
    return [signs.get(label) or (label[1:] if label.startswith(" ") else "##" + label) for label in labels]


def labels_from(vocabulary: list[str], kind: str | None, where: str) -> list[str]:
    """Our labels: a piece that begins a word begins with a space. Raises AnadilError for labels that repeat."""
    if kind == "bpe":
        labels = [piece.replace(WORD_START, " ") for piece in vocabulary]
    elif kind == "wpe":
        labels = [_word_piece(piece) for piece in vocabulary]
    elif kind in (None, "agg"):
        labels = [piece.replace(WORD_START, " ") for piece in vocabulary] if kind else list(vocabulary)
    else:
        raise AnadilError(f"{where}: tokenizer.type: {kind} (supported are bpe, wpe and agg)")
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        option = f"tokenizer.type: {kind}" if kind else "labels"
        raise AnadilError(
            f"{where}: {option}: labels that repeat ({', '.join(map(repr, repeated[:5]))}): two languages that share"
            " letters in one vocabulary are not supported"
        )
    return labels


def _word_piece(piece: str) -> str:
    """BERT's pieces: ## goes on with a word, [X] is a sign."""
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        return f"<{piece[1:-1].lower()}>"
    return piece[2:] if piece.startswith("##") and len(piece) > 2 else " " + piece


def text_settings(labels: list[str], language: str) -> TextSettings:
    """Lower-casing unless there are capitals among the labels; no character dropped that a label holds."""
    labels = [label for label in labels if not is_sign(label)]
    letters = set("".join(labels))
    cased = any(lower(label, language) != label for label in labels)
    apostrophe = {"\u2019": "'"} if "'" in letters and "\u2019" not in letters else {}
    dropped = "".join(character for character in PUNCTUATION if character not in letters)
    digits = "keep" if any(character.isdecimal() for character in letters) else None
    return TextSettings(
        lowercase=not cased,
        map=apostrophe,
        drop=dropped,
        digits=digits,
        hyphen="keep" if "-" in letters else None,
        apostrophe="keep" if "'" in letters else None,
    )


def rules_for(labels: Sequence[str], language: str, subwords: bytes = b"") -> tuple[TextRules, list[str]]:
    """The language's rules, changed so that they leave alone what a model from elsewhere has labels for.

    A label that they would change all the same becomes a sign, <U+FB01>, which no text has; those are told. Raises
    AnadilError for such a label among subwords, which are what they are.
    """
    letters = set("".join(label for label in labels if not is_sign(label)))
    data = text_rules(language, text_settings(list(labels), language)).to_dict()
    equivalents = data.get("equivalents", LanguageRules().equivalents)
    data["equivalents"] = {
        letter: "".join(variant for variant in variants if variant not in letters)
        for letter, variants in equivalents.items()
    }
    data["map"] = {source: target for source, target in data.get("map", {}).items() if source not in letters}
    if letters & set(JOINERS):
        data["joiners"] = "keep"
    strange = set(changed_labels(rules_from_dict(data, ()), labels)) if not subwords else set()
    named = [_sign(label) if label in strange else label for label in labels]
    return rules_from_dict(data, named, subwords, check=True), sorted(strange)


def _sign(label: str) -> str:
    return f"<U+{'+'.join(f'{ord(character):04X}' for character in label)}>"
