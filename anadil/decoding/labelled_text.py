"""A text as a model's labels, word by word, for forced alignment: each word as written keeps its range of labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from anadil.decoding.transcript import BOUNDARY, joiner
from anadil.errors import AnadilError
from anadil.text.rules import TextRules, describe
from anadil.text.written import Written, joined_words, written_words

_MOST_WITHOUT_LABEL = 0.5
"""A text of which a larger share of the characters has no label is in another script or language."""


@dataclass(frozen=True)
class LabelledText:
    """The words of a text and their labels. Between two words there may be the label of the space."""

    words: tuple[Written, ...]
    labels: tuple[int, ...]
    firsts: np.ndarray  # int64 (words,): index of each word's first label
    ends: np.ndarray  # int64 (words,): index after its last one
    ignored: Counter[str]  # characters that have no label, and so are not aligned

    @property
    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the labels of the words before and after each gap end and start; there is one gap more than words."""
        return np.concatenate(([0], self.ends)), np.concatenate((self.firsts, [len(self.labels)]))


def labelled_text(rules: TextRules, text: str) -> LabelledText:
    """The labels of a text that is not normalised yet.

    Characters without a label are ignored, and counted; a word of which nothing is left is part of the one before it, or of
    the first one. Raises AnadilError if nothing is left of the text, or most of it has no label.
    """
    if not text.strip():
        raise AnadilError("empty text")
    words: list[Written] = []
    ids: list[list[int]] = []
    ignored: Counter[str] = Counter()
    unlabelled: list[Written] = []  # words that begin the text
    n_characters = 0
    for word in written_words(rules, text):
        n_characters += len(word.spoken)
        own = _encode(rules, word.spoken, ignored)
        if own:
            words.append(joined_words([*unlabelled, word], " "))
            ids.append(own)
            unlabelled = []
        elif words:
            words[-1] = joined_words([words[-1], word], " ")
        else:
            unlabelled.append(word)
    if not words and not ignored:
        raise AnadilError(f"empty text: the text rules leave nothing of {_short(text)}")
    if sum(ignored.values()) > _MOST_WITHOUT_LABEL * n_characters:
        listed = describe(character for character, _ in ignored.most_common(3))
        raise AnadilError(
            f"the model has no label for {sum(ignored.values()):,} of {n_characters:,} characters, such as {listed}: "
            "the text is in another script or language"
        )
    space = rules.labels.index(BOUNDARY) if BOUNDARY in rules.labels else None
    labels: list[int] = []
    firsts, ends = [], []
    for number, own in enumerate(ids):
        if number and space is not None:
            labels.append(space)
        firsts.append(len(labels))
        labels += own
        ends.append(len(labels))
    return LabelledText(tuple(words), tuple(labels), np.array(firsts), np.array(ends), ignored)


def cuts_words(rules: TextRules) -> bool:
    """Whether the labels tell where a word ends."""
    return bool(joiner(rules.labels))


def _encode(rules: TextRules, spoken: str, ignored: Counter[str]) -> list[int]:
    """The labels of a word, without the characters that have none; these are counted."""
    for _ in range(len(spoken) + 1):
        unknown = rules.unlabelled(spoken)
        if not unknown:
            return rules.encode(spoken) if spoken else []
        ignored.update(character for character in unknown if not character.isspace())
        spoken = "".join(character for character in spoken if character not in unknown).strip()
    return []


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
