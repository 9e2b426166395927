"""Many recordings at a time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil import audio
from anadil.data.pauses import Piece
from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.recognition import pipeline
from anadil.recognition.pipeline import _like_the_first, _Waiting, joined, recognize
from anadil.recognition.recognizer import Recognizer
from tests.support.loudness import FRAME, RATE, bursts, loud_is_a, loudness_recognizer


def spoken(n: int) -> np.ndarray:
    """As many words as `n`, a second each."""
    return bursts([i + 0.3 for i in range(n)], n + 0.3, floor=0.001)


def texts(recognizer: Recognizer, recordings: list[np.ndarray], batch_s: float = 30.0) -> dict[int, str]:
    readers = [lambda one=one: [one] for one in recordings]
    found = {}
    for index, outcome in recognize(recognizer, readers, [recognizer.decoder], batch_s):
        assert not isinstance(outcome, AnadilError)
        assert index not in found
        found[index] = outcome[0].text
    return found


@given(st.lists(st.integers(0, 6), max_size=12), st.sampled_from([1.0, 4.0, 30.0]))
def test_each_recording_gets_its_own_text(counts: list[int], batch_s: float) -> None:
    found = texts(loudness_recognizer(longest_s=2.5), [spoken(n) for n in counts], batch_s)
    assert found == {i: " ".join("a" * n) for i, n in enumerate(counts)}


def test_batches_are_of_like_length_and_no_larger_than_allowed() -> None:
    shapes: list[tuple[int, int]] = []

    def spy(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shapes.append((waveforms.size, int(counts.sum())))
        return loud_is_a(waveforms, counts)

    recordings = [spoken(1 + (7 * i) % 9) for i in range(60)]
    texts(replace(loudness_recognizer(), forward=spy), recordings, batch_s=20.0)
    assert max(size for size, _ in shapes) <= 20 * RATE
    assert len(shapes) < 30 and sum(used for _, used in shapes) / sum(size for size, _ in shapes) > 0.7


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200))
def test_the_oldest_piece_is_in_the_batch(lengths: list[int], batch: int) -> None:
    waiting = [_Waiting(i, 0, Piece(0, np.zeros(n, np.float32))) for i, n in enumerate(lengths)]
    chosen = _like_the_first(waiting, batch)
    assert waiting[0] in chosen and len({one.index for one in chosen}) == len(chosen)
    assert len(chosen) == 1 or max(len(one.piece.samples) for one in chosen) * len(chosen) <= batch


def test_reading_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_READERS", 3)
    n_read, most = 0, 0

    def reader() -> Iterator[np.ndarray]:
        nonlocal n_read
        n_read += 1
        yield spoken(4)

    recognizer = loudness_recognizer()
    for done, _ in enumerate(recognize(recognizer, [reader] * 100, [recognizer.decoder], 10.0)):
        most = max(most, n_read - done)
    assert n_read == 100 and most <= 3 * 10 / 4 + 3 * 2 + 10  # waiting, being read, and two batches


def test_a_recording_that_cannot_be_read_is_one_outcome() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield spoken(2)
        raise AnadilError("broken.wav: damaged")

    recognizer = loudness_recognizer()
    found = dict(recognize(recognizer, [lambda: [spoken(1)], broken, lambda: [spoken(3)]], [recognizer.decoder], 30.0))
    assert isinstance(found[1], AnadilError) and "broken.wav" in str(found[1])
    first, third = found[0], found[2]
    assert not isinstance(first, AnadilError) and not isinstance(third, AnadilError)
    assert (first[0].text, third[0].text) == ("a", "a a a")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), ValueError("a bug")])
def test_other_errors_are_raised_and_no_thread_stays(error: BaseException) -> None:
    def failing() -> list[np.ndarray]:
        raise error

    recognizer = loudness_recognizer()
    before = threading.active_count()
    with pytest.raises(type(error)):
        list(recognize(recognizer, [failing, *[lambda: [spoken(5)]] * 50], [recognizer.decoder], 5.0))
    assert threading.active_count() == before


def test_who_stops_listening_ends_the_threads() -> None:
    recognizer = loudness_recognizer()
    before = threading.active_count()
    results = recognize(recognizer, [lambda: [spoken(5)]] * 50, [recognizer.decoder], 5.0)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_of_the_network_is_that_of_the_recording() -> None:
    def forward(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise AnadilError("the graph is damaged")

    recognizer = replace(loudness_recognizer(), forward=forward)
    readers = [lambda: [spoken(1)], lambda: [spoken(2)]]
    found = dict(recognize(recognizer, readers, [recognizer.decoder], 30.0))
    assert [str(found[index]) for index in (0, 1)] == ["the graph is damaged"] * 2
    with pytest.raises(AnadilError, match="the graph is damaged"):
        recognizer.transcribe(spoken(1))


def test_files_of_the_recogniser(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    for n in (2, 1, 3):
        audio.write(folder / f"{n}.wav", spoken(n), RATE)
    files: list[tuple[str | Path, audio.Channel]] = [(folder / f"{n}.wav", "mix") for n in (2, 1, 3)]
    files.insert(1, (folder / "none.wav", "mix"))
    found = dict(loudness_recognizer().transcribe_files(files))
    error = found.pop(1)
    assert isinstance(error, AnadilError) and "none.wav" in str(error)
    assert {i: one.text for i, one in found.items() if isinstance(one, Transcript)} == {0: "a a", 2: "a", 3: "a a a"}


# --- pieces that overlap


def words(*times: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 1.0) for text, start, end in times]


def test_a_word_in_the_overlap_is_there_once() -> None:
    one = words(("a", 8.0, 8.4), ("b", 9.2, 9.5), ("c", 9.9, 10.3), ("d", 10.6, 10.8))
    other = words(("x", 9.0, 9.1), ("b", 9.22, 9.5), ("c", 9.88, 10.3), ("d", 10.5, 10.8), ("e", 11.2, 11.5))
    found = joined(one, other, 9.0, 11.0)
    assert [word.text for word in found] == ["a", "b", "c", "d", "e"]


def test_pieces_without_an_overlap_keep_all_words() -> None:
    one, other = words(("a", 1.0, 2.0)), words(("b", 1.9, 2.5))
    assert [word.text for word in joined(one, other, 2.0, 2.0)] == ["a", "b"]


@given(st.floats(-0.06, 0.06), st.floats(0.25, 0.6), st.floats(8.5, 10.5))
def test_times_may_differ_by_frames(shift: float, step: float, start: float) -> None:
    spoken_s = [start + i * step for i in range(-20, 20)]
    every = words(*((str(i), time, time + step / 3) for i, time in enumerate(spoken_s)))
    one = [word for word in every if word.end <= 11.0]
    other = [replace(word, start=word.start + shift, end=word.end + shift) for word in every if word.start >= 9.1]
    assert [word.text for word in joined(one, other, 9.0, 11.0)] == [word.text for word in every]


def test_speech_that_never_pauses_is_whole() -> None:
    """A loud hum under words of 0.2 s, as in music: the network still hears each word once."""
    starts = [0.5 * i + 0.15 for i in range(120)]
    samples = bursts(starts, 60.5, floor=0.0)
    time = np.arange(len(samples)) / RATE
    samples = np.where(samples > 0, 0.15, 0.09 * np.sin(2 * np.pi * 100 * time)).astype(np.float32)
    recognizer = loudness_recognizer(longest_s=4.0)
    heard: list[int] = []

    def spy(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heard.extend(counts.tolist())
        return loud_is_a(waveforms, counts)

    transcript = replace(recognizer, forward=spy).transcribe(samples)
    assert [word.start for word in transcript.words] == pytest.approx(starts, abs=2 * FRAME / RATE)
    assert all(one.end <= other.start for one, other in itertools.pairwise(transcript.words))
    assert sum(heard) > len(samples) + 10 * RATE  # pieces overlap
