"""From a sentence as it is written to the words that are said, in the letters of the language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property

from anadil.errors import AnadilError
from anadil.text.casing import after_lowering, before_lowering, lower_letter
from anadil.text.expansions import UNSTUCK, Expander, Note
from anadil.text.invisible import INVISIBLE, JOINERS, NO_CHARACTERS, ascii_digit, compatible
from anadil.text.look_alikes import look_alikes, mend
from anadil.text.patterns import triggers
from anadil.text.writing import Policy, Writing

HYPHENS = "-\u2010\u2011"
MAX_ROUNDS = 8
"""Most texts settle after one or two; this is for those made to puzzle."""

_BESIDE_NO_LATIN = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
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

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.expander = Expander(writing)
        self._digits, self._signs = triggers(writing)
        self._variants = {variant: letter for letter, variants in writing.equivalents.items() for variant in variants}
        self._context_casing = writing.lowercase and writing.casing not in ("default", "none", "dutch", "greek")
        self._no_spaces = writing.spaces == "none"
        self.cleaning, self.table = Table(self._clean), Table(self._final)
        self._look_alikes = look_alikes(writing.script) if writing.look_alikes == "map" else {}
        foreign = "".join(sorted(set(self._look_alikes) - self.letters))
        self._strange = re.compile(f"[{foreign}]" if foreign else r"(?!)")
        inside = JOINERS * (writing.joiners == "keep")
        inside += "'" * (writing.apostrophe == "inside") + "-" * (writing.hyphen == "inside")
        self.inside = inside
        self._edges = re.compile(rf"(?<!\S)[{inside}]+|[{inside}]+(?!\S)" if inside else r"(?!)")

    @cached_property
    def letters(self) -> frozenset[str]:
        """Every character of the alphabet, of loan letters and of marks, in both cases."""
        small = "".join((*self.writing.alphabet, *self.writing.loan_letters, *self.writing.marks))
        return frozenset(small + small.upper())

    def __call__(self, text: str, note: Note = lambda source, said: None) -> str:
        """Raises AnadilError for half a surrogate pair, which is no text."""
        if not text.isascii():
            require_text(text)
            text = unicodedata.normalize("NFC", text)
        for _ in range(MAX_ROUNDS):
            before, plain = text, self.is_plain(text)
            if not plain:
                text = self.expander.expand(self.clean(text), note)
            text, joined = self.finish(self.spelled(text))
            if not plain and self._digits.search(text):
                text = text.translate(UNSTUCK)
            if text == before or (not joined and self.is_plain(text) and self._strange.search(text) is None):
                break  # every character is final and there is nothing to spell: another round would change nothing
        return text

    def is_plain(self, text: str) -> bool:
        """Whether there is nothing to spell out."""
        return self._digits.search(text) is None and self._signs.search(text) is None

    def clean(self, text: str) -> str:
        """Without what nobody sees, with plain digits and apostrophes: so that numbers and abbreviations are found."""
        return unicodedata.normalize("NFC", text.translate(self.cleaning))

    def spelled(self, text: str) -> str:
        """Every character in its final form."""
        if self._strange.search(text):
            text = mend(text, self.writing.script, self.letters, self._look_alikes)
        if self._context_casing:
            text = before_lowering(text, self.writing.casing)
        return text.translate(self.table)

    def finish(self, text: str) -> tuple[str, bool]:
        """Single spaces, NFC, what depends on the letters around; and whether NFC joined letters, which may change more."""
        for mark in self.inside:
            if mark in text:
                text = self._edges.sub("", text)
                break
        text = " ".join(text.split())
        if self._no_spaces:
            text = _BESIDE_NO_LATIN.sub("", text)
        if text.isascii():
            return text, False
        joined = not unicodedata.is_normalized("NFC", text)
        if joined:
            text = unicodedata.normalize("NFC", text)
        if ("\u0307" in text or "σ" in text) and self.writing.lowercase:
            return unicodedata.normalize("NFC", after_lowering(text, self.writing.casing)), True
        return text, joined

    def _clean(self, character: str) -> str:
        if character in INVISIBLE or character in NO_CHARACTERS:
            return ""
        if character in JOINERS and self.writing.joiners == "drop":
            return ""
        if character in self.writing.map or character in self.writing.drop:
            return character
        if self.writing.digits == "spell":
            character = ascii_digit(character)
        character = compatible(character, self.writing.compatibility)
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
        writing = self.writing
        if character in writing.map:
            return writing.map[character]
        if character in writing.drop:  # "evet,hayır" stays two words: a dropped mark leaves a space, a sign nothing
            return " " if unicodedata.category(character)[0] in "PSZ" else ""
        if character in INVISIBLE or (character in JOINERS and writing.joiners == "drop"):
            return ""
        if character in self._variants:
            return self._variants[character]
        if character == "'" and writing.apostrophe in _GONE:
            return _GONE[writing.apostrophe]
        if character in HYPHENS and writing.hyphen != "keep":
            return _GONE.get(writing.hyphen, "-")
        if writing.digits == "drop" and character.isdecimal():
            return " "
        plain = compatible(character, writing.compatibility)
        if plain != character:
            return plain
        return lower_letter(character, writing.casing) if writing.lowercase and writing.casing != "none" else character


def require_text(text: str) -> None:
    """Raise AnadilError for half a surrogate pair: it can be neither written to a file nor read out."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AnadilError(
            f"the text holds half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start + 1}\n"
            "  next: make the file again from its source as UTF-8"
        ) from None
