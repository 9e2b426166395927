"""LanguageRules: the text rules of one language as typed data. Each file in languages/ and each saved model holds one."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from anadil.settings import SECTION, Whole
from anadil.text.casing import Casing

Policy = Literal["keep", "inside", "join", "split"]
"""What happens to a mark: keep it, keep it inside words only, remove it, or replace it by a space."""

PUNCTUATION = '.,?!;:"“”„«»‹›()[]{}…–—¿¡،؛؟।॥。、！？'
"""The punctuation that most languages drop."""


def _joined(value: object) -> object:
    """`drop: ["-", "€"]` means the same as `drop: "-€"`."""
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def _listed(value: object) -> object:
    """`alphabet: a b c` means the same as `alphabet: [a, b, c]`."""
    return tuple(value.split()) if isinstance(value, str) else value


Characters = Annotated[str, BeforeValidator(_joined), Field(description="each character of the string")]
_Letters = Annotated[tuple[str, ...], BeforeValidator(_listed)]


def _plural_forms(value: str | dict[str, str]) -> str | dict[str, str]:
    allowed = ("zero", "one", "two", "few", "many", "other")
    if isinstance(value, dict) and ("other" not in value or not set(value) <= set(allowed)):
        raise ValueError(f"plural forms are {', '.join(allowed)}, and other is required")
    return value


_Forms = Annotated[str | dict[str, str], AfterValidator(_plural_forms)]
"""A word, or its plural forms by CLDR's names: {one: kilometre, other: kilometres}."""


def _text_keys(value: object) -> object:
    """YAML reads the key 20 as a number; the rules have it as text, as they do 20/20 and -x."""
    return {str(key): rule for key, rule in value.items()} if isinstance(value, dict) else value


_SpelloutRules = Annotated[dict[str, str], BeforeValidator(_text_keys)]
"""Value, or value/radix -> rule, in CLDR's notation."""

_Year = Annotated[Whole, Field(ge=0, le=9999)]


class NumberSettings(BaseModel):
    """How numbers are written in text, and which rules spell them out."""

    model_config = SECTION

    cldr: str = ""  # CLDR language whose rules are used; empty: the language itself
    rules: _SpelloutRules = {}  # your own rules in CLDR's notation, if CLDR has none: "20": "yirmi[ →→]"
    rulesets: dict[str, _SpelloutRules] = {}  # further rule sets for `rules`; or corrections, value by value, of CLDR's
    ruleset: str = "spellout-numbering"
    counting: str = ""  # rule set before a unit or a currency, if it differs: ein Kilometer, not eins
    before_words: Literal["plain", "counting"] = "plain"  # before any word: by `ruleset`, or by `counting`
    decimal: str = Field("", max_length=1)
    thousands: Characters = ""
    decimal_word: str = ""  # the word for the decimal mark; empty: CLDR's
    fraction: Literal["digits", "number"] = "digits"  # 3,14: three comma one four, or three comma fourteen
    decimal_rulesets: tuple[str, str] | None = None  # rule sets before and after the decimal word, if they differ
    minus: str = ""  # the word for minus; empty: CLDR's
    marks: dict[str, str] = {}  # the word for a mark between digits that is not the decimal mark: "/": bölü
    years: tuple[_Year, _Year] | None = None  # four-digit numbers in this range are read by CLDR's rules for years
    suffix: Literal["keep", "join"] = "keep"  # whether 1923'te keeps its apostrophe
    suffix_forms: dict[str, dict[str, str]] = {}  # spoken word: {ending in the text: ending of the spoken word}
    endings: Literal["apart", "touching", "hyphen"] = "apart"  # small letters that join the word: 5ean, or 5-мӗш


class OrdinalSettings(BaseModel):
    """How ordinals are written in text, and which of CLDR's rule sets spells them out."""

    model_config = SECTION

    ruleset: str = "spellout-ordinal"
    rules: _SpelloutRules = {}
    suffixes: dict[str, str] = {}  # suffix after the digits: its rule set, or empty for `ruleset`
    dot: Literal["no", "small", "any"] = (
        "no"  # whether "3." is an ordinal before a small letter, or before any letter (one or two digits only)
    )
    roman: bool = False  # whether "II." before a word is an ordinal (two letters or more)

    @field_validator("rules", mode="before")
    @classmethod
    def _text_keys(cls, value: object) -> object:
        return {str(key): rule for key, rule in value.items()} if isinstance(value, dict) else value

    @field_validator("suffixes", mode="before")
    @classmethod
    def _plain_list(cls, value: object) -> object:
        return dict.fromkeys(value, "") if isinstance(value, list) else value


class DateSettings(BaseModel):
    """Dates such as 15.03.2020. The form 2020-03-15 is read in every language that has this section."""

    model_config = SECTION

    order: Literal["dmy", "mdy", "ymd"] = "dmy"
    say: str = "{day} {month} {year}"
    ordinal_day: str = ""  # rule set for the day, if it is read as an ordinal
    year: Literal["rules", "cardinal", "digits"] = "rules"  # CLDR's rules for years, as a number, or digit by digit
    months: tuple[str, ...] = ()


class TimeSettings(BaseModel):
    """Times such as 15:30."""

    model_config = SECTION

    marks: Characters = ":"
    say: str = "{hour} {minute}"
    full_hour: str = "{hour}"  # 15:00
    after: _Letters = ()  # words that follow a time and that `say` already contains: 15:30 Uhr
    small_minute: str = ""  # 15:05, if its pattern differs from that of 15:50


class Money(BaseModel):
    """A currency and its hundredth part: 3,50 TL."""

    model_config = SECTION

    name: _Forms
    minor: _Forms = ""


class LanguageRules(BaseModel):
    """The text rules of one language. Every key is optional; languages/README.md describes each."""

    model_config = SECTION

    name: str = ""
    native_name: str = ""
    code: str = "und"
    script: str = ""
    direction: Literal["ltr", "rtl"] = "ltr"
    spaces: Literal["words", "phrases", "none"] = "words"  # what a space separates
    casing: Casing = "default"
    lowercase: bool = True
    alphabet: _Letters = ()
    loan_letters: _Letters = ()  # letters of foreign names
    marks: _Letters = ()  # combining marks that occur on more than one letter
    tones: _Letters = ()  # combining marks that are tones; scoring with no-tone omits them
    whole_scripts: tuple[str, ...] = ()  # scripts all of whose letters are allowed: Han, Hiragana
    drop: Characters = PUNCTUATION
    keep: Characters = ""
    apostrophe: Policy = "keep"
    hyphen: Policy = "keep"
    equivalents: dict[str, str] = {"'": "’"}
    map: dict[str, str] = {}
    look_alikes: Literal["keep", "map"] = "keep"
    joiners: Literal["keep", "drop"] = "keep"
    compatibility: tuple[Literal["arabic", "wide", "ligatures"], ...] = ()
    digits: Literal["spell", "keep", "drop"] = "spell"
    numbers: NumberSettings = NumberSettings()
    ordinals: OrdinalSettings = OrdinalSettings(ruleset="")
    date: DateSettings | None = None
    time: TimeSettings | None = None
    range: str = ""  # "{from} to {to}"
    percent: _Forms = ""  # "{number} percent"
    units: dict[str, _Forms] = {}
    currency: dict[str, Annotated[Money | _Forms, Field(union_mode="left_to_right")]] = {}
    scales: dict[str, str] = {}  # words allowed between a number and its currency: million, bn
    fractions: dict[str, tuple[str, str]] = {}  # "½": [words when alone, words after a number]
    symbols: dict[str, str] = {}
    web: dict[str, str] = {}  # the words for the signs of addresses: ".": nokta
    abbreviations: dict[str, str] = {}
    tests: tuple[tuple[str, str], ...] = ()

    @field_validator("map")
    @classmethod
    def _maps_to_final_forms(cls, value: dict[str, str]) -> dict[str, str]:
        for source, target in value.items():
            if len(source) != 1:
                raise ValueError(f"only a single character can be mapped, not {source!r}")
            mapped = next((character for character in target if character in value), None)
            if mapped is not None:
                raise ValueError(
                    f"{source!r} is mapped to {target!r}, and {mapped!r} is mapped again: give the final form"
                )
        return value

    @field_validator("alphabet", "loan_letters", "marks", "tones")
    @classmethod
    def _are_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        letters = tuple(unicodedata.normalize("NFC", letter) for letter in value)
        repeated = sorted({letter for letter in letters if letters.count(letter) > 1})
        if repeated:
            raise ValueError(f"letters that repeat: {', '.join(map(repr, repeated))}")
        if "" in letters:
            raise ValueError("an empty letter")
        return letters

    @model_validator(mode="after")
    def _has_no_contradiction(self) -> LanguageRules:
        seen: dict[str, str] = {}
        for letter, variants in self.equivalents.items():
            for variant in variants:
                if variant in self.equivalents or seen.setdefault(variant, letter) != letter:
                    raise ValueError(f"equivalents: {variant!r} cannot stand for both {letter!r} and another letter")
        if self.date is not None and len(self.date.months) not in (0, 12):
            raise ValueError(f"date.months: expected 12 months, found {len(self.date.months)}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The rules as JSON-ready data, without the tests and without the keys that have their default value."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"tests"})
