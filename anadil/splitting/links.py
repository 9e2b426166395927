"""Links between utterances: the same speaker or the same sentence. Linked utterances belong to one split."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anadil.manifest import Utterance
from anadil.text.rules import TextRules, TextSettings, text_rules

SPEAKER, TEXT = "speaker", "text"
BOTH = frozenset({SPEAKER, TEXT})

Ids = np.ndarray  # int64 (utterances,)


@dataclass(frozen=True)
class Links:
    """Speaker and sentence of each utterance, as ids; each id has a name that is the same in every corpus and order."""

    speaker: Ids
    sentence: Ids
    speaker_names: Sequence[str]
    sentence_names: Sequence[str]
    n_unnamed: int = 0  # utterances without a speaker: the recording takes its place
    n_wordless: int = 0  # utterances without a letter or digit: each is a sentence of its own
    n_repeated: int = 0  # utterances with the file, offset and channel of an earlier one

    def take(self, chosen: np.ndarray) -> Links:
        """The links of the chosen utterances; the ids stay the same."""
        return replace(self, speaker=self.speaker[chosen], sentence=self.sentence[chosen])


def find_links(utterances: Sequence[Utterance], language: str | None = None) -> Links:
    """Find the speaker and the sentence of each utterance.

    Without a speaker, the recording (the audio file) takes its place: its segments stay together, and with the speakers
    that other segments of it name. A segment that is listed twice counts as one clip, whatever its texts are. `language`
    overrides that of the utterances; it decides how texts are lower-cased.
    """
    paths = absolute_paths(utterances)
    named = [speaker_name(one) for one in utterances]
    keys = _SentenceKeys(language)
    texts = [keys.key(one) for one in utterances]
    nameless = (path for name, text, path in zip(named, texts, paths, strict=True) if not (name and text))
    short_names = _short_names(set(nameless))
    speakers, speaker = _number(
        f"speaker {name}" if name else f"\0{path}" for name, path in zip(named, paths, strict=True)
    )
    sentences, sentence = _number(
        f"sentence {text}" if text else f"clip {short_names[path]} {one.offset}{_side(one)}\0{path}"
        for one, text, path in zip(utterances, texts, paths, strict=True)
    )
    speakers = [f"recording {short_names[name[1:]]}" if name[0] == "\0" else name for name in speakers]
    sentences = [name.partition("\0")[0] if name.startswith("clip ") else name for name in sentences]
    clips = _number(f"{path}\0{one.offset}\0{one.channel}" for one, path in zip(utterances, paths, strict=True))[1]
    recordings = _unnamed_recordings(paths, named)
    speaker, speakers = _merge(speaker, speakers, [*_pairs(speaker, clips), *_pairs(speaker, recordings)])
    sentence, sentences = _merge(sentence, sentences, _pairs(sentence, clips))
    n_repeated = len(clips) - len(np.unique(clips))
    return Links(speaker, sentence, speakers, sentences, named.count(""), texts.count(""), n_repeated)


def groups(links: Links, disjoint: Iterable[str]) -> Ids:
    """Group of each utterance, 0 to n - 1: connected components over speakers, sentences or both."""
    disjoint = set(disjoint)
    if disjoint == {SPEAKER, TEXT}:
        return connected(links.speaker, links.sentence)
    key = links.speaker if SPEAKER in disjoint else links.sentence
    return np.unique(key, return_inverse=True)[1]


def connected(a: Ids, b: Ids) -> Ids:
    """Connected component of each edge (a, b) of a bipartite graph, 0 to n - 1; union-find, near linear time."""
    a_nodes, a_ids = np.unique(a, return_inverse=True)
    b_nodes, b_ids = np.unique(b, return_inverse=True)
    edges = np.unique(a_ids.astype(np.int64) * len(b_nodes) + b_ids)
    parent = list(range(len(a_nodes) + len(b_nodes)))
    for x, y in zip((edges // len(b_nodes)).tolist(), (edges % len(b_nodes) + len(a_nodes)).tolist(), strict=True):
        _join(parent, x, y)
    roots = np.array([_root(parent, node) for node in range(len(a_nodes))], dtype=np.int64)
    return np.unique(roots[a_ids], return_inverse=True)[1]


def positions(links: Links, group: Ids, disjoint: Iterable[str], salt: str) -> np.ndarray:
    """float64 (groups,) in [0, 1): a position drawn from the speakers of a group (from sentences, if only they link).

    Each speaker has a rank and a position, drawn independently; the position of the group is that of its lowest rank (the
    lowest position would favour large groups). So a group keeps its position when it gains utterances, and mostly when it
    gains speakers. The draws are BLAKE2 of names: the same on every machine and for any order of the lines.
    """
    names, key = (links.speaker_names, links.speaker) if SPEAKER in disjoint else (links.sentence_names, links.sentence)
    used, inverse = np.unique(key, return_inverse=True)
    drawn = np.array([draw(salt, names[i]) for i in used.tolist()]).reshape(-1, 2)
    rank, position = drawn[inverse, 0], drawn[inverse, 1]
    lowest = np.ones(int(group.max(initial=-1)) + 1)
    np.minimum.at(lowest, group, rank)
    first = rank == lowest[group]
    of_group = np.zeros(len(lowest))
    of_group[group[first]] = position[first]
    return of_group


def draw(salt: str, name: str) -> tuple[float, float]:
    """A rank and a position in [0, 1), which depend on nothing but these two strings."""
    digest = hashlib.blake2b(f"{salt}\0{name}".encode(), digest_size=16).digest()
    rank, position = (int.from_bytes(half, "big") >> 11 for half in (digest[:8], digest[8:]))
    return rank / 2**53, position / 2**53


class _SentenceKeys:
    """Texts in the form in which they are compared: NFC, lower case, without punctuation, spaces and control characters.

    Marks stay, as tones and vowel signs distinguish words.
    """

    def __init__(self, language: str | None = None) -> None:
        self._language = language
        self._rules: dict[str, TextRules] = {}
        self._keys: dict[str, dict[str, str]] = {}
        self._table = _DeleteTable()

    def key(self, utterance: Utterance) -> str:
        """The key of an utterance's text; empty if nothing is left to compare."""
        language = self._language or utterance.language or "und"
        known = self._keys.setdefault(language, {})
        if utterance.text not in known:
            if language not in self._rules:
                self._rules[language] = text_rules(language, TextSettings(), ())
            known[utterance.text] = self._rules[language].normalize(utterance.text).translate(self._table)
        return known[utterance.text]


class _DeleteTable(dict[int, int | None]):
    """For str.translate: deletes punctuation, spaces, control characters and spacing accents (a backtick as apostrophe)."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category[0] in "PZC" or category == "Sk" else code
        return self[code]


def speaker_name(utterance: Utterance) -> str:
    """The speaker in NFC, as file systems and editors differ in form; empty if there is none."""
    return unicodedata.normalize("NFC", (utterance.speaker or "").strip())


def absolute_paths(utterances: Sequence[Utterance]) -> list[str]:
    """Audio paths, absolute and normalised, with forward slashes."""
    folders: dict[str, str] = {}
    paths = []
    for one in utterances:
        folder, name = os.path.split(one.audio_filepath)
        if folder not in folders:
            folders[folder] = os.path.abspath(folder).replace(os.sep, "/").rstrip("/")
        paths.append(f"{folders[folder]}/{name}")
    return paths


def _side(utterance: Utterance) -> str:
    return "" if utterance.channel == "mix" else f" channel {utterance.channel}"


def _number(names: Iterable[str]) -> tuple[list[str], Ids]:
    """Names in order of first appearance, and each one's number."""
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return list(numbers), ids


def _short_names(paths: set[str]) -> dict[str, str]:
    """A name for each recording that stays when the corpus is moved: the file name, with two folders if it is not unique."""
    counts = Counter(path.rpartition("/")[2] for path in paths)
    return {path: "/".join(path.split("/")[-3 if counts[path.rpartition("/")[2]] > 1 else -1 :]) for path in paths}


def _unnamed_recordings(paths: Sequence[str], named: Sequence[str]) -> Ids:
    """The number of the recording where any segment of it has no speaker, a unique number elsewhere."""
    unnamed = {path for path, name in zip(paths, named, strict=True) if not name}
    recording = _number(paths)[1]
    shared = np.fromiter((path in unnamed for path in paths), dtype=bool, count=len(paths))
    return np.where(shared, recording, len(paths) + np.arange(len(paths)))


def _pairs(ids: Ids, same: Ids) -> list[tuple[int, int]]:
    """Pairs of different ids of utterances that have the same number in `same`."""
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    other = ids[first][inverse]
    differ = np.flatnonzero(other != ids)
    return list(zip(other[differ].tolist(), ids[differ].tolist(), strict=True))


def _merge(ids: Ids, names: list[str], pairs: Sequence[tuple[int, int]]) -> tuple[Ids, list[str]]:
    """Join the ids of each pair. The joined id gets the alphabetically first name, whatever the order of the lines."""
    if not pairs:
        return ids, names
    parent = list(range(len(names)))
    for x, y in pairs:
        _join(parent, x, y)
    roots = [_root(parent, node) for node in range(len(names))]
    merged = list(names)
    for root, name in zip(roots, names, strict=True):
        merged[root] = min(merged[root], name)
    return np.array(roots, dtype=np.int64)[ids], merged


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _join(parent: list[int], x: int, y: int) -> None:
    x, y = _root(parent, x), _root(parent, y)
    parent[max(x, y)] = min(x, y)
