from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import elan, textgrid
from anadil.corpora.segments import Segment
from anadil.decoding.cues import LONGEST_CHARACTERS, LONGEST_S, PAUSE_S, cues, word_segments
from anadil.decoding.transcript import Transcript, Word


def transcript(*words: tuple[str, float, float], duration: float = 60.0) -> Transcript:
    spoken = tuple(Word(text, start, end, 1.0) for text, start, end in words)
    return Transcript(" ".join(word.text for word in spoken), spoken, duration)


def test_a_pause_parts_two_cues_and_a_shorter_one_does_not() -> None:
    spoken = transcript(("bir", 0.5, 1.0), ("iki", 1.0 + PAUSE_S - 0.01, 2.0), ("üç", 2.0 + PAUSE_S, 3.0))
    assert cues(spoken) == [Segment(0.5, 2.0, "bir iki"), Segment(2.7, 3.0, "üç")]


def test_a_long_phrase_is_cut_at_its_longest_gap() -> None:
    times = [(0.5 * i + (0.2 if i == 5 else 0.0), 0.5 * i + 0.4) for i in range(16)]
    spoken = transcript(*((f"word{i}", start, max(end, start + 0.1)) for i, (start, end) in enumerate(times)))
    first, second = cues(spoken)
    assert first.text.endswith("word4") and second.text.startswith("word5")


def test_words_that_touch_or_end_the_recording_stay_apart() -> None:
    spoken = transcript(("a", 0.9, 1.0), ("b", 0.95, 0.96), ("c", 1.0, 1.0), duration=1.0)
    assert word_segments(spoken) == [Segment(0.9, 0.998, "a"), Segment(0.998, 0.999, "b"), Segment(0.999, 1.0, "c")]


def test_nothing_said_is_no_cue() -> None:
    assert cues(transcript()) == []


@given(
    st.lists(
        st.tuples(st.text("abç", min_size=1, max_size=100), st.integers(0, 3000), st.integers(0, 900)), max_size=60
    ),
    st.integers(100, 20_000),
)
def test_no_word_is_lost_and_every_cue_can_be_read_and_written(spans: list[tuple[str, int, int]], length: int) -> None:
    times = list(itertools.accumulate(gap for _, gap, _ in spans))
    words = [
        (text, min(start, length) / 1000, min(start + n, length) / 1000)
        for (text, _, n), start in zip(spans, times, strict=True)
    ]
    spoken = transcript(*words, duration=length / 1000)
    found = cues(spoken)
    assert " ".join(one.text for one in found) == spoken.text
    for one in found:
        assert " " not in one.text or (len(one.text) <= LONGEST_CHARACTERS and one.end - one.start <= LONGEST_S)
    tiers = {"utterances": found, "words": word_segments(spoken)}
    assert [tier.segments for tier in textgrid._parse(textgrid.format_textgrid(tiers, spoken.duration), "x")] == [
        *tiers.values()
    ]
    assert elan.format_eaf(tiers, Path("x.wav"))


@pytest.mark.parametrize("n_words", [1, 2, 3, 200])
def test_words_without_gaps_are_cut_all_the_same(n_words: int) -> None:
    spoken = transcript(*((f"w{i:03d}", i * 0.25, i * 0.25 + 0.25) for i in range(n_words)))
    assert " ".join(one.text for one in cues(spoken)) == spoken.text
