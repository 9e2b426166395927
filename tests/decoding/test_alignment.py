from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from anadil.decoding import alignment
from anadil.decoding.alignment import Gaps, align_labels
from anadil.decoding.ctc import align

BLANK, SPACE = 4, 3


def drawn(n_frames: int, seed: int, n_labels: int = 5) -> np.ndarray:
    """(frames, labels + blank)"""
    scores = np.random.default_rng(seed).normal(0, 3, (n_frames, n_labels))
    log_probs: np.ndarray = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return log_probs


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four frames, so that a short text is aligned as an hour is."""
    monkeypatch.setattr(alignment, "LARGEST_TABLE", 0)
    monkeypatch.setattr(alignment, "_SHORTEST_BLOCK", 4)
    monkeypatch.setattr(alignment, "_CHUNK", 3)


def best_of_all_paths(log_probs: np.ndarray, labels: list[int]) -> float:
    """The score of the likeliest path, by trying all of them."""
    relative = log_probs - log_probs.max(axis=1, keepdims=True)
    best = -math.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [label for label, _ in itertools.groupby(path) if label != log_probs.shape[1] - 1]
        if collapsed == labels:
            best = max(best, float(relative[np.arange(len(path)), list(path)].sum()))
    return best


LABELS = [[], [0], [0, 1], [1, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_the_path_is_the_likeliest_of_all(labels: list[int]) -> None:
    for seed in range(4):
        log_probs = drawn(6, seed, n_labels=3)
        found = align_labels(log_probs, labels, 2)
        assert found.score == pytest.approx(best_of_all_paths(log_probs, labels))
        path = np.full(6, 2)
        for label, start, end in zip(labels, found.starts.tolist(), found.ends.tolist(), strict=True):
            assert start < end
            path[start:end] = label
        relative = log_probs - log_probs.max(axis=1, keepdims=True)
        assert relative[np.arange(6), path].sum() == pytest.approx(found.score)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_blocks_change_nothing(labels: list[int]) -> None:
    for seed in range(4):
        log_probs = drawn(17, seed, n_labels=3)
        in_blocks = align(log_probs, labels, 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(alignment, "LARGEST_TABLE", 1 << 24)
            assert align(log_probs, labels, 2) == in_blocks


def test_a_text_that_does_not_fit_has_no_path() -> None:
    for labels, n_frames in (([1, 1], 2), ([0, 1, 0], 2), ([0], 0)):
        with pytest.raises(ValueError, match=f"{len(labels)} labels have no path through {n_frames} frames"):
            align(drawn(n_frames, 0), labels, BLANK)
    assert align(drawn(0, 0), [], BLANK) == []
    with pytest.raises(ValueError, match="NaN"):
        align(np.full((3, 5), np.nan), [0], BLANK)
    with pytest.raises(ValueError, match="shape"):
        align(np.zeros(3), [0], BLANK)
    with pytest.raises(ValueError, match="no path"):
        align(np.where(np.arange(5) == 0, -np.inf, drawn(4, 0)), [0], BLANK)


# --- gaps


class Graph:
    """The same text as a graph that is written out: nodes, and the score of the best path, one arc at a time."""

    def __init__(self, words: list[list[int]], has_space: bool, costs: tuple[float, float, float, float]) -> None:
        self.words, self.costs = words, costs
        self.labels: list[int] = []
        self.ends, self.starts = [0], [0]
        for number, word in enumerate(words):
            self.labels += word
            self.ends.append(len(self.labels))
            if has_space and number < len(words) - 1:
                self.labels.append(SPACE)
            self.starts.append(len(self.labels))

    @property
    def gaps(self) -> Gaps:
        return Gaps(np.array(self.ends), np.array(self.starts), *self.costs)

    def skip(self, first: int, end: int) -> float:
        if first == end:
            return 0.0
        return self.costs[2] + self.costs[3] * sum(map(len, self.words[first:end]))

    def score(self, log_probs: np.ndarray) -> float:
        relative = log_probs - log_probs.max(axis=1, keepdims=True)
        scores = {("blank", start): -self.skip(0, gap) for gap, start in enumerate(self.starts)}
        for row in relative:
            scores = self.omitted(self.step(scores, row))
        n = len(self.labels)
        return max(scores.get(("blank", n), -math.inf), scores.get(("label", n - 1), -math.inf))

    def step(self, scores: dict[tuple[str, int], float], row: np.ndarray) -> dict[tuple[str, int], float]:
        found: dict[tuple[str, int], float] = {}

        def reach(node: tuple[str, int], score: float) -> None:
            found[node] = max(found.get(node, -math.inf), score)

        foreign = self.costs[1] if row.argmax() != BLANK else 0.0
        for (kind, i), score in scores.items():
            if kind == "foreign":
                reach((kind, i), score - foreign)
                continue
            if kind == "blank":
                reach((kind, i), score + row[BLANK])
                if i < len(self.labels):
                    reach(("label", i), score + row[self.labels[i]])
                for gap, start in enumerate(self.starts):
                    if start == i:
                        reach(("foreign", gap), score - self.costs[0] - foreign)
            else:
                reach((kind, i), score + row[self.labels[i]])
                reach(("blank", i + 1), score + row[BLANK])
                if i + 1 < len(self.labels) and self.labels[i + 1] != self.labels[i]:
                    reach(("label", i + 1), score + row[self.labels[i + 1]])
        return found

    def omitted(self, scores: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
        found = dict(scores)
        for first, end in enumerate(self.ends):
            here = max(scores.get(("blank", end), -math.inf), scores.get(("foreign", first), -math.inf))
            for after in range(first, len(self.starts)):
                node = ("blank", self.starts[after])
                found[node] = max(found.get(node, -math.inf), here - self.skip(first, after))
        return found


@pytest.mark.parametrize("has_space", [True, False], ids=["space", "no-space"])
@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "blocks"])
def test_words_are_omitted_and_speech_is_added_where_that_is_likeliest(
    request: pytest.FixtureRequest, has_space: bool, blocks: bool
) -> None:
    if blocks:
        request.getfixturevalue("in_blocks")
    rng = np.random.default_rng(has_space)
    n_omitted = n_foreign = 0
    for seed in range(60):
        words = [rng.integers(0, 3, rng.integers(1, 4)).tolist() for _ in range(rng.integers(1, 5))]
        graph = Graph(words, has_space, tuple(rng.uniform(0, (4, 3, 4, 2)).tolist()))
        log_probs = drawn(int(rng.integers(1, 25)), seed)
        found = align_labels(log_probs, graph.labels, BLANK, graph.gaps)
        assert found.score == pytest.approx(graph.score(log_probs), abs=1e-3)  # single precision in blocks
        spoken = found.starts >= 0
        assert (found.starts[spoken] < found.ends[spoken]).all() and (np.diff(found.starts[spoken]) > 0).all()
        for first, end in zip(graph.starts, graph.ends[1:], strict=False):
            assert len(set(spoken[first:end].tolist())) == 1  # a word is omitted as a whole
        n_omitted += int((~spoken).sum())
        n_foreign += len(found.foreign)
        frames = [frame for _, start, end in found.foreign for frame in range(start, end)]
        frames += [
            frame
            for start, end in zip(found.starts[spoken], found.ends[spoken], strict=True)
            for frame in range(start, end)
        ]
        assert len(frames) == len(set(frames))
    assert n_omitted > 20 and n_foreign > 20


def test_a_passage_that_is_not_spoken_and_one_that_is_not_in_the_text_are_found() -> None:
    spoken = [0, 1, BLANK, SPACE, 2, BLANK, 0, BLANK, SPACE, 1, 2, BLANK, SPACE, 0, 0, BLANK]  # ab ca bc a
    log_probs = np.log(np.full((len(spoken), 5), 0.005))
    log_probs[np.arange(len(spoken)), spoken] = math.log(0.98)
    graph = Graph([[0, 1], [1, 1, 1], [1, 2], [0]], True, (3.0, 1.0, 3.0, 1.0))  # ab bbb bc a
    found = align_labels(log_probs, graph.labels, BLANK, graph.gaps)
    words = [found.starts[first:end].tolist() for first, end in zip(graph.starts, graph.ends[1:], strict=False)]
    assert words == [[0, 1], [-1, -1, -1], [9, 10], [13]]
    assert [(start <= 4, end >= 7) for _, start, end in found.foreign] == [(True, True)]


def test_a_word_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="has no labels"):
        align_labels(drawn(3, 0), [0], BLANK, Gaps(np.array([0, 0, 1]), np.array([0, 0, 1]), 1, 1, 1, 1))


def test_memory_does_not_grow_with_frames_times_labels() -> None:
    import tracemalloc

    log_probs = drawn(6000, 0).astype(np.float32)
    labels = np.random.default_rng(0).integers(0, 3, 2500).tolist()
    tracemalloc.start()
    align_labels(log_probs, labels, BLANK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6000 * 5001 / 2  # a byte for each cell would be 30 MB
