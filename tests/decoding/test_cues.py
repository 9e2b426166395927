from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.corpora import elan, textgrid
from anadil.corpora.segments import Segment
from anadil.corpora.subtitles import format_srt, format_vtt
from anadil.decoding.cues import (
    LINE_CHARACTERS,
    LONGEST_S,
    PAUSE_S,
    SHORTEST_S,
    cues,
    lines,
    subtitles,
    word_segments,
)
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
        assert " " not in one.text or one.end - one.start <= LONGEST_S
        assert " " not in one.text or max(map(len, lines(one.text))) <= LINE_CHARACTERS
    assert_readable(spoken, found)
    tiers = {"utterances": found, "words": word_segments(spoken)}
    assert [tier.segments for tier in textgrid._parse(textgrid.format_textgrid(tiers, spoken.duration), "x")] == [
        *tiers.values()
    ]
    assert elan.format_eaf(tiers, Path("x.wav"))


def assert_readable(spoken: Transcript, spoken_cues: list[Segment]) -> None:
    shown = subtitles(spoken)
    assert [" ".join(one.text.split("\n")) for one in shown] == [one.text for one in spoken_cues]
    for one, cue in zip(shown, spoken_cues, strict=True):
        assert one.text.count("\n") <= 1 and one.start <= cue.start and one.end >= cue.end
        assert one.start >= 0 and one.end <= max(spoken.duration, cue.end)
    for before, after in itertools.pairwise(shown):
        assert before.end <= after.start


def test_subtitles_are_shown_for_a_second_where_there_is_room() -> None:
    spoken = transcript(("a", 0.2, 0.3), ("b", 1.1, 1.2), ("c", 59.95, 60.0))
    a, b, c = subtitles(spoken)
    assert (a.start, a.end) == (0.1, 1.1)  # earlier, as the next one begins
    assert (b.start, b.end) == (1.1, 2.1) and (c.start, c.end) == (59.0, 60.0)
    assert all(round(one.end - one.start, 3) == SHORTEST_S for one in (a, b, c))


def test_a_cue_stays_until_it_can_be_read() -> None:
    text = "word " * 16
    spoken = transcript(*((word, 0.1 * i, 0.1 * i + 0.1) for i, word in enumerate(text.split())))
    (one,) = subtitles(spoken)
    assert one.end == pytest.approx(79 / 17, abs=0.01) and one.text.split("\n") == ["word " * 7 + "word"] * 2


def test_known_readers_read_the_lines() -> None:
    import webvtt

    words = [f"word{i}" for i in range(40)]
    shown = subtitles(transcript(*((word, 0.3 * i, 0.3 * i + 0.2) for i, word in enumerate(words)), duration=12.0))
    for captions in (
        webvtt.from_string(format_vtt(shown)).captions,
        webvtt.from_buffer(io.StringIO(format_srt(shown)), "srt").captions,
    ):
        assert " ".join(caption.text.replace("\n", " ") for caption in captions) == " ".join(words)
        assert [caption.text for caption in captions] == [one.text for one in shown]
        for caption in captions:
            assert len(caption.lines) <= 2 and max(map(len, caption.lines)) <= 42
            seconds = (caption.end_time.in_milliseconds() - caption.start_time.in_milliseconds()) / 1000
            assert 1 <= seconds <= 7


@pytest.mark.parametrize("n_words", [1, 2, 3, 200])
def test_words_without_gaps_are_cut_all_the_same(n_words: int) -> None:
    spoken = transcript(*((f"w{i:03d}", i * 0.25, i * 0.25 + 0.25) for i in range(n_words)))
    assert " ".join(one.text for one in cues(spoken)) == spoken.text
