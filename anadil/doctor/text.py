"""What is wrong with the texts of a split. Each text is normalised once."""

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
from anadil.doctor.findings import Finding, Severity, make_finding
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.text.alphabet import doubtful, labels_from_counts, rare_labels
from anadil.text.look_alikes import script_of
from anadil.text.rules import RulesByLanguage, TextRules, describe

_DOT_ABOVE = "\u0307"
_BASES = "LMN"  # first letters of the categories that a combining mark may follow
_JOINERS = "\u200c\u200d"  # zero-width, between letters and vowel signs of Indic scripts and Arabic
_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # follow emoji, which are reported as symbols
_SYMBOLS = frozenset("#%&*/@\\_^`{}|~<>+=$§¶†‡•※‰")  # punctuation and others that stand for words or for nothing
_NO_SYMBOLS = frozenset("〇" + _JOINERS)
_TEXTS_AT_ONCE = 5000


@dataclass
class Texts:
    """Counts and hashes of the texts of a split. The normalised texts are not kept: a million lines would not fit."""

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
    """The characters seen so far in one language, and patterns that find the doubtful ones among them."""

    def __init__(self, rules: TextRules, allowed: Collection[str]) -> None:
        self.known: set[str] = set()
        self.rules, self.allowed = rules, set(allowed)
        self.dotted_i = rules.language_rules.casing != "lithuanian"  # where a dot above an i is written
        self._compile()

    def add(self, characters: Iterable[str]) -> None:
        if not self.known.issuperset(characters):
            self.known.update(characters)
            self._compile()

    def _compile(self) -> None:
        symbols = [c for c in self.known if c not in self.allowed and _is_symbol(c)]
        others = self.known - self.allowed - set(symbols)  # symbols are reported as such
        orphans, strange = doubtful(self.rules, others)
        self.doubtful = re.compile(_class({*orphans, *strange}) or r"(?!)")
        self.symbols = re.compile(_class(symbols) or r"(?!)")
        kinds_of = {c: unicodedata.category(c)[0] for c in self.known}
        marks = _class([c for c, kind in kinds_of.items() if kind == "M" and c not in _SELECTORS])
        bases = _class([c for c, kind in kinds_of.items() if kind in _BASES or c in _JOINERS or c == "◌"])
        parts = [f"(?<!{bases}){marks}" if bases else marks, f"({marks})\\1"] if marks else []
        if self.dotted_i:
            parts.append(f"[iıİ]{_DOT_ABOVE}")
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
    for start in range(0, len(utterances), _TEXTS_AT_ONCE):
        batch = utterances[start : start + _TEXTS_AT_ONCE]
        normal = []
        for utterance in batch:
            text, problems = _normalize(utterance, rules.of(utterance.language))
            normal.append(text)
            findings += problems
            texts.hashes.append(hash(text) or 1 if text else 0)
            texts.n_characters.append(len(text) - text.count(" "))
        languages = [rules.of(one.language).language for one in batch]
        for language in dict.fromkeys(languages):
            if language not in alphabets:
                alphabets[language] = _Alphabet(rules.of(language), allowed)
            pairs = [
                (one.text, text) for one, text, its in zip(batch, normal, languages, strict=True) if its == language
            ]
            _count(language, pairs, texts, alphabets[language])
        for utterance, text, language in zip(batch, normal, languages, strict=True):
            findings += _line_findings(utterance, text, alphabets[language])
            for character in set(alphabets[language].doubtful.findall(text)):
                texts.doubtful.setdefault((language, character), []).append(utterance)
        on_progress(start + len(batch))
    for characters in texts.by_language.values():
        for space in (" ", "\n"):
            del characters[space]
    return texts, findings


def _count(language: str, pairs: Sequence[tuple[str, str]], texts: Texts, alphabet: _Alphabet) -> None:
    """Count the characters and words of texts in one language, each given as written and normalised."""
    joined = "\n".join(normal for _, normal in pairs)
    characters = texts.by_language.setdefault(language, Counter())
    characters.update(characters_of(joined))
    texts.words.update(map(hash, set(joined.split())))
    alphabet.add(characters_of("".join(written for written, _ in pairs)).keys() | characters.keys())


def characters_of(text: str) -> Counter[str]:
    """The same as Counter(text), in a third of the time for long texts."""
    counts = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))
    codes = np.flatnonzero(counts)
    return Counter(dict(zip(map(chr, codes.tolist()), counts[codes].tolist(), strict=True)))


def _normalize(utterance: Utterance, rules: TextRules) -> tuple[str, list[Finding]]:
    try:
        text = rules.normalize(utterance.text)
    except AnadilError as error:  # such as a number that the language's rules cannot spell out
        return "", [make_finding(kinds.SYMBOLS, utterance, str(error), 1, Severity.SPOILS)]
    if text:
        return text, []
    message = f"the text rules leave nothing of {utterance.text!r}" if utterance.text.strip() else "empty text"
    return "", [make_finding(kinds.EMPTY_TEXT, utterance, message, len(utterance.text))]


def _line_findings(utterance: Utterance, normal: str, alphabet: _Alphabet) -> Iterator[Finding]:
    text = utterance.text
    if not text.isascii():
        composed = text
        if not unicodedata.is_normalized("NFC", text):
            composed = unicodedata.normalize("NFC", text)
            alphabet.add(composed)
            yield make_finding(
                kinds.NOT_NFC, utterance, _first_difference(text, composed), abs(len(text) - len(composed)) or 1
            )
        stray = [match.group()[-1] for match in alphabet.stray.finditer(composed)]
        if stray:
            message = f"{describe(dict.fromkeys(stray))} without a letter in {text!r}"
            yield make_finding(kinds.STRAY_MARK, utterance, message, len(stray))
    symbols = alphabet.symbols.findall(normal)
    if symbols:
        yield make_finding(kinds.SYMBOLS, utterance, f"{describe(dict.fromkeys(symbols))} in {normal!r}", len(symbols))


def character_findings(
    utterances: Sequence[Utterance], texts: Texts, rules: RulesByLanguage
) -> tuple[list[Finding], Counter[str]]:
    """Rare characters and look-alikes of the training texts; letters of a second script that seem intended, with counts."""
    letters = {name: labels_from_counts(rules.of(name), counts) for name, counts in texts.by_language.items()}
    rare = rare_labels(sum((labels.counts for labels in letters.values()), Counter()))
    findings = []
    for character, holders in utterances_with(utterances, rare, rules).items():
        n = rare[character]
        message = f"{describe(character)} occurs {n} time{'s' if n > 1 else ''}: {holders[0].text!r}"
        findings.append(make_finding(kinds.RARE_CHARACTER, holders, message, n))
    for (language, character), holders in sorted(texts.doubtful.items()):
        kind = kinds.ORPHAN_MARK if character in letters[language].orphans else kinds.OUTSIDE_ALPHABET
        n = texts.by_language[language][character]
        message = f"{describe(character)} occurs {n:,} time{'s' if n > 1 else ''}: {holders[0].text!r}"
        findings.append(make_finding(kind, holders, message, n))
    suspects = _candidates(texts.characters)
    if not suspects:
        return findings, Counter()
    pattern = _in_both_cases(suspects)
    hits = [one for one in utterances if pattern.search(one.text)]
    mistakes, intended = look_alikes(
        [normalized(one, rules) for one in hits], texts.characters, lambda word: hash(word) in texts.words
    )
    for one in mistakes:
        counts = f"{one.n:,} of it, {one.n_twin:,} of its twin {describe(one.twin)}"
        findings.append(
            make_finding(kinds.LOOK_ALIKE, hits[one.index], f"{describe(one.letter)} in {one.word!r}: {counts}", one.n)
        )
    return findings, Counter({letter: texts.characters[letter] for letter in intended})


def utterances_with(
    utterances: Sequence[Utterance], characters: Collection[str], rules: RulesByLanguage
) -> dict[str, list[Utterance]]:
    """The utterances whose normalised text has each of these characters."""
    holders: dict[str, list[Utterance]] = {character: [] for character in characters}
    pattern = _in_both_cases(characters)
    for utterance in utterances if holders else ():
        if pattern.search(unicodedata.normalize("NFC", utterance.text)):
            for character in set(normalized(utterance, rules)).intersection(holders):
                holders[character].append(utterance)
    # characters that `text.map` makes of others are in no text as written
    unseen = {character for character, users in holders.items() if not users}
    for utterance in utterances if unseen else ():
        for character in set(normalized(utterance, rules)).intersection(unseen):
            holders[character].append(utterance)
    return {character: users for character, users in holders.items() if users}


def normalized(utterance: Utterance, rules: RulesByLanguage) -> str:
    """The normalised text; empty where the rules fail, which `read_texts` reports."""
    try:
        return rules.of(utterance.language).normalize(utterance.text)
    except AnadilError:
        return ""


def _is_symbol(character: str) -> bool:
    if character in _SYMBOLS:
        return True
    category = unicodedata.category(character)
    if character in _NO_SYMBOLS or category == "Sk":  # such as the tone letters of the IPA
        return False
    return category[0] in "NSC"


def _in_both_cases(characters: Collection[str]) -> re.Pattern[str]:
    return re.compile(_class({one for c in characters for one in (*c, *c.upper(), *c.title())}) or r"(?!)")


def _class(characters: Collection[str]) -> str:
    """A regular expression for one of these characters; empty for none."""
    return f"[{''.join(map(re.escape, sorted(characters)))}]" if characters else ""


def _first_difference(text: str, composed: str) -> str:
    """The first characters of `text` that NFC changes."""
    start = next((i for i, (a, b) in enumerate(zip(text, composed, strict=False)) if a != b), len(composed))
    while start > 0 and (start == len(text) or unicodedata.combining(text[start])):
        start -= 1
    end = start + 1
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return f"{describe(text[start:end])} in {text!r}"


# Look-alikes. A Cyrillic "а" in a Latin word looks right, but it is another label, and too rare to be learned. The Greek
# ω and ε of Mboshi's orthography, however, are intended. So a letter of another script counts as a mistake only if it is
# rare compared with its twin, or if the corpus has most of its words with the twin as well. The normaliser's own table
# (anadil.text.look_alikes) is smaller: it corrects mixed words of a known script without looking at a corpus.
# Sources: Unicode Technical Standard 39 (confusables.txt), and letters that keyboards of minority languages lack.

_TWINS = (
    "aаα", "bвβ", "cсϲ", "dԁ", "eеεє", "hнһη", "iіι", "jјϳ", "kкκ", "lӏ", "mмμ", "nνп", "oоοσ", "pрρ", "qԛ", "sѕ",
    "tтτ", "uυ", "vνѵ", "wωԝ", "xхχ", "yуγүυ", "zζ", "əә", "ǝә", "ɛεє", "æӕ", "ɣγ", "ɩι", "ɔͻ", "çҫ", "өɵθ", "ғƒ", "ıі",
)  # fmt: skip
"""Letters of different scripts that have the same shape as small or as capital letters."""
_SAME_SCRIPT = (
    "əǝ", "şș", "ţț", "gɡ", "aɑ", "đɖ", "ŋƞ", "ʃʅ", "'ʼʻ‘’`´ʹ′ꞌˈ", "-‐‑−", "يیى", "كکڪ", "هہ",
)  # fmt: skip
"""Characters of one script that look alike: Azeri ə and West African ǝ, Turkish ş and Romanian ș, Arabic and Persian yeh."""

_RARE_SHARE = 0.05  # of the twin's occurrences
_RARE_SHARE_SAME_SCRIPT, _MIN_TWINS = 0.02, 50  # stricter: both forms may be letters of the language
_TWO_SCRIPTS = 0.2  # a second script with at least this share of the letters belongs to the text too
_KNOWN_WORDS = 0.5  # share of a letter's words that the corpus also has with its twin


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A letter in a word that is probably a mistake for its twin."""

    index: int  # of the text
    word: str
    letter: str
    twin: str
    n: int  # how often the corpus has `letter`
    n_twin: int


def look_alikes(
    texts: Sequence[str], characters: Counter[str], is_word: Callable[[str], bool]
) -> tuple[list[LookAlike], set[str]]:
    """Probable mistakes in normalised `texts`, and the letters of a second script that seem to be intended.

    `characters` counts those of the whole corpus; `texts` need only be the part that has some of `_candidates`.
    `is_word(word)`: whether the corpus has the word.
    """
    home = _home_scripts(characters)
    suspects: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
    for index, text in enumerate(texts):
        for word in text.split():
            corrected, pairs = _with_twins(word, home, characters)
            for pair in pairs:
                suspects[pair].append((index, word, corrected))
    mistakes: list[LookAlike] = []
    intended: set[str] = set()
    for (letter, twin), places in suspects.items():
        places = [place for place in places if _is_mixed(place[1]) or is_word(place[2])]  # noqa: PLW2901
        types = {(word, corrected) for _, word, corrected in places}
        n_known = sum(is_word(corrected) for _, corrected in types)
        is_rare = len(places) <= _RARE_SHARE * characters[twin]
        if places and (is_rare or n_known > _KNOWN_WORDS * len(types)):
            n, n_twin = len(places), characters[twin]
            mistakes += [LookAlike(index, word, letter, twin, n, n_twin) for index, word, _ in places]
        elif places:
            intended.add(letter)
    return mistakes + list(_same_script_look_alikes(texts, characters)), intended


def _candidates(characters: Counter[str]) -> set[str]:
    """Characters of a corpus that may stand for others by mistake."""
    home = _home_scripts(characters)
    across = {c for c in characters if _foreign(c, home) or len(home) > 1} if len(_scripts(characters)) > 1 else set()
    return {c for c in across if _twins_of(c, characters)} | {rare for rare, _ in _imbalanced(characters)}


def _scripts(characters: Counter[str]) -> Counter[str]:
    scripts: Counter[str] = Counter()
    for character, n in characters.items():
        scripts[script_of(character)] += n
    del scripts[""]
    return scripts


def _home_scripts(characters: Counter[str]) -> set[str]:
    """The scripts that the corpus is written in; others occur by mistake, or in words of other languages."""
    scripts = _scripts(characters)
    return {script for script, n in scripts.items() if n >= _TWO_SCRIPTS * scripts.total()}


def _foreign(character: str, home: set[str]) -> bool:
    script = script_of(character)
    return bool(script) and script not in home


def _with_twins(word: str, home: set[str], characters: Counter[str]) -> tuple[str, list[tuple[str, str]]]:
    """The word with its letters of another script replaced by their twins, and the pairs (letter, twin).

    The word as it is and no pairs if one of these letters has no twin.
    """
    scripts = Counter(filter(None, map(script_of, word)))
    if not scripts or (len(scripts) == 1 and (len(home) > 1 or next(iter(scripts)) in home)):
        return word, []
    own = [script for script in scripts if script in home] or sorted(home)[:1]
    main = max(own, key=lambda script: scripts[script])
    n_other = scripts.total() - scripts[main]
    if scripts[main] and n_other > scripts[main]:
        return word, []  # "ATMка": an abbreviation and an ending
    pairs, corrected = [], []
    for character in word:
        if script_of(character) in ("", main):
            corrected.append(character)
            continue
        twins = [twin for twin in _twins_of(character, characters) if script_of(twin) == main]
        if not twins:
            return word, []
        twin = max(twins, key=lambda twin: characters[twin])
        pairs.append((character, twin))
        corrected.append(twin)
    return "".join(corrected), list(dict.fromkeys(pairs))


@lru_cache(maxsize=4096)
def _all_twins(character: str) -> tuple[str, ...]:
    """Twins of a letter, with the same accents: ά is the twin of á."""
    decomposed = unicodedata.normalize("NFD", character)
    for base, marks in ((character, ""), (decomposed[0], decomposed[1:])):
        others = [twin for group in _TWINS if base in group for twin in group if twin != base]
        if others:
            return tuple(unicodedata.normalize("NFC", twin + marks) for twin in dict.fromkeys(others))
    return ()


def _twins_of(character: str, characters: Counter[str]) -> list[str]:
    """Twins of another script that the corpus has."""
    return [
        twin for twin in _all_twins(character) if characters[twin[0]] > 0 and script_of(twin[0]) != script_of(character)
    ]


def _is_mixed(word: str) -> bool:
    return len({script_of(character) for character in word} - {""}) > 1


def _imbalanced(characters: Counter[str]) -> Iterator[tuple[str, str]]:
    """Pairs (rare character, frequent character) of one script that look alike."""
    for group in _SAME_SCRIPT:
        usual = max(group, key=lambda character: characters[character])
        if characters[usual] >= _MIN_TWINS:
            for other in group:
                if other != usual and 0 < characters[other] <= _RARE_SHARE_SAME_SCRIPT * characters[usual]:
                    yield other, usual


def _same_script_look_alikes(texts: Sequence[str], characters: Counter[str]) -> Iterator[LookAlike]:
    for letter, twin in _imbalanced(characters):
        for index, text in enumerate(texts):
            for word in text.split() if letter in text else ():
                if letter in word:
                    yield LookAlike(index, word, letter, twin, characters[letter], characters[twin])
