"""Spelling out: numbers, money, dates, times, units, abbreviations and addresses are replaced by their spoken words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from anadil.errors import AnadilError
from anadil.text import patterns
from anadil.text.invisible import ZERO_WIDTH_SPACE
from anadil.text.language_rules import LanguageRules, Money
from anadil.text.numbers import Speller
from anadil.text.patterns import APOSTROPHES, DASHES, HYPHENS, longest_first, spellings, thousands

OnExpansion = Callable[[str, str], None]
"""Called with an expression as written and the words that replace it."""

_MARKS = ".,:;/-–—'’+−()%&!?"
_HIDE_MARKS = str.maketrans({mark: chr(0xFDD0 + i) for i, mark in enumerate(_MARKS)})
"""Replaces the marks in a number that cannot be spelled out by noncharacters, so that later rules do not drop them."""
RESTORE_MARKS = str.maketrans({chr(0xFDD0 + i): mark for i, mark in enumerate(_MARKS)})
_JOIN = "\ufdef"  # precedes an apostrophe that `expand` removes

_SUFFIX = re.compile(rf"([{APOSTROPHES}])([^\W\d_]+)")

_WORD_FOLLOWS = re.compile(r"[ \u00a0\u202f][^\W\d_]")

_FIGURES = re.compile(r"\d+(?:[.,\s]\d{3})*")

_ROMAN = {"I": 1, "V": 5, "X": 10}


class Expander:
    """Spells out numbers, abbreviations and signs by the rules of one language."""

    def __init__(self, language_rules: LanguageRules) -> None:
        self.language_rules = language_rules
        self.speller = Speller(language_rules.code, language_rules.numbers, language_rules.ordinals)
        self._expression = patterns.expression(language_rules, addresses=False)
        self._with_addresses = patterns.expression(language_rules, addresses=True)
        self._address_trigger = patterns.address_trigger()
        number = patterns.number(language_rules)
        self._range = re.compile(rf"({number})(?:-|\s?[{DASHES}]\s?)({number})")
        self._grouping = str.maketrans("", "", thousands(language_rules))
        self._before_words = language_rules.numbers.before_words == "counting"
        self._pad = " " if language_rules.spaces == "words" else ""
        self._abbreviations = spellings(language_rules.abbreviations)
        self._amount = re.compile(rf"{number}(?:(?:-|\s?[{DASHES}]\s?){number})?")
        self._currencies = longest_first(language_rules.currency)
        self._scales = longest_first(language_rules.scales)
        self._dashes = re.compile(rf"[{DASHES}]|(?<=\d)-")

    def expand(self, text: str, on_expansion: OnExpansion = lambda written, spoken: None) -> str:
        """The text with every match of `patterns.expression` in words.

        A match that cannot be spelled out stays, with its marks hidden until `RESTORE_MARKS`.
        """
        has_address = self._address_trigger.search(text) is not None
        expression, starts = self._with_addresses if has_address else self._expression
        pieces, done, start = [], 0, starts.search(text)
        while start is not None:
            match = expression.match(text, start.start())
            if match is not None:
                pieces.append(text[done : match.start()])
                words, done = self._replace(match, on_expansion)
                pieces.append(words)
            start = starts.search(text, done if match else start.start() + 1)
        expanded = "".join([*pieces, text[done:]])
        return re.sub(f"{_JOIN}[{APOSTROPHES}]", "", expanded) if _JOIN in expanded else expanded

    def _replace(self, match: re.Match[str], on_expansion: OnExpansion) -> tuple[str, int]:
        """The words for a match, with spaces to separate them from their neighbours, and the end of what they replace."""
        kind, written, text, end = match.lastgroup or "", match.group(), match.string, match.end()
        counts = kind == "quantity" and self._before_words and _WORD_FOLLOWS.match(text, end)
        try:
            words = self._counting(written) if counts else _SPELL_OUT[kind](self, written)
        except AnadilError:
            return " " + written.translate(_HIDE_MARKS) + " ", end
        words = words.replace(ZERO_WIDTH_SPACE, self._pad)  # CLDR writes it between the words of Thai and Khmer numbers
        on_expansion(written, words)
        before = text[match.start() - 1] if match.start() else " "
        words = words if before.isspace() else self._pad + words
        suffix = _SUFFIX.match(text, end) if kind != "symbol" else None
        ending = self._ending(text, end) if kind == "quantity" else None
        if ending is not None:
            return words, ending
        if suffix is None:
            return words if end == len(text) or text[end].isspace() else words + self._pad, end
        forms = self.language_rules.numbers.suffix_forms.get((words.split() or [""])[-1], {})
        form = forms.get(suffix[2].lower())
        if self.language_rules.numbers.suffix == "join":
            words += _JOIN
        return (words, end) if form is None else (words + suffix[1] + form, suffix.end())

    def _ending(self, text: str, end: int) -> int | None:
        """Where the small letters begin that belong to the last word of a number that ends at `end`, as in 1980an."""
        endings = self.language_rules.numbers.endings
        if endings == "hyphen" and text[end : end + 1] in HYPHENS:
            end += 1
        elif endings != "touching":
            return None
        return end if text[end : end + 1].islower() else None

    def _quantity(self, text: str, ruleset: str = "") -> str:
        """A number, or a range of two numbers, in words."""
        pair = None if text.isdecimal() else self._range.fullmatch(text)
        if pair is None:
            return self._number(text, ruleset)
        ends = {"from": self._number(pair[1], ruleset), "to": self._number(pair[2], ruleset)}
        return fill(self.language_rules.range or "{from} {to}", ends)

    def _counting(self, text: str) -> str:
        """A number or a range before a unit or a currency, where no number is a year."""
        return self._quantity(text, self.language_rules.numbers.counting or self.language_rules.numbers.ruleset)

    def _number(self, text: str, ruleset: str = "") -> str:
        """One number in words."""
        value = text.lstrip("-−")
        plain = value.translate(self._grouping)
        decimal = self.language_rules.numbers.decimal
        whole, _, fraction = plain.partition(decimal) if decimal else (plain, "", "")
        grouped = plain != value  # 1.900 is a quantity, 1900 may be a year
        words = (
            self.speller.decimal(whole, fraction)
            if fraction
            else self.speller.integer(whole, ruleset or (self.language_rules.numbers.ruleset if grouped else ""))
        )
        return words if value == text else f"{self.speller.minus(value)} {words}"

    def _count(self, text: str) -> str:
        """The number that selects the plural form: the last one of a range, with a dot as its decimal mark."""
        last = self._dashes.split(text)[-1].strip().lstrip("-−").translate(self._grouping)
        return last.replace(self.language_rules.numbers.decimal, ".") if self.language_rules.numbers.decimal else last

    def _address(self, text: str) -> str:
        web = self.language_rules.web
        pieces = re.findall(r"[^\W\d_]+|\d+|_|\W", re.sub(r"^https?://", "", text).rstrip("/"))
        return " ".join(self.speller.integer(p) if p.isdecimal() else web.get(p, p) for p in pieces)

    def _abbreviation(self, text: str) -> str:
        return self._abbreviations[text]

    def _symbol(self, text: str) -> str:
        return self.language_rules.symbols[text]

    def _date(self, text: str) -> str:
        settings = self.language_rules.date
        assert settings is not None
        parts = re.split(r"[./-]", text)
        fields = dict(zip("ymd" if len(parts[0]) == 4 else settings.order, parts, strict=True))
        day, month = int(fields["d"]), int(fields["m"])
        if not (1 <= day <= 31 and 1 <= month <= 12 and settings.months):
            return " ".join(self.speller.integer(part) for part in parts)
        day_words = (
            self.speller.ordinal(str(day), settings.ordinal_day)
            if settings.ordinal_day
            else self.speller.integer(str(day))
        )
        spell_year = {"rules": self.speller.year, "cardinal": self._cardinal, "digits": self.speller.one_by_one}[
            settings.year
        ]
        year = spell_year(str(int(fields["y"])))
        return fill(settings.say, {"day": day_words, "month": settings.months[month - 1], "year": year})

    def _cardinal(self, digits: str) -> str:
        return self.speller.integer(digits, self.language_rules.numbers.ruleset)

    def _time(self, text: str) -> str:
        settings = self.language_rules.time
        assert settings is not None
        word = next((word for word in settings.after if text.endswith(word)), "")
        figures = text.removesuffix(word).rstrip()
        hour, minute, *second = re.split(rf"[{re.escape(settings.marks)}]", figures)
        if int(hour) > 24 or int(minute) > 59:
            return f"{self._composite(figures)} {word}".rstrip()
        names = {"hour": self.speller.integer(str(int(hour))), "minute": self.speller.integer(str(int(minute)))}
        form = settings.full_hour if int(minute) == 0 and not second else settings.say
        if minute[0] == "0" and int(minute) and settings.small_minute:
            form = settings.small_minute
        return fill(form, names) + "".join(" " + self.speller.integer(str(int(part))) for part in second)

    def _phone(self, text: str) -> str:
        digits = re.sub(r"\D", "", text)
        if re.fullmatch(r"[1-9]\d{0,2}(?: \d{3})+", text):  # in every language 1 234 567 is a number
            return self.speller.integer(digits)
        if len(digits) < 7 or re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):  # a date, in a language without rules for dates
            return " ".join(self.speller.integer(part) for part in re.findall(r"\d+", text))
        plus = self.language_rules.symbols.get("+", "") + " " if text[0] == "+" else ""
        return plus + self.speller.one_by_one(digits)

    def _money(self, text: str) -> str:
        sign = next(s for s in self._currencies if text.startswith(s) or text.endswith(s))
        amount = (text.removeprefix(sign) if text.startswith(sign) else text.removesuffix(sign)).strip()
        scale = next((word for word in self._scales if amount.endswith(word)), "")
        amount = amount.removesuffix(scale).strip()
        money = self.language_rules.currency[sign]
        name, minor = (money.name, money.minor) if isinstance(money, Money) else (money, "")
        decimal = self.language_rules.numbers.decimal
        whole, _, cents = amount.partition(decimal) if decimal else (amount, "", "")
        if minor and len(cents) == 2 and not scale:
            words = f"{self._counting(whole)} {self.speller.plural(name, self._count(whole))}"
            if int(cents):
                words += f" {self._counting(str(int(cents)))} {self.speller.plural(minor, str(int(cents)))}"
            return words
        word = self.speller.plural(name, "1000000" if scale else self._count(amount))
        return " ".join(filter(None, (self._counting(amount), self.language_rules.scales.get(scale, ""), word)))

    def _percent(self, text: str) -> str:
        amount = text.strip("% \u00a0\u202f")
        return fill(
            self.speller.plural(self.language_rules.percent, self._count(amount)), {"number": self._counting(amount)}
        )

    def _unit(self, text: str) -> str:
        match = self._amount.match(text)
        assert match is not None
        amount, sign = match.group(), text[match.end() :].strip()
        word = self.speller.plural(self.language_rules.units[sign], self._count(amount))
        number = self._counting(amount)
        return fill(word, {"number": number}) if "{" in word else f"{number} {word}"

    def _ordinal(self, text: str) -> str:
        if not text[0].isdecimal():
            return self.speller.ordinal(str(_roman(text.rstrip("."))))
        digits = _FIGURES.match(text)
        assert digits is not None
        suffix = text[digits.end() :].lstrip(APOSTROPHES + ".")
        number = digits.group().translate(self._grouping).strip(".")
        return self.speller.ordinal(number, self.language_rules.ordinals.suffixes.get(suffix, ""))

    def _fraction(self, text: str) -> str:
        digits, (alone, after) = text[:-1].strip(), self.language_rules.fractions[text[-1]]
        return f"{self.speller.integer(digits)} {after}" if digits else alone

    def _composite(self, text: str) -> str:
        """1.2.3 or 3/4 number by number, with the words for the marks. Raises AnadilError if a mark has no word."""
        words = []
        for piece in re.findall(r"\d+|\D", text):
            word = self.speller.integer(piece) if piece.isdecimal() else self.language_rules.numbers.marks.get(piece)
            if word is None:
                raise AnadilError(f"no word for {piece!r} between digits")
            words.append(word)
        return " ".join(words)


def fill(template: str, words: Mapping[str, str]) -> str:
    """Fill words into a template such as "{day} {month}". Raises AnadilError for a name that does not exist."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            allowed = ", ".join(f"{{{name}}}" for name in words)
            raise AnadilError(f"{template!r} contains {match.group()}; allowed: {allowed}")
        return words[match[1]]

    return re.sub(r"\{(\w*)\}", word, template)


def _roman(numeral: str) -> int:
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


_SPELL_OUT: dict[str, Callable[[Expander, str], str]] = {
    "email": Expander._address,
    "url": Expander._address,
    "date": Expander._date,
    "time": Expander._time,
    "money": Expander._money,
    "percent": Expander._percent,
    "unit": Expander._unit,
    "phone": Expander._phone,
    "ordinal": Expander._ordinal,
    "fraction": Expander._fraction,
    "quantity": Expander._quantity,
    "composite": Expander._composite,
    "abbreviation": Expander._abbreviation,
    "symbol": Expander._symbol,
}
