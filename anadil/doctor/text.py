"""What is wrong with the texts of a split, read once."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from anadil.doctor import findings as kinds
from anadil.doctor.findings import Finding, Severity, found
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.text.alphabet import doubtful, labels_from_counts, rare_labels
from anadil.text.rules import RulesByLanguage, TextRules, describe

# Letters that look like others: which pairs there are, and which of them stand in a text by mistake.
# A Cyrillic "а" in a Latin word looks right, is another label to the recogniser, and is never learned. But the Greek
# ω
# and ε of Mboshi's orthography are meant. So a letter of another script is a mistake only if it is rare beside its
# twin, or if the words it stands in are mostly there with the twin as well.
# Facts: Unicode Technical Standard 39 (confusables.txt), and letter forms that keyboards of minority languages lack.

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


DOT_ABOVE = "\u0307"
_BEARERS = "LMN"  # first letters of the categories that a combining mark may follow
_JOINERS = "\u200c\u200d"  # zero-width, between letters and vowel signs of Indic scripts and Arabic
_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # follow emoji, which are told as symbols
_SYMBOLIC = frozenset("#%&*/@\\_^`{}|~<>+=$§¶†‡•※‰")  # punctuation and others that stand for words or for nothing
_MEANT = frozenset("〇" + _JOINERS)
_AT_ONCE = 5000  # texts


@dataclass
class Texts:
    """What is known of the texts of a split: normalised text is not kept, a million lines of it would not fit."""

    by_language: dict[str, Counter[str]] = field(default_factory=dict)  # characters of normalised texts, without spaces
    hashes: array[int] = field(default_factory=lambda: array("q"))  # one a text; 0: no text
    n_characters: array[int] = field(default_factory=lambda: array("i"))  # without spaces
    words: set[int] = field(default_factory=set)  # hashes
    # utterances with a character that is not in the alphabet, by language and character
    doubtful: dict[tuple[str, str], list[Utterance]] = field(default_factory=dict)

    @cached_property
    def characters(self) -> Counter[str]:
        """Characters of the normalised texts in all languages, without spaces."""
        return sum(self.by_language.values(), Counter())


class _Alphabet:
    """The characters met so far, and patterns that find the doubtful ones among them."""

    def __init__(self, rules: TextRules, allowed: Collection[str]) -> None:
        self.known: set[str] = set()
        self.rules, self.allowed = rules, set(allowed)
        self.dotted_i = rules.language_rules.casing != "lithuanian"  # which means it
        self._compile()

    def meet(self, characters: Iterable[str]) -> None:
        if not self.known.issuperset(characters):
            self.known.update(characters)
            self._compile()

    def _compile(self) -> None:
        symbols = [c for c in self.known if c not in self.allowed and _is_symbol(c)]
        orphans, strange = doubtful(self.rules, self.known - self.allowed - set(symbols))  # symbols are told as such
        self.doubtful = re.compile(_class({*orphans, *strange}) or r"(?!)")
        self.symbols = re.compile(_class(symbols) or r"(?!)")
        kinds_of = {c: unicodedata.category(c)[0] for c in self.known}
        marks = _class([c for c, kind in kinds_of.items() if kind == "M" and c not in _SELECTORS])
        bearers = _class([c for c, kind in kinds_of.items() if kind in _BEARERS or c in _JOINERS or c == "◌"])
        parts = [f"(?<!{bearers}){marks}" if bearers else marks, f"({marks})\\1"] if marks else []
        if self.dotted_i:
            parts.append(f"[iıİ]{DOT_ABOVE}")
        self.stray = re.compile("|".join(parts) or r"(?!)")


def read_texts(
    utterances: Sequence[Utterance],
    rules: RulesByLanguage,
    allowed: Collection[str] = (),
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[Texts, list[Finding]]:
    """Normalise every text once, by the rules of its language. `allowed` are symbols that are labels."""
    texts, findings = Texts(), []
    alphabets: dict[str, _Alphabet] = {}
    for start in range(0, len(utterances), _AT_ONCE):
        some = utterances[start : start + _AT_ONCE]
        normal = []
        for utterance in some:
            text, wrong = _normal(utterance, rules.of(utterance.language))
            normal.append(text)
            findings += wrong
            texts.hashes.append(hash(text) or 1 if text else 0)
            texts.n_characters.append(len(text) - text.count(" "))
        languages = [rules.of(one.language).language for one in some]
        for language in dict.fromkeys(languages):
            if language not in alphabets:
                alphabets[language] = _Alphabet(rules.of(language), allowed)
            pairs = [
                (one.text, text) for one, text, its in zip(some, normal, languages, strict=True) if its == language
            ]
            _meet(language, pairs, texts, alphabets[language])
        for utterance, text, language in zip(some, normal, languages, strict=True):
            findings += _line_findings(utterance, text, alphabets[language])
            for character in set(alphabets[language].doubtful.findall(text)):
                texts.doubtful.setdefault((language, character), []).append(utterance)
        on_progress(start + len(some))
    for characters in texts.by_language.values():
        for gap in (" ", "\n"):
            del characters[gap]
    return texts, findings


def _meet(language: str, pairs: Sequence[tuple[str, str]], texts: Texts, alphabet: _Alphabet) -> None:
    """Count the characters and words of texts in one language, each given as written and normalised."""
    joined = "\n".join(normal for _, normal in pairs)
    characters = texts.by_language.setdefault(language, Counter())
    characters.update(characters_of(joined))
    texts.words.update(map(hash, set(joined.split())))
    alphabet.meet(characters_of("".join(written for written, _ in pairs)).keys() | characters.keys())


def characters_of(text: str) -> Counter[str]:
    """As Counter(text), in a third of the time for long texts."""
    counts = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))
    codes = np.flatnonzero(counts)
    return Counter(dict(zip(map(chr, codes.tolist()), counts[codes].tolist(), strict=True)))


def _normal(utterance: Utterance, rules: TextRules) -> tuple[str, list[Finding]]:
    try:
        text = rules.normalize(utterance.text)
    except AnadilError as error:  # such as a number that the language's rules cannot spell out
        return "", [found(kinds.SYMBOLS, utterance, str(error), 1, Severity.SPOILS)]
    if text:
        return text, []
    why = f"the text rules leave nothing of {utterance.text!r}" if utterance.text.strip() else "empty text"
    return "", [found(kinds.EMPTY_TEXT, utterance, why, len(utterance.text))]


def _line_findings(utterance: Utterance, normal: str, alphabet: _Alphabet) -> Iterator[Finding]:
    text = utterance.text
    if not text.isascii():
        composed = text
        if not unicodedata.is_normalized("NFC", text):
            composed = unicodedata.normalize("NFC", text)
            alphabet.meet(composed)
            yield found(
                kinds.NOT_NFC, utterance, _first_difference(text, composed), abs(len(text) - len(composed)) or 1
            )
        stray = [match.group()[-1] for match in alphabet.stray.finditer(composed)]
        if stray:
            what = f"{describe(dict.fromkeys(stray))} belongs to no letter in {text!r}"
            yield found(kinds.STRAY_MARK, utterance, what, len(stray))
    symbols = alphabet.symbols.findall(normal)
    if symbols:
        yield found(kinds.SYMBOLS, utterance, f"{describe(dict.fromkeys(symbols))} in {normal!r}", len(symbols))


def character_findings(
    utterances: Sequence[Utterance], texts: Texts, rules: RulesByLanguage
) -> tuple[list[Finding], Counter[str]]:
    """Rare characters and look-alikes of the training texts, and how often letters of a second script seem meant."""
    letters = {name: labels_from_counts(rules.of(name), counts) for name, counts in texts.by_language.items()}
    rare = rare_labels(sum((labels.counts for labels in letters.values()), Counter()))
    findings = []
    for character, holders in holding(utterances, rare, rules).items():
        n = rare[character]
        what = f"{describe(character)} is there {n} time{'s' if n > 1 else ''}: {holders[0].text!r}"
        findings.append(found(kinds.RARE_CHARACTER, holders, what, n))
    for (language, character), holders in sorted(texts.doubtful.items()):
        kind = kinds.ORPHAN_MARK if character in letters[language].orphans else kinds.OUTSIDE_ALPHABET
        n = texts.by_language[language][character]
        what = f"{describe(character)} is there {n:,} time{'s' if n > 1 else ''}: {holders[0].text!r}"
        findings.append(found(kind, holders, what, n))
    suspects = candidates(texts.characters)
    if not suspects:
        return findings, Counter()
    pattern = _in_both_cases(suspects)
    hits = [one for one in utterances if pattern.search(one.text)]
    mistakes, meant = look_alikes(
        [normalized(one, rules) for one in hits], texts.characters, lambda word: hash(word) in texts.words
    )
    for one in mistakes:
        twins = f"{one.n:,} of it beside {one.n_right:,} of its twin {describe(one.right)}"
        findings.append(
            found(kinds.LOOK_ALIKE, hits[one.index], f"{describe(one.found)} in {one.word!r}: {twins}", one.n)
        )
    return findings, Counter({letter: texts.characters[letter] for letter in meant})


def holding(
    utterances: Sequence[Utterance], characters: Collection[str], rules: RulesByLanguage
) -> dict[str, list[Utterance]]:
    """The utterances with each of these characters in their normalised text."""
    holders: dict[str, list[Utterance]] = {character: [] for character in characters}
    pattern = _in_both_cases(characters)
    for utterance in utterances if holders else ():
        if pattern.search(unicodedata.normalize("NFC", utterance.text)):
            for character in set(normalized(utterance, rules)).intersection(holders):
                holders[character].append(utterance)
    hidden = {character for character, found_in in holders.items() if not found_in}  # text.map makes them of others
    for utterance in utterances if hidden else ():
        for character in set(normalized(utterance, rules)).intersection(hidden):
            holders[character].append(utterance)
    return {character: found_in for character, found_in in holders.items() if found_in}


def normalized(utterance: Utterance, rules: RulesByLanguage) -> str:
    """The normalised text; empty where the rules fail, which `read_texts` reports."""
    try:
        return rules.of(utterance.language).normalize(utterance.text)
    except AnadilError:
        return ""


def _is_symbol(character: str) -> bool:
    if character in _SYMBOLIC:
        return True
    category = unicodedata.category(character)
    if character in _MEANT or category == "Sk":  # such as the tone letters of the phonetic alphabet
        return False
    return category[0] in "NSC"


def _in_both_cases(characters: Collection[str]) -> re.Pattern[str]:
    return re.compile(_class({one for c in characters for one in (*c, *c.upper(), *c.title())}) or r"(?!)")


def _class(characters: Collection[str]) -> str:
    """A regular expression for one of these characters; empty for none."""
    return f"[{''.join(map(re.escape, sorted(characters)))}]" if characters else ""


def _first_difference(text: str, composed: str) -> str:
    """The characters of `text` that NFC makes others of, at the first such place."""
    start = next((i for i, (a, b) in enumerate(zip(text, composed, strict=False)) if a != b), len(composed))
    while start > 0 and (start == len(text) or unicodedata.combining(text[start])):
        start -= 1
    end = start + 1
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return f"{describe(text[start:end])} in {text!r}"
