"""The vocabulary of a Hugging Face model as labels: `|` becomes the space, special tokens become signs, the blank is last."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError
from anadil.settings import read_json as read_json_file
from anadil.text.casing import lower
from anadil.text.units import is_sign

CONFIG = "config.json"

KINDS = {"wav2vec2": "wav2vec2", "hubert": "hubert", "wav2vec2-bert": "w2v_bert"}
"""Our `model.kind` for each model type of transformers."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BLANKS, _SIGNS = ("<pad>", "[PAD]"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_DELIMITER = "|"

File = Callable[[str], Path | None]
"""The path of a model's file by its name; None if the model has no such file."""


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a model, and their rows in its head."""

    labels: list[str]
    rows: list[int]  # of each label, then of the blank
    notes: list[str]  # for the user


def is_hugging_face(path: Path) -> bool:
    """Whether `path` is a folder of transformers, whose config.json names a model type."""
    try:
        return "model_type" in _read(path / CONFIG) if (path / CONFIG).is_file() else False
    except AnadilError:
        return False


def is_hub_id(name: str) -> bool:
    """Whether `name` may be the id of a model on the hub, such as facebook/mms-1b-all, and is no existing path."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def read_json(file: File, name: str) -> dict[str, Any]:
    """The contents of a JSON file of the model; empty if it has no such file. Raises AnadilError if it is damaged."""
    path = file(name)
    return {} if path is None else _read(path)


def read_vocabulary(file: File, where: str, adapter: str | None, n_rows: int, blank_id: int | None,
                    language: str) -> Vocabulary:  # fmt: skip
    """Labels of a head with `n_rows`; `blank_id` is the blank's row according to the model's config.

    Raises AnadilError if tokens and rows do not match, or if there are several languages and `adapter` chooses none.
    """
    tokens = tokens_of_language(read_json(file, "vocab.json"), where, adapter)
    if not tokens:
        raise AnadilError(f"{where}: no vocab.json, so the labels of its head are unknown")
    settings = read_json(file, "special_tokens_map.json") | read_json(file, "tokenizer_config.json")
    tokens |= {token: row for token, row in _added_tokens(file, settings).items() if token not in tokens}
    if not all(isinstance(row, int) and row >= 0 for row in tokens.values()):
        raise AnadilError(f"{where}: vocab.json: each token needs the number of its row")
    repeated_rows = [row for row, count in Counter(tokens.values()).items() if count > 1]
    if repeated_rows:
        raise AnadilError(f"{where}: vocab.json: more than one token for row {', '.join(map(str, repeated_rows[:5]))}")
    blank = _blank(tokens, settings, where)
    if blank_id is not None and blank_id != tokens[blank]:
        raise AnadilError(
            f"{where}: the blank is row {tokens[blank]} ({blank}) in the tokenizer, but row {blank_id} in config.json "
            "(pad_token_id)\n  next: correct the one that is wrong"
        )
    labels, notes = _labels(tokens, settings, n_rows, language)
    without_row = [token for token, row in tokens.items() if row >= n_rows]
    letters = [token for token in without_row if not is_sign(_sign(token, settings) or token)]
    if letters or tokens[blank] >= n_rows:
        raise AnadilError(
            f"{where}: the head has {n_rows} rows, and vocab.json has more: {', '.join(map(repr, letters or [blank]))}"
        )
    if without_row:
        notes.append(f"tokens without a row in the head: {', '.join(without_row)}")
    rows = [row for row in range(n_rows) if row != tokens[blank]]
    labels = [labels[row] for row in rows]
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise AnadilError(f"{where}: vocab.json: repeated labels: {', '.join(map(repr, repeated[:5]))}")
    return Vocabulary(labels, [*rows, tokens[blank]], notes)


def vocabulary_languages(vocabulary: Mapping[str, Any]) -> list[str]:
    """The languages in a vocab.json of MMS; empty for other models, whose vocab.json has one vocabulary."""
    return sorted(key for key, value in vocabulary.items() if isinstance(value, dict))


def tokens_of_language(vocabulary: dict[str, Any], where: str, adapter: str | None) -> dict[str, int]:
    """The tokens of one language, `adapter`, in a vocab.json.

    Raises AnadilError if there are several languages and `adapter` is none of them.
    """
    known = vocabulary_languages(vocabulary)
    if not known:
        return dict(vocabulary)
    if adapter is None and len(known) == 1:
        return dict(vocabulary[known[0]])
    if adapter not in known:
        near = [name for name in known if adapter and name[:2] == adapter[:2]]
        listed = ", ".join((near or known)[:20])
        what = f"no language {adapter!r}" if adapter else f"{len(known):,} languages, each with its own adapter"
        raise AnadilError(
            f"{where}: vocab.json has {what}; there are {listed}{', ...' if len(near or known) > 20 else ''}\n"
            "  next: choose one: --adapter CODE (init.adapter=CODE in a config); if your language is missing, choose a "
            "related one"
        )
    return dict(vocabulary[adapter])


def _labels(
    tokens: dict[str, int], settings: Mapping[str, Any], n_rows: int, language: str
) -> tuple[list[str], list[str]]:
    """A label for each row, and notes for the user."""
    delimiter = _content(settings.get("word_delimiter_token")) or _DELIMITER
    labels = [f"<row_{i}>" for i in range(n_rows)]
    for token, row in tokens.items():
        if row < n_rows:
            labels[row] = _sign(token, settings) or (" " if token == delimiter else token)
    notes = []
    signs = [label for label in labels if is_sign(label) and label not in _BLANKS]
    if signs:
        notes.append(f"labels that occur in no text: {', '.join(signs)}")
    letters = [label for label in labels if not is_sign(label)]
    has_upper = any(label != label.lower() for label in letters)
    if has_upper and not any(label != label.upper() for label in letters):
        labels = [label if is_sign(label) else lower(label, language) for label in labels]
        notes.append("all letters of its vocabulary are upper case: converted to lower case")
    return labels, notes


def _sign(token: str, settings: Mapping[str, Any]) -> str | None:
    """The sign for a special token; None for a token that is text."""
    for option, name in _SIGNS.items():
        if token == (_content(settings.get(option)) or name):
            return name
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return f"<{token[1:-1].lower()}>"
    return token if is_sign(token) else None


def _blank(tokens: Mapping[str, int], settings: Mapping[str, Any], where: str) -> str:
    """The token of CTC's blank, which is the tokenizer's padding token."""
    pad_token = _content(settings.get("pad_token"))
    candidates = [token for token in ([pad_token] if pad_token in tokens else _BLANKS) if token in tokens]
    if len(candidates) != 1 or candidates[0] is None:
        raise AnadilError(
            f"{where}: the blank is not known: looked for pad_token, {' and '.join(_BLANKS)} in vocab.json"
        )
    return candidates[0]


def _added_tokens(file: File, settings: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the tokens that the tokenizer adds to vocab.json."""
    rows = {token: row for token, row in read_json(file, "added_tokens.json").items() if isinstance(row, int)}
    decoder = settings.get("added_tokens_decoder")
    for row, token in decoder.items() if isinstance(decoder, dict) else ():
        content = _content(token)
        if content is not None and str(row).isdecimal():
            rows.setdefault(content, int(row))
    return rows


def _content(token: Any) -> str | None:
    """The text of a token, which is written as a string, or as a mapping with the key `content`."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _read(path: Path) -> dict[str, Any]:
    data = read_json_file(path)
    if not isinstance(data, dict):
        raise AnadilError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data
