"""Finds, for each label of a new model, the labels of the source model whose weights it is initialised with."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

BASES = """
a  ɑɐæα    b  ɓƀʙ     c  ƈɕ      d  đɖɗðȡ   e  ɛəǝɘœ   f  ƒɸ      g  ɠǥɡɣ    h  ħɦɥⱨ    i  ıɨɪɩ    j  ɟʝɉ
k  ƙĸⱪ     l  łɫɬɭƚ   m  ɱ       n  ŋɲɳƞ    o  øɔɵ     p  ƥ       q  ʠɋ      r  ɾɽɹʀɍ   s  ßʃʂſ    t  þŧƭʈθ
u  ʊʉʋ     v  ⱱʌ      w  ⱳ       x  χ       y  ƴʏɏ     z  ƶʒʐⱬ    '  ’ʼʻꞌˈʔʕ
ɛ  ε       ɔ  ω       ɣ  γ
b  β       d  δ       z  ζ       i  ηιυ     k  κ       l  λ       m  μ       n  ν       x  ξ       o  ο
p  π       r  ρ       s  σ       t  τ       f  φ       σ  ς
a  ая      b  б       v  в       g  г       d  д       e  еэє     z  зж      i  иыі     k  к       l  л
m  м       n  н       o  о       p  п       r  р       s  сш      t  т       u  ую      f  ф       h  хһ
c  цч      j  ј       а  ә       г  ґғҕ     д  ђ       з  ҙ       к  қҡҝ     л  љ       н  ңҥњ     о  ө
с  ҫ       т  ћ       у  үұ      х  ҳ       ц  џ       ч  ҷҹ      ш  щ
ك  کگڭڪ    ي  یېےى    ب  پٻڀ     ج  چڄڃ     ز  ژ       ت  ٹټٺ     د  ڈډڌ     ر  ڑړ      ف  ڤ       ه  ہھە
ن  ںڼ      و  ۇۋ      س  ښ       כ  ך       מ  ם       נ  ן       פ  ף       צ  ץ
"""
"""Pairs of a base letter and the letters initialised from it.

These are letters that Unicode does not decompose, and Greek and Cyrillic letters by their sound. A base may have a base
itself: ω is initialised from ɔ, or from o if the source model has no ɔ.
"""

_FIELDS = BASES.split()
_BASE = {letter: base for base, letters in zip(_FIELDS[::2], _FIELDS[1::2], strict=True) for letter in letters}

_WORD_START = "▁"
"""SentencePiece's sign for the space before a word."""


@dataclass(frozen=True, slots=True)
class LabelInit:
    """How a label is initialised: from the mean of `sources`, labels of the source model; they are empty for `new`."""

    label: str
    kind: Literal["same", "relative", "mean", "new"]
    sources: tuple[str, ...]


def label_inits(labels: Sequence[str], known: Sequence[str]) -> list[LabelInit]:
    """The initialisation of each of `labels` from the labels of the source model, `known`.

    The first that exists is taken: the label itself; the letter without its marks (ấ, â, a: Unicode decomposition), then
    its bases in `BASES`, then its small letter; another letter with the same base (é from è). A label of several letters
    is initialised from the mean of theirs. A space or ▁ at the start is ignored, unless both forms are known.
    """
    known_by_text: dict[str, str] = {}
    for label in known:
        known_by_text.setdefault(_with_spaces(label), label)
    first_by_base: dict[str, str] = {}
    for label in known:
        for base in _bases(_with_spaces(label).removeprefix(" ")):
            first_by_base.setdefault(base, label)
    return [_label_init(label, known_by_text, first_by_base) for label in labels]


def _label_init(label: str, known_by_text: dict[str, str], first_by_base: dict[str, str]) -> LabelInit:
    text = _with_spaces(label)
    if text in known_by_text:
        return LabelInit(label, "same", (known_by_text[text],))
    letters = _letters(text.removeprefix(" "))
    nearest = (_nearest(letter, known_by_text, first_by_base) for letter in letters)
    sources = tuple(source for source in nearest if source)
    if not sources:
        return LabelInit(label, "new", ())
    return LabelInit(label, "relative" if len(letters) == 1 else "mean", sources)


def _nearest(letter: str, known_by_text: dict[str, str], first_by_base: dict[str, str]) -> str | None:
    candidates = [letter, *_bases(letter)]
    for candidate in candidates:
        for text in (candidate, " " + candidate):
            if text in known_by_text:
                return known_by_text[text]
    return next((first_by_base[base] for base in candidates if base in first_by_base), None)


def _bases(letter: str) -> Iterator[str]:
    """The bases of a letter, nearest first: ü, u for ǘ; г, g for ғ."""
    while (base := _base(letter)) is not None:
        yield base
        letter = base


def _base(letter: str) -> str | None:
    decomposed = unicodedata.normalize("NFD", letter)
    if len(decomposed) > 1 and unicodedata.category(decomposed[-1]).startswith("M"):
        return unicodedata.normalize("NFC", decomposed[:-1])
    small = letter.lower()
    return _BASE.get(letter) or (small if small != letter else None)


def _letters(text: str) -> list[str]:
    """The letters of a text, each with the combining marks that follow it."""
    letters: list[str] = []
    for character in text:
        if letters and unicodedata.category(character).startswith("M"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _with_spaces(label: str) -> str:
    return label.replace(_WORD_START, " ")
