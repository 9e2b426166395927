"""The normalizer: turns a written sentence into its spoken words, in the letters of the language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property, partial

from anadil.errors import AnadilError
from anadil.text.casing import after_lowering, before_lowering, lower_letter
from anadil.text.expansions import RESTORE_MARKS, Expander, OnExpansion
from anadil.text.invisible import (
    INVISIBLE,
    JOINERS,
    NO_CHARACTERS,
    ascii_digit,
    compatible,
    compatible_characters,
    separate_words,
)
from anadil.text.language_rules import LanguageRules, Policy
from anadil.text.look_alikes import look_alikes, map_look_alikes
from anadil.text.patterns import HYPHENS, leftovers, literal_triggers, sign_triggers, triggers

MAX_ROUNDS = 8
"""Limit on repeating the rules until nothing changes. Most texts need one or two rounds; only contrived ones need more."""

_CHILLU = {
    "\u0d23": "\u0d7a",
    "\u0d28": "\u0d7b",
    "\u0d30": "\u0d7c",
    "\u0d32": "\u0d7d",
    "\u0d33": "\u0d7e",
    "\u0d15": "\u0d7f",
}
_SPELLINGS: dict[str, list[tuple[str, str]]] = {
    "Thai": [
        ("\u0e40\u0e40", "\u0e41"),
        ("\u0e4d([\u0e48-\u0e4b]?)\u0e32|([\u0e48-\u0e4b])\u0e4d\u0e32|\u0e33([\u0e48-\u0e4b])", "\u0e33"),
    ],
    "Laoo": [
        ("\u0ec0\u0ec0", "\u0ec1"),
        ("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2|([\u0ec8-\u0ecb])\u0ecd\u0eb2|\u0eb3([\u0ec8-\u0ecb])", "\u0eb3"),
    ],
    "Mlym": [(f"{letter}\u0d4d\u200d", chillu) for letter, chillu in _CHILLU.items()],
    "Beng": [("\u09a4\u09cd\u200d", "\u09ce")],
}
"""Script -> (expression, replacement) for syllables with two spellings that look the same and that NFC leaves different.

Thai and Lao: sara am typed as nikhahit and sara aa, or typed before its tone mark, and sara ae typed as two sara e
(WTT 2.0, the Thai input standard, has one order). Malayalam and Bengali: a chillu, or khanda ta, as it was written
before Unicode 5.1 and 4.1 gave it a character of its own (The Unicode Standard, chapter 12).
"""
_IN_SPELLINGS = re.compile("[\u200d\u0e33\u0e40\u0e4d\u0eb3\u0ec0\u0ecd]")
"""Every match of `_SPELLINGS` contains one of these characters; a text without them is skipped."""

_BESIDE_NO_LATIN = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_HIDDEN_MARK = re.compile(f"[{NO_CHARACTERS}]")
_REPLACEMENT: dict[Policy, str] = {"join": "", "split": " "}


class _SyllableSpellings:
    """Gives syllables that can be spelled in two ways one spelling; for all scripts if `script` is empty."""

    def __init__(self, script: str) -> None:
        rules = _SPELLINGS.get(script, []) if script else [rule for rules in _SPELLINGS.values() for rule in rules]
        self._rules = [(re.compile(pattern), final) for pattern, final in rules]

    def unify(self, text: str) -> str:
        """The text with each of these syllables in its one spelling. Tone marks from inside a match come first."""
        if not self._rules or _IN_SPELLINGS.search(text) is None:
            return text
        for pattern, final in self._rules:
            text = pattern.sub(partial(_unified, final), text)
        return text


def _unified(final: str, match: re.Match[str]) -> str:
    return "".join(filter(None, match.groups())) + final


class _CharacterTable(dict[int, str]):
    """A table for str.translate that computes the replacement of each character when it is first looked up."""

    def __init__(self, replacement: Callable[[str], str]) -> None:
        super().__init__()
        self._replacement = replacement

    def __missing__(self, code_point: int) -> str:
        self[code_point] = replacement = self._replacement(chr(code_point))
        return replacement


class Normalizer:
    """Applies the text rules of one language. Applying it twice changes nothing. What it cannot spell out stays."""

    def __init__(self, language_rules: LanguageRules) -> None:
        self.language_rules = language_rules
        self.expander = Expander(language_rules)
        self._variants = {
            variant: letter for letter, variants in language_rules.equivalents.items() for variant in variants
        }
        self._context_casing = language_rules.lowercase and language_rules.casing in ("turkic", "lithuanian", "irish")
        self._no_spaces = language_rules.spaces == "none"
        self.cleaning, self.table = _CharacterTable(self._clean), _CharacterTable(self._final)
        self._look_alikes = look_alikes(language_rules.script) if language_rules.look_alikes == "map" else {}
        inside = JOINERS * (language_rules.joiners == "keep")
        inside += "'" * (language_rules.apostrophe == "inside") + "-" * (language_rules.hyphen == "inside")
        self.inside = inside
        self._at_word_edges = re.compile(rf"(?<!\S)[{inside}]+|[{inside}]+(?!\S)" if inside else r"(?!)")
        self._syllables = _SyllableSpellings(language_rules.script)
        self._compile_quick_looks()

    def _compile_quick_looks(self) -> None:
        """Compile the expressions that find out whether a text needs expansion, another round or look-alikes mapped.

        Most texts need none of these, and then only the character table is applied.
        """
        language_rules, table = self.language_rules, self.table
        signs, spell = sign_triggers(language_rules), language_rules.digits == "spell"
        literals = literal_triggers(language_rules)
        settled = [literal for literal in literals if all(table[ord(c)] == c for c in literal)]
        becoming_triggers = self._characters_that_become(
            lambda c: c in signs or (spell and c.isdecimal()), {*signs, *"".join(literals)}
        )
        self._triggers = triggers(language_rules, becoming_triggers, settled)
        final = {c for c in self.letters if table[ord(c)] == c}
        self._leftovers = leftovers(language_rules, settled, final)
        foreign = set(self._look_alikes) - self.letters
        self._foreign = _any_of(
            {*foreign, *self._characters_that_become(foreign.__contains__, foreign)} if foreign else ()
        )
        # str.translate is fast on Latin-1; for other scripts it is called only on what is not a final letter.
        translate_all = language_rules.script == "Latn" or language_rules.whole_scripts or not final
        self._not_final = None if translate_all else re.compile(f"[^ {''.join(map(re.escape, sorted(final)))}]+")

    @cached_property
    def letters(self) -> frozenset[str]:
        """Every character of the alphabet, the loan letters and the marks, in both cases."""
        small = "".join((*self.language_rules.alphabet, *self.language_rules.loan_letters, *self.language_rules.marks))
        return frozenset(small + small.upper())

    def __call__(self, text: str, on_expansion: OnExpansion = lambda written, spoken: None) -> str:
        """The normalised text. `on_expansion` is called with each expression that is spelled out, and its words.

        Raises AnadilError for half a surrogate pair.
        """
        if not text.isascii():
            _require_text(text)
            text = unicodedata.normalize("NFC", text)
        plain = self._triggers.search(text) is None
        for _ in range(MAX_ROUNDS):
            before = text
            if not plain:
                text = self.expander.expand(self.clean(text), on_expansion)
            foreign = self._foreign.search(text) is not None
            if plain and foreign:  # a word is Greek with μ (U+03BC), to which cleaning turns µ (U+00B5)
                text = self.clean(text)
            text, composed = self.finish(self._final_characters(text, foreign))
            if not plain and _HIDDEN_MARK.search(text):
                text = text.translate(RESTORE_MARKS)
            left_over = self._leftovers is not None and self._leftovers.search(" " + text) is not None
            if plain and left_over:
                plain = False
                continue
            # Every character is final now. Characters that become a spoken sign are triggers themselves, and characters
            # that become a letter of another script are in `_foreign`. A round without either leaves nothing to do.
            if text == before or (plain and not foreign and not composed):
                break
            plain = not left_over and self._triggers.search(text) is None
            if plain and not composed and self._foreign.search(text) is None:
                break
        return text

    def clean(self, text: str) -> str:
        """The text without invisible characters and with plain digits and apostrophes, as the expander expects it.

        A zero-width space that separates words becomes a space.
        """
        return unicodedata.normalize("NFC", separate_words(text).translate(self.cleaning))

    def spelled(self, text: str) -> str:
        """The text with every character in its final form, and look-alikes of other scripts mapped."""
        return self._final_characters(text, self._foreign.search(text) is not None)

    def _final_characters(self, text: str, foreign: bool) -> str:
        if foreign:
            text = map_look_alikes(text, self.language_rules.script, self.letters, self._look_alikes)
        if self._context_casing:
            text = before_lowering(text, self.language_rules.casing)
        if self._not_final is None:
            return text.translate(self.table)
        return self._not_final.sub(lambda match: match.group().translate(self.table), text)

    def finish(self, text: str) -> tuple[str, bool]:
        """Apply single spaces, NFC and the rules that depend on neighbours; also return whether characters were composed.

        Composed characters may need another round of the rules.
        """
        text, unified = _single_spaces(text), False
        if not text.isascii():
            before, text = text, self._syllables.unify(text)
            unified = text != before
        for mark in self.inside:
            if mark in text and (mark in (text[0], text[-1]) or f" {mark}" in text or f"{mark} " in text):
                text = _single_spaces(self._at_word_edges.sub("", text))
                break
        if self._no_spaces:
            text = _BESIDE_NO_LATIN.sub("", text)
        if text.isascii():
            return text, unified
        composed = unified or not unicodedata.is_normalized("NFC", text)
        if composed:
            text = unicodedata.normalize("NFC", text)
        if ("\u0307" in text or "σ" in text) and self.language_rules.lowercase:
            return unicodedata.normalize("NFC", after_lowering(text, self.language_rules.casing)), True
        return text, composed

    def _characters_that_become(self, wanted: Callable[[str], bool], when_cleaned: Collection[str]) -> Iterator[str]:
        """The other characters whose final form holds a wanted one, or that cleaning drops or turns to `when_cleaned`."""
        language_rules = self.language_rules
        candidates = {*language_rules.map, *self._variants, *compatible_characters(language_rules.compatibility)}
        candidates |= {other for c in self._look_alikes for other in (c.upper(), c.title(), "İ") if len(other) == 1}
        candidates |= {*INVISIBLE, *JOINERS}
        for character in sorted(candidates):
            clean = self.cleaning[ord(character)]
            changed = clean != character and (not clean or any(c in when_cleaned for c in clean))
            if not wanted(character) and (changed or any(map(wanted, self.table[ord(character)]))):
                yield character

    def _clean(self, character: str) -> str:
        if character in INVISIBLE or character in NO_CHARACTERS:
            return ""
        if character in JOINERS and self.language_rules.joiners == "drop":
            return ""
        if character in self.language_rules.map or character in self.language_rules.drop:
            return character
        if self.language_rules.digits == "spell":
            character = ascii_digit(character)
        character = compatible(character, self.language_rules.compatibility)
        return "".join(self._variants.get(c, c) for c in character)

    def _final(self, character: str) -> str:
        """The character after the rules have been applied until nothing changes."""
        text = character
        for _ in range(MAX_ROUNDS):
            before, text = text, "".join(map(self._step, text))
            if text == before:
                break
        return text

    def _step(self, character: str) -> str:
        language_rules = self.language_rules
        if character in language_rules.map:
            return language_rules.map[character]
        if character in language_rules.drop:  # "evet,hayır" stays two words: punctuation leaves a space, a mark nothing
            return " " if unicodedata.category(character)[0] in "PSZ" else ""
        if character in INVISIBLE or (character in JOINERS and language_rules.joiners == "drop"):
            return ""
        if character in self._variants:
            return self._variants[character]
        if character.isspace():
            return " "
        if character == "'" and language_rules.apostrophe in _REPLACEMENT:
            return _REPLACEMENT[language_rules.apostrophe]
        if character in HYPHENS and language_rules.hyphen != "keep":
            return _REPLACEMENT.get(language_rules.hyphen, "-")
        if language_rules.digits == "drop" and character.isdecimal():
            return " "
        plain = compatible(character, language_rules.compatibility)
        if plain != character:
            return plain
        return (
            lower_letter(character, language_rules.casing)
            if language_rules.lowercase and language_rules.casing != "none"
            else character
        )


def _single_spaces(text: str) -> str:
    """Strip and collapse spaces that are all U+0020. Split and join on every text would take four times as long."""
    text = text.strip(" ")
    return " ".join(text.split()) if "  " in text else text


def _any_of(characters: Iterable[str]) -> re.Pattern[str]:
    listed = "".join(map(re.escape, sorted(characters)))
    return re.compile(f"[{listed}]" if listed else r"(?!)")


def _require_text(text: str) -> None:
    """Raise AnadilError for half a surrogate pair, which cannot be written to a file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AnadilError(
            f"the text contains half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start + 1}\n"
            "  next: write the file again from its source as UTF-8"
        ) from None
