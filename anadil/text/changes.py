"""What the rules did to a text: every character that went or became another, every number that was spelled, counted."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anadil.errors import AnadilError, Problem, summarize
from anadil.files import whole_file
from anadil.manifest import read_manifest, write_manifest
from anadil.text.casing import lower_letter
from anadil.text.look_alikes import mixed_words
from anadil.text.rules import TextRules

EXAMPLE_LENGTH = 60


@dataclass
class Changes:
    """Counts over `n_texts` texts. `examples` has the first text of each character, pair or word that is counted."""

    n_texts: int = 0
    n_changed: int = 0
    removed: Counter[str] = field(default_factory=Counter)  # character
    mapped: Counter[tuple[str, str]] = field(default_factory=Counter)  # character, what it became; not its small letter
    said: Counter[tuple[str, str]] = field(default_factory=Counter)  # what was written, the words
    unspelled: Counter[str] = field(default_factory=Counter)  # digits that are left, because no rule spells them
    outside: Counter[str] = field(default_factory=Counter)  # characters left that are not in the language's alphabet
    mixed: Counter[str] = field(default_factory=Counter)  # words with letters of two scripts
    examples: dict[str, str] = field(default_factory=dict)

    def touched(self) -> Counter[str]:
        """How often each character was removed or became another."""
        counts = Counter(self.removed)
        for (source, _), count in self.mapped.items():
            counts[source] += count
        return counts

    def listed(self) -> list[tuple[str, str, int]]:
        """(what was written, what became of it, times), the most frequent first."""
        rows = [(c, "(removed)", n) for c, n in self.removed.items()]
        rows += [(source, final, n) for (source, final), n in self.mapped.items()]
        rows += [(source, words, n) for (source, words), n in self.said.items()]
        rows += [(c, "(left: not in the alphabet)", n) for c, n in self.outside.items()]
        rows += [(word, "(letters of two scripts)", n) for word, n in self.mixed.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "texts": self.n_texts,
            "changed": self.n_changed,
            "removed": dict(self.removed.most_common()),
            "mapped": [[*pair, count] for pair, count in self.mapped.most_common()],
            "said": [[*pair, count] for pair, count in self.said.most_common()],
            "unspelled": dict(self.unspelled.most_common()),
            "outside": dict(self.outside.most_common()),
            "mixed": dict(self.mixed.most_common()),
            "examples": self.examples,
        }


def changes(rules: TextRules, texts: Iterable[str]) -> Changes:
    """Normalise every text and count what that did."""
    found = Changes()
    for text in texts:
        record(found, rules, text)
    return found


def alphabet_of(rules: TextRules) -> frozenset[str]:
    """Every character that a normalised text of the language may hold; empty if its file names no alphabet."""
    letters = rules.normalizer.letters
    language_rules = rules.language_rules
    if not letters and not language_rules.whole_scripts:
        return frozenset()
    marks = "'" * (language_rules.apostrophe in ("keep", "inside")) + "-" * (
        language_rules.hyphen in ("keep", "inside")
    )
    joiners = "\u200c\u200d" if language_rules.joiners == "keep" else ""
    return letters | frozenset(" " + language_rules.keep + marks + joiners)


def outside_alphabet(rules: TextRules, text: str) -> str:
    """Characters of a normalised text that its language's alphabet has not, each occurrence."""
    allowed = alphabet_of(rules)
    if not allowed:
        return ""
    return "".join(c for c in text if c not in allowed and not _in_scripts(c, rules.language_rules.whole_scripts))


def _in_scripts(character: str, scripts: tuple[str, ...]) -> bool:
    import regex

    return any(regex.match(rf"\p{{Script={script}}}", character) for script in scripts)


def record(found: Changes, rules: TextRules, text: str) -> str:
    """Normalise one text, add what that did to `found`, and return the normalised text."""
    normalizer = rules.normalizer
    said: list[tuple[str, str]] = []
    text = unicodedata.normalize("NFC", text)
    normal = spelled = normalizer(text, lambda source, words: said.append((source, words)))
    found.n_texts += 1
    found.n_changed += normal != text
    written = text
    for source, _ in said:
        written = written.replace(source, " ", 1)
    for character, count in Counter(written).items():
        _add_character(found, rules, character, count, text)
    for mark in normalizer.inside:  # those at the edges of words
        lost = written.translate(normalizer.cleaning).count(mark) - normal.count(mark)
        if lost > 0:
            found.removed[mark] += lost
            found.examples.setdefault(mark, _shortened(text))
    for pair in said:
        found.said[pair] += 1
        found.examples.setdefault(pair[0], _shortened(text))
    for word in mixed_words(text, rules.language_rules.script, normalizer.letters):
        found.mixed[word] += 1
    for character in outside_alphabet(rules, normal):
        found.outside[character] += 1
        found.examples.setdefault(character, _shortened(text))
    if rules.language_rules.digits == "spell":
        found.unspelled.update(character for character in normal if character.isdecimal())
    if rules.unknown == "drop" and rules.labels:
        normal = rules.normalize(text)
        for character in rules.unlabelled(spelled):
            found.removed[character] += 1
            found.examples.setdefault(character, _shortened(text))
    return normal


def _add_character(found: Changes, rules: TextRules, character: str, count: int, text: str) -> None:
    final = rules.normalizer.table[ord(character)]
    small = lower_letter(character, rules.language_rules.casing) if rules.language_rules.lowercase else character
    if final == small or character.isspace() or unicodedata.normalize("NFC", final) == small:
        return
    if final.strip():
        found.mapped[character, final] += count
    else:
        found.removed[character] += count
    found.examples.setdefault(character, _shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= EXAMPLE_LENGTH else text[: EXAMPLE_LENGTH - 1] + "…"


# Text rules over a manifest or a text file: the file that comes out, what was done to it, and what could not be.

Progress = Callable[[int, int], None]
_NEXT = "mend them, add rules for them (--rules), or leave them out (--skip-bad)"


@dataclass
class Normalized:
    """What was done. `problems` were left out of the file."""

    changes: Changes = field(default_factory=Changes)
    problems: list[Problem] = field(default_factory=list)
    total: int = 0


def normalize_manifest(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write the manifest again with normalised text; every other key stays.

    Raises AnadilError listing the texts that cannot be normalised, unless `skip_bad` says to leave them out.
    """
    utterances = read_manifest(path)
    result, kept = Normalized(total=len(utterances)), []
    for done, utterance in enumerate(utterances, start=1):
        said = _said(result, rules, utterance.text, utterance.source)
        if said is not None:
            kept.append(replace(utterance, text=said))
        if done % 1000 == 0 or done == len(utterances):
            on_progress(done, len(utterances))
    _refuse(result, skip_bad)
    if not kept:
        raise AnadilError(f"{path}: nothing is left\n  next: check --lang and --rules")
    write_manifest(out, kept)
    return result


def normalize_lines(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write a text file again, a line for a line; blank lines stay blank. Reads and writes as it goes: any size.

    Raises AnadilError as `normalize_manifest`, and if the file is not there.
    """
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    result, size, read = Normalized(), path.stat().st_size, 0
    with (
        whole_file(out) as beside,
        open(path, "rb") as lines,
        open(beside, "w", encoding="utf-8", newline="\n") as file,
    ):
        for number, raw in enumerate(lines, start=1):
            read += len(raw)
            if number % 10_000 == 0 or read == size:
                on_progress(read, size)
            where = f"{path}:{number}"
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                result.total += 1
                result.problems.append(Problem(where, f"not UTF-8 at byte {error.start}"))
                continue
            result.total += bool(text.strip())
            said = _said(result, rules, text, where) if text.strip() else ""
            if said is not None:
                file.write(said + "\n")
        _refuse(result, skip_bad)
    return result


def _said(result: Normalized, rules: TextRules, text: str, where: str) -> str | None:
    """The normalised text, or None and a problem."""
    try:
        said = record(result.changes, rules, text)
    except AnadilError as error:
        result.problems.append(Problem(where, str(error)))
        return None
    digits = next((c for c in said if c.isdecimal()), None) if rules.language_rules.digits == "spell" else None
    if digits is not None:
        result.problems.append(Problem(where, f"a number that no rule spells in {said!r}{rules.why_digits(digits)}"))
    elif not said:
        what = "empty text" if not text.strip() else f"nothing is left of the text {text!r}"
        result.problems.append(Problem(where, what))
    else:
        return said
    return None


def _refuse(result: Normalized, skip_bad: bool) -> None:
    if result.problems and not skip_bad:
        raise AnadilError(summarize(result.problems, "texts", result.total, _NEXT))
