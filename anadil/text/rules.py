"""TextRules: normaliser + alphabet + tokenizer in one object, the same for training, scoring and decoding."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from anadil.errors import AnadilError
from anadil.settings import SECTION, parse
from anadil.text.casing import lower

VERSION = 1
"""Of the rules' meaning. Raised when the same settings would normalise a text differently."""

PUNCTUATION = '.,!?;:"“”„«»‹›()[]{}…–—¿¡،؛؟।॥。、！？'

Characters = Annotated[str, Field(description="each character of the string")]


class TextSettings(BaseModel):
    """Section `text` of a config."""

    model_config = SECTION

    lowercase: bool = True
    map: dict[str, str] = {"\u2019": "'"}  # typographic apostrophe
    drop: Characters = PUNCTUATION
    unknown: Literal["error", "drop"] = "error"

    @field_validator("drop", mode="before")
    @classmethod
    def _join(cls, value: object) -> object:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return "".join(value)
        return value

    @field_validator("map")
    @classmethod
    def _final(cls, value: dict[str, str]) -> dict[str, str]:
        for source, target in value.items():
            if len(source) != 1:
                raise ValueError(f"a single character can be mapped, not {source!r}")
            again = next((character for character in target if character in value), None)
            if again is not None:
                raise ValueError(
                    f"{source!r} is mapped to {target!r}, and {again!r} is mapped again: give the final form"
                )
        return value


class TokenizerSettings(BaseModel):
    """Section `tokenizer` of a config: the ordered labels. `auto` takes the letters of the training text.

    A label may be longer than a letter ("mb"); one that starts with a space (" ken") begins a word.
    """

    model_config = SECTION

    kind: Literal["char"] = "char"
    labels: list[str] | Literal["auto"] = "auto"


@dataclass(frozen=True)
class TextRules:
    """Immutable; built by `text_rules`. The CTC blank is `blank_id`, one past the labels, and never a letter."""

    language: str
    labels: tuple[str, ...]
    lowercase: bool = True
    mapping: tuple[tuple[str, str], ...] = ()
    dropped: str = ""
    unknown: Literal["error", "drop"] = "error"

    @property
    def blank_id(self) -> int:
        return len(self.labels)

    def normalize(self, text: str) -> str:
        """NFC, lower case, `map`, `drop`, single spaces. Applying it twice changes nothing.

        Characters outside the labels stay, unless `text.unknown` is `drop`.
        """
        text = self._rewrite(text)
        if self.unknown == "drop" and self.labels:
            text = _squeeze("".join(self._unit.findall(self._led(text))))
        return text

    def unknown_characters(self, text: str) -> str:
        """What `encode` has no label for, in order of first appearance, of an already normalised text."""
        return "".join(dict.fromkeys(self._unit.sub("", self._led(text))))

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text; longest label first. Raises AnadilError naming what has no label."""
        unknown = self.unknown_characters(text)
        if unknown:
            raise AnadilError(f"no label for {describe(unknown)} in {text!r}")
        return [self._ids[unit] for unit in self._unit.findall(self._led(text))]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids (blanks already removed), words parted by single spaces."""
        return _squeeze("".join(self.labels[i] for i in ids))

    def changes(self, texts: Iterable[str]) -> Counter[str]:
        """How often `map`, `drop` and `unknown: drop` touched each character: what normalisation cost, counted."""
        touched: Counter[str] = Counter()
        watched = {source for source, _ in self.mapping} | set(self.dropped)
        for text in texts:
            cased = self._cased(text)
            touched.update(character for character in cased if character in watched)
            if self.unknown == "drop" and self.labels:
                touched.update(self._unit.sub("", self._led(self._rewrite(text))))
        return touched

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the exported folder."""
        return {
            "version": VERSION,
            "language": self.language,
            "lowercase": self.lowercase,
            "map": dict(self.mapping),
            "drop": self.dropped,
            "unknown": self.unknown,
        }

    def _cased(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return lower(text, self.language) if self.lowercase else text

    def _rewrite(self, text: str) -> str:
        return _squeeze(unicodedata.normalize("NFC", self._cased(text).translate(self._table)))

    @cached_property
    def _table(self) -> dict[int, str]:
        # "evet,hayır" stays two words: dropped punctuation leaves a space, any other dropped character nothing
        gaps = {ord(c): " " if unicodedata.category(c)[0] in "PSZ" else "" for c in self.dropped}
        return gaps | {ord(source): target for source, target in self.mapping}

    def _led(self, text: str) -> str:
        return self._lead + text if text else text

    @cached_property
    def _lead(self) -> str:
        """A space before the text if labels such as " ken" begin words: then the first word begins like the others."""
        return " " if any(label.startswith(" ") and label != " " for label in self.labels) else ""

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    @cached_property
    def _unit(self) -> re.Pattern[str]:
        longest_first = sorted(self.labels, key=len, reverse=True)
        return re.compile("|".join(re.escape(label) for label in longest_first) or r"(?!)")


def text_rules(language: str, text: TextSettings, labels: Sequence[str]) -> TextRules:
    """Build and check the rules. Raises AnadilError for labels that repeat or that normalisation would change."""
    rules = TextRules(language, tuple(labels), text.lowercase, tuple(text.map.items()), text.drop, text.unknown)
    _check_mapping(rules)
    _check_labels(rules)
    return rules


def rules_from_dict(data: dict[str, Any], labels: Sequence[str]) -> TextRules:
    """The reverse of `TextRules.to_dict`. Raises AnadilError if a newer Anadil wrote them."""
    if data.get("version") != VERSION:
        raise AnadilError(
            f"text rules of version {data.get('version')!r}, this Anadil reads {VERSION}\n  next: update Anadil"
        )
    settings = {key: value for key, value in data.items() if key not in ("version", "language")}
    return text_rules(str(data.get("language", "und")), parse(TextSettings, settings, "text rules"), labels)


def count_characters(language: str, text: TextSettings, texts: Iterable[str]) -> Counter[str]:
    """How often each character is left in `texts` after normalisation: what `labels: auto` chooses from."""
    rules = TextRules(language, (), text.lowercase, tuple(text.map.items()), text.drop)
    counts: Counter[str] = Counter()
    for line in texts:
        counts.update(rules.normalize(line))
    return counts


def describe(characters: Iterable[str]) -> str:
    """Characters with code point and name, for messages: 'w' (U+0077 LATIN SMALL LETTER W)."""
    return ", ".join(f"{c!r} (U+{ord(c):04X} {unicodedata.name(c, 'unnamed')})" for c in characters)


def _check_mapping(rules: TextRules) -> None:
    """Else normalising twice would give another text than normalising once."""
    for source, target in rules.mapping:
        final = unicodedata.normalize("NFC", rules._cased(target).translate(rules._table))
        if final != target:
            raise AnadilError(
                f"text.map: {source!r} is mapped to {target!r}, which the text rules change to {final!r}\n"
                "  next: give the final form in text.map"
            )


def _check_labels(rules: TextRules) -> None:
    problems = []
    repeated = [label for label, count in Counter(rules.labels).items() if count > 1]
    if repeated:
        problems.append(f"labels that repeat: {', '.join(map(repr, repeated))}")
    if "" in rules.labels:
        problems.append("an empty label")
    changed = [
        label for label in rules.labels if label not in ("", " ") and rules._rewrite(label) != label.removeprefix(" ")
    ]
    if changed:
        problems.append(
            f"labels that the text rules change or drop, so that no text could hold them: {', '.join(map(repr, changed))}"
        )
    if problems:
        raise AnadilError(
            "tokenizer.labels: " + "; ".join(problems) + "\n  next: mend tokenizer.labels or the section text"
        )


def _squeeze(text: str) -> str:
    return " ".join(text.split())
