"""Normalises texts, a manifest or a text file, and counts what that changed: characters, numbers, abbreviations."""

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

Progress = Callable[[int, int], None]

_EXAMPLE_LENGTH = 60
_NEXT = "correct them, add rules for them (--rules), or skip them (--skip-bad)"


@dataclass
class Changes:
    """Counts over `n_texts` texts. `examples` holds the first text with each counted character or expression."""

    n_texts: int = 0
    n_changed: int = 0
    removed: Counter[str] = field(default_factory=Counter)  # character removed
    mapped: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # (character, its final form); small letters do not count
    said: Counter[tuple[str, str]] = field(default_factory=Counter)  # (expression as written, its spoken words)
    unspelled: Counter[str] = field(default_factory=Counter)  # digits that stay because no rule spells them out
    outside: Counter[str] = field(
        default_factory=Counter
    )  # characters that stay and are not in the language's alphabet
    mixed: Counter[str] = field(default_factory=Counter)  # words with letters of two scripts
    examples: dict[str, str] = field(default_factory=dict)

    def touched(self) -> Counter[str]:
        """How often each character was removed or replaced."""
        counts = Counter(self.removed)
        for (source, _), count in self.mapped.items():
            counts[source] += count
        return counts

    def listed(self) -> list[tuple[str, str, int]]:
        """Rows of (as written, what it became, count), the most frequent first."""
        rows = [(c, "(removed)", n) for c, n in self.removed.items()]
        rows += [(source, final, n) for (source, final), n in self.mapped.items()]
        rows += [(source, words, n) for (source, words), n in self.said.items()]
        rows += [(c, "(left: not in the alphabet)", n) for c, n in self.outside.items()]
        rows += [(word, "(letters of two scripts)", n) for word, n in self.mixed.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-ready data."""
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
    """Normalise every text and count what that changed."""
    result = Changes()
    for text in texts:
        _record(result, rules, text)
    return result


def alphabet_of(rules: TextRules) -> frozenset[str]:
    """The characters that a normalised text of the language may contain; empty if its rules name no alphabet."""
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
    """The characters of a normalised text that are not in the language's alphabet, every occurrence."""
    allowed = alphabet_of(rules)
    if not allowed:
        return ""
    return "".join(c for c in text if c not in allowed and not _in_scripts(c, rules.language_rules.whole_scripts))


def _in_scripts(character: str, scripts: tuple[str, ...]) -> bool:
    import regex

    return any(regex.match(rf"\p{{Script={script}}}", character) for script in scripts)


def _record(result: Changes, rules: TextRules, text: str) -> str:
    """Normalise one text, add what that changed to `result`, and return the normalised text."""
    normalizer = rules.normalizer
    expansions: list[tuple[str, str]] = []
    text = unicodedata.normalize("NFC", text)
    normal = before_dropping = normalizer(text, lambda written, words: expansions.append((written, words)))
    result.n_texts += 1
    result.n_changed += normal != text
    rest = text
    for written, _ in expansions:
        rest = rest.replace(written, " ", 1)
    for character, count in Counter(rest).items():
        _add_character(result, rules, character, count, text)
    for mark in normalizer.inside:  # dropped at the edges of words
        lost = rest.translate(normalizer.cleaning).count(mark) - normal.count(mark)
        if lost > 0:
            result.removed[mark] += lost
            result.examples.setdefault(mark, _shortened(text))
    for pair in expansions:
        result.said[pair] += 1
        result.examples.setdefault(pair[0], _shortened(text))
    for word in mixed_words(text, rules.language_rules.script, normalizer.letters):
        result.mixed[word] += 1
    for character in outside_alphabet(rules, normal):
        result.outside[character] += 1
        result.examples.setdefault(character, _shortened(text))
    if rules.language_rules.digits == "spell":
        result.unspelled.update(character for character in normal if character.isdecimal())
    if rules.unknown == "drop" and rules.labels:
        normal = rules.normalize(text)
        for character in rules.unlabelled(before_dropping):
            result.removed[character] += 1
            result.examples.setdefault(character, _shortened(text))
    return normal


def _add_character(result: Changes, rules: TextRules, character: str, count: int, text: str) -> None:
    final = rules.normalizer.table[ord(character)]
    small = lower_letter(character, rules.language_rules.casing) if rules.language_rules.lowercase else character
    if final == small or character.isspace() or unicodedata.normalize("NFC", final) == small:
        return
    if final.strip():
        result.mapped[character, final] += count
    else:
        result.removed[character] += count
    result.examples.setdefault(character, _shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= _EXAMPLE_LENGTH else text[: _EXAMPLE_LENGTH - 1] + "…"


@dataclass
class Normalized:
    """The result for a file. Texts with `problems` are not in the file that was written."""

    changes: Changes = field(default_factory=Changes)
    problems: list[Problem] = field(default_factory=list)
    total: int = 0


def normalize_manifest(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write a copy of the manifest with normalised text; every other key stays.

    Raises AnadilError that lists the texts that cannot be normalised; with `skip_bad` they are skipped.
    """
    utterances = read_manifest(path)
    result, kept = Normalized(total=len(utterances)), []
    for done, utterance in enumerate(utterances, start=1):
        normal = normalize_text(result, rules, utterance.text, utterance.source)
        if normal is not None:
            kept.append(replace(utterance, text=normal))
        if done % 1000 == 0 or done == len(utterances):
            on_progress(done, len(utterances))
    _refuse(result, skip_bad)
    if not kept:
        raise AnadilError(f"{path}: no text is left\n  next: check --lang and --rules")
    write_manifest(out, kept)
    return result


def normalize_lines(
    path: Path, out: Path, rules: TextRules, skip_bad: bool = False, on_progress: Progress = lambda done, total: None
) -> Normalized:
    """Write a copy of a text file with each line normalised; blank lines stay blank. The file may have any size.

    Raises AnadilError as `normalize_manifest` does, and if the file does not exist.
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
            normal = normalize_text(result, rules, text, where) if text.strip() else ""
            if normal is not None:
                file.write(normal + "\n")
        _refuse(result, skip_bad)
    return result


def normalize_text(result: Normalized, rules: TextRules, text: str, where: str) -> str | None:
    """The normalised text, or None if it has a problem, which is added to `result.problems`."""
    try:
        normal = _record(result.changes, rules, text)
    except AnadilError as error:
        result.problems.append(Problem(where, str(error)))
        return None
    digit = next((c for c in normal if c.isdecimal()), None) if rules.language_rules.digits == "spell" else None
    if digit is not None:
        problem = f"a number that no rule spells in {normal!r}{rules.why_digits(digit)}"
    elif not normal:
        problem = f"nothing is left of the text {text!r}" if text.strip() else "empty text"
    else:
        return normal
    result.problems.append(Problem(where, problem))
    return None


def _refuse(result: Normalized, skip_bad: bool) -> None:
    if result.problems and not skip_bad:
        raise AnadilError(summarize(result.problems, "texts", result.total, _NEXT))
