from __future__ import annotations

import json
import math
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.decoding.ctc import Token, best_path, min_ctc_frames
from anadil.decoding.transcript import Transcript, Word, joiner, word_texts, words_from_tokens

LABELS = [" ", "a", "b", "sch"]
SPACE, A, B, SCH = range(4)
BLANK = 4


def log_probs_of(path: list[int], n_labels: int = 5, prob: float = 0.8) -> np.ndarray:
    """(frames, labels): the path's label has `prob` in each frame, the others share the rest."""
    probs: np.ndarray = np.full((len(path), n_labels), (1 - prob) / (n_labels - 1))
    probs[np.arange(len(path)), path] = prob
    log_probs: np.ndarray = np.log(probs)
    return log_probs


def token(label: int, start: int, end: int, confidence: float = 0.5) -> Token:
    return Token(label, start, end, confidence)


def test_repeats_collapse_and_blanks_drop() -> None:
    tokens = best_path(log_probs_of([BLANK, A, A, BLANK, A, B, B, B, BLANK]), BLANK)
    assert [(one.id, one.start, one.end) for one in tokens] == [(A, 1, 3), (A, 4, 5), (B, 5, 8)]


@pytest.mark.parametrize("blank", [0, 2, 4])
def test_blank_is_the_column_that_is_said(blank: int) -> None:
    assert [one.id for one in best_path(log_probs_of([0, 1, 2, 3, 4]), blank)] == [i for i in range(5) if i != blank]


def test_confidence_is_the_mean_probability_of_the_run() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    first, second = best_path(np.log(probs), blank=1)
    assert first.confidence == pytest.approx((0.9 + 0.6) / 2)
    assert second.confidence == pytest.approx(0.8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_gives_python_numbers(dtype: type) -> None:
    (one,) = best_path(log_probs_of([A, A]).astype(dtype), BLANK)
    assert (type(one.id), type(one.start), type(one.end), type(one.confidence)) == (int, int, int, float)
    assert one.confidence == pytest.approx(0.8, abs=1e-3)


def test_a_label_that_cannot_be_is_minus_infinity() -> None:
    log_probs = np.array([[0.0, -math.inf], [-math.inf, 0.0]])
    assert best_path(log_probs, blank=1) == [Token(0, 0, 1, 1.0)]


def test_nothing_gives_nothing() -> None:
    assert best_path(np.zeros((0, 5)), BLANK) == []
    assert best_path(log_probs_of([BLANK, BLANK]), BLANK) == []


def test_input_is_not_changed() -> None:
    log_probs = log_probs_of([A, BLANK, B])
    before = log_probs.copy()
    best_path(log_probs, BLANK)
    assert (log_probs == before).all()


@pytest.mark.parametrize("blank", [-1, 5])
def test_blank_outside_the_columns_is_refused(blank: int) -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        best_path(log_probs_of([A]), blank)


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 5\)"):
        best_path(log_probs_of([A, B])[None], BLANK)


def test_nan_is_refused_with_its_frame() -> None:
    log_probs = log_probs_of([A, B, A])
    log_probs[1, SPACE] = math.nan
    with pytest.raises(ValueError, match="frame 1"):
        best_path(log_probs, BLANK)


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(0, 4))
def test_collapse_is_groupby(path: list[int], blank: int) -> None:
    expected, start = [], 0
    for label, run in groupby(path):
        end = start + len(list(run))
        if label != blank:
            expected.append((label, start, end))
        start = end
    tokens = best_path(log_probs_of(path), blank)
    assert [(one.id, one.start, one.end) for one in tokens] == expected
    assert all(one.confidence == pytest.approx(0.8) for one in tokens)


def test_words_have_the_times_of_their_first_and_last_token() -> None:
    tokens = [token(A, 5, 6, 0.9), token(SCH, 8, 10, 0.6), token(SPACE, 12, 13, 0.1), token(B, 20, 21, 0.8)]
    first, second = words_from_tokens(tokens, LABELS, frame_s=0.02, offset_s=30.0)
    assert (first.text, second.text) == ("asch", "b")
    assert (first.start, first.end) == pytest.approx((30.0 + 5 * 0.02, 30.0 + 10 * 0.02))
    assert (second.start, second.end) == pytest.approx((30.0 + 20 * 0.02, 30.0 + 21 * 0.02))
    assert first.confidence == pytest.approx((0.9 + 0.6) / 2)  # the boundary's 0.1 is not in it
    assert second.confidence == pytest.approx(0.8)


def test_two_tokens_on_the_two_sides_of_a_pause_belong_to_two_words() -> None:
    tokens = [token(A, 5, 6, 0.9), token(SCH, 8, 10, 0.6), token(B, 60, 61, 0.8)]

    def words(*pauses: tuple[float, float]) -> list[str]:
        found = words_from_tokens(tokens, LABELS, frame_s=0.02, offset_s=30.0, pauses=pauses)
        return [word.text for word in found]

    assert words() == ["aschb"]
    assert words((30.3, 31.1)) == ["asch", "b"]
    assert words((30.1, 31.3)) == ["asch", "b"]  # the spikes may lie inside: its middle counts
    assert words((29.0, 30.0), (31.5, 32.5)) == ["aschb"]  # before and after all tokens


def test_words_of_a_script_without_spaces_are_joined_without_one() -> None:
    assert joiner(["a", " ", "b"]) == joiner(["a", " ken"]) == " "
    assert joiner(["ก", "ข"]) == ""


def test_spaces_at_the_ends_or_doubled_give_no_empty_words() -> None:
    path = [SPACE, BLANK, SPACE, A, SPACE, BLANK, SPACE, B, SPACE]
    words = words_from_tokens(best_path(log_probs_of(path), BLANK), LABELS, frame_s=0.02)
    assert [word.text for word in words] == ["a", "b"]


@pytest.mark.parametrize("tokens", [[], [token(SPACE, 0, 1)]])
def test_silence_has_no_words(tokens: list[Token]) -> None:
    assert words_from_tokens(tokens, LABELS, frame_s=0.02) == ()


@given(st.lists(st.integers(0, 3), max_size=30))
def test_words_are_the_split_of_the_spelled_text(path: list[int]) -> None:
    tokens = [token(label, 2 * i, 2 * i + 1) for i, label in enumerate(path)]
    words = words_from_tokens(tokens, LABELS, frame_s=0.02)
    assert [word.text for word in words] == "".join(LABELS[label] for label in path).split()
    assert all(word.start < word.end for word in words)


def test_transcript_rounds_only_for_json() -> None:
    word = Word("ana", 1 / 3, 2 / 3, 1 / 7)
    transcript = Transcript("ana", (word,), 10 / 3)
    assert json.loads(json.dumps(transcript.to_dict())) == {
        "text": "ana",
        "words": [{"text": "ana", "start": 0.333, "end": 0.667, "confidence": 0.1429}],
        "duration": 3.333,
        "language": None,
    }
    assert transcript.words[0].start == 1 / 3


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    kept = [label for i, label in enumerate(path) if i == 0 or label != path[i - 1]]
    return tuple(label for label in kept if label != 9)  # 9: the blank


@given(st.lists(st.integers(0, 1), min_size=1, max_size=4).map(tuple))
def test_fewest_ctc_frames_are_those_of_the_shortest_path(labels: tuple[int, ...]) -> None:
    paths: set[tuple[int, ...]] = {()}
    n_frames = 0
    while not any(collapse(path) == labels for path in paths):
        paths = {(*path, label) for path in paths for label in (0, 1, 9)}
        n_frames += 1
    assert min_ctc_frames(labels) == n_frames


@given(st.lists(st.integers(0, 5), max_size=12))
def test_the_texts_alone_are_those_of_the_words(ids: list[int]) -> None:
    labels = [*LABELS, " sch", "b c"]
    words = words_from_tokens([token(one, i, i + 1) for i, one in enumerate(ids)], labels, 0.02)
    assert word_texts(ids, labels) == [word.text for word in words]
