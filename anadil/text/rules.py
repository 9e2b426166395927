"""TextRules: normaliser + alphabet + tokenizer in one object, the same for training, scoring and decoding."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from anadil.errors import AnadilError
from anadil.settings import SECTION, parse
from anadil.text.casing import casing_family
from anadil.text.language_files import find_language, language_rules_of, with_own_file
from anadil.text.language_rules import LanguageRules, Policy
from anadil.text.normalize import Normalizer
from anadil.text.subwords import Subwords
from anadil.text.units import is_sign

VERSION = 3
"""Of the rules' meaning. Raised when the same settings would normalise a text differently."""

SUBWORDS = ("bpe", "unigram")

_OVERRIDES = ("lowercase", "map", "drop", "digits", "apostrophe", "hyphen", "look_alikes")


def _joined(value: object) -> object:
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


class TextSettings(BaseModel):
    """Section `text` of a config: what differs from the language's file. What is given here replaces what is there."""

    model_config = SECTION

    rules: str | None = None  # your own YAML file, with the keys of languages/*.yaml
    lowercase: bool | None = None
    map: dict[str, str] | None = None
    drop: Annotated[str | None, BeforeValidator(_joined)] = None
    digits: Literal["spell", "keep", "drop"] | None = None
    apostrophe: Policy | None = None
    hyphen: Policy | None = None
    look_alikes: Literal["keep", "map"] | None = None
    unknown: Literal["error", "drop"] = "error"
    saved: dict[str, Any] | None = None  # written by training: the rules as a whole, which then no file changes

    @model_validator(mode="after")
    def _saved_rules_are_whole(self) -> TextSettings:
        given = [key for key in ("rules", *_OVERRIDES) if getattr(self, key) is not None]
        if self.saved is not None and given:
            raise ValueError(f"text.saved holds the whole rules; take it out to set {', '.join(given)}")
        return self


class TokenizerSettings(BaseModel):
    """Section `tokenizer` of a config: what a label is, and the ordered labels. `auto` takes those of the training text.

    A label may be longer than a letter ("mb"); one that starts with a space (" ken") begins a word.
    """

    model_config = SECTION

    kind: Literal["char", "grapheme", "units", "bpe", "unigram"] = "char"
    labels: list[str] | Literal["auto"] = "auto"
    path: str | None = None  # folder that `anadil tokenizer` wrote: its labels are used
    sampling: float = Field(0.0, ge=0, lt=1)  # bpe, unigram: subwords drawn at random in training; 0.1 is usual
    size: int = Field(200, ge=2)  # bpe, unigram: how many subwords

    @model_validator(mode="after")
    def _fits_the_kind(self) -> TokenizerSettings:
        if self.sampling and self.kind not in SUBWORDS:
            raise ValueError(f"tokenizer.sampling is for kind bpe and unigram, not for {self.kind}")
        return self


@dataclass(frozen=True)
class TextRules:
    """Immutable; built by `text_rules`. The CTC blank is `blank_id`, one past the labels, and never a letter."""

    language: str
    labels: tuple[str, ...]
    language_rules: LanguageRules
    unknown: Literal["error", "drop"] = "error"
    subwords: bytes = b""  # a SentencePiece model, if the labels are its pieces

    @property
    def blank_id(self) -> int:
        return len(self.labels)

    def normalize(self, text: str) -> str:
        """The words that are said, in the language's letters, with single spaces. Applying it twice changes nothing.

        Characters outside the labels stay, unless `text.unknown` is `drop`, and so do digits for which there are no
        rules. Raises AnadilError for half a surrogate pair.
        """
        text = self.normalizer(text)
        if self.unknown == "drop" and self.labels:
            for _ in range(len(text) + 1):
                kept = "".join(self._unit.findall(self._led(text)))
                before, text = text, self.normalizer(kept)
                if text == before:
                    break
        return text

    @cached_property
    def normalizer(self) -> Normalizer:
        return Normalizer(self.language_rules)

    def unknown_characters(self, text: str) -> str:
        """What `encode` has no label for, in order of first appearance, of an already normalised text."""
        return "".join(dict.fromkeys(self.unlabelled(text)))

    def unlabelled(self, text: str) -> str:
        """Every character of a normalised text that has no label."""
        return self._unit.sub("", self._led(text))

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text; longest label first. Raises AnadilError naming what has no label."""
        unknown = self.unknown_characters(text)
        if unknown:
            raise AnadilError(f"no label for {describe(unknown)} in {text!r}{self.why_digits(unknown)}")
        if self.subwords:
            return self._pieces.encode(text)
        return [self._ids[unit] for unit in self._unit.findall(self._led(text))]

    def sample(self, text: str, alpha: float) -> list[int]:
        """Label ids of a normalised text, cut into subwords at random; for text that `encode` takes."""
        return self._pieces.sample(text, alpha)

    @cached_property
    def _pieces(self) -> Subwords:
        return Subwords(self.subwords, self.labels)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids (blanks already removed), words parted by single spaces."""
        return _squeeze("".join(self.labels[i] for i in ids))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the exported folder and the saved config."""
        return {"version": VERSION, "language": self.language, "unknown": self.unknown} | self.language_rules.to_dict()

    def why_digits(self, unknown: str) -> str:
        """Digits are left where there are no rules to spell them, or none for this number: how to add some."""
        number = next((c for c in unknown if c.isdecimal()), None)
        if number is None or self.language_rules.digits != "spell":
            return ""
        try:
            self.normalizer.expander.speller.integer("1")
        except AnadilError as error:
            return f"\n  {error}"
        return (
            "\n  no rule spells this number: write it in words, or add numbers.marks or numbers.decimal to text.rules"
        )

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
    """Text rules of a language: its file, then the user's own file, then the config's section; the later one wins.

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
    """The reverse of `TextRules.to_dict`. Raises AnadilError if a newer Anadil wrote them.

    `check`: refuse a `map` and labels that the rules themselves would change. This builds the normalizer, which takes
    longer than all else in loading an exported model (45 ms of 400 for one clip); saved rules were checked in training.
    """
    version, language = data.get("version"), str(data.get("language", "und"))
    if version not in range(1, VERSION + 1):
        raise AnadilError(f"text rules of version {version!r}, this Anadil reads 1 to {VERSION}\n  next: update Anadil")
    saved = {key: value for key, value in data.items() if key not in ("version", "language", "unknown")}
    if version == 1:  # before there were files for languages
        saved |= {"casing": casing_family(language), "digits": "keep", "equivalents": {}}
    settings = parse(TextSettings, {"unknown": data.get("unknown", "error")}, "text rules")
    language_rules = parse(LanguageRules, saved, "text rules")
    return _built(language, labels, language_rules, settings.unknown, subwords, check)


def first_rules(section: dict[str, Any], language: str, labels: Sequence[str]) -> TextRules:
    """Rules of a model folder that was written before there were files for languages."""
    return rules_from_dict({"version": 1, "language": language, "map": {"’": "'"}} | section, labels)


def describe_rules(rules: TextRules, text: TextSettings) -> str:
    """Which rules these are, in a line: what `anadil train` says before it starts."""
    found = "" if text.saved is not None else find_language(rules.language)
    name = {"": "as saved", None: "generic: there is no file for this language"}.get(found, f"languages/{found}.yaml")
    given = [f"text.{key}" for key in ("rules", *_OVERRIDES) if getattr(text, key) is not None]
    changed = f", changed by {', '.join(given)}" if given else ""
    return f"text rules: {rules.language_rules.name or rules.language} ({name}{changed})"


def describe(characters: Iterable[str]) -> str:
    """Characters with code point and name, for messages: 'w' (U+0077 LATIN SMALL LETTER W)."""
    return ", ".join(f"{c!r} (U+{ord(c):04X} {unicodedata.name(c, 'unnamed')})" for c in characters)


def _built(
    language: str,
    labels: Sequence[str],
    language_rules: LanguageRules,
    unknown: Literal["error", "drop"],
    subwords: bytes,
    check: bool,
) -> TextRules:
    """Rules that equal what will be read back: a key that has its default value counts as not given."""
    rules = TextRules(
        language, tuple(labels), parse(LanguageRules, language_rules.to_dict(), "text rules"), unknown, subwords
    )
    if check:
        _check_map(rules)
    _check_labels(rules, check)
    return rules


def _check_map(rules: TextRules) -> None:
    for source, target in rules.language_rules.map.items():  # else normalising twice would give another text than once
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
            f"labels that the text rules change or drop, so that no text could hold them: {', '.join(map(repr, changed))}"
        )
    digits = [label for label in rules.labels if any(c.isdecimal() for c in label) and not is_sign(label)]
    if digits and rules.language_rules.digits == "spell":
        problems.append(
            f"digits, which the rules read out ({', '.join(map(repr, digits))}); text.digits=keep keeps them"
        )
    if problems:
        raise AnadilError(
            "tokenizer.labels: " + "; ".join(problems) + "\n  next: mend tokenizer.labels or the section text"
        )


def changed_labels(rules: TextRules, labels: Iterable[str]) -> list[str]:
    """Those that the rules change or drop, so that no normalised text could hold them."""
    return [label for label in labels if label not in ("", " ") and _changes(rules, label)]


def _changes(rules: TextRules, label: str) -> bool:
    """Whether no normalised text can hold a label; an apostrophe may be one though a text cannot end with it."""
    if is_sign(label):
        return False
    letters = label.removeprefix(" ")
    spelled = unicodedata.normalize("NFC", rules.normalizer.spelled(letters))
    return (
        letters == ""
        or letters.strip() != letters
        or (rules.normalizer.finish(spelled.replace(" ", ""))[0] != letters and spelled != letters)
    )


def _squeeze(text: str) -> str:
    return " ".join(text.split())
