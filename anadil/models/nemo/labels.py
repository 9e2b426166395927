"""NeMo's vocabularies as labels, and the text rules that fit the labels of a converted model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from anadil.errors import AnadilError
from anadil.models.nemo.config import Findings
from anadil.text.casing import lower
from anadil.text.invisible import JOINERS
from anadil.text.language_rules import PUNCTUATION, LanguageRules
from anadil.text.rules import TextRules, TextSettings, changed_labels, rules_from_dict, text_rules
from anadil.text.subwords import sentencepieces
from anadil.text.units import is_sign

_WORD_START = "▁"
"""SentencePiece's mark for the space before a word."""

TOKENIZER_FILES = {"tokenizer.model": "model_path", "vocab.txt": "vocab_path", "tokenizer.vocab": "spe_tokenizer_vocab"}
"""Files of a tokenizer in a model folder, and the option of NeMo's section `tokenizer` that names each."""


def tokenizer_kind(config: Mapping[str, Any]) -> str | None:
    """NeMo's `tokenizer.type` in lower case (bpe, wpe or agg); None for a model of characters."""
    section = config.get("tokenizer")
    return str(section.get("type", "")).lower() if isinstance(section, dict) else None


def tokenizer_files(config: Mapping[str, Any], artifacts: Mapping[str, bytes], findings: Findings) -> dict[str, bytes]:
    """The tokenizer's files by their names in a model folder. A missing tokenizer.model is added to `findings`."""
    section = config.get("tokenizer")
    if not isinstance(section, dict):
        return {}
    files = {}
    for name, option in TOKENIZER_FILES.items():
        # "nemo:0f1e..._tokenizer.model" since NeMo 1.0; before, the file's own name
        named = str(section.get(option) or name).removeprefix("nemo:").replace("\\", "/").rpartition("/")[2]
        match = next((file for file in artifacts if file == named), None)
        match = match or next((file for file in artifacts if file == name or file.endswith("_" + name)), None)
        if match is not None:
            files[name] = artifacts[match]
    if tokenizer_kind(config) == "bpe" and "tokenizer.model" not in files:
        findings.left_out.append(
            "tokenizer.model is missing: the labels do not need it, but a .nemo cannot be written from this model"
        )
    return files


def read_vocabulary(vocabulary: list[str] | None, files: Mapping[str, bytes], where: str) -> list[str]:
    """The vocabulary of the config, or else of the tokenizer's files. Raises AnadilError if there is none.

    Old archives write the pieces of a SentencePiece model as BERT does (##s continues a word); they are restored.
    """
    if vocabulary is not None and "tokenizer.model" in files and any(piece.startswith("##") for piece in vocabulary):
        pieces = sentencepieces(files["tokenizer.model"], where)
        in_bert_style = [
            piece.removeprefix(_WORD_START) or piece if piece[:1] == _WORD_START else "##" + piece for piece in pieces
        ]
        if in_bert_style[1:] == vocabulary[1:] and pieces[0] == vocabulary[0]:  # <unk> is written unchanged
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


def pieces_to_labels(pieces: list[str], kind: str | None, where: str) -> list[str]:
    """Labels in which a piece that begins a word begins with a space. Raises AnadilError for repeated labels."""
    if kind == "wpe":
        labels = [_word_piece_to_label(piece) for piece in pieces]
    elif kind in ("bpe", "agg"):
        labels = [piece.replace(_WORD_START, " ") for piece in pieces]
    elif kind is None:
        labels = list(pieces)
    else:
        raise AnadilError(f"{where}: tokenizer.type: {kind} (supported are bpe, wpe and agg)")
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        option = f"tokenizer.type: {kind}" if kind else "labels"
        raise AnadilError(
            f"{where}: {option}: repeated labels ({', '.join(map(repr, repeated[:5]))}): a vocabulary of several"
            " languages that share letters is not supported"
        )
    return labels


def _word_piece_to_label(piece: str) -> str:
    """The label of a piece as BERT writes it: ## continues a word, [X] is a sign."""
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        return f"<{piece[1:-1].lower()}>"
    return piece[2:] if piece.startswith("##") and len(piece) > 2 else " " + piece


def labels_to_pieces(labels: Sequence[str], kind: str) -> list[str]:
    """The inverse of `pieces_to_labels`."""
    if kind != "wpe":
        return [label.replace(" ", _WORD_START) for label in labels]
    signs = {label: f"[{label[1:-1].upper()}]" for label in labels if label.startswith("<") and label.endswith(">")}
    return [signs.get(label) or (label[1:] if label.startswith(" ") else "##" + label) for label in labels]


def text_settings(labels: list[str], language: str) -> TextSettings:
    """Settings that lower-case text unless a label has a capital letter, and drop no character that a label has."""
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
    """The language's rules, adapted so that they do not change characters for which the model has labels.

    Also returns the labels that the rules change nevertheless. Each of these becomes a sign such as <U+FB01>, which
    occurs in no text. Raises AnadilError if the labels are subwords and one of them is changed: they cannot be replaced.
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
    changed = set(changed_labels(rules_from_dict(data, ()), labels)) if not subwords else set()
    labels = [_sign(label) if label in changed else label for label in labels]
    return rules_from_dict(data, labels, subwords, check=True), sorted(changed)


def _sign(label: str) -> str:
    return f"<U+{'+'.join(f'{ord(character):04X}' for character in label)}>"
