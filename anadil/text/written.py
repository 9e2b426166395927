"""Which of a text's normalised words each written word became: "12" is spoken "on iki", and is given back as "12"."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz.distance import Levenshtein

from anadil.text.rules import TextRules

_LONG_LINE = 1000
"""Words after which a line is cut, where no digit is near: the memory of the edit distance grows with the square."""


_WITHOUT_SPACES = re.compile(r"(\s*)((?:[^\W_][\u0300-\u036f]?(?<=[\u0000-\u024f\u0300-\u036f])[-'’.,:/%]?)+|\S)")
"""White space and a piece of a text without spaces: a Latin word or a number with its marks, or one character."""


@dataclass(frozen=True, slots=True)
class Written:
    """A word as written, with its punctuation, and how it is spoken; several words if the rules join them ("5 km").

    In a language without spaces it is a character, a number or a Latin word.
    """

    text: str
    spoken: str  # normalised; empty only if the rules leave nothing of the whole text
    line: int  # of the text, from 1
    is_apart: bool = True  # whether white space precedes it


def written_words(rules: TextRules, text: str) -> list[Written]:
    """The words of a text as written, in order; their `spoken` joined is the normalised text, line by line.

    Each word is normalised alone. Where that differs from the same place of the whole line, the two are aligned by edit
    distance. A word of which nothing is left (a dash) is part of the word before it, or of the first one. Raises AnadilError
    for half a surrogate pair.
    """
    has_spaces = rules.language_rules.spaces != "none"
    found: list[Written] = []
    unspoken: list[Written] = []  # begin the text
    for number, line in enumerate(text.split("\n"), start=1):
        if has_spaces:
            words = [Written(token, "", number) for token in line.split()]
        else:
            words = [
                Written(token, "", number, bool(space) or match == 0)
                for match, (space, token) in enumerate(_WITHOUT_SPACES.findall(line))
            ]
        for part in _parts(words):
            for word in _matched(rules, part, " " if has_spaces else ""):
                if word.spoken:
                    found.append(joined_words([*unspoken, word]))
                    unspoken = []
                elif found:
                    found[-1] = joined_words([found[-1], word])
                else:
                    unspoken.append(word)
    return found or ([joined_words(unspoken)] if unspoken else [])


def as_written(words: Sequence[Written]) -> str:
    """The text of words that follow one another."""
    return "".join(" " * word.is_apart + word.text for word in words).strip()


def joined_words(words: Sequence[Written], joiner: str = "") -> Written:
    """Several words as one; `joiner` separates what is spoken."""
    return replace(words[0], text=as_written(words), spoken=joiner.join(word.spoken for word in words if word.spoken))


def _parts(words: list[Written]) -> Iterator[list[Written]]:
    """Cut a very long line between two words without digits, which no rule joins."""
    start = 0
    for i in range(1, len(words)):
        is_safe = not any(c.isdecimal() for c in words[i - 1].text + words[i].text)
        if i - start >= _LONG_LINE and is_safe:
            yield words[start:i]
            start = i
    if words:
        yield words[start:]


def _matched(rules: TextRules, words: list[Written], joiner: str) -> Iterator[Written]:
    """The words with what they are spoken as, in order; those that cannot be told apart are one."""
    line, expressions = as_written(words), list[str]()
    rules.normalizer(line, lambda written, spoken: expressions.append(written))
    whole = _units(rules.normalize(line), joiner)
    alone = [_units(rules.normalize(word.text), joiner) for word in words]
    owners = [i for i, units in enumerate(alone) for _ in units]
    first, last = _owners_in_whole([unit for units in alone for unit in units], owners, whole)
    is_joined = [False] * len(words)  # to the one before
    for low, high in [*_places_of(expressions, words), *zip(first, last, strict=True)]:
        is_joined[low + 1 : high + 1] = [True] * (high - low)
    spoken: list[list[str]] = [[] for _ in words]
    for unit, low in zip(whole, first, strict=True):
        spoken[low].append(unit)
    start = 0
    for i in range(1, len(words) + 1):
        if i == len(words) or not is_joined[i]:
            said = joiner.join(unit for units in spoken[start:i] for unit in units)
            yield replace(joined_words(words[start:i]), spoken=said)
            start = i


def _places_of(expressions: Sequence[str], words: Sequence[Written]) -> Iterator[tuple[int, int]]:
    """First and last word of each expression of several words that was spelled out as one."""
    start = 0
    for parts in (expression.split() for expression in expressions):
        n = len(parts)
        for i in range(start, len(words) - n + 1) if n > 1 else ():
            if " ".join(parts) in as_written(words[i : i + n]):
                yield i, i + n - 1
                start = i + n
                break


def _units(text: str, joiner: str) -> list[str]:
    return text.split() if joiner else list(text)


def _owners_in_whole(
    alone: Sequence[Hashable], owners: Sequence[int], whole: Sequence[Hashable]
) -> tuple[list[int], list[int]]:
    """For each unit of the whole line the first and the last token that it may come from."""
    if list(alone) == list(whole):
        return list(owners), list(owners)
    first: list[int] = []
    last: list[int] = []
    for step in Levenshtein.opcodes(alone, whole):
        n = step.dest_end - step.dest_start
        if step.tag == "equal":
            mine = owners[step.src_start : step.src_end]
            first += mine
            last += mine
        elif n:
            inside = owners[step.src_start : step.src_end]
            near = owners[step.src_start - 1] if step.src_start else owners[0] if owners else 0
            first += [inside[0] if inside else near] * n
            last += [inside[-1] if inside else near] * n
    return first, last
