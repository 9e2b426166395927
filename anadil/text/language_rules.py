"""LanguageRules: the rules for one language's writing. Each file in languages/ holds one, and so does each saved model."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from anadil.settings import SECTION
from anadil.text.casing import Casing

Policy = Literal["keep", "inside", "join", "split"]
"""What becomes of a mark: it stays; it stays inside words only; it goes and leaves nothing; it goes and leaves a space."""

PUNCTUATION = '.,?!;:"“”„«»‹›()[]{}…–—¿¡،؛؟।॥。、！？'
"""What most languages drop."""


def _joined(value: object) -> object:
    """`drop: ["-", "€"]` means the same as `drop: "-€"`."""
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def _listed(value: object) -> object:
    """`alphabet: a b c` means the same as `alphabet: [a, b, c]`."""
    return tuple(value.split()) if isinstance(value, str) else value


Characters = Annotated[str, BeforeValidator(_joined), Field(description="each character of the string")]
Letters = Annotated[tuple[str, ...], BeforeValidator(_listed)]


def _plural_forms(value: str | dict[str, str]) -> str | dict[str, str]:
    allowed = ("zero", "one", "two", "few", "many", "other")
    if isinstance(value, dict) and ("other" not in value or not set(value) <= set(allowed)):
        raise ValueError(f"plural forms are {', '.join(allowed)}, and other is required")
    return value


Forms = Annotated[str | dict[str, str], AfterValidator(_plural_forms)]
"""A word, or its plural forms by CLDR's names: {one: kilometre, other: kilometres}."""


class NumberSettings(BaseModel):
    """How numbers are written, and what spells them."""

    model_config = SECTION

    cldr: str = ""  # language of CLDR whose rules spell; empty: the language itself
    rules: dict[str, str] = {}  # own rules in CLDR's notation, where CLDR has none: "20": "yirmi[ →→]"
    ruleset: str = "spellout-numbering"
    counting: str = ""  # rule set before a unit or a currency, where it differs: ein Kilometer, not eins
    decimal: str = Field("", max_length=1)
    thousands: Characters = ""
    decimal_word: str = ""  # empty: as CLDR's rules say it, digit by digit
    fraction: Literal["digits", "number"] = "digits"  # 3,14: three comma one four, or three comma fourteen
    minus: str = ""  # empty: as CLDR's rules say it
    marks: dict[str, str] = {}  # what is said for a mark between digits that is no decimal mark: "/": bölü
    years: tuple[int, int] | None = None  # four digits from and to, read by CLDR's rules for years
    suffix: Literal["keep", "join"] = "keep"  # the apostrophe of 1923'te
    suffix_forms: dict[str, dict[str, str]] = {}  # word that is said: ending as written, ending that goes with it

    @field_validator("rules", mode="before")
    @classmethod
    def _text_keys(cls, value: object) -> object:
        return {str(key): rule for key, rule in value.items()} if isinstance(value, dict) else value


class OrdinalSettings(BaseModel):
    """How ordinals are written, and which of CLDR's rule sets spells them."""

    model_config = SECTION

    ruleset: str = "spellout-ordinal"
    rules: dict[str, str] = {}
    suffixes: dict[str, str] = {}  # after the digits: its rule set, or empty for the one above
    dot: Literal["no", "small", "any"] = "no"  # "3." before a small letter, or before any (one or two figures only)
    roman: bool = False  # "II." before a word, of two letters or more

    @field_validator("rules", mode="before")
    @classmethod
    def _text_keys(cls, value: object) -> object:
        return {str(key): rule for key, rule in value.items()} if isinstance(value, dict) else value

    @field_validator("suffixes", mode="before")
    @classmethod
    def _plain_list(cls, value: object) -> object:
        return dict.fromkeys(value, "") if isinstance(value, list) else value


class DateSettings(BaseModel):
    """15.03.2020; 2020-03-15 is understood in every language."""

    model_config = SECTION

    order: Literal["dmy", "mdy", "ymd"] = "dmy"
    say: str = "{day} {month} {year}"
    ordinal_day: str = ""  # rule set for the day, if it is an ordinal
    year: Literal["rules", "cardinal", "digits"] = "rules"  # by CLDR's rules for years, as a number, digit by digit
    months: tuple[str, ...] = ()


class TimeSettings(BaseModel):
    """15:30."""

    model_config = SECTION

    marks: Characters = ":"
    say: str = "{hour} {minute}"
    full_hour: str = "{hour}"  # 15:00
    after: Letters = ()  # words that follow a time and are in `say` already: 15:30 Uhr
    small_minute: str = ""  # 15:05, where it is not said like 15:50


class Money(BaseModel):
    """A currency with its hundredth part: 3,50 TL."""

    model_config = SECTION

    name: Forms
    minor: Forms = ""


class LanguageRules(BaseModel):
    """One language. Every key can be left out; languages/README.md says what each means."""

    model_config = SECTION

    name: str = ""
    native_name: str = ""
    code: str = "und"
    script: str = ""
    direction: Literal["ltr", "rtl"] = "ltr"
    spaces: Literal["words", "phrases", "none"] = "words"  # what a space parts
    casing: Casing = "default"
    lowercase: bool = True
    alphabet: Letters = ()
    loan_letters: Letters = ()  # of foreign names
    marks: Letters = ()  # combining marks that stand on more than one letter
    tones: Letters = ()  # combining marks that are tones: what scoring without tone leaves out
    whole_scripts: tuple[str, ...] = ()  # every letter of these: Han, Hiragana
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
    percent: Forms = ""  # "{number} percent"
    units: dict[str, Forms] = {}
    currency: dict[str, Annotated[Money | Forms, Field(union_mode="left_to_right")]] = {}
    scales: dict[str, str] = {}  # million, bn: what may stand between a number and its currency
    fractions: dict[str, tuple[str, str]] = {}  # "½": [alone, after a number]
    symbols: dict[str, str] = {}
    web: dict[str, str] = {}  # what is said for the signs of addresses: ".": nokta
    abbreviations: dict[str, str] = {}
    tests: tuple[tuple[str, str], ...] = ()

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

    @field_validator("alphabet", "loan_letters", "marks", "tones")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        letters = tuple(unicodedata.normalize("NFC", letter) for letter in value)
        repeated = sorted({letter for letter in letters if letters.count(letter) > 1})
        if repeated or "" in letters:
            raise ValueError(
                f"letters that repeat: {', '.join(map(repr, repeated))}" if repeated else "an empty letter"
            )
        return letters

    @model_validator(mode="after")
    def _variants_are_clear(self) -> LanguageRules:
        seen: dict[str, str] = {}
        for letter, variants in self.equivalents.items():
            for variant in variants:
                if variant in self.equivalents or seen.setdefault(variant, letter) != letter:
                    raise ValueError(f"equivalents: {variant!r} cannot stand for {letter!r} and for another letter too")
        if self.date is not None and len(self.date.months) not in (0, 12):
            raise ValueError(f"date.months: {len(self.date.months)} months, a year has 12")
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what has its default value is left out, and so are the tests."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"tests"})
