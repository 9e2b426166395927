"""Numbers in words by CLDR's spell-out rules (unicode-rbnf). A recogniser is trained on spoken words, not on digits."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from anadil.errors import AnadilError
from anadil.text.language_rules import LanguageRules, NumberSettings, OrdinalSettings

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

_MAX_DIGITS = 15  # a longer number is a code, not a quantity; the rules of most languages end near here too
_CARDINAL, _YEAR = "spellout-numbering", "spellout-numbering-year"
_DIGITS = re.compile("[0-9]+")
_APOSTROPHE = "\ufdee"  # stands for the apostrophes of our own rules, which the engine would drop


def spell_integers(text: str, language: str) -> str:
    """Replace each run of ASCII digits in `text` by its words in `language` ("tr", "pt_PT", "sr-Latn").

    A suffix after an apostrophe stays ("1923'te" -> "bin dokuz yüz yirmi üç'te"). A space separates the words from a
    letter that touches the digits ("3G" -> "üç G"). Runs that start with 0 or have more than 15 digits are read digit
    by digit. Only whole numbers are read; TextRules also read decimals, dates and so on.
    Source of the rules: the language's file, or else Unicode CLDR, rule-based number format, "spellout-numbering".

    Raises AnadilError if `text` contains a digit and there are no rules for `language` or for this number.
    """
    from anadil.text.language_files import find_language, language_file  # it imports this module

    code = find_language(language)
    file = language_file(code) if code else LanguageRules()
    keys = {"cldr", "rules", "rulesets", "ruleset"}  # not years, which read 1923 as nineteen twenty-three
    numbers = NumberSettings(**file.numbers.model_dump(include=keys, exclude_unset=True))
    speller = Speller(language, numbers, file.ordinals)

    def words(match: re.Match[str]) -> str:
        before = " " if match.start() and _is_letter(text[match.start() - 1]) else ""
        after = " " if match.end() < len(text) and _is_letter(text[match.end()]) else ""
        return before + speller.integer(match.group()) + after

    return _DIGITS.sub(words, text)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


class Speller:
    """Numbers in the words of one language. Every method raises AnadilError if there are no rules for the number."""

    def __init__(self, language: str, numbers: NumberSettings, ordinals: OrdinalSettings) -> None:
        self.language = numbers.cldr or language
        self.numbers, self.ordinals = numbers, ordinals
        self._words: dict[tuple[str, str], str] = {}

    @cached_property
    def _engine(self) -> RbnfEngine:
        numbers, ordinals = self.numbers, self.ordinals
        own = [
            ("numbers.rules", numbers.ruleset, numbers.rules),
            ("ordinals.rules", ordinals.ruleset, ordinals.rules),
            *((f"numbers.rulesets.{name}", name.lstrip("%"), rules) for name, rules in numbers.rulesets.items()),
        ]
        if not any(rules for _, _, rules in own):
            return _cldr_engine(_cldr_code(self.language))
        from unicode_rbnf import RbnfEngine

        engine = RbnfEngine(self.language) if numbers.rules else RbnfEngine.for_language(_cldr_code(self.language))
        for key, name, rules in own:
            for value, text in rules.items():
                _add_rule(engine, f"{key}: {value}", value, text, name)
        _require_known_rulesets(engine, own)
        return engine

    def check(self) -> None:
        """Raise AnadilError if there are rules of one's own and one of them is not in CLDR's notation."""
        if self.numbers.rules or self.numbers.rulesets or self.ordinals.rules:
            _ = self._engine

    def integer(self, digits: str, ruleset: str = "") -> str:
        """A cardinal number. Digits that start with 0, or more than 15 digits, are read one by one."""
        if (len(digits) > 1 and digits[0] == "0") or len(digits) > _MAX_DIGITS:
            return self.one_by_one(digits)
        years = self.numbers.years
        if not ruleset and years and len(digits) == 4 and years[0] <= int(digits) <= years[1]:
            ruleset = _YEAR
        return self._spell(digits, ruleset or self.numbers.ruleset)

    def year(self, digits: str) -> str:
        """A year, by CLDR's rules for years if the language has them, else as a cardinal."""
        return self._spell(digits, _YEAR if _YEAR in self._engine.rulesets else self.numbers.ruleset)

    def ordinal(self, digits: str, ruleset: str = "") -> str:
        """An ordinal number, by the named rule set or else by the language's."""
        return self._spell(digits, ruleset or self.ordinals.ruleset)

    def one_by_one(self, digits: str, ruleset: str = "") -> str:
        """Each digit by itself, for telephone numbers and codes."""
        return " ".join(self._spell(digit, ruleset or self.numbers.ruleset) for digit in digits)

    def decimal(self, whole: str, fraction: str) -> str:
        """A decimal number (3 and 14 for 3,14), with the language's word for the decimal mark or else CLDR's."""
        word = self.numbers.decimal_word or self._rule_word("IMPROPER_FRACTION", f"{whole}.{fraction}")
        before, after = self.numbers.decimal_rulesets or (self.numbers.ruleset, self.numbers.ruleset)
        spell = self.integer if self.numbers.fraction == "number" and fraction[0] != "0" else self.one_by_one
        return f"{self._spell(whole, before)} {word} {spell(fraction, after)}"

    def minus(self, number: str) -> str:
        """The word for the minus sign: the language's, or else CLDR's."""
        return self.numbers.minus or self._rule_word("NEGATIVE_NUMBER", f"-{number}")

    def _rule_word(self, kind: str, number: str) -> str:
        """The word in CLDR's rule for fractions or for negative numbers, which may be in a rule set for cardinals."""
        from unicode_rbnf.engine import RbnfSpecialRule

        rulesets = self._engine.rulesets
        preferred = [name for name in (self.numbers.ruleset, "spellout-cardinal") if name in rulesets]
        for name in [*preferred, *(name for name in rulesets if "cardinal" in name)]:
            rule = rulesets[name].special_rules.get(RbnfSpecialRule[kind])
            for part in rule.parts if rule else ():
                word = str(getattr(part, "text", "") or getattr(part, "text_before", "")).strip()
                if word:
                    return word
        raise AnadilError(
            f"the number {number} cannot be spelled out: no word for its sign or decimal mark in {self.language!r}\n"
            "  next: add numbers.decimal_word and numbers.minus to the language's rules"
        )

    def plural(self, forms: str | dict[str, str], number: str) -> str:
        """The plural form of a word after a number ("2", "2.50"), by CLDR's plural rules."""
        if isinstance(forms, str):
            return forms
        category = _plural_category(self.language.replace("_", "-").split("-")[0], number)
        return forms.get(category, forms["other"])

    def _spell(self, number: str, ruleset: str) -> str:
        key = (number, ruleset)
        if key not in self._words:
            if len(self._words) > 100_000:
                self._words.clear()
            self._words[key] = self._format(number, ruleset)
        return self._words[key]

    def _format(self, number: str, ruleset: str) -> str:
        from unicode_rbnf.engine import RbnfError

        engine = self._engine
        if ruleset == _CARDINAL and ruleset not in engine.rulesets:
            names = None  # Korean and others have several of them; unicode-rbnf chooses
        elif ruleset not in engine.rulesets:
            raise AnadilError(f"no rule set {ruleset!r} to spell {number} in {self.language!r}")
        else:
            names = [ruleset]
        try:
            words = str(
                engine.format_number(int(number), ruleset_names=names).text
            )  # unicode-rbnf removes soft hyphens
            return words.replace(_APOSTROPHE, "'")
        except (RbnfError, RecursionError, ValueError, ZeroDivisionError):
            raise AnadilError(
                f"the number {number} cannot be spelled out: it is beyond the rules for {self.language!r}\n"
                "  next: write the number as words in the text"
            ) from None


@lru_cache(maxsize=10_000)
def _plural_category(language: str, number: str) -> str:
    from unicode_rbnf.plural_rules import PluralType, get_plural_category

    return str(get_plural_category(language, Decimal(number), PluralType.CARDINAL))


def _add_rule(engine: RbnfEngine, where: str, value: str, text: str, ruleset: str) -> None:
    """Add one rule in CLDR's notation. Raises AnadilError if it is not in that notation.

    The engine drops every apostrophe; in CLDR's notation only one at the start of a rule is no letter.
    """
    number, _, radix = value.partition("/")
    literal = text.removeprefix("'").replace("'", _APOSTROPHE)
    marks = literal.replace("→→→", "→→")
    try:
        if marks.count("[") != marks.count("]") or any(marks.count(mark) % 2 for mark in "→←="):
            raise ValueError("a bracket or an arrow is not closed")
        rule = engine.add_rule(number, literal, ruleset, radix=int(radix or 10))
        if rule is None or int(radix or 10) < 2:
            raise ValueError("expected a number such as 20 or 60/20, or -x or x.x, before the rule")
    except (ValueError, AssertionError, IndexError) as error:
        raise AnadilError(f"{where}: {text!r} is not in CLDR's notation: {error}") from error


def _require_known_rulesets(engine: RbnfEngine, own: list[tuple[str, str, dict[str, str]]]) -> None:
    """Raise AnadilError if a rule of one's own refers to a rule set that does not exist."""
    for key, _, rules in own:
        for value, text in rules.items():
            for name in re.findall(r"%+([^→←=]+)[→←=]", text):
                if name not in engine.rulesets:
                    known = ", ".join(sorted(engine.rulesets))
                    raise AnadilError(f"{key}: {value}: {text!r} refers to a rule set {name!r}; there are {known}")


def _cldr_code(language: str) -> str:
    """The code of CLDR's rules for a language. Raises AnadilError if it has none, with how to add rules."""
    known = _cldr_languages()
    code = language.replace("-", "_")
    for candidate in (code, code.split("_")[0]):  # "tr-TR" has the rules of "tr"
        if candidate in known:
            return candidate
    raise AnadilError(
        f"no rules to spell numbers out in language {language!r}\n"
        f"  CLDR has them for {len(known)} languages: {', '.join(known[:8])}, ...\n"
        "  next: write the numbers as words in the text, or add numbers.rules to a file for text.rules, or set "
        "text.digits to keep or drop"
    )


@lru_cache(maxsize=16)
def _cldr_engine(code: str) -> RbnfEngine:
    from unicode_rbnf import RbnfEngine  # the import takes 0.08 s, and most texts have no digits

    return RbnfEngine.for_language(code)


@lru_cache(maxsize=1)  # 1 ms, and a language without rules asks for every number of a text
def _cldr_languages() -> list[str]:
    from unicode_rbnf import RbnfEngine

    return list(RbnfEngine.get_supported_languages())
