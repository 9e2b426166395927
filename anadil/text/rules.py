"""TextRules: normalizer, alphabet and tokenizer in one object; training, scoring and decoding share it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from anadil.errors import AnadilError
from anadil.settings import SECTION, Real, Whole, parse
from anadil.text.casing import casing_family
from anadil.text.language_files import find_language, language_rules_of, with_own_file
from anadil.text.language_rules import Characters, LanguageRules, Policy
from anadil.text.normalize import Normalizer
from anadil.text.subwords import Subwords
from anadil.text.units import is_sign

VERSION = 4
"""Version of what the settings mean. It is raised when the same settings would normalise a text differently."""

SUBWORDS = ("bpe", "unigram")

_OVERRIDES = ("lowercase", "map", "drop", "digits", "apostrophe", "hyphen", "look_alikes")


class TextSettings(BaseModel):
    """Section `text` of a config. A key given here replaces that key of the language's file."""

    model_config = SECTION

    rules: str | None = None  # your own YAML file, with the keys of languages/*.yaml
    lowercase: bool | None = None
    map: dict[str, str] | None = None
    drop: Characters | None = None
    digits: Literal["spell", "keep", "drop"] | None = None
    apostrophe: Policy | None = None
    hyphen: Policy | None = None
    look_alikes: Literal["keep", "map"] | None = None
    unknown: Literal["error", "drop"] = "error"
    saved: dict[str, Any] | None = (
        None  # written by training: the complete rules, so that later changes of files have no effect
    )

    @model_validator(mode="after")
    def _saved_rules_are_complete(self) -> TextSettings:
        given = [key for key in ("rules", *_OVERRIDES) if getattr(self, key) is not None]
        if self.saved is not None and given:
            raise ValueError(f"text.saved holds the complete rules; remove it to set {', '.join(given)}")
        return self


class TokenizerSettings(BaseModel):
    """Section `tokenizer` of a config: the kind of label, and the labels in order; `auto` takes them from the training text.

    A label may have several letters ("mb"). A label that starts with a space (" ken") starts a word.
    """

    model_config = SECTION

    kind: Literal["char", "grapheme", "units", "bpe", "unigram"] = "char"
    labels: list[str] | Literal["auto"] = "auto"
    path: str | None = None  # folder written by `anadil tokenizer`, whose labels are used
    sampling: Real = Field(0.0, ge=0, lt=1)  # bpe, unigram: subword regularisation in training; 0.1 is usual
    size: Whole = Field(200, ge=2, le=100_000)  # bpe, unigram: number of subwords

    @model_validator(mode="after")
    def _fits_the_kind(self) -> TokenizerSettings:
        if self.sampling and self.kind not in SUBWORDS:
            raise ValueError(f"tokenizer.sampling is for kind bpe and unigram, not for {self.kind}")
        return self


@dataclass(frozen=True)
class TextRules:
    """Immutable; built by `text_rules`. The CTC blank has the id `blank_id`, which follows the last label."""

    language: str
    labels: tuple[str, ...]
    language_rules: LanguageRules
    unknown: Literal["error", "drop"] = "error"
    subwords: bytes = b""  # the SentencePiece model whose pieces are the labels; empty for other labels

    @property
    def blank_id(self) -> int:
        return len(self.labels)

    def normalize(self, text: str) -> str:
        """The spoken words of a text in the language's letters, with single spaces; normalising twice changes nothing.

        Characters without a label stay, unless `text.unknown` is `drop`. Digits that no rule spells out stay too.
        Raises AnadilError for half a surrogate pair.
        """
        text = self.normalizer(text)
        if self.unknown == "drop" and self.labels:
            for _ in range(len(text) + 1):
                kept = "".join(self._label_pattern.findall(self._with_lead(text)))
                before, text = text, self.normalizer(kept)
                if text == before:
                    break
        return text

    @cached_property
    def normalizer(self) -> Normalizer:
        return Normalizer(self.language_rules)

    def unknown_characters(self, text: str) -> str:
        """The characters of a normalised text that have no label, each once, in order of first appearance."""
        return "".join(dict.fromkeys(self.unlabelled(text)))

    def unlabelled(self, text: str) -> str:
        """The characters of a normalised text that have no label, every occurrence."""
        return self._label_pattern.sub("", self._with_lead(text))

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text; the longest label that fits is taken first.

        Raises AnadilError that names the characters without a label.
        """
        unknown = self.unknown_characters(text)
        if unknown:
            raise AnadilError(f"no label for {describe(unknown)} in {text!r}{self.why_digits(unknown)}")
        if self.subwords:
            return self._pieces.encode(text)
        return [self._ids[label] for label in self._label_pattern.findall(self._with_lead(text))]

    def sample(self, text: str, alpha: float) -> list[int]:
        """Label ids of a random segmentation into subwords of a text that `encode` accepts."""
        return self._pieces.sample(text, alpha)

    @cached_property
    def _pieces(self) -> Subwords:
        return Subwords(self.subwords, self.labels)

    def to_dict(self) -> dict[str, Any]:
        """The rules as JSON-ready data, for an exported folder and a saved config."""
        return {"version": VERSION, "language": self.language, "unknown": self.unknown} | self.language_rules.to_dict()

    def why_digits(self, unknown: str) -> str:
        """Why digits among `unknown` were not spelled out, and how to add rules; empty if there is no digit."""
        number = next((c for c in unknown if c.isdecimal()), None)
        if number is None or self.language_rules.digits != "spell":
            return ""
        try:
            self.normalizer.expander.speller.integer("1")
        except AnadilError as error:
            return f"\n  {error}"
        return "\n  no rule spells out this number: write it in words, or add numbers.marks or numbers.decimal to text.rules"

    def _with_lead(self, text: str) -> str:
        return self._lead + text if text else text

    @cached_property
    def _lead(self) -> str:
        """A space if labels such as " ken" start words, so that the first word starts like the others; else nothing."""
        return " " if any(label.startswith(" ") and label != " " for label in self.labels) else ""

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    @cached_property
    def _label_pattern(self) -> re.Pattern[str]:
        longest_first = sorted((label for label in self.labels if not is_sign(label)), key=len, reverse=True)
        return re.compile("|".join(re.escape(label) for label in longest_first) or r"(?!)")


@dataclass(frozen=True, slots=True)
class RulesByLanguage:
    """The text rules of a data set: `default` for all of it, or each language its own. All have the same labels."""

    default: TextRules
    by_language: Mapping[str, TextRules] = field(default_factory=dict)  # empty if the data hold one language

    def of(self, language: str | None) -> TextRules:
        """Rules for a text in `language`; None: the default language."""
        return self.by_language.get(language or self.default.language, self.default)


def text_rules(
    language: str, text: TextSettings, labels: Sequence[str] = (), subwords: bytes = b"", check: bool = True
) -> TextRules:
    """The text rules of a language: its file, overridden by the user's own file, overridden by the config's section.

    `check`: see `rules_from_dict`. Raises AnadilError for a language that does not exist, and for labels or a `map`
    that contradict the rules.
    """
    if text.saved is not None:
        return rules_from_dict(text.saved | {"unknown": text.unknown}, labels, subwords, check)
    language_rules = language_rules_of(language)
    if text.rules is not None:
        language_rules = with_own_file(language_rules, Path(text.rules))
    given = {key: getattr(text, key) for key in _OVERRIDES if getattr(text, key) is not None}
    if given:
        language_rules = parse(LanguageRules, language_rules.model_dump(exclude_unset=True) | given, "text")
    return _built(language, labels, language_rules, text.unknown, subwords, check)


def rules_from_dict(
    data: dict[str, Any], labels: Sequence[str], subwords: bytes = b"", check: bool = False
) -> TextRules:
    """The text rules that `TextRules.to_dict` saved. Raises AnadilError if a newer Anadil wrote them.

    `check`: raise AnadilError for a `map` and for labels that the rules would change. This builds the normalizer, which
    takes 45 ms of the 400 ms that one clip takes to transcribe. Saved rules were checked in training.
    """
    version, language = data.get("version"), str(data.get("language", "und"))
    if version not in range(1, VERSION + 1):
        raise AnadilError(f"text rules of version {version!r}, this Anadil reads 1 to {VERSION}\n  next: update Anadil")
    saved = {key: value for key, value in data.items() if key not in ("version", "language", "unknown")}
    if version == 1:  # before languages had files
        saved |= {"casing": casing_family(language), "digits": "keep", "equivalents": {}}
    settings = parse(TextSettings, {"unknown": data.get("unknown", "error")}, "text rules")
    language_rules = parse(LanguageRules, saved, "text rules")
    return _built(language, labels, language_rules, settings.unknown, subwords, check)


def first_rules(section: dict[str, Any], language: str, labels: Sequence[str]) -> TextRules:
    """Text rules of a model folder that was written before languages had files (rules of version 1)."""
    return rules_from_dict({"version": 1, "language": language, "map": {"’": "'"}} | section, labels)


def describe_rules(rules: TextRules, text: TextSettings) -> str:
    """One line that names the rules and what changed them; `anadil train` prints it before it starts."""
    file = "" if text.saved is not None else find_language(rules.language)
    source = {"": "as saved", None: "generic: there is no file for this language"}.get(file, f"languages/{file}.yaml")
    given = [f"text.{key}" for key in ("rules", *_OVERRIDES) if getattr(text, key) is not None]
    changed = f", changed by {', '.join(given)}" if given else ""
    return f"text rules: {rules.language_rules.name or rules.language} ({source}{changed})"


def describe(characters: Iterable[str]) -> str:
    """Characters with their code points and names, for messages: 'w' (U+0077 LATIN SMALL LETTER W)."""
    return ", ".join(f"{c!r} (U+{ord(c):04X} {unicodedata.name(c, 'unnamed')})" for c in characters)


def _built(
    language: str,
    labels: Sequence[str],
    language_rules: LanguageRules,
    unknown: Literal["error", "drop"],
    subwords: bytes,
    check: bool,
) -> TextRules:
    """Build and check the rules. A key with its default value counts as not given, as when saved rules are read back."""
    rules = TextRules(
        language, tuple(labels), parse(LanguageRules, language_rules.to_dict(), "text rules"), unknown, subwords
    )
    if check:
        _check_map(rules)
    _check_labels(rules, check)
    return rules


def _check_map(rules: TextRules) -> None:
    """Raise AnadilError if the rules change a target of `map`, so that normalising twice would differ from once."""
    for source, target in rules.language_rules.map.items():
        final = unicodedata.normalize("NFC", rules.normalizer.spelled(target))
        if final != target:
            raise AnadilError(
                f"text.map: {source!r} is mapped to {target!r}, which the text rules change to {final!r}\n"
                "  next: give the final form in text.map"
            )


def _check_labels(rules: TextRules, with_normalizer: bool) -> None:
    problems = []
    repeated = [label for label, count in Counter(rules.labels).items() if count > 1]
    if repeated:
        problems.append(f"labels that repeat: {', '.join(map(repr, repeated))}")
    if "" in rules.labels:
        problems.append("an empty label")
    changed = changed_labels(rules, rules.labels) if with_normalizer else []
    if changed:
        problems.append(
            f"labels that the text rules change or drop, so that no text can contain them: {', '.join(map(repr, changed))}"
        )
    digits = [label for label in rules.labels if any(c.isdecimal() for c in label) and not is_sign(label)]
    if digits and rules.language_rules.digits == "spell":
        problems.append(
            f"digits, which the rules spell out ({', '.join(map(repr, digits))}); text.digits=keep keeps them"
        )
    if problems:
        raise AnadilError(
            "tokenizer.labels: " + "; ".join(problems) + "\n  next: correct tokenizer.labels or the section text"
        )


def changed_labels(rules: TextRules, labels: Iterable[str]) -> list[str]:
    """The labels that the rules change or drop, so that they cannot occur in a normalised text."""
    return [label for label in labels if label not in ("", " ") and _is_changed(rules, label)]


def _is_changed(rules: TextRules, label: str) -> bool:
    """Whether a label cannot occur in a normalised text. An apostrophe can, although no text ends with one."""
    if is_sign(label):
        return False
    letters = label.removeprefix(" ")
    spelled = unicodedata.normalize("NFC", rules.normalizer.spelled(letters))
    return (
        letters == ""
        or letters.strip() != letters
        or (rules.normalizer.finish(spelled.replace(" ", ""))[0] != letters and spelled != letters)
    )
