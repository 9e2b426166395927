"""Where a label that a model has never seen may start from: its nearest relatives among the labels that it knows."""

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
"""A base letter, then the letters that start from it: those that Unicode does not decompose, Greek and Cyrillic by sound.

A base may have one of its own: ω label_inits from ɔ, and where there is no ɔ, from o.
"""

_FIELDS = BASES.split()
_BASE = {letter: base for base, letters in zip(_FIELDS[::2], _FIELDS[1::2], strict=True) for letter in letters}

WORD_START = "▁"
"""How subword pieces (SentencePiece) write the space before a word."""


@dataclass(frozen=True, slots=True)
class LabelInit:
    """What a label label_inits from: the mean of `sources`, labels of the model that is there; empty for `new`."""

    label: str
    kind: Literal["same", "relative", "mean", "new"]
    sources: tuple[str, ...]


def label_inits(labels: Sequence[str], known: Sequence[str]) -> list[LabelInit]:
    """For each of `labels`, the labels of `known` that it label_inits from.

    In this order: itself; the letter without its marks (ấ, â, a: Unicode decomposition), then its bases in `BASES`,
    then its small letter; another letter with the same base (é from è). A label of several letters label_inits from the mean
    of theirs. A space or ▁ before a word's first letter counts only where it makes the difference.
    """
    spelled: dict[str, str] = {}
    for label in known:
        spelled.setdefault(_spaced(label), label)
    relatives: dict[str, str] = {}  # the first letter on each base
    for label in known:
        for base in _bases(_spaced(label).removeprefix(" ")):
            relatives.setdefault(base, label)
    return [_start(label, spelled, relatives) for label in labels]


def _start(label: str, spelled: dict[str, str], relatives: dict[str, str]) -> LabelInit:
    if _spaced(label) in spelled:
        return LabelInit(label, "same", (spelled[_spaced(label)],))
    letters = _letters(_spaced(label).removeprefix(" "))
    found = [source for source in (_nearest(letter, spelled, relatives) for letter in letters) if source]
    if not found:
        return LabelInit(label, "new", ())
    return LabelInit(label, "relative" if len(letters) == 1 else "mean", tuple(found))


def _nearest(letter: str, spelled: dict[str, str], relatives: dict[str, str]) -> str | None:
    line = [letter, *_bases(letter)]
    for candidate in line:
        for written in (candidate, " " + candidate):
            if written in spelled:
                return spelled[written]
    return next((relatives[base] for base in line if base in relatives), None)


def _bases(letter: str) -> Iterator[str]:
    """What a letter was made from, nearest first: ǘ gives ü, u; ғ gives г, g."""
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
    """Each character with the marks that follow it."""
    letters: list[str] = []
    for character in text:
        if letters and unicodedata.category(character).startswith("M"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _spaced(label: str) -> str:
    return label.replace(WORD_START, " ")
