"""Letters that look like others: which pairs there are, and which of them stand in a text by mistake.

A Cyrillic "а" in a Latin word looks right, is another label to the recogniser, and is never learned. But the Greek ω
and ε of Mboshi's orthography are meant. So a letter of another script is a mistake only if it is rare beside its
twin, or if the words it stands in are mostly there with the twin as well.
Facts: Unicode Technical Standard 39 (confusables.txt), and letter forms that keyboards of minority languages lack.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

TWINS = (
    "aаα", "bвβ", "cсϲ", "dԁ", "eеεє", "hнһη", "iіι", "jјϳ", "kкκ", "lӏ", "mмμ", "nνп", "oоοσ", "pрρ", "qԛ", "sѕ",
    "tтτ", "uυ", "vνѵ", "wωԝ", "xхχ", "yуγүυ", "zζ", "əә", "ǝә", "ɛεє", "æӕ", "ɣγ", "ɩι", "ɔͻ", "çҫ", "өɵθ", "ғƒ", "ıі",
)  # fmt: skip
"""Of different scripts: the same shape in small or in capital letters."""
SAME_SCRIPT = (
    "əǝ", "şș", "ţț", "gɡ", "aɑ", "đɖ", "ŋƞ", "ʃʅ", "'ʼʻ‘’`´ʹ′ꞌˈ", "-‐‑−", "يیى", "كکڪ", "هہ",
)  # fmt: skip
"""Of one script (ə of Azeri and ǝ of West Africa, Turkish ş and Romanian ș, Arabic and Persian yeh and kaf, ...)."""

BICAMERAL = ("LATIN", "GREEK", "CYRILLIC")
RARE_SHARE = 0.05  # of the twin's occurrences
RARE_SHARE_SAME_SCRIPT, MIN_TWINS = 0.02, 50  # both forms may be letters of the language: only a great imbalance tells
TWO_SCRIPTS = 0.2  # share of the letters from which a second script is the text's own too
KNOWN_WORDS = 0.5  # share of a letter's words that are there with its twin as well


@dataclass(frozen=True, slots=True)
class LookAlike:
    """`found` stands in `word` where `right` is usual; `n` times in all, beside `n_right`."""

    index: int  # of the text
    word: str
    found: str
    right: str
    n: int
    n_right: int


def look_alikes(
    texts: Sequence[str], characters: Counter[str], is_word: Callable[[str], bool]
) -> tuple[list[LookAlike], set[str]]:
    """The mistakes in normalised `texts`, and the letters of a second script that seem to be meant.

    `characters` counts those of the whole corpus, of which `texts` need only be the part with `candidates`.
    `is_word` tells whether the corpus has a word.
    """
    home = _home_scripts(characters)
    suspects: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
    for index, text in enumerate(texts):
        for word in text.split():
            mended, pairs = _mend(word, home, characters)
            for pair in pairs:
                suspects[pair].append((index, word, mended))
    mistakes: list[LookAlike] = []
    meant: set[str] = set()
    for (letter, right), places in suspects.items():
        places = [place for place in places if _mixed(place[1]) or is_word(place[2])]  # noqa: PLW2901
        types = {(word, mended) for _, word, mended in places}
        with_twin = sum(is_word(mended) for _, mended in types)
        rare = len(places) <= RARE_SHARE * characters[right]
        if places and (rare or with_twin > KNOWN_WORDS * len(types)):
            n, n_right = len(places), characters[right]
            mistakes += [LookAlike(index, word, letter, right, n, n_right) for index, word, _ in places]
        elif places:
            meant.add(letter)
    return mistakes + list(_of_one_script(texts, characters)), meant


def candidates(characters: Counter[str]) -> set[str]:
    """Characters of a corpus that may be mistaken for others in it."""
    home = _home_scripts(characters)
    across = {c for c in characters if _foreign(c, home) or len(home) > 1} if len(_scripts(characters)) > 1 else set()
    return {c for c in across if _twins_of(c, characters)} | {rare for rare, _ in _imbalanced(characters)}


@lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """LATIN, GREEK or CYRILLIC; empty for all others."""
    first = unicodedata.name(letter, "").split(" ")[0]
    return first if first in BICAMERAL and unicodedata.category(letter)[0] == "L" else ""


def _scripts(characters: Counter[str]) -> Counter[str]:
    scripts: Counter[str] = Counter()
    for character, n in characters.items():
        scripts[script_of(character)] += n
    del scripts[""]
    return scripts


def _home_scripts(characters: Counter[str]) -> set[str]:
    scripts = _scripts(characters)
    return {script for script, n in scripts.items() if n >= TWO_SCRIPTS * scripts.total()}


def _foreign(character: str, home: set[str]) -> bool:
    script = script_of(character)
    return bool(script) and script not in home


def _mend(word: str, home: set[str], characters: Counter[str]) -> tuple[str, list[tuple[str, str]]]:
    """The word with its letters of another script replaced by their twins, and the pairs; nothing if one has none."""
    scripts = Counter(filter(None, map(script_of, word)))
    if not scripts or (len(scripts) == 1 and (len(home) > 1 or next(iter(scripts)) in home)):
        return word, []
    at_home = [script for script in scripts if script in home] or sorted(home)[:1]
    main = max(at_home, key=lambda script: scripts[script])
    n_other = scripts.total() - scripts[main]
    if scripts[main] and n_other > scripts[main]:
        return word, []  # "ATMка": letters and an ending
    pairs, mended = [], []
    for character in word:
        if script_of(character) in ("", main):
            mended.append(character)
            continue
        twins = [twin for twin in _twins_of(character, characters) if script_of(twin) == main]
        if not twins:
            return word, []
        twin = max(twins, key=lambda one: characters[one])
        pairs.append((character, twin))
        mended.append(twin)
    return "".join(mended), list(dict.fromkeys(pairs))


@lru_cache(maxsize=4096)
def _group(character: str) -> tuple[str, ...]:
    """Twins of a letter, its accents kept: ά is the twin of á."""
    decomposed = unicodedata.normalize("NFD", character)
    for base, marks in ((character, ""), (decomposed[0], decomposed[1:])):
        others = [twin for group in TWINS if base in group for twin in group if twin != base]
        if others:
            return tuple(unicodedata.normalize("NFC", twin + marks) for twin in dict.fromkeys(others))
    return ()


def _twins_of(character: str, characters: Counter[str]) -> list[str]:
    return [
        twin for twin in _group(character) if characters[twin[0]] > 0 and script_of(twin[0]) != script_of(character)
    ]


def _mixed(word: str) -> bool:
    return len({script_of(character) for character in word} - {""}) > 1


def _imbalanced(characters: Counter[str]) -> Iterator[tuple[str, str]]:
    for group in SAME_SCRIPT:
        right = max(group, key=lambda one: characters[one])
        if characters[right] >= MIN_TWINS:
            for other in group:
                if other != right and 0 < characters[other] <= RARE_SHARE_SAME_SCRIPT * characters[right]:
                    yield other, right


def _of_one_script(texts: Sequence[str], characters: Counter[str]) -> Iterator[LookAlike]:
    for letter, right in _imbalanced(characters):
        for index, text in enumerate(texts):
            for word in text.split() if letter in text else ():
                if letter in word:
                    yield LookAlike(index, word, letter, right, characters[letter], characters[right])
