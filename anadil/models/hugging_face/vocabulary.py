"""The vocabulary of a Hugging Face model as labels: `|` is the space, the blank goes last, signs are no text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError
from anadil.text.casing import lower
from anadil.text.units import is_sign

CONFIG = "config.json"
JSON_BYTES = 64 * 2**20
"""MMS's vocabularies of 1,162 languages have 2.5 MB."""

KINDS = {"wav2vec2": "wav2vec2", "hubert": "hubert", "wav2vec2-bert": "w2v_bert"}
"""transformers' model types, and ours."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BLANKS, _SIGNS = ("<pad>", "[PAD]"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_DELIMITER = "|"

File = Callable[[str], Path | None]
"""A file of the model by its name; None if it has none."""


@dataclass(frozen=True)
class Vocabulary:
    """`rows[i]` is the head's row of label i; the last one is the blank's."""

    labels: list[str]
    rows: list[int]
    notes: list[str]


def is_hugging_face(path: Path) -> bool:
    """Whether `path` is a folder of transformers: its config.json names a model type."""
    try:
        return "model_type" in _read(path / CONFIG) if (path / CONFIG).is_file() else False
    except AnadilError:
        return False


def is_hub_id(name: str) -> bool:
    """Whether `name`, which is no path here, may be one on the hub: facebook/mms-1b-all."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def read_json(file: File, name: str) -> dict[str, Any]:
    """A JSON file of the model; empty if it has none. Raises AnadilError if it is damaged."""
    path = file(name)
    return {} if path is None else _read(path)


def read_vocabulary(file: File, where: str, adapter: str | None, n_rows: int, blank_id: int | None,
                    language: str) -> Vocabulary:  # fmt: skip
    """Labels of a head with `n_rows`; `blank_id` is what the model's own config says.

    Raises AnadilError if tokens and rows do not belong together, or if languages are there to choose from.
    """
    tokens = of_language(read_json(file, "vocab.json"), where, adapter)
    if not tokens:
        raise AnadilError(f"{where}: no vocab.json: the labels of its head are not known")
    settings = read_json(file, "special_tokens_map.json") | read_json(file, "tokenizer_config.json")
    tokens |= {token: number for token, number in _added(file, settings).items() if token not in tokens}
    if not all(isinstance(number, int) and number >= 0 for number in tokens.values()):
        raise AnadilError(f"{where}: vocab.json: each token wants the number of its row")
    twice = [number for number, count in Counter(tokens.values()).items() if count > 1]
    if twice:
        raise AnadilError(f"{where}: vocab.json: more than one token for row {', '.join(map(str, twice[:5]))}")
    blank = _blank(tokens, settings, where)
    if blank_id is not None and blank_id != tokens[blank]:
        raise AnadilError(
            f"{where}: the blank is row {tokens[blank]} ({blank}) for the tokenizer, and row {blank_id} for config.json "
            "(pad_token_id)\n  next: put right the one that is wrong"
        )
    labels, notes = _labels(tokens, settings, n_rows, language)
    beyond = [token for token, number in tokens.items() if number >= n_rows]
    letters = [token for token in beyond if not is_sign(_sign(token, settings) or token)]
    if letters or tokens[blank] >= n_rows:
        raise AnadilError(
            f"{where}: the head has {n_rows} rows, and vocab.json names more: {', '.join(map(repr, letters or [blank]))}"
        )
    if beyond:
        notes.append(f"tokens without a row in the head: {', '.join(beyond)}")
    rows = [number for number in range(n_rows) if number != tokens[blank]]
    kept = [labels[number] for number in rows]
    repeated = [label for label, count in Counter(kept).items() if count > 1]
    if repeated:
        raise AnadilError(f"{where}: vocab.json: labels that repeat: {', '.join(map(repr, repeated[:5]))}")
    return Vocabulary(kept, [*rows, tokens[blank]], notes)


def languages(vocabulary: Mapping[str, Any]) -> list[str]:
    """Those that a vocab.json of MMS has tokens for; none if it is of one language, as others are."""
    return sorted(key for key, value in vocabulary.items() if isinstance(value, dict))


def of_language(vocabulary: dict[str, Any], where: str, adapter: str | None) -> dict[str, int]:
    """The tokens of a language from a vocab.json. Raises AnadilError if there are several, and none of them is chosen."""
    known = languages(vocabulary)
    if not known:
        return dict(vocabulary)
    if adapter is None and len(known) == 1:
        return dict(vocabulary[known[0]])
    if adapter not in known:
        near = [name for name in known if adapter and name[:2] == adapter[:2]]
        listed = ", ".join((near or known)[:20])
        what = f"no language {adapter!r}" if adapter else f"{len(known):,} languages, each with an adapter of its own"
        raise AnadilError(
            f"{where}: vocab.json has {what}; there are {listed}{', ...' if len(near or known) > 20 else ''}\n"
            "  next: choose one: --adapter CODE (init.adapter=CODE in a config); for a language that is not there, one that "
            "is near it"
        )
    return dict(vocabulary[adapter])


def _labels(
    tokens: dict[str, int], settings: Mapping[str, Any], n_rows: int, language: str
) -> tuple[list[str], list[str]]:
    """A label for each row, and what there is to tell."""
    delimiter = _content(settings.get("word_delimiter_token")) or _DELIMITER
    labels = [f"<row_{i}>" for i in range(n_rows)]
    for token, number in tokens.items():
        if number < n_rows:
            labels[number] = _sign(token, settings) or (" " if token == delimiter else token)
    notes = []
    signs = [label for label in labels if is_sign(label) and label not in _BLANKS]
    if signs:
        notes.append(f"labels that no text has: {', '.join(signs)}")
    plain = [label for label in labels if not is_sign(label)]
    upper = any(label != label.lower() for label in plain)
    if upper and not any(label != label.upper() for label in plain):
        labels = [label if is_sign(label) else lower(label, language) for label in labels]
        notes.append("its letters are all upper case: written in lower case here")
    return labels, notes


def _sign(token: str, settings: Mapping[str, Any]) -> str | None:
    """The name of a token that is no text, None for text."""
    for option, name in _SIGNS.items():
        if token == (_content(settings.get(option)) or name):
            return name
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return f"<{token[1:-1].lower()}>"
    return token if is_sign(token) else None


def _blank(tokens: Mapping[str, int], settings: Mapping[str, Any], where: str) -> str:
    """CTC's blank is the tokenizer's padding."""
    named = _content(settings.get("pad_token"))
    found = [token for token in ([named] if named in tokens else _BLANKS) if token in tokens]
    if len(found) != 1 or found[0] is None:
        raise AnadilError(
            f"{where}: the blank is not known: looked for pad_token, {' and '.join(_BLANKS)} in vocab.json"
        )
    return found[0]


def _added(file: File, settings: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that the tokenizer adds to vocab.json."""
    found = {token: number for token, number in read_json(file, "added_tokens.json").items() if isinstance(number, int)}
    decoder = settings.get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        content = _content(token)
        if content is not None and str(number).isdecimal():
            found.setdefault(content, int(number))
    return found


def _content(token: Any) -> str | None:
    """A token is written as a string, or as a mapping that has it as `content`."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_BYTES:
            raise AnadilError(f"{path}: {path.stat().st_size:,} bytes, allowed are {JSON_BYTES:,}")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnadilError(f"{path}: not valid JSON: {error}\n  next: copy or fetch the file again") from error
    if not isinstance(data, dict):
        raise AnadilError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data
