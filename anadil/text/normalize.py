"""From a sentence as it is written to the words that are said, in the letters of the language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property, partial

from anadil.errors import AnadilError
from anadil.text.casing import after_lowering, before_lowering, lower_letter
from anadil.text.expansions import UNSTUCK, Expander, Note
from anadil.text.invisible import INVISIBLE, JOINERS, NO_CHARACTERS, ascii_digit, compatible, compatible_characters
from anadil.text.language_rules import LanguageRules, Policy
from anadil.text.look_alikes import look_alikes, mend
from anadil.text.patterns import leftovers, literal_triggers, one_sign_triggers, triggers

# Two spellings of one syllable that look the same and that NFC leaves apart: which is meant.
# Thai and Lao: sara am typed as nikhahit and sara aa, or before its tone mark, and sara ae as two sara e (WTT 2.0,
# the Thai
# input standard, has one order). Malayalam and Bengali: a chillu, or khanda ta, as it was written before Unicode 5.1
# and 4.1
# gave it a character of its own (The Unicode Standard, chapter 12).

_CHILLU = {
    "\u0d23": "\u0d7a",
    "\u0d28": "\u0d7b",
    "\u0d30": "\u0d7c",
    "\u0d32": "\u0d7d",
    "\u0d33": "\u0d7e",
    "\u0d15": "\u0d7f",
}
_RULES: dict[str, list[tuple[str, str]]] = {
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
_CHARACTERISTIC = re.compile("[\u200d\u0e33\u0e40\u0e4d\u0eb3\u0ec0\u0ecd]")


class Sequences:
    """For one script, or for all of them where the language's rules name none."""

    def __init__(self, script: str) -> None:
        rules = _RULES.get(script, []) if script else [rule for some in _RULES.values() for rule in some]
        self._rules = [(re.compile(pattern), final) for pattern, final in rules]

    def mend(self, text: str) -> str:
        """The text with each of these syllables in its one spelling; marks that were in between come first."""
        if not self._rules or _CHARACTERISTIC.search(text) is None:
            return text
        for pattern, final in self._rules:
            text = pattern.sub(partial(_mended, final), text)
        return text


def _mended(final: str, match: re.Match[str]) -> str:
    return "".join(filter(None, match.groups())) + final


HYPHENS = "-\u2010\u2011"
MAX_ROUNDS = 8
"""Most texts settle after one or two; this is for those made to puzzle."""

_BESIDE_NO_LATIN = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_STUCK = re.compile(f"[{NO_CHARACTERS}]")
_GONE: dict[Policy, str] = {"join": "", "split": " "}


class Table(dict[int, str]):
    """For str.translate: the final form of every character, worked out when it is first met."""

    def __init__(self, final: Callable[[str], str]) -> None:
        super().__init__()
        self._final = final

    def __missing__(self, code_point: int) -> str:
        self[code_point] = found = self._final(chr(code_point))
        return found


class Normalizer:
    """Applies one language's rules. Calling it twice changes nothing; what it cannot spell, it leaves."""

    def __init__(self, language_rules: LanguageRules) -> None:
        self.language_rules = language_rules
        self.expander = Expander(language_rules)
        self._variants = {
            variant: letter for letter, variants in language_rules.equivalents.items() for variant in variants
        }
        self._context_casing = language_rules.lowercase and language_rules.casing not in (
            "default",
            "none",
            "dutch",
            "greek",
        )
        self._no_spaces = language_rules.spaces == "none"
        self.cleaning, self.table = Table(self._clean), Table(self._final)
        self._look_alikes = look_alikes(language_rules.script) if language_rules.look_alikes == "map" else {}
        inside = JOINERS * (language_rules.joiners == "keep")
        inside += "'" * (language_rules.apostrophe == "inside") + "-" * (language_rules.hyphen == "inside")
        self.inside = inside
        self._edges = re.compile(rf"(?<!\S)[{inside}]+|[{inside}]+(?!\S)" if inside else r"(?!)")
        self._sequences = Sequences(language_rules.script)
        self._look()

    def _look(self) -> None:
        """The expressions that tell quickly what a text needs."""
        language_rules, table = self.language_rules, self.table
        spoken, spell = one_sign_triggers(language_rules), language_rules.digits == "spell"
        settled = [sign for sign in literal_triggers(language_rules) if all(table[ord(c)] == c for c in sign)]
        wanted = {*spoken, *"".join(literal_triggers(language_rules))}
        also = self._that_become(lambda c: c in spoken or (spell and c.isdecimal()), wanted)
        self._triggers = triggers(language_rules, also, settled)
        final = {c for c in self.letters if table[ord(c)] == c}
        self._leftovers = leftovers(language_rules, settled, final)
        foreign = set(self._look_alikes) - self.letters
        self._strange = _one_of({*foreign, *self._that_become(foreign.__contains__, foreign)})
        translated = (
            language_rules.script == "Latn" or language_rules.whole_scripts or not final
        )  # translate is quick for Latin-1
        self._others = None if translated else re.compile(f"[^ {''.join(map(re.escape, sorted(final)))}]+")

    @cached_property
    def letters(self) -> frozenset[str]:
        """Every character of the alphabet, of loan letters and of marks, in both cases."""
        small = "".join((*self.language_rules.alphabet, *self.language_rules.loan_letters, *self.language_rules.marks))
        return frozenset(small + small.upper())

    def __call__(self, text: str, note: Note = lambda source, said: None) -> str:
        """Raises AnadilError for half a surrogate pair, which is no text."""
        if not text.isascii():
            require_text(text)
            text = unicodedata.normalize("NFC", text)
        plain = self._triggers.search(text) is None
        for _ in range(MAX_ROUNDS):
            before = text
            if not plain:
                text = self.expander.expand(self.clean(text), note)
            strange = self._strange.search(text) is not None
            if plain and strange:  # as the line above: a µ (U+00B5) is no Greek letter to `mend`, a μ (U+03BC) is
                text = self.clean(text)
            text, joined = self.finish(self._characters(text, strange))
            if not plain and _STUCK.search(text):
                text = text.translate(UNSTUCK)
            left = self._leftovers is not None and self._leftovers.search(" " + text) is not None
            if plain and left:
                plain = False
                continue
            # Every character is final now. What became a sign that is read out was a trigger itself, and what became a
            # letter of another script was strange, so after a round without either there is nothing to find.
            if text == before or (plain and not strange and not joined):
                break
            plain = not left and self._triggers.search(text) is None
            if plain and not joined and self._strange.search(text) is None:
                break
        return text

    def clean(self, text: str) -> str:
        """Without what nobody sees, with plain digits and apostrophes: so that numbers and abbreviations are found."""
        return unicodedata.normalize("NFC", text.translate(self.cleaning))

    def spelled(self, text: str) -> str:
        """Every character in its final form."""
        return self._characters(text, self._strange.search(text) is not None)

    def _characters(self, text: str, strange: bool) -> str:
        if strange:
            text = mend(text, self.language_rules.script, self.letters, self._look_alikes)
        if self._context_casing:
            text = before_lowering(text, self.language_rules.casing)
        if self._others is None:
            return text.translate(self.table)
        return self._others.sub(lambda match: match.group().translate(self.table), text)

    def finish(self, text: str) -> tuple[str, bool]:
        """Single spaces, NFC, what depends on the letters around; and whether NFC joined letters, which may change more."""
        text, mended = _single_spaces(text), False
        if not text.isascii():
            before, text = text, self._sequences.mend(text)
            mended = text != before
        for mark in self.inside:
            if mark in text and (mark in (text[0], text[-1]) or f" {mark}" in text or f"{mark} " in text):
                text = _single_spaces(self._edges.sub("", text))
                break
        if self._no_spaces:
            text = _BESIDE_NO_LATIN.sub("", text)
        if text.isascii():
            return text, mended
        joined = mended or not unicodedata.is_normalized("NFC", text)
        if joined:
            text = unicodedata.normalize("NFC", text)
        if ("\u0307" in text or "σ" in text) and self.language_rules.lowercase:
            return unicodedata.normalize("NFC", after_lowering(text, self.language_rules.casing)), True
        return text, joined

    def _that_become(self, wanted: Callable[[str], bool], cleaned: Collection[str] = ()) -> Iterator[str]:
        """Characters that are not wanted and become, or hold, one that is; and those that cleaning drops or makes `cleaned`."""
        language_rules = self.language_rules
        others = {*language_rules.map, *self._variants, *compatible_characters(language_rules.compatibility)}
        others |= {other for c in self._look_alikes for other in (c.upper(), c.title(), "İ") if len(other) == 1}
        others |= {*INVISIBLE, *JOINERS} if cleaned else set()
        for character in sorted(others):
            clean = self.cleaning[ord(character)]
            seen = cleaned and clean != character and (not clean or any(c in cleaned for c in clean))
            if not wanted(character) and (seen or any(map(wanted, self.table[ord(character)]))):
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
        """What is left of a character when nothing more changes it."""
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
        if (
            character in language_rules.drop
        ):  # "evet,hayır" stays two words: a dropped mark leaves a space, a sign nothing
            return " " if unicodedata.category(character)[0] in "PSZ" else ""
        if character in INVISIBLE or (character in JOINERS and language_rules.joiners == "drop"):
            return ""
        if character in self._variants:
            return self._variants[character]
        if character.isspace():
            return " "
        if character == "'" and language_rules.apostrophe in _GONE:
            return _GONE[language_rules.apostrophe]
        if character in HYPHENS and language_rules.hyphen != "keep":
            return _GONE.get(language_rules.hyphen, "-")
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
    """For text whose spaces are all U+0020, as `Normalizer.table` makes them: split and join take four times as long."""
    text = text.strip(" ")
    return " ".join(text.split()) if "  " in text else text


def _one_of(characters: Iterable[str]) -> re.Pattern[str]:
    listed = "".join(map(re.escape, sorted(characters)))
    return re.compile(f"[{listed}]" if listed else r"(?!)")


def require_text(text: str) -> None:
    """Raise AnadilError for half a surrogate pair: it can be neither written to a file nor read out."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AnadilError(
            f"the text holds half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start + 1}\n"
            "  next: make the file again from its source as UTF-8"
        ) from None
